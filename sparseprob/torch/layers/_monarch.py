"""Monarch layers: two batched products and a transposition."""

import math

import torch
from torch import nn
from torch.nn import functional

from ..._monarch import block_counts, block_shape, check_block_rank
from ._base import StructuredLinear


class MonarchLinear(StructuredLinear):
    r"""A linear layer whose weight is a Monarch matrix.

    Inputs are cut into k consecutive blocks, outputs sorted by their residue modulo J; every block
    of inputs meets every residue of outputs in a matrix of rank `block_rank`. Takes
    ``block_rank * (J * in_features + k * out_features)`` products a row. Inputs are padded and
    outputs cut off where the numbers of blocks do not divide them.

    Parameters
    ----------
    in_features, out_features : int
        Sizes.
    n_blocks : int, tuple of two int, or "sqrt", default=4
        Numbers k and J; "sqrt" takes the pairs of factors nearest to the roots of the sizes.
    block_rank : int, default=None
        None makes the inner width about the smaller of the two sizes.
    bias : bool, default=True
        Whether there is a bias.
    device, dtype : torch.device and torch.dtype, default=None
        Those of the parameters.

    Attributes
    ----------
    left : Parameter of shape (J, ceil(out_features / J), k * block_rank)
    right : Parameter of shape (k, J * block_rank, ceil(in_features / k))
    n_blocks : tuple of int
        Numbers k and J.

    References
    ----------
    See [Dao2022]_.

    Examples
    --------
    >>> import torch
    >>> from sparseprob.torch.layers import MonarchLinear
    >>> layer = MonarchLinear(64, 32)
    >>> layer
    MonarchLinear(in_features=64, out_features=32, bias=True, n_blocks=(4, 4), block_rank=2)
    >>> x = torch.randn(5, 64)
    >>> torch.allclose(layer(x), x @ layer.dense_weight().T + layer.bias, atol=1e-5)
    True
    """

    def __init__(
        self, in_features, out_features, n_blocks=4, block_rank=None, bias=True, *,
        device=None, dtype=None,
    ):  # fmt: skip
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        shape = (out_features, in_features)
        self.n_blocks = k, J = block_counts(n_blocks, *shape)
        n_outputs, n_inputs = block_shape(self.n_blocks, shape)
        if block_rank is None:
            block_rank = max(1, min(n_outputs, n_inputs) // max(k, J))
        check_block_rank(block_rank, self.n_blocks, shape)
        self.block_rank = r = int(block_rank)
        options = {"device": device, "dtype": dtype}
        self.left = nn.Parameter(torch.empty(J, n_outputs, k * r, **options))
        self.right = nn.Parameter(torch.empty(k, J * r, n_inputs, **options))
        self.reset_parameters()

    def reset_parameters(self):
        """Draw the factors as `nn.Linear` draws weights of their widths."""
        for factor in (self.left, self.right):
            bound = 1 / math.sqrt(factor.shape[2])
            nn.init.uniform_(factor, -bound, bound)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.out_features)
            nn.init.uniform_(self.bias, -bound, bound)

    @classmethod
    def from_factors(cls, left, right, bias=None, *, shape=None):
        """Return a layer with given factors.

        Parameters
        ----------
        left : tensor of shape (J, l, k * block_rank)
        right : tensor of shape (k, J * block_rank, i)
        bias : tensor of shape (out_features,), default=None
            All are copied.
        shape : tuple (out_features, in_features), default=None
            (l * J, k * i), the default, or what rounds up to it.

        Returns
        -------
        MonarchLinear
        """
        (J, n_outputs, width), (k, _, n_inputs) = left.shape, right.shape
        out_features, in_features = shape or (n_outputs * J, k * n_inputs)
        layer = cls(in_features, out_features, (k, J), width // k, bias=False, device="meta")
        for name, factor in (("left", left), ("right", right)):
            expected = getattr(layer, name).shape
            if factor.shape != expected:
                raise ValueError(
                    f"{name} must be of shape {tuple(expected)}, got {tuple(factor.shape)}."
                )
            setattr(layer, name, nn.Parameter(factor.detach().clone()))
        layer._set_bias(bias)
        return layer

    @classmethod
    def from_linear(cls, linear, n_blocks=4, block_rank=None):
        """Return the Monarch layer nearest to a linear one.

        Parameters
        ----------
        linear : nn.Linear
        n_blocks : int, tuple of two int, or "sqrt", default=4
            Numbers of blocks of inputs and of residues of outputs.
        block_rank : int, default=None
            None makes the inner width about the smaller of the two sizes.

        Returns
        -------
        MonarchLinear
        """
        from ..solvers import Monarch

        if block_rank is None:
            sizes = (linear.in_features, linear.out_features)
            block_rank = cls(*sizes, n_blocks, bias=False, device="meta").block_rank
        solver = Monarch(n_blocks=n_blocks, block_rank=block_rank)
        return solver.solve(linear.weight).to_module(linear.bias)

    def forward(self, x):
        """Return x V^T + bias.

        Parameters
        ----------
        x : tensor of shape (..., in_features)

        Returns
        -------
        tensor of shape (..., out_features)
        """
        (k, J), r, n_rows = self.n_blocks, self.block_rank, x.shape[:-1].numel()
        n_inputs = self.right.shape[2]
        rows = x.reshape(n_rows, x.shape[-1])
        if k * n_inputs != self.in_features:
            rows = functional.pad(rows, (0, k * n_inputs - self.in_features))
        inner = torch.bmm(rows.view(n_rows, k, n_inputs).transpose(0, 1), self.right.mT)
        inner = inner.view(k, n_rows, J, r).permute(2, 1, 0, 3).reshape(J, n_rows, k * r)
        blocks = torch.bmm(inner, self.left.mT).permute(1, 2, 0)  # (n_rows, n_outputs, J)
        return self._with_bias(blocks).view(*x.shape[:-1], self.out_features)

    def _with_bias(self, blocks):
        """Return rows of outputs in one pass over them."""
        n_rows, n_outputs, J = blocks.shape
        if self.bias is None:
            rows = blocks.reshape(n_rows, n_outputs * J)[:, : self.out_features]
            return rows.contiguous()
        surplus = n_outputs * J - self.out_features
        bias = functional.pad(self.bias, (0, surplus)) if surplus else self.bias
        # The sum is laid out like its first operand: the residue becomes the fastest index.
        rows = bias.to(blocks.dtype).view(n_outputs, J) + blocks
        return rows.reshape(n_rows, n_outputs * J)[:, : self.out_features].contiguous()

    def dense_weight(self):
        """Return the Monarch matrix.

        Returns
        -------
        tensor of shape (out_features, in_features)
            Gradients flow through it to the factors.
        """
        (k, J), r = self.n_blocks, self.block_rank
        n_outputs, n_inputs = self.left.shape[1], self.right.shape[2]
        L = self.left.view(J, n_outputs, k, r).permute(2, 0, 1, 3)
        blocks = L @ self.right.view(k, J, r, n_inputs)  # (k, J, n_outputs, n_inputs)
        dense = blocks.permute(2, 1, 0, 3).reshape(n_outputs * J, k * n_inputs)
        return dense[: self.out_features, : self.in_features].contiguous()

    def extra_repr(self):
        """Return what `print` shows of the layer."""
        blocks = f"n_blocks={self.n_blocks}, block_rank={self.block_rank}"
        return f"{super().extra_repr()}, {blocks}"
