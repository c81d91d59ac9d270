"""Accelerated alternating projections (H. Cai, J.-F. Cai, K. Wei, 2019)."""

import threading

import numpy as np

from .. import mpi
from ._blocks import LowRank
from ._distributed import orthonormal
from ._filled import ThresholdSolver


class AcceleratedProjections(ThresholdSolver):
    """Project M - S on the tangent space at L: a 2r x 2r SVD in place of a large one.

    One pass over the data in a step, both products and the threshold in it, and no memory of their
    size.
    """

    def start(self):
        """Threshold the data twice, with a partial SVD between."""
        n, p = self.rows.n_rows, self.rows.shape[1]
        self.beta = 1 / (2 * (n * p) ** 0.25)
        self.remaining = self.decays()
        zero, rank = LowRank.zeros(self.rows), self.options.rank
        raw = self.made_on_the_fly(zero, np.inf)
        largest = float(self.svd.leading(raw, 5)[0].s[0])
        cut = self.made_on_the_fly(zero, 4 * self.beta * largest)
        found, _ = self.svd.leading(cut, min(rank + 5, self.svd.largest))
        self.first = found.truncated(rank)
        self._restart()

    def _restart(self):
        """Begin at the first L, with the next decay of the threshold."""
        self.gamma, self.t = self.remaining.pop(0), 0
        self.low = self.first
        self.threshold = self.beta * float(self.first.s[0])

    def step(self):
        """Both products of M - S with the present bases, then the small SVD."""
        U, V = self.low.U, self.low.V
        parts: list[np.ndarray] = []
        ZV, ZtU = self._products(V, U, parts)
        self._note(mpi.row_sum(sum(parts)))
        self.objective = self.residual
        if self.residual <= self.options.tol:
            self.finished = not (self.remaining and self.doubtful())
            if not self.finished:
                self._restart()
            return
        small = mpi.row_sum(U.T @ ZV).astype(self.dtype, copy=False)
        right, R1 = orthonormal(ZtU - V @ small.T, spread=False)
        left, R2 = orthonormal(ZV - U @ small)
        self._update(U, V, small, left, R2, right, R1)

    def _products(self, V, U, parts):
        """Return Z V and Z' U; every thread has sums of its own, put into `parts`."""
        own, lock = threading.local(), threading.Lock()
        work = self._worker(self.low, self.threshold, None)

        def fill(start, block):
            if not hasattr(own, "sums"):
                own.sums = np.zeros(4)
                with lock:
                    parts.append(own.sums)
            return work(start, block, own.sums)

        products = self.rows.made_by(fill).both_times(V, U)
        parts.append(np.zeros(4))  # a rank may have no rows
        return products

    def _update(self, U, V, small, left, R2, right, R1):
        xp, rank = self.xp, self.low.rank
        corner = xp.zeros((R2.shape[0], R1.shape[0]), dtype=self.dtype)
        middle = xp.vstack([xp.hstack([small, R1.T]), xp.hstack([R2, corner])])
        A, s, Bt = xp.linalg.svd(middle)
        U = xp.hstack([U, left]) @ A[:, :rank]
        V = xp.hstack([V, right]) @ Bt[:rank].T
        self.low = LowRank(U, s[:rank], V)
        self.t += 1
        following = float(s[rank]) if len(s) > rank else 0.0
        self.threshold = self.beta * (following + self.gamma**self.t * float(s[0]))
