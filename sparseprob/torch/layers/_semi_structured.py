"""A linear layer that keeps two of every four weights, which GPUs multiply faster."""

import warnings

import torch
from torch import nn

from ._base import StructuredLinear

_KEPT, _RUN = 2, 4
_PER_BYTE = 4  # positions of two bits


class SemiStructuredLinear(StructuredLinear):
    """Linear layer of which, of four consecutive inputs, two have weights (2:4 sparsity).

    Values and positions are what is stored: 36 bits for 64 in half precision. On a CUDA
    device of compute capability 8 and up, in half precision and without gradients, products are
    made by torch's semi-structured kernels; elsewhere the weight is unfolded first, once as long as
    no gradients are asked for. A call of these kernels costs the host more than half a millisecond:
    they are faster where the dense product takes longer than that.

    Parameters
    ----------
    in_features, out_features : int
        Numbers of inputs and outputs; inputs in fours.
    bias : bool, default=True
        Whether there is a bias.
    device, dtype : torch.device and torch.dtype, default=None
        Those of the parameters.

    Attributes
    ----------
    values : torch.nn.Parameter of shape (out_features, in_features / 2)
        The kept weights.
    positions : uint8 tensor of shape (out_features, ceil(in_features / 8))
        Places 0 to 3 of the kept weights in their fours, four of them in a byte, the first one in
        the lowest bits.

    References
    ----------
    [Mishra2021]_

    Examples
    --------
    >>> import torch
    >>> from sparseprob.torch.layers import SemiStructuredLinear
    >>> linear = torch.nn.Linear(4, 1, bias=False)
    >>> with torch.no_grad():
    ...     linear.weight.copy_(torch.tensor([[3.0, -1.0, 0.5, -4.0]]))
    Parameter containing: ...
    >>> SemiStructuredLinear.from_linear(linear).dense_weight().tolist()
    [[3.0, 0.0, 0.0, -4.0]]
    """

    values: nn.Parameter
    positions: torch.Tensor

    def __init__(self, in_features, out_features, bias=True, *, device=None, dtype=None):
        if in_features % _RUN:
            raise ValueError(f"in_features must be a multiple of {_RUN}, got {in_features}.")
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        n_values = in_features // _RUN * _KEPT
        self.values = nn.Parameter(torch.empty(out_features, n_values, device=device, dtype=dtype))
        first = torch.arange(_KEPT, device=device).repeat(n_values // _KEPT)
        self.register_buffer("positions", _pack(first.expand(out_features, -1)))
        self._unfolded = None  # (what it was made of, weight)
        nn.init.kaiming_uniform_(self.values, a=5**0.5)

    @classmethod
    def from_linear(cls, linear):
        """Return the layer that keeps the two largest of every four weights of a linear one.

        Parameters
        ----------
        linear : torch.nn.Linear
            Not changed.

        Returns
        -------
        SemiStructuredLinear
        """
        weight = linear.weight.detach()
        layer = nn.utils.skip_init(
            cls, *weight.shape[::-1], linear.bias is not None,
            device=weight.device, dtype=weight.dtype,
        )  # fmt: skip
        runs = weight.reshape(len(weight), -1, _RUN)
        order = runs.abs().argsort(dim=2, descending=True, stable=True)
        places = order[..., :_KEPT].sort(dim=2).values
        values = runs.gather(2, places).reshape(len(weight), -1)
        layer.values = nn.Parameter(values, linear.weight.requires_grad)
        layer.positions = _pack(places.reshape(len(weight), -1))
        layer._set_bias(linear.bias)
        return layer

    def dense_weight(self):
        """Return the weight with its zeros.

        Returns
        -------
        tensor of shape (out_features, in_features)
        """
        n = self.out_features
        places = _unpack(self.positions, self.values.shape[1]).reshape(n, -1, _KEPT)
        values = self.values.reshape(places.shape)
        runs = values.new_zeros(n, places.shape[1], _RUN).scatter(2, places, values)
        return runs.reshape(n, self.in_features)

    def forward(self, x):
        """Apply the layer.

        Parameters
        ----------
        x : tensor of shape (..., in_features)

        Returns
        -------
        tensor of shape (..., out_features)
        """
        if torch.compiler.is_compiling() or self._needs_gradient:
            return nn.functional.linear(x, self.dense_weight(), self.bias)
        sparse = self._has_kernels and x.dtype == self.values.dtype
        return nn.functional.linear(x, self._kept_weight(sparse), self.bias)

    @property
    def _needs_gradient(self):
        return torch.is_grad_enabled() and self.values.requires_grad

    @property
    def _has_kernels(self):
        values = self.values
        return (
            values.is_cuda
            and values.dtype in (torch.float16, torch.bfloat16)
            and self.out_features % 32 == 0
            and self.in_features % 64 == 0
            and torch.cuda.get_device_capability(values.device) >= (8, 0)
        )

    def _kept_weight(self, sparse):
        """Unfold the weight, or return what was unfolded from the same values before."""
        if self.values.is_inference() or self.positions.is_inference():
            return self._unfold(sparse)  # nobody counts their changes
        parts = (self.values, self.positions)
        key = (sparse, *((p.data_ptr(), p._version, p.dtype, p.device) for p in parts))
        if self._unfolded is None or self._unfolded[0] != key:
            self._unfolded = key, self._unfold(sparse)
        return self._unfolded[1]

    def _unfold(self, sparse):
        weight = self.dense_weight().detach()
        if not sparse:
            return weight
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that the interface may change
            return torch.sparse.to_sparse_semi_structured(weight)

    def __getstate__(self):
        return super().__getstate__() | {"_unfolded": None}


def _pack(places):
    """Write places of two bits, (n, k), into bytes, (n, ceil(k / 4))."""
    padded = nn.functional.pad(places, (0, -places.shape[1] % _PER_BYTE))
    shifts = 2 * torch.arange(_PER_BYTE, device=places.device)
    return (padded.reshape(len(places), -1, _PER_BYTE) << shifts).sum(2).to(torch.uint8)


def _unpack(packed, n_places):
    """Return the places in bytes as int64, of shape (n, n_places)."""
    shifts = 2 * torch.arange(_PER_BYTE, device=packed.device)
    places = packed[:, :, None].long() >> shifts & 3
    return places.reshape(len(packed), -1)[:, :n_places]
