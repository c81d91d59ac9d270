"""One pass over the rows of a matrix: which may be sampled, and what all of them add up to."""

from concurrent.futures import wait
from typing import Any, NamedTuple

import numpy as np

from .._arrays import to_numpy
from .._kernels import _sketch_numba as kernel
from .._threads import n_threads_allowed, thread_pool
from ._exact import sum_of_squares, total_of
from ._keys import units
from ._rows import not_finite, row_lengths

WEIGHTINGS = {
    "l2": kernel.L2, "l1": kernel.L1, "l0": kernel.UNIFORM, "uniform": kernel.UNIFORM,
    "given": kernel.GIVEN,
}  # fmt: skip
_NOTHING = np.empty(0)
_ROOM = 16 * kernel.STEP


class Totals(NamedTuple):
    """What rows add up to; weights and squares are exact, in units of 2^UNIT.

    Parameters
    ----------
    n_rows : int
    n_weighted : int
        Number of rows of positive weight.
    weights : int
        Sum of the weights.
    squares : int
        Sum of the squared lengths.
    """

    n_rows: int
    n_weighted: int
    weights: int
    squares: int

    def __add__(self, other):
        return Totals(*(a + b for a, b in zip(self, other, strict=True)))


class Found(NamedTuple):
    """Rows that may be sampled.

    Parameters
    ----------
    positions : int64 ndarray of shape (n,)
    ranks : float64 ndarray of shape (n,)
        Square roots of hash over weight.
    roots : float64 ndarray of shape (n,)
        Square roots of weights.
    """

    positions: Any
    ranks: Any
    roots: Any

    def take(self, kept):
        """Return some of them."""
        return Found(*(part[kept] for part in self))


def scan(rows, keys, rule, weighting, given=None):
    """Find the rows that a rule may sample.

    Parameters
    ----------
    rows : Rows
    keys : Keys
    rule : PriorityRule or ThresholdRule
    weighting : {"l2", "l1", "l0", "uniform", "given"}
    given : float64 array of shape (n_rows,), default=None
        Square roots of weights of the caller's.

    Returns
    -------
    found : Found
        On the host.
    totals : Totals
    """
    if rows.on_gpu:
        return _scan_on_gpu(rows, keys, rule, weighting, given)
    n_threads = max(1, min(n_threads_allowed(), rows.n_rows // kernel.STEP))
    scans = [_Scan(rows, keys, rule, weighting, given) for _ in range(n_threads)]
    edges = [rows.n_rows * t // n_threads for t in range(n_threads + 1)]
    if n_threads == 1:
        scans[0].run(*edges)
    else:
        pool = thread_pool(n_threads)
        work = [pool.submit(s.run, *edges[t : t + 2]) for t, s in enumerate(scans)]
        wait(work)
        for done in work:
            done.result()
    sums = np.sum([s.sums for s in scans], axis=0)
    weights = total_of(sums[0])
    squares = weights if weighting == "l2" else total_of(sums[1])
    totals = Totals(rows.n_rows, sum(s.n_weighted for s in scans), weights, squares)
    return Found(*map(np.concatenate, zip(*(s.found for s in scans), strict=True))), totals


class _Scan:
    """What one thread makes of its rows."""

    def __init__(self, rows, keys, rule, weighting, given):
        self.rows, self.rule = rows, rule
        self.given = _NOTHING if given is None else given
        self.keys, self.code = keys.for_kernel(), WEIGHTINGS[weighting]
        self.sums = np.zeros((2, 2, kernel.N_EXPONENTS), dtype=np.int64)
        self.n_weighted, self.n_found, self.bound = 0, 0, np.inf

    def run(self, first, stop):
        """Go over a range of rows."""
        room = min(2 * self.rule.n_samples + _ROOM, max(0, stop - first) + kernel.STEP)
        self.arrays = _room(room)
        self.memory = (
            np.empty(kernel.STEP, dtype=np.uint64),
            *(np.empty(kernel.STEP) for _ in range(2)),
        )
        for start in range(first, stop, self.rows.block_size):
            end = min(start + self.rows.block_size, stop)
            self._block(self.rows.block(start, end), start, end)

    def _block(self, block, start, end):
        row = 0
        while row < end - start:
            status, row = self._scan(block, start, row, end)
            if status == kernel.NOT_FINITE:
                raise not_finite(start + row)
            if status == kernel.NOT_CANONICAL:
                self._canonical(start + row, min(start + row + kernel.STEP, end))
                row = min(row + kernel.STEP, end - start)

    def _canonical(self, start, end):
        self._block(self.rows.canonical_block(start, end), start, end)

    def _scan(self, block, start, row, end):
        if self.n_found + kernel.STEP > len(self.arrays[0]):
            self._compact()
        hashes, first, offset = self.keys
        keys = hashes[start:end], first + start, offset
        before = self.n_found
        status, row, self.n_found, n_weighted = kernel.scan_rows(
            block, (row, end - start), keys, self.given[start:end], self.code, self.bound,
            (before, *self.arrays), self.memory, self.sums,
        )  # fmt: skip
        self.n_weighted += n_weighted
        self.arrays[0][before : self.n_found] += start
        return status, row

    @property
    def found(self):
        """Rows found so far."""
        return Found(*(array[: self.n_found] for array in self.arrays))

    def _compact(self):
        found = self.found
        self.bound = self.rule.bound(found.ranks, found.roots, total_of(self.sums[0]))
        kept = found.take(found.ranks <= self.bound)
        self.n_found = len(kept.ranks)
        if self.n_found + kernel.STEP > len(self.arrays[0]):
            self.arrays = _room(self.n_found + _ROOM)
        for array, part in zip(self.arrays, kept, strict=True):
            array[: self.n_found] = part


def _room(n):
    return np.empty(n, dtype=np.int64), np.empty(n), np.empty(n)


def _scan_on_gpu(rows, keys, rule, weighting, given):
    import cupy

    lengths = row_lengths(rows)
    roots = {
        "l2": lambda: lengths, "l1": lambda: cupy.sqrt(lengths),
        "given": lambda: cupy.asarray(given),
    }.get(weighting, lambda: (lengths > 0).astype(np.float64))()  # fmt: skip
    weights = sum_of_squares(roots, cupy)
    squares = weights if weighting == "l2" else sum_of_squares(lengths, cupy)
    positions = cupy.flatnonzero(roots)
    totals = Totals(rows.n_rows, int(positions.size), weights, squares)
    roots = roots[positions]
    ranks = cupy.sqrt(units(keys.hashes[positions])) / roots
    kept = (ranks <= rule.bound(ranks, roots, weights)) & (ranks < np.inf)
    return Found(*(to_numpy(part[kept]) for part in (positions, ranks, roots))), totals
