"""Maximin ordering on a k-d tree whose nodes know their point farthest from all points taken.

The root knows which point is next. Taking it changes keys only where the box of a node is nearer
than the largest key in it, and of the nodes above these the farthest points; so there is no heap.
"""

import numpy as np
from numba import njit

from ._tree_numba import to_box, to_point


@njit(cache=True, nogil=True)
def take_farthest(tree, keys, start, order, lengths):
    """Take all points, the farthest from those taken first, the smaller number among equals.

    Parameters
    ----------
    tree : Tree
    keys : float64 array of shape (n,)
        In the order of the tree: squared distances to points taken before, infinite without such.
    start : int
        Number of the first point; -1 for the farthest.
    order : int64 array of shape (n,)
        Gets the numbers.
    lengths : float64 array of shape (n,)
        Gets the distance of each to those before it.
    """
    leaves, numbers, boxes, least = tree
    n, d = len(numbers), boxes.shape[1]
    n_leaves = len(least) // 2
    farthest = np.empty(len(least), np.int64)
    largest = np.empty(len(least))
    for leaf in range(n_leaves):
        _refresh_leaf(n, n_leaves, leaf, keys, farthest, largest)
    for node in range(n_leaves - 1, 0, -1):
        _refresh_node(node, numbers, farthest, largest)
    stack, visited = np.empty(len(least), np.int64), np.empty(len(least), np.int64)
    x = np.empty(d)
    q = farthest[1]
    if start >= 0:
        q = np.argmax(numbers == start)
    for k in range(n):
        order[k], lengths[k] = numbers[q], np.sqrt(keys[q])
        leaf = ((q + 1) * n_leaves - 1) // n
        first, stop = n * leaf // n_leaves, n * (leaf + 1) // n_leaves
        for feature in range(d):
            x[feature] = leaves[first * d + feature * (stop - first) + q - first]
        keys[q] = -1.0
        _lower_keys(tree, x, keys, farthest, largest, stack, visited)
        q = farthest[1]
        if largest[1] <= 0.0:
            _take_repeated(numbers, keys, order, lengths, k + 1)
            return


@njit(cache=True)
def _lower_keys(tree, x, keys, farthest, largest, stack, visited):
    """Lower the keys of points that are nearer to x than to any point taken before."""
    leaves, numbers, boxes, least = tree
    n, d, n_leaves = len(numbers), len(x), len(least) // 2
    stack[0], size, n_visited = 1, 1, 0
    while size > 0:
        size -= 1
        node = stack[size]
        if node < n_leaves:
            visited[n_visited] = node
            n_visited += 1
            for child in (2 * node, 2 * node + 1):
                if to_box(x, boxes, child) < largest[child]:
                    stack[size] = child
                    size += 1
            continue
        leaf = node - n_leaves
        first, stop = n * leaf // n_leaves, n * (leaf + 1) // n_leaves
        for q in range(first, stop):
            if keys[q] > 0.0:
                d2 = to_point(x, leaves, first * d + q - first, stop - first)
                if d2 < keys[q]:
                    keys[q] = d2
        _refresh_leaf(n, n_leaves, leaf, keys, farthest, largest)
    for v in range(n_visited - 1, -1, -1):
        _refresh_node(visited[v], numbers, farthest, largest)


@njit(cache=True)
def _refresh_leaf(n, n_leaves, leaf, keys, farthest, largest):
    first, stop = n * leaf // n_leaves, n * (leaf + 1) // n_leaves
    best = first
    for q in range(first + 1, stop):
        if keys[q] > keys[best]:
            best = q
    farthest[n_leaves + leaf], largest[n_leaves + leaf] = best, keys[best]


@njit(cache=True)
def _refresh_node(node, numbers, farthest, largest):
    a, b = 2 * node, 2 * node + 1
    first = largest[a] > largest[b]
    if largest[a] == largest[b]:
        first = numbers[farthest[a]] < numbers[farthest[b]]
    best = a if first else b
    farthest[node], largest[node] = farthest[best], largest[best]


@njit(cache=True)
def _take_repeated(numbers, keys, order, lengths, n_taken):
    """Take the points that repeat others, by number."""
    order[n_taken:] = np.sort(numbers[keys >= 0.0])
    lengths[n_taken:] = 0.0
