"""Orderings and patterns of points from their definitions, slow and obvious."""

import numpy as np


def distances(X):
    """All distances, (n, n)."""
    return np.sqrt(((X[:, None] - X[None]) ** 2).sum(axis=-1))


def maximin(X, start, n_last=0):
    """Order and lengths, the smallest number first among equals."""
    D2 = ((X[:, None] - X[None]) ** 2).sum(axis=-1)
    return maximin_by(D2, start, n_last)


def maximin_by(squared, start, n_last=0):
    """The same from squared distances."""
    n = len(squared)
    order, lengths, keys = [start], [np.inf], squared[start].copy()
    for k in range(1, n):
        eligible = np.setdiff1d(np.arange(n - n_last if k < n - n_last else n), order)
        following = eligible[keys[eligible] == keys[eligible].max()].min()
        order.append(following)
        lengths.append(np.sqrt(keys[following]))
        keys = np.minimum(keys, squared[following])
    lengths[0] = lengths[1]
    return np.array(order), np.array(lengths)


def nearest_before(X, m):
    """For each point its m nearest earlier ones, ascending, and itself."""
    columns = []
    for j in range(len(X)):
        squares = ((X[:j] - X[j]) ** 2).sum(axis=1)
        nearest = np.lexsort((np.arange(j), squares))[:m]
        columns.append([*np.sort(nearest), j])
    return columns


def balls(X, lengths, rho):
    """Columns of the ball pattern, and ancestors; the edge of a ball belongs to it."""
    D, edge = distances(X), rho * (1 + 1e-12)
    inside = [
        [i for i in range(j) if D[i, j] <= edge * min(lengths[i], lengths[j])] + [j]
        for j in range(len(X))
    ]
    ancestors = [[i for i in range(j) if D[i, j] <= edge * lengths[i]] + [j] for j in range(len(X))]
    return inside, ancestors
