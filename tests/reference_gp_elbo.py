"""The evidence lower bound of Gaussian posteriors by dense matrices, and quadrature."""

import numpy as np
from scipy.special import gammaln


def dense(indptr, indices, data):
    """The matrix of a factor stored by columns."""
    n = len(indptr) - 1
    M = np.zeros((n, n))
    for j in range(n):
        for e in range(indptr[j], indptr[j + 1]):
            M[indices[e], j] = data[e]
    return M


def divergence(mean, S, prior_mean, K):
    """KL( N(mean, S) || N(prior_mean, K) )."""
    d = mean - prior_mean
    trace = np.trace(np.linalg.solve(K, S)) + d @ np.linalg.solve(K, d)
    return 0.5 * (trace - len(d) + np.linalg.slogdet(K)[1] - np.linalg.slogdet(S)[1])


def bound(U, V, nu, expected):
    """E_q log p(y | f) - KL(q || prior), for q = N(nu, (V V^T)^-1), prior = N(0, (U U^T)^-1).

    expected(mean, variance) is the sum of the expected log likelihoods.
    """
    S = np.linalg.inv(V @ V.T)
    return expected(nu, np.diag(S)) - divergence(nu, S, np.zeros_like(nu), np.linalg.inv(U @ U.T))


def gaussian_expected(y, noise_variance):
    """Expected log density of y under Gaussian noise, as a function of mean and variance."""

    def expected(mean, variance):
        residual = ((y - mean) ** 2 + variance) / noise_variance
        return float(-0.5 * np.sum(np.log(2 * np.pi * noise_variance) + residual))

    return expected


def poisson_expected(y, exposure=1.0):
    """Expected log density of counts with the rate exposure * exp(f)."""

    def expected(mean, variance):
        rate = exposure * np.exp(mean + variance / 2)
        return float(np.sum(y * (mean + np.log(exposure)) - rate - gammaln(y + 1)))

    return expected


def log_evidence(y, C):
    """Log density of y under N(0, C)."""
    value = y @ np.linalg.solve(C, y) + np.linalg.slogdet(C)[1] + len(y) * np.log(2 * np.pi)
    return float(-0.5 * value)
