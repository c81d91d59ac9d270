"""Incomplete Cholesky factors without fill, and Gram matrices on the pattern of their factor."""

import numpy as np
from numba import njit, prange


@njit(cache=True)
def factor_without_fill(indptr, indices, data, floors, work):
    """Turn data from the upper triangle of Q into V, upper, with V V^T = Q on the pattern.

    Columns are finished from the last to the first, and each one is taken off those of its rows:
    a pass over them, with the finished column spread out in work (n,), zero before and after.
    Return -1, or the number of the column whose pivot was not above its floor.
    """
    for j in range(indptr.shape[0] - 2, -1, -1):
        first, last = indptr[j], indptr[j + 1] - 1
        if not data[last] > floors[j]:
            return j
        pivot = np.sqrt(data[last])
        data[last] = pivot
        for t in range(first, last):
            data[t] /= pivot
            work[indices[t]] = data[t]
        for t in range(first, last):
            column, factor = indices[t], data[t]
            for s in range(indptr[column], indptr[column + 1]):
                data[s] -= factor * work[indices[s]]
        for t in range(first, last):
            work[indices[t]] = 0.0
    return -1


@njit(cache=True, parallel=True)
def gram_columns(indptr, indices, data, row_starts, columns, positions, edges, places, out):
    """Write the entries of U U^T that are in the pattern of U into out, in its order.

    Column b of U U^T is the sum of the columns j of U that have an entry in row b, times it. edges
    are the first columns of chunks; places (chunks, n) of int32 -1 tell where a row stands in
    column b, and are -1 again at the end.
    """
    for chunk in prange(edges.shape[0] - 1):
        place = places[chunk]
        for b in range(edges[chunk], edges[chunk + 1]):
            start, stop = indptr[b], indptr[b + 1]
            for t in range(start, stop):
                place[indices[t]] = t - start
                out[t] = 0.0
            total = out[start:stop]
            for r in range(row_starts[b], row_starts[b + 1]):
                j, at = columns[r], positions[r]
                for s in range(indptr[j], at + 1):  # rows above b, and b itself
                    p = place[indices[s]]
                    if p >= 0:
                        total[p] += data[at] * data[s]
            for t in range(start, stop):
                place[indices[t]] = -1
