"""Dictionary updates of K-SVD on the CPU: residuals of codes, and atoms by power iterations.

M. Aharon, M. Elad, A. Bruckstein, "K-SVD", IEEE Trans. Signal Processing 54(11):4311-4322, 2006.
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from ._sparse_coding_numba import dot

_options = {"cache": True, "error_model": "numpy"}
_fused = {"fastmath": {"contract"}, **_options}
_BLOCK = 128  # users whose sums are formed together, whatever the number of threads
_TOGETHER = 16  # atoms whose share of one product is computed together
_LARGE = 2**19  # numbers of a residual for which a second thread pays


class Users(NamedTuple):
    """The entries of codes that are not zero, atom by atom, rows ascending."""

    starts: np.ndarray  # (k + 1,) int64
    rows: np.ndarray  # (m,) int32
    places: np.ndarray  # (m,) int64, in the flattened codes


def users_of_atoms(indices, values, n_atoms):
    """Return which rows use which atom.

    Parameters
    ----------
    indices, values : arrays of shape (n, s)
    n_atoms : int

    Returns
    -------
    Users
    """
    return Users(*_users(indices.ravel(), values.ravel(), n_atoms, max(1, indices.shape[1])))


@njit(**_options)
def _users(indices, values, n_atoms, width):
    starts = np.zeros(n_atoms + 1, dtype=np.int64)
    for e in range(len(indices)):
        starts[indices[e] + 1] += values[e] != 0
    for j in range(n_atoms):
        starts[j + 1] += starts[j]
    rows = np.empty(starts[-1], dtype=np.int32)
    places = np.empty(starts[-1], dtype=np.int64)
    free = starts[:-1].copy()
    for e in range(len(indices)):
        if values[e] != 0:
            at = free[indices[e]]
            rows[at], places[at] = e // width, e
            free[indices[e]] += 1
    return starts, rows, places


@njit(nogil=True, **_fused)
def keep_better_codes(A, D, new_indices, new_values, indices, values, R):
    """Replace the code of each row of A where that lowers its residual; write residuals to R.

    Parameters
    ----------
    A : C-contiguous array of shape (n, d)
    D : C-contiguous array of shape (k, d)
    new_indices, new_values : arrays of shape (n, s)
    indices, values : arrays of shape (n, s)
        Codes so far, changed in place.
    R : C-contiguous array of shape (n, d)
        Receives A - X D.
    """
    rest = np.empty_like(A[0])
    for t in range(len(A)):
        _residual(A[t], D, indices[t], values[t], R[t])
        _residual(A[t], D, new_indices[t], new_values[t], rest)
        if _square(rest) <= _square(R[t]):
            R[t] = rest
            indices[t], values[t] = new_indices[t], new_values[t]


@njit(**_fused)
def _residual(a, D, support, x, r):
    r[:] = a
    for i in range(len(support)):
        if x[i] != 0:
            _add(r, -x[i], D[support[i]])


@njit(**_fused)
def _add(r, factor, a):
    for j in range(len(r)):
        r[j] += factor * a[j]


@njit(fastmath={"reassoc", "contract"}, **_options)
def _square(r):
    total = 0.0
    for j in range(len(r)):
        total += np.float64(r[j]) * r[j]
    return total


def update_atoms(D, R, users, values, n_power_iterations, total):
    r"""Fit every atom in turn, and the coefficients of the rows that use it, all in place.

    With the users J of an atom and :math:`E = R_J + x_J a`, power iterations
    :math:`a \leftarrow E^T x_J / \|E^T x_J\|, x_J \leftarrow E a` approach the best rank-one fit;
    none of them makes the fit worse.

    Parameters
    ----------
    D : C-contiguous array of shape (k, d)
        Atoms of unit length.
    R : C-contiguous array of shape (n, d)
        Residuals A - X D.
    users : Users
    values : C-contiguous array of shape (n, s)
    n_power_iterations : int
        At least 1.
    total : callable or None
        Sums an array over ranks; None if there is one rank.
    """
    flat = values.reshape(-1)
    starts = users.starts.tolist()
    for j, (first, stop) in enumerate(zip(starts[:-1], starts[1:], strict=True)):
        if first == stop and total is None:
            continue
        rows, places = users.rows[first:stop], users.places[first:stop]
        large = len(rows) * D.shape[1] > _LARGE
        sums = _sums_by_threads if large else _sums
        a, v, x = D[j].copy(), D[j].copy(), flat[places]
        for step in range(n_power_iterations):
            w = sums(R, rows, x, a, v, step == 0)
            w = _direction(w if total is None else total(w), a)
            if w is None:
                break
            v = w
        if w is None:
            continue
        (_finish_by_threads if large else _finish)(R, rows, x, a, v)
        D[j], flat[places] = v, x


def _direction(sums, a):
    """Return the unit vector along E^T c, or None if that is zero."""
    w = sums[:-1] + sums[-1] * a
    length = np.sqrt(w @ w)
    return (w / length).astype(a.dtype) if length > 0 else None


@njit(**_options)
def _sums(R, rows, x, a, v, start):
    """Return R_J^T c and x_J^T c, where c is x_J at the start and E v later."""
    n_blocks = (len(rows) + _BLOCK - 1) // _BLOCK
    parts = np.zeros((n_blocks, R.shape[1] + 1), dtype=R.dtype)
    for p in range(n_blocks):
        _add_block(R, rows, x, dot(a, v, len(a)), v, start, p, parts[p])
    return _added(parts)


@njit(parallel=True, **_options)
def _sums_by_threads(R, rows, x, a, v, start):
    n_blocks = (len(rows) + _BLOCK - 1) // _BLOCK
    parts = np.zeros((n_blocks, R.shape[1] + 1), dtype=R.dtype)
    for p in prange(n_blocks):
        _add_block(R, rows, x, dot(a, v, len(a)), v, start, p, parts[p])
    return _added(parts)


@njit(**_options)
def _add_block(R, rows, x, overlap, v, start, p, part):
    d = len(v)
    for i in range(p * _BLOCK, min((p + 1) * _BLOCK, len(rows))):
        r = R[rows[i]]
        c = x[i] if start else dot(r, v, d) + x[i] * overlap
        _add(part[:d], c, r)
        part[d] += c * x[i]


@njit(**_options)
def _added(parts):
    total = np.zeros(parts.shape[1])
    for p in range(len(parts)):
        for j in range(len(total)):
            total[j] += parts[p, j]
    return total


@njit(**_options)
def _finish(R, rows, x, a, v):
    """Write x_J = E v and R_J = E - x_J v."""
    overlap = dot(a, v, len(a))
    for i in range(len(rows)):
        x[i] = _finish_row(R[rows[i]], x[i], overlap, a, v)


@njit(parallel=True, **_options)
def _finish_by_threads(R, rows, x, a, v):
    overlap = dot(a, v, len(a))
    for i in prange(len(rows)):
        x[i] = _finish_row(R[rows[i]], x[i], overlap, a, v)


@njit(**_fused)
def _finish_row(r, x, overlap, a, v):
    c = dot(r, v, len(v)) + x * overlap
    for j in range(len(r)):
        r[j] += x * a[j] - c * v[j]
    return c


def moments_of_codes(Y, indices, values, n_atoms):
    """Return the sums X^T X (k, k) and X^T Y (k, d) over rows Y of codes X, in double precision."""
    C, B = np.zeros((n_atoms, n_atoms)), np.zeros((n_atoms, Y.shape[1]))
    _add_moments(Y, indices, values, C, B)
    return C, B


@njit(nogil=True, **_fused)
def _add_moments(Y, indices, values, C, B):
    for t in range(len(Y)):
        for i in range(indices.shape[1]):
            x, c = np.float64(values[t, i]), C[indices[t, i]]
            if x != 0:
                for m in range(indices.shape[1]):
                    c[indices[t, m]] += x * values[t, m]
                _add(B[indices[t, i]], x, Y[t])


@njit(nogil=True, **_options)
def improve_atoms(D, C, B):
    r"""Lower :math:`tr(D^T C D) - 2 tr(B^T D)` over one atom of unit length after the other.

    With fixed codes X of rows Y, and C and B their moments, that is the squared error, and a step
    goes to the direction :math:`E^T x` of an atom, as the first power iteration of K-SVD does.

    Parameters
    ----------
    D : C-contiguous float64 array of shape (k, d)
        Atoms, changed in place; those of no weight in C stay.
    C : C-contiguous float64 array of shape (k, k)
    B : C-contiguous float64 array of shape (k, d)
    """
    k, d = D.shape
    old, w = np.empty((_TOGETHER, d)), np.empty(d)
    for first in range(0, k, _TOGETHER):
        stop = min(first + _TOGETHER, k)
        old[: stop - first] = D[first:stop]
        W = B[first:stop] - np.dot(C[first:stop], D)
        for j in range(first, stop):
            w[:] = W[j - first]
            for i in range(first, j):  # atoms that have changed since W was computed
                _add(w, C[j, i], old[i - first])
                _add(w, -C[j, i], D[i])
            _add(w, C[j, j], D[j])
            length = np.sqrt(_square(w))
            if C[j, j] > 0 and length > 0:
                for m in range(d):
                    D[j, m] = w[m] / length
