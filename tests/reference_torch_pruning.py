"""Pruning and quantization of a layer, slowly and obviously, from the formulas."""

from itertools import combinations

import numpy as np


def loss(W, V, C):
    """E(V) = tr((W - V) C (W - V)^T)."""
    return float(np.trace((W - V) @ C @ (W - V).T))


def keep(scores, runs, n_kept):
    """Mask of the n largest of each run; `runs` are lists of places, of equal ones the first."""
    mask = np.zeros(scores.shape, dtype=bool)
    for run in runs:
        order = sorted(run, key=lambda place: (-scores[place], run.index(place)))
        for place in order[:n_kept]:
            mask[place] = True
    return mask


def runs_of(shape, granularity, m=None):
    """Lists of the places that compete."""
    rows = [[(i, j) for j in range(shape[1])] for i in range(shape[0])]
    if granularity == "row":
        return rows
    if granularity == "matrix":
        return [sum(rows, [])]
    return [row[j : j + m] for row in rows for j in range(0, shape[1], m)]


def sparse_gpt(W, C, damp, block_size, choose, points=None):
    """Column by column, with the inverse of what is left of the Gram matrix written out.

    `choose(scores)` gives the mask of a block of columns; kept weights take the nearest of the
    `points[i]` of their row.
    """
    W, d = W.copy(), W.shape[1]
    H = C + damp * np.mean(np.diag(C)) * np.eye(d)
    inverses = [np.linalg.inv(H[j:, j:]) for j in range(d)]
    price = np.array([inverse[0, 0] for inverse in inverses])
    kept = np.zeros(W.shape, dtype=bool)
    for j in range(d):
        stop = j + block_size
        if j % block_size == 0:
            kept[:, j:stop] = choose(W[:, j:stop] ** 2 / price[j:stop])
        for i in range(len(W)):
            value = W[i, j] if kept[i, j] else 0.0
            if kept[i, j] and points is not None:
                value = points[i][np.argmin(abs(points[i] - W[i, j]))]
            W[i, j:] -= (W[i, j] - value) / inverses[j][0, 0] * inverses[j][0]
            W[i, j] = value
    return W, kept


def awp(W, C, V, project, step, max_iter):
    """Projected gradient descent, and the iterate of least loss in each row."""
    losses = [loss(W, V, C)]
    best = V.copy()
    for _ in range(max_iter):
        V = project(V + step * (W - V) @ C)
        losses.append(loss(W, V, C))
        for i in range(len(W)):
            if loss(W[i : i + 1], V[i : i + 1], C) < loss(W[i : i + 1], best[i : i + 1], C):
                best[i] = V[i]
    return best, losses


def refit(W, x, mask):
    """Least squares on the supports, from activations."""
    V = np.zeros_like(W)
    for i in range(len(W)):
        chosen = np.flatnonzero(mask[i])
        V[i, chosen] = np.linalg.lstsq(x[:, chosen], x @ W[i], rcond=None)[0]
    return V


def best_support_loss(w, x, k):
    """Smallest loss of one row over all supports of k inputs."""
    losses = []
    for chosen in combinations(range(len(w)), k):
        part = x[:, list(chosen)]
        v = np.linalg.lstsq(part, x @ w, rcond=None)[0]
        losses.append(np.mean((x @ w - part @ v) ** 2))
    return min(losses)


def on_grid(z, low, high, bits):
    """Nearest points of one affine grid that spans [low, high] and 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (2**bits - 1) or 1.0
    zero = np.rint(-low / scale)
    points = (np.arange(2**bits) - zero) * scale
    return np.array([points[np.argmin(abs(points - value))] for value in z])
