"""Maximin ordering, octave by octave of the distance, with exact answers in near-linear time.

A point is next that is farthest from all points before it. Within an octave of that distance the
points that have not been taken lie sorted by the cells of a grid whose side is the largest distance
of the octave, so that a point taken can only change keys in its own and adjacent cells. Keys are
squared distances to the nearest point taken; which is largest is found by buckets of equal width,
each with a small heap. Points move to lower buckets when theirs comes up, not when they change.
"""

import numpy as np
from numba import njit

_FINEST = 2.0**-19  # side of a cell, of the largest extent
_PER_BUCKET = 4
_SPARSE = 4.0  # cells for each point


@njit(cache=True)
def order_octaves(points, n_axes, keys, ranks, order, lengths, n_taken):
    """Append points in maximin order to the first n_taken, which are taken already.

    Parameters
    ----------
    points : float64 array of shape (n, d)
        The first n_axes features are those of the grid.
    n_axes : int
        1, 2 or 3.
    keys : float64 array of shape (n,)
        Squared distance to the nearest point taken; -1 for points taken.
    ranks : int64 array of shape (n,) or (0,)
        With ranks the order is approximate: within an octave points are taken in the order of
        ranks if they are farther from all taken than half the largest distance.
    order : int64 array of shape (n,)
    lengths : float64 array of shape (n,)
        Distance of each point to those before it, in the order; of its octave if approximate.
    n_taken : int
    """
    approximate = len(ranks) > 0
    numbers = np.flatnonzero(keys >= 0.0)
    points, keys = points[numbers], keys[numbers]
    while len(numbers) > 0:
        largest = keys.max()
        if largest == 0.0:  # only points that repeat others are left
            order[n_taken:] = np.sort(numbers)
            lengths[n_taken:] = 0.0
            break
        lowest = 0.25 * largest
        by_cell, grid = _grid(points, n_axes, np.sqrt(lowest if approximate else largest))
        numbers, points, keys = numbers[by_cell], points[by_cell], keys[by_cell]
        if approximate:
            n_taken = _take_by_rank(
                grid, points, numbers, keys, ranks, lowest, order, lengths, n_taken
            )
        else:
            n_taken = _take_octave(
                grid, points, numbers, keys, largest, lowest, order, lengths, n_taken
            )
        left = np.flatnonzero(keys >= 0.0)
        numbers, points, keys = numbers[left], points[left], keys[left]


@njit(cache=True)
def _grid(points, n_axes, side):
    """Sort points by the cells of a grid.

    Returns the sorting, and: the cell of each sorted point, counted without empty ones; for each
    cell the range of points in each row of three adjacent cells, (cells, 3^(n_axes - 1), 2).
    """
    low, shape, extent = np.empty(n_axes), np.ones(n_axes, np.int64), 0.0
    for k in range(n_axes):
        low[k] = points[:, k].min()
        extent = max(extent, points[:, k].max() - low[k])
    side = max(side, _FINEST * extent)
    for k in range(n_axes):  # a margin of one cell on each side
        shape[k] = np.int64((points[:, k].max() - low[k]) / side) + 3
    ids = np.empty(len(points), np.int64)
    for q in range(len(points)):
        cell = np.int64(0)
        for k in range(n_axes):
            cell = cell * shape[k] + np.int64((points[q, k] - low[k]) / side) + 1
        ids[q] = cell
    by_cell = _sorting(ids, shape)
    cell_of, cells, starts = _occupied(ids[by_cell])
    ranges = np.empty((len(cells), 3 ** (n_axes - 1), 2), np.int32)
    for row in range(ranges.shape[1]):
        shift, rest, step = np.int64(0), row, np.int64(1)
        for axis in range(n_axes - 1, 0, -1):
            step *= shape[axis]
            shift += (rest % 3 - 1) * step
            rest //= 3
        first = last = 0
        for c in range(len(cells)):  # cells ascend, and so do those beside them
            while first < len(cells) and cells[first] < cells[c] + shift - 1:
                first += 1
            while last < len(cells) and cells[last] <= cells[c] + shift + 1:
                last += 1
            ranges[c, row, 0], ranges[c, row, 1] = starts[first], starts[last]
    return by_cell, (cell_of, ranges)


@njit(cache=True)
def _sorting(ids, shape):
    """Stable sorting by cell: by counting, unless nearly all cells are empty."""
    n_cells = 1.0
    for k in range(len(shape)):
        n_cells *= shape[k]
    if n_cells > _SPARSE * len(ids) + 1000:
        return np.argsort(ids, kind="mergesort")
    ends = np.zeros(int(n_cells) + 1, np.int64)
    for cell in ids:
        ends[cell + 1] += 1
    ends = np.cumsum(ends)
    by_cell = np.empty(len(ids), np.int64)
    for q in range(len(ids)):
        by_cell[ends[ids[q]]] = q
        ends[ids[q]] += 1
    return by_cell


