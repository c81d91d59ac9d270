"""Orthogonal matching pursuit of one right-hand side through residuals, on the CPU.

One product with the whole matrix in each step, and nothing else of its size. Chosen columns are
made orthonormal by two passes of Gram-Schmidt.
"""

import numpy as np
from numba import njit, prange

from ._pursuit_rules import best_active, best_added
from ._pursuit_steps import ACTIVE, MAX_ITER, NO_DECREASE, RANK, TOL, ZERO

_options = {"cache": True, "fastmath": {"contract"}, "error_model": "numpy"}
_PIECE = 4096  # products that are added up together


@njit(**_options)
def dense_pursuit(A, by_columns, inverse, y, prices, limits, steps, t, n_threads):
    """Pursue the right-hand side y and write the outcome into row t of `steps`.

    Parameters
    ----------
    A : C-contiguous array of shape (M, N), or with `by_columns` its transpose (N, M)
    by_columns : bool
    inverse : real array of shape (N,)
        Inverse lengths of the columns; 0 for columns of zeros.
    y : array of shape (M,)
    prices : float64 array of shape (N,), or of shape (1,) for equal prices
    limits : Limits
    steps : Steps
    t, n_threads : int
    """
    M, N, K = len(y), len(inverse), steps.support.shape[1]
    Q, V = np.empty((K, M), dtype=y.dtype), np.zeros((K, K), dtype=steps.coef.dtype)
    support, x, with_path = steps.support[t], steps.coef[t], steps.largest.shape[1] > 0
    r, moduli, closed = y.copy(), np.empty(N, dtype=inverse.dtype), np.empty(N, dtype=np.int64)
    a, b, h = np.empty(M, dtype=y.dtype), np.empty(N, dtype=y.dtype), np.empty(K, dtype=V.dtype)
    square = _squared_length(r)
    k, n_closed, start, rounding = 0, 0, square, limits.negligible**2 * square
    while True:
        stop = ZERO if start <= 0 else TOL if square <= limits.tol else MAX_ITER if k == K else -1
        if stop >= 0 and not with_path:
            break
        if n_threads > 1:
            _shared_products(A, by_columns, np.conj(r), n_threads, b)
        else:
            _products(A, by_columns, np.conj(r), 0, N, b)
        _squared_moduli(b, inverse, moduli)
        for i in range(k):
            moduli[support[i]] = 0
        for i in range(n_closed):
            moduli[closed[i]] = 0
        if with_path:
            steps.squares[t, k], steps.largest[t, k] = square, np.sqrt(moduli.max())
        rival = best_active(limits.code, x, support, k, np.sqrt(square), prices)
        j, gain = best_added(limits.code, moduli, np.sqrt(square), prices)
        if stop < 0 and gain <= rival and rival > 0:
            stop = ACTIVE
        elif stop < 0 and (j < 0 or moduli[j] <= rounding):
            stop = RANK if n_closed > 0 else NO_DECREASE
        if stop >= 0:
            break
        for m in range(M):
            a[m] = inverse[j] * (A[j, m] if by_columns else A[m, j])
        if not _off_the_span(Q, k, a, h, limits.dependent):
            steps.dropped[t] = k if n_closed == 0 else steps.dropped[t]
            closed[n_closed] = j
            n_closed += 1
            continue
        _take(Q, V, k, a, h, r, x)
        support[k] = j
        k += 1
        square = _squared_length(r)
        if with_path:
            steps.coefs[t, k * (k - 1) // 2 : k * (k + 1) // 2] = x[:k]
    steps.count[t], steps.stop[t], steps.square[t] = k, stop, square


@njit(parallel=True, **_options)
def _shared_products(A, by_columns, u, n_parts, b):
    for part in prange(n_parts):
        first, last = len(b) * part // n_parts, len(b) * (part + 1) // n_parts
        _products(A, by_columns, u, first, last, b)


@njit(**_options)
def _products(A, by_columns, u, first, last, b):
    """Write the products of u with a range of the columns into b."""
    if by_columns:
        for j in range(first, last):
            b[j] = _dot(A[j], u)
    else:
        for start in range(first, last, _PIECE):
            _piece_of_products(A, u, start, min(start + _PIECE, last), b)


@njit(fastmath={"contract", "reassoc", "nsz"}, cache=True, error_model="numpy")
def _dot(v, u):  # in lanes: sums of products may come in any order
    total = v[0] * u[0]
    for m in range(1, len(u)):
        total += v[m] * u[m]
    return total


@njit(**_options)
def _piece_of_products(A, u, start, stop, b):
    piece, m = b[start:stop], 0
    piece[:] = 0
    while m + 8 <= len(u):
        _add_eight(A, u, m, start, stop, piece)
        m += 8
    while m < len(u):
        row = A[m, start:stop]
        for j in range(len(piece)):
            piece[j] += u[m] * row[j]
        m += 1


@njit(**_options)
def _add_eight(A, u, m, start, stop, piece):
    u0, u1, u2, u3 = u[m], u[m + 1], u[m + 2], u[m + 3]
    u4, u5, u6, u7 = u[m + 4], u[m + 5], u[m + 6], u[m + 7]
    a0, a1 = A[m, start:stop], A[m + 1, start:stop]
    a2, a3 = A[m + 2, start:stop], A[m + 3, start:stop]
    a4, a5 = A[m + 4, start:stop], A[m + 5, start:stop]
    a6, a7 = A[m + 6, start:stop], A[m + 7, start:stop]
    for j in range(len(piece)):
        first = u0 * a0[j] + u1 * a1[j] + u2 * a2[j] + u3 * a3[j]
        piece[j] += first + (u4 * a4[j] + u5 * a5[j] + u6 * a6[j] + u7 * a7[j])


@njit(**_options)
def _squared_length(v):
    total = 0.0
    for m in range(len(v)):
        total += np.float64(v[m].real) ** 2 + np.float64(v[m].imag) ** 2
    return total


@njit(**_options)
def _squared_moduli(b, inverse, moduli):
    for j in range(len(b)):
        u, v = b[j].real * inverse[j], b[j].imag * inverse[j]
        moduli[j] = u * u + v * v


@njit(**_options)
def _off_the_span(Q, k, a, h, dependent):
    """Make a orthogonal to k rows of Q and of unit length; h[:k] is its part along them.

    Returns whether there was enough of it left; h[k] is its length before it was scaled.
    """
    h[:k] = 0
    for _ in range(2):  # "twice is enough"
        for i in range(k):
            p = _dot(np.conj(Q[i]), a)
            h[i] += p
            for m in range(len(a)):
                a[m] -= p * Q[i, m]
    distance = _squared_length(a)
    if distance <= dependent:
        return False
    length = np.sqrt(distance)
    h[k] = length
    for m in range(len(a)):
        a[m] = a[m] / a.dtype.type(length)
    return True


@njit(**_options)
def _take(Q, V, k, q, h, r, x):
    """Extend the orthonormal rows, the inverse V of R in A_S = Q R, the fit and its residual."""
    Q[k] = q
    z = _dot(np.conj(q), r)
    for m in range(len(r)):
        r[m] -= z * q[m]
    length = h[k].real
    V[k, k] = 1 / length
    for i in range(k):
        value = V[i, i] * h[i]
        for m in range(i + 1, k):
            value += V[i, m] * h[m]
        V[i, k] = -value / length
    for i in range(k + 1):
        x[i] += V[i, k] * z
