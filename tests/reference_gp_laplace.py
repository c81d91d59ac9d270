"""Slow and obvious: expectations by adaptive integration, modes by dense Newton steps."""

import numpy as np
from scipy import integrate, stats

LOG_DENSITIES = {
    "gaussian": lambda y, f, s2: stats.norm.logpdf(y, f, np.sqrt(s2)),
    "student_t": lambda y, f, df, scale: stats.t.logpdf(y, df, f, scale),
    "logit": lambda y, f: -np.logaddexp(0.0, -f if y else f),
    "probit": lambda y, f: stats.norm.logcdf(f if y else -f),
    "poisson": lambda y, f, exposure: stats.poisson.logpmf(y, exposure * np.exp(f)),
}


def integral(function, mean, variance, at=()):
    """E function(f) for f ~ N(mean, variance), by adaptive quadrature cut at some points."""
    sd = np.sqrt(variance)
    cuts = np.unique(np.clip([mean - 12 * sd, *at, mean, mean + 12 * sd], -700, 700))

    def weighted(f):
        return function(f) * stats.norm.pdf(f, mean, sd)

    parts = zip(cuts[:-1], cuts[1:], strict=True)
    return sum(
        integrate.quad(weighted, a, b, epsabs=0, epsrel=1e-10, limit=400)[0] for a, b in parts
    )


def upper_factor(P):
    """The upper triangular V with V V^T = P: Cholesky's factor of the reversed matrix."""
    return np.linalg.cholesky(P[::-1, ::-1])[::-1, ::-1]


def by_columns(V, mask=None):
    """Return indptr, indices and data of an upper triangular matrix, full if no mask is given."""
    mask = np.triu(np.ones(V.shape, dtype=bool)) if mask is None else mask
    indptr = np.append(0, np.cumsum(mask.sum(axis=0))).astype(np.int64)
    columns = [np.flatnonzero(column) for column in mask.T]
    indices = np.concatenate(columns).astype(np.int32)
    return indptr, indices, np.concatenate([V[c, j] for j, c in enumerate(columns)])


def dense(indptr, indices, data):
    n = len(indptr) - 1
    V = np.zeros((n, n))
    for j in range(n):
        V[indices[indptr[j] : indptr[j + 1]], j] = data[indptr[j] : indptr[j + 1]]
    return V


def newton_mode(K, mean, slope_and_curvature, f, n_steps=100):
    """Stationary point of log p(y | f) + log N(f | mean, K) next to f, by damped Newton steps."""
    P = np.linalg.inv(K)
    for _ in range(n_steps):
        g, W = slope_and_curvature(f)
        step = np.linalg.solve(P + np.diag(W), g - P @ (f - mean))
        f = f + step * min(1.0, 2.0 / np.abs(step).max())
        if np.abs(step).max() < 1e-10:
            break
    return f


def incomplete_factor(A):
    """IC(0) of a dense A from the last column to the first, entry by entry."""
    n = len(A)
    V = np.zeros((n, n))
    for j in range(n - 1, -1, -1):
        for i in range(j, -1, -1):
            if A[i, j] != 0:
                left = A[i, j] - V[i, j + 1 :] @ V[j, j + 1 :]
                V[i, j] = np.sqrt(left) if i == j else left / V[j, j]
    return V
