"""Upper triangular matrices with sorted sparse columns, the diagonal last: solves and products."""

import numpy as np
from numba import njit, prange

_LANES = 8  # right-hand sides that share one pass over the columns


@njit(cache=True)
def row_view(indptr, indices):
    """Return row starts, column numbers and positions in the columns' data, row by row.

    Columns ascend in each row, so that the diagonal stands first.
    """
    n = indptr.shape[0] - 1
    row_starts = np.zeros(n + 1, dtype=np.int64)
    for t in range(indices.shape[0]):
        row_starts[indices[t] + 1] += 1
    for i in range(n):
        row_starts[i + 1] += row_starts[i]
    place = row_starts[:-1].copy()
    columns = np.empty(indices.shape[0], dtype=np.int32)
    positions = np.empty(indices.shape[0], dtype=np.int64)
    for j in range(n):
        for t in range(indptr[j], indptr[j + 1]):
            at = place[indices[t]]
            columns[at] = j
            positions[at] = t
            place[indices[t]] = at + 1
    return row_starts, columns, positions


@njit(cache=True)
def solve(indptr, indices, data, x):
    """Replace x (n,) by V^{-1} x."""
    for j in range(x.shape[0] - 1, -1, -1):
        last = indptr[j + 1] - 1
        x[j] /= data[last]
        for t in range(indptr[j], last):
            x[indices[t]] -= data[t] * x[j]


@njit(cache=True)
def solve_transposed(indptr, indices, data, x):
    """Replace x (n,) by V^{-T} x."""
    for j in range(x.shape[0]):
        last = indptr[j + 1] - 1
        total = x[j]
        for t in range(indptr[j], last):
            total -= data[t] * x[indices[t]]
        x[j] = total / data[last]


@njit(cache=True)
def solve_many(indptr, indices, data, X):
    """Replace X (n, k) by V^{-1} X."""
    for j in range(X.shape[0] - 1, -1, -1):
        last = indptr[j + 1] - 1
        X[j] /= data[last]
        for t in range(indptr[j], last):
            i = indices[t]
            for k in range(X.shape[1]):
                X[i, k] -= data[t] * X[j, k]


@njit(cache=True)
def solve_transposed_many(indptr, indices, data, X):
    """Replace X (n, k) by V^{-T} X."""
    for j in range(X.shape[0]):
        last = indptr[j + 1] - 1
        for t in range(indptr[j], last):
            i = indices[t]
            for k in range(X.shape[1]):
                X[j, k] -= data[t] * X[i, k]
        X[j] /= data[last]


@njit(cache=True)
def _compressed_product(indptr, indices, data, x, j):
    total = 0.0
    for t in range(indptr[j], indptr[j + 1]):
        total += data[t] * x[indices[t]]
    return total


@njit(cache=True)
def compressed_products(indptr, indices, data, x, out):
    """Write sum_t data[t] x[indices[t]] for each column into out (n,): the product V^T x.

    With the row view of V, and its data in that order, it is V x.
    """
    for j in range(indptr.shape[0] - 1):
        out[j] = _compressed_product(indptr, indices, data, x, j)


@njit(cache=True, parallel=True)
def compressed_products_parallel(indptr, indices, data, x, out):
    """Do as `compressed_products`, with many threads; for large matrices."""
    for j in prange(indptr.shape[0] - 1):
        out[j] = _compressed_product(indptr, indices, data, x, j)


@njit(cache=True, parallel=True)
def inverse_diagonal(indptr, indices, data, rows, work, out):
    """Write ||V^{-1} e_i||^2, the diagonal of (V V^T)^{-1}, for some rows i into out.

    Eight neighboring rows go through the columns together. work is (chunks, n, 8) of zeros; chunks
    of rows are worked on side by side and leave their part zero again.
    """
    n_groups = (rows.shape[0] + _LANES - 1) // _LANES
    n_chunks = work.shape[0]
    for chunk in prange(n_chunks):
        W = work[chunk]
        for group in range(chunk, n_groups, n_chunks):
            first = group * _LANES
            stop = min(first + _LANES, rows.shape[0])
            _squared_lengths(indptr, indices, data, rows[first:stop], W, out[first:stop])


@njit(cache=True)
def _squared_lengths(indptr, indices, data, rows, W, out):
    top = 0
    for lane in range(rows.shape[0]):
        W[rows[lane], lane] = 1.0
        top = max(top, rows[lane])
        out[lane] = 0.0
    total = np.zeros(_LANES)
    for j in range(top, -1, -1):
        size = 0.0
        for k in range(_LANES):
            size += abs(W[j, k])
        if size == 0.0:
            continue
        last = indptr[j + 1] - 1
        inverse = 1.0 / data[last]
        for k in range(_LANES):
            W[j, k] *= inverse
            total[k] += W[j, k] * W[j, k]
        for t in range(indptr[j], last):
            i = indices[t]
            for k in range(_LANES):
                W[i, k] -= data[t] * W[j, k]
        for k in range(_LANES):
            W[j, k] = 0.0
    out[:] = total[: rows.shape[0]]
