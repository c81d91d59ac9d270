"""What the greedy estimators share: from checked data to coefficients and diagnostics."""

import numpy as np

from .._arrays import is_array, to_numpy
from .._kernels._pursuit_steps import STOP_REASONS, new_steps
from ._absolute import absolute_columns, absolute_pursuit
from ._base import SparseRegressor, _answer
from ._pursuit import coefficients, paths_of, pursue


class GreedyRegressor(SparseRegressor):
    """Base of the estimators that choose columns one by one."""

    def _pursue(self, problem, rule, *, weights, max_iter, tol, method, solver=None, path=None):
        """Pursue all right-hand sides and set the fitted attributes."""
        columns = problem.columns
        weights = _check_weights(weights, columns.shape[1])
        same = weights is None or (weights == weights[0]).all()
        weight = None if not same else 1.0 if weights is None else float(weights[0])
        with_path = problem.Y.shape[1] == 1 if path is None else path
        if rule.loss == "absolute":
            outcomes = _absolute(problem, rule, weights, max_iter, tol, solver)
            steps, paths = _as_steps(outcomes), [outcome.path for outcome in outcomes]
        else:
            steps = pursue(
                columns, problem.Y, rule, weights=weights, max_iter=max_iter, tol=tol,
                method=method, with_path=with_path,
            )  # fmt: skip
            paths = paths_of(columns, steps, rule, weight) if with_path else []
        self._store(problem, coefficients(columns, steps))
        self._describe(problem, steps, paths if with_path else [])
        return self

    def _describe(self, problem, steps, paths):
        columns, X, single = problem.columns, problem.given, problem.y_is_vector
        supports = _answer(steps.support, X)
        supports = [supports[t, : int(k)] for t, k in enumerate(steps.count)]
        reasons = [STOP_REASONS[stop] for stop in steps.stop]
        norms = np.sqrt(steps.square).astype(columns.real_dtype)
        lengths = to_numpy(columns.lengths)
        paths = [path.of_matrix(lengths, X) for path in paths]
        self.support_ = supports[0] if single else supports
        self.stop_reason_ = reasons[0] if single else reasons
        self.n_nonzero_coefs_ = int(steps.count[0]) if single else _answer(steps.count, X)
        self.n_iter_ = int(steps.count[0]) if single else _answer(steps.count.copy(), X)
        self.residual_norm_ = float(norms[0]) if single else _answer(norms, X)
        self.path_ = (paths[0] if single else paths) if paths else None


def squared_tolerance(tol, noise_std, n_rows):
    """Return the squared length of a residual at which to stop, or None.

    The residual of pure noise is longer with small probability only: T. T. Cai, L. Wang, IEEE
    Trans. Inf. Theory 57(7):4680-4688, 2011.

    Parameters
    ----------
    tol : float or None
        A squared length.
    noise_std : float or None
        Standard deviation of the noise of one measurement.
    n_rows : int
    """
    of_noise = None
    if noise_std is not None:
        of_noise = noise_std**2 * (n_rows + 2 * np.sqrt(n_rows * np.log(n_rows)))
    given = [limit for limit in (tol, of_noise) if limit is not None]
    return max(given) if given else None


def _check_weights(weights, n_columns):
    if weights is None:
        return None
    weights = np.asarray(to_numpy(weights) if is_array(weights) else weights, dtype=np.float64)
    if weights.shape != (n_columns,):
        raise ValueError(
            f"weights must have one entry for each of the {n_columns} columns of X, "
            f"got shape {weights.shape}."
        )
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("weights must be finite and non-negative; found other entries.")
    return weights


def _absolute(problem, rule, weights, max_iter, tol, solver):
    A = absolute_columns(problem.columns)
    return [
        absolute_pursuit(
            A, np.asarray(y), alpha=rule.alpha, weights=weights, penalty=rule.penalty,
            max_iter=max_iter, tol=-1.0 if tol is None else tol, lad_solver=solver,
        )
        for y in problem.Y.T
    ]  # fmt: skip


def _as_steps(outcomes):
    """Return the outcomes of single pursuits as one table; without paths."""
    counts = [len(outcome.support) for outcome in outcomes]
    steps = new_steps(len(outcomes), max(counts), np.float64, with_path=False)
    for t, (outcome, k) in enumerate(zip(outcomes, counts, strict=True)):
        steps.support[t, :k], steps.coef[t, :k] = outcome.support, outcome.coef_on_support
        steps.count[t], steps.square[t] = k, outcome.residual_norm**2
        steps.stop[t] = STOP_REASONS.index(outcome.stop_reason)
    return steps
