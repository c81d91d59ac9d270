"""Principal component pursuit by augmented Lagrangians (Z. Lin, M. Chen, Y. Ma, 2010).

Multiplier and sparse part live in one array T, see `_kernels._rpca_numba.penalty_step`: beside the
data and the matrix whose singular values are next there is nothing else of their size.
"""

import numpy as np

from .._kernels import kernels
from ._blocks import LowRank, RowBlocks
from ._certificate import duality_gap
from ._partial_svd import PartialSVD, spectral_norm
from ._problem import observed

_NORM_TOL = 1e-2  # it only scales the first step
_RANK_MARGIN = 10  # triplets computed beyond those expected to be kept
_CAREFUL_GROWTH = 1.1  # of the penalty, where a faster one missed the optimum
_LARGEST_PENALTY = 1e7  # over the first one


class AugmentedLagrangian:
    """min ||L||_* + lam ||S||_1 with L + S = M, one step at a time.

    Parameters
    ----------
    rows : RowBlocks
        The data M.
    summary : Summary
        Norms of M.
    options : SolverOptions
        lam; mu, the first penalty; rho, its growth from step to step.
    """

    has_certificate = True

    def __init__(self, rows, summary, options):
        self.rows, self.summary, self.options = rows, summary, options
        self.lam, self.tol = options.lam, options.tol
        self.k = kernels("rpca", rows.xp.empty(0))
        self.svd = PartialSVD(rows, options.rng, tol=options.svd_tol, full=options.svd == "full")
        self.norm = spectral_norm(observed(rows), options.rng, tol=_NORM_TOL)
        self.growth = self._growth()
        self.mu_first = self._first_penalty() if options.mu is None else options.mu
        self.T = rows.empty()
        self.gap, self.rerun = np.inf, False
        self._store()
        self._start()

    def _first_penalty(self):
        return 1.25 / self.norm

    def _growth(self):
        return self.options.rho

    def _store(self):
        """Keep the matrix whose singular values come next, or make it when it is asked for."""
        if self.rows.on_disk:
            self.Z = None
            self.matrix = self.rows.made_by(self._made)
        else:
            self.Z = self.rows.empty()
            self.matrix = RowBlocks(self.Z, self.rows.dtype)

    def _start(self):
        """Y = M scaled to be dual feasible, S = 0."""
        self.old = self.new = self.following = 1 / self.mu_first
        self.smallest = self.new / _LARGEST_PENALTY
        self.n_expected = _RANK_MARGIN
        self.low = LowRank.zeros(self.rows)
        self.finished = False
        scale = self.new / max(self.norm, self.summary.largest / self.lam)

        def work(start, block, _):
            T = self.T[start : start + len(block)]
            T[...] = self.rows.xp.nan_to_num(block) * T.dtype.type(scale)
            if self.Z is not None:
                self.k.penalty_matrix(
                    block, T, self.Z[start : start + len(block)], *self._scalars(self.lam, self.new,
                    self.following),
                )  # fmt: skip

        self.rows.each(work)

    def _made(self, start, block):
        Z = self.rows.memory("made", len(block))
        self.k.penalty_matrix(
            block, self.T[start : start + len(block)], Z,
            *self._scalars(self.lam, self.new, self.following),
        )  # fmt: skip
        return Z

    def _scalars(self, *values):
        return [self.rows.dtype.type(value) for value in values]

    def step(self):
        """Shrink the singular values, then the entries, then update the multiplier."""
        kept, count = self.svd.above(self.matrix, self.n_expected, self.following)
        self.n_expected = count + _RANK_MARGIN
        self.low = LowRank(kept.U, kept.s - kept.s.dtype.type(self.following), kept.V)
        self.old, self.new = self.new, self.following
        self.following = max(self.new / self.growth, self.smallest)
        squares, self.l1, moved, self.n_sparse = self.rows.sums(self._update, 4).tolist()
        self.residual = squares**0.5 / self.summary.norm
        self.moved = moved**0.5 / self.summary.norm
        self.objective = float(self.low.s.sum()) + self.lam * self.l1
        if self._at_rest():
            self._certify()

    def _update(self, start, block, sums):
        n = len(block)
        L = self.low.block(start, self.rows.memory("low", n))
        T = self.T[start : start + n]
        Z = self.rows.memory("next", n) if self.Z is None else self.Z[start : start + n]
        scalars = self._scalars(self.lam, self.old, self.new, self.following)
        self.k.penalty_step(block, L, T, Z, *scalars, sums)

    def _at_rest(self):
        return self.residual <= self.tol and (self.growth > 1 or self.moved <= self.tol)

    def _certify(self):
        """Stop at the optimum; else once more, with a penalty that grows slowly."""
        self.gap = duality_gap(self, self.options.rng)
        self.finished = True
        if self.gap > self.options.gap_tol and self.growth > _CAREFUL_GROWTH and not self.rerun:
            self.rerun, self.growth = True, _CAREFUL_GROWTH
            self._start()

    def dual(self, start, block, out):
        """Write rows of the multiplier to `out`; return their product with the data."""
        T = self.T[start : start + len(block)]
        return self.k.dual_matrix(block, T, out, *self._scalars(self.lam, self.new))

    def sparse_block(self, start, block, out):
        """Write rows of the sparse part to `out`; return how many entries are not zero."""
        T = self.rows.memory("masked", len(block))
        T[...] = self.T[start : start + len(block)]
        T[self.rows.xp.isnan(block)] = 0
        return self.k.soft_entries(T, self.rows.dtype.type(self.lam * self.new), out)


class AlternatingDirections(AugmentedLagrangian):
    """The same with a constant penalty: hundreds of steps, and the optimum at their end."""

    def _first_penalty(self):
        return self.summary.n_seen / (4 * self.summary.l1)

    def _growth(self):
        return 1.0
