"""Nearest points among the first ones of a sequence, found on a grid sorted by cells."""

import numpy as np
from numba import njit, prange

_CHUNK = 256
_MOST_RINGS = 12  # of cells around a point; beyond, all points are looked at


@njit(cache=True)
def _range_of_row(cells, starts, first_cell, last_cell):
    """Range of the points in adjacent cells."""
    a = np.searchsorted(cells, first_cell)
    b = np.searchsorted(cells, last_cell + 1)
    return starts[a], starts[b]


@njit(cache=True)
def _insert(d2, number, distances, numbers, size):
    """Keep the nearest points ascending by (distance, number); return how many there are."""
    m = len(distances)
    if size == m:
        last = m - 1
        if d2 > distances[last] or (d2 == distances[last] and number > numbers[last]):
            return size
        at = last
    else:
        at = size
        size += 1
    while at > 0 and (
        distances[at - 1] > d2 or (distances[at - 1] == d2 and numbers[at - 1] > number)
    ):
        distances[at], numbers[at] = distances[at - 1], numbers[at - 1]
        at -= 1
    distances[at], numbers[at] = d2, number
    return size


@njit(cache=True)
def _scan(x, points, rows, first, stop, limit, distances, numbers, size):
    """Offer all points of a range whose number is below the limit."""
    d = len(x)
    for q in range(first, stop):
        number = rows[q]
        if number < limit:
            d2 = 0.0
            for k in range(d):
                d2 += (x[k] - points[q, k]) ** 2
            size = _insert(d2, number, distances, numbers, size)
    return size


@njit(cache=True)
def _scan_ring(x, ring, grid, limit, distances, numbers, size):
    """Offer the points of the cells whose distance from that of x, in cells, is `ring`."""
    points, rows, cells, starts, low, shape, side = grid
    n_axes = len(low)
    place = np.empty(n_axes, np.int64)
    for k in range(n_axes):
        c = np.int64(np.floor((x[k] - low[k]) / side))
        place[k] = min(max(c, np.int64(-1)), shape[k])  # queries may lie outside
    n_rows = 1
    for _ in range(n_axes - 1):
        n_rows *= 2 * ring + 1
    last = n_axes - 1
    low_end, high_end = max(place[last] - ring, 0), min(place[last] + ring, shape[last] - 1)
    for row in range(n_rows):
        cell, rest, on_shell, inside = np.int64(0), row, ring == 0, True
        for k in range(last):
            step = rest % (2 * ring + 1) - ring
            rest //= 2 * ring + 1
            on_shell |= abs(step) == ring
            at = place[k] + step
            inside &= 0 <= at < shape[k]
            cell = cell * shape[k] + at
        if not inside:
            continue
        cell *= shape[last]
        if on_shell:
            if low_end <= high_end:
                a, b = _range_of_row(cells, starts, cell + low_end, cell + high_end)
                size = _scan(x, points, rows, a, b, limit, distances, numbers, size)
            continue
        for end in (place[last] - ring, place[last] + ring):
            if 0 <= end < shape[last]:
                a, b = _range_of_row(cells, starts, cell + end, cell + end)
                size = _scan(x, points, rows, a, b, limit, distances, numbers, size)
    return size


@njit(cache=True)
def _margin(x, low, shape, side):
    """How far x is from the nearest face of its cell, less what it lies outside of the grid."""
    margin = side
    for k in range(len(low)):
        t = (x[k] - low[k]) / side
        c = min(max(np.floor(t), -1.0), float(shape[k]))
        margin = min(margin, (t - c) * side, (c + 1.0 - t) * side)
    return margin


@njit(parallel=True, cache=True)
def nearest_before(queries, numbers, limits, m, grid, starts_out, out):
    """Write the m nearest of the points before each query, ascending by number.

    Parameters
    ----------
    queries : float64 array of shape (q, d)
        Best in the order of their cells.
    numbers : int64 array of shape (q,)
        Which entries of limits and starts_out belong to each.
    limits : int64 array of shape (n,)
        Only points with numbers below the limit count; if there are fewer than m, all are written.
    m : int
    grid : tuple
        Points sorted by cell, their numbers, occupied cells, where these start, low corner, shape
        and side; see `sparseprob.gp._grid`.
    starts_out : int64 array of shape (n,)
        Where in out each query's neighbors are written.
    out : int32 array
    """
    points, rows, cells, starts, low, shape, side = grid
    for chunk in prange((len(queries) + _CHUNK - 1) // _CHUNK):
        distances, found = np.empty(m), np.empty(m, np.int64)
        for i in range(chunk * _CHUNK, min(len(queries), (chunk + 1) * _CHUNK)):
            x, number = queries[i], numbers[i]
            wanted = min(m, limits[number])
            near, kept = distances[:wanted], found[:wanted]
            size, margin = 0, _margin(x, low, shape, side)
            for ring in range(_MOST_RINGS + 1):
                if ring == _MOST_RINGS:
                    size = _scan(x, points, rows, 0, len(rows), limits[number], near, kept, 0)
                    break
                size = _scan_ring(x, ring, grid, limits[number], near, kept, size)
                reach = margin + ring * side
                if size == wanted and (wanted == 0 or (reach > 0.0 and near[-1] < reach * reach)):
                    break
            kept.sort()
            for a in range(wanted):
                out[starts_out[number] + a] = kept[a]
