"""MLP-Mixer blocks, what they are compared with, and how wide they are as dense networks."""

import math

import torch
from sklearn.utils import check_random_state
from torch import nn

from ._kronecker import random_permutation
from ._masked import MaskedLinear


class MixerBlock(nn.Module):
    """A block of an MLP-Mixer: one network mixes tokens, another one channels.

    Both have one hidden layer, Gaussian error units, a layer norm before and a residual connection
    around them. With random permutations each mixes groups of entries drawn when the block is made
    instead of columns and rows: as sparse and as wide, without the structure.

    Parameters
    ----------
    n_tokens, n_channels : int
        Sizes S and C.
    expansion : float, default=2
        Hidden sizes over S and C.
    permutation : {"mixer", "random"}, default="mixer"
        What is mixed.
    random_state : int or RandomState, default=None
        For random permutations; None draws from torch's generator, as initial weights are.
    device, dtype : torch.device and torch.dtype, default=None
        Those of the parameters.

    Attributes
    ----------
    tokens, channels : nn.Sequential
        The networks, S -> expansion * S -> S and C -> expansion * C -> C.

    References
    ----------
    See [Tolstikhin2021]_ and [Hayase2024]_.

    Examples
    --------
    >>> import torch
    >>> from sparseprob.torch.layers import MixerBlock
    >>> MixerBlock(n_tokens=16, n_channels=8)(torch.randn(5, 16, 8)).shape
    torch.Size([5, 16, 8])
    """

    perm_tokens_in: torch.Tensor
    perm_tokens_out: torch.Tensor
    perm_channels_in: torch.Tensor
    perm_channels_out: torch.Tensor

    def __init__(
        self, n_tokens, n_channels, expansion=2, permutation="mixer", *, random_state=None,
        device=None, dtype=None,
    ):  # fmt: skip
        super().__init__()
        if permutation not in ("mixer", "random"):
            raise ValueError(f"permutation must be 'mixer' or 'random', got {permutation!r}.")
        self.n_tokens, self.n_channels, self.permutation = n_tokens, n_channels, permutation
        options = {"device": device, "dtype": dtype}
        self.token_norm = nn.LayerNorm(n_channels, **options)
        self.channel_norm = nn.LayerNorm(n_channels, **options)
        self.tokens = _network(n_tokens, expansion, options)
        self.channels = _network(n_channels, expansion, options)
        if permutation == "random":
            rng = None if random_state is None else check_random_state(random_state)
            n, device = n_tokens * n_channels, self.token_norm.weight.device
            for name in ("tokens_in", "tokens_out", "channels_in", "channels_out"):
                drawn = torch.as_tensor(random_permutation(n, rng), device=device)
                self.register_buffer(f"perm_{name}", drawn)

    def forward(self, X):
        """Mix tokens, then channels.

        Parameters
        ----------
        X : tensor of shape (..., n_tokens, n_channels)

        Returns
        -------
        tensor of the same shape
        """
        X = X + self._mix_tokens(self.token_norm(X))
        return X + self._mix_channels(self.channel_norm(X))

    def _mix_tokens(self, X):
        if self.permutation == "mixer":
            return self.tokens(X.mT).mT
        return self._permuted(X, self.tokens, self.perm_tokens_in, self.perm_tokens_out)

    def _mix_channels(self, X):
        if self.permutation == "mixer":
            return self.channels(X)
        return self._permuted(X, self.channels, self.perm_channels_in, self.perm_channels_out)

    def _permuted(self, X, network, perm_in, perm_out):
        """Apply a network to groups of permuted entries and put the answers to other places."""
        size = network[0].in_features
        groups = X.flatten(-2).index_select(-1, perm_in).unflatten(-1, (-1, size))
        return network(groups).flatten(-2).index_select(-1, perm_out).view(X.shape)

    def extra_repr(self):
        """Return what `print` shows of the block."""
        sizes = f"n_tokens={self.n_tokens}, n_channels={self.n_channels}"
        return f"{sizes}, permutation={self.permutation!r}"


def _network(n, expansion, options):
    hidden = max(1, round(expansion * n))
    return nn.Sequential(
        nn.Linear(n, hidden, **options), nn.GELU(), nn.Linear(hidden, n, **options)
    )


