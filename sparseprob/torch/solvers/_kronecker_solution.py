"""A layer stored as a sum of Kronecker products."""

from ._solution import LayerSolution


class KroneckerSolution(LayerSolution):
    r"""A weight :math:`\sum_t V_t \otimes W_t`.

    Parameters
    ----------
    problem : LayerProblem
        The layer.
    V : array of shape (n_terms, a, b)
        Left factors.
    W : array of shape (n_terms, c, d)
        Right factors.
    **options
        Those of `LayerSolution`.
    """

    def __init__(self, problem, V, W, **options):
        super().__init__(problem, **options)
        self.V, self.W = V, W

    def _dense(self):
        (n_terms, a, b), (_, c, d) = self.V.shape, self.W.shape
        dense = self.V.reshape(n_terms, a * b).T @ self.W.reshape(n_terms, c * d)
        return dense.reshape(a, b, c, d).transpose(0, 2, 1, 3).reshape(self.shape)

    def to_module(self, bias=None):
        """Return a `KroneckerLinear`.

        Parameters
        ----------
        bias : tensor of shape (d_out,), default=None
            Bias of the layer.

        Returns
        -------
        KroneckerLinear
        """
        from ..layers import KroneckerLinear

        return KroneckerLinear.from_factors(self._tensor(self.V), self._tensor(self.W), bias)

    @property
    def n_params(self):
        """Number of stored numbers."""
        return self.V.size + self.W.size
