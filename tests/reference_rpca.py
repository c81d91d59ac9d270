"""Oracles of robust PCA: formulas over dense matrices, full SVDs, a generic convex solver."""

import numpy as np
from scipy.optimize import linprog


def soft(A, threshold):
    """sign(a) max(|a| - threshold, 0)."""
    return np.sign(A) * np.maximum(np.abs(A) - threshold, 0)


def shrink_singular_values(A, threshold):
    """U soft(s) V'."""
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    return (U * soft(s, threshold)) @ Vt


def objective(L, S, lam):
    """||L||_* + lam ||S||_1."""
    return np.linalg.norm(L, "nuc") + lam * np.abs(S).sum()


def inexact_alm(M, lam, *, rho=1.5, tol=1e-7, n_steps=1000, seen=None, norm=None):
    """The augmented Lagrangian step by step, with L, S and Y as dense matrices of their own."""
    seen = np.ones(M.shape, bool) if seen is None else seen
    M = np.where(seen, M, 0.0)
    norm = np.linalg.norm(M, 2) if norm is None else norm
    Y = M / max(norm, np.abs(M).max() / lam)
    mu, S = 1.25 / norm, np.zeros_like(M)
    largest = 1e7 * mu
    n_iter = 0
    while n_iter < n_steps:
        n_iter += 1
        L = shrink_singular_values(M - S + Y / mu, 1 / mu)
        free = M - L + Y / mu
        S = np.where(seen, soft(free, lam / mu), free)
        R = M - L - S
        Y = Y + mu * R
        mu = min(rho * mu, largest)
        if np.linalg.norm(R) <= tol * np.linalg.norm(M):
            break
    return L, np.where(seen, S, 0), n_iter


def pursuit_by_convex_solver(M, lam, *, seen=None, mu=None):
    """Principal component pursuit, plain or stable, by a generic conic solver."""
    import cvxpy

    L, S = cvxpy.Variable(M.shape), cvxpy.Variable(M.shape)
    seen = np.ones(M.shape) if seen is None else seen.astype(float)
    value = cvxpy.normNuc(L) + lam * cvxpy.norm1(cvxpy.multiply(seen, S))
    rest = cvxpy.multiply(seen, np.where(seen > 0, M, 0) - L - S)
    if mu is None:
        problem = cvxpy.Problem(cvxpy.Minimize(value), [rest == 0])
    else:
        problem = cvxpy.Problem(cvxpy.Minimize(value + cvxpy.sum_squares(rest) / (2 * mu)))
    problem.solve(solver="CLARABEL")
    return L.value, S.value, problem.value


def least_absolute_row(x, V):
    """Coordinates r of minimal ||x - V r||_1, as a linear program."""
    p, r = V.shape
    cost = np.concatenate([np.zeros(r), np.ones(2 * p)])
    A = np.hstack([V, np.eye(p), -np.eye(p)])
    bounds = [(None, None)] * r + [(0, None)] * (2 * p)
    return linprog(cost, A_eq=A, b_eq=x, bounds=bounds).x[:r]


def kth_largest(D, k):
    """The k-th largest magnitude."""
    return np.sort(np.abs(D), axis=None)[-k]


def godec_step(M, L, rank, card):
    """S of the largest entries, then L of the best rank."""
    D = M - L
    S = np.where(np.abs(D) >= kth_largest(D, card), D, 0)
    U, s, Vt = np.linalg.svd(M - S, full_matrices=False)
    return (U[:, :rank] * s[:rank]) @ Vt[:rank], S
