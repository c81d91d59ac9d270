"""Covariances of many rows with a few points, compiled where the kernel allows it."""

import numpy as np

from .._arrays import compute_namespace
from .._kernels import kernels

_FEW = 4  # products at a time without a matrix of covariances


class CrossCovariance:
    """The covariances of rows with the points of a dictionary.

    Parameters
    ----------
    kernel : KernelFunction
    points : float64 array of shape (m, n_features)
    """

    def __init__(self, kernel, points):
        self.kernel, self.points = kernel, points
        self._terms = None
        if kernel.terms is not None:
            xp, terms = compute_namespace(points), kernel.terms
            inverse = xp.ascontiguousarray(xp.asarray(1.0 / terms.lengthscales))
            scaled = xp.ascontiguousarray((points[None] * inverse[:, None]).transpose(0, 2, 1))
            arrays = (xp.asarray(a) for a in (terms.kinds, terms.variances, terms.shapes))
            self._terms = (*arrays, inverse, scaled)

    def rows(self, X, out=None):
        """Return the covariances (n, m) of rows X (n, n_features), in `out` where compiled."""
        if self._terms is None:
            return self.kernel(X, self.points)
        X = _in_double(X)
        if out is None:
            out = compute_namespace(X).empty((len(X), len(self.points)))
        kernels("candidates", X).covariance_rows(X, *self._terms, out)
        return out

    def times(self, X, V):
        """Return the products (n, k) of the covariances with V (m, k)."""
        if self._terms is None or V.shape[1] > _FEW:
            return self.rows(X) @ V
        X, xp = _in_double(X), compute_namespace(X)
        out = xp.empty((len(X), V.shape[1]))
        kernels("candidates", X).covariance_times(X, *self._terms, xp.ascontiguousarray(V.T), out)
        return out


def _in_double(X):
    return compute_namespace(X).ascontiguousarray(X, dtype=np.float64)
