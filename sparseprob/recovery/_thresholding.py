"""What the thresholding methods share: right-hand sides that iterate together."""

import textwrap
import warnings
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import _fit_context
from sklearn.callback import with_callbacks
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval

from .._arrays import like, to_numpy
from .._threads import blas_threads_for
from ._base import SparseRegressor, _answer
from ._hard_threshold import largest_places
from ._least_squares import gather, scatter

STOPS = ("max_iter", "converged", "support", "cycle", "no_decrease", "tol", "zero_target")
GOES_ON, CONVERGED, SAME_SUPPORT, CYCLE, NO_DECREASE, TOL, ZERO_TARGET = range(len(STOPS))

_PARAMETERS = """
n_nonzero_coefs : int, default=None
    Number s of coefficients to keep; None means a tenth of the columns.
"""
_ATTRIBUTES = r"""
coef_ : array of shape (n_features,) or (n_targets, n_features)
    Coefficients of the columns as given; at most s differ from zero for each target.
intercept_ : float or array of shape (n_targets,)
    Zero unless `fit_intercept`.
support_ : int array, or list of them for several targets
    Columns with coefficients that are not zero, in increasing order.
residual_norm_ : float or array of shape (n_targets,)
    Length :math:`\|y - A x\|_2` of what the coefficients leave unexplained.
n_nonzero_coefs_ : int
    The number s that was used.
n_iter_ : int
    Number of iterations until all right-hand sides were done.
stop_reason_ : str, or list of them for several targets
    {reasons}
converged_ : bool
    Whether every right-hand side stopped before `max_iter`.
n_features_in_ : int
    Number of columns.
"""


def documented(reasons):
    """Put what all thresholding methods say into the docstring of one."""
    text = {"parameters": _PARAMETERS, "attributes": _ATTRIBUTES.replace("{reasons}", reasons)}

    def fill(estimator):
        for name, part in text.items():
            part = textwrap.indent(part.strip("\n"), "    ")
            estimator.__doc__ = estimator.__doc__.replace(f"    {{{name}}}", part)
        return estimator

    return fill


class Iterate(NamedTuple):
    """Sparse coefficients of T right-hand sides, and what they leave unexplained."""

    support: Any  # (T, s) columns in increasing order, int
    values: Any  # (T, s) coefficients of unit columns
    residual: Any  # (M, T), the local rows
    norms: Any  # (T,) lengths of the residuals over all ranks, float64

    def of(self, which):
        """Return the part of some right-hand sides."""
        return Iterate(
            self.support[which], self.values[which], self.residual[:, which], self.norms[which]
        )

    def put(self, which, new):
        """Replace the part of some right-hand sides."""
        self.support[which], self.values[which] = new.support, new.values
        self.residual[:, which], self.norms[which] = new.residual, new.norms

    def dense(self, n_columns):
        """Return the coefficients as an array of shape (n_columns, T)."""
        return scatter(n_columns, self.support, self.values)


def better_of(xp, better, new, old):
    """Return `new` where `better`, and `old` elsewhere."""
    return Iterate(
        xp.where(better[:, None], new.support, old.support),
        xp.where(better[:, None], new.values, old.values),
        xp.where(better, new.residual, old.residual),
        xp.where(better, new.norms, old.norms),
    )


def top(columns, C, n_nonzero):
    """Return the places of the largest entries of each column of C (N, T), of shape (T, s).

    Columns of A that are zero come last.
    """
    xp = columns.xp
    moduli = xp.ascontiguousarray(xp.abs(C).T)
    moduli[:, columns.norms == 0] = -1
    return largest_places(moduli, n_nonzero)


def keep_top(columns, C, n_nonzero):
    """Return support and values, (T, s) each, of the columns of C after hard thresholding."""
    support = top(columns, C, n_nonzero)
    return support, gather(C, support)


class Run:
    """The iterations of one fit: `method` steps the right-hand sides that are still at work.

    A method has ``start(columns, Y)``, which returns an `Iterate`, and
    ``step(columns, Y, iterate, which)``, which returns the next one and why each right-hand side
    stops (0 if it goes on). It keeps in ``dependent`` whether columns were linearly dependent.
    """

    def __init__(self, problem, method, tol):
        columns, xp = problem.columns, problem.columns.xp
        self.columns, self.Y, self.method, self.n_iter = columns, problem.Y, method, 0
        self.targets = xp.sqrt(columns.squared_norms(problem.Y))
        self.small = max(tol, 10 * float(np.finfo(columns.dtype).eps)) * self.targets
        self.iterate = method.start(columns, problem.Y)
        self.stops = xp.where(self.targets > 0, GOES_ON, ZERO_TARGET)
        self.dependent_since = None

    @property
    def finished(self):
        """Whether no right-hand side is at work."""
        return bool((self.stops != GOES_ON).all())

    def advance(self):
        """Make one iteration of the right-hand sides at work."""
        xp = self.columns.xp
        which = xp.nonzero(self.stops == GOES_ON)[0]
        which = slice(None) if len(which) == len(self.stops) else which
        self.n_iter += 1
        old = self.iterate.of(which)
        new, stops = self.method.step(self.columns, self.Y[:, which], old, which)
        self._check_finite(new, which)
        stops = xp.where(new.norms <= self.small[which], TOL, stops)
        self.iterate.put(which, new)
        self.stops[which] = stops
        if self.method.dependent and self.dependent_since is None:
            self.dependent_since = self.n_iter

    def _check_finite(self, new, which):
        worst = float((new.norms / self.targets[which]).max())
        if not worst < 1e6:  # true for NaN as well
            raise FloatingPointError(
                f"The residual grew to {worst:.3g} times y in iteration {self.n_iter}; "
                "use a smaller step_size."
            )


