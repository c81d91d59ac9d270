"""Points sorted by the cells of a regular grid, empty cells left out."""

from typing import NamedTuple

import numpy as np

from .._arrays import compute_namespace, to_numpy

_FINEST = 2**19  # cells along an axis
_SAMPLE = 4096  # points from which the density is estimated


class Grid(NamedTuple):
    """What kernels receive."""

    points: np.ndarray  # (n, d) sorted by cell
    rows: np.ndarray  # (n,) int64, their numbers
    cells: np.ndarray  # (C,) int64, numbers of the occupied cells, ascending
    starts: np.ndarray  # (C + 1,) int64, where their points start
    low: np.ndarray  # (g,) low corner; the first g features are those of the grid
    shape: np.ndarray  # (g,) int64 cells along each axis
    side: float


def build_grid(A, n_axes, side):
    """Sort points (n, d) by cells of a given side in the first features; NumPy or CuPy."""
    xp = compute_namespace(A)
    low, high = A[:, :n_axes].min(axis=0), A[:, :n_axes].max(axis=0)
    extents = to_numpy(high - low)
    side = max(float(side), float(extents.max()) / _FINEST, np.finfo(np.float64).tiny)
    shape = (extents / side).astype(np.int64) + 1
    places = ((A[:, :n_axes] - low) / side).astype(np.int64)
    ids = places[:, 0]
    for k in range(1, n_axes):
        ids = ids * int(shape[k]) + places[:, k]
    by_cell = xp.argsort(ids, kind="stable")
    ids = ids[by_cell]
    first = xp.concatenate([xp.ones(1, dtype=bool), ids[1:] != ids[:-1]])
    starts = xp.concatenate([xp.flatnonzero(first), xp.asarray([len(ids)])])
    return Grid(
        xp.ascontiguousarray(A[by_cell]),
        by_cell.astype(np.int64),
        ids[first],
        starts.astype(np.int64),
        low,
        xp.asarray(shape),
        side,
    )


def side_for(A, n_axes, n_per_cell):
    """Side of cells that hold some points on average, outliers left out of the account."""
    sample = to_numpy(A[:: max(1, len(A) // _SAMPLE), :n_axes])
    low, high = np.quantile(sample, [0.02, 0.98], axis=0)
    extents = (high - low) / 0.96
    extents = extents[extents > 1e-9 * extents.max(initial=0.0)]
    if not len(extents):
        return 1.0
    return float((n_per_cell / len(A) * np.prod(extents)) ** (1 / len(extents)))
