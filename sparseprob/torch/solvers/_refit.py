"""Least squares on the support of a sparse weight."""

import numpy as np

from ..._threads import n_threads_allowed, one_blas_thread, thread_pool
from ._base import LayerSolver
from ._sparse_solution import SparseSolution

_RIDGE = 1e-12  # share of the mean of the diagonal of C; more where C has no Cholesky factor
_AT_ONCE = 2**28  # numbers of the matrices that a GPU solves together


class Refit(LayerSolver):
    r"""Fit the weights that a pruner has kept by least squares, each row on its support.

    The loss is smallest on the support S of a row w when :math:`v_S = C_{SS}^{-1} (C w)_S`.

    Parameters
    ----------
    solver : LayerSolver
        A pruner.

    Notes
    -----
    It costs d_out k^3 / 3 multiplications for rows of k weights.

    References
    ----------
    [Liu2025]_

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.torch.calibration import LayerStats
    >>> from sparseprob.torch.solvers import Refit, WandaPruner
    >>> rng = np.random.default_rng(0)
    >>> x, W = rng.normal(size=(200, 16)) @ rng.normal(size=(16, 16)), rng.normal(size=(8, 16))
    >>> stats = LayerStats.of(x)
    >>> solvers = Refit(WandaPruner(sparsity=0.5)), WandaPruner(sparsity=0.5)
    >>> errors = [solver.solve(W, stats).relative_error(stats) for solver in solvers]
    >>> errors[0] < 0.8 * errors[1]
    True
    """

    _parameter_constraints: dict = {"solver": [LayerSolver]}

    def __init__(self, solver):
        self.solver = solver

    def _check_shape(self, d_out, d_in):
        self.solver.check((d_out, d_in))

    def _solve(self, problem):
        found = self.solver.solve(problem.weight, problem.stats)
        if not isinstance(found, SparseSolution) or found.grid is not None:
            raise ValueError(
                f"Refit needs a solver of sparse weights that are not quantized, got {self.solver}."
            )
        V = refit(problem, found._dense(), found.mask)
        fitted = SparseSolution(
            problem, V, found.mask, pattern=found.pattern, history=found.history,
            converged=found.converged, damp=found.damp, n_iter=found.n_iter,
        )  # fmt: skip
        fitted.method = f"Refit({found.method})"
        return fitted


def refit(problem, V, mask):
    r"""Return the least-squares weights on a support, of shape (d_out, d_in).

    Where the columns of a support depend on each other, the weights stay near V: what is added to
    V is found with a ridge that is small, but large enough for a Cholesky factor of C.
    """
    xp = problem.xp
    _, damp = problem.cholesky(_RIDGE)
    C = problem.damped(damp)
    V = xp.where(mask, V, 0).astype(np.float64)
    target = (problem.W - V) @ problem.damped(0.0)
    if xp is np:
        V += _row_by_row(C, target, mask)
    else:
        from cupyx.lapack import posv

        V += _in_batches(xp, posv, C, target, mask)
    return V.astype(problem.W.dtype, copy=False)


def _row_by_row(C, target, mask):
    """Solve C_SS x = target_S for each row; zero outside S."""
    from scipy.linalg.lapack import dposv

    found = np.zeros_like(target)

    def work(i):
        support = np.flatnonzero(mask[i])
        gram = C[support[:, None], support].T  # in the order of LAPACK; it is symmetric
        found[i, support] = dposv(gram, target[i, support], lower=1, overwrite_a=1)[1]

    with one_blas_thread():
        list(thread_pool(n_threads_allowed()).map(work, np.flatnonzero(mask.any(axis=1))))
    return found


def _in_batches(xp, solve, C, target, mask):
    """Do the same for many rows at a time, filled up to equal numbers of weights."""
    counts, found = mask.sum(axis=1), xp.zeros_like(target)
    order = xp.argsort(counts)  # rows of like counts together
    at_once = max(1, _AT_ONCE // max(1, int(counts.max())) ** 2)
    for start in range(0, len(target), at_once):
        rows = order[start : start + at_once]
        k = int(counts[rows[-1]])
        if k:
            support = xp.argsort(~mask[rows], axis=1, kind="stable")[:, :k]
            chosen = xp.take_along_axis(mask[rows], support, axis=1)
            grams = C[support[:, :, None], support[:, None, :]]
            grams *= chosen[:, :, None] & chosen[:, None, :]
            grams[:, xp.arange(k), xp.arange(k)] += ~chosen
            right = xp.take_along_axis(target[rows], support, axis=1) * chosen
            found[rows[:, None], support] = solve(grams, right[:, :, None])[:, :, 0]
    return found