class StaticSparseLinear(MaskedLinear):
    """A linear layer whose weight is zero outside a mask drawn once.

    What structured layers of the same number of connections are compared with; it saves neither
    time nor memory. Initial weights are scaled up so that outputs vary as those of a dense layer.

    Parameters
    ----------
    in_features, out_features : int
        Sizes.
    density : float
        Chance of an entry to be kept.
    bias : bool, default=True
        Whether there is a bias.
    random_state : int or RandomState, default=None
        For the mask; None draws from torch's generator, as initial weights are.
    device, dtype : torch.device and torch.dtype, default=None
        Those of the parameters.

    Attributes
    ----------
    weight : Parameter of shape (out_features, in_features)
        Entries outside the mask are zero and get no gradient.
    mask : tensor of bool of the same shape
        Buffer.

    References
    ----------
    See [Hayase2024]_.

    Examples
    --------
    >>> from sparseprob.torch.layers import StaticSparseLinear
    >>> layer = StaticSparseLinear(100, 100, density=0.1, random_state=0)
    >>> int(layer.mask.sum())
    1021
    """

    mask: torch.Tensor

    def __init__(
        self, in_features, out_features, density, bias=True, *, random_state=None,
        device=None, dtype=None,
    ):  # fmt: skip
        if not 0 < density <= 1:
            raise ValueError(f"density must be above 0 and at most 1, got {density!r}.")
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        self.density, shape = density, (out_features, in_features)
        if random_state is None:
            drawn = torch.rand(shape)
        else:
            drawn = torch.from_numpy(check_random_state(random_state).uniform(size=shape))
        self.mask = torch.as_tensor(drawn < density, device=self.weight.device)
        self.reset_parameters()

    def reset_parameters(self):
        """Draw parameters."""
        bound = 1 / math.sqrt(self.in_features)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)
        bound /= math.sqrt(self.density)
        nn.init.uniform_(self.weight, -bound, bound)
        with torch.no_grad():
            self.weight.mul_(self.mask)

    @classmethod
    def from_linear(cls, linear, density, *, random_state=None):  # type: ignore[override]
        """Return a layer with the weight of a linear one inside the mask.

        Parameters
        ----------
        linear : nn.Linear
        density : float
            Chance of an entry to be kept.
        random_state : int or RandomState, default=None
            For the mask.

        Returns
        -------
        StaticSparseLinear
        """
        W = linear.weight.detach()
        layer = cls(
            linear.in_features, linear.out_features, density, bias=False,
            random_state=random_state, device=W.device, dtype=W.dtype,
        )  # fmt: skip
        with torch.no_grad():
            layer.weight.copy_(W * layer.mask)
        layer._set_bias(linear.bias)
        return layer

    def extra_repr(self):
        """Return what `print` shows of the layer."""
        return f"{super().extra_repr()}, density={self.density}"


def effective_width(n_tokens, n_channels):
    """Return the width of a mixer seen as a dense network of vectors.

    Parameters
    ----------
    n_tokens, n_channels : int
        Sizes S and C.

    Returns
    -------
    int
        Width m = S C of the vectors.

    References
    ----------
    See [Hayase2024]_.

    Examples
    --------
    >>> from sparseprob.torch.layers import effective_width
    >>> effective_width(16, 8)
    128
    """
    return n_tokens * n_channels


def n_connections(n_tokens, n_channels, expansion=1):
    r"""Return the mean number of connections of a layer of a mixer seen as a dense network.

    Parameters
    ----------
    n_tokens, n_channels : int
        Sizes S and C.
    expansion : float, default=1
        Hidden sizes over S and C.

    Returns
    -------
    float
        :math:`\Omega = \gamma (C S^2 + S C^2) / 2`, weights that are shared counted as often as
        they are used. A masked dense layer of the same width m has as many with a density of
        :math:`\Omega / (\gamma m^2)`.

    References
    ----------
    See [Hayase2024]_.

    Examples
    --------
    >>> from sparseprob.torch.layers import n_connections
    >>> n_connections(16, 8, expansion=2)
    3072.0
    """
    return expansion * n_tokens * n_channels * (n_tokens + n_channels) / 2


def max_effective_width(connections, expansion=1):
    r"""Return the largest width that mixers with a number of connections can have.

    Parameters
    ----------
    connections : float
        Number :math:`\Omega` of connections of a layer.
    expansion : float, default=1
        Hidden sizes over S and C.

    Returns
    -------
    float
        :math:`(\Omega / \gamma)^{2/3}`, with as many tokens as channels.

    References
    ----------
    See [Hayase2024]_.

    Examples
    --------
    >>> from sparseprob.torch.layers import max_effective_width, n_connections
    >>> round(max_effective_width(n_connections(16, 16)))
    256
    """
    return (connections / expansion) ** (2 / 3)
