"""Earlier points within balls whose radii shrink with the order, by one grid for each octave."""

import numpy as np
from numba import njit, prange

_CHUNK = 256


def ball_columns(points, lengths, rho, blocks, grids):
    """Pattern and ancestors of every column; see `sparseprob.gp.ball_sparsity`.

    Parameters
    ----------
    points : float64 array of shape (n, d)
    lengths : float64 array of shape (n,)
    rho : float
    blocks : list of (first, stop, radius)
        Ranges of earlier points, and the largest radius of their balls.
    grids : list of tuple
        A grid over each, with cells at least as wide as the radius.

    Returns
    -------
    indptr, indices, ancestors_indptr, ancestors : arrays
    """
    n = len(points)
    sizes = np.zeros((2, n), np.int64)
    for (first, _, _), grid in zip(blocks, grids, strict=True):
        _visit_block(points, lengths, rho, first, grid, sizes, _NOTHING, _NOTHING, False)
    sizes += 1  # the column itself
    starts = np.zeros((2, n + 1), np.int64)
    np.cumsum(sizes, axis=1, out=starts[:, 1:])
    indices, ancestors = (np.empty(s[-1], np.int32) for s in starts)
    filled = starts[:, :-1].copy()
    for (first, _, _), grid in zip(blocks, grids, strict=True):
        _visit_block(points, lengths, rho, first, grid, filled, indices, ancestors, True)
    _finish(starts[0], indices)
    _finish(starts[1], ancestors)
    return starts[0], indices, starts[1], ancestors


_NOTHING = np.empty(0, np.int32)


@njit(parallel=True, cache=True)
def _visit_block(points, lengths, rho, first, grid, counts, indices, ancestors, fill):
    """Count, or write, for all later columns the points of a block that see them."""
    n = len(points)
    for chunk in prange((n - first + _CHUNK - 1) // _CHUNK):
        start = first + chunk * _CHUNK
        for j in range(start, min(n, start + _CHUNK)):
            _visit(points, lengths, rho, first, grid, j, counts, indices, ancestors, fill)


@njit(cache=True)
def _visit(points, lengths, rho, first, grid, j, counts, indices, ancestors, fill):
    block, rows, cells, starts, low, shape, side = grid
    x, n_axes = points[j], len(low)
    last = n_axes - 1
    for row in range(3**last):
        cell, rest, inside = np.int64(0), row, True
        for k in range(n_axes):
            at = np.int64(np.floor((x[k] - low[k]) / side))
            if k < last:
                at += rest % 3 - 1
                rest //= 3
                inside &= 0 <= at < shape[k]
                cell = cell * shape[k] + at
            else:
                a, b = max(at - 1, 0), min(at + 1, shape[k] - 1)
                inside &= a <= b
                cell = cell * shape[k]
        if not inside:
            continue
        c = np.searchsorted(cells, cell + a)
        while c < len(cells) and cells[c] <= cell + b:
            for q in range(starts[c], starts[c + 1]):
                i = first + rows[q]
                d2 = 0.0
                for k in range(len(x)):
                    d2 += (x[k] - block[q, k]) ** 2
                distance = np.sqrt(d2)
                if i < j and distance <= rho * lengths[i]:
                    if fill:
                        ancestors[counts[1, j]] = i
                    counts[1, j] += 1
                    if distance <= rho * lengths[j]:
                        if fill:
                            indices[counts[0, j]] = i
                        counts[0, j] += 1
            c += 1


@njit(parallel=True, cache=True)
def _finish(starts, indices):
    """Put each column itself last, and sort the others."""
    for j in prange(len(starts) - 1):
        indices[starts[j + 1] - 1] = j
        indices[starts[j] : starts[j + 1] - 1].sort()
