"""Oracles of the thresholding methods: one right-hand side, loops, dense least squares."""

import numpy as np


def keep_largest(v, s):
    """H_s(v) of a vector: the s largest moduli, ties to the lowest index."""
    order = sorted(range(len(v)), key=lambda j: (-abs(v[j]), j))
    result = np.zeros_like(v)
    result[order[:s]] = v[order[:s]]
    return result


def largest(v, s):
    """The places of the s largest moduli, in order of size; ties to the lowest index."""
    return sorted(range(len(v)), key=lambda j: (-abs(v[j]), j))[:s]


def fit_on(A, y, support):
    """Least squares of minimum norm with the columns of the support."""
    x = np.zeros(A.shape[1], dtype=np.result_type(A, y))
    x[support] = np.linalg.lstsq(A[:, support], y, rcond=None)[0]
    return x


def iht(A, y, s, n_iter, mu=None):
    """Iterative hard thresholding with a constant step."""
    mu = 0.99 / np.linalg.norm(A, 2) ** 2 if mu is None else mu
    x = np.zeros(A.shape[1], dtype=np.result_type(A, y))
    for _ in range(n_iter):
        x = keep_largest(x + mu * A.conj().T @ (y - A @ x), s)
    return x


def normalized_iht(A, y, s, n_iter, c=0.01, shrink=1.1):
    """Normalized iterative hard thresholding; shrink is kappa (1 - c)."""
    x = np.zeros(A.shape[1], dtype=np.result_type(A, y))
    S = largest(A.conj().T @ y, s)
    for _ in range(n_iter):
        g = A.conj().T @ (y - A @ x)
        mu = np.linalg.norm(g[S]) ** 2 / np.linalg.norm(A[:, S] @ g[S]) ** 2
        while True:
            new = keep_largest(x + mu * g, s)
            T = largest(new, s)
            d = new - x
            if set(T) == set(S):
                break
            if mu <= (1 - c) * np.linalg.norm(d) ** 2 / np.linalg.norm(A @ d) ** 2:
                break
            mu /= shrink
        x, S = new, T
        if np.linalg.norm(y - A @ x) < 1e-13 * np.linalg.norm(y):
            break
    return x


def htp(A, y, s, n_iter, mu=None):
    """Hard thresholding pursuit; without mu, the best step on supp H_s(x + g), if that is new."""
    x, S = np.zeros(A.shape[1], dtype=np.result_type(A, y)), None
    best, best_norm, seen = x, np.linalg.norm(y), []
    for _ in range(n_iter):
        g = A.conj().T @ (y - A @ x)
        step = mu
        if mu is None:
            U = sorted(largest(x + g, s))
            step = np.linalg.norm(g[U]) ** 2 / np.linalg.norm(A[:, U] @ g[U]) ** 2
            step = 1.0 if U == S else step
        S = sorted(largest(x + step * g, s))
        x = fit_on(A, y, S)
        norm = np.linalg.norm(y - A @ x)
        if norm < best_norm:
            best, best_norm = x, norm
        if S in seen:
            break
        seen.append(S)
    return best


def cosamp(A, y, s, n_iter):
    """CoSaMP, until the residual no longer decreases."""
    x, r = np.zeros(A.shape[1], dtype=np.result_type(A, y)), y
    for _ in range(n_iter):
        T = sorted(set(largest(A.conj().T @ r, 2 * s)) | set(np.flatnonzero(x)))
        new = keep_largest(fit_on(A, y, T), s)
        residual = y - A @ new
        if np.linalg.norm(residual) >= np.linalg.norm(r):
            break
        x, r = new, residual
    return x


def subspace_pursuit(A, y, s, n_iter):
    """Subspace pursuit, until the residual no longer decreases."""
    S = sorted(largest(A.conj().T @ y, s))
    x = fit_on(A, y, S)
    for _ in range(n_iter):
        r = y - A @ x
        T = sorted(set(S) | set(largest(A.conj().T @ r, s)))
        new_S = sorted(largest(fit_on(A, y, T), s))
        new = fit_on(A, y, new_S)
        if np.linalg.norm(y - A @ new) >= np.linalg.norm(r):
            break
        x, S = new, new_S
    return x


def omp(A, y, s):
    """Orthogonal matching pursuit of s steps."""
    S, x = [], np.zeros(A.shape[1], dtype=np.result_type(A, y))
    for _ in range(s):
        S.append(int(np.argmax(np.abs(A.conj().T @ (y - A @ x)))))
        x = fit_on(A, y, S)
    return x
