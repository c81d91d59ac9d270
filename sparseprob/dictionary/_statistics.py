"""Sufficient statistics in one packed buffer, and a one-pass summary of the rows of X."""

from typing import NamedTuple

import numpy as np

from .. import mpi
from .._arrays import compute_namespace, to_numpy
from .._threads import over_chunks


class Statistics:
    """Named sums over rows as views into one contiguous float64 buffer, ready for `row_sum`."""

    def __init__(self, shapes, xp=np, buffer=None):
        sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
        self.shapes = dict(shapes)
        self.buffer = xp.zeros(sum(sizes.values())) if buffer is None else buffer
        self._views, start = {}, 0
        for name, size in sizes.items():
            self._views[name] = self.buffer[start : start + size].reshape(shapes[name])
            start += size

    def __getitem__(self, name):
        return self._views[name]

    def __setitem__(self, name, value):  # so that `statistics["x"] += value` adds in place
        if value is not self._views[name]:
            self._views[name][...] = value

    def summed(self):
        """Return the statistics of all ranks, on the host."""
        return Statistics(self.shapes, buffer=mpi.row_sum(to_numpy(self.buffer)))

    def add(self, other):
        """Add the sums of other rows."""
        self.buffer += other.buffer

    def blended(self, other, weight):
        """Return (1 - weight) * self + weight * other."""
        buffer = (1 - weight) * self.buffer + weight * other.buffer
        return Statistics(self.shapes, buffer=buffer)


class RowSummary(NamedTuple):
    """What one pass over all rows (of all ranks) tells; float64, on the host."""

    n_rows: int
    mean: np.ndarray  # (D,)
    variance: np.ndarray  # (D,)
    sum_of_squares: float
    largest_norm: float  # of a row, squared
    offset: int  # global index of this rank's first row
    n_local: int
    n_observed: np.ndarray  # (D,), rows in which a feature was observed


def summarize_rows(X, batch_size, dtype, *, missing=False):
    """Summarize X and refuse NaN, infinity and ranks that disagree on the number of features.

    If `missing`, NaN marks entries not observed, and moments are those of the observed entries.
    """
    n_features = mpi.all_gather(int(X.shape[1]))
    if len(set(n_features)) > 1:
        raise ValueError(
            f"Every rank must pass the same number of features, got {n_features} by rank; "
            "give each rank rows of the same data."
        )
    counts = mpi.all_gather(int(X.shape[0]))
    offset, n_rows = sum(counts[: mpi.rank()]), sum(counts)
    if n_rows == 0:
        raise ValueError("Found array with 0 sample(s) on all ranks, at least 1 is required.")

    def take(start, Y, moments):
        Y, mask = checked_rows(Y, start + offset, missing)
        moments.add(Y, mask)

    with mpi.errors_together():
        moments, *others = over_chunks(take, X, batch_size, dtype, lambda: _Moments(X.shape[1]))
        for other in others:
            moments.merge(other.count, other.mean, other.scatter)
            moments.squares += other.squares
            moments.largest = max(moments.largest, other.largest)
    total, squares, n_observed = mpi.row_sum(
        moments.mean * moments.count, np.array(moments.squares), moments.count
    )
    if not n_observed.all():
        raise ValueError(
            f"Feature {int(n_observed.argmin())} of X is missing in every row; drop the column."
        )
    common = total / n_observed
    scatter = mpi.row_sum(moments.scatter + moments.count * (moments.mean - common) ** 2)
    return RowSummary(
        n_rows, common, scatter / n_observed, float(squares), mpi.row_max(moments.largest), offset,
        X.shape[0], n_observed,
    )  # fmt: skip


