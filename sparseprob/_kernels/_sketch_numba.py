"""Hashes of keys, one pass over the rows of a matrix, and products of samples, on the CPU.

Sums over rows are kept exactly, as integers by exponent: they are the same in any order.
"""

import math

import numpy as np
from numba import njit

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S8, _S11 = (np.uint64(n) for n in (27, 30, 31, 8, 11))
_1, _2, _3, _4 = (np.uint64(n) for n in (1, 2, 3, 4))
_TO_UNIT = 2.0**-53
# Sums of squares in this range neither lose terms by underflow nor overflow when multiplied.
_LOW, _HIGH = 2.0**-900, 2.0**900
_SHORT, _LONG = 2.0**-450, 2.0**450
_DOWN, _UP = 2.0**-600, 2.0**600
_LARGE, _SMALL = 2.0**500, 2.0**-500
_MANTISSA, _HIDDEN = np.int64((1 << 52) - 1), np.int64(1 << 52)
_HALF = np.int64((1 << 26) - 1)
_SHIFT = np.int64(1200)  # of the exponents of rows that are scaled up or down
N_EXPONENTS = 2048 + 2 * 1200
UNIT = -1075 - 1200  # an exact sum counts in units of 2^UNIT
L2, L1, UNIFORM, GIVEN = 0, 1, 2, 3  # how a row's length becomes its weight
FINE, NOT_FINITE, NOT_CANONICAL = 0, 1, 2
STEP = 1024  # rows whose lengths and hashes are in the cache together

_options = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(inline="always")
def mix(x):
    """Finalizer of splitmix64: a bijection of 64 bits (G. Steele, D. Lea, C. Flood, 2014)."""
    x = (x ^ (x >> _S30)) * _FIRST
    x = (x ^ (x >> _S27)) * _SECOND
    return x ^ (x >> _S31)


@njit(inline="always")
def unit(x):
    """Number strictly between 0 and 1 of a hash."""
    return (float(x >> _S11) + 0.5) * _TO_UNIT


@njit(**_options)
def hash_integers(keys, offset, out):
    """Hash uint64 keys; `offset` depends on the seed and the kind of key."""
    for i in range(keys.shape[0]):
        out[i] = mix(keys[i] * _GOLDEN + offset)


@njit(**_options)
def hash_range(first, offset, out):
    """Hash the integers from `first` on."""
    start = np.uint64(first)
    for i in range(out.shape[0]):
        out[i] = mix((start + np.uint64(i)) * _GOLDEN + offset)


@njit(**_options)
def hash_bytes(data, ends, offset, out):
    """Hash strings that lie one behind the other, eight bytes (little-endian) at a time."""
    start = np.int64(0)
    for i in range(out.shape[0]):
        stop, h = ends[i], offset
        length = np.uint64(stop - start)
        while start < stop:
            word = np.uint64(0)
            for j in range(min(np.int64(8), stop - start)):
                word |= np.uint64(data[start + j]) << (np.uint64(j) * _S8)
            h = mix(h * _GOLDEN + mix(word + _GOLDEN))
            start = min(start + 8, stop)
        out[i] = mix(h * _GOLDEN + length)


