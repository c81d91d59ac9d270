"""What every solver is given: norms of the data, checked on the way, and options."""

from typing import Any, NamedTuple

import numpy as np

from .. import mpi
from .._arrays import to_numpy
from .._kernels import kernels
from ._blocks import RowBlocks


class SolverOptions(NamedTuple):
    """Parameters of the estimator that solvers read."""

    lam: float
    tol: float
    rng: np.random.RandomState
    rank: int | None = None
    mu: float | None = None
    rho: float = 1.5
    card: float | None = None
    gamma: float | str = "auto"
    noise_scale: float | None = None
    svd: str = "auto"
    svd_tol: float = 1e-2
    gap_tol: float = 1e-3


class Summary(NamedTuple):
    """Norms of the observed entries of all rows."""

    norm: float  # Frobenius
    l1: float
    largest: float
    n_seen: int


def summarize(rows, missing):
    """Return the Summary of the data; refuse what cannot be split, in one sentence."""
    xp, n_columns = rows.xp, rows.shape[1]
    kernel = kernels("rpca", xp.empty(0))
    row_counts = xp.zeros(rows.shape[0], dtype=np.int64)

    def new():
        return [np.zeros(3), xp.zeros(n_columns, dtype=np.int64), 0.0]

    def work(start, block, result):
        counts = row_counts[start : start + len(block)]
        largest = kernel.summarize(block, result[0], result[1], counts)
        result[2] = max(result[2], float(largest))

    with mpi.errors_together():
        results = rows.each(work, new)
        _refuse_bad_rows(rows, results, to_numpy(row_counts), missing)
    sums = sum(r[0] for r in results)
    seen = sum(to_numpy(r[1]) for r in results)
    (squares, l1, _), seen = mpi.row_sum(sums, seen.astype(np.float64))
    if (seen == 0).any():
        raise ValueError(
            f"Column {int(np.flatnonzero(seen == 0)[0])} of X has only missing entries; leave it "
            "out."
        )
    largest = mpi.row_max(max(r[2] for r in results))
    return Summary(float(squares) ** 0.5, float(l1), float(largest), int(seen.sum()))


def _refuse_bad_rows(rows, results, row_counts, missing):
    """Raise where a row has infinity, NaN without `missing`, or nothing observed."""
    if any(r[0][2] for r in results):
        raise ValueError("Input X contains infinity; remove such rows or mark them as missing.")
    n_seen = row_counts.sum()
    if missing is None and n_seen < len(row_counts) * rows.shape[1]:
        bad = int(np.flatnonzero(row_counts < rows.shape[1])[0])
        raise ValueError(
            f"Input X contains NaN (row {bad}); remove such rows, or pass missing='nan' if they "
            "are missing entries."
        )
    if (row_counts == 0).any():
        raise ValueError(
            f"Row {int(np.flatnonzero(row_counts == 0)[0])} of X has only missing entries; leave "
            "it out."
        )


def column_medians(rows):
    """Return the median of the observed entries of each column, over the rows of all ranks.

    In memory, of one process: by sorting. Otherwise by bisection, a pass over the rows for each
    bit of the answer.
    """
    xp, X = rows.xp, rows.X
    if mpi.n_ranks() == 1 and not rows.on_disk and hasattr(X, "ndim"):
        return xp.nanmedian(xp.asarray(X, dtype=rows.dtype), axis=0)
    low, high = _column_range(rows)
    n_seen = _counts(rows, lambda block: ~xp.isnan(block))
    for _ in range(_BITS[rows.dtype.itemsize]):
        middle = (low + high) / 2
        below = _counts(rows, lambda block, at=middle: block <= at)
        upper = 2 * below < n_seen
        low, high = xp.where(upper, middle, low), xp.where(upper, high, middle)
    return high.astype(rows.dtype)


_BITS = {4: 26, 8: 55}


def _counts(rows, condition):
    def work(start, block, counts):
        counts += condition(block).sum(axis=0)

    results = rows.each(work, lambda: rows.xp.zeros(rows.shape[1]))
    return mpi.row_sum(sum(results))


def _column_range(rows):
    xp = rows.xp

    def new():
        ends: list[Any] = [xp.full(rows.shape[1], xp.inf), xp.full(rows.shape[1], -xp.inf)]
        return ends

    def work(start, block, ends):
        ends[0] = xp.fmin(ends[0], xp.fmin.reduce(block, axis=0))
        ends[1] = xp.fmax(ends[1], xp.fmax.reduce(block, axis=0))

    results = rows.each(work, new)
    low = xp.stack([r[0] for r in results]).min(axis=0)
    high = xp.stack([r[1] for r in results]).max(axis=0)
    low = np.min(mpi.all_gather(to_numpy(low)), axis=0)
    high = np.max(mpi.all_gather(to_numpy(high)), axis=0)
    from .._arrays import like

    return like(low, xp.empty(0)), like(high, xp.empty(0))


def observed(rows):
    """Return the data with zeros for missing entries."""

    def fill(start, block):
        return rows.xp.nan_to_num(block)

    made: RowBlocks = rows.made_by(fill)
    return made
