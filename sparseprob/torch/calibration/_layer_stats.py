"""Second moments of the inputs of one layer."""

from dataclasses import dataclass
from typing import Any

from ..._arrays import compute_namespace, is_array, like
from .._tensors import NARROW, to_array


@dataclass(frozen=True)
class LayerStats:
    r"""What calibration tells about the inputs :math:`x_1, \dots, x_n` of a layer.

    Parameters
    ----------
    gram : tensor or array of shape (d_in, d_in)
        Mean :math:`C = \frac1n \sum_t x_t x_t^T` of the outer products of the inputs.
    mean : tensor or array of shape (d_in,), default=None
        Mean of the inputs.
    n_tokens : int, default=None
        Number n of inputs (tokens, rows, positions); None if nobody counted.

    Examples
    --------
    >>> import torch
    >>> from sparseprob.torch.calibration import LayerStats
    >>> x = torch.randn(100, 8, dtype=torch.float64)
    >>> first, second = LayerStats.of(x[:30]), LayerStats.of(x[30:])
    >>> torch.allclose(first.merge(second).gram, x.T @ x / 100)
    True
    """

    gram: Any
    mean: Any = None
    n_tokens: int | None = None

    @classmethod
    def of(cls, x):
        """Return the moments of given inputs.

        Parameters
        ----------
        x : tensor or array of shape (..., d_in)

        Returns
        -------
        LayerStats
            In double precision.
        """
        A = to_array(x).reshape(-1, x.shape[-1])
        A = A.astype(compute_namespace(A).float64, copy=False)
        n = max(len(A), 1)
        return cls(like(A.T @ A / n, x), like(A.sum(axis=0) / n, x), len(A))

    def merge(self, other):
        """Return the moments of the inputs of both together.

        Parameters
        ----------
        other : LayerStats
            Of the same layer on other inputs.

        Returns
        -------
        LayerStats

        Raises
        ------
        ValueError
            If numbers of inputs are unknown or shapes differ.
        """
        if self.n_tokens is None or other.n_tokens is None:
            raise ValueError("Only statistics with n_tokens can be merged; give n_tokens to both.")
        if self.gram.shape != other.gram.shape:
            raise ValueError(
                f"Statistics of layers of {self.gram.shape[0]} and {other.gram.shape[0]} inputs "
                "cannot be merged; merge those of one layer."
            )
        n = self.n_tokens + other.n_tokens
        a = self.n_tokens / max(n, 1)
        mean = None
        if self.mean is not None and other.mean is not None:
            mean = a * self.mean + (1 - a) * other.mean
        return LayerStats(a * self.gram + (1 - a) * other.gram, mean, n)

    def damped(self, fraction):
        """Return the statistics with a multiple of the mean of the diagonal added to the diagonal.

        Parameters
        ----------
        fraction : float
            Not negative.

        Returns
        -------
        LayerStats
        """
        C = to_array(self.gram)
        xp = compute_namespace(C)
        C = C + fraction * C.diagonal().mean() * xp.eye(len(C), dtype=C.dtype)
        return LayerStats(like(C, self.gram), self.mean, self.n_tokens)

    def check(self, d_in):
        """Refuse statistics that no solver can use.

        Parameters
        ----------
        d_in : int
            Number of inputs of the layer.

        Raises
        ------
        ValueError
            In one sentence.
        TypeError
            If the Gram matrix is no array.
        """
        if not is_array(self.gram):
            raise TypeError(f"gram must be a tensor or an array, got {type(self.gram).__name__}.")
        if tuple(self.gram.shape) != (d_in, d_in):
            raise ValueError(
                f"The Gram matrix must be of shape ({d_in}, {d_in}), got {tuple(self.gram.shape)}; "
                "collect it with the inputs of this layer."
            )
        if str(self.gram.dtype).rpartition(".")[2] in NARROW:
            raise ValueError(
                f"The Gram matrix is of type {self.gram.dtype}, too narrow to be inverted; "
                "accumulate it in float32 or float64, as collect_grams does."
            )
        if self.n_tokens == 0:
            raise ValueError("Calibration produced no tokens: is the layer unused in forward?")
        C = to_array(self.gram)
        if not bool(compute_namespace(C).isfinite(C).all()):
            raise ValueError(
                "The Gram matrix has NaN or infinity; look for inputs of the layer that overflow."
            )
