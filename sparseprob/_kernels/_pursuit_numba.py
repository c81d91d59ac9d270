"""Orthogonal matching pursuit through the Gram matrix, on the CPU ("batch OMP").

R. Rubinstein, M. Zibulevsky, M. Elad, "Efficient implementation of the K-SVD algorithm using batch
orthogonal matching pursuit", 2008. Rows of the Gram matrix that a right-hand side has chosen stay
in the cache from one of its steps to the next, and are added up in pieces that fit registers.
"""

import numpy as np
from numba import njit

from ._pursuit_rules import best_active, best_added
from ._pursuit_screen import can_screen, largest_sum, new_screen, screen
from ._pursuit_steps import ACTIVE, LOW_RESIDUAL, MAX_ITER, NO_DECREASE, RANK, TOL, ZERO

_options = {"cache": True, "fastmath": {"contract"}, "error_model": "numpy"}
_PIECE = 1024  # correlations that are worked on together


@njit(nogil=True, **_options)
def gram_pursuit(G, narrow_G, B, squares, prices, limits, steps):
    """Pursue each right-hand side by itself, without touching the measurement matrix.

    Parameters
    ----------
    G : C-contiguous array of shape (N, N)
        Gram matrix of unit columns; rows of zeros belong to columns of zeros.
    narrow_G : C-contiguous array of shape (N, N) or (0, 0)
        The same in single precision, to preselect columns with; empty to do without.
    B : C-contiguous array of shape (n, N)
        Conjugates of the correlations of the right-hand sides with the columns.
    squares : float64 array of shape (n,)
        Squared lengths of the right-hand sides.
    prices : float64 array of shape (N,), or of shape (1,) for equal prices
    limits : Limits
    steps : Steps
        Receives the outcome; its number of columns is the largest number of steps.
    """
    N, K = G.shape[0], steps.support.shape[1]
    b, moduli, every = np.empty(N, dtype=G.dtype), np.empty(N), np.arange(N)
    closed = np.empty(N, dtype=np.int64)
    L = np.empty((K, K), dtype=steps.coef.dtype)
    z, row = np.empty(K, dtype=L.dtype), np.empty(K, dtype=L.dtype)
    narrow = new_screen(narrow_G, K)
    memory = b, moduli, every, closed, L, z, row
    for t in range(B.shape[0]):
        _pursue(G, narrow_G, B[t], squares[t], prices, limits, steps, t, memory, narrow)


@njit(**_options)
def _pursue(G, narrow_G, b0, square, prices, limits, steps, t, memory, narrow):
    b, moduli, every, closed, L, z, row = memory
    support, x, K = steps.support[t], steps.coef[t], steps.support.shape[1]
    with_path = steps.largest.shape[1] > 0
    rho2, k, n_dropped = square, 0, 0
    screens = can_screen(narrow_G, square, prices)
    largest = largest_sum(b0)
    if screens:
        narrow[1][:] = b0
    while True:
        stop = _early_stop(k, K, rho2, square, limits, with_path)
        if stop >= 0 and not with_path:
            break
        near = -1
        if screens and k > 0:
            near = screen(G, narrow_G, b0, largest, support, x, k, narrow)
            screens = near >= 0
        if near < 0:
            _all_moduli(G, b0, support, x, k, b, moduli, closed, n_dropped)
        found, names = (narrow[5][:near], narrow[4][:near]) if near > 0 else (moduli, every)
        if with_path:
            steps.squares[t, k], steps.largest[t, k] = rho2, np.sqrt(found.max())
        if stop >= 0:
            break
        before, now = n_dropped, (k, rho2, square)
        rival = best_active(limits.code, x, support, k, np.sqrt(rho2), prices)
        fit = support, closed, L, row
        j, stop, n_dropped = _choose(G, prices, limits, found, names, fit, n_dropped, now, rival)
        if near > 0 and n_dropped > before:  # the next best need not be among the near ones
            screens = False
            _all_moduli(G, b0, support, x, k, b, moduli, closed, n_dropped)
            j, stop, n_dropped = _choose(
                G, prices, limits, moduli, every, fit, n_dropped, now, rival
            )
        if n_dropped > before and steps.dropped[t] < 0:
            steps.dropped[t] = k
        if stop >= 0:
            break
        rho2 -= _extend(G, b0, support, x, L, z, row, k, j)
        k += 1
        if with_path:
            steps.coefs[t, k * (k - 1) // 2 : k * (k + 1) // 2] = x[:k]
    steps.count[t], steps.stop[t], steps.square[t] = k, stop, max(rho2, 0.0)


@njit(**_options)
def _early_stop(k, K, rho2, square, limits, with_path):
    """Return why there is no further step, as far as residuals tell, or -1."""
    if square <= 0:
        return ZERO
    if k > 0 and rho2 < limits.low * square and (with_path or k < K):
        return LOW_RESIDUAL
    if rho2 <= limits.tol:
        return TOL
    return MAX_ITER if k == K else -1


@njit(**_options)
def _all_moduli(G, b0, support, x, k, b, moduli, closed, n_dropped):
    _correlations(G, b0, support, x, k, b)
    _squared_moduli(b, moduli, support, k)
    _close(moduli, closed, n_dropped)


@njit(**_options)
def _correlations(G, b0, support, x, k, b):
    """Write b = b0 - conj(x) G[support], the conjugate of the correlations with the residual.

    Pieces are swept to and fro: those that were worked on last are still in the cache.
    """
    N = len(b)
    n_pieces = (N + _PIECE - 1) // _PIECE
    for p in range(n_pieces):
        start = _PIECE * (p if k % 2 == 0 else n_pieces - 1 - p)
        stop = min(start + _PIECE, N)
        piece, source = b[start:stop], b0[start:stop]
        for j in range(len(piece)):  # faster than an assignment of slices
            piece[j] = source[j]
        i = 0
        while i + 8 <= k:
            _subtract_eight(G, support, x, i, start, stop, piece)
            i += 8
        while i < k:
            _subtract(piece, b.dtype.type(np.conj(x[i])), G[support[i], start:stop])
            i += 1


@njit(**_options)
def _subtract(piece, u, g):
    for j in range(len(piece)):
        piece[j] -= u * g[j]


@njit(**_options)
def _subtract_eight(G, support, x, i, start, stop, piece):
    scalar = piece.dtype.type
    u0, u1 = scalar(np.conj(x[i])), scalar(np.conj(x[i + 1]))
    u2, u3 = scalar(np.conj(x[i + 2])), scalar(np.conj(x[i + 3]))
    u4, u5 = scalar(np.conj(x[i + 4])), scalar(np.conj(x[i + 5]))
    u6, u7 = scalar(np.conj(x[i + 6])), scalar(np.conj(x[i + 7]))
    g0, g1 = G[support[i], start:stop], G[support[i + 1], start:stop]
    g2, g3 = G[support[i + 2], start:stop], G[support[i + 3], start:stop]
    g4, g5 = G[support[i + 4], start:stop], G[support[i + 5], start:stop]
    g6, g7 = G[support[i + 6], start:stop], G[support[i + 7], start:stop]
    for j in range(len(piece)):
        first = u0 * g0[j] + u1 * g1[j] + u2 * g2[j] + u3 * g3[j]
        piece[j] -= first + (u4 * g4[j] + u5 * g5[j] + u6 * g6[j] + u7 * g7[j])


@njit(**_options)
def _squared_moduli(b, moduli, support, k):
    for j in range(len(b)):
        moduli[j] = b[j].real * b[j].real + b[j].imag * b[j].imag
    _close(moduli, support, k)


@njit(**_options)
def _close(moduli, indices, n):
    for i in range(n):
        moduli[indices[i]] = 0


@njit(**_options)
def _choose(G, prices, limits, moduli, names, fit, n_dropped, now, rival):
    """Return the next column, or -1 and a reason; columns in the span of the support are closed.

    Entry i of `moduli` belongs to column ``names[i]``.
    """
    support, closed, L, row = fit
    k, rho2, square = now
    rounding = limits.negligible**2 * square
    while True:
        i, gain = best_added(limits.code, moduli, np.sqrt(rho2), prices)
        if gain <= rival and rival > 0:
            return i, ACTIVE, n_dropped
        if i < 0 or moduli[i] <= rounding:
            return i, RANK if n_dropped > 0 else NO_DECREASE, n_dropped
        j = names[i]
        if _solve_row(G, support, L, row, k, j) > limits.dependent * G[j, j].real:
            return j, -1, n_dropped
        closed[n_dropped] = j
        moduli[i] = 0
        n_dropped += 1


@njit(**_options)
def _solve_row(G, support, L, row, k, j):
    """Write the next row of the Cholesky factor; return the squared distance to the span."""
    distance = np.float64(G[j, j].real)
    for i in range(k):
        value = L.dtype.type(G[j, support[i]])
        for m in range(i):
            value -= row[m] * np.conj(L[i, m])
        value /= L[i, i].real
        row[i] = value
        distance -= value.real * value.real + value.imag * value.imag
    row[k] = np.sqrt(max(distance, 0.0))
    return distance


@njit(**_options)
def _extend(G, b0, support, x, L, z, row, k, j):
    """Take column j into the fit; return by how much the squared residual falls."""
    correlation = L.dtype.type(np.conj(b0[j]))  # in double precision whatever G is in
    for i in range(k):
        correlation -= G[j, support[i]] * x[i]
    L[k, : k + 1] = row[: k + 1]
    support[k] = j
    z[k] = correlation / row[k].real
    solve_transposed(L, z, k + 1, x)
    return z[k].real * z[k].real + z[k].imag * z[k].imag


@njit(**_options)
def solve_transposed(L, z, n, x):
    """Write the solution x of L^H x = z for the first n rows and columns of a lower triangle."""
    for i in range(n):
        x[i] = z[i]
    for i in range(n - 1, -1, -1):
        x[i] /= L[i, i].real
        for m in range(i):
            x[m] -= np.conj(L[i, m]) * x[i]
