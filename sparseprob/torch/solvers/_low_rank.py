"""Low-rank layers by truncated singular values, plain or whitened by the inputs."""

import math
from numbers import Integral, Real

from sklearn.utils._param_validation import Interval

from ._base import LayerSolver
from ._low_rank_solution import LowRankSolution
from ._whitening import leading_vectors, whitened


class LowRank(LayerSolver):
    r"""Replace the weight by one of low rank.

    Minimizes :math:`\mathrm{tr}((W - V) C (W - V)^T)` over V of rank r: with :math:`C = R^T R`, V
    is the projection of W on the leading left singular vectors of :math:`W R^T`. No other V of this
    rank has a smaller error on the calibration data. `rank` takes precedence over `compression`.

    Parameters
    ----------
    compression : float, default=0.2
        Share of the numbers of the weight that is saved: :math:`1 - r (d_1 + d_2) / (d_1 d_2)`.
    rank : int, default=None
        Rank r; None finds the largest that saves `compression`.
    whiten : bool, default=True
        Whether errors of the outputs are minimized ("whitened SVD", SVD-LLM), or those of the
        weight, which needs no calibration.
    damp : float, default=1e-6
        Multiple of the mean of the diagonal of C that is added to its diagonal.

    References
    ----------
    See [Wang2025]_.

    Examples
    --------
    >>> import torch
    >>> from sparseprob.torch.calibration import LayerStats
    >>> from sparseprob.torch.solvers import LowRank
    >>> _ = torch.manual_seed(0)
    >>> weight, inputs = torch.randn(20, 30), torch.randn(500, 30) * torch.logspace(0, -2, 30)
    >>> stats = LayerStats.of(inputs)
    >>> whitened = LowRank(rank=6).solve(weight, stats)
    >>> plain = LowRank(rank=6, whiten=False).solve(weight)
    >>> whitened.relative_error(stats) < plain.relative_error(stats)
    True
    >>> whitened.to_module()
    LowRankLinear(in_features=30, out_features=20, bias=False, rank=6)
    """

    _parameter_constraints = {
        "compression": [Interval(Real, 0, 1, closed="left")],
        "rank": [Interval(Integral, 1, None, closed="left"), None],
        "whiten": ["boolean"],
        "damp": [Interval(Real, 0, 0.1, closed="both")],
    }

    def __init__(self, compression=0.2, *, rank=None, whiten=True, damp=1e-6):
        self.compression = compression
        self.rank = rank
        self.whiten = whiten
        self.damp = damp

    @property
    def needs_calibration(self):
        """Whether `solve` needs statistics of the inputs."""
        return bool(self.whiten)

    def _rank(self, d_out, d_in):
        """Return the rank for a layer of this shape, 0 if none is small enough."""
        if self.rank is not None:
            return self.rank
        return math.floor((1 - self.compression) * d_out * d_in / (d_out + d_in))

    def _check_shape(self, d_out, d_in):
        if self.rank is not None and self.rank > min(d_out, d_in):
            raise ValueError(
                f"rank must be at most {min(d_out, d_in)} for a weight of shape ({d_out}, {d_in}), "
                f"got {self.rank}."
            )
        if self._rank(d_out, d_in) < 1:
            raise ValueError(
                f"compression={self.compression} leaves no room for rank 1 in a weight of shape "
                f"({d_out}, {d_in}); lower it or leave this layer as it is."
            )

    def _solve(self, problem):
        A, used = problem.W.astype("float64", copy=False), None
        if self.whiten:
            A, _, used = whitened(problem, self.damp)
        left = leading_vectors(A, self._rank(*problem.shape)).astype(problem.W.dtype, copy=False)
        right = left.T @ problem.W
        if self.whiten:
            right[:, problem.dead] = 0
        history = [problem.loss(left @ right) / problem.scale]
        return LowRankSolution(problem, left, right, history=history, damp=used, n_iter=0)
