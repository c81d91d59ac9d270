"""Sparsity patterns: nearest earlier points, balls, nearest training points."""

from numbers import Integral

import numpy as np

from .._arrays import compute_namespace, like, to_compute, to_numpy
from .._kernels import kernels
from .._kernels._balls_numba import ball_columns
from ._grid import build_grid, side_for
from ._ordering import widest_axes
from ._tree import build_tree, nearest_rows, search_nearest

_FIRST_BLOCK = 512
_ROUNDING = 1e-12
_PER_CELL = {1: 0.5, 2: 0.25, 3: 0.15}  # points in a cell, over the neighbors wanted


def nearest_predecessors(X, m):
    """Return the pattern in which every point sees its m nearest earlier points and itself.

    Parameters
    ----------
    X : array of shape (n, d)
        Points in their order, usually divided by length-scales.
    m : int
        Number of neighbors; points with fewer earlier ones see them all.

    Returns
    -------
    indptr : int64 array of shape (n + 1,)
        In the library of X.
    indices : int32 array of shape (nnz,)
        Column j of the pattern is ``indices[indptr[j]:indptr[j + 1]]``, ascending, j last. Among
        points at equal distance the earlier ones are taken.

    Notes
    -----
    On the host points are searched in one k-d tree, whose nodes know their earliest point. At
    d > 10 or so the search slows down to brute force. On a GPU they are searched on grids of the
    three widest features, over blocks of twice as many points each.

    References
    ----------
    See [Schafer2021]_.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.gp import nearest_predecessors
    >>> indptr, indices = nearest_predecessors(np.array([[0.0], [1.0], [0.4], [0.9]]), 1)
    >>> indptr.tolist(), indices.tolist()
    ([0, 1, 3, 5, 7], [0, 0, 1, 0, 2, 1, 3])
    """
    A = checked_points(X)
    if not isinstance(m, Integral) or m < 1:
        raise ValueError(f"m must be a whole number, at least 1, got {m}.")
    xp, n = compute_namespace(A), len(A)
    m = min(int(m), max(n - 1, 1))
    own = xp.arange(n)
    indptr = xp.concatenate([xp.zeros(1, dtype=np.int64), xp.cumsum(xp.minimum(own, m) + 1)])
    indices = xp.empty(int(indptr[-1]), dtype=np.int32)
    indices[indptr[1:] - 1] = own
    if isinstance(A, np.ndarray):
        tree = build_tree(A)
        search_nearest(tree, A[tree.numbers], tree.numbers, own, m, indptr[:-1], indices)
        return indptr, indices
    axes, n_axes = widest_axes(to_numpy(A))
    A = xp.ascontiguousarray(A[:, xp.asarray(axes)])
    first, stop = 0, min(n, max(_FIRST_BLOCK, 4 * m))
    while first < n:
        _search_block(A[:stop], first, m, n_axes, own, indptr, indices)
        first, stop = stop, min(n, 2 * stop)
    return indptr, indices


def _search_block(A, first, m, n_axes, own, indptr, indices):
    """Find the neighbors of the points from `first` on."""
    grid = build_grid(A, n_axes, side_for(A, n_axes, m * _PER_CELL[n_axes]))
    mine = grid.rows >= first
    kernels("predecessors", A).nearest_before(
        grid.points[mine], grid.rows[mine], own, m, tuple(grid), indptr[:-1], indices
    )


def nearest_training(X_train, X_test, m):
    """Return the m nearest training points of each query, (q, m) int32, ascending by number.

    X_train (n, d) and X_test (q, d) are NumPy or CuPy, usually divided by length-scales; among
    points at equal distance those with smaller numbers are taken.
    """
    A, Q = checked_points(X_train), checked_points(X_test)
    xp, m = compute_namespace(A), min(int(m), len(A))
    if isinstance(A, np.ndarray):
        return nearest_rows(A, Q, m)
    axes, n_axes = widest_axes(to_numpy(A))
    A, Q = (xp.ascontiguousarray(P[:, xp.asarray(axes)]) for P in (A, Q))
    side = side_for(A, n_axes, m * _PER_CELL[n_axes])
    grid = build_grid(A, n_axes, side)
    near = build_grid(Q, n_axes, side) if len(Q) else None
    out = xp.empty((len(Q), m), dtype=np.int32)
    if near is not None:
        limits = xp.full(len(Q), len(A))
        kernels("predecessors", A).nearest_before(
            near.points, near.rows, limits, m, tuple(grid), m * xp.arange(len(Q)), out.reshape(-1)
        )
    return out


def ball_sparsity(X, lengths, rho):
    r"""Return the pattern of balls of the paper, and the sets of reduced ancestors.

    Column j holds the earlier points i with
    :math:`|x_i - x_j| \le \rho \min(\ell_i, \ell_j)`, its ancestors those with
    :math:`|x_i - x_j| \le \rho \ell_i`.

    Parameters
    ----------
    X : array of shape (n, d)
        Points in their order, usually divided by length-scales.
    lengths : array of shape (n,)
        Their maximin distances, as `maximin_order` returns them.
    rho : float
        At least 1; the sets have :math:`O(\rho^d)` and :math:`O(\rho^d \log n)` points.

    Returns
    -------
    indptr : int64 array of shape (n + 1,)
    indices : int32 array of shape (nnz,)
        Columns of the pattern, ascending, each point itself last.
    ancestors_indptr : int64 array of shape (n + 1,)
    ancestors : int32 array of shape (nnz_ancestors,)
        Sets of ancestors, likewise.

    References
    ----------
    See [Cao2023]_ and [Schafer2021]_.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.gp import ball_sparsity, maximin_order
    >>> X = np.linspace(0, 1, 9)[:, None]
    >>> order, lengths = maximin_order(X)
    >>> indptr, indices, *ancestors = ball_sparsity(X[order], lengths, 1.5)
    >>> np.diff(indptr).tolist()
    [1, 2, 2, 3, 3, 3, 3, 3, 3]
    """
    A, ell = checked_points(X), np.asarray(to_numpy(lengths), dtype=np.float64)
    if not rho >= 1:
        raise ValueError(f"rho must be at least 1, got {rho}.")
    if ell.shape != (len(A),) or np.isnan(ell).any() or (ell < 0).any():
        raise ValueError(
            f"lengths must be {len(A)} non-negative distances, as maximin_order returns them."
        )
    host = to_numpy(A)
    axes, n_axes = widest_axes(host)
    host = np.ascontiguousarray(host[:, axes])
    blocks, grids = [], []
    first, stop = 0, 1
    while first < len(host):
        radius = rho * (1 + _ROUNDING) * ell[first:stop].max()
        finite = radius if np.isfinite(radius) else float(np.ptp(host, axis=0).max()) + 1.0
        blocks.append((first, stop, finite))
        grids.append(build_grid(host[first:stop], n_axes, finite))
        first, stop = stop, min(len(host), 2 * stop)
    reach = rho * (1 + _ROUNDING)  # the nearest point of all before is at the very edge of rho = 1
    return tuple(like(a, A) for a in ball_columns(host, ell, reach, blocks, grids))


def checked_points(X):
    """Points as NumPy or CuPy in double precision, finite."""
    A = to_compute(X)
    if A.ndim != 2:
        raise ValueError(f"X must be 2-dimensional, got shape {tuple(A.shape)}.")
    xp = compute_namespace(A)
    A = xp.ascontiguousarray(A, dtype=np.float64)
    if not bool(xp.isfinite(A).all()):
        raise ValueError("X contains NaN or infinity; remove such rows first.")
    return A
