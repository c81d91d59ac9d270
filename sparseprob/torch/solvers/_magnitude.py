"""Pruning by magnitude (S. Han et al., 2015)."""

from ._pruner import Pruner, keep_largest


class MagnitudePruner(Pruner):
    """Keep the weights of largest modulus.

    Parameters
    ----------
    sparsity : float, default=0.5
        Share of the weights that become zero, in [0, 1). One weight stays at least.
    granularity : {"row", "matrix", "nm", "block"}, default="row"
        Which weights compete: those of an output, those of the whole layer, runs of M consecutive
        inputs (with `nm`), or whole blocks of inputs of an output, by their norm.
    nm : str or tuple, default=None
        "N:M" or (N, M): of M consecutive inputs N are kept, whatever `sparsity` and `granularity`
        say.
    block_size : int, default=8
        Consecutive inputs that are kept or dropped together when `granularity` is "block".

    References
    ----------
    [Han2015]_

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.torch.solvers import MagnitudePruner
    >>> W = np.array([[3.0, -1.0, 0.5, -4.0]])
    >>> MagnitudePruner(0.5).solve(W).dense()
    array([[ 3.,  0.,  0., -4.]])
    """

    _needs_stats = False

    def __init__(self, sparsity=0.5, *, granularity="row", nm=None, block_size=8):
        self.sparsity = sparsity
        self.granularity = granularity
        self.nm = nm
        self.block_size = block_size

    def _solve(self, problem):
        return keep_largest(problem, self._pattern(problem.shape), abs(problem.W))
