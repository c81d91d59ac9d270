"""Slow, obvious sketches written from the formulas, for tests of `sparseprob.sketch`."""

import numpy as np


def weights_of(A, weighting):
    """Weights of the rows of a dense matrix."""
    squares = (np.asarray(A, dtype=float) ** 2).sum(axis=1)
    return {
        "l2": squares, "l1": np.sqrt(squares), "uniform": (squares > 0).astype(float),
    }[weighting]  # fmt: skip


def priority_sample(u, w, k):
    """Positions of the k smallest u / w among positive weights, and the next rank."""
    rows = sorted((u[i] / w[i], i) for i in range(len(w)) if w[i] > 0)
    tau = rows[k][0] if len(rows) > k else np.inf
    return {i for _, i in rows[:k]}, tau


def adaptive_threshold(w, k):
    """The c with sum min(1, c w) = k, by bisection; infinity if at most k weights are positive."""
    w = w[w > 0]
    if len(w) <= k:
        return np.inf
    low, high = 0.0, k / w.min()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(1, middle * w).sum() < k else (low, middle)
    return high


def threshold_sample(u, w, k, adaptive=True):
    """Positions with u <= c w, and c."""
    c = adaptive_threshold(w, k) if adaptive else k / w.sum()
    return {i for i in range(len(w)) if w[i] > 0 and u[i] <= c * w[i]}, c


def estimate(A, B, wa, wb, sample_a, sample_b):
    """Estimate of A'B, and of its variance, from two samples (positions, tau)."""
    W, variance = np.zeros((A.shape[1], B.shape[1])), 0.0
    for i in sample_a[0] & sample_b[0]:
        p = min(1.0, wa[i] * sample_a[1], wb[i] * sample_b[1])
        W += np.outer(A[i], B[i]) / p
        variance += (A[i] @ A[i]) * (B[i] @ B[i]) * (1 - p) / p**2
    return W, variance


def splitmix64(x):
    """One step of the published generator from state x."""
    word = (1 << 64) - 1
    x = (x + 0x9E3779B97F4A7C15) & word
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & word
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & word
    return x ^ (x >> 31)


def count_sketch(A, places, signs, k):
    """Signed one-hot matrix times A."""
    S = np.zeros((k, len(A)))
    S[places, np.arange(len(A))] = signs
    return S @ A
