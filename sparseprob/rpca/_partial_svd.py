"""The leading singular triplets of a matrix seen only through products with thin matrices.

Subspace iteration that starts from the vectors of the step before (N. Halko, P.-G. Martinsson,
J. A. Tropp, SIAM Review 53, 2011, give its bounds from a random start).
"""

import numpy as np

from .. import mpi
from .._arrays import like, to_numpy
from ._blocks import LowRank
from ._distributed import orthonormal

_MAX_PASSES = 40


class PartialSVD:
    """Leading singular triplets of a sequence of matrices that change little.

    Parameters
    ----------
    rows : RowBlocks
        Gives sizes and library; all matrices have its shape.
    rng : numpy.random.RandomState
        Draws the start; every rank takes what rank 0 draws.
    tol : float
        Passes over the matrix end when the singular values, less the threshold, grow by no more
        than this in half a pass.
    full : bool
        Compute all triplets each time.
    """

    def __init__(self, rows, rng, *, tol, full=False):
        self.xp, self.dtype, self.n_columns = rows.xp, rows.dtype, rows.shape[1]
        self.largest = min(rows.n_rows, self.n_columns)
        self.rng, self.tol, self.full = rng, tol, full
        self.V = self._random(0)
        self.n_passes = 0

    def leading(self, matrix, k, threshold=0.0, tol=None):
        """Return the `k` leading triplets as a LowRank, and whether k is as many as there are."""
        k = self.largest if self.full else min(k, self.largest)
        V = self.V[:, :k]
        if V.shape[1] < k:
            V = orthonormal(self.xp.hstack([V, self._random(k - V.shape[1])]), spread=False)[0]
        tol = self.tol if tol is None else tol
        for _ in range(_MAX_PASSES):
            found, before = self._one_pass(matrix, V)
            V = found.V
            if k == self.largest or self._settled(found.s, before, threshold, tol):
                break
        self.V = V
        return found, k == self.largest

    def above(self, matrix, k, threshold):
        """Return all triplets above the threshold, and how many; starts with k and doubles it."""
        while True:
            found, complete = self.leading(matrix, k, threshold)
            count = int((found.s > threshold).sum())
            if complete or count < found.rank:
                return found.truncated(count), count
            k = 2 * found.rank

    def _one_pass(self, matrix, V):
        self.n_passes += 1
        Q, R = orthonormal(matrix.times(V))
        B, P = orthonormal(matrix.adjoint_times(Q), spread=False)
        left, s, right = self.xp.linalg.svd(P.T)
        return LowRank(Q @ left, s, B @ right.T), self.xp.linalg.svd(R, compute_uv=False)

    def _settled(self, s, before, threshold, tol):
        after = to_numpy(s).astype(np.float64)
        before = np.maximum(to_numpy(before).astype(np.float64) - threshold, 0)
        after = np.maximum(after - threshold, 0)
        return bool(np.linalg.norm(after - before) <= tol * np.linalg.norm(after))

    def _random(self, k):
        drawn = mpi.broadcast(self.rng.standard_normal((self.n_columns, k)))
        return like(drawn.astype(self.dtype), self.xp.empty(0))


def spectral_norm(matrix, rng, *, tol=1e-4, block=8, max_steps=40, guess=None):
    """Return the largest singular value, from below, to about the relative error `tol`.

    Block Krylov iteration: Ritz values over all the vectors multiplied so far (C. Musco, C. Musco,
    NeurIPS 2015). Orthonormal columns `guess` that are likely to be near the vector sought come
    first, by half a block of their own Ritz vectors.
    """
    xp, dtype, n_columns = matrix.xp, matrix.dtype, matrix.shape[1]
    drawn = mpi.broadcast(rng.standard_normal((n_columns, min(block, n_columns))))
    start = like(drawn.astype(dtype), xp.empty(0))
    if guess is not None and guess.shape[1]:
        R = orthonormal(matrix.times(guess))[1]
        best = guess @ xp.linalg.svd(R)[2].T[:, : block // 2]
        start = xp.hstack([best, start[:, best.shape[1] :]])
    V = [orthonormal(start, spread=False)[0]]
    products, norm = [], 0.0
    for _ in range(max_steps):
        products.append(matrix.times(V[-1]))
        R = orthonormal(xp.hstack(products))[1]
        before, norm = norm, float(xp.linalg.svd(R, compute_uv=False)[0])
        full = sum(v.shape[1] for v in V)
        if norm - before <= tol * norm or full + V[-1].shape[1] > n_columns:
            break
        new, basis = matrix.adjoint_times(products[-1]), xp.hstack(V)
        for _ in range(3):  # what is left may be rounding alone, which is not orthogonal at once
            new = orthonormal(new - basis @ (basis.T @ new), spread=False)[0]
        V.append(new)
    return norm
