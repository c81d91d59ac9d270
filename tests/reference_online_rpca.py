"""Oracles of online robust PCA: slow alternations and geodesics; rows with gross errors."""

import numpy as np
from reference_rpca import soft


def robust_code(z, D, lam, n_inner=20000):
    """OR-PCA's alternation of coordinates and errors, until nothing moves; D (p, k)."""
    seen = ~np.isnan(z)
    D, z = D[seen], z[seen]
    e = np.zeros(len(z))
    inverse = np.linalg.inv(D.T @ D + lam * np.eye(D.shape[1]))
    for _ in range(n_inner):
        r = inverse @ (D.T @ (z - e))
        before, e = e, soft(z - D @ r, lam)
        if np.abs(e - before).max() < 1e-14 * np.abs(z).max():
            break
    return r


def online_dictionary(rows, D, A, B, lam, forgetting=1.0):
    """OR-PCA row by row; entries that are missing are what the basis expects. D and B (p, k)."""
    D, A, B = D.copy(), A.copy(), B.copy()
    for z in rows:
        r = robust_code(z, D, lam)
        expected = D @ r
        e = np.where(np.isnan(z), 0, soft(z - expected, lam))
        clean = np.where(np.isnan(z), expected, z - e)
        A = forgetting * A + np.outer(r, r)
        B = forgetting * B + np.outer(clean, r)
        damped = A + lam * np.eye(len(A))
        for j in range(len(A)):
            D[:, j] += (B[:, j] - D @ damped[:, j]) / damped[j, j]
    return D, A, B


def grasta_row(z, U, rho, n_passes=50000):
    """Weights of least absolute deviations and the gradient G of GRASTA; U (p, k)."""
    seen = ~np.isnan(z)
    Uo, zo = U[seen], z[seen]
    s, y = np.zeros(len(zo)), np.zeros(len(zo))
    inverse = np.linalg.inv(Uo.T @ Uo)
    for _ in range(n_passes):
        w = inverse @ (Uo.T @ (zo - s - y / rho))
        before, s = s, soft(zo - Uo @ w - y / rho, 1 / rho)
        gap = Uo @ w + s - zo
        y = y + rho * gap
        if np.abs(gap).max() + np.abs(s - before).max() < 1e-14:
            break
    G1 = y + rho * gap
    G = np.zeros(len(z))
    G[seen] = G1
    return w, G - U @ (Uo.T @ G1)


def geodesic(U, w, G, angle):
    """Turn U by an angle from the direction of w to that of -G."""
    direction, normal = w / np.linalg.norm(w), G / np.linalg.norm(G)
    turn = (np.cos(angle) - 1) * (U @ direction) - np.sin(angle) * normal
    return U + np.outer(turn, direction)


def explained(components, L):
    """Share of the squares of L inside the span of orthonormal rows."""
    return ((L @ components.T) ** 2).sum() / (L**2).sum()


def problem(n=300, p=60, rank=3, size=1.0, share=0.1, seed=0, noise=0.0):
    """Low-rank rows of entries about sqrt(rank / p), and gross errors of up to `size`."""
    rng = np.random.default_rng(seed)
    V = rng.normal(size=(p, rank)) / np.sqrt(p)
    L = rng.normal(size=(n, rank)) @ V.T
    S = np.where(rng.random((n, p)) < share, rng.uniform(-size, size, (n, p)), 0)
    return L, L + S + noise * rng.normal(size=(n, p))


def with_holes(X, share=0.2, seed=1):
    """X with a share of its entries missing."""
    return np.where(np.random.default_rng(seed).random(X.shape) < share, np.nan, X)


def basis(p, k, seed=3):
    """Random orthonormal rows (k, p)."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(p, k)))[0].T.copy()
