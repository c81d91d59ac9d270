"""Solvers without a multiplier: the data less its sparse part is made from L and a threshold."""

import numpy as np

from .. import mpi
from .._kernels import kernels
from ._blocks import LowRank, RowBlocks
from ._partial_svd import PartialSVD

_BINS = 4096
HALF = 0.5  # share of outliers in a row or column that no sparse part should have
_DECAYS = (0.5, 0.9, 0.97)  # of a falling threshold, from fast to safe
_DENSE = 0.15  # share of all entries above which the fast decay is not trusted


class ThresholdSolver:
    """Base: S is M - L above a threshold, hard or soft; L is the only state.

    A subclass sets ``kind`` and implements ``start()`` and ``step()``, which set ``low`` (L),
    ``threshold`` and ``finished``.
    """

    kind = "hard"
    has_certificate = False
    gamma = 1.0

    def __init__(self, rows, summary, options):
        self.rows, self.summary, self.options = rows, summary, options
        self.xp, self.dtype = rows.xp, rows.dtype
        self.k = kernels("rpca", rows.xp.empty(0))
        self.keep = getattr(self.k, f"keep_{self.kind}")
        self.svd = PartialSVD(rows, options.rng, tol=options.svd_tol, full=options.svd == "full")
        self.low, self.threshold = LowRank.zeros(rows), np.inf
        self.finished, self.gap = False, np.nan
        self.residual = self.objective = np.inf
        self.l1 = self.n_sparse = 0.0
        self.Z = None
        self.start()

    def start(self):
        """Set the first state."""
        raise NotImplementedError

    def made(self, low, threshold):
        """Return M less its sparse part, and sums of the pass that computed it.

        In memory where the data are in memory; otherwise computed each time it is asked for.
        """
        if not self.rows.on_disk and self.Z is None:
            self.Z = self.rows.empty()
        sums = self.rows.sums(self._worker(low, threshold, self.Z), 4)
        self._note(sums)
        if self.Z is not None:
            return RowBlocks(self.Z, self.dtype), sums
        return self.made_on_the_fly(low, threshold), sums

    def made_on_the_fly(self, low, threshold, sums=None):
        """Return M less its sparse part as a matrix that no memory is used for."""
        sums = np.zeros(4) if sums is None else sums
        work = self._worker(low, threshold, None)

        def fill(start, block):
            return work(start, block, sums)

        return self.rows.made_by(fill)

    def _worker(self, low, threshold, kept):
        limit = self.dtype.type(threshold)

        def work(start, block, sums):
            L = low.block(start, self.rows.memory("low", len(block)))
            if kept is None:
                Z = self.rows.memory("made", len(block))
            else:
                Z = kept[start : start + len(block)]
            self.keep(block, L, Z, limit, sums)
            return Z

        return work

    def _note(self, sums):
        squares, self.l1, self.sparse_l1, self.n_sparse = np.asarray(sums).tolist()
        self.residual = squares**0.5 / self.summary.norm

    def sparse_block(self, start, block, out):
        """Write rows of the sparse part to `out`; return how many entries are not zero."""
        D = self.rows.memory("made", len(block))
        self.low.block(start, D)
        D -= block
        self.xp.negative(D, out=D)
        entries = getattr(self.k, f"{self.kind}_entries")
        return entries(D, self.dtype.type(self.threshold), out)

    def decays(self):
        """Return the decays of the threshold to try in turn."""
        return list(_DECAYS) if self.options.gamma == "auto" else [float(self.options.gamma)]

    def doubtful(self):
        """Whether the threshold may have fallen too fast; the residual does not tell."""
        total = self.rows.n_rows * self.rows.shape[1]
        too_many = self.gamma == _DECAYS[0] and self.n_sparse > _DENSE * total
        return too_many or self.largest_share() > HALF

    def largest_share(self):
        """Return the largest share of a row or of a column that is sparse part.

        Recovery needs outliers spread over rows and columns; a split that takes whole rows for
        outliers reaches a small residual and is wrong.
        """
        xp = self.xp

        def work(start, block, result):
            S = self.rows.memory("sparse", len(block))
            self.sparse_block(start, block, S)
            filled = S != 0
            result[0] += filled.sum(axis=0)
            result[1] = max(result[1], float(filled.mean(axis=1).max()))

        results = self.rows.each(work, lambda: [xp.zeros(self.rows.shape[1]), 0.0])
        columns = mpi.row_sum(sum(r[0] for r in results)) / self.rows.n_rows
        return max(mpi.row_max(max(r[1] for r in results)), float(columns.max()))

    def kth_largest(self, low, count):
        """Return a threshold that `count` entries of M - L reach, by three histograms."""
        lower, width = 0.0, self._largest_deviation(low) / (_BINS - 2)
        for _ in range(3):
            counts = self._histogram(low, lower, width)
            cumulative = np.cumsum(counts[:0:-1])  # from the top; the last bin has all above
            place = int(np.searchsorted(cumulative, count))
            if place >= _BINS - 1:
                return lower
            lower += (_BINS - 2 - place) * width
            width = width / (_BINS - 2)
        return lower

    def _largest_deviation(self, low):
        def work(start, block, result):
            D = low.block(start, self.rows.memory("low", len(block)))
            result[0] = max(result[0], float(abs(self.xp.nan_to_num(block - D)).max()))

        results = self.rows.each(work, lambda: [0.0])
        return max(mpi.row_max(max(r[0] for r in results)) * (1 + 1e-6), 1e-300)

    def _histogram(self, low, lower, width):
        def work(start, block, counts):
            L = low.block(start, self.rows.memory("low", len(block)))
            self.k.count_magnitudes(block, L, lower, width, counts)

        return self.rows.sums(work, _BINS)


def difference(a, b):
    """Return the Frobenius norm of the difference of two LowRank matrices."""
    return max(inner(a, a) + inner(b, b) - 2 * inner(a, b), 0.0) ** 0.5


def inner(a, b):
    """Return the inner product of two LowRank matrices, over all ranks."""
    left = mpi.row_sum(a.scaled.T @ b.scaled)
    return float((left * (a.Vt @ b.Vt.T)).sum())
