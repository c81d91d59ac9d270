"""A linear layer some of whose weights are zero and stay zero."""

import torch
from torch import nn

from ._base import StructuredLinear


class MaskedLinear(StructuredLinear):
    """Linear layer with a weight and a mask; weights outside the mask count as zero.

    They have no gradient, so that training leaves them out. The weight is stored whole: this layer
    is for training and for reading, not for saving memory.

    Parameters
    ----------
    in_features, out_features : int
        Numbers of inputs and outputs.
    bias : bool, default=True
        Whether there is a bias.
    device, dtype : torch.device and torch.dtype, default=None
        Those of the parameters.

    Attributes
    ----------
    weight : torch.nn.Parameter of shape (out_features, in_features)
    mask : bool tensor of shape (out_features, in_features)
        All true in a new layer.

    Examples
    --------
    >>> import torch
    >>> from sparseprob.torch.layers import MaskedLinear
    >>> linear = torch.nn.Linear(4, 2)
    >>> layer = MaskedLinear.from_linear(linear, linear.weight.abs() > 0.2)
    >>> layer(torch.ones(3, 4)).shape
    torch.Size([3, 2])
    """

    weight: nn.Parameter
    mask: torch.Tensor

    def __init__(self, in_features, out_features, bias=True, *, device=None, dtype=None):
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        shape = (out_features, in_features)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.register_buffer("mask", torch.ones(shape, device=device, dtype=torch.bool))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    @classmethod
    def from_linear(cls, linear, mask=None):
        """Return the layer that keeps some weights of a linear one.

        Parameters
        ----------
        linear : torch.nn.Linear
            Not changed.
        mask : bool tensor of shape (out_features, in_features), default=None
            Where weights are kept; None keeps those that are not zero.

        Returns
        -------
        MaskedLinear
        """
        weight = linear.weight.detach()
        mask = weight != 0 if mask is None else mask
        if tuple(mask.shape) != tuple(weight.shape):
            raise ValueError(
                f"mask must be of shape {tuple(weight.shape)}, got {tuple(mask.shape)}."
            )
        layer = nn.utils.skip_init(
            cls, *weight.shape[::-1], linear.bias is not None,
            device=weight.device, dtype=weight.dtype,
        )  # fmt: skip
        layer.mask = mask.to(weight.device, torch.bool, copy=True)
        kept = torch.where(layer.mask, weight, 0)
        layer.weight = nn.Parameter(kept, linear.weight.requires_grad)
        layer._set_bias(linear.bias)
        return layer

    def dense_weight(self):
        """Return the weight with its zeros.

        Returns
        -------
        tensor of shape (out_features, in_features)
        """
        return torch.where(self.mask, self.weight, 0)

    def forward(self, x):
        """Apply the layer.

        Parameters
        ----------
        x : tensor of shape (..., in_features)

        Returns
        -------
        tensor of shape (..., out_features)
        """
        return nn.functional.linear(x, self.dense_weight(), self.bias)
