"""What the pruners share: parameters, their checks, and dead inputs."""

from numbers import Integral, Real

from sklearn.utils._param_validation import Interval, StrOptions

from ._base import LayerSolver
from ._projections import GRANULARITIES, pattern
from ._sparse_solution import SparseSolution


class Pruner(LayerSolver):
    """Base of the solvers that keep some entries of a weight."""

    _parameter_constraints: dict = {
        "sparsity": [Interval(Real, 0, 1, closed="left")],
        "granularity": [StrOptions(set(GRANULARITIES))],
        "nm": [str, tuple, list, None],
        "block_size": [Interval(Integral, 1, None, closed="left")],
    }

    sparsity: float
    granularity: str
    nm: str | tuple | None
    block_size: int

    def _pattern(self, shape):
        return pattern(
            shape,
            sparsity=self.sparsity,
            granularity=self.granularity,
            nm=self.nm,
            block_size=self.block_size,
        )

    def _check_shape(self, d_out, d_in):
        self._pattern((d_out, d_in))


def keep_largest(problem, pattern, moduli):
    """Return the solution that keeps the entries of largest `moduli` as they are."""
    return SparseSolution(problem, problem.W, pattern.mask(moduli), pattern=pattern)
