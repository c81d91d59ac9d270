"""The exact posterior at any points from counts and sums of feedback, for small problems."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from .._arrays import compute_namespace

_CHUNK = 8192  # points predicted at a time


def posterior_from_counts(kernel, lam, ledger, X):
    """Return mean and leverage (n,) at points X (n, d), given all feedback of a ledger.

    Evaluating a candidate n times is evaluating it once with noise lam / n, so the matrices are of
    the distinct candidates.
    """
    xp, points, counts = compute_namespace(X), ledger.points, ledger.counts
    K = kernel(points, points)
    K[np.diag_indices(len(points))] += lam / counts
    factor = cho_factor(K, lower=True)
    weights = xp.asarray(cho_solve(factor, ledger.sums / counts))
    root = xp.asarray(solve_triangular(factor[0], np.eye(len(points)), lower=True))
    mean, variance = xp.zeros(len(X)), kernel.diag(X)
    for start in range(0, len(X), _CHUNK):
        rows = slice(start, start + _CHUNK)
        cross = kernel(xp.asarray(points), X[rows])
        mean[rows] = weights @ cross
        variance[rows] -= ((root @ cross) ** 2).sum(axis=0)
    return mean, xp.maximum(variance, 0.0) / lam
