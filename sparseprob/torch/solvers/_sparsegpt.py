"""Pruning column by column with corrections (E. Frantar, D. Alistarh, 2023)."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from ..._kernels import kernels
from ._base import LayerSolver
from ._projections import largest, n_to_keep, pattern
from ._sparse_solution import SparseSolution


class SparseGPTPruner(LayerSolver):
    r"""Prune the inputs from first to last; each error is made up for by the inputs after it.

    With the upper Cholesky factor U of :math:`C^{-1}`, pruning :math:`W_{ij}` costs
    :math:`W_{ij}^2 / U_{jj}^2` and is best answered by
    :math:`W_{i,j:} \leftarrow W_{i,j:} - (W_{ij} / U_{jj}) U_{j,j:}`.

    Parameters
    ----------
    sparsity : float, default=0.5
        Share of the weights that become zero, in [0, 1).
    granularity : {"matrix", "row", "nm"}, default="matrix"
        Which weights compete: those of a block of inputs and all outputs, those of a block of
        inputs of one output, or runs of M consecutive inputs (with `nm`).
    nm : str or tuple, default=None
        "N:M" or (N, M): of M consecutive inputs N are kept, whatever `sparsity` and `granularity`
        say.
    block_size : int, default=128
        Inputs whose weights are chosen at once; for N:M rounded up to a multiple of M.
    damp : float, default=0.01
        Share of the mean of the diagonal of C that is added to the diagonal; more where no
        Cholesky factor exists.

    Notes
    -----
    It costs d_in^3 + d_out d_in^2 multiplications, once.

    References
    ----------
    [Frantar2023]_

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.torch.calibration import LayerStats
    >>> from sparseprob.torch.solvers import SparseGPTPruner, WandaPruner
    >>> rng = np.random.default_rng(0)
    >>> x, W = rng.normal(size=(200, 16)) @ rng.normal(size=(16, 16)), rng.normal(size=(8, 16))
    >>> stats = LayerStats.of(x)
    >>> solvers = SparseGPTPruner(0.5), WandaPruner(0.5)
    >>> errors = [solver.solve(W, stats).relative_error(stats) for solver in solvers]
    >>> errors[0] < 0.8 * errors[1]
    True
    """

    _parameter_constraints: dict = {
        "sparsity": [Interval(Real, 0, 1, closed="left")],
        "granularity": [StrOptions({"matrix", "row", "nm"})],
        "nm": [str, tuple, list, None],
        "block_size": [Interval(Integral, 1, None, closed="left")],
        "damp": [Interval(Real, 0, 0.1, closed="both")],
    }

    def __init__(self, sparsity=0.5, *, granularity="matrix", nm=None, block_size=128, damp=0.01):
        self.sparsity = sparsity
        self.granularity = granularity
        self.nm = nm
        self.block_size = block_size
        self.damp = damp

    def _check_shape(self, d_out, d_in):
        self._pattern((d_out, d_in))

    def _pattern(self, shape):
        return pattern(shape, sparsity=self.sparsity, granularity=self.granularity, nm=self.nm)

    def _solve(self, problem):
        kept, by_row = self._pattern(problem.shape), self.granularity == "row"
        return sparse_gpt(problem, kept, self.sparsity, self.block_size, self.damp, by_row)


def sparse_gpt(problem, pattern, sparsity, block_size=128, damp=0.01, by_row=False):
    """Return the solution of a LayerProblem, whose rows compete unless `by_row` or N:M."""
    if pattern.keeps_all:
        return SparseSolution(problem, problem.W, pattern.mask(problem.W), pattern=pattern)
    n, m = (pattern.n_kept, pattern.run) if pattern.is_nm else (0, 0)
    size = -(-block_size // max(m, 1)) * max(m, 1)
    W = problem.W.astype(np.float64)
    W[:, problem.dead] = 0

    def choose(part, scores):
        if m:  # the kernel does it, when it comes to them
            return problem.xp.ones(scores.shape, dtype=bool)
        return _chosen(scores, sparsity, by_row)

    mask, damp = _sweep(problem, W, choose, size, damp, n=n, m=m)
    V = W.astype(problem.W.dtype, copy=False)
    return SparseSolution(problem, V, mask, pattern=pattern, damp=damp)


def round_in_turn(problem, V, mask, grid, levels=None):
    """Round weights to given levels or those they span, inputs making up for those before them.

    That is SparseGPT with given zeros, known as GPTQ where there are none.
    """
    V = V.astype(np.float64)
    levels = grid.levels_of_inputs(levels or grid.levels(V), problem.shape[1])
    _sweep(problem, V, lambda part, scores: mask[:, part], 128, 0.01, levels=levels)
    return V.astype(problem.W.dtype, copy=False)


def _sweep(problem, W, choose, size, damp, *, n=0, m=0, levels=None):
    """Go through the inputs of W, in place; return what was kept, and the damping.

    ``choose(part, scores)`` says which weights of a slice of inputs stay.
    """
    xp, d_in = problem.xp, problem.shape[1]
    U, damp = inverse_factor(problem, damp)
    scale, zero, top = (W, W, 0) if levels is None else levels  # without levels nobody looks
    mask = xp.empty(W.shape, dtype=bool)
    for start in range(0, d_in, size):
        part = slice(start, start + size)
        columns, block = xp.ascontiguousarray(W[:, part]), xp.ascontiguousarray(U[part, part])
        kept = xp.ascontiguousarray(choose(part, columns / block.diagonal()))
        grid = (xp.ascontiguousarray(A[:, part]) for A in (scale, zero))
        errors = xp.empty_like(columns)
        kernels("awp", W).prune_columns(columns, kept, block, n, m, *grid, top, errors)
        W[:, part], mask[:, part] = columns, kept
        W[:, start + size :] -= errors @ U[part, start + size :]
    return mask, damp


def _chosen(scores, sparsity, by_row):
    """Return where the weights of a block are that cost most to lose."""
    runs = abs(scores) if by_row else abs(scores).reshape(1, -1)
    return largest(runs, n_to_keep(runs.shape[1], sparsity)).reshape(scores.shape)


def inverse_factor(problem, damp):
    """Return the upper Cholesky factor of the inverse of the damped C, and the damping used."""
    xp = problem.xp
    R, used = problem.cholesky(damp)
    if xp is np:
        from scipy.linalg import solve_triangular
    else:
        from cupyx.scipy.linalg import solve_triangular
    inverse_R = solve_triangular(R, xp.eye(len(R)))
    return xp.linalg.cholesky(inverse_R @ inverse_R.T).T, used
