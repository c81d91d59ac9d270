"""Oracles of sparse Bayesian learning: dense inverses, evidence of stacked real vectors."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import multivariate_normal


def covariance(A, gamma, noise_var):
    """C = noise_var I + A diag(gamma) A^H."""
    return noise_var * np.eye(len(A)) + (A * gamma) @ A.conj().T


def sbl_posterior(A, Y, gamma, noise_var):
    """Posterior mean (N, T) and covariance (N, N) by the inverse of the precision."""
    cov = np.linalg.inv(np.diag(1 / gamma) + A.conj().T @ A / noise_var)
    return cov @ A.conj().T @ Y / noise_var, cov


def sbl_evidence(A, Y, gamma, noise_var):
    """log p(Y); a complex vector as the real vector of its parts."""
    C = covariance(A, gamma, noise_var)
    if np.iscomplexobj(Y) or np.iscomplexobj(A):
        C = 0.5 * np.block([[C.real, -C.imag], [C.imag, C.real]])
        Y = np.vstack([Y.real, Y.imag])
    return sum(multivariate_normal(np.zeros(len(C)), C).logpdf(y) for y in Y.T)


def em_step(A, Y, gamma, noise_var):
    """New variances and noise: expected squares under the posterior."""
    mean, cov = sbl_posterior(A, Y, gamma, noise_var)
    new = (np.abs(mean) ** 2).mean(axis=1) + np.diag(cov).real
    residual = (np.abs(Y - A @ mean) ** 2).sum() / Y.shape[1]
    return new, (residual + np.trace(A @ cov @ A.conj().T).real) / len(A)


def pattern_step(A, Y, gamma, noise_var, coupling, *, power, prune):
    """Variances of pattern-coupled learning for real data, one snapshot."""
    mean, cov = sbl_posterior(A, Y, gamma, noise_var)
    moments = mean[:, 0] ** 2 + np.diag(cov)
    N = len(gamma)

    def coupled(values, j):
        beside = [values[i] for i in (j - 1, j + 1) if 0 <= i < N]
        return values[j] + coupling * sum(beside)

    a, b = 0.5, 1e-4 * power
    precision = np.array([(a + 0.5) / (0.5 * coupled(moments, j) + b) for j in range(N)])
    precision[precision > precision.min() / prune] = np.inf
    return np.array([1 / coupled(precision, j) for j in range(N)])


def best_gain(A, Y, gamma, noise_var, column):
    """Largest rise of the evidence by the variance of one column, and that variance."""
    now = sbl_evidence(A, Y, gamma, noise_var)

    def fall(log_variance):
        changed = gamma.copy()
        changed[column] = np.exp(log_variance)
        return now - sbl_evidence(A, Y, changed, noise_var)

    found = minimize_scalar(fall, bounds=(-20, 10), method="bounded", options={"xatol": 1e-9})
    gone = gamma.copy()
    gone[column] = 0
    without = sbl_evidence(A, Y, gone, noise_var) - now
    return (without, 0.0) if without >= -found.fun else (-found.fun, np.exp(found.x))


# ---------------------------------------------------------------- problems to solve
def normal(rng, shape, dtype=np.float64):
    """Standard normal entries, circular ones if complex."""
    values = rng.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        values = (values + 1j * rng.normal(size=shape)) / np.sqrt(2)
    return values.astype(dtype)


def problem(M=40, N=100, n_active=5, noise=0.05, T=None, dtype=np.float64, seed=0):
    """A, y, x and the variance of the noise: amplitudes of at least one."""
    rng = np.random.default_rng(seed)
    A, x = normal(rng, (M, N), dtype), np.zeros((N, 1 if T is None else T), dtype)
    rows = rng.choice(N, n_active, replace=False)
    values = normal(rng, (n_active, x.shape[1]), dtype)
    x[rows] = values + values / np.abs(values)
    Y = A @ x + noise * normal(rng, (M, x.shape[1]), dtype)
    return (A, Y, x, noise**2) if T else (A, Y[:, 0], x[:, 0], noise**2)


def unit(A):
    return A / np.linalg.norm(A, axis=0)
