"""Covariances of the neighborhoods of eight columns side by side, gathered and factored.

Neighborhoods of different sizes are filled up at the front with uncorrelated points, so that the
column's own point is the last of all eight. Lower triangles are packed by rows; the diagonal of a
Cholesky factor is stored inverted.
"""

import math

import numpy as np
from numba import njit

from ._covariance_lanes import pair_covariances
from ._lanes import (
    LANES,
    add,
    inverse_root,
    load,
    minus_product,
    mul,
    plus_product,
    prefetch,
    store,
)

_LARGEST_JITTER = 1e-3  # of the prior variance
_ROUNDING = 1e-15  # a pivot below this share of the diagonal is nothing but rounding
_options = {"cache": True, "fastmath": {"contract"}, "error_model": "numpy"}
_inlined = _options | {"forceinline": True}  # or loops over it would not be vectorized


@njit(**_options)
def workspace(T, d, size, n_parts):
    """Return arrays for eight columns of up to `size` points.

    They are inputs, squared distances, parts of terms, covariances, nuggets, and numbers of points.
    """
    n_pairs = size * (size + 1) // 2
    return (
        np.zeros((T, d, size, LANES)),
        np.zeros((n_pairs, LANES)),
        np.zeros((T, n_parts, n_pairs, LANES)),
        np.zeros((n_pairs, LANES)),
        np.zeros((size, LANES)),
        np.zeros((size, LANES), np.int64),
    )


@njit(**_options)
def by_size(indptr, first, stop):
    """Numbers of the columns first, ..., stop - 1, ascending in size."""
    sizes = indptr[first + 1 : stop + 1] - indptr[first:stop]
    if sizes.min() == sizes.max():
        return np.arange(first, stop)
    return first + np.argsort(sizes, kind="mergesort")


@njit(**_options)
def group(columns, g, indptr, starts, pads):
    """Write where each of eight columns starts and what it lacks; return size and number.

    A last group of fewer columns repeats its last one.
    """
    n_columns = min(LANES, len(columns) - g)
    size = 0
    for lane in range(LANES):
        j = columns[g + min(lane, n_columns - 1)]
        starts[lane], pads[lane] = indptr[j], indptr[j + 1] - indptr[j]
        size = max(size, pads[lane])
    for lane in range(LANES):
        pads[lane] = size - pads[lane]
    return size, n_columns


@njit(**_options)
def gather_members(indices, starts, pads, size, members):
    """Write which points the eight columns have; in front of short ones, their first."""
    for lane in range(LANES):
        for a in range(size):
            members[a, lane] = indices[starts[lane] + max(a - pads[lane], 0)]


@njit(**_options)
def gather_inputs(scaled, members, size, inputs):
    """Copy the inputs of the points of eight columns."""
    for t in range(scaled.shape[0]):
        for k in range(scaled.shape[2]):
            feature, out = scaled[t, :, k], inputs[t, k]
            for a in range(size):
                for lane in range(LANES):
                    out[a, lane] = feature[members[a, lane]]


@njit(**_options)
def gather_values(values, members, pads, size, out):
    """Copy values of the points of eight columns; zero in front of short ones."""
    for a in range(size):
        for lane in range(LANES):
            out[a, lane] = values[members[a, lane]]
    zero_pads(pads, out)


@njit(**_options)
def fetch_ahead(scaled, indices, first, stop):
    """Ask for the inputs of points that will be gathered soon."""
    for t in range(scaled.shape[0]):
        for i in range(first, stop):
            prefetch(scaled, (t * scaled.shape[1] + indices[i]) * scaled.shape[2])


@njit(**_options)
def fetch_next(scaled, columns, g, indptr, indices):
    """Ask for the inputs of the columns of the group after the one that starts at g."""
    for j in columns[g + LANES : g + 2 * LANES]:
        fetch_ahead(scaled, indices, indptr[j], indptr[j + 1])


@njit(**_options)
def zero_pads(pads, out):
    """Set values in front of short columns to zero."""
    for lane in range(LANES):
        for a in range(pads[lane]):
            out[a, lane] = 0.0


@njit(**_options)
def _finish_diagonal(variance, pads, size, jitter, nuggets, K):
    """Add nuggets and jitter to the diagonal; no covariances in front of short columns."""
    for a in range(size):
        i = a * (a + 1) // 2 + a
        store(K, i, add(load(K, i), add(load(nuggets, a), load(jitter, 0))))
    for lane in range(LANES):
        for a in range(size if pads[lane] > 0 else 0):
            row = a * (a + 1) // 2
            for b in range(min(a + 1, pads[lane])):
                K[row + b, lane] = variance if a == b else 0.0


