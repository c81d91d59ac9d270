"""Nearest points among the first ones of a sequence, found in a k-d tree."""

import numpy as np
from numba import njit

from ._tree_numba import to_box, to_point

_DEEPEST = 64  # levels of a tree; as many nodes wait at most


@njit(cache=True, nogil=True)
def nearest_in_tree(tree, queries, numbers, limits, m, starts, out):
    """Write the m nearest of the points before each query, ascending by number.

    Parameters
    ----------
    tree : Tree
    queries : float64 array of shape (q, d)
        Best such that near queries follow each other.
    numbers : int32 array of shape (q,)
        Which entries of limits and starts belong to each.
    limits : int64 array
        Only points with numbers below the limit count; if there are fewer than m, all are written.
    m : int
    starts : int64 array
        Where in out the neighbors of each query are written.
    out : int32 array
    """
    squares, found = np.empty(2 * m + 1), np.empty(2 * m + 1, np.int32)
    waiting, distances = np.empty(_DEEPEST, np.int64), np.empty(_DEEPEST)
    for i in range(len(queries)):
        number = numbers[i]
        limit, start = limits[number], starts[number]
        wanted = min(m, limit)
        if limit <= m:
            for a in range(limit):
                out[start + a] = a
            continue
        _search(tree, queries[i], limit, m, squares, found, waiting, distances)
        neighbors = found[:wanted]
        neighbors.sort()
        for a in range(wanted):
            out[start + a] = neighbors[a]


@njit(cache=True)
def _search(tree, x, limit, m, squares, found, waiting, distances):
    """Put the m nearest of the points below the limit in front; there are at least m + 1."""
    leaves, numbers, boxes, least = tree
    n, d, n_leaves = len(numbers), len(x), len(least) // 2
    waiting[0], distances[0], n_waiting = 1, 0.0, 1
    size, worst = 0, np.inf
    while n_waiting > 0:
        n_waiting -= 1
        node, distance = waiting[n_waiting], distances[n_waiting]
        if distance > worst:
            continue
        while node < n_leaves:
            near, far = 2 * node, 2 * node + 1
            to_near, to_far = to_box(x, boxes, near), to_box(x, boxes, far)
            if to_far < to_near:
                near, far, to_near, to_far = far, near, to_far, to_near
            if to_far <= worst and least[far] < limit:
                waiting[n_waiting], distances[n_waiting] = far, to_far
                n_waiting += 1
            node = near
            if to_near > worst or least[near] >= limit:
                node = 0
                break
        if node == 0:
            continue
        leaf = node - n_leaves
        first, stop = n * leaf // n_leaves, n * (leaf + 1) // n_leaves
        for q in range(first, stop):
            if numbers[q] >= limit:
                break
            d2 = to_point(x, leaves, first * d + q - first, stop - first)
            if d2 <= worst:
                squares[size], found[size] = d2, numbers[q]
                size += 1
                if size == len(found):
                    _keep_nearest(squares, found, m, size)
                    size = m
                if size == m:
                    worst = _largest(squares, m)
    _keep_nearest(squares, found, m, size)


@njit(cache=True)
def _largest(squares, m):
    worst = squares[0]
    for i in range(1, m):
        worst = max(worst, squares[i])
    return worst


@njit(cache=True)
def _keep_nearest(squares, found, m, size):
    """Bring the m nearest to the front, the smaller numbers among equals."""
    low, high = 0, size - 1
    while low < high:
        middle = (low + high) // 2
        pivot, number = squares[middle], found[middle]
        i, j = low, high
        while i <= j:
            while squares[i] < pivot or (squares[i] == pivot and found[i] < number):
                i += 1
            while squares[j] > pivot or (squares[j] == pivot and found[j] > number):
                j -= 1
            if i <= j:
                squares[i], squares[j] = squares[j], squares[i]
                found[i], found[j] = found[j], found[i]
                i += 1
                j -= 1
        if m <= j:
            high = j
        elif m >= i:
            low = i
        else:
            return
