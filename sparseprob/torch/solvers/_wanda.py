"""Pruning by weight and activation (M. Sun et al., 2024)."""

from ._pruner import Pruner, keep_largest


class WandaPruner(Pruner):
    r"""Keep the weights that matter most for the outputs, one by one.

    Scores are :math:`|W_{ij}| \sqrt{C_{jj}}`: a weight counts by how much it moves the output when
    inputs have their usual size. Weights that stay are not changed.

    Parameters
    ----------
    sparsity : float, default=0.5
        Share of the weights that become zero, in [0, 1). One weight stays at least.
    granularity : {"row", "matrix", "nm", "block"}, default="row"
        Which weights compete: those of an output, those of the whole layer, runs of M consecutive
        inputs (with `nm`), or whole blocks of inputs of an output, by the norm of their scores.
    nm : str or tuple, default=None
        "N:M" or (N, M): of M consecutive inputs N are kept, whatever `sparsity` and `granularity`
        say.
    block_size : int, default=8
        Consecutive inputs that are kept or dropped together when `granularity` is "block".

    References
    ----------
    [Sun2024]_

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.torch.calibration import LayerStats
    >>> from sparseprob.torch.solvers import WandaPruner
    >>> W = np.array([[3.0, -1.0, 0.5, -4.0]])
    >>> stats = LayerStats(np.diag([0.01, 4.0, 0.01, 1.0]))
    >>> WandaPruner(0.5).solve(W, stats).dense()
    array([[ 0., -1.,  0., -4.]])
    """

    def __init__(self, sparsity=0.5, *, granularity="row", nm=None, block_size=8):
        self.sparsity = sparsity
        self.granularity = granularity
        self.nm = nm
        self.block_size = block_size

    def _solve(self, problem):
        scores = abs(problem.W) * problem.scales
        return keep_largest(problem, self._pattern(problem.shape), scores)
