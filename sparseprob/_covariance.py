"""Covariance functions: sums of stationary terms, read from a kernel object and written back."""

from functools import partial
from typing import NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.gaussian_process.kernels import (
    RBF,
    ConstantKernel,
    Matern,
    Product,
    RationalQuadratic,
    Sum,
)

from ._arrays import compute_namespace, to_compute
from ._kernels import kernels

MATERN_12, MATERN_32, MATERN_52, SQUARED_EXPONENTIAL, RATIONAL_QUADRATIC = range(5)
_MATERN = {0.5: MATERN_12, 1.5: MATERN_32, 2.5: MATERN_52, np.inf: SQUARED_EXPONENTIAL}
_SUPPORTED = (
    "ConstantKernel times Matern (nu 0.5, 1.5, 2.5), RBF or RationalQuadratic, and sums of these"
)


class Terms(NamedTuple):
    """What kernels receive: for each of T terms its kind, variance, shape and scaled inputs."""

    kinds: np.ndarray  # (T,) int64
    variances: np.ndarray  # (T,)
    shapes: np.ndarray  # (T,) alpha of a rational quadratic
    scaled: np.ndarray  # (T, n, d) inputs over lengthscales

    def kernels(self, topic):
        """Return the module with the loops of a topic that takes these terms."""
        return kernels(topic, self.scaled)


class Covariance:
    """A sum of stationary terms whose log parameters are linear in the free ones, theta.

    For each term the internal parameters are log variance, log lengthscales (one, or one for each
    feature) and log shape: ``internal = base + jacobian @ theta``. So products of constants, shared
    lengthscales and fixed parameters need no cases.

    Parameters
    ----------
    kinds : ndarray of shape (T,)
    base : ndarray of shape (T * (n_lengthscales + 2),)
        Internal parameters at theta = 0.
    jacobian : ndarray of shape (T * (n_lengthscales + 2), P)
    theta : ndarray of shape (P,)
        Logarithms of the free parameters.
    bounds : ndarray of shape (P, 2)
        Logarithms of their bounds.
    names : list of str
    n_features : int
    writer : callable
        Makes the caller's kind of kernel from theta.
    """

    has_information = True  # columns give the Fisher information

    def __init__(self, kinds, base, jacobian, theta, bounds, names, n_features, writer):
        self.kinds, self._base, self.jacobian = kinds, base, jacobian
        self.theta, self.bounds, self.names = theta, bounds, names
        self.n_features, self._writer = n_features, writer
        internal = (base + jacobian @ theta).reshape(len(kinds), -1)
        self.n_lengthscales = internal.shape[1] - 2
        self.variances = np.exp(internal[:, 0])
        self.lengthscales = np.exp(
            np.broadcast_to(internal[:, 1:-1], (len(kinds), n_features))
            if self.n_lengthscales == 1
            else internal[:, 1:-1]
        )
        self.shapes = np.exp(internal[:, -1])

    @classmethod
    def from_kernel(cls, kernel, n_features):
        """Read a kernel object of scikit-learn that is a sum of stationary terms."""
        terms = _terms_of(kernel, n_features)
        ard = any(len(term.slots["lengthscale"]) > 1 for term in terms)
        width = (n_features if ard else 1) + 2
        base, rows = np.zeros((len(terms), width)), []
        for t, term in enumerate(terms):
            for entry in term.entries:
                place = _place(entry.what, width)
                if entry.fixed:
                    base[t, place] += np.log(entry.values)
                else:
                    rows.append((entry.positions, t, place))
        theta = np.asarray(kernel.theta, dtype=np.float64)
        jacobian = np.zeros((len(terms), width, len(theta)))
        for positions, t, place in rows:
            jacobian[t, place, positions] = 1.0
        names = [name for h in kernel.hyperparameters if not h.fixed for name in _elements(h)]
        return cls(
            np.array([term.kind for term in terms], dtype=np.int64),
            base.ravel(),
            jacobian.reshape(base.size, len(theta)),
            theta,
            np.asarray(kernel.bounds, dtype=np.float64).reshape(len(theta), 2),
            names,
            n_features,
            partial(_clone_with_theta, clone(kernel)),
        )

    def with_theta(self, theta):
        """Return the same sum of terms with other free parameters."""
        return type(self)(
            self.kinds,
            self._base,
            self.jacobian,
            np.array(theta, dtype=np.float64),
            self.bounds,
            self.names,
            self.n_features,
            self._writer,
        )

    def kernel(self):
        """Return a kernel object of the caller's kind with the parameters of now."""
        return self._writer(self.theta)

    @property
    def variance(self):
        """Prior variance of a value: the sum over the terms."""
        return float(self.variances.sum())

    def scale(self, X):
        """Inputs for neighbors, over the lengthscales of all terms as their variances weigh."""
        return X / compute_namespace(X).asarray(self.proportions(X))

    def proportions(self, X):
        """Return what `scale` divides by; neighborhoods change where its ratios do."""
        if len(self.kinds) == 1:
            return self.lengthscales[0]
        weights = self.variances / self.variances.sum()
        return (weights @ self.lengthscales**-2) ** -0.5

    def terms(self, X):
        """Return what kernels receive; X (n, d) is NumPy or CuPy in double precision."""
        xp = compute_namespace(X)
        scaled = xp.ascontiguousarray(X[None] / xp.asarray(self.lengthscales)[:, None])
        return Terms(
            xp.asarray(self.kinds), xp.asarray(self.variances), xp.asarray(self.shapes), scaled
        )

    def chain(self, gradient):
        """Gradient by theta from that by the internal parameters, kernels' order."""
        return self.jacobian.T @ gradient

    def __call__(self, X, Y=None):
        """Dense covariance matrix of rows, for small n and for tests."""
        X = to_compute(X)
        Y = X if Y is None else to_compute(Y)
        xp = compute_namespace(X)
        total = xp.zeros((X.shape[0], Y.shape[0]))
        for t, kind in enumerate(self.kinds):
            a, b = (Z / xp.asarray(self.lengthscales[t]) for Z in (X, Y))
            r2 = sum((a[:, k, None] - b[None, :, k]) ** 2 for k in range(a.shape[1]))
            total += self.variances[t] * _correlation(xp, kind, self.shapes[t], r2)
        return total


