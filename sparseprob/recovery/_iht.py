"""Iterative hard thresholding (T. Blumensath, M. E. Davies, 2009), plain and normalized (2010)."""

from numbers import Real

import numpy as np
from sklearn.utils._param_validation import Interval

from ._least_squares import gather, is_gathered, measure, scatter
from ._thresholding import (
    CONVERGED,
    GOES_ON,
    Iterate,
    ThresholdingRegressor,
    documented,
    keep_top,
    top,
)

_MARGIN, _SHRINK = 0.01, 1.1  # c and kappa (1 - c) of the paper on the normalized form


@documented('"converged" (nothing changes any more), "tol", "max_iter" or "zero_target".')
class IterativeHardThresholding(ThresholdingRegressor):
    r"""Sparse recovery by gradient steps, each followed by keeping the s largest coefficients.

    Minimizes :math:`\|y - A x\|_2` over vectors with s non-zero entries by

    .. math:: x \leftarrow H_s\bigl(x + \mu A^H (y - A x)\bigr).

    It works on columns of unit length; coefficients are returned for the columns as given, so
    their lengths do not matter except that s coefficients compete by the part of y they explain.

    Parameters
    ----------
    {parameters}
    normalized : bool, default=True
        Choose the step in each iteration: the best one along the gradient on the current support,
        made smaller until the residual is sure to fall when the support changes. It needs no bound
        on the norm of A, and recovers far more than a constant step.
    step_size : float, default=None
        The constant step of the plain form; None means :math:`0.99 / \|A\|^2`, where the norm is
        estimated by a Lanczos iteration.
    max_iter : int, default=1000
        Largest number of iterations.
    tol : float, default=1e-6
        Stop when an iteration changes the coefficients by less than this share of them, or when
        :math:`\|y - A x\| \le` `tol` :math:`\|y\|`.
    fit_intercept : bool, default=False
        Take the means off y and the columns first.

    Attributes
    ----------
    {attributes}

    See Also
    --------
    HardThresholdingPursuit : Fits the coefficients on the support in each step; fewer iterations.

    Notes
    -----
    An iteration costs three products with A (the plain form two), all right-hand sides together.

    References
    ----------
    .. [1] T. Blumensath, M. E. Davies. "Iterative hard thresholding for compressed sensing".
       Applied and Computational Harmonic Analysis 27(3):265-274, 2009.
    .. [2] T. Blumensath, M. E. Davies. "Normalized iterative hard thresholding: guaranteed
       stability and performance". IEEE Journal of Selected Topics in Signal Processing
       4(2):298-309, 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.recovery import IterativeHardThresholding
    >>> A = np.random.default_rng(0).normal(size=(60, 200))
    >>> x = np.zeros(200)
    >>> x[[3, 50, 120]] = 2.0, -1.0, 0.5
    >>> model = IterativeHardThresholding(3).fit(A, A @ x)
    >>> model.support_
    array([  3,  50, 120])
    >>> bool(abs(model.coef_ - x).max() < 1e-5)
    True
    """

    _parameter_constraints: dict = {
        **ThresholdingRegressor._parameter_constraints,
        "normalized": ["boolean"],
        "step_size": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(
        self,
        n_nonzero_coefs=None,
        *,
        normalized=True,
        step_size=None,
        max_iter=1000,
        tol=1e-6,
        fit_intercept=False,
    ):
        self.n_nonzero_coefs = n_nonzero_coefs
        self.normalized = normalized
        self.step_size = step_size
        self.max_iter = max_iter
        self.tol = tol
        self.fit_intercept = fit_intercept

    def _method(self, columns, n_nonzero):
        if self.normalized:
            if self.step_size is not None:
                raise ValueError(
                    f"step_size={self.step_size!r} needs normalized=False: the normalized form "
                    "chooses its steps."
                )
            return NormalizedSteps(n_nonzero, self.tol)
        step_size = self.step_size
        if step_size is None:
            step_size = 0.99 / squared_norm(columns)
        return ConstantSteps(n_nonzero, self.tol, step_size)


class ConstantSteps:
    """Gradient steps of one length."""

    dependent, n_fitted = False, 0

    def __init__(self, n_nonzero, tol, step_size=None):
        self.n_nonzero, self.tol, self.step_size = n_nonzero, tol, step_size

    def start(self, columns, Y):
        """Return zero, on the support of the largest correlations."""
        support = top(columns, columns.correlate(Y), self.n_nonzero)
        values = columns.xp.zeros(support.shape, dtype=columns.dtype)
        norms = columns.xp.sqrt(columns.squared_norms(Y))
        return Iterate(support, values, Y.copy(), norms)

    def step(self, columns, Y, iterate, which):
        """Return H_s(x + mu g) and where it no longer differs from x."""
        gradient, Z = columns.correlate(iterate.residual), iterate.dense(columns.shape[1])
        support, values = keep_top(columns, Z + self.step_size * gradient, self.n_nonzero)
        change = Change(columns, iterate, support, values)
        return self._next(columns, iterate, support, values, change)

    def _next(self, columns, iterate, support, values, change):
        residual = iterate.residual - change.measured
        new = Iterate(support, values, residual, columns.xp.sqrt(columns.squared_norms(residual)))
        tol = max(self.tol, 10 * float(np.finfo(columns.dtype).eps))
        still = change.squares <= tol**2 * _squares(values)
        return new, columns.xp.where(still, CONVERGED, GOES_ON)


class NormalizedSteps(ConstantSteps):
    """Gradient steps that are best on the support, and safe when it changes."""

    def step(self, columns, Y, iterate, which):
        """Return the next iterate; `mu` and `omega` are those of the paper."""
        xp, n_columns = columns.xp, columns.shape[1]
        gradient, Z = columns.correlate(iterate.residual), iterate.dense(n_columns)
        mu = best_step(columns, gradient, iterate.support)
        support, values = keep_top(columns, Z + mu * gradient, self.n_nonzero)
        change = Change(columns, iterate, support, values)
        while True:
            moved = (support != iterate.support).any(axis=1)
            safe = (1 - _MARGIN) * change.squares >= mu * columns.squared_norms(change.measured)
            again = xp.nonzero(moved & ~safe)[0]
            if not len(again):
                break
            mu[again] /= _SHRINK
            stepped = Z[:, again] + mu[again] * gradient[:, again]
            support[again], values[again] = keep_top(columns, stepped, self.n_nonzero)
            part = Change(columns, iterate.of(again), support[again], values[again])
            change.squares[again], change.measured[:, again] = part.squares, part.measured
        return self._next(columns, iterate, support, values, change)


class Change:
    """What a step adds to the coefficients: its squared length, and its measurements A d."""

    def __init__(self, columns, iterate, support, values):
        n_columns = columns.shape[1]
        added = scatter(n_columns, support, values) - iterate.dense(n_columns)
        self.squares = _squares(added.T)
        places = columns.xp.concatenate([support, iterate.support], axis=1)
        if not is_gathered(columns, places):
            self.measured = columns.combine(added)
            return
        parts = gather(added, places)
        inside = scatter(n_columns, support, columns.xp.ones(support.shape, dtype=bool))
        parts[:, support.shape[1] :][gather(inside, iterate.support)] = 0  # counted already
        self.measured = measure(columns, places, parts)


def best_step(columns, gradient, support):
    """Return the step that lowers the residual most along the gradient on each support.

    One where the gradient vanishes there.
    """
    xp, on_support = columns.xp, gather(gradient, support)
    measured = measure(columns, support, on_support)
    above, below = _squares(on_support), columns.squared_norms(measured)
    usable = (above > 0) & (below > 0)
    step = xp.where(usable, above / xp.where(usable, below, 1), 1)
    return step.astype(columns.real_dtype)


def squared_norm(columns, n_steps=40):
    """Estimate the squared spectral norm of the unit columns by Lanczos on A^H A.

    The estimate approaches the norm from below, within 1e-3 of it for the matrices of the tests.
    """
    xp, n_columns = columns.xp, columns.shape[1]
    start = np.random.default_rng(0).standard_normal((n_columns, 1))  # the same on every rank
    v = xp.asarray(start, dtype=columns.dtype)
    basis: list = []
    diagonal: list = []
    beside: list = []
    for _ in range(min(n_steps, n_columns)):
        length = float(xp.linalg.norm(v))
        if length <= 1e-6 * sum(diagonal):
            break
        beside.append(length)
        basis.append(v / length)
        v = columns.correlate(columns.combine(basis[-1]))
        diagonal.append(float(xp.vdot(basis[-1], v).real))
        Q = xp.hstack(basis)
        v = v - Q @ (Q.conj().T @ v)
        v = v - Q @ (Q.conj().T @ v)
    T = np.diag(diagonal) + np.diag(beside[1:], 1) + np.diag(beside[1:], -1)
    return max(float(np.linalg.eigvalsh(T)[-1]), np.finfo(np.float64).tiny)


def _squares(rows):
    """Squared lengths of rows, or of single numbers."""
    return (abs(rows) ** 2).sum(axis=1, dtype=np.float64)
