"""Projected gradient descent on a weight, towards patterns of zeros and grids."""

from typing import Any, NamedTuple

import numpy as np

from ..._arrays import to_numpy
from ..._kernels import kernels
from ..._threads import blas_threads_for
from .._tensors import to_array
from ._grids import Grid, Levels
from ._projections import Pattern

_LOOK_ON_GPU = 10  # steps between two looks at what the GPU has found
_DIVERGED = 1e6  # times the loss of the start


class Target(NamedTuple):
    """Where the weights have to end: few of them, on a grid, or both."""

    pattern: Pattern
    grid: Grid | None = None
    levels: Levels | None = None  # fixed ones

    def project(self, Z, fraction=1.0, on_grid=True):
        """Return the projection of Z, zeros not yet written, and the mask of what is kept."""
        mask = self.pattern.part(fraction).mask(abs(Z))
        if self.grid is not None and on_grid:
            Z = self.grid.project(Z * mask, self.levels)
        return Z, mask

    def is_met(self, n, ramp):
        """Whether the iterate after n steps, the first `ramp` of them lenient, is in the target."""
        return n > ramp if self.grid is not None and ramp > 0 else n >= ramp


class Descent(NamedTuple):
    """What descending has found."""

    V: Any
    history: Any  # relative losses
    n_iter: int
    converged: bool


def step_length(problem, step, quantized):
    """Return the step: a given number, or one that suits the Gram matrix."""
    if not isinstance(step, str):
        return float(step)
    if step == "lipschitz":
        C = to_array(problem.stats.gram, np.float64)
        size, above = float(problem.xp.linalg.eigvalsh(C)[-1]), 1.0
    else:
        size, above = float(problem.xp.linalg.norm(problem.gram)), 1.5 if quantized else 2.0
    return above / size if size > 0 else 0.0


def descend(problem, target, start, *, step, ramp, max_iter, tol):
    """Minimize the loss over the target; the best of each row, or of all if they compete.

    Parameters
    ----------
    problem : LayerProblem
    target : Target
    start : array of shape (d_out, d_in)
        In the target.
    step : float
        Factor of the gradient (W - V) C.
    ramp : int
        Steps over which sparsity rises, from W; 0 means to begin at `start`.
    max_iter : int
    tol : float
        Smallest change of V, relative to W.

    Raises
    ------
    FloatingPointError
        If the step is too long.
    """
    iterate = _Iterate(problem, target, max_iter)
    small = tol * float(problem.xp.linalg.norm(problem.W))
    every = 1 if problem.xp is np else _LOOK_ON_GPU
    with blas_threads_for(problem.W.size * problem.shape[1]):
        iterate.move(start, problem.xp.ones(problem.shape, dtype=bool))
        if ramp > 0:
            iterate.evaluate(0.0, feasible=True)
            iterate.move(problem.W, problem.xp.ones(problem.shape, dtype=bool))
        for n in range(max_iter + 1):
            iterate.evaluate(step, target.is_met(n, ramp), n)
            if n % every == 0 and iterate.ends(n, small, ramp):
                break
            if n < max_iter:
                fraction = min(1.0, (n + 1) / ramp) if ramp > 0 else 1.0
                Z, mask = target.project(iterate.G, fraction, n >= ramp)
                iterate.move(Z, mask, n + 1)
    return iterate.answer(n, small)


class _Iterate:
    """The iterate V, the best one, and what happened so far; all of it stays on its device."""

    def __init__(self, problem, target, max_iter):
        xp, W = problem.xp, problem.xp.ascontiguousarray(problem.W)
        self.problem, self.xp, self.W = problem, xp, W
        self.together = not target.pattern.rows_are_independent
        self.levels_follow = target.grid is not None and target.levels is None
        self.kernels = kernels("awp", W)
        self.V, self.D, self.G = xp.zeros_like(W), W.copy(), xp.empty_like(W)
        self.best, self.best_losses = xp.zeros_like(W), xp.full(len(W), np.inf)
        self.row_losses, self.row_changes = xp.empty(len(W)), xp.empty(len(W))
        self.losses, self.changes = xp.zeros(max_iter + 1), xp.full(max_iter + 1, np.inf)

    def move(self, Z, mask, n=0):
        """Go to Z on the mask."""
        Z, mask = (self.xp.ascontiguousarray(A) for A in (Z, mask))
        self.kernels.take(self.W, Z, mask, self.V, self.D, self.row_changes)
        if n > 0:
            self.changes[n] = self.row_changes.sum()

    def evaluate(self, step, feasible, n=0):
        """Remember V if it is feasible and the best so far; let G be one step further."""
        self.xp.matmul(self.D, self.problem.gram, out=self.G)
        self.kernels.ascend(self.V, self.D, self.G, step, self.row_losses)
        self.losses[n] = self.row_losses.sum()
        if feasible:
            if self.together:
                self.row_losses[...] = self.losses[n]
            self.kernels.keep_better(self.V, self.row_losses, self.best, self.best_losses)

    def ends(self, n, small, ramp):
        """Whether the last step changed little, or levels run away; raises if the loss explodes."""
        loss, change = float(self.losses[n]), float(self.changes[n])
        if loss <= _DIVERGED * max(float(self.losses[0]), self.problem.scale):
            return n > ramp and change <= small**2
        if self.levels_follow:  # they spread with the iterate, which no step prevents
            return True
        raise FloatingPointError(
            f"Projected gradient descent diverged in step {n}: the loss is {loss:.3g}; use a "
            'smaller step, or "lipschitz".'
        )

    def answer(self, n, small):
        """Return what was found in n steps."""
        history = to_numpy(self.losses[: n + 1]) / self.problem.scale
        converged = bool(float(self.changes[n]) <= small**2) if n else False
        return Descent(self.best, history.tolist(), n, converged)
