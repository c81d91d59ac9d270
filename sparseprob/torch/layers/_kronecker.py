"""Layers of Kronecker structure: sums of products, and tied blocks between permutations."""

import math

import torch
from sklearn.utils import check_random_state
from torch import nn
from torch.nn import functional

from ..._array_operator import is_count
from ..._nearest_kronecker import kronecker_shapes
from ._base import StructuredLinear


class KroneckerLinear(StructuredLinear):
    r"""A linear layer whose weight is a sum of Kronecker products :math:`\sum_t V_t \otimes W_t`.

    A row x, read as a matrix X of shape (b, d), becomes :math:`\sum_t V_t X W_t^T`. When that takes
    more products than a dense layer, as with many terms, `forward` forms the weight instead.

    Parameters
    ----------
    in_features, out_features : int
        Sizes.
    shapes : tuple of two shapes, default=None
        Shapes (a, b) of V and (c, d) of W; None as in `sparseprob.torch.solvers.Kronecker`.
    n_terms : int, default=1
        Number of products.
    bias : bool, default=True
        Whether there is a bias.
    device, dtype : torch.device and torch.dtype, default=None
        Those of the parameters.

    Attributes
    ----------
    V : Parameter of shape (n_terms, a, b)
    W : Parameter of shape (n_terms, c, d)

    References
    ----------
    See [VanLoan1993]_.

    Examples
    --------
    >>> import torch
    >>> from sparseprob.torch.layers import KroneckerLinear
    >>> layer = KroneckerLinear(30, 32, shapes=((8, 6), (4, 5)))
    >>> torch.allclose(layer.dense_weight(), torch.kron(layer.V[0], layer.W[0]))
    True
    """

    def __init__(
        self, in_features, out_features, shapes=None, n_terms=1, bias=True, *,
        device=None, dtype=None,
    ):  # fmt: skip
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        shape_V, shape_W = kronecker_shapes(shapes, out_features, in_features)
        if not is_count(n_terms):
            raise ValueError(f"n_terms must be a positive number, got {n_terms!r}.")
        self.shapes, self.n_terms = (shape_V, shape_W), int(n_terms)
        options = {"device": device, "dtype": dtype}
        self.V = nn.Parameter(torch.empty(n_terms, *shape_V, **options))
        self.W = nn.Parameter(torch.empty(n_terms, *shape_W, **options))
        (a, b), (c, d) = shape_V, shape_W
        per_row = {"W first": n_terms * b * c * (d + a), "V first": n_terms * a * d * (b + c)}
        per_row["dense"] = in_features * out_features
        self._order = min(per_row, key=lambda order: per_row[order])
        self.reset_parameters()

    def reset_parameters(self):
        """Draw parameters so that outputs vary as those of a fresh `nn.Linear` do."""
        variance = math.sqrt(1 / (3 * self.in_features * self.n_terms))
        bound = math.sqrt(3 * variance)
        for factor in (self.V, self.W):
            nn.init.uniform_(factor, -bound, bound)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            nn.init.uniform_(self.bias, -bound, bound)

    @classmethod
    def from_factors(cls, V, W, bias=None):
        """Return a layer with given factors.

        Parameters
        ----------
        V : tensor of shape (n_terms, a, b)
        W : tensor of shape (n_terms, c, d)
        bias : tensor of shape (a * c,), default=None
            All are copied.

        Returns
        -------
        KroneckerLinear
        """
        (n_terms, a, b), (_, c, d) = V.shape, W.shape
        layer = cls(b * d, a * c, ((a, b), (c, d)), n_terms, bias=False, device="meta")
        layer.V, layer.W = (nn.Parameter(F.detach().clone()) for F in (V, W))
        layer._set_bias(bias)
        return layer

    @classmethod
    def from_linear(cls, linear, shapes=None, n_terms=1):
        """Return the sum of Kronecker products nearest to a linear layer.

        Parameters
        ----------
        linear : nn.Linear
        shapes : tuple of two shapes, default=None
            Those of V and W.
        n_terms : int, default=1
            Number of products.

        Returns
        -------
        KroneckerLinear
        """
        from ..solvers import Kronecker

        solver = Kronecker(n_terms=n_terms, shapes=shapes)
        return solver.solve(linear.weight).to_module(linear.bias)

    def forward(self, x):
        """Return x times the transposed weight, plus the bias.

        Parameters
        ----------
        x : tensor of shape (..., in_features)

        Returns
        -------
        tensor of shape (..., out_features)
        """
        if self._order == "dense":
            return functional.linear(x, self.dense_weight(), self.bias)
        (T, a, b), (_, c, d) = self.V.shape, self.W.shape
        n_rows = x.shape[:-1].numel()
        X = x.reshape(n_rows, x.shape[-1]).view(n_rows, b, d)
        if self._order == "W first":
            inner = functional.linear(X, self.W.view(T * c, d)).view(n_rows, b, T, c)
            inner = inner.permute(0, 3, 2, 1).reshape(n_rows, c, T * b)
            Y = functional.linear(inner, self.V.permute(1, 0, 2).reshape(a, T * b)).mT
        else:
            inner = functional.linear(X.mT, self.V.view(T * a, b)).view(n_rows, d, T, a)
            inner = inner.permute(0, 3, 2, 1).reshape(n_rows, a, T * d)
            Y = functional.linear(inner, self.W.permute(1, 0, 2).reshape(c, T * d))
        y = Y.reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def dense_weight(self):
        """Return the sum of Kronecker products.

        Returns
        -------
        tensor of shape (out_features, in_features)
            Gradients flow through it to the factors.
        """
        (T, a, b), (_, c, d) = self.V.shape, self.W.shape
        dense = self.V.view(T, a * b).T @ self.W.view(T, c * d)
        dense = dense.view(a, b, c, d).permute(0, 2, 1, 3)
        return dense.reshape(self.out_features, self.in_features)

    def extra_repr(self):
        """Return what `print` shows of the layer."""
        return f"{super().extra_repr()}, shapes={self.shapes}, n_terms={self.n_terms}"


