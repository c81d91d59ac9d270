"""Online robust PCA, row after row: robust coordinates of a row, then the basis moves.

In all kernels Z is a block of rows, NaN where an entry is missing, and the basis has its vectors as
rows: D (k, p) for OR-PCA, orthonormal U (k, p) for GRASTA. Rows of zeros say nothing and change
nothing.
"""

import math

import numpy as np
from numba import njit

_SUMS = {"reassoc"}  # sums of finite numbers, in any order: they are vectorized then
_SLICE = 512  # features of a column pass that stay in the cache
_RIDGE = 1e-12  # of least squares in an orthonormal basis, should few entries be there
_START_RIDGE = 1e-3  # of the code that GRASTA starts from
_ORTHONORMALIZE_EVERY = 100


@njit(cache=True, nogil=True)
def learn_dictionary(Z, D, A, B, lam, forgetting, tol, max_steps):
    """OR-PCA in place, for the rows of Z in turn; return how many codes missed `tol`.

    A (k, k) and B (k, p), in double precision, sum codes times codes, and codes times rows less
    their gross errors.
    """
    k, p = D.shape
    code = np.empty(k, D.dtype)
    clean, work = np.empty(p, D.dtype), np.empty((3, p), D.dtype)
    scaled, H, K = np.empty_like(D), np.empty((k, k), D.dtype), np.empty((k, k))
    step, change = np.empty(k), np.empty(p)
    missed = 0
    for t in range(Z.shape[0]):
        z = Z[t]
        if _is_empty(z):
            continue
        missed += not _robust_code(z, D, lam, lam, tol, max_steps, code, work, scaled, H, K, step)
        np.dot(code, D, clean)
        _add_clipped(z, clean, lam)
        for i in range(k):
            for j in range(k):
                A[i, j] = forgetting * A[i, j] + np.float64(code[i]) * code[j]
            _decay_and_add(B[i], clean, forgetting, code[i])
        _column_pass(D, A, B, lam, change)
    return missed


@njit(cache=True, nogil=True)
def _is_empty(z):
    for j in range(len(z)):
        if z[j] != 0 and z[j] == z[j]:
            return False
    return True


@njit(cache=True, nogil=True)
def _count(z):
    """Number of entries that are not missing."""
    seen = 0
    for j in range(len(z)):
        seen += z[j] == z[j]
    return seen


@njit(cache=True, nogil=True)
def _add_clipped(z, fitted, lam):
    """The row less its gross errors, in place of `fitted`, which stays where z is missing."""
    for j in range(len(z)):
        if z[j] == z[j]:
            fitted[j] += min(max(z[j] - fitted[j], -lam), lam)


@njit(cache=True, nogil=True)
def _decay_and_add(b, clean, forgetting, weight):
    for j in range(len(b)):
        b[j] = forgetting * b[j] + weight * clean[j]


@njit(cache=True, nogil=True)
def _column_pass(D, A, B, lam, change):
    """Minimize the surrogate over one vector of the basis after the other, features by slices."""
    k, p = D.shape
    for start in range(0, p, _SLICE):
        stop = min(start + _SLICE, p)
        for j in range(k):
            for i in range(start, stop):
                change[i] = B[j, i] - lam * D[j, i]
            for m in range(k):
                weight = A[m, j]
                for i in range(start, stop):
                    change[i] -= weight * D[m, i]
            scale = 1 / (A[j, j] + lam)
            for i in range(start, stop):
                D[j, i] += scale * change[i]