class _Entry(NamedTuple):
    """A hyper-parameter of a kernel: what it is, its values, and where in theta it stands."""

    what: str
    values: np.ndarray
    fixed: bool
    positions: np.ndarray


class _Term:
    """A term while a kernel is read: its kind and the entries that multiply up to it."""

    def __init__(self, kind, entries):
        self.kind, self.entries = kind, entries
        self.slots = {e.what: e.values for e in entries}


def _terms_of(kernel, n_features):
    """Read a tree of scikit-learn kernels into terms, in the order of its theta."""
    constants, terms, _ = _walk(kernel, n_features, 0)
    if constants or not terms:
        raise TypeError(f"The kernel {kernel} is a constant alone; supported are {_SUPPORTED}.")
    return terms


def _walk(kernel, n_features, start):
    """Return constants, terms and the next position in theta of a part of the tree."""
    if isinstance(kernel, Sum | Product):
        first, terms1, start = _walk(kernel.k1, n_features, start)
        second, terms2, start = _walk(kernel.k2, n_features, start)
        if isinstance(kernel, Sum):
            if first or second:
                raise TypeError(
                    f"The sum {kernel} has a constant term; supported are {_SUPPORTED}. A constant "
                    "mean is taken off by normalize_y=True."
                )
            return [], terms1 + terms2, start
        if terms1 and terms2:
            raise TypeError(
                f"The product {kernel} has two factors that vary; supported are {_SUPPORTED}, "
                "other kernels as gpytorch objects."
            )
        constants = first + second
        if not (terms1 or terms2):
            return constants, [], start
        return [], [_Term(t.kind, t.entries + constants) for t in terms1 or terms2], start
    kind = _kind(kernel)
    entries = []
    for h in kernel.hyperparameters:
        values = np.atleast_1d(np.asarray(getattr(kernel, h.name), dtype=np.float64))
        stop = start if h.fixed else start + len(values)
        positions = np.arange(start, start + len(values))
        entries.append(_Entry(_WHAT[h.name], values, h.fixed, positions))
        start = stop
    lengths = [len(e.values) for e in entries if e.what == "lengthscale"]
    if lengths and lengths[0] not in (1, n_features):
        raise ValueError(
            f"The kernel {kernel} has {lengths[0]} length-scales, but X has {n_features} features; "
            "give one for each feature, or a single one."
        )
    return (entries, [], start) if kind is None else ([], [_Term(kind, entries)], start)


_WHAT = {"constant_value": "variance", "length_scale": "lengthscale", "alpha": "shape"}


def _kind(kernel):
    """Number of the kind of a leaf of the tree; None for a constant."""
    if isinstance(kernel, ConstantKernel):
        return None
    if isinstance(kernel, Matern):
        if kernel.nu not in _MATERN:
            raise ValueError(
                f"Matern kernels are supported for nu = 0.5, 1.5, 2.5 and inf, got nu={kernel.nu}."
            )
        return _MATERN[kernel.nu]
    if isinstance(kernel, RBF):
        return SQUARED_EXPONENTIAL
    if isinstance(kernel, RationalQuadratic):
        return RATIONAL_QUADRATIC
    hint = " Noise is a parameter of its own, noise_variance." * ("White" in type(kernel).__name__)
    raise TypeError(
        f"The kernel {type(kernel).__name__} is not supported; supported are {_SUPPORTED}, and "
        f"gpytorch kernels.{hint}"
    )


def _place(what, width):
    """Where a parameter stands among the internal ones of its term."""
    return {"variance": [0], "shape": [width - 1], "lengthscale": np.arange(1, width - 1)}[what]


def _elements(hyperparameter):
    n = hyperparameter.n_elements
    return [hyperparameter.name] if n == 1 else [f"{hyperparameter.name}[{i}]" for i in range(n)]


def _clone_with_theta(kernel, theta):
    return kernel.clone_with_theta(np.asarray(theta))


def _correlation(xp, kind, shape, r2):
    """Correlation at squared scaled distances, over whole arrays."""
    if kind == SQUARED_EXPONENTIAL:
        return xp.exp(-0.5 * r2)
    if kind == RATIONAL_QUADRATIC:
        return (1 + 0.5 * r2 / shape) ** (-shape)
    r = xp.sqrt((2 * int(kind) + 1) * r2)
    polynomial = {MATERN_12: 1.0, MATERN_32: 1 + r, MATERN_52: 1 + r + r**2 / 3}[int(kind)]
    return polynomial * xp.exp(-r)
