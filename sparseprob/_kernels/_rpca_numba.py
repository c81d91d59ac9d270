"""Robust PCA, one block of rows at a time: thresholds, dual update and sums in one pass.

In all kernels M is a block of the data, NaN where an entry is missing, and L the same block of the
low-rank part. Z is the matrix whose singular values come next; on missing entries it is L itself.
"""

import numpy as np
from numba import njit

_SUMS = {"reassoc"}  # sums of numbers that are not NaN, in any order: they are vectorized then


@njit(cache=True, nogil=True)
def summarize(M, sums, seen_columns, row_counts):
    """Add squares, magnitudes and the number of infinities to `sums`; return the largest |M|.

    The numbers of entries that are not NaN are added to `seen_columns` and set in `row_counts`.
    """
    largest = M.dtype.type(0)
    for i in range(M.shape[0]):
        row_counts[i] = 0
        for j in range(M.shape[1]):
            seen = M[i, j] == M[i, j]
            row_counts[i] += seen
            seen_columns[j] += seen
            largest = max(largest, abs(M[i, j]) if seen else largest)
        _add_magnitudes(M[i], sums)
    sums[2] += np.isinf(largest)
    return largest


@njit(cache=True, nogil=True, fastmath=_SUMS)
def _add_magnitudes(m, sums):
    squares, size = 0.0, 0.0
    for j in range(len(m)):
        if m[j] == m[j]:
            squares += np.float64(m[j]) * m[j]
            size += abs(m[j])
    sums[0] += squares
    sums[1] += size


@njit(cache=True, nogil=True)
def penalty_step(M, L, T, Z, bound, old, new, following, sums):
    """One step of the augmented Lagrangian in place; T holds sparse part and multiplier together.

    With penalty mu, ``T = M - L + Y_old / mu``, the multiplier is ``Y = mu clip(T)`` and the sparse
    part ``soft(T)``, both at ``bound / mu``. Arguments old, new and following are 1 / mu of the
    step before, this and the next. Adds to `sums` the squares of the residual M - L - S, |M - L|,
    squares of the change of S, and the number of entries of S.
    """
    limit_old, limit = bound * old, bound * new
    shrink, grow = new / old, following / new
    zero = limit * 0
    residual = np.empty(M.shape[1], M.dtype)
    change = np.empty(M.shape[1], M.dtype)
    for i in range(M.shape[0]):
        for j in range(M.shape[1]):
            m, low, t = M[i, j], L[i, j], T[i, j]
            missing = m != m
            y_old = min(max(t, -limit_old), limit_old)
            s_old = t - y_old
            y_old = y_old * shrink
            t = -low if missing else m - low + y_old
            y = min(max(t, -limit), limit)
            s = t - y
            T[i, j] = t
            Z[i, j] = low if missing else m - s + y * grow
            residual[j] = zero if missing else y - y_old
            change[j] = zero if missing else s - s_old
        _add_row(M[i], L[i], T[i], limit, residual, change, sums)


@njit(cache=True, nogil=True, fastmath=_SUMS)
def _add_row(m, low, t, limit, residual, change, sums):
    squares, moved, size, count = 0.0, 0.0, 0.0, 0
    for j in range(len(m)):
        squares += residual[j] * residual[j]
        moved += change[j] * change[j]
        seen = m[j] == m[j]
        size += abs(m[j] - low[j]) if seen else 0.0
        count += 1 if seen and abs(t[j]) > limit else 0
    sums[0] += squares
    sums[1] += size
    sums[2] += moved
    sums[3] += count


@njit(cache=True, nogil=True)
def penalty_matrix(M, T, Z, bound, new, following):
    """Compute Z of the next step from M and T, where it is not kept."""
    limit, grow = bound * new, following / new
    for i in range(M.shape[0]):
        for j in range(M.shape[1]):
            m, t = M[i, j], T[i, j]
            y = min(max(t, -limit), limit)
            Z[i, j] = -t if m != m else m - (t - y) + y * grow