class _Moments:
    """Count, mean and scatter of each feature, sum of squares and largest squared norm so far."""

    def __init__(self, n_features):
        self.squares, self.largest = 0.0, 0.0
        self.count, self.mean, self.scatter = np.zeros((3, n_features))

    def add(self, Y, mask=None):
        """Take in rows, zero where `mask` is."""
        xp, norms = compute_namespace(Y), squared_norms(Y)
        count = np.full(Y.shape[1], float(len(Y)))
        if mask is not None:
            count = to_numpy(mask.sum(axis=0, dtype=np.float64))
        mean = to_numpy(Y.sum(axis=0, dtype=np.float64)) / np.maximum(count, 1)
        centred = Y - xp.asarray(mean, dtype=Y.dtype)
        if mask is not None:
            centred *= mask
        scatter = to_numpy(xp.einsum("nd,nd->d", centred, centred)).astype(np.float64)
        self.merge(count, mean, scatter)
        self.squares += float(norms.sum())
        self.largest = max(self.largest, float(norms.max()))

    def merge(self, count, mean, scatter):
        """Take in other rows (T. F. Chan, G. H. Golub, R. J. LeVeque, 1983)."""
        both, step = self.count + count, mean - self.mean
        share = count / np.maximum(both, 1)
        self.scatter = self.scatter + scatter + step**2 * self.count * share
        self.mean, self.count = self.mean + step * share, both


def checked_rows(Y, first, missing):
    """Refuse rows that cannot be computed with; return them, and their mask if `missing`.

    `first` is the global number of the first row.
    """
    if not missing:
        refuse_non_finite(Y, squared_norms(Y), first)
        return Y, None
    filled, mask = observed_part(Y)
    refuse_non_finite(filled, squared_norms(filled), first)
    n_observed = to_numpy(mask.sum(axis=1))
    if len(Y) and not n_observed.all():
        raise ValueError(
            f"Every entry of row {int(n_observed.argmin()) + first} of X is missing; drop the row."
        )
    return filled, mask


def observed_part(Y):
    """Rows with zero where an entry is NaN, and 1 where it is observed, 0 where not."""
    xp = compute_namespace(Y)
    absent = xp.isnan(Y)
    return xp.where(absent, Y.dtype.type(0), Y), (~absent).astype(Y.dtype)


def squared_norms(Y):
    """Squared norms of the rows, summed in float64 without a float64 copy of Y."""
    if isinstance(Y, np.ndarray):
        return np.einsum("nd,nd->n", Y, Y, dtype=np.float64)
    import cupy

    kernel = cupy.ReductionKernel(
        "T x", "float64 y", "(double)x * (double)x", "a + b", "y = a", "0", "squared_norms"
    )
    return kernel(Y, axis=1)


def refuse_non_finite(Y, norms, offset):
    """Raise a ValueError naming the first row (global index) with NaN or infinity."""
    xp = compute_namespace(Y)
    if bool(xp.isfinite(norms.sum())):
        return
    finite = xp.isfinite(Y).all(axis=1)
    if bool(finite.all()):
        raise ValueError(f"The squared norm of a row overflows {Y.dtype}; rescale X.")
    row = int(to_numpy(xp.argmin(finite)))
    kind = "NaN" if bool(xp.isnan(Y[row]).any()) else "infinity"
    raise ValueError(
        f"Input X contains {kind} in row {row + offset}; remove or impute such rows before fitting."
    )


def kth_largest(values, k):
    """Return the k-th largest (k >= 1) of the values of all ranks, exactly, by counting.

    Eight rounds of one 256-bin histogram of the bit patterns; nothing larger is sent.
    """
    bits = np.ascontiguousarray(values, dtype=np.float64).view(np.uint64)
    negative = bits >> np.uint64(63) == 1
    keys = np.where(negative, ~bits, bits | np.uint64(1 << 63))  # increasing with the values
    prefix = 0
    for shift in range(56, -1, -8):
        digits = (keys >> np.uint64(shift)) & np.uint64(255)
        counts = mpi.row_sum(np.bincount(digits.astype(np.intp), minlength=256).astype(np.float64))
        from_above = np.cumsum(counts[::-1])[::-1]
        digit = int(np.flatnonzero(from_above >= k)[-1])
        k -= int(from_above[digit] - counts[digit])
        prefix |= digit << shift
        keys = keys[digits == digit]
    key = np.uint64(prefix)
    return float((key & ~np.uint64(1 << 63) if prefix >> 63 else ~key).view(np.float64))


def row_uniforms(seed, iteration, stream, rows, width):
    """Uniform numbers (len(rows), width) that depend on the global row numbers only.

    `rows` is a contiguous range; `width` a multiple of 4 (the outputs of one Philox counter step).
    """
    generator = np.random.Philox(
        key=np.array([seed, (stream << 32) + iteration], dtype=np.uint64),
        counter=rows.start * width // 4,
    )
    return np.random.Generator(generator).random((len(rows), width))
