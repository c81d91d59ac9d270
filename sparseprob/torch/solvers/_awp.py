"""Pruning and quantization by projected gradient descent (J. Liu et al., 2025)."""

from numbers import Integral, Real

from sklearn.utils._param_validation import Interval, StrOptions

from ._descent import Target, descend, step_length
from ._grids import Grid
from ._pruner import Pruner, keep_largest
from ._refit import refit
from ._sparse_solution import SparseSolution
from ._sparsegpt import round_in_turn, sparse_gpt


class AWP(Pruner):
    r"""Prune, quantize, or do both, by gradient steps that are projected back each time.

    Minimizes :math:`\mathrm{tr}((W - V) C (W - V)^T)` over the weights V with few non-zero entries,
    on a grid, or both, by :math:`V \leftarrow P(V + \eta (W - V) C)`, and returns the best V met;
    where rows do not compete, the best of each row.

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
    bits : int, default=None
        Bits of a kept weight; None does not quantize. With `sparsity=0` nothing is pruned.
    group_size : int, default=128
        Consecutive inputs of an output that share a scale and a zero point.
    grid : {"refit", "fixed"}, default="refit"
        Whether scales follow the iterates or stay those of the weight.
    step : {"fro", "lipschitz"} or float, default="fro"
        The step :math:`\eta`: 2 over the Frobenius norm of C (1.5 if weights are quantized), or 1
        over its largest eigenvalue, which never lets the loss rise, or a number.
    init : {"wanda", "sparsegpt", "magnitude"}, default="wanda"
        Where to start; "sparsegpt" is worth its time for N:M, and above all for quantized weights,
        which it rounds one input after the other (if they are pruned too, after descending without
        a grid).
    max_iter : int, default=200
        Largest number of steps.
    tol : float, default=1e-4
        Stop when a step changes less than this share of the norm of W.
    ramp : int, default=None
        Number of first steps over which the sparsity rises from zero to its target; None means half
        of `max_iter` if weights are pruned and quantized and `init` is not "sparsegpt", and 0
        otherwise. Weights lie on the grid after that.
    refit : bool, default=False
        Whether the kept weights are fitted by least squares in the end, as `Refit` does.

    See Also
    --------
    Refit : Least squares on the support of any sparse solution.

    Notes
    -----
    A step costs one product with C. On a GPU convergence is looked at every tenth step.

    References
    ----------
    [Liu2025]_

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.torch.calibration import LayerStats
    >>> from sparseprob.torch.solvers import AWP, WandaPruner
    >>> rng = np.random.default_rng(0)
    >>> x, W = rng.normal(size=(200, 16)) @ rng.normal(size=(16, 16)), rng.normal(size=(8, 16))
    >>> stats = LayerStats.of(x)
    >>> errors = [s.solve(W, stats).relative_error(stats) for s in (AWP(), WandaPruner())]
    >>> errors[0] < 0.6 * errors[1]
    True
    """

    _parameter_constraints: dict = {
        **Pruner._parameter_constraints,
        "bits": [Interval(Integral, 1, 16, closed="both"), None],
        "group_size": [Interval(Integral, 1, None, closed="left")],
        "grid": [StrOptions({"refit", "fixed"})],
        "step": [StrOptions({"fro", "lipschitz"}), Interval(Real, 0, None, closed="neither")],
        "init": [StrOptions({"wanda", "sparsegpt", "magnitude"})],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "ramp": [Interval(Integral, 0, None, closed="left"), None],
        "refit": ["boolean"],
    }

    def __init__(
        self,
        sparsity=0.5,
        *,
        granularity="row",
        nm=None,
        block_size=8,
        bits=None,
        group_size=128,
        grid="refit",
        step="fro",
        init="wanda",
        max_iter=200,
        tol=1e-4,
        ramp=None,
        refit=False,
    ):
        self.sparsity = sparsity
        self.granularity = granularity
        self.nm = nm
        self.block_size = block_size
        self.bits = bits
        self.group_size = group_size
        self.grid = grid
        self.step = step
        self.init = init
        self.max_iter = max_iter
        self.tol = tol
        self.ramp = ramp
        self.refit = refit

    def _check_shape(self, d_out, d_in):
        super()._check_shape(d_out, d_in)
        if self.refit and self.bits is not None:
            raise ValueError(
                "refit=True would move the weights off their grid; use it without bits."
            )

    def _solve(self, problem):
        target = self._target(problem)
        kept = target.pattern
        if kept.keeps_all and target.grid is None:
            return SparseSolution(problem, problem.W, kept.mask(problem.W), pattern=kept)
        start = self._start(problem, target)
        step = step_length(problem, self.step, target.grid is not None)
        descent = descend(
            problem, target, start, step=step, ramp=self._n_ramp(target),
            max_iter=self.max_iter, tol=self.tol,
        )  # fmt: skip
        V, mask = descent.V, kept.mask(abs(descent.V))
        if self.refit:
            V = refit(problem, V, mask)
        return SparseSolution(
            problem, V, mask, pattern=kept, grid=target.grid,
            history=descent.history, converged=descent.converged, n_iter=descent.n_iter,
        )  # fmt: skip

    def _target(self, problem):
        kept = self._pattern(problem.shape)
        if self.bits is None:
            return Target(kept)
        grid = Grid(self.bits, self.group_size)
        return Target(kept, grid, grid.levels(problem.W) if self.grid == "fixed" else None)

    def _n_ramp(self, target):
        if self.ramp is not None:
            return self.ramp
        prunes = not target.pattern.keeps_all
        gradual = target.grid is not None and prunes and self.init != "sparsegpt"
        return self.max_iter // 2 if gradual else 0

    def _start(self, problem, target):
        """Return weights in the target."""
        if self.init == "sparsegpt":
            return self._start_in_turn(problem, target)
        scores = abs(problem.W) * (problem.scales if self.init == "wanda" else 1)
        V, mask = target.project(keep_largest(problem, target.pattern, scores)._dense())
        return problem.xp.where(mask, V, V.dtype.type(0))

    def _start_in_turn(self, problem, target):
        """Prune, refine if there is rounding to come, and round, one input after the other."""
        kept = target.pattern
        V = sparse_gpt(problem, kept, 1 - kept.n_kept / kept.run)._dense()
        mask = kept.mask(abs(V))
        V = problem.xp.where(mask, V, V.dtype.type(0))
        if target.grid is None:
            return V
        if not kept.keeps_all:
            step = step_length(problem, self.step, quantized=False)
            V = descend(
                problem, Target(kept), V, step=step, ramp=0, max_iter=self.max_iter, tol=self.tol
            ).V
            mask = kept.mask(abs(V))
            V = refit(problem, V, mask)
        return round_in_turn(problem, V, mask, target.grid, target.levels)
