"""Slow and obvious sparse coding and K-SVD, from the formulas."""

import numpy as np


def matching_pursuit(a, D, n_nonzero):
    """Orthogonal matching pursuit of one row by least squares; support in the order chosen."""
    support, x, rest = [], np.zeros(len(D)), a
    for _ in range(n_nonzero):
        correlations = abs(D @ rest)
        correlations[support] = -1
        support.append(int(correlations.argmax()))
        x[:] = 0
        x[support] = np.linalg.lstsq(D[support].T, a, rcond=None)[0]
        rest = a - x @ D
    return support, x


def pursuit_by_blocks(a, D, n_nonzero, n_together):
    """The same, where several atoms of the largest correlations come in at a time."""
    support, x, rest = [], np.zeros(len(D)), a
    while len(support) < n_nonzero:
        correlations = abs(D @ rest)
        correlations[support] = -1
        n = min(n_together, n_nonzero - len(support))
        support += list(np.argsort(-correlations, kind="stable")[:n])
        x[:] = 0
        x[support] = np.linalg.lstsq(D[support].T, a, rcond=None)[0]
        rest = a - x @ D
    return support, x


def best_atoms(A, D, X):
    """One pass of K-SVD over the atoms: the best rank-one fit of what the others leave."""
    D, X = D.copy(), X.copy()
    for j in range(len(D)):
        users = np.flatnonzero(X[:, j])
        if not len(users):
            continue
        E = A[users] - X[users] @ D + np.outer(X[users, j], D[j])
        U, S, Vt = np.linalg.svd(E, full_matrices=False)
        sign = np.sign(Vt[0] @ D[j]) or 1.0
        D[j], X[users, j] = sign * Vt[0], sign * S[0] * U[:, 0]
    return D, X


def dense(indices, values, n_atoms):
    """Codes as a matrix (n, k)."""
    X = np.zeros((len(indices), n_atoms), dtype=values.dtype)
    for row, (support, x) in enumerate(zip(indices, values, strict=True)):
        X[row, support] = x
    return X


def planted(n, d, k, s, seed):
    """Rows that are exactly combinations of s of k atoms; the rows and the atoms."""
    rng = np.random.default_rng(seed)
    D = rng.normal(size=(k, d))
    D /= np.linalg.norm(D, axis=1, keepdims=True)
    X = np.zeros((n, k))
    for row in X:
        row[rng.choice(k, s, replace=False)] = rng.normal(size=s)
    return X @ D, D


def recovered(found, atoms):
    """Share of the atoms that one of those found matches."""
    return float((abs(found @ atoms.T).max(axis=0) > 0.99).mean())
