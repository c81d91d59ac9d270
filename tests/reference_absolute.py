"""Oracles of least absolute deviations: candidates one by one, linear programs in primal form."""

import numpy as np
from scipy.optimize import linprog


def line_minimum(r, a, x=0.0, price=0.0):
    """The smallest ||r - t a||_1 + price |x + t| over t: it is at one of the knots."""
    knots = np.concatenate([[0.0, -x], r[a != 0] / a[a != 0]])
    return min(np.abs(r - t * a).sum() + price * abs(x + t) for t in knots)


def absolute_gains(A, y, x, alpha, weights, penalty):
    """Decrease of ||y - Ax||_1 + alpha pen(x) by the best change of each coefficient alone."""
    r, gains = y - A @ x, np.zeros(len(x))
    for j, w in enumerate(weights):
        now = np.abs(r).sum()
        if penalty == "l1":
            now += alpha * w * abs(x[j])
            best = line_minimum(r, A[:, j], x[j], alpha * w)
        else:
            now += alpha * w**2 * (x[j] != 0)
            removed = np.abs(r + x[j] * A[:, j]).sum()
            best = min(line_minimum(r, A[:, j]) + alpha * w**2, removed)
        gains[j] = max(now - best, 0)
    return gains


def least_absolute_loss(B, y):
    """The minimum of ||y - B v||_1 as a program with both signs of v and of the residual."""
    M, k = B.shape
    cost = np.concatenate([np.zeros(2 * k), np.ones(2 * M)])
    equations = np.hstack([B, -B, np.eye(M), -np.eye(M)])
    return linprog(cost, A_eq=equations, b_eq=y, bounds=(0, None), method="highs").fun


def absolute_pursuit(A, y, alpha, weights, penalty, max_iter):
    """The pursuit with every gain by `absolute_gains` and every fit from scratch."""
    M, N = A.shape
    support, x = [], np.zeros(N)
    while len(support) < max_iter:
        gains = absolute_gains(A, y, x, alpha, weights, penalty)
        j = int(gains.argmax())
        if gains[j] <= 1e-10 or j in support:
            break
        support.append(j)
        B = A[:, support]
        program = linprog(
            np.concatenate([np.zeros(2 * len(support)), np.ones(2 * M)]),
            A_eq=np.hstack([B, -B, np.eye(M), -np.eye(M)]), b_eq=y, bounds=(0, None),
        )  # fmt: skip
        v = program.x[: len(support)] - program.x[len(support) : 2 * len(support)]
        x[support] = v
    return support, x
