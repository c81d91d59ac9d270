"""Draws from the prior on all candidates, through a root of their covariance matrix."""

import numpy as np
from scipy.linalg import LinAlgError, cholesky

from .. import mpi
from .._arrays import to_numpy
from .._kernels import kernels

EXACT = 5000  # candidates up to which draws are exact for every kernel
_BLOCK = 128  # rows allocated at a time
_FIRST_RANK = 512  # rows of a low-rank root, before a dense one is tried
_MOST_RANK = 1024  # rows of the root of more candidates
_TOLERANCE = 1e-10  # of the prior variance, left out


class PriorRoot:
    """Rows F (r, n_local) with K = F' F, for the candidates of this rank.

    Pivoted Cholesky rows until the largest variance left is 1e-10 of the prior's: few, for a smooth
    kernel. Where it takes many, up to 5000 candidates get the dense Cholesky factor. More keep the
    first rows, 1024 or what fits in memory; what is left of each variance is then drawn for each
    candidate by itself, so that variances stay exact and some covariances are lost.

    Parameters
    ----------
    candidates : Candidates
    kernel : KernelFunction
    max_bytes : float
        Limit of the rows of a low-rank root.
    """

    def __init__(self, candidates, kernel, max_bytes):
        self.candidates, self.kernel = candidates, kernel
        self._left = kernel.diag(candidates.X)
        self._least = _TOLERANCE * candidates.argmax(self._left)[1]
        self._blocks: list = []
        self.rank = 0
        few = candidates.total <= EXACT
        in_memory = max_bytes / (8 * max(1, mpi.row_max(len(candidates.X))))
        self._add_pivots(max(1, min(_FIRST_RANK if few else _MOST_RANK, in_memory // 1)))
        if few and not self.is_exact:
            self._factorize()

    @property
    def is_exact(self):
        """Whether covariances are exact, up to rounding and the tolerance."""
        return self._left is None

    def draw(self, rng):
        """Return a draw (n_local,); rng has to be in the same state on every rank."""
        candidates, weights = self.candidates, rng.standard_normal(self.rank)
        sample = candidates.xp.zeros(len(candidates.X))
        self._add_rows(weights, sample)
        if not self.is_exact:
            own = slice(candidates.offset, candidates.offset + len(sample))
            noise = rng.standard_normal(candidates.total)[own]
            sample += candidates.xp.sqrt(self._left) * candidates.xp.asarray(noise)
        return sample

    def _add_rows(self, weights, out):
        add_rows = kernels("exact_rows", out).add_rows
        for block, first in zip(self._blocks, range(0, len(weights), _BLOCK), strict=False):
            add_rows(block, weights[first : first + _BLOCK], out)

    def _add_pivots(self, most):
        """Add rows until nothing is left of the prior, or there are so many."""
        candidates, xp = self.candidates, self.candidates.xp
        while self._left is not None and self.rank < most:
            index, left = candidates.argmax(self._left)
            if left <= self._least:
                self._left = None
                return
            if self.rank == _BLOCK * len(self._blocks):
                self._blocks.append(xp.empty((_BLOCK, len(self._left))))
            x = xp.asarray(candidates.point(index)[None])
            row = self._blocks[-1][self.rank % _BLOCK]
            row[:] = self.kernel(candidates.X, x)[:, 0]
            self._add_rows(-self._column(index), row)
            row /= np.sqrt(left)
            self._left = xp.maximum(self._left - row**2, 0.0)
            self.rank += 1

    def _column(self, index):
        """Return the rows' entries (rank,) at a candidate, on the host of every rank."""
        place, column = self.candidates.local(index), np.zeros(self.rank)
        if place is not None:
            entries = [to_numpy(block[:, place]) for block in self._blocks]
            column[:] = np.concatenate([*entries, np.empty(0)])[: self.rank]
        return mpi.row_sum(column)

    def _factorize(self):
        """Take all rows of the Cholesky factor, with the smallest jitter that succeeds."""
        candidates = self.candidates
        X = np.concatenate(mpi.all_gather(to_numpy(candidates.X)))
        K = to_numpy(self.kernel(candidates.xp.asarray(X), candidates.xp.asarray(X)))
        own = slice(candidates.offset, candidates.offset + len(candidates.X))
        scale, jitter = float(np.diag(K).max()), 0.0
        while True:
            try:
                root = cholesky(K + jitter * np.eye(len(K)), lower=True)
                break
            except LinAlgError:
                jitter = max(10 * jitter, 1e-12 * scale)
        rows = candidates.xp.asarray(np.ascontiguousarray(root[own].T))
        self._blocks = [rows[first : first + _BLOCK] for first in range(0, len(rows), _BLOCK)]
        self.rank, self._left = len(rows), None