class ThresholdingRegressor(SparseRegressor):
    """Base of the thresholding methods; a subclass says what one iteration is in ``_method``."""

    _parameter_constraints: dict = {
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
    }

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Recover the coefficients.

        Parameters
        ----------
        X : {array, sparse array, LinearOperator} of shape (n_samples, n_features)
            The measurement matrix, real or complex. Inside ``with distributed():`` the rows of
            this rank.
        y : array of shape (n_samples,) or (n_samples, n_targets)
            The measurements; right-hand sides are recovered together, independently of each other.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or y has NaN or infinity, if they do not fit together, or if `n_nonzero_coefs` is
            larger than both sides of X allow.
        FloatingPointError
            If the iterations diverge.
        """
        problem = self._check_problem(X, y, fit_intercept=self.fit_intercept)
        columns, n_targets = problem.columns, problem.Y.shape[1]
        with blas_threads_for(columns.shape[0] * columns.shape[1] * n_targets):
            method = self._method(columns, self._count(columns))
            self._problem, self._run = problem, Run(problem, method, self.tol)
            self._iterate(X, y)
        for name, value in self._fitted_attributes().items():
            setattr(self, name, value)
        self._warn()
        del self._problem, self._run
        return self

    def _iterate(self, X, y):
        run = self._run
        if run.finished:
            return
        for _ in self._iterations(X, y, max_iter=self.max_iter, until=lambda: run.finished):
            run.advance()

    def _count(self, columns):
        """Number of coefficients to keep."""
        n_columns = columns.shape[1]
        if self.n_nonzero_coefs is None:
            return max(1, min(n_columns // 10, columns.n_rows))
        most = min(n_columns, columns.n_rows)
        if self.n_nonzero_coefs > most:
            raise ValueError(
                f"n_nonzero_coefs must be at most min(n_samples, n_features) = {most}, "
                f"got {self.n_nonzero_coefs}."
            )
        return int(self.n_nonzero_coefs)

    def _fitted_attributes(self):
        problem, run = self._problem, self._run
        columns, iterate = problem.columns, run.iterate
        self._store(problem, iterate.dense(columns.shape[1]))
        active = to_numpy(iterate.values != 0)
        chosen = _answer(like(to_numpy(iterate.support)[active], problem.Y), problem.given)
        ends = np.cumsum(active.sum(axis=1))
        supports = [chosen[e - n : e] for e, n in zip(ends, active.sum(axis=1), strict=True)]
        reasons = [STOPS[code] for code in to_numpy(run.stops)]
        vector, norms = problem.y_is_vector, iterate.norms
        return {
            "coef_": self.coef_,
            "intercept_": self.intercept_,
            "support_": supports[0] if vector else supports,
            "residual_norm_": float(norms[0]) if vector else _answer(norms, problem.given),
            "n_nonzero_coefs_": iterate.support.shape[1],
            "n_iter_": run.n_iter,
            "stop_reason_": reasons[0] if vector else reasons,
            "converged_": "max_iter" not in reasons,
        }

    def _warn(self):
        columns, n_fitted = self._problem.columns, self._run.method.n_fitted
        if n_fitted > columns.n_rows:
            _say(
                f"Least squares over {n_fitted} columns with {columns.n_rows} measurements is not "
                "unique, and the solution of least norm was taken; lower n_nonzero_coefs."
            )
        elif self._run.dependent_since is not None:
            _say(
                "Linearly dependent columns were met first in iteration "
                f"{self._run.dependent_since}; least-squares solutions of least norm were taken."
            )
        if not self.converged_:
            left = int((self._run.stops == GOES_ON).sum())
            _say(
                f"{left} of {len(self._run.stops)} right-hand sides were still changing after "
                f"{self.max_iter} iterations; increase max_iter or tol."
            )


def _say(message):
    warnings.warn(message, ConvergenceWarning, stacklevel=4)