@njit(cache=True, nogil=True)
def _robust_code(z, D, lam, ridge, tol, max_steps, code, work, scaled, H, K, step):
    """Minimize sum_j huber(z_j - (D' code)_j) + ridge / 2 |code|^2; whether it was reached.

    The minimum over the gross errors e of |z - D' code - e|^2 / 2 + lam |e|_1 is Huber's function.
    Reweighted least squares come near; then Newton steps, taken back if they do not descend.
    """
    residual, moved, clipped = work[0], work[1], work[2]
    for j in range(len(z)):
        residual[j] = z[j] if z[j] == z[j] else 0.0
    code[:] = 0
    limit = lam * math.sqrt(_count(z))
    sharp, value = False, _huber(residual, lam)
    for _ in range(max_steps):
        _weigh(z, residual, D, lam, sharp, clipped, scaled)
        np.dot(scaled, D.T, H)
        for i in range(len(code)):
            step[i] = _dot(D[i], clipped) - ridge * code[i]
            for j in range(len(code)):
                K[i, j] = H[i, j]
            K[i, i] += ridge
        _solve(K, step)
        for i in range(len(code)):
            code[i] += step[i]
        size = _move(z, D, code, residual, moved)
        before, value = value, _huber(residual, lam) + 0.5 * ridge * _dot(code, code)
        if sharp and value > before:
            for i in range(len(code)):
                code[i] -= step[i]
            _move(z, D, code, residual, moved)
            sharp, value = False, before
            continue
        if size <= tol * limit:
            return True
        sharp = size <= limit
    return False


@njit(cache=True, nogil=True)
def _weigh(z, residual, D, lam, sharp, clipped, scaled):
    """Clip the residual, and scale features by the second derivative of the loss or its bound."""
    for j in range(len(z)):
        clipped[j] = min(max(residual[j], -lam), lam)
        size = abs(residual[j])
        weight = 1.0 if size <= lam else (0.0 if sharp else lam / size)
        if z[j] != z[j]:
            weight = 0.0
        scaled[0, j] = weight
    for i in range(D.shape[0] - 1, -1, -1):
        for j in range(D.shape[1]):
            scaled[i, j] = scaled[0, j] * D[i, j]


@njit(cache=True, nogil=True)
def _move(z, D, code, residual, moved):
    """Residual of a new code; the norm of its change."""
    np.dot(code, D, moved)
    for j in range(len(z)):
        new = z[j] - moved[j] if z[j] == z[j] else residual[j]
        moved[j] = new - residual[j]
        residual[j] = new
    return math.sqrt(_dot(moved, moved))


@njit(cache=True, nogil=True, fastmath=_SUMS)
def _dot(a, b):
    total = 0.0
    for j in range(len(a)):
        total += np.float64(a[j]) * b[j]
    return total


@njit(cache=True, nogil=True, fastmath=_SUMS)
def _huber(residual, lam):
    total = 0.0
    for j in range(len(residual)):
        size = np.float64(abs(residual[j]))
        inside = min(size, lam)
        total += inside * (size - 0.5 * inside)
    return total


@njit(cache=True, nogil=True)
def _factor(K):
    """Cholesky factor of a small matrix, in place of its lower half."""
    for j in range(len(K)):
        for i in range(j, len(K)):
            total = K[i, j]
            for m in range(j):
                total -= K[i, m] * K[j, m]
            K[i, j] = math.sqrt(max(total, 1e-300)) if i == j else total / K[j, j]


@njit(cache=True, nogil=True)
def _substitute(K, x):
    """Solve with the factor, in place of the right-hand side."""
    for i in range(len(x)):
        for m in range(i):
            x[i] -= K[i, m] * x[m]
        x[i] /= K[i, i]
    for i in range(len(x) - 1, -1, -1):
        for m in range(i + 1, len(x)):
            x[i] -= K[m, i] * x[m]
        x[i] /= K[i, i]


@njit(cache=True, nogil=True)
def _solve(K, x):
    _factor(K)
    _substitute(K, x)


