"""Draws of Gaussian fields with known covariance, and observations of them."""

from numbers import Integral

import numpy as np
from scipy import fft
from scipy.linalg import cholesky
from scipy.special import expit
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, Product, RationalQuadratic
from sklearn.utils import Bunch, check_random_state

from .._threads import n_threads_allowed

_LIKELIHOODS = ("gaussian", "student_t", "bernoulli", "poisson")
_LAYOUTS = ("random", "grid")
_LARGEST_DENSE = 5000  # points of a field drawn through the Cholesky factor of its covariance
_NODES_PER_POINT = 4  # of the fine grid whose nodes are the locations of larger fields
_JITTER = 1e-10  # on the diagonal of a dense covariance, times the largest variance
_N_WAVES = 4096
_CHUNK = 2**21  # entries of a block of waves at points


def make_spatial_field(
    n_samples=1000,
    n_features=2,
    *,
    kernel=None,
    likelihood="gaussian",
    noise_variance=0.01,
    df=4.0,
    mean=0.0,
    layout="random",
    method="auto",
    random_state=None,
):
    r"""Draw a Gaussian field in the unit cube and observe it at some locations.

    Three methods draw the field :math:`f`:

    - ``"exact"``: locations uniform in the cube, the field through the Cholesky factor of its
      covariance matrix. Memory :math:`n^2`, so at most 5000 points.
    - ``"circulant"``: locations are nodes of a regular grid, all of them for ``layout="grid"``, or
      a random choice of a grid with about four times as many nodes. The covariance of the grid is
      embedded in a circulant one, which fast Fourier transforms diagonalize [Dietrich1997]_. Exact
      if that has no negative eigenvalue, as it is for lengthscales well below 1; negative ones are
      set to zero, and ``clipped`` is their share of the whole. Up to three features, and a million
      points in seconds.
    - ``"fourier"``: locations uniform, the field a sum of 4096 waves with random frequencies from
      the spectral density of the kernel [Rahimi2007]_. Its covariance is right on average over
      frequencies; that of one draw is off by about :math:`1 / \sqrt{4096}` of the variance, and
      :math:`f` has no finer detail than its fastest wave. For many points in many dimensions.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of locations; with ``layout="grid"`` a square, a cube, ... of an integer.
    n_features : int, default=2
        Dimension of the locations.
    kernel : kernel of scikit-learn, default=None
        Stationary covariance function. None is a Matern kernel with ``nu=1.5``, lengthscale 0.1 and
        variance 1. ``"fourier"`` takes ConstantKernel times Matern, RBF or RationalQuadratic.
    likelihood : {"gaussian", "student_t", "bernoulli", "poisson"}, default="gaussian"
        How the field is observed: with Gaussian or Student-t noise; as 0 or 1, where 1 has the
        probability :math:`1 / (1 + e^{-f})`; as counts with mean :math:`e^f`.
    noise_variance : float, default=0.01
        Variance of Gaussian noise, squared scale of Student-t noise.
    df : float, default=4.0
        Degrees of freedom of Student-t noise.
    mean : float, default=0.0
        Mean of the field.
    layout : {"random", "grid"}, default="random"
        Locations at random, or all nodes of a regular grid, the last feature running fastest.
    method : {"auto", "exact", "circulant", "fourier"}, default="auto"
        "auto" is "exact" up to 5000 points, beyond "circulant" for up to three features and
        "fourier" for more.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    bunch : Bunch
        ``data`` (n_samples, n_features), locations; ``target`` (n_samples,), observations;
        ``field`` (n_samples,), the field without noise; ``method``, the method that was used;
        ``clipped``, share of negative eigenvalues that were set to zero, 0 if exact.

    Raises
    ------
    ValueError
        If a name is unknown, a number out of range, or the method cannot draw so many points in so
        many dimensions.

    References
    ----------
    [Dietrich1997]_, [Rahimi2007]_

    Examples
    --------
    >>> from sparseprob.datasets import make_spatial_field
    >>> field = make_spatial_field(10_000, likelihood="poisson", random_state=0)
    >>> field.data.shape, field.target.dtype.kind, field.method
    ((10000, 2), 'i', 'circulant')
    """
    _check_names(likelihood=(likelihood, _LIKELIHOODS), layout=(layout, _LAYOUTS))
    _check_numbers(n_samples, n_features, noise_variance, df)
    method = _chosen_method(method, n_samples, n_features, layout)
    rng = check_random_state(random_state)
    if kernel is None:
        kernel = ConstantKernel(1.0) * Matern(0.1, nu=1.5)
    X, field, clipped = _METHODS[method](rng, kernel, n_samples, n_features, layout)
    field += mean
    target = _OBSERVE[likelihood](rng, field, noise_variance, df)
    return Bunch(data=X, target=target, field=field, method=method, clipped=clipped)


def _check_names(**names):
    for name, (value, allowed) in names.items():
        if value not in allowed:
            raise ValueError(f"{name} must be one of {allowed}, got {value!r}.")


def _check_numbers(n_samples, n_features, noise_variance, df):
    for name, value in (("n_samples", n_samples), ("n_features", n_features)):
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}.")
    if not noise_variance >= 0:
        raise ValueError(f"noise_variance must not be negative, got {noise_variance!r}.")
    if not df > 0:
        raise ValueError(f"df must be positive, got {df!r}.")


