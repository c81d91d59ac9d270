"""Oracles of what is built on sketches: loops over rows, dense systems, from the formulas."""

import math

import numpy as np


def priority_sample(weights, u, k):
    """Rows of the k smallest ranks u / w, and the next rank; all rows and infinity if fewer."""
    ranks = sorted((u[i] / w, i) for i, w in enumerate(weights) if w > 0)
    if len(ranks) <= k:
        return {i for _, i in ranks}, math.inf
    return {i for _, i in ranks[:k]}, ranks[k][0]


def raised_weights(X):
    """Squared lengths of the rows, or their mean where it is larger."""
    squares = [sum(float(value) ** 2 for value in np.atleast_1d(row)) for row in X]
    return [max(square, sum(squares) / len(squares)) for square in squares]


def union_sample(x, u, k):
    """Union of the samples for 1, x^2 and x^4 of the largest common size with at most k rows.

    Returns the set of rows and a function: the probability of a row.
    """
    powers = [[float(value) ** (2 * j) for value in x] for j in range(3)]
    best = None
    for size in range(len(x) + 1):
        samples = [priority_sample(weights, u, size) for weights in powers]
        rows = set.union(*(sample for sample, _ in samples))
        if len(rows) <= k:
            best = rows, [tau for _, tau in samples]
    rows, taus = best

    def probability(i):
        return min(1.0, max(_times(t, w[i]) for t, w in zip(taus, powers, strict=True)))

    return rows, probability


def _times(tau, weight):
    return 0.0 if weight == 0 else tau * weight


def weighted_moments(x, y, p):
    """Size, means, standard deviations and correlation from six sums over 1 / p, exactly."""
    n, Sx, Sy, Sxx, Syy, Sxy = (
        math.fsum(value / q for value, q in zip(values, p, strict=True))
        for values in (np.ones_like(x), x, y, x * x, y * y, x * y)
    )
    variances = n * Sxx - Sx**2, n * Syy - Sy**2
    r = (n * Sxy - Sx * Sy) / math.sqrt(variances[0] * variances[1])
    deviations = [math.sqrt(v) / n for v in variances]
    return n, Sx / n, Sy / n, *deviations, max(-1.0, min(1.0, r))


def ridge(A, y, p, alpha, fit_intercept):
    """Coefficients and intercept from the stacked least-squares problem."""
    A, y = np.asarray(A, dtype=float), np.asarray(y, dtype=float)
    root = 1 / np.sqrt(np.asarray(p))
    design = np.column_stack([A, np.ones(len(A))]) if fit_intercept else A
    penalty = np.sqrt(alpha) * np.eye(A.shape[1], design.shape[1])
    system = np.vstack([root[:, None] * design, penalty])
    right = np.concatenate([root * y, np.zeros(A.shape[1])])
    solution = np.linalg.lstsq(system, right, rcond=None)[0]
    return solution[: A.shape[1]], solution[-1] if fit_intercept else 0.0


def left_out_residuals(A, y, p, alpha, fit_intercept):
    """Residual of each row from the fit to the others."""
    residuals = []
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        coef, intercept = ridge(A[rest], y[rest], p[rest], alpha, fit_intercept)
        residuals.append(y[i] - A[i] @ coef - intercept)
    return np.array(residuals)
