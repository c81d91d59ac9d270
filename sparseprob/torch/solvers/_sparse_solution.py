"""A weight some of whose entries are zero, and perhaps the others on a grid."""

from ._solution import LayerSolution


class SparseSolution(LayerSolution):
    """A layer of which some weights are kept.

    Parameters
    ----------
    problem : LayerProblem
        The layer.
    V : array of shape (d_out, d_in)
        Weights; those outside the mask do not count.
    mask : bool array of shape (d_out, d_in)
        Where weights are kept. Weights of inputs that are always zero are dropped from it, unless
        the pattern is N:M.
    pattern : Pattern
        Which entries may be kept together.
    grid : Grid, default=None
        Where the values lie, if they were quantized.
    **details
        See `LayerSolution`.

    Attributes
    ----------
    mask : bool array of shape (d_out, d_in)
        Where weights are kept, NumPy or CuPy.
    """

    def __init__(self, problem, V, mask, *, pattern, grid=None, **details):
        super().__init__(problem, **details)
        self.pattern, self.grid = pattern, grid
        alive = ~problem.dead
        if not pattern.keeps_all and not bool(alive.all()):
            V = V * alive
            if not pattern.is_nm:
                mask = mask & alive
        self.mask = mask
        self._V = problem.xp.where(mask, V, V.dtype.type(0))  # memory of its own
        self._n_kept = int(self.mask.sum())

    def _dense(self):
        return self._V

    @property
    def n_params(self):
        """Number of kept weights."""
        return self._n_kept

    def n_bits(self, value_bits=16):
        """Return the size of the layer without its bias.

        Parameters
        ----------
        value_bits : int, default=16
            Bits of a stored number; quantized weights have their own number of bits, and their
            scales this one.

        Returns
        -------
        int
            Bits of the kept weights, of scales and zero points of a grid, and of the mask.
        """
        where = self.pattern.n_mask_bits
        if self.grid is None:
            return self.n_params * value_bits + where
        return self.n_params * self.grid.bits + self.grid.n_bits(self.shape, value_bits) + where

    def to_module(self, bias=None):
        """Return a torch module that stands in for the linear layer.

        Parameters
        ----------
        bias : tensor of shape (d_out,), default=None
            Bias of the layer.

        Returns
        -------
        torch.nn.Module
            A `SemiStructuredLinear` for 2:4, a `MaskedLinear` for other patterns, and a
            `torch.nn.Linear` where nothing was pruned. Quantized weights are held as the numbers
            that they stand for.
        """
        from torch import nn

        from ..layers import MaskedLinear, SemiStructuredLinear

        weight = self._tensor(self._dense())
        linear = nn.utils.skip_init(
            nn.Linear, *self.shape[::-1], bias=bias is not None,
            device=weight.device, dtype=weight.dtype,
        )  # fmt: skip
        linear.weight = nn.Parameter(weight.clone())
        if bias is not None:
            linear.bias = nn.Parameter(bias.detach().clone())
        if self.pattern.keeps_all:
            return linear
        if self.pattern.is_2_of_4:
            return SemiStructuredLinear.from_linear(linear)
        return MaskedLinear.from_linear(linear, self._tensor(self.mask))