class PermutedKroneckerLinear(StructuredLinear):
    r"""One small weight on every block of permuted inputs: :math:`J_2 (I \otimes W) J_1 x + b`.

    With commutation matrices as permutations this is how an MLP-Mixer mixes tokens; seen as a dense
    layer, a share 1 / `n_blocks` of its weight is not zero. Permutations are index lists; the
    number of stored weights does not depend on the number of blocks.

    Parameters
    ----------
    block_in, block_out : int
        Sizes of W.
    n_blocks : int
        Number of blocks; the layer has ``n_blocks * block_in`` inputs.
    perm_in, perm_out : {"commutation", "identity", "random"} or tensor, default="commutation"
        The permutations, as positions: entry i of the permuted vector is entry ``perm[i]`` of the
        vector. "commutation" for the inputs puts entry (j, i) of a matrix of shape
        (block_in, n_blocks) to (i, j); for the outputs it is the way back.
    bias : bool, default=True
        Whether there is a bias, one number for each output.
    random_state : int or RandomState, default=None
        For random permutations; None draws from torch's generator, as initial weights are.
    device, dtype : torch.device and torch.dtype, default=None
        Those of the parameters.

    Attributes
    ----------
    block : Parameter of shape (block_out, block_in)
        The weight W.
    perm_in, perm_out : tensor of int
        Buffers of shapes (in_features,) and (out_features,).

    References
    ----------
    See [Hayase2024]_.

    Examples
    --------
    >>> import torch
    >>> from sparseprob.torch.layers import PermutedKroneckerLinear
    >>> layer = PermutedKroneckerLinear(4, 6, n_blocks=3, bias=False)
    >>> X = torch.randn(4, 3)  # tokens x channels
    >>> torch.allclose(layer(X.flatten()).view(6, 3), layer.block @ X, atol=1e-6)
    True
    """

    perm_in: torch.Tensor
    perm_out: torch.Tensor

    def __init__(
        self, block_in, block_out, n_blocks, perm_in="commutation", perm_out="commutation", *,
        bias=True, random_state=None, device=None, dtype=None,
    ):  # fmt: skip
        super().__init__(n_blocks * block_in, n_blocks * block_out, bias, device=device,
                         dtype=dtype)  # fmt: skip
        self.n_blocks = n_blocks
        self.block = nn.Parameter(torch.empty(block_out, block_in, device=device, dtype=dtype))
        if random_state is not None:
            random_state = check_random_state(random_state)
        for name, perm, shape in (
            ("perm_in", perm_in, (block_in, n_blocks)),
            ("perm_out", perm_out, (n_blocks, block_out)),
        ):
            found = _permutation(perm, shape, random_state, name)
            self.register_buffer(name, torch.as_tensor(found, device=self.block.device))
        self.reset_parameters()

    def reset_parameters(self):
        """Draw parameters as `nn.Linear` does for a layer of the size of a block."""
        bound = 1 / math.sqrt(self.block.shape[1])
        nn.init.uniform_(self.block, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    @classmethod
    def from_linear(cls, linear, n_blocks, perm_in="commutation", perm_out="commutation", *,
                    random_state=None):  # fmt: skip
        """Return the layer with tied blocks nearest to a linear one: the mean of its blocks.

        Parameters
        ----------
        linear : nn.Linear
        n_blocks : int
            Number of blocks; must divide the numbers of inputs and outputs.
        perm_in, perm_out : {"commutation", "identity", "random"} or tensor, default="commutation"
            The permutations.
        random_state : int or RandomState, default=None
            For random permutations.

        Returns
        -------
        PermutedKroneckerLinear
        """
        sizes = (linear.in_features, linear.out_features)
        if any(size % n_blocks for size in sizes):
            raise ValueError(f"n_blocks must divide the sizes {sizes}, got {n_blocks}.")
        W, (block_in, block_out) = linear.weight.detach(), (size // n_blocks for size in sizes)
        layer = cls(
            block_in, block_out, n_blocks, perm_in, perm_out, bias=False,
            random_state=random_state, device=W.device, dtype=W.dtype,
        )  # fmt: skip
        unpermuted = W[torch.argsort(layer.perm_out)][:, layer.perm_in]
        blocks = unpermuted.view(n_blocks, block_out, n_blocks, block_in)
        with torch.no_grad():
            layer.block.copy_(blocks.diagonal(dim1=0, dim2=2).mean(dim=-1))
        layer._set_bias(linear.bias)
        return layer

    def forward(self, x):
        """Return x times the transposed weight, plus the bias.

        Parameters
        ----------
        x : tensor of shape (..., in_features)

        Returns
        -------
        tensor of shape (..., out_features)
        """
        block_out, block_in = self.block.shape
        n_rows = x.shape[:-1].numel()
        rows = x.reshape(n_rows, x.shape[-1]).view(n_rows, self.in_features)
        rows = rows.index_select(1, self.perm_in).view(n_rows, self.n_blocks, block_in)
        y = functional.linear(rows, self.block).view(n_rows, self.n_blocks * block_out)
        y = y.index_select(1, self.perm_out).view(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def dense_weight(self):
        """Return the weight of the equal dense layer.

        Returns
        -------
        tensor of shape (out_features, in_features)
            Gradients flow through it to the block.
        """
        dense = torch.block_diag(*[self.block] * self.n_blocks)
        return dense[self.perm_out][:, torch.argsort(self.perm_in)]

    def extra_repr(self):
        """Return what `print` shows of the layer."""
        return f"{super().extra_repr()}, n_blocks={self.n_blocks}"


def _permutation(perm, shape, random_state, name):
    """Return positions; "commutation" transposes a matrix of the shape."""
    n = math.prod(shape)
    if isinstance(perm, str):
        if perm not in _PERMUTATIONS:
            raise ValueError(
                f"{name} must be one of {list(_PERMUTATIONS)} or positions, got {perm!r}."
            )
        return _PERMUTATIONS[perm](shape, random_state)
    perm = torch.as_tensor(perm)
    if perm.shape != (n,) or not torch.equal(
        perm.sort().values.cpu(), torch.arange(n, device="cpu")
    ):
        raise ValueError(f"{name} must hold the positions 0 to {n - 1}, each once.")
    return perm.clone()


_PERMUTATIONS = {
    "commutation": lambda shape, rng: torch.arange(math.prod(shape)).view(shape).T.reshape(-1),
    "identity": lambda shape, rng: torch.arange(math.prod(shape)),
    "random": lambda shape, rng: random_permutation(math.prod(shape), rng),
}


def random_permutation(n, random_state):
    """Return a uniform permutation; None draws from torch's generator."""
    if random_state is None:
        return torch.randperm(n)
    return torch.from_numpy(random_state.permutation(n)).to(torch.int64)