@njit(cache=True, nogil=True)
def track_subspace(Z, U, A, state, lam, forgetting, step, tol, max_steps, n_passes):
    """GRASTA in place, for the rows of Z in turn.

    A (k, k) sums weights times weights; `state` has the number of rows, as how many U counts, how
    many are remembered, and the sum of their squares. A row that has no more entries than there are
    weights says nothing about U.
    """
    k, p = U.shape
    weights, right = np.empty(k, U.dtype), np.empty(k)
    work, split, scaled = np.empty((3, p), U.dtype), np.empty((2, p), U.dtype), np.empty_like(U)
    H, K = np.empty((k, k), U.dtype), np.empty((k, k))
    for t in range(Z.shape[0]):
        z = Z[t]
        if _is_empty(z) or _count(z) <= k:
            continue
        _robust_code(z, U, lam, _START_RIDGE, tol, max_steps, weights, work, scaled, H, K, right)
        _split_row(z, U, lam, n_passes, weights, split, work, scaled, K, right)
        squares = _dot(weights, weights)
        state[0] += 1
        state[1] = forgetting * state[1] + 1
        state[2] = forgetting * state[2] + 1
        state[3] = forgetting * state[3] + squares
        for i in range(k):
            for j in range(k):
                A[i, j] = forgetting * A[i, j] + np.float64(weights[i]) * weights[j]
        length = math.sqrt(squares / max(state[3] / state[2], 1e-300))
        _turn(U, weights, split[1], work[0], step * length / (1 + state[1]))
        if state[0] % _ORTHONORMALIZE_EVERY == 0:
            _orthonormalize(U)


@njit(cache=True, nogil=True)
def _split_row(z, U, lam, n_passes, weights, split, work, scaled, K, right):
    """Minimize |z - U' w|_1 by alternating directions of penalty 1 / lam, from a robust code.

    It starts with the split and the multiplier of that code, whose residual is in work[0]; large
    errors would take many passes from zeros. In the end split[1] is the gradient of the augmented
    Lagrangian by U' w, 0 where z is missing.
    """
    s, y, residual, rest = split[0], split[1], work[0], work[2]
    for j in range(len(z)):
        part = min(max(residual[j], -lam), lam)
        s[j], y[j] = residual[j] - part, -part / lam
        for i in range(len(weights)):
            scaled[i, j] = U[i, j] if z[j] == z[j] else 0.0
    for i in range(len(weights)):
        for j in range(len(weights)):
            K[i, j] = _dot(scaled[i], U[j])
        K[i, i] += _RIDGE
    _factor(K)
    for _ in range(n_passes):
        for j in range(len(z)):
            rest[j] = z[j] - s[j] - lam * y[j] if z[j] == z[j] else 0.0
        for i in range(len(weights)):
            right[i] = _dot(scaled[i], rest)
        _substitute(K, right)
        weights[:] = right
        np.dot(weights, scaled, work[1])
        _split_step(z, work[1], lam, s, y, rest)
    for j in range(len(z)):
        y[j] += rest[j]


@njit(cache=True, nogil=True)
def _split_step(z, fitted, lam, s, y, rest):
    """Gross errors and multiplier after a change of the weights; `rest` is what y grew by."""
    for j in range(len(z)):
        if z[j] == z[j]:
            free = z[j] - fitted[j] - lam * y[j]
            s[j] = free - min(max(free, -lam), lam)
            rest[j] = (fitted[j] + s[j] - z[j]) / lam
            y[j] += rest[j]


@njit(cache=True, nogil=True)
def _turn(U, weights, gradient, fitted, angle_of_unit):
    """Move U along the geodesic of the gradient of |z - U' w|_1, by at most a radian."""
    k, p = U.shape
    for i in range(k):
        part = _dot(U[i], gradient)
        for j in range(p):
            gradient[j] -= part * U[i, j]
    norm, length = math.sqrt(_dot(gradient, gradient)), math.sqrt(_dot(weights, weights))
    if norm == 0 or length == 0:
        return
    angle = min(angle_of_unit * norm / math.sqrt(p), 1.0)
    np.dot(weights, U, fitted)
    cosine, sine = math.cos(angle) - 1, math.sin(angle)
    for i in range(k):
        along = weights[i] / length
        for j in range(p):
            U[i, j] += (cosine * fitted[j] / length - sine * gradient[j] / norm) * along


@njit(cache=True, nogil=True)
def _orthonormalize(U):
    """Gram-Schmidt on the rows of U, in place, twice."""
    for _ in range(2):
        for i in range(len(U)):
            for m in range(i):
                part = _dot(U[m], U[i])
                for j in range(U.shape[1]):
                    U[i, j] -= part * U[m, j]
            norm = math.sqrt(_dot(U[i], U[i]))
            for j in range(U.shape[1]):
                U[i, j] /= norm