@njit(**_options)
def scan_rows(rows, span, keys, given, weighting, bound, found, memory, sums):
    """Find rows that may be sampled; sum weights and squared lengths of all rows exactly.

    Stops early when there is no room for more rows, or before rows in trouble.

    Parameters
    ----------
    rows : tuple (data, indices, indptr)
        Rows of a CSR matrix; of a dense one if `indices` is empty and data is not.
    span : tuple (start, stop)
        Which of them.
    keys : tuple (hashes, first, offset)
        Hashes of all rows; if there are none, rows are numbered from `first` on.
    given : float64 array of shape (n,)
        Roots of the weights; read if `weighting` is GIVEN.
    weighting : int
    bound : float
        Rows of a larger rank are of no interest.
    found : tuple (n_found, positions, ranks, roots)
        Rows found before, and the arrays that receive more.
    memory : tuple (hashes, lengths, weights), arrays of shape (STEP,)
    sums : int64 array of shape (2, 2, N_EXPONENTS)
        Weights and squared lengths by exponent, low and high halves of mantissas.

    Returns
    -------
    status : int
        FINE, or the trouble.
    row : int
        The row to go on with.
    n_found : int
        Number of rows found, those before included.
    n_weighted : int
        Number of rows of positive weight.
    """
    start, stop = span
    n_found, positions, ranks, roots = found
    n_weighted = 0
    while start < stop and n_found + STEP <= positions.shape[0]:
        end = min(start + STEP, stop)
        part = rows[0], rows[1], rows[2][start : end + 1]
        hashes, lengths, weights = (memory[0][: end - start], memory[1][: end - start],
                                    memory[2][: end - start])  # fmt: skip
        if keys[0].shape[0]:
            hashes[:] = keys[0][start:end]
        else:
            hash_range(keys[1] + start, keys[2], hashes)
        status, bad = _weigh(part, given[start:end], weighting, lengths, weights, sums[1])
        if status != FINE:
            return status, start + bad, n_found, n_weighted
        n_weighted += _add_squares(lengths, weights, sums[0])
        before = n_found
        n_found = _find(hashes, lengths, weights, bound, n_found, positions, ranks, roots)
        for i in range(before, n_found):
            positions[i] += start
        start = end
    return FINE, start, n_found, n_weighted


@njit(**_options)
def _weigh(rows, given, weighting, lengths, weights, sums):
    """Write roots of weights into `lengths`; return a status and the row it is about."""
    if rows[1].shape[0] and not _all_sorted(rows[1], rows[2]):
        return NOT_CANONICAL, 0
    row = row_lengths(rows[0], rows[2], lengths)
    if row >= 0:
        return NOT_FINITE, row
    n = lengths.shape[0]
    if weighting != L2:
        _add_squares(lengths, weights, sums)
    if weighting == L1:
        for i in range(n):
            lengths[i] = math.sqrt(lengths[i])
    elif weighting == UNIFORM:
        for i in range(n):
            lengths[i] = 1.0 if lengths[i] > 0.0 else 0.0
    elif weighting == GIVEN:
        for i in range(n):
            lengths[i] = given[i]
    return FINE, 0


@njit(**_options)
def _find(hashes, lengths, weights, bound, n_found, positions, ranks, roots):
    """Append rows whose rank is at most the bound; return how many there are then."""
    square = bound * bound * (1.0 + 1e-12)
    in_range = _LOW <= square <= _HIGH
    for i in range(hashes.shape[0]):
        u, w = unit(hashes[i]), weights[i]
        if u <= square * w or not in_range or not _LOW <= w <= _HIGH:
            root = lengths[i]
            rank = math.sqrt(u) / root if root > 0.0 else np.inf
            if rank <= bound and rank < np.inf:
                positions[n_found], ranks[n_found], roots[n_found] = i, rank, root
                n_found += 1
    return n_found


@njit(**_options)
def _all_sorted(indices, indptr):
    """Whether columns increase within each row: all descents are from one row to the next."""
    first, stop = indptr[0], indptr[-1]
    if stop - first < 2:
        return True
    n_descents = 0
    left, right = indices[first : stop - 1], indices[first + 1 : stop]
    for p in range(right.shape[0]):
        n_descents += right[p] <= left[p]
    start = first
    for i in range(1, indptr.shape[0] - 1):
        p = indptr[i]
        if start < p < stop:  # p is the first entry of some row, counted once
            n_descents -= indices[p] <= indices[p - 1]
        start = max(start, p)
    return n_descents == 0


@njit(**_options)
def row_lengths(data, indptr, lengths):
    """Write Euclidean lengths of rows; return the first row that is not finite, or -1."""
    n = indptr.shape[0] - 1
    for i in range(n):
        lengths[i] = _sum_of_squares(data, indptr[i], indptr[i + 1])
    n_fine = 0
    for i in range(n):
        lengths[i] = math.sqrt(lengths[i])
        n_fine += (lengths[i] >= _SHORT) & (lengths[i] <= _LONG)
    if n_fine == n:
        return -1
    for i in range(n):
        if not _SHORT <= lengths[i] <= _LONG and indptr[i] < indptr[i + 1]:
            lengths[i] = _careful_length(data, indptr[i], indptr[i + 1])
            if not math.isfinite(lengths[i]):
                return i
    return -1