@njit(**_options)
def cholesky(size, K):
    """Factor packed lower triangles in place, two rows and two columns at a time."""
    odd = size % 2  # the first row is alone
    if odd:
        store(K, 0, inverse_root(load(K, 0)))
    for a in range(odd, size, 2):
        row0 = a * (a + 1) // 2
        row1 = row0 + a + 1
        if odd:
            store(K, row0, mul(load(K, row0), load(K, 0)))
            store(K, row1, mul(load(K, row1), load(K, 0)))
        for b in range(odd, a, 2):
            _cholesky_block(K, row0, row1, b)
        c00, c10, c11 = load(K, row0 + a), load(K, row1 + a), load(K, row1 + a + 1)
        for k in range(a):
            x0, x1 = load(K, row0 + k), load(K, row1 + k)
            c00, c10 = minus_product(c00, x0, x0), minus_product(c10, x1, x0)
            c11 = minus_product(c11, x1, x1)
        c00 = inverse_root(c00)
        c10 = mul(c10, c00)
        store(K, row0 + a, c00)
        store(K, row1 + a, c10)
        store(K, row1 + a + 1, inverse_root(minus_product(c11, c10, c10)))


@njit(**_inlined)
def _cholesky_block(K, row0, row1, b):
    """Finish columns b and b + 1 of two rows."""
    col0 = b * (b + 1) // 2
    col1 = col0 + b + 1
    c00, c01 = load(K, row0 + b), load(K, row0 + b + 1)
    c10, c11 = load(K, row1 + b), load(K, row1 + b + 1)
    for k in range(b):
        x0, x1 = load(K, row0 + k), load(K, row1 + k)
        y0, y1 = load(K, col0 + k), load(K, col1 + k)
        c00, c01 = minus_product(c00, x0, y0), minus_product(c01, x0, y1)
        c10, c11 = minus_product(c10, x1, y0), minus_product(c11, x1, y1)
    d0, e, d1 = load(K, col0 + b), load(K, col1 + b), load(K, col1 + b + 1)
    c00, c10 = mul(c00, d0), mul(c10, d0)
    store(K, row0 + b, c00)
    store(K, row1 + b, c10)
    store(K, row0 + b + 1, mul(minus_product(c01, c00, e), d1))
    store(K, row1 + b + 1, mul(minus_product(c11, c10, e), d1))


@njit(**_options)
def _sum_diagonal(n, K, totals):
    """Write the sums of the first n inverted pivots."""
    total = load(K, 0)
    for a in range(1, n):
        total = add(total, load(K, a * (a + 1) // 2 + a))
    store(totals, 0, total)


@njit(**_options)
def factor_group(kinds, variances, shapes, pads, size, n_checked, n_lengthscales, work, tried):
    """Factor the covariances of gathered inputs, with more jitter where that fails.

    Counts the jitters tried for each lane; -1 if even the largest failed, whose lane is garbage.
    """
    K, nuggets = work[3], work[4]
    variance, nugget = variances.sum(), nuggets[max(size - 2, 0) : size].max()
    jitter, step = np.zeros((1, LANES)), max(nugget, 1e-10 * variance)
    limit = 1.0 / math.sqrt(_ROUNDING * (variance + nugget))
    totals = np.empty((1, LANES))
    tried[:] = 0
    while True:
        pair_covariances(kinds, variances, shapes, size, n_lengthscales, work)
        _finish_diagonal(variance, pads, size, jitter, nuggets, K)
        cholesky(size, K)
        _sum_diagonal(n_checked, K, totals)
        settled = True
        for lane in range(LANES):
            if totals[0, lane] < limit or tried[lane] < 0:  # false if not a number, too
                continue
            tried[lane] += 1
            jitter[0, lane] = step * 10.0 ** tried[lane]
            if jitter[0, lane] > _LARGEST_JITTER * variance:
                tried[lane] = -1
            else:
                settled = False
        if settled:
            return


@njit(**_options)
def solve_upper(K, size, x):
    """Solve L^T z = x in place, for packed factors L."""
    for c in range(size - 1, -1, -1):
        row = c * (c + 1) // 2
        value = mul(load(x, c), load(K, row + c))
        store(x, c, value)
        for a in range(c):
            store(x, a, minus_product(load(x, a), load(K, row + a), value))


@njit(**_options)
def solve_lower(K, size, x):
    """Solve L z = x in place, for packed factors L."""
    for a in range(size):
        row = a * (a + 1) // 2
        value = load(x, a)
        for k in range(a):
            value = minus_product(value, load(K, row + k), load(x, k))
        store(x, a, mul(value, load(K, row + a)))


@njit(**_options)
def solve_lower_four(K, size, x0, x1, x2, x3):
    """Solve L z = x in place for four right-hand sides."""
    for a in range(size):
        row = a * (a + 1) // 2
        v0, v1, v2, v3 = load(x0, a), load(x1, a), load(x2, a), load(x3, a)
        for k in range(a):
            c = load(K, row + k)
            v0, v1 = minus_product(v0, c, load(x0, k)), minus_product(v1, c, load(x1, k))
            v2, v3 = minus_product(v2, c, load(x2, k)), minus_product(v3, c, load(x3, k))
        c = load(K, row + a)
        store(x0, a, mul(v0, c))
        store(x1, a, mul(v1, c))
        store(x2, a, mul(v2, c))
        store(x3, a, mul(v3, c))


@njit(**_options)
def dot(a, b, n):
    """Inner products of two sequences of values."""
    total = mul(load(a, 0), load(b, 0))
    for k in range(1, n):
        total = plus_product(total, load(a, k), load(b, k))
    return total


@njit(**_options)
def accumulate(out, i, value):
    """Add a value to value i of an array."""
    store(out, i, add(load(out, i), value))
