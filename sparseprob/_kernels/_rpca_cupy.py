"""Robust PCA, one block of rows at a time, as formulas over whole arrays; see the Numba twin."""

import numpy as np

from .._arrays import compute_namespace


def summarize(M, sums, seen_columns, row_counts):
    """Add squares, magnitudes and the number of infinities to `sums`; return the largest |M|."""
    xp = compute_namespace(M)
    seen = ~xp.isnan(M)
    size = xp.where(seen, abs(M), 0)
    seen_columns += seen.sum(axis=0)
    row_counts[...] = seen.sum(axis=1)
    sums[0] += float((size.astype(np.float64) ** 2).sum())
    sums[1] += float(size.sum(dtype=np.float64))
    largest = float(size.max())
    sums[2] += np.isinf(largest)
    return largest


def penalty_step(M, L, T, Z, bound, old, new, following, sums):
    """One step of the augmented Lagrangian in place; T holds sparse part and multiplier."""
    xp = compute_namespace(M)
    missing, limit, zero = xp.isnan(M), bound * new, M.dtype.type(0)
    y_old = xp.clip(T, -bound * old, bound * old)
    s_old = T - y_old
    y_old *= new / old
    D = M - L
    T[...] = xp.where(missing, -L, D + y_old)
    y = xp.clip(T, -limit, limit)
    s = T - y
    Z[...] = xp.where(missing, L, M - s + y * (following / new))
    residual = xp.where(missing, zero, y - y_old)
    change = xp.where(missing, zero, s - s_old)
    sums[0] += _squares(residual)
    sums[1] += float(xp.where(missing, zero, abs(D)).sum(dtype=np.float64))
    sums[2] += _squares(change)
    sums[3] += float(((abs(T) > limit) & ~missing).sum())


def penalty_matrix(M, T, Z, bound, new, following):
    """Compute Z of the next step from M and T, where it is not kept."""
    xp = compute_namespace(M)
    y = xp.clip(T, -bound * new, bound * new)
    Z[...] = xp.where(xp.isnan(M), -T, M - (T - y) + y * (following / new))


def dual_matrix(M, T, Y, bound, new):
    """Compute the multiplier Y of |Y| <= bound from T; 0 on missing entries. Return <Y, M>."""
    xp = compute_namespace(M)
    missing = xp.isnan(M)
    Y[...] = xp.where(missing, M.dtype.type(0), xp.clip(T, -bound * new, bound * new) / new)
    return float((xp.where(missing, M.dtype.type(0), M) * Y).sum(dtype=np.float64))


def keep_hard(M, L, Z, threshold, sums):
    """Z = M less its sparse part: the entries of M - L of at least `threshold` in size."""
    xp = compute_namespace(M)
    missing = xp.isnan(M)
    gross = abs(M - L) >= threshold
    Z[...] = xp.where(gross | missing, L, M)
    _add(sums, M, L, Z, missing, gross)


def keep_soft(M, L, Z, threshold, sums):
    """Z = M - soft(M - L); the sums of `keep_hard`, and third the sum of |S|."""
    xp = compute_namespace(M)
    missing, D = xp.isnan(M), M - L
    Z[...] = xp.where(missing, L, L + xp.clip(D, -threshold, threshold))
    _add(sums, M, L, Z, missing, abs(D) > threshold)


def _add(sums, M, L, Z, missing, large):
    xp = compute_namespace(M)
    zero = M.dtype.type(0)
    residual = xp.where(missing, zero, Z - L)
    size = float(xp.where(missing, zero, abs(M - L)).sum(dtype=np.float64))
    sums[0] += _squares(residual)
    sums[1] += size
    sums[2] += size - float(abs(residual).sum(dtype=np.float64))
    sums[3] += float(large.sum())


def soft_entries(D, threshold, S):
    """Soft-threshold D into S; NaN gives 0. Return the number of entries that are not zero."""
    xp = compute_namespace(D)
    large = abs(D) > threshold
    S[...] = xp.where(large, D - xp.clip(D, -threshold, threshold), D.dtype.type(0))
    return int(large.sum())


def hard_entries(D, threshold, S):
    """Keep the entries of D of at least `threshold` > 0; NaN gives 0. Return their number."""
    xp = compute_namespace(D)
    large = abs(D) >= threshold
    S[...] = xp.where(large, D, D.dtype.type(0))
    return int(large.sum())


def count_magnitudes(M, L, low, width, counts):
    """Add to a histogram of |M - L|; bin 0 is below `low`, the last bin takes all above."""
    xp = compute_namespace(M)
    last = len(counts) - 1
    place = (abs(M - L).astype(np.float64) - low) / width
    place = place[~xp.isnan(place)]
    at = xp.where(place < 0, 0, xp.where(place >= last - 1, last, 1 + xp.trunc(place)))
    found = xp.bincount(xp.clip(at, 0, last).astype(np.int64), minlength=last + 1)
    counts += found.get() if hasattr(found, "get") else found


def _squares(A):
    return float((A.astype(np.float64, copy=False) ** 2).sum())
