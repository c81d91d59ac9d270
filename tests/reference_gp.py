"""Oracles of sparse Gaussian processes, from dense matrices; slow and obvious."""

import numpy as np


def random_pattern(n, largest, rng):
    """Columns that hold themselves and some random earlier points: indptr, indices."""
    columns = [
        np.append(np.sort(rng.choice(j, rng.integers(0, min(j, largest) + 1), replace=False)), j)
        for j in range(n)
    ]
    return pattern_of(columns)


def nearest_pattern(X, m):
    """Every point and its m nearest earlier ones."""
    columns = []
    for j in range(len(X)):
        distances = ((X[:j] - X[j]) ** 2).sum(axis=1)
        columns.append(np.append(np.sort(np.argsort(distances, kind="stable")[:m]), j))
    return pattern_of(columns)


def pattern_of(columns):
    """Indptr and indices of a list of columns."""
    indptr = np.cumsum([0] + [len(column) for column in columns]).astype(np.int64)
    return indptr, np.concatenate(columns).astype(np.int32)


def inverse_cholesky(K, indptr, indices):
    """Dense factor: column j is z / sqrt(z_last) with K_j z = e_last."""
    U = np.zeros_like(K)
    for j in range(len(K)):
        S = indices[indptr[j] : indptr[j + 1]]
        z = np.linalg.solve(K[np.ix_(S, S)], np.eye(len(S))[-1])
        U[S, j] = z / np.sqrt(z[-1])
    return U


def divergence(K, U):
    """Kullback-Leibler divergence of N(0, (U U^T)^-1) from N(0, K)."""
    precision = U @ U.T
    return 0.5 * (
        np.trace(precision @ K) - len(K) - np.linalg.slogdet(precision)[1] - np.linalg.slogdet(K)[1]
    )


def normal_log_density(y, K):
    """Log density of N(0, K)."""
    return -0.5 * (len(y) * np.log(2 * np.pi) + np.linalg.slogdet(K)[1] + y @ np.linalg.solve(K, y))


def vecchia_log_likelihood(K, y, indptr, indices):
    """Sum of log densities of every value given the others of its column."""
    total = 0.0
    for j in range(len(y)):
        S = indices[indptr[j] : indptr[j + 1]]
        total += normal_log_density(y[S], K[np.ix_(S, S)])
        S = S[:-1]
        total -= normal_log_density(y[S], K[np.ix_(S, S)]) if len(S) else 0.0
    return total


def vecchia_information(K, derivatives, indptr, indices):
    """Fisher information of the same: that of each column, less that of the column without j."""
    total = np.zeros((len(derivatives), len(derivatives)))
    for j in range(len(K)):
        S = indices[indptr[j] : indptr[j + 1]]
        for part, sign in ((S, 1.0), (S[:-1], -1.0)):
            block = np.ix_(part, part)
            solved = [np.linalg.solve(K[block], D[block]) for D in derivatives]
            total += sign * 0.5 * np.array([[np.trace(a @ b) for a in solved] for b in solved])
    return total


def kriging(K, k, variance, y):
    """Mean and variance of a value whose covariances with noisy values y are k."""
    weights = np.linalg.solve(K, k)
    return weights @ y, variance - weights @ k


def central_differences(function, x, step=1e-5):
    """Gradient of a function of a vector."""
    steps = step * np.eye(len(x))
    return np.array([(function(x + e) - function(x - e)) / (2 * step) for e in steps])
