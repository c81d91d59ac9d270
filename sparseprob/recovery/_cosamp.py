"""Compressive sampling matching pursuit (D. Needell, J. A. Tropp, 2009)."""

from ._hard_threshold import largest_places
from ._least_squares import gather, least_squares, measure, scatter
from ._thresholding import (
    GOES_ON,
    NO_DECREASE,
    Iterate,
    ThresholdingRegressor,
    better_of,
    documented,
    top,
)

NO_DECREASE_REASONS = """"no_decrease" (of the residual; the iterate before it was kept), "tol",
    "max_iter" or "zero_target"."""


@documented(NO_DECREASE_REASONS)
class CoSaMP(ThresholdingRegressor):
    r"""Sparse recovery by least squares on 3s columns, of which s are kept.

    In each iteration the 2s columns that correlate most with the residual join the current
    support; y is fitted by all of them, and the s largest coefficients are kept as they are. It
    stops when the residual no longer decreases. It works on columns of unit length; coefficients
    are returned for the columns as given.

    Parameters
    ----------
    {parameters}
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
    SubspacePursuit : Adds s columns, and fits again after keeping s.

    Notes
    -----
    With fewer than 3s measurements the fit is not unique: the solution of least norm is taken, a
    warning says so, and recovery mostly fails; prefer `SubspacePursuit` there.

    References
    ----------
    .. [1] D. Needell, J. A. Tropp. "CoSaMP: iterative signal recovery from incomplete and
       inaccurate samples". Applied and Computational Harmonic Analysis 26(3):301-321, 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.recovery import CoSaMP
    >>> A = np.random.default_rng(0).normal(size=(60, 200))
    >>> x = np.zeros(200)
    >>> x[[3, 50, 120]] = 2.0, -1.0, 0.5
    >>> model = CoSaMP(3).fit(A, A @ x)
    >>> model.support_
    array([  3,  50, 120])
    >>> bool(abs(model.coef_ - x).max() < 1e-12)
    True
    """

    def __init__(self, n_nonzero_coefs=None, *, max_iter=100, tol=0.0, fit_intercept=False):
        self.n_nonzero_coefs = n_nonzero_coefs
        self.max_iter = max_iter
        self.tol = tol
        self.fit_intercept = fit_intercept

    def _method(self, columns, n_nonzero):
        return MergeAndPrune(n_nonzero, min(2 * n_nonzero, columns.shape[1]), columns.shape[1])


class MergeAndPrune:
    """Join columns to the support, fit, keep the s largest coefficients."""

    dependent = False

    def __init__(self, n_nonzero, n_joining, n_columns):
        self.n_nonzero, self.n_joining = n_nonzero, n_joining
        self.n_fitted = min(n_nonzero + n_joining, n_columns)

    def start(self, columns, Y):
        """Return zero."""
        xp = columns.xp
        support = top(columns, columns.correlate(Y), self.n_nonzero)
        values = xp.zeros(support.shape, dtype=columns.dtype)
        return Iterate(support, values, Y.copy(), xp.sqrt(columns.squared_norms(Y)))

    def step(self, columns, Y, iterate, which):
        """Return the next iterate where its residual is smaller, else the last one."""
        xp = columns.xp
        new = self._prune(columns, Y, *self._fit_candidates(columns, Y, iterate))
        better = new.norms < iterate.norms
        stops = xp.where(better, GOES_ON, NO_DECREASE)
        return better_of(xp, better, new, iterate), stops

    def _fit_candidates(self, columns, Y, iterate):
        """Return the support joined with the largest correlations, coefficients, and moduli.

        A column that comes twice, or whose coefficient was zero, takes a place that does not
        count and has the modulus -1.
        """
        xp, n_columns = columns.xp, columns.shape[1]
        joining = top(columns, columns.correlate(iterate.residual), self.n_joining)
        inside = scatter(n_columns, iterate.support, iterate.values != 0)
        candidates = xp.concatenate([iterate.support, joining], axis=1)
        counts = xp.concatenate([iterate.values != 0, ~gather(inside, joining)], axis=1)
        order = xp.argsort(candidates + n_columns * ~counts, axis=1)[:, : self.n_fitted]
        rows = xp.arange(len(order))[:, None]
        candidates, counts = candidates[rows, order], counts[rows, order]
        fit = least_squares(columns, Y, candidates, counts)
        self.dependent |= bool(fit.dependent.any())
        moduli = xp.abs(fit.values)
        moduli[~counts] = -1
        return candidates, fit.values, moduli

    def _prune(self, columns, Y, candidates, values, moduli):
        """Return the iterate with the coefficients of largest modulus."""
        places = largest_places(moduli, self.n_nonzero)
        rows = columns.xp.arange(len(places))[:, None]
        support, values = candidates[rows, places], values[rows, places]
        residual = Y - measure(columns, support, values)
        norms = columns.xp.sqrt(columns.squared_norms(residual))
        return Iterate(support, values, residual, norms)
