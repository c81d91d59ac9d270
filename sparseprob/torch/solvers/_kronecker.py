"""Layers that are sums of Kronecker products."""

import math
from numbers import Integral, Real

from sklearn.utils._param_validation import Interval

from ..._nearest_kronecker import kronecker_shapes, kronecker_terms
from ._base import LayerSolver
from ._kronecker_solution import KroneckerSolution


class Kronecker(LayerSolver):
    r"""Replace the weight by a sum of Kronecker products :math:`\sum_t V_t \otimes W_t`.

    The nearest sum in the Frobenius norm, by the singular vectors of the rearranged weight; needs
    no calibration. Saves storage, and time only while the terms are few. `n_terms` takes precedence
    over `compression`.

    Parameters
    ----------
    compression : float, default=0.2
        Share of the numbers of the weight that is saved.
    n_terms : int, default=None
        Number of products; None finds the largest that saves `compression`.
    shapes : tuple of two shapes, default=None
        Shapes (a, b) of the left and (c, d) of the right factors, a c being the number of outputs
        and b d that of inputs. None takes pairs of factors nearest to the roots of the numbers, so
        that a product has few numbers.

    References
    ----------
    See [VanLoan1993]_.

    Examples
    --------
    >>> import torch
    >>> from sparseprob.torch.solvers import Kronecker
    >>> _ = torch.manual_seed(0)
    >>> weight = torch.kron(torch.randn(8, 6), torch.randn(4, 5))
    >>> solution = Kronecker(n_terms=1, shapes=((8, 6), (4, 5))).solve(weight)
    >>> solution.n_params, weight.numel(), round(solution.relative_error(), 5)
    (68, 960, 0.0)
    >>> solution.to_module()
    KroneckerLinear(in_features=30, out_features=32, bias=False, shapes=((8, 6), (4, 5)), n_terms=1)
    """

    _parameter_constraints = {
        "compression": [Interval(Real, 0, 1, closed="left")],
        "n_terms": [Interval(Integral, 1, None, closed="left"), None],
        "shapes": [tuple, list, None],
    }
    _needs_stats = False

    def __init__(self, compression=0.2, *, n_terms=None, shapes=None):
        self.compression = compression
        self.n_terms = n_terms
        self.shapes = shapes

    def _n_terms(self, shapes, d_out, d_in):
        """Return the number of products for a layer, 0 if none is small enough."""
        sizes = [math.prod(shape) for shape in shapes]
        if self.n_terms is not None:
            return self.n_terms
        return min(math.floor((1 - self.compression) * d_out * d_in / sum(sizes)), *sizes)

    def _check_shape(self, d_out, d_in):
        shapes = kronecker_shapes(self.shapes, d_out, d_in)
        most = min(math.prod(shape) for shape in shapes)
        if self.n_terms is not None and self.n_terms > most:
            raise ValueError(
                f"n_terms must be at most {most} for factors of shapes {shapes}, which reproduce "
                f"any weight then, got {self.n_terms}."
            )
        if self._n_terms(shapes, d_out, d_in) < 1:
            raise ValueError(
                f"compression={self.compression} leaves no room for one product of factors of "
                f"shapes {shapes}; lower it, choose other shapes, or leave this layer as it is."
            )

    def _solve(self, problem):
        shapes = kronecker_shapes(self.shapes, *problem.shape)
        n_terms = self._n_terms(shapes, *problem.shape)
        V, W = kronecker_terms(problem.W, shapes[0], shapes[1], n_terms)
        solution = KroneckerSolution(problem, V, W, n_iter=0)
        solution.history = [problem.loss(solution._dense()) / problem.scale]
        return solution
