"""The base of layers that stand in for a linear one."""

from abc import ABC, abstractmethod

import torch
from torch import nn


class StructuredLinear(nn.Module, ABC):
    """A linear layer whose weight is stored in parts.

    A subclass has ``forward(x)``, which computes x V^T + bias for x of shape (..., in_features),
    ``dense_weight()``, and a class method ``from_linear(linear, ...)``.

    Parameters
    ----------
    in_features, out_features : int
        Numbers of inputs and outputs.
    bias : bool, default=True
        Whether there is a bias.
    device, dtype : torch.device and torch.dtype, default=None
        Those of the parameters.
    """

    bias: nn.Parameter | None

    def __init__(self, in_features, out_features, bias=True, *, device=None, dtype=None):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        if bias:
            self.bias = nn.Parameter(torch.zeros(out_features, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)

    @abstractmethod
    def dense_weight(self):
        """Return the weight V of shape (out_features, in_features) of the equal dense layer.

        Returns
        -------
        tensor
            Gradients flow through it to the parts.
        """

    def _set_bias(self, bias):
        """Take over a given bias, or its absence."""
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def extra_repr(self):
        """Return what `print` shows of the layer."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )
