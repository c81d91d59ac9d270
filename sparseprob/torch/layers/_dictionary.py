"""A linear layer whose outputs are sparse combinations of a few projections."""

import math

import torch
from torch import nn
from torch.nn import functional

from ._base import StructuredLinear

_SPARSE = 4  # atoms per non-zero from which sums of rows beat a dense product on a CPU


class DictionaryLinear(StructuredLinear):
    """A linear layer y = (x D) S + bias with a dense dictionary D and sparse codes S.

    Each column of S has `n_nonzero` numbers. On a CPU, codes of fewer than a quarter of the atoms
    are summed up without their zeros; denser ones, and those on a GPU, are filled up with zeros and
    multiplied as a matrix, which was measured to be faster: such a layer saves storage, not time.

    Parameters
    ----------
    in_features, out_features : int
        Numbers of inputs and outputs.
    n_atoms : int
        Columns of the dictionary.
    n_nonzero : int
        Atoms of each output.
    bias : bool, default=True
        Whether there is a bias.
    device, dtype : torch.device and torch.dtype, default=None
        Those of the parameters.

    Attributes
    ----------
    dictionary : Parameter of shape (in_features, n_atoms)
    values : Parameter of shape (out_features, n_nonzero)
    indices : tensor of shape (out_features, n_nonzero)
        Atoms of each output, a buffer of 32-bit integers.

    Examples
    --------
    >>> import torch
    >>> from sparseprob.torch.layers import DictionaryLinear
    >>> layer = DictionaryLinear(20, 10, n_atoms=8, n_nonzero=2)
    >>> x = torch.randn(3, 20)
    >>> torch.allclose(layer(x), x @ layer.dense_weight().T + layer.bias, atol=1e-6)
    True
    """

    indices: torch.Tensor

    def __init__(
        self,
        in_features,
        out_features,
        n_atoms,
        n_nonzero,
        bias=True,
        *,
        device=None,
        dtype=None,
    ):
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        _check_sizes(n_atoms, n_nonzero)
        self.n_atoms, self.n_nonzero = n_atoms, n_nonzero
        options = {"device": device, "dtype": dtype}
        self.dictionary = nn.Parameter(torch.empty(in_features, n_atoms, **options))
        self.values = nn.Parameter(torch.empty(out_features, n_nonzero, **options))
        places = torch.empty(out_features, n_nonzero, dtype=torch.int32, device=device)
        self.register_buffer("indices", places)
        self.reset_parameters()

    def reset_parameters(self):
        """Draw atoms for each output, and numbers with which outputs vary as ``nn.Linear``'s do."""
        draws = torch.rand(self.out_features, self.n_atoms, device=self.indices.device)
        self.indices.copy_(draws.topk(self.n_nonzero, sorted=False).indices)
        nn.init.normal_(self.values, std=1 / math.sqrt(self.n_nonzero))
        nn.init.normal_(self.dictionary, std=1 / math.sqrt(3 * self.in_features))
        if self.bias is not None:
            nn.init.uniform_(self.bias, -(self.in_features**-0.5), self.in_features**-0.5)

    @classmethod
    def from_factors(cls, dictionary, values, indices, bias=None):
        """Return a layer with given dictionary and codes.

        Parameters
        ----------
        dictionary : Parameter or tensor of shape (in_features, n_atoms)
            A Parameter is used itself, so that layers can share it; a tensor is copied.
        values : tensor of shape (out_features, n_nonzero)
        indices : integer tensor of shape (out_features, n_nonzero)
        bias : tensor of shape (out_features,), default=None
            Copied, as the other tensors are.

        Returns
        -------
        DictionaryLinear
        """
        sizes = dictionary.shape[0], values.shape[0], dictionary.shape[1], values.shape[1]
        layer = cls(*sizes, bias=False, device="meta")
        if not isinstance(dictionary, nn.Parameter):
            dictionary = nn.Parameter(dictionary.detach().clone())
        layer.dictionary, layer.values = dictionary, nn.Parameter(values.detach().clone())
        layer.indices = indices.to(torch.int32, copy=True)
        layer._set_bias(bias)
        return layer

    @classmethod
    def from_linear(cls, linear, compression=0.2, *, stats=None, random_state=None):
        """Return a layer whose dictionary is learned from a linear one.

        Parameters
        ----------
        linear : nn.Linear
        compression : float, default=0.2
            Share of the storage that is saved.
        stats : LayerStats, default=None
            Inputs whose outputs shall be kept; None keeps the weight itself.
        random_state : int, RandomState instance or None, default=None
            For the first atoms.

        Returns
        -------
        DictionaryLinear
        """
        from ..solvers import CoSpaDi

        solver = CoSpaDi(compression, whiten=stats is not None, random_state=random_state)
        return solver.solve(linear.weight, stats).to_module(linear.bias)

    def forward(self, x):
        """Return (x D) S + bias.

        Parameters
        ----------
        x : tensor of shape (..., in_features)

        Returns
        -------
        tensor of shape (..., out_features)
        """
        h = x @ self.dictionary
        if h.is_cuda or self.n_nonzero * _SPARSE > self.n_atoms:
            return functional.linear(h, self._codes(), self.bias)
        y = _sparse_sums(h, self.values.to(h.dtype), self.indices)
        return y if self.bias is None else y + self.bias.to(h.dtype)

    def _codes(self):
        """Return S transposed, dense."""
        empty = self.values.new_zeros(self.out_features, self.n_atoms)
        return empty.scatter_add(1, self.indices.long(), self.values)

    def dense_weight(self):
        """Return the transpose of D S.

        Returns
        -------
        tensor of shape (out_features, in_features)
            Gradients flow through it to dictionary and values.
        """
        return self._codes() @ self.dictionary.T

    def extra_repr(self):
        """Return what `print` shows of the layer."""
        return f"{super().extra_repr()}, n_atoms={self.n_atoms}, n_nonzero={self.n_nonzero}"


def _sparse_sums(h, values, indices):
    """Return the sums over rows of `values` times the columns of h that `indices` names."""
    rows = h.reshape(-1, h.shape[-1]).T.contiguous()
    sums = functional.embedding_bag(indices, rows, per_sample_weights=values, mode="sum")
    return sums.T.reshape(*h.shape[:-1], len(indices)).contiguous()


def _check_sizes(n_atoms, n_nonzero):
    if not 1 <= n_nonzero <= n_atoms:
        raise ValueError(f"n_nonzero must be between 1 and n_atoms={n_atoms}, got {n_nonzero}.")
