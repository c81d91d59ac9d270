"""A layer stored as the product of two thin matrices."""

import numpy as np

from ._solution import LayerSolution


class LowRankSolution(LayerSolution):
    """A weight V = left right.

    Parameters
    ----------
    problem : LayerProblem
        The layer.
    left : array of shape (d_out, rank)
        Unit columns; the scale is shared out between the factors.
    right : array of shape (rank, d_in)
    **options
        Those of `LayerSolution`.
    """

    def __init__(self, problem, left, right, **options):
        super().__init__(problem, **options)
        xp = problem.xp
        lengths = xp.sqrt((right.astype(np.float64) ** 2).sum(axis=1))
        roots = xp.sqrt(xp.where(lengths > 0, lengths, 1)).astype(right.dtype)
        self.left, self.right = left * roots, right / roots[:, None]

    @property
    def rank(self):
        """Number of columns of `left`."""
        return self.left.shape[1]

    def _dense(self):
        return self.left @ self.right

    def to_module(self, bias=None):
        """Return a `LowRankLinear`.

        Parameters
        ----------
        bias : tensor of shape (d_out,), default=None
            Bias of the layer.

        Returns
        -------
        LowRankLinear
        """
        from ..layers import LowRankLinear

        return LowRankLinear.from_factors(self._tensor(self.left), self._tensor(self.right), bias)

    @property
    def n_params(self):
        """Number of stored numbers, r (d_out + d_in)."""
        return self.left.size + self.right.size