@njit(inline="always")
def _sum_of_squares(data, start, stop):
    """Four sums side by side, added in an order that is the same on every machine."""
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    p, end = np.uint64(start), np.uint64(stop)  # unsigned: no check for places from the end
    while p + _4 <= end:
        w, x, y, z = (np.float64(data[p]), np.float64(data[p + _1]), np.float64(data[p + _2]),
                      np.float64(data[p + _3]))  # fmt: skip
        s0, s1, s2, s3 = s0 + w * w, s1 + x * x, s2 + y * y, s3 + z * z
        p += _4
    while p < end:
        x = np.float64(data[p])
        s0 += x * x
        p += _1
    return (s0 + s1) + (s2 + s3)


@njit(**_options)
def _careful_length(data, start, stop):
    """Length of a row of very large or very small entries; NaN if one is not finite."""
    largest = 0.0
    for p in range(start, stop):
        size = abs(np.float64(data[p]))
        if not math.isfinite(size):
            return np.nan
        largest = max(largest, size)
    if largest < 2.0**-1022:  # zero, or as good as that
        return 0.0
    total = 0.0
    for p in range(start, stop):
        x = np.float64(data[p]) / largest
        total += x * x
    return largest * math.sqrt(total)


@njit(**_options)
def _add_squares(roots, weights, sums):
    """Write squares of roots and add them exactly; return the number of positive ones."""
    n_positive = 0
    bits = weights.view(np.int64)
    low, high = sums[0], sums[1]
    for i in range(roots.shape[0]):
        weights[i] = roots[i] * roots[i]
    for i in range(roots.shape[0]):
        root = roots[i]
        exponent = (bits[i] >> 52) + _SHIFT
        mantissa = (bits[i] & _MANTISSA) | _HIDDEN
        if not _SMALL <= root <= _LARGE:
            if root == 0.0:
                continue
            exponent, mantissa = _scaled_square(root)
        n_positive += 1
        low[exponent] += mantissa & _HALF
        high[exponent] += mantissa >> 26
    return n_positive


@njit(**_options)
def _scaled_square(root):
    """Exponent and mantissa of the square of a number whose square is out of range."""
    scale, shift = (_DOWN, _SHIFT) if root > 1.0 else (_UP, -_SHIFT)
    memory = np.empty(1)  # rare: rows of 1e150 or 1e-150
    memory[0] = (root * scale) ** 2
    bits = memory.view(np.int64)[0]
    return (bits >> 52) + shift + _SHIFT, (bits & _MANTISSA) | _HIDDEN


@njit(**_options)
def match_sorted(left, right, positions):
    """Positions of equal entries of two increasing arrays; returns how many there are."""
    i, j, n = 0, 0, 0
    while i < left.shape[0] and j < right.shape[0]:
        if left[i] < right[j]:
            i += 1
        elif left[i] > right[j]:
            j += 1
        else:
            positions[0, n], positions[1, n] = i, j
            i, j, n = i + 1, j + 1, n + 1
    return n


@njit(**_options)
def add_outer_products(left, right, positions, scales, W):
    """Add scales[t] a b' to W for the rows a and b at positions[:, t] of two CSR matrices."""
    data, indices, indptr = left
    other, columns, ends = right
    for t in range(positions.shape[1]):
        i, j = positions[0, t], positions[1, t]
        for p in range(indptr[i], indptr[i + 1]):
            a, out = data[p] * scales[t], W[indices[p]]
            for q in range(ends[j], ends[j + 1]):
                out[columns[q]] += a * other[q]


@njit(**_options)
def add_to_buckets(rows, places, signs, limits, table):
    """Add signed rows of a CSR matrix to the rows of a table that lie within the limits."""
    data, indices, indptr = rows
    first, stop = limits
    for i in range(places.shape[0]):
        if first <= places[i] < stop:
            out = table[places[i]]
            for p in range(indptr[i], indptr[i + 1]):
                out[indices[p]] += signs[i] * data[p]


@njit(**_options)
def add_dense_to_buckets(rows, places, signs, limits, table):
    """Add signed rows of a dense matrix to the rows of a table that lie within the limits."""
    first, stop = limits
    for i in range(places.shape[0]):
        if first <= places[i] < stop:
            out = table[places[i]]
            for j in range(rows.shape[1]):
                out[j] += signs[i] * rows[i, j]
