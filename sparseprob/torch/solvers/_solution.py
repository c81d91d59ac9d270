"""What a layer solver answers."""

import math
from abc import ABC, abstractmethod

from .._tensors import back, to_tensor
from ._problem import squared_error


class LayerSolution(ABC):
    """A compressed layer: what to store instead of the weight, and how good it is.

    Parameters
    ----------
    problem : LayerProblem
        The layer.
    history : sequence of float, default=()
        Relative squared losses E / E(0) of the iterations.
    converged : bool, default=True
        Whether the solver ended by its own rule.
    damp : float, default=None
        Damping of the Gram matrix that was needed.
    n_iter : int, default=None
        Number of iterations; None means the length of the history.

    Attributes
    ----------
    method : str
        The solver, for reports; set by `LayerSolver.solve`.
    """

    method = ""

    def __init__(self, problem, *, history=(), converged=True, damp=None, n_iter=None):
        self._weight = problem.weight
        self.history, self.converged, self.damp = list(history), bool(converged), damp
        self.n_iter = len(self.history) if n_iter is None else n_iter

    @property
    def shape(self):
        """Numbers of outputs and inputs."""
        return tuple(self._weight.shape)

    @abstractmethod
    def _dense(self):
        """Return the weight (d_out, d_in) that the layer has now, NumPy or CuPy."""

    @abstractmethod
    def to_module(self, bias=None):
        """Return a torch module that stands in for the linear layer.

        Parameters
        ----------
        bias : tensor of shape (d_out,), default=None
            Bias of the layer.

        Returns
        -------
        torch.nn.Module
            With parameters of the type and on the device of the weight.
        """

    @property
    @abstractmethod
    def n_params(self):
        """Number of stored numbers."""

    def n_bits(self, value_bits=16):
        """Return the size of the layer without its bias.

        Parameters
        ----------
        value_bits : int, default=16
            Bits of a stored number.

        Returns
        -------
        int
            Bits, those of positions included.
        """
        return self.n_params * value_bits

    @property
    def density(self):
        """Stored numbers over numbers of the weight."""
        return self.n_params / math.prod(self.shape)

    def dense(self):
        """Return the weight that the layer has now.

        Returns
        -------
        tensor or array of shape (d_out, d_in)
            In the library, on the device and of the type of the weight.
        """
        return back(self._dense(), self._weight)

    def relative_error(self, stats=None):
        r"""Return the relative error of the outputs, :math:`\sqrt{E(V) / E(0)}`.

        Parameters
        ----------
        stats : LayerStats, default=None
            None weighs all inputs alike: the error of the weight itself.

        Returns
        -------
        float
            0 for a layer of zeros.
        """
        error, scale = squared_error(self._weight, self.dense(), stats)
        return math.sqrt(error / scale) if scale > 0 else 0.0

    def _tensor(self, A):
        """Return an array as a tensor like the weight."""
        return to_tensor(A, self._weight)

    def __repr__(self):
        return (
            f"{type(self).__name__}(shape={self.shape}, n_params={self.n_params}, "
            f"method={self.method!r})"
        )
