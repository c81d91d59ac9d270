"""Orderings of points, coarse to fine (Guinness, 2018; Schäfer, Katzfuss & Owhadi, 2021)."""

from collections.abc import Callable

import numpy as np
from sklearn.utils import check_random_state

from .._arrays import compute_namespace, like, to_compute, to_numpy
from .._kernels import _maximin_numba as by_grid
from .._kernels import _maximin_tree_numba as by_tree
from ._inverse_cholesky import as_covariance
from ._tree import build_tree, nearest_rows


def maximin_order(
    X, *, start=None, n_last=0, method="exact", metric="euclidean", kernel=None, random_state=None
):
    r"""Return the maximin ordering of points: next is the point farthest from all before it.

    Parameters
    ----------
    X : array of shape (n, d)
        Points, usually divided by length-scales.
    start : int, default=None
        The first point; None is the one nearest to the mean of all.
    n_last : int, default=0
        How many of the last rows come after all others, in maximin order among themselves given
        the others: points to predict.
    method : {"exact", "approximate"}, default="exact"
        "approximate" takes points octave by octave, in random order those farther than L from
        all before, and halves L. It is somewhat faster, and nearly as good.
    metric : {"euclidean", "correlation"}, default="euclidean"
        The correlation distance :math:`\sqrt{1 - k(x, x') / \sqrt{k(x, x) k(x', x')}}` needs a
        kernel and :math:`O(n^2)` evaluations of it. It is meant for kernels that are not functions
        of one distance; for others both metrics give the same order.
    kernel : kernel object, default=None
        For ``metric="correlation"``.
    random_state : int, RandomState instance or None, default=None
        For ``method="approximate"``.

    Returns
    -------
    order : int64 array of shape (n,)
        In the library of X.
    lengths : float64 array of shape (n,)
        In that order, the distance of each point to those before it; of the first, that of the
        second.

    Notes
    -----
    Exact, with the smallest row number among equals. It takes :math:`O(n \log n)` operations, on
    grids for d <= 3 and in a k-d tree beyond; at d > 10 or so the cost is :math:`O(n^2)`. It runs
    on one core of the host, also for arrays on a GPU.

    References
    ----------
    See [Guinness2018]_ and [Schafer2021]_.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.gp import maximin_order
    >>> order, lengths = maximin_order(np.array([[0.0], [0.1], [0.5], [1.0]]))
    >>> order.tolist(), lengths.tolist()
    ([2, 0, 3, 1], [0.5, 0.5, 0.5, 0.1])
    """
    A = _points(X)
    n = len(A) - n_last
    if not 0 <= n_last < len(A):
        raise ValueError(f"n_last must be from 0 to {len(A) - 1}, got {n_last}.")
    if method not in _METHODS or metric not in _METRICS:
        raise ValueError(
            "method must be 'exact' or 'approximate' and metric 'euclidean' or 'correlation', got "
            f"{method!r} and {metric!r}."
        )
    if start is None:
        start = int(((A[:n] - A[:n].mean(axis=0)) ** 2).sum(axis=1).argmin())
    elif not 0 <= start < n:
        raise ValueError(f"start must be the number of a row, from 0 to {n - 1}, got {start}.")
    if metric == "correlation":
        if kernel is None:
            raise ValueError("metric='correlation' needs a kernel; pass kernel=....")
        order, lengths = _by_correlation(A, as_covariance(kernel, A.shape[1]), start, n)
    else:
        order, lengths = _by_distance(A, start, n, method, check_random_state(random_state))
    lengths[0] = lengths[1] if len(A) > 1 else np.inf
    return like(order, _container(X)), like(lengths, _container(X))


def order_points(A, ordering, rng):
    """Order points by a name: order and lengths, in the library of A.

    Orders other than maximin have no lengths: they are infinite.
    """
    if ordering in _MAXIMIN:
        return maximin_order(A, method=_MAXIMIN[ordering], random_state=rng)
    xp = compute_namespace(A)
    order = like(_ORDERS[ordering](to_numpy(A), rng).astype(np.int64), A)
    return order, xp.full(len(A), np.inf)


_METHODS, _METRICS = ("exact", "approximate"), ("euclidean", "correlation")
_MAXIMIN = {"maximin": "exact", "maximin-approximate": "approximate"}
_ORDERS: dict[str, Callable] = {
    "random": lambda A, rng: rng.permutation(len(A)),
    "coordinate": lambda A, rng: np.lexsort(A.T[::-1]),
    "given": lambda A, rng: np.arange(len(A)),
}
ORDERINGS = {*_MAXIMIN, *_ORDERS}


def _points(X):
    """Points on the host in double precision, or one sentence."""
    A = np.asarray(to_numpy(X), dtype=np.float64)
    if A.ndim != 2 or A.size == 0:
        raise ValueError(f"X must be 2-dimensional and not empty, got shape {A.shape}.")
    if not np.isfinite(A).all():
        raise ValueError("X contains NaN or infinity; remove such rows first.")
    return np.ascontiguousarray(A)


def _container(X):
    return to_compute(X)


def widest_axes(A):
    """Features by falling extent, and how many of them a grid uses."""
    extents = A.max(axis=0) - A.min(axis=0)
    axes = np.argsort(-extents, kind="stable")
    return axes, max(1, min(3, int((extents > 0).sum())))


def _by_distance(A, start, n, method, rng):
    """Order the first n points from the start, then the others."""
    order, lengths = np.empty(len(A), dtype=np.int64), np.full(len(A), np.inf)
    rng = rng if method == "approximate" else None
    take = _take_on_grid if rng or (np.ptp(A, axis=0) > 0).sum() <= 3 else _take_on_tree
    take(A[:n], np.full(n, np.inf), start, rng, order[:n], lengths[:n])
    if len(A) > n:
        nearest, keys = A[nearest_rows(A[:n], A[n:], 1)[:, 0]], np.zeros(len(A) - n)
        for k in range(A.shape[1]):  # summed as kernels sum
            keys += (nearest[:, k] - A[n:, k]) ** 2
        take(A[n:], keys, -1, rng, order[n:], lengths[n:])
        order[n:] += n
    return order, lengths


def _take_on_tree(A, keys, start, rng, order, lengths):
    tree = build_tree(A)
    by_tree.take_farthest(tree, keys[tree.numbers], start, order, lengths)


def _take_on_grid(A, keys, start, rng, order, lengths):
    axes, n_axes = widest_axes(A)
    A = np.ascontiguousarray(A[:, axes])
    if start >= 0:
        order[0], keys = start, ((A - A[start]) ** 2).sum(axis=1)
        keys[start] = -1.0
    ranks = np.empty(0, dtype=np.int64) if rng is None else rng.permutation(len(A))
    by_grid.order_octaves(A, n_axes, keys, ranks, order, lengths, int(start >= 0))


def _by_correlation(A, covariance, start, n):
    """Order by correlation distance; one row of the correlation matrix at a time."""
    order, squares = np.empty(len(A), dtype=np.int64), np.empty(len(A))

    def squared(i):
        return np.maximum(1.0 - covariance(A[i : i + 1], A)[0] / covariance.variance, 0.0)

    keys, waiting = np.full(len(A), np.inf), np.arange(len(A)) >= n
    taken = np.zeros(len(A), dtype=bool)
    i = start
    for k in range(len(A)):
        order[k], squares[k], taken[i] = i, keys[i], True
        keys = np.minimum(keys, squared(i))
        blocked = taken | waiting if k + 1 < n else taken
        i = int(np.where(blocked, -1.0, keys).argmax())
    return order, np.sqrt(squares)
