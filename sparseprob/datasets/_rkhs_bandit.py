"""A random function of unit norm in the space of a kernel, on random candidates."""

from numbers import Integral

import numpy as np
from sklearn.gaussian_process.kernels import RBF
from sklearn.utils import Bunch, check_random_state

_CHUNK = 2**21  # entries of a block of the kernel matrix


class KernelExpansion:
    """A weighted sum of squared exponentials, ``sum_j a_j exp(-|(x - c_j) / l|^2 / 2)``."""

    def __init__(self, centers, coefficients, length_scale):
        self.centers = centers
        self.coefficients = coefficients
        self.length_scale = length_scale

    def __call__(self, X):
        X = np.asarray(X, dtype=np.float64)
        points = np.atleast_2d(X)
        kernel, values = RBF(self.length_scale), np.empty(len(points))
        step = max(1, _CHUNK // len(self.centers))
        for start in range(0, len(points), step):
            part = np.s_[start : start + step]
            values[part] = kernel(points[part], self.centers) @ self.coefficients
        return values if X.ndim == 2 else values[0]


def make_rkhs_bandit(
    n_candidates=1000, n_features=2, length_scale=0.2, n_centers=30, *, random_state=None
):
    r"""Draw candidates in the unit cube and a function of unit norm on them.

    :math:`f(x) = \sum_j a_j k(x, c_j) / \sqrt{a^\top K a}` for the squared-exponential kernel
    :math:`k`, centers uniform in the cube and standard normal :math:`a`: a function with norm 1 in
    the space of the kernel, which is what the theory of Gaussian-process bandits assumes
    [Srinivas2010]_. Candidates, centers and coefficients are drawn in this order.

    Parameters
    ----------
    n_candidates : int, default=1000
        Number of candidates.
    n_features : int, default=2
        Dimension of the cube.
    length_scale : float or array-like of shape (n_features,), default=0.2
        Length-scale of the kernel.
    n_centers : int, default=30
        Number of centers.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    bunch : Bunch
        ``X`` (n_candidates, n_features), candidates; ``f`` (n_candidates,), values to be found,
        without noise; ``optimum_value``, the largest of them; ``function``, the function at any
        points; ``centers`` (n_centers, n_features) and ``coefficients`` (n_centers,), divided by
        the norm.

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    [Srinivas2010]_

    Examples
    --------
    >>> from sparseprob.datasets import make_rkhs_bandit
    >>> problem = make_rkhs_bandit(500, 2, random_state=0)
    >>> problem.X.shape, round(float(problem.optimum_value), 3)
    ((500, 2), 0.84)
    """
    sizes = (n_candidates, n_features, n_centers)
    for name, value in zip(("n_candidates", "n_features", "n_centers"), sizes, strict=True):
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}.")
    scales = np.atleast_1d(np.asarray(length_scale, dtype=np.float64))
    if not np.all(scales > 0):
        raise ValueError(f"length_scale must be positive, got {length_scale!r}.")
    if scales.size not in (1, n_features):
        raise ValueError(
            f"length_scale must be one number or n_features={n_features} numbers, "
            f"got {length_scale!r}."
        )
    rng = check_random_state(random_state)
    X = rng.uniform(size=(n_candidates, n_features))
    centers = rng.uniform(size=(n_centers, n_features))
    coefficients = rng.standard_normal(n_centers)
    coefficients /= np.sqrt(coefficients @ RBF(scales)(centers) @ coefficients)
    function = KernelExpansion(centers, coefficients, scales)
    values = function(X)
    return Bunch(
        X=X, f=values, optimum_value=float(values.max()), function=function, centers=centers,
        coefficients=coefficients,
    )  # fmt: skip
