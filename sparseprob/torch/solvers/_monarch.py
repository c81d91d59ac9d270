"""Monarch layers by truncated singular values of sub-matrices, plain or aware of the inputs."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from ..._monarch import (
    block_counts,
    check_block_rank,
    monarch_blocks,
    monarch_dense,
    monarch_factors,
    rank_that_fits,
)
from ._base import LayerSolver
from ._monarch_solution import MonarchSolution

_RIDGE = 1e-10  # keeps equations of dependent rows solvable


class Monarch(LayerSolver):
    r"""Replace the weight by a Monarch matrix: two block-diagonal factors, a transposition between.

    The sub-matrices in which a block of inputs meets a residue of outputs get a bounded rank.
    Truncating the singular values of each gives the nearest matrix of this kind; with `whiten` the
    one with the smallest error of the outputs, if inputs of different blocks were uncorrelated.
    `refit` then finds, given the factor R that is applied first, the factor L with the smallest
    error of the outputs, whatever the correlations. `block_rank` takes precedence over
    `compression`.

    Parameters
    ----------
    compression : float, default=0.2
        Share of the numbers of the weight that is saved: :math:`1 - r (J d_1 + k d_2) / (d_1 d_2)`
        with k blocks of the :math:`d_1` inputs and J residues of the :math:`d_2` outputs.
    n_blocks : int, tuple of two int, or "sqrt", default=4
        Numbers k and J. Few blocks make large products, which run fast; "sqrt" takes the pairs of
        factors nearest to the roots of the sizes, as in the square matrices with `block_rank=1`.
    block_rank : int, default=None
        Rank r of the sub-matrices; None finds the largest that saves `compression`.
    whiten : {"block", None}, default=None
        "block" measures errors by the second moments within each block of inputs.
    refit : bool, default=False
        Whether the last factor is fitted to the outputs. Needs calibration, as `whiten` does.
    damp : float, default=1e-6
        Multiple of the mean of the diagonal of C that is added to its diagonal.

    References
    ----------
    See [Dao2022]_.

    Examples
    --------
    >>> import torch
    >>> from sparseprob.torch.calibration import LayerStats
    >>> from sparseprob.torch.solvers import Monarch
    >>> _ = torch.manual_seed(0)
    >>> weight, inputs = torch.randn(32, 64), torch.randn(500, 64) @ torch.randn(64, 64)
    >>> stats = LayerStats.of(inputs)
    >>> plain = Monarch(0.5).solve(weight)
    >>> plain.density <= 0.5
    True
    >>> refitted = Monarch(0.5, whiten="block", refit=True).solve(weight, stats)
    >>> refitted.relative_error(stats) < plain.relative_error(stats)
    True
    >>> plain.to_module()
    MonarchLinear(in_features=64, out_features=32, bias=False, n_blocks=(4, 4), block_rank=2)
    """

    _parameter_constraints = {
        "compression": [Interval(Real, 0, 1, closed="left")],
        "n_blocks": [Interval(Integral, 1, None, closed="left"), StrOptions({"sqrt"}), tuple, list],
        "block_rank": [Interval(Integral, 1, None, closed="left"), None],
        "whiten": [StrOptions({"block"}), None],
        "refit": ["boolean"],
        "damp": [Interval(Real, 0, 0.1, closed="both")],
    }

    def __init__(
        self,
        compression=0.2,
        *,
        n_blocks=4,
        block_rank=None,
        whiten=None,
        refit=False,
        damp=1e-6,
    ):
        self.compression = compression
        self.n_blocks = n_blocks
        self.block_rank = block_rank
        self.whiten = whiten
        self.refit = refit
        self.damp = damp

    @property
    def needs_calibration(self):
        """Whether `solve` needs statistics of the inputs."""
        return self.whiten is not None or bool(self.refit)

    def _rank(self, counts, shape):
        """Return the block rank for a layer of this shape, 0 if none is small enough."""
        if self.block_rank is not None:
            return self.block_rank
        return rank_that_fits(counts, shape, self.compression)

    def _check_shape(self, d_out, d_in):
        counts, shape = block_counts(self.n_blocks, d_out, d_in), (d_out, d_in)
        if self.block_rank is not None:
            check_block_rank(self.block_rank, counts, shape)
        elif self._rank(counts, shape) < 1:
            raise ValueError(
                f"compression={self.compression} leaves no room for block rank 1 with "
                f"{counts[0]} x {counts[1]} blocks of a weight of shape {shape}; lower it, take "
                "fewer blocks, or leave this layer as it is."
            )

    def _solve(self, problem):
        counts = block_counts(self.n_blocks, *problem.shape)
        rank, C, used = self._rank(counts, problem.shape), None, None
        if self.needs_calibration:
            used = problem.cholesky(self.damp)[1]
            C = problem.damped(used)
        if self.whiten is None:
            left, right = monarch_factors(monarch_blocks(problem.W, counts), rank)
        else:
            left, right = _whitened_factors(problem, C, counts, rank)
        if self.needs_calibration:
            right = _without_dead(problem, right)
        if self.refit:
            left = _best_left(problem, C, left, right)
        left, right = (F.astype(problem.W.dtype, copy=False) for F in (left, right))
        loss = problem.loss(monarch_dense(left, right, problem.shape))
        history = [loss / problem.scale]
        return MonarchSolution(problem, left, right, history=history, damp=used, n_iter=0)


def _whitened_factors(problem, C, counts, rank):
    """Return the factors with the least error by the blocks of C on the diagonal."""
    xp, blocks = problem.xp, monarch_blocks(problem.W.astype(np.float64, copy=False), counts)
    k, n_inputs = counts[0], blocks.shape[3]
    padded = xp.eye(k * n_inputs)
    padded[: len(C), : len(C)] = C
    where = xp.arange(k)
    grams = padded.reshape(k, n_inputs, k, n_inputs)[where, :, where]
    R = xp.linalg.cholesky(grams)  # lower: the transposes of the upper factors
    left, right = monarch_factors(blocks @ R[:, None], rank)
    right = xp.linalg.solve(R.swapaxes(1, 2), right.swapaxes(1, 2)).swapaxes(1, 2)
    return left, right


def _without_dead(problem, right):
    """Return the right factor with no weight on inputs that are always zero."""
    xp, (k, _, n_inputs) = problem.xp, right.shape
    alive = xp.zeros(k * n_inputs, dtype=bool)
    alive[: problem.shape[1]] = ~problem.dead
    return xp.where(alive.reshape(k, 1, n_inputs), right, 0)


def _best_left(problem, C, left, right):
    """Return the left factor with the least error of the outputs, given the right one.

    Row (l, j) of V is row l of L_j times B_j, where the block-diagonal B_j holds the rows (j, t) of
    all blocks of R: normal equations with the matrix B_j C B_j^T, of unit diagonal after scaling.
    """
    xp, (J, n_outputs, width), (k, _, n_inputs) = problem.xp, left.shape, right.shape
    rows = right.astype(np.float64, copy=False).reshape(k, J, width // k, n_inputs)
    padded = xp.zeros((k * n_inputs, k * n_inputs))
    padded[: len(C), : len(C)] = C
    target = xp.zeros((n_outputs * J, k * n_inputs))
    target[: len(problem.W), : len(C)] = problem.W @ C
    best = xp.empty(left.shape)
    for j in range(J):
        products = rows[:, j] @ padded.reshape(k, n_inputs, -1)
        normal = _times_blocks(products.reshape(width, -1), rows[:, j])
        scale = xp.sqrt(normal.diagonal())
        scale = xp.where(scale > 0, scale, 1)
        normal = normal / scale / scale[:, None] + _RIDGE * xp.eye(width)
        wanted = _times_blocks(target[j::J], rows[:, j]) / scale
        best[j] = xp.linalg.solve(normal, wanted.T).T / scale
    return best


def _times_blocks(A, rows):
    """Return A B^T for the block-diagonal B with the blocks `rows` of shape (k, r, i)."""
    k, _, n_inputs = rows.shape
    blocks = A.reshape(len(A), k, n_inputs).transpose(1, 0, 2) @ rows.transpose(0, 2, 1)
    return blocks.transpose(1, 0, 2).reshape(len(A), -1)
