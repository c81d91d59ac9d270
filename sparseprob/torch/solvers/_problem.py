"""One layer to be compressed, as NumPy or CuPy arrays."""

import warnings
from functools import cached_property

import array_api_compat
import numpy as np

from ..._arrays import compute_namespace, is_array, is_on_gpu, like
from .._tensors import solver_dtype, to_array

_MOST_DAMPING = 0.1


class LayerProblem:
    r"""Find V near W: the loss is :math:`E(V) = \mathrm{tr}((W - V) C (W - V)^T)`.

    Parameters
    ----------
    weight : tensor or array of shape (d_out, d_in)
    stats : LayerStats or None
        None stands for a Gram matrix C of one.

    Attributes
    ----------
    W : array of shape (d_out, d_in)
        In double precision on the CPU, in single precision on a GPU; shares memory with the weight
        where types agree: never write into it.
    gram : array of shape (d_in, d_in) or None
        C, of the type of W.
    xp : module
        NumPy or CuPy.
    """

    def __init__(self, weight, stats=None):
        check_weight(weight)
        self.weight, self.stats = weight, stats
        dtype = solver_dtype(weight)
        self.W, self.xp = to_array(weight, dtype), compute_namespace(weight)
        self.gram = None
        if not bool(self.xp.isfinite(self.W).all()):
            raise ValueError("The weight has NaN or infinity; compression would spread them.")
        if stats is not None:
            stats.check(self.shape[1])
            if is_on_gpu(stats.gram) != is_on_gpu(weight):
                raise ValueError(
                    "The weight and the Gram matrix are on different devices; move one of them."
                )
            self.gram = to_array(stats.gram, dtype)
            if stats.n_tokens is not None and stats.n_tokens < self.shape[1]:
                warnings.warn(
                    f"{stats.n_tokens} tokens cannot determine a Gram matrix of {self.shape[1]} "
                    "inputs; use more calibration data.",
                    UserWarning,
                    stacklevel=4,
                )

    @property
    def shape(self):
        """Numbers of outputs and inputs."""
        return self.W.shape

    @cached_property
    def scales(self):
        """Root mean squares of the inputs, of shape (d_in,)."""
        if self.gram is None:
            return self.xp.ones(self.shape[1], dtype=self.W.dtype)
        return self.xp.sqrt(self.xp.maximum(self.gram.diagonal(), 0))

    @cached_property
    def dead(self):
        """Mask of the inputs that are always zero."""
        return self.scales == 0

    def times_gram(self, D):
        """Return D C."""
        return D if self.gram is None else D @ self.gram

    def loss(self, V):
        """Return E(V) as a float."""
        D = self.W - V
        return float((self.times_gram(D) * D).sum(dtype=np.float64))

    @cached_property
    def scale(self):
        """E(0), to which losses are relative; 1 for a layer that never speaks."""
        return self.loss(self.xp.zeros_like(self.W)) or 1.0

    def damped(self, damp):
        """Return C with `damp` times the mean of its diagonal added to its diagonal, in double."""
        xp, n = self.xp, self.shape[1]
        if self.gram is None:
            return xp.eye(n)
        C = to_array(self.stats.gram, np.float64)
        return 0.5 * (C + C.T) + (damp * (float(C.diagonal().mean()) or 1.0)) * xp.eye(n)

    def cholesky(self, damp):
        """Return R, upper triangular with R^T R = C damped, in double, and the damping it took.

        When the factorization fails, the damping grows tenfold, at most to 0.1.

        Raises
        ------
        ValueError
            If the Gram matrix is indefinite.
        """
        damps = [damp, *(d for d in 10.0 ** np.arange(-6, 0) if d > damp)]
        for used in damps:
            R = _upper(self.xp, self.damped(used))
            if R is not None:
                if used > damp:
                    self._check_semidefinite()
                return R, used
        self._check_semidefinite()
        raise ValueError(f"No Cholesky factor of the Gram matrix with damping {_MOST_DAMPING}.")

    def _check_semidefinite(self):
        lowest = float(self.xp.linalg.eigvalsh(self.damped(0.0))[0])
        mean = float((self.scales**2).mean())
        if lowest < -1e-6 * abs(mean) or mean <= 0 and not bool(self.dead.all()):
            raise ValueError(
                f"The Gram matrix is indefinite (lowest eigenvalue {lowest:.3g}, mean of the "
                f"diagonal {mean:.3g}); collect it as a mean of outer products."
            )


def _upper(xp, C):
    """Return the upper Cholesky factor of C, or None."""
    try:
        R = xp.linalg.cholesky(C).T
    except np.linalg.LinAlgError:
        return None
    return R if bool(xp.isfinite(R).all()) else None


def check_weight(weight):
    """Refuse what is no weight of a linear layer."""
    if not is_array(weight):
        raise TypeError(f"weight must be a tensor or an array, got {type(weight).__name__}.")
    if weight.ndim != 2 or 0 in weight.shape:
        raise ValueError(
            f"weight must be of shape (d_out, d_in), got {tuple(weight.shape)}; unfold "
            "convolutions, as compress does."
        )
    if not array_api_compat.array_namespace(weight).isdtype(weight.dtype, "real floating"):
        raise TypeError(f"weight must hold real floating-point numbers, got {weight.dtype}.")


def squared_error(weight, dense, stats):
    """Return E(dense) and E(0) in double precision, wherever the arrays live."""
    W, V = to_array(weight, np.float64), to_array(dense, np.float64)
    C = None if stats is None else to_array(like(to_array(stats.gram), W), np.float64)
    both = [float(((A if C is None else A @ C) * A).sum()) for A in (W - V, W)]
    return max(both[0], 0.0), both[1]
