"""Selection of the largest entries of rows in time proportional to their number."""

import numpy as np
from numba import njit, prange

_SHORT = 16  # rows in which each entry is compared with each
_BINS = 256
_LARGE = 2**20  # entries that are worth several threads


def largest(moduli, n):
    """Return the mask of the n largest entries of each row; of equal ones the first.

    Parameters
    ----------
    moduli : float32 or float64 array of shape (T, N)
        Without NaN, which would be left out.
    n : int
        From 1 to N.
    """
    mask = np.empty(moduli.shape, dtype=bool)
    run = _in_threads if moduli.size >= _LARGE and len(moduli) > 1 else _in_turn
    run(np.ascontiguousarray(moduli), n, mask)
    return mask


@njit(cache=True, nogil=True)
def _in_turn(moduli, n, mask):
    _some_rows(moduli, n, mask, 0, len(moduli))


@njit(cache=True, parallel=True)
def _in_threads(moduli, n, mask):
    n_parts = min(64, len(moduli))
    for part in prange(n_parts):
        first, stop = part * len(moduli) // n_parts, (part + 1) * len(moduli) // n_parts
        _some_rows(moduli, n, mask, first, stop)


@njit(cache=True, nogil=True)
def _some_rows(moduli, n, mask, first, stop):
    N = moduli.shape[1]
    if N <= _SHORT:
        for i in range(first, stop):
            _choose_of_few(moduli[i], n, mask[i])
        return
    counts, left = np.empty(_BINS + 1, np.int64), np.empty(N, moduli.dtype)
    for i in range(first, stop):
        bound, room, ties = _nth_largest(moduli[i], n, counts, left)
        _write_mask(moduli[i], bound, room, ties, mask[i])


@njit(cache=True, nogil=True)
def _choose_of_few(x, n, keep):
    for j in range(len(x)):
        before = 0
        for k in range(j):
            before += x[k] >= x[j]
        for k in range(j + 1, len(x)):
            before += x[k] > x[j]
        keep[j] = before < n


@njit(cache=True, nogil=True)
def _nth_largest(x, n, counts, left):
    """Return the n-th largest entry, how many equal to it are among the n, and how many there are.

    The range of the entries is cut in bins; the bin of the wanted one is cut again, until all of it
    are equal.
    """
    m, values = len(x), x
    while True:
        low, high, is_number = _range(values[:m])
        if low == high and is_number:
            return low, n, m
        scale = (_BINS - 1) / (np.float64(high) - low)
        if not (is_number and scale > 0 and np.isfinite(scale)):  # infinite or denormal numbers
            return _by_sorting(values[:m], n)
        counts[:] = 0
        for j in range(m):
            counts[int((values[j] - low) * scale)] += 1
        place = _BINS
        while n > counts[place]:
            n -= counts[place]
            place -= 1
        size = 0
        for j in range(m):
            left[size] = values[j]
            size += int((values[j] - low) * scale) == place
        m, values = size, left


@njit(cache=True, nogil=True)
def _range(x):
    low = high = x[0]
    is_number = True
    for j in range(len(x)):
        low, high = min(low, x[j]), max(high, x[j])
        is_number &= x[j] == x[j]
    return low, high, is_number


@njit(cache=True, nogil=True)
def _by_sorting(x, n):
    ordered = np.sort(x)
    bound = ordered[len(x) - n]
    return bound, n - (x > bound).sum(), (x == bound).sum()


@njit(cache=True, nogil=True)
def _write_mask(x, bound, room, ties, keep):
    if room == ties:
        for j in range(len(x)):
            keep[j] = x[j] >= bound
        return
    for j in range(len(x)):
        tied = x[j] == bound
        keep[j] = x[j] > bound or (tied and room > 0)
        room -= tied
