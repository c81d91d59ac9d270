"""A balanced k-d tree in flat arrays: points of a leaf stand together, ascending by number.

Node 1 is the root, nodes 2 v and 2 v + 1 are the halves of node v, and the last level are leaves.
Node p of a level of 2^l nodes holds the points from ``n p >> l`` on. Distances to boxes are summed
as distances between points are, so that they never exceed these, not even by rounding: answers are
those of brute force, with the smaller numbers among equal distances.
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def split_node(points, numbers, level, place):
    """Order the points of a node so that its halves stand one behind the other."""
    n, d = points.shape
    start, middle, stop = _range(n, level, place)
    widest, axis = -1.0, 0
    for k in range(d):
        low = high = points[start, k]
        for q in range(start + 1, stop):
            low, high = min(low, points[q, k]), max(high, points[q, k])
        if high - low > widest:
            widest, axis = high - low, k
    _select(points, numbers, axis, start, middle, stop)


@njit(cache=True, nogil=True)
def split_below(points, numbers, level, place, depth):
    """Split a node and all below it."""
    for below in range(level, depth):
        shift = below - level
        for p in range(place << shift, (place + 1) << shift):
            split_node(points, numbers, below, p)


@njit(cache=True)
def _range(n, level, place):
    """First point, first of the second half, and end of a node."""
    start, stop = (n * place) >> level, (n * (place + 1)) >> level
    return start, (n * (2 * place + 1)) >> (level + 1), stop


@njit(cache=True)
def _select(points, numbers, axis, start, middle, stop):
    """Put the smallest ones before the middle, by quick selection around random points."""
    low, high, state = start, stop - 1, np.uint32(stop - start)
    while low < high:
        state = np.uint32(state * np.uint32(1664525) + np.uint32(1013904223))
        pivot = points[low + np.int64(state >> np.uint32(3)) % (high - low + 1), axis]
        i, j = low, high
        while i <= j:
            while points[i, axis] < pivot:
                i += 1
            while points[j, axis] > pivot:
                j -= 1
            if i <= j:
                _swap(points, numbers, i, j)
                i += 1
                j -= 1
        if middle <= j:
            high = j
        elif middle >= i:
            low = i
        else:
            return


@njit(cache=True)
def _swap(points, numbers, i, j):
    numbers[i], numbers[j] = numbers[j], numbers[i]
    for k in range(points.shape[1]):
        points[i, k], points[j, k] = points[j, k], points[i, k]


@njit(cache=True, nogil=True)
def finish_leaves(points, numbers, leaves, boxes, least):
    """Sort leaves by number; write their points feature by feature, boxes and least numbers.

    Parameters
    ----------
    points : float64 array of shape (n, d)
        As split.
    numbers : int32 array of shape (n,)
    leaves : float64 array of shape (n * d,)
        Gets, for a leaf from s to e, feature k of point s + i at ``s d + k (e - s) + i``.
    boxes : float64 array of shape (2 * n_leaves, d, 2)
    least : int32 array of shape (2 * n_leaves,)
    """
    n, d = points.shape
    n_leaves = len(least) // 2
    for leaf in range(n_leaves):
        start, end = n * leaf // n_leaves, n * (leaf + 1) // n_leaves
        for q in range(start + 1, end):
            at = q
            while at > start and numbers[at - 1] > numbers[at]:
                _swap(points, numbers, at - 1, at)
                at -= 1
        node, size = n_leaves + leaf, end - start
        least[node] = numbers[start]
        for k in range(d):
            low = high = points[start, k]
            for i in range(size):
                x = points[start + i, k]
                leaves[start * d + k * size + i] = x
                low, high = min(low, x), max(high, x)
            boxes[node, k, 0], boxes[node, k, 1] = low, high


@njit(cache=True)
def finish_nodes(boxes, least):
    """Boxes and least numbers of all nodes from those of the leaves."""
    for node in range(len(least) // 2 - 1, 0, -1):
        a, b = 2 * node, 2 * node + 1
        least[node] = min(least[a], least[b])
        for k in range(boxes.shape[1]):
            boxes[node, k, 0] = min(boxes[a, k, 0], boxes[b, k, 0])
            boxes[node, k, 1] = max(boxes[a, k, 1], boxes[b, k, 1])


@njit(cache=True)
def to_box(x, boxes, node):
    """Squared distance of a point from the box of a node."""
    total = 0.0
    for k in range(len(x)):
        gap = max(boxes[node, k, 0] - x[k], x[k] - boxes[node, k, 1], 0.0)
        total += gap * gap
    return total


@njit(cache=True)
def to_point(x, leaves, at, size):
    """Squared distance of a point from one of a leaf of some size, whose first feature is at."""
    total = 0.0
    for k in range(len(x)):
        gap = leaves[at + k * size] - x[k]
        total += gap * gap
    return total