@njit(cache=True)
def _occupied(ids):
    """Number of the occupied cell of each sorted point, these cells, and where they start."""
    cell_of = np.zeros(len(ids), np.int32)
    for q in range(1, len(ids)):
        cell_of[q] = cell_of[q - 1] + (ids[q] != ids[q - 1])
    n_cells = cell_of[-1] + 1
    cells, starts = np.empty(n_cells, np.int64), np.empty(n_cells + 1, np.int64)
    starts[n_cells] = len(ids)
    for q in range(len(ids) - 1, -1, -1):
        cells[cell_of[q]], starts[cell_of[q]] = ids[q], q
    return cell_of, cells, starts


@njit(cache=True)
def _lower_keys(grid, points, keys, i):
    """Lower the keys of points that are nearer to point i than to any point taken before."""
    cell_of, ranges = grid
    x, d = points[i], points.shape[1]
    near = ranges[cell_of[i]]
    for row in range(len(near)):
        for q in range(near[row, 0], near[row, 1]):
            if keys[q] > 0.0:
                d2 = 0.0
                for k in range(d):
                    d2 += (x[k] - points[q, k]) ** 2
                if d2 < keys[q]:
                    keys[q] = d2


@njit(cache=True)
def _take_octave(grid, points, numbers, keys, largest, lowest, order, lengths, n_taken):
    """Take all points whose key is above the lowest, the largest first."""
    n_candidates = (keys > lowest).sum()
    n_buckets = max(1, n_candidates // _PER_BUCKET)
    scale = n_buckets / (largest - lowest)
    heads = np.full(n_buckets, -1, np.int32)
    following = np.empty(len(keys), np.int32)
    for q in range(len(keys)):
        if keys[q] > lowest:
            b = min(n_buckets - 1, int((keys[q] - lowest) * scale))
            following[q] = heads[b]
            heads[b] = q
    values, members = np.empty(n_candidates), np.empty(n_candidates, np.int32)
    for bucket in range(n_buckets - 1, -1, -1):
        size = 0
        q = heads[bucket]
        while q >= 0:
            after = following[q]
            size = _place(q, bucket, scale, lowest, keys, numbers, heads, following, values,
                          members, size)  # fmt: skip
            q = after
        while size > 0:
            value, q = values[0], members[0]
            size = _pop(values, members, numbers, size)
            if keys[q] != value:
                size = _place(q, bucket, scale, lowest, keys, numbers, heads, following, values,
                              members, size)  # fmt: skip
                continue
            order[n_taken], lengths[n_taken] = numbers[q], np.sqrt(value)
            n_taken += 1
            keys[q] = -1.0
            _lower_keys(grid, points, keys, q)
    return n_taken


@njit(cache=True)
def _place(q, bucket, scale, lowest, keys, numbers, heads, following, values, members, size):
    """Put a point into the heap of this bucket or into a lower one; return the heap's size."""
    if keys[q] <= lowest:
        return size
    b = min(len(heads) - 1, int((keys[q] - lowest) * scale))
    if b < bucket:
        following[q] = heads[b]
        heads[b] = q
        return size
    at = size
    while at > 0:
        parent = (at - 1) // 2
        if not _before(keys[q], numbers[q], values[parent], numbers[members[parent]]):
            break
        values[at], members[at] = values[parent], members[parent]
        at = parent
    values[at], members[at] = keys[q], q
    return size + 1


@njit(cache=True)
def _before(value, number, other_value, other_number):
    """Larger values first, smaller numbers among equal ones."""
    return value > other_value or (value == other_value and number < other_number)


@njit(cache=True)
def _pop(values, members, numbers, size):
    """Remove the top of a heap; return its new size."""
    size -= 1
    value, q = values[size], members[size]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _before(
            values[child + 1], numbers[members[child + 1]], values[child], numbers[members[child]]
        ):
            child += 1
        if not _before(values[child], numbers[members[child]], value, numbers[q]):
            break
        values[at], members[at] = values[child], members[child]
        at = child
    values[at], members[at] = value, q
    return size


@njit(cache=True)
def _take_by_rank(grid, points, numbers, keys, ranks, lowest, order, lengths, n_taken):
    """Take points in the order of ranks that are farther than the lowest from all taken."""
    candidates = np.flatnonzero(keys > lowest)
    for q in candidates[np.argsort(ranks[numbers[candidates]], kind="mergesort")]:
        if keys[q] > lowest:
            order[n_taken], lengths[n_taken] = numbers[q], np.sqrt(lowest)
            n_taken += 1
            keys[q] = -1.0
            _lower_keys(grid, points, keys, q)
    np.minimum(keys, lowest, keys)
    return n_taken
