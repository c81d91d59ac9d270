"""A k-d tree over points on the host, and searches in it, shared out over threads."""

from typing import NamedTuple

import numpy as np

from .._kernels import _tree_numba as kernel
from .._kernels import _tree_search_numba as search
from .._threads import n_threads_allowed, thread_pool

_LEAF = 16  # points of a leaf at most
_PARTS = 16  # of the work of a thread: parts of clusters take longer than others
_LEAST_PART = 256  # points of a part
_FEW = 4096  # queries; more are searched for in the order of a tree of their own


class Tree(NamedTuple):
    """What kernels receive; see `sparseprob._kernels._tree_numba`."""

    leaves: np.ndarray  # (n * d,)
    numbers: np.ndarray  # (n,) int32, those of the points in the order of the tree
    boxes: np.ndarray  # (2 * n_leaves, d, 2)
    least: np.ndarray  # (2 * n_leaves,) int32, the least number in each node


def build_tree(A):
    """Build a tree over points (n, d) in double precision."""
    n, d = A.shape
    depth = max(0, int(np.ceil(np.log2(n / _LEAF))))
    points, numbers, n_leaves = np.array(A), np.arange(n, dtype=np.int32), 1 << depth
    top = min(depth, 5)
    for level in range(top):
        _over([(points, numbers, level, p) for p in range(1 << level)], kernel.split_node, n)
    below = [(points, numbers, top, p, depth) for p in range(1 << top)]
    _over(below, kernel.split_below, n)
    tree = Tree(
        np.empty(n * d),
        numbers,
        np.empty((2 * n_leaves, d, 2)),
        np.empty(2 * n_leaves, dtype=np.int32),
    )
    kernel.finish_leaves(points, numbers, tree.leaves, tree.boxes, tree.least)
    kernel.finish_nodes(tree.boxes, tree.least)
    return tree


def search_nearest(tree, Q, numbers, limits, m, starts, out):
    """Write the nearest neighbors of queries; see `nearest_in_tree`."""
    parts = [(tree, Q[p], numbers[p], limits, m, starts, out) for p in _parts(len(Q))]
    _over(parts, search.nearest_in_tree, len(Q))


def nearest_rows(A, Q, m):
    """Return the m nearest of the points A to each of Q, (q, m) int32, ascending by number."""
    q = len(Q)
    out = np.empty((q, m), dtype=np.int32)
    if q:
        numbers = build_tree(Q).numbers if q > _FEW else np.arange(q, dtype=np.int32)
        limits, starts = np.full(q, len(A)), m * np.arange(q)
        search_nearest(build_tree(A), Q[numbers], numbers, limits, m, starts, out.reshape(-1))
    return out


def _parts(n):
    n_parts = max(1, min(_PARTS * n_threads_allowed(), n // _LEAST_PART))
    edges = [n * part // n_parts for part in range(n_parts + 1)]
    return [slice(*ends) for ends in zip(edges[:-1], edges[1:], strict=True)]


def _over(parts, work, n):
    """Call a kernel with the arguments of every part; results go to places of their own."""
    n_threads = min(n_threads_allowed(), len(parts))
    if n_threads == 1 or n < 2 * _LEAST_PART:
        for arguments in parts:
            work(*arguments)
        return
    list(thread_pool(n_threads).map(lambda arguments: work(*arguments), parts))