@njit(cache=True, nogil=True)
def dual_matrix(M, T, Y, bound, new):
    """Compute the multiplier Y of |Y| <= bound from T; 0 on missing entries. Return <Y, M>."""
    limit, mu = bound * new, 1 / new
    zero = limit * 0
    total = 0.0
    for i in range(M.shape[0]):
        for j in range(M.shape[1]):
            y = mu * min(max(T[i, j], -limit), limit)
            Y[i, j] = zero if M[i, j] != M[i, j] else y
        total += _dot(M[i], Y[i])
    return total


@njit(cache=True, nogil=True, fastmath=_SUMS)
def _dot(m, y):
    total = 0.0
    for j in range(len(m)):
        total += m[j] * y[j] if m[j] == m[j] else 0.0
    return total


@njit(cache=True, nogil=True)
def keep_hard(M, L, Z, threshold, sums):
    """Z = M less its sparse part: the entries of M - L of at least `threshold` in size.

    Adds to `sums` the squares of what neither part explains, the sum of |M - L|, 0, and the number
    of sparse entries.
    """
    zero = threshold * 0
    residual = np.empty(M.shape[1], M.dtype)
    for i in range(M.shape[0]):
        count = 0
        for j in range(M.shape[1]):
            m, low = M[i, j], L[i, j]
            gross = abs(m - low) >= threshold
            z = low if gross or m != m else m
            Z[i, j] = z
            residual[j] = z - low if m == m else zero
            count += gross
        sums[3] += count
        _add_residual(M[i], L[i], residual, sums)


@njit(cache=True, nogil=True)
def keep_soft(M, L, Z, threshold, sums):
    """Z = M - soft(M - L); the sums of `keep_hard`, and third the sum of |S|."""
    zero = threshold * 0
    residual = np.empty(M.shape[1], M.dtype)
    for i in range(M.shape[0]):
        count = 0
        for j in range(M.shape[1]):
            m, low = M[i, j], L[i, j]
            part = min(max(m - low, -threshold), threshold)
            residual[j] = part if m == m else zero
            Z[i, j] = low + residual[j]
            count += abs(m - low) > threshold
        sums[3] += count
        _add_residual(M[i], L[i], residual, sums)


@njit(cache=True, nogil=True, fastmath=_SUMS)
def _add_residual(m, low, residual, sums):
    squares, size, rest = 0.0, 0.0, 0.0
    for j in range(len(m)):
        squares += residual[j] * residual[j]
        rest += abs(residual[j])
        size += abs(m[j] - low[j]) if m[j] == m[j] else 0.0
    sums[0] += squares
    sums[1] += size
    sums[2] += size - rest


@njit(cache=True, nogil=True)
def soft_entries(D, threshold, S):
    """Soft-threshold D into S; NaN gives 0. Return the number of entries that are not zero."""
    zero = threshold * 0
    count = 0
    for i in range(D.shape[0]):
        for j in range(D.shape[1]):
            d = D[i, j]
            large = abs(d) > threshold
            S[i, j] = d - min(max(d, -threshold), threshold) if large else zero
            count += large
    return count


@njit(cache=True, nogil=True)
def hard_entries(D, threshold, S):
    """Keep the entries of D of at least `threshold` > 0; NaN gives 0. Return their number."""
    zero = threshold * 0
    count = 0
    for i in range(D.shape[0]):
        for j in range(D.shape[1]):
            large = abs(D[i, j]) >= threshold
            S[i, j] = D[i, j] if large else zero
            count += large
    return count


@njit(cache=True, nogil=True)
def gather_nonzero(S, counts, indices, values):
    """Write the entries of S that are not zero, row by row; `counts` gets how many a row has."""
    at = 0
    for i in range(S.shape[0]):
        before = at
        for j in range(S.shape[1]):
            if S[i, j] != 0:
                indices[at] = j
                values[at] = S[i, j]
                at += 1
        counts[i] = at - before


@njit(cache=True, nogil=True)
def count_magnitudes(M, L, low, width, counts):
    """Add to a histogram of |M - L|; bin 0 is below `low`, the last bin takes all above."""
    last = len(counts) - 1
    for i in range(M.shape[0]):
        for j in range(M.shape[1]):
            d = abs(M[i, j] - L[i, j])
            if d == d:
                place = (d - low) / width
                at = 0 if place < 0 else (last if place >= last - 1 else 1 + int(place))
                counts[at] += 1
