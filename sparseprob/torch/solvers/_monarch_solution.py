"""A layer stored as a Monarch matrix."""

from ..._monarch import monarch_dense
from ._solution import LayerSolution


class MonarchSolution(LayerSolution):
    """A weight that is a Monarch matrix.

    Parameters
    ----------
    problem : LayerProblem
        The layer.
    left : array of shape (J, l, k * r)
        Block-diagonal factor that is applied last.
    right : array of shape (k, J * r, i)
        Block-diagonal factor that is applied first.
    **options
        Those of `LayerSolution`.
    """

    def __init__(self, problem, left, right, **options):
        super().__init__(problem, **options)
        self.left, self.right = left, right

    @property
    def block_rank(self):
        """Rank r of the sub-matrices."""
        return self.left.shape[2] // len(self.right)

    def _dense(self):
        return monarch_dense(self.left, self.right, self.shape)

    def to_module(self, bias=None):
        """Return a `MonarchLinear`.

        Parameters
        ----------
        bias : tensor of shape (d_out,), default=None
            Bias of the layer.

        Returns
        -------
        MonarchLinear
        """
        from ..layers import MonarchLinear

        left, right = self._tensor(self.left), self._tensor(self.right)
        return MonarchLinear.from_factors(left, right, bias, shape=self.shape)

    @property
    def n_params(self):
        """Number of stored numbers, r (J d_in + k d_out)."""
        return self.left.size + self.right.size