def _chosen_method(method, n, d, layout):
    _check_names(method=(method, ("auto", *_METHODS)))
    if layout == "grid" and round(n ** (1 / d)) ** d != n:
        raise ValueError(
            f"layout='grid' needs a power of {d} of an integer as n_samples, got {n}; "
            f"{round(n ** (1 / d)) ** d} is near."
        )
    if method == "auto":
        if n <= _LARGEST_DENSE:
            return "exact"
        return "circulant" if d <= 3 else "fourier"
    if method == "exact" and n > _LARGEST_DENSE:
        raise ValueError(
            f"method='exact' draws up to {_LARGEST_DENSE} points, got n_samples={n}; "
            "use 'circulant' or 'fourier'."
        )
    if method == "circulant" and d > 3:
        raise ValueError(
            f"method='circulant' is for up to 3 features, got n_features={d}; use 'fourier'."
        )
    return method


def _locations(rng, n, d, layout):
    if layout == "random":
        return rng.uniform(size=(n, d))
    return _nodes(np.arange(n), round(n ** (1 / d)), d)


def _nodes(numbers, side, d):
    """Centers of the cells with some numbers in a regular grid of the unit cube."""
    return (np.stack(np.unravel_index(numbers, (side,) * d), axis=1) + 0.5) / side


def _exact(rng, kernel, n, d, layout):
    X = _locations(rng, n, d, layout)
    K = kernel(X)
    K[np.diag_indices(n)] += _JITTER * K.diagonal().max()
    return X, cholesky(K, lower=True, overwrite_a=True) @ rng.normal(size=n), 0.0


def _circulant(rng, kernel, n, d, layout):
    """Draw on a periodic grid of at least twice the side, and cut the cube out."""
    density = 1 if layout == "grid" else _NODES_PER_POINT
    side = int(np.ceil((density * n) ** (1 / d) - 1e-9))
    period = fft.next_fast_len(2 * side, real=True)
    threads = n_threads_allowed()
    eigenvalues = fft.rfftn(_covariances(kernel, period, side, d), workers=threads).real
    clipped = float(np.maximum(-eigenvalues, 0).sum() / np.abs(eigenvalues).sum())
    noise = fft.rfftn(rng.normal(size=(period,) * d), workers=threads)
    noise *= np.sqrt(np.maximum(eigenvalues, 0))
    cube = fft.irfftn(noise, s=(period,) * d, workers=threads)[(slice(side),) * d].ravel()
    chosen = np.arange(n) if layout == "grid" else rng.permutation(side**d)[:n]
    return _nodes(chosen, side, d), cube[chosen], clipped


def _covariances(kernel, period, side, d):
    """Covariances of the origin with all nodes of the periodic grid, a chunk at a time."""
    lags = np.minimum(np.arange(period), period - np.arange(period)) / side
    found = np.empty(period**d)
    for start in range(0, found.size, _CHUNK):
        numbers = np.arange(start, min(start + _CHUNK, found.size))
        points = lags[np.stack(np.unravel_index(numbers, (period,) * d), axis=1)]
        found[numbers] = kernel(points, np.zeros((1, d)))[:, 0]
    return found.reshape((period,) * d)


def _fourier(rng, kernel, n, d, layout):
    X = _locations(rng, n, d, layout)
    waves = _frequencies(rng, kernel, d)
    phases = rng.uniform(0, 2 * np.pi, size=_N_WAVES)
    weights = rng.normal(size=_N_WAVES) * np.sqrt(2 * float(kernel.diag(X[:1])[0]) / _N_WAVES)
    field, step = np.empty(n), max(1, _CHUNK // _N_WAVES)
    for start in range(0, n, step):
        part = np.s_[start : start + step]
        field[part] = np.cos(X[part] @ waves.T + phases) @ weights
    return X, field, 0.0


def _frequencies(rng, kernel, d):
    """Draw frequencies (n_waves, d) from the spectral density of a kernel.

    That of a Matern kernel is a Student-t density with 2 nu degrees of freedom; a rational
    quadratic is a mixture of squared exponentials, their inverse squared lengthscales gamma
    distributed.
    """
    while isinstance(kernel, Product):
        pair = kernel.k1, kernel.k2
        constant = [isinstance(k, ConstantKernel) for k in pair]
        if not any(constant):
            break
        kernel = pair[constant.index(True) - 1]
    waves = rng.normal(size=(_N_WAVES, d))
    if isinstance(kernel, Matern) and np.isfinite(kernel.nu):
        waves /= np.sqrt(rng.chisquare(2 * kernel.nu, size=(_N_WAVES, 1)) / (2 * kernel.nu))
    elif isinstance(kernel, RationalQuadratic):
        waves *= np.sqrt(rng.gamma(kernel.alpha, 1 / kernel.alpha, size=(_N_WAVES, 1)))
    elif not isinstance(kernel, RBF):  # of which Matern is a kind
        raise ValueError(
            "method='fourier' needs ConstantKernel times Matern, RBF or RationalQuadratic, "
            f"got {kernel}."
        )
    return waves / kernel.length_scale


def _gaussian(rng, field, noise_variance, df):
    return field + np.sqrt(noise_variance) * rng.normal(size=field.shape)


def _student_t(rng, field, noise_variance, df):
    return field + np.sqrt(noise_variance) * rng.standard_t(df, size=field.shape)


def _bernoulli(rng, field, noise_variance, df):
    return (rng.uniform(size=field.shape) < expit(field)).astype(np.int64)


def _poisson(rng, field, noise_variance, df):
    return rng.poisson(np.exp(field)).astype(np.int64)


_METHODS = {"exact": _exact, "circulant": _circulant, "fourier": _fourier}
_OBSERVE = {
    "gaussian": _gaussian, "student_t": _student_t, "bernoulli": _bernoulli, "poisson": _poisson,
}  # fmt: skip
