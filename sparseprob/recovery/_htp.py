"""Hard thresholding pursuit (S. Foucart, 2011)."""

from numbers import Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from ._iht import best_step
from ._least_squares import least_squares
from ._thresholding import (
    CYCLE,
    GOES_ON,
    SAME_SUPPORT,
    Iterate,
    ThresholdingRegressor,
    better_of,
    documented,
    keep_top,
    top,
)


@documented(
    '"support" (it repeats: a fixed point), "cycle" (an earlier one came back; the best was kept), '
    '"tol",\n    "max_iter" or "zero_target".'
)
class HardThresholdingPursuit(ThresholdingRegressor):
    r"""Sparse recovery by gradient steps that choose a support, and least squares on it.

    .. math:: S \leftarrow \operatorname{supp} H_s\bigl(x + \mu A^H (y - A x)\bigr), \qquad
        x \leftarrow \operatorname{argmin} \{\|y - A v\|_2 : \operatorname{supp} v \subseteq S\}

    until S repeats; the best x met is returned. It works on columns of unit length; coefficients
    are returned for the columns as given.

    Parameters
    ----------
    {parameters}
    step_size : float or "normalized", default=1.0
        The step :math:`\mu`; "normalized" takes the best step along the gradient on the support
        that the unit step proposes.
    max_iter : int, default=100
        Largest number of iterations.
    tol : float, default=0.0
        Stop when :math:`\|y - A x\| \le` `tol` :math:`\|y\|`; rounding errors count as zero.
    fit_intercept : bool, default=False
        Take the means off y and the columns first.

    Attributes
    ----------
    {attributes}

    See Also
    --------
    IterativeHardThresholding : The same without least squares.
    SubspacePursuit : Chooses among 2s columns by their least-squares coefficients.

    Notes
    -----
    An iteration costs a product with A and a least-squares fit of s columns for each right-hand
    side. The normalized step of iterative hard thresholding is 0/0 here, because least squares
    leave no gradient on the support.

    References
    ----------
    .. [1] S. Foucart. "Hard thresholding pursuit: an algorithm for compressive sensing". SIAM
       Journal on Numerical Analysis 49(6):2543-2563, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.recovery import HardThresholdingPursuit
    >>> A = np.random.default_rng(0).normal(size=(60, 200))
    >>> x = np.zeros(200)
    >>> x[[3, 50, 120]] = 2.0, -1.0, 0.5
    >>> model = HardThresholdingPursuit(3).fit(A, A @ x)
    >>> model.support_
    array([  3,  50, 120])
    >>> bool(abs(model.coef_ - x).max() < 1e-12)
    True
    """

    _parameter_constraints: dict = {
        **ThresholdingRegressor._parameter_constraints,
        "step_size": [Interval(Real, 0, None, closed="neither"), StrOptions({"normalized"})],
    }

    def __init__(
        self, n_nonzero_coefs=None, *, step_size=1.0, max_iter=100, tol=0.0, fit_intercept=False
    ):
        self.n_nonzero_coefs = n_nonzero_coefs
        self.step_size = step_size
        self.max_iter = max_iter
        self.tol = tol
        self.fit_intercept = fit_intercept

    def _method(self, columns, n_nonzero):
        return Pursuit(n_nonzero, self.step_size)


class Pursuit:
    """Steps of the pursuit; the iterate it hands out is the best so far.

    A support that comes back means a cycle, since it alone determines what follows. Supports are
    known by the sum of random 64-bit numbers, one for each column.
    """

    dependent = False

    def __init__(self, n_nonzero, step_size):
        self.n_nonzero = self.n_fitted = n_nonzero
        self.step_size = step_size

    def start(self, columns, Y):
        """Return zero, and remember it as the current iterate."""
        xp = columns.xp
        keys = np.random.default_rng(0).integers(2**64, size=columns.shape[1], dtype=np.uint64)
        self.keys, self.seen = xp.asarray(keys), []
        support = top(columns, columns.correlate(Y), self.n_nonzero)
        values = xp.zeros(support.shape, dtype=columns.dtype)
        norms = xp.sqrt(columns.squared_norms(Y))
        self.current = Iterate(support.copy(), values.copy(), Y.copy(), norms.copy())
        return Iterate(support, values, Y.copy(), norms)

    def step(self, columns, Y, iterate, which):
        """Return the better of the best and the next iterate, and where supports repeat."""
        xp, current = columns.xp, self.current.of(which)
        gradient, Z = columns.correlate(current.residual), current.dense(columns.shape[1])
        mu = self.step_size
        if mu == "normalized":
            mu = self._normalized(columns, gradient, Z, current.support)
        support, _ = keep_top(columns, Z + mu * gradient, self.n_nonzero)
        fit = least_squares(columns, Y, support)
        self.dependent |= bool(fit.dependent.any())
        norms = xp.sqrt(columns.squared_norms(fit.residual))
        new = Iterate(support, fit.values, fit.residual, norms)
        stops = self._repeats(xp, support, which, len(self.current.support))
        self.current.put(which, new)
        return better_of(xp, norms < iterate.norms, new, iterate), stops

    def _normalized(self, columns, gradient, Z, support):
        """Return the best step on the support that the unit step proposes; one if that is S.

        Least squares leave only rounding errors of the gradient on S.
        """
        proposed = top(columns, Z + gradient, self.n_nonzero)
        moves = (proposed != support).any(axis=1)
        return columns.xp.where(moves, best_step(columns, gradient, proposed), 1).astype(
            columns.real_dtype
        )

    def _repeats(self, xp, support, which, n_targets):
        """Return why right-hand sides stop, and remember the supports."""
        now = xp.zeros(n_targets, dtype=np.uint64)
        now[which] = self.keys[support].sum(axis=1, dtype=np.uint64)
        stops = xp.full(len(support), GOES_ON)
        if self.seen:
            stops[(xp.stack(self.seen) == now)[:, which].any(axis=0)] = CYCLE
            stops[(self.seen[-1] == now)[which]] = SAME_SUPPORT
        self.seen.append(now)
        return stops
