"""The base of all layer solvers: parameters like scikit-learn's, one method."""

from abc import ABC, abstractmethod

from sklearn.base import BaseEstimator

from ._problem import LayerProblem, check_weight


class LayerSolver(BaseEstimator, ABC):
    """A way to compress one linear layer; a subclass writes ``_solve`` and ``_check_shape``.

    Solvers know nothing of modules: they take the weight and the statistics of its inputs, as
    tensors or arrays, and hand out a `LayerSolution`.
    """

    _needs_stats = True
    _parameter_constraints: dict = {}

    @property
    def needs_calibration(self):
        """Whether `solve` needs statistics of the inputs."""
        return self._needs_stats

    def check(self, shape):
        """Refuse parameters, or a layer of a shape that they do not fit, before any work.

        Parameters
        ----------
        shape : tuple of int
            Numbers of outputs and inputs of the layer.

        Raises
        ------
        ValueError
            In one sentence.
        """
        self._validate_params()
        self._check_shape(*shape)

    def solve(self, weight, stats=None):
        """Compress a layer.

        Parameters
        ----------
        weight : tensor or array of shape (d_out, d_in)
            Floating-point numbers of any width; not changed.
        stats : LayerStats, default=None
            Statistics of the inputs of the layer, on the device of the weight.

        Returns
        -------
        LayerSolution

        Raises
        ------
        ValueError
            If parameters, weight and statistics do not fit together, or statistics are missing.
        """
        check_weight(weight)
        self.check(tuple(weight.shape))
        if stats is None and self.needs_calibration:
            raise ValueError(
                f"{type(self).__name__} needs statistics of the inputs of the layer; collect them "
                "with collect_grams, or use a method that needs none: MagnitudePruner, LowRank, "
                "Monarch, Kronecker or DSFormer."
            )
        solution = self._solve(LayerProblem(weight, stats))
        solution.method = solution.method or type(self).__name__
        return solution

    def _check_shape(self, d_out, d_in):
        """Raise ValueError if the parameters do not fit a layer of this shape."""

    @abstractmethod
    def _solve(self, problem):
        """Return the LayerSolution of a LayerProblem."""
