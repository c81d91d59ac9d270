"""A linear layer that is trained while it is factorized: the straight-through factorizer."""

import math

import torch
from torch import nn
from torch.nn import functional

from .._tensors import back, to_array
from ..solvers._alternation import Pattern, alternate
from ._base import StructuredLinear
from ._dictionary import DictionaryLinear


class DenseSparseLinear(StructuredLinear):
    """A linear layer that computes with V = (D S)^T and trains a full weight behind it.

    D is a dense matrix of `n_atoms` columns, S a sparse one of `n_nonzero` numbers a column. In
    training mode each call first moves D and S a little towards the full weight; gradients pass
    from V to the full weight as if both were one. `freeze` drops the full weight. Calls after
    ``eval()`` leave the factors alone, and give what the frozen layer gives.

    Parameters
    ----------
    in_features, out_features : int
        Numbers of inputs and outputs.
    n_atoms, n_nonzero : int
        Sizes of the factors.
    bias : bool, default=True
        Whether there is a bias.
    pattern : {"segment", "topk"}, default="segment"
        Places of the non-zeros, see `sparseprob.torch.solvers.DSFormer`.
    n_per_segment : int, default=1
        Atoms of a segment that an output uses.
    refine_steps : int, default=1
        Alternations between codes and atoms in each call.
    device, dtype : torch.device and torch.dtype, default=None
        Those of the parameters.

    Attributes
    ----------
    weight : Parameter of shape (out_features, in_features)
        The full weight, which the optimizer moves.
    dictionary : tensor of shape (in_features, n_atoms)
        D, a buffer.
    values, indices : tensors of shape (out_features, n_nonzero)
        The columns of S, buffers.

    References
    ----------
    See [Chand2023]_.

    Examples
    --------
    >>> import torch
    >>> from sparseprob.torch.layers import DenseSparseLinear
    >>> layer = DenseSparseLinear.from_linear(torch.nn.Linear(20, 30), compression=0.5)
    >>> layer
    DenseSparseLinear(in_features=20, out_features=30, bias=True, n_atoms=8, n_nonzero=4)
    >>> loss = layer(torch.randn(5, 20)).square().mean()
    >>> loss.backward()
    >>> layer.weight.grad.shape
    torch.Size([30, 20])
    >>> layer.freeze()
    DictionaryLinear(in_features=20, out_features=30, bias=True, n_atoms=8, n_nonzero=4)
    """

    dictionary: torch.Tensor
    values: torch.Tensor
    indices: torch.Tensor

    def __init__(
        self,
        in_features,
        out_features,
        n_atoms,
        n_nonzero,
        bias=True,
        *,
        pattern="segment",
        n_per_segment=1,
        refine_steps=1,
        device=None,
        dtype=None,
    ):
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        Pattern(n_atoms, n_nonzero, pattern, n_per_segment).check()
        self.n_atoms, self.n_nonzero = n_atoms, n_nonzero
        self.pattern, self.n_per_segment, self.refine_steps = pattern, n_per_segment, refine_steps
        options = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(out_features, in_features, **options))
        self.register_buffer("dictionary", torch.empty(in_features, n_atoms, **options))
        self.register_buffer("values", torch.empty(out_features, n_nonzero, **options))
        places = torch.empty(out_features, n_nonzero, dtype=torch.int32, device=device)
        self.register_buffer("indices", places)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self):
        """Draw factors, with which outputs vary as those of ``nn.Linear``, and multiply them."""
        pattern = Pattern(self.n_atoms, self.n_nonzero, self.pattern, self.n_per_segment)
        draws = torch.rand(self.out_features, self.n_atoms, device=self.indices.device)
        if pattern.segment is None:
            self.indices.copy_(draws.topk(self.n_nonzero, sorted=False).indices)
        else:
            draws = draws.view(self.out_features, -1, pattern.segment)
            chosen = draws.topk(self.n_per_segment, sorted=False).indices
            starts = torch.arange(draws.shape[1], device=draws.device)[:, None] * pattern.segment
            self.indices.copy_((chosen + starts).flatten(1))
        nn.init.normal_(self.values, std=1 / math.sqrt(self.n_nonzero))
        nn.init.normal_(self.dictionary, std=1 / math.sqrt(3 * self.in_features))
        self.weight.copy_(self._product())
        if self.bias is not None:
            nn.init.uniform_(self.bias, -(self.in_features**-0.5), self.in_features**-0.5)

    @classmethod
    def from_linear(cls, linear, compression=0.2, *, refine_steps=1, **parameters):
        """Return a layer that begins with the factors of a linear one.

        Parameters
        ----------
        linear : nn.Linear
        compression : float, default=0.2
            Share of the storage that the frozen layer saves.
        refine_steps : int, default=1
            Alternations in each call.
        **parameters
            Those of `sparseprob.torch.solvers.DSFormer`, but `whiten`.

        Returns
        -------
        DenseSparseLinear
        """
        from ..solvers import DSFormer

        solver = DSFormer(compression, **parameters)
        layer = cls._from_weight(linear.weight, linear.bias, solver, refine_steps)
        return layer.train(linear.training)

    @classmethod
    def _from_weight(cls, weight, bias, solver, refine_steps):
        """Return a layer that begins with a weight and the factors that a solver finds."""
        found, (out_features, in_features) = solver.solve(weight), weight.shape
        layer = cls(
            in_features,
            out_features,
            found.dictionary.shape[1],
            found.values.shape[1],
            bias=False,
            pattern=solver.pattern,
            n_per_segment=solver.n_per_segment,
            refine_steps=refine_steps,
            device="meta",
        )
        layer.weight = nn.Parameter(weight.detach().clone())
        for name in ("dictionary", "values", "indices"):
            setattr(layer, name, found._tensor(getattr(found, name)).clone())
        layer._set_bias(bias)
        return layer

    def forward(self, x):
        """Return x V^T + bias; in training mode V moves towards the weight first.

        Parameters
        ----------
        x : tensor of shape (..., in_features)

        Returns
        -------
        tensor of shape (..., out_features)
        """
        if self.training:
            torch.ops.sparseprob.refine_factors(
                self.weight.detach(),
                self.dictionary,
                self.values,
                self.indices,
                self.pattern,
                self.n_per_segment,
                self.refine_steps,
            )
        return functional.linear(x, self.dense_weight(), self.bias)

    def dense_weight(self):
        """Return V = (D S)^T.

        Returns
        -------
        tensor of shape (out_features, in_features)
            Its gradient passes to ``weight`` unchanged.
        """
        return self._product() + (self.weight - self.weight.detach())

    def _product(self):
        codes = self.values.new_zeros(self.out_features, self.n_atoms)
        return codes.scatter_add(1, self.indices.long(), self.values) @ self.dictionary.T

    def freeze(self):
        """Return a layer of the factors as they are, without the full weight.

        Returns
        -------
        DictionaryLinear
            All its numbers can be trained further.
        """
        frozen = DictionaryLinear.from_factors(
            self.dictionary, self.values, self.indices, self.bias
        )
        return frozen.train(self.training)

    def extra_repr(self):
        """Return what `print` shows of the layer."""
        return f"{super().extra_repr()}, n_atoms={self.n_atoms}, n_nonzero={self.n_nonzero}"


@torch.library.custom_op(
    "sparseprob::refine_factors", mutates_args=("dictionary", "values", "indices")
)
def refine_factors(
    weight: torch.Tensor,
    dictionary: torch.Tensor,
    values: torch.Tensor,
    indices: torch.Tensor,
    pattern: str,
    n_per_segment: int,
    n_steps: int,
) -> None:
    """Move factors towards a weight, by some alternations of codes and atoms, in place."""
    places = Pattern(dictionary.shape[1], values.shape[1], pattern, n_per_segment)
    A, D = to_array(weight.contiguous()), to_array(dictionary.T.contiguous())
    x, numbers = (to_array(part.contiguous().clone()) for part in (values, indices))
    for _ in range(n_steps):
        D, _ = alternate(A, D, numbers, x, places)
    dictionary.copy_(back(D, dictionary).T)
    values.copy_(back(x, values))
    indices.copy_(back(numbers, indices))
