"""A linear layer of low rank."""

import math

import torch
from torch import nn
from torch.nn import functional

from ._base import StructuredLinear


class LowRankLinear(StructuredLinear):
    """A linear layer whose weight is the product of two thin matrices.

    Takes ``rank * (in_features + out_features)`` products a row instead of
    ``in_features * out_features``.

    Parameters
    ----------
    in_features, out_features, rank : int
        Sizes.
    bias : bool, default=True
        Whether there is a bias.
    device, dtype : torch.device and torch.dtype, default=None
        Those of the parameters.

    Attributes
    ----------
    left : Parameter of shape (out_features, rank)
    right : Parameter of shape (rank, in_features)

    Examples
    --------
    >>> import torch
    >>> from sparseprob.torch.layers import LowRankLinear
    >>> linear = torch.nn.Linear(20, 10)
    >>> layer = LowRankLinear.from_linear(linear, rank=10)
    >>> x = torch.randn(3, 20)
    >>> torch.allclose(layer(x), linear(x), atol=1e-5)
    True
    """

    def __init__(self, in_features, out_features, rank, bias=True, *, device=None, dtype=None):
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        self.rank = rank
        self.left = nn.Parameter(torch.empty(out_features, rank, device=device, dtype=dtype))
        self.right = nn.Parameter(torch.empty(rank, in_features, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self):
        """Draw parameters so that outputs vary as those of a fresh ``nn.Linear`` do."""
        nn.init.normal_(self.left, std=1 / math.sqrt(self.rank))
        nn.init.normal_(self.right, std=1 / math.sqrt(3 * self.in_features))
        if self.bias is not None:
            nn.init.uniform_(self.bias, -1 / math.sqrt(self.in_features), self.in_features**-0.5)

    @classmethod
    def from_factors(cls, left, right, bias=None):
        """Return a layer with given factors.

        Parameters
        ----------
        left : tensor of shape (out_features, rank)
        right : tensor of shape (rank, in_features)
        bias : tensor of shape (out_features,), default=None
            All are copied.

        Returns
        -------
        LowRankLinear
        """
        out_features, rank = left.shape
        layer = cls(right.shape[1], out_features, rank, bias=False, device="meta")
        layer.left, layer.right = (nn.Parameter(A.detach().clone()) for A in (left, right))
        layer._set_bias(bias)
        return layer

    @classmethod
    def from_linear(cls, linear, compression=0.2, *, rank=None, stats=None):
        """Return the layer of low rank nearest to a linear one.

        Parameters
        ----------
        linear : nn.Linear
        compression : float, default=0.2
            Share of the numbers of the weight that is saved.
        rank : int, default=None
            Takes precedence over `compression`.
        stats : LayerStats, default=None
            Inputs whose outputs shall be kept; None is nearest in the weight itself.

        Returns
        -------
        LowRankLinear
        """
        from ..solvers import LowRank

        solver = LowRank(compression, rank=rank, whiten=stats is not None)
        return solver.solve(linear.weight, stats).to_module(linear.bias)

    def forward(self, x):
        """Return x right^T left^T + bias.

        Parameters
        ----------
        x : tensor of shape (..., in_features)

        Returns
        -------
        tensor of shape (..., out_features)
        """
        return functional.linear(functional.linear(x, self.right), self.left, self.bias)

    def dense_weight(self):
        """Return left right.

        Returns
        -------
        tensor of shape (out_features, in_features)
            Gradients flow through it to the factors.
        """
        return self.left @ self.right

    def extra_repr(self):
        """Return what `print` shows of the layer."""
        return f"{super().extra_repr()}, rank={self.rank}"
