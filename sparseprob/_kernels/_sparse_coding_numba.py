"""Codes of exactly s atoms for many rows, on the CPU: batch orthogonal matching pursuit.

R. Rubinstein, M. Zibulevsky, M. Elad, "Efficient implementation of the K-SVD algorithm using batch
orthogonal matching pursuit", 2008. Real numbers only; see `_pursuit_numba` for the general form.
"""

import numpy as np
from numba import njit

from ._pursuit_numba import _close, _correlations, solve_transposed
from ._sparse_coding_rules import atoms_together, tolerances

_options = {"cache": True, "error_model": "numpy"}
_PIECE = 32  # correlations whose largest is found at a time


def sparse_code(G, B, squares, n_nonzero):
    """Choose `n_nonzero` atoms for every row, and their least-squares coefficients.

    Up to 127 atoms a row are chosen one by one; for more of them, `atoms_together` of the largest
    correlations come in at once. Atoms that depend on those chosen, and correlations that are
    rounding errors, are left out: their places hold atoms not chosen, with coefficients of zero.

    Parameters
    ----------
    G : C-contiguous array of shape (k, k)
        Gram matrix of the atoms, of unit length.
    B : C-contiguous array of shape (n, k)
        Correlations of the rows with the atoms.
    squares : float64 array of shape (n,)
        Squared lengths of the rows.
    n_nonzero : int
        At most k.

    Returns
    -------
    indices : int32 array of shape (n, n_nonzero)
        All different within a row.
    values : array of shape (n, n_nonzero)
        Of the type of B.
    """
    indices = np.empty((len(B), n_nonzero), dtype=np.int32)
    values = np.empty((len(B), n_nonzero), dtype=B.dtype)
    negligible, dependent = tolerances(B.dtype)
    _code_rows(
        G, B, squares, atoms_together(n_nonzero), negligible, dependent, indices, values
    )  # fmt: skip
    return indices, values


@njit(nogil=True, **_options)
def _code_rows(G, B, squares, n_together, negligible, dependent, indices, values):
    k, s = G.shape[0], indices.shape[1]
    b, chosen = np.empty(k, dtype=B.dtype), np.zeros(k, dtype=np.bool_)
    support, L = np.empty(s, dtype=np.int64), np.empty((s, s))
    memory = b, L, np.empty(s), np.empty(s)
    x = np.empty(s)
    for t in range(len(B)):
        floor = negligible * np.sqrt(squares[t])
        n = _code(G, B[t], floor, n_together, dependent, support, x, memory)
        _fill(support, n, chosen)
        for i in range(s):  # faster than assignments of slices
            indices[t, i] = support[i]
            values[t, i] = x[i] if i < n else 0


@njit(**_options)
def _code(G, b0, floor, n_together, dependent, support, x, memory):
    """Pursue one row; return the number of atoms."""
    b, L, row, z = memory
    n, s = 0, len(support)
    while n < s:
        _correlations(G, b0, support, x, n, b)
        _close(b, support, n)
        first = n
        while n < min(first + n_together, s):
            j = _first_largest(b)
            if not abs(b[j]) > floor:
                break
            b[j] = 0
            if _solve_row(G, support, L, row, n, j) <= dependent * G[j, j]:
                continue
            z[n] = _new_coordinate(G, b0, support, x, row, z, first, n, j)
            for i in range(n + 1):
                L[n, i] = row[i]
            support[n] = j
            n += 1
        if n == first:
            break
        solve_transposed(L, z, n, x)
    return n


@njit(**_options)
def _new_coordinate(G, b0, support, x, row, z, first, n, j):
    """Coordinate of a row along the new orthonormal direction.

    It is the correlation with what the `first` atoms leave, less what those since then take.
    """
    value = np.float64(b0[j])  # in double precision whatever G is in
    for i in range(first):
        value -= G[j, support[i]] * x[i]
    for i in range(first, n):
        value -= row[i] * z[i]
    return value / row[n]


@njit(**_options)
def _solve_row(G, support, L, row, n, j):
    """Write the next row of the Cholesky factor; return the squared distance to the span."""
    distance = np.float64(G[j, j])
    for i in range(n):
        row[i] = (G[j, support[i]] - dot(L[i], row, i)) / L[i, i]
        distance -= row[i] * row[i]
    row[n] = np.sqrt(max(distance, 0.0))
    return distance


@njit(**_options)
def _first_largest(b):
    """Return the first index of the largest magnitude; numbers are finite."""
    largest, block = b[0] * 0, 0
    for start in range(0, len(b), _PIECE):
        of_block = _largest(b[start : min(start + _PIECE, len(b))])
        if of_block > largest:
            largest, block = of_block, start
    for j in range(block, min(block + _PIECE, len(b))):
        if abs(b[j]) == largest:
            return j
    return 0


@njit(fastmath={"nnan", "nsz"}, **_options)
def _largest(b):
    """Return the largest magnitude; without NaN the order of comparisons is free."""
    largest = abs(b[0])
    for j in range(len(b)):
        size = abs(b[j])
        largest = size if size > largest else largest
    return largest


@njit(fastmath={"reassoc", "contract"}, **_options)
def dot(a, b, n):
    """Return the product of the first n entries; partial sums run side by side."""
    total = a[0] * 0
    for i in range(n):
        total += a[i] * b[i]
    return total


@njit(**_options)
def _fill(support, n, chosen):
    """Let the places behind the first n hold the first atoms that are not chosen."""
    if n == len(support):
        return
    for i in range(n):
        chosen[support[i]] = True
    j = 0
    for i in range(n, len(support)):
        while chosen[j]:
            j += 1
        support[i] = j
        j += 1
    for i in range(n):
        chosen[support[i]] = False
