"""Oracles of greedy pursuits: slow, obvious, written from the formulas."""

import numpy as np
from scipy.optimize import minimize, minimize_scalar


def objective(A, y, z, loss, penalty, alpha, weights):
    """The loss of the residual plus alpha times the penalty of z."""
    r = np.linalg.norm(y - A @ z)
    fit = r**2 if loss == "squared" else r
    if penalty == "l1":
        return fit + alpha * np.sum(weights * np.abs(z))
    return fit + alpha * np.sum(weights[z != 0] ** 2)


def largest_decrease(A, y, z, j, loss, penalty, alpha, weights):
    """By how much changing z[j] alone lowers the objective: a search over the change t."""

    def at(t):
        moved = z.copy()
        moved[j] += t
        return objective(A, y, moved, loss, penalty, alpha, weights)

    start = at(0.0)
    values = [start, at(-z[j])]  # the kinks, and the jumps of the number of non-zeros
    if np.iscomplexobj(A):
        inner = A[:, j].conj() @ (y - A @ z)
        for first in (inner, inner / 2, -z[j] / 2, 0.01 * inner + 0.01):
            found = minimize(
                lambda t: at(t[0] + 1j * t[1]), [first.real, first.imag], method="Nelder-Mead",
                options={"xatol": 1e-9, "fatol": 1e-16, "maxiter": 2000},
            )  # fmt: skip
            values.append(found.fun)
    else:
        edges = np.sort([-10.0, 0.0, -z[j], 10.0])  # convex in each piece
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            if high - low > 1e-9:
                found = minimize_scalar(at, bounds=(low, high), method="bounded",
                                        options={"xatol": 1e-10})  # fmt: skip
                values.append(found.fun)
    return start - min(values)


def greedy_pursuit(A, y, loss, penalty, alpha, weights, max_iter):
    """Support in the order chosen and coefficients; columns of A have unit length."""
    z, support = np.zeros(A.shape[1], dtype=np.result_type(A, y)), []
    while len(support) < max_iter:
        gains = [
            largest_decrease(A, y, z, j, loss, penalty, alpha, weights) for j in range(A.shape[1])
        ]
        j = int(np.argmax(gains))
        if gains[j] <= 1e-12 or j in support:
            break
        support.append(j)
        z[:] = 0
        z[support] = np.linalg.lstsq(A[:, support], y)[0]
    return support, z


def orthogonal_pursuit(A, y, max_iter):
    """Plain OMP with least squares from scratch in each step."""
    support, r = [], y
    for _ in range(max_iter):
        c = np.abs(A.conj().T @ r)
        c[support] = 0
        support.append(int(np.argmax(c)))
        z = np.linalg.lstsq(A[:, support], y)[0]
        r = y - A[:, support] @ z
    return support, z
