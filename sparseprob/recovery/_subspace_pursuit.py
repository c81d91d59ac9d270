"""Subspace pursuit (W. Dai, O. Milenkovic, 2009)."""

from ._cosamp import NO_DECREASE_REASONS, MergeAndPrune
from ._hard_threshold import largest_places
from ._least_squares import least_squares
from ._thresholding import Iterate, ThresholdingRegressor, documented, top


@documented(NO_DECREASE_REASONS)
class SubspacePursuit(ThresholdingRegressor):
    r"""Sparse recovery by least squares on 2s columns, and again on the s that are kept.

    In each iteration the s columns that correlate most with the residual join the current support;
    y is fitted by all of them, the s largest coefficients give the new support, and y is fitted by
    it. It stops when the residual no longer decreases. It works on columns of unit length;
    coefficients are returned for the columns as given.

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
    CoSaMP : Adds 2s columns, and keeps the coefficients of the large fit.
    HardThresholdingPursuit : Chooses the support by a gradient step.

    Notes
    -----
    Among the thresholding methods it recovers the least sparse vectors, also with entries of equal
    size, where orthogonal matching pursuit fails early.

    References
    ----------
    .. [1] W. Dai, O. Milenkovic. "Subspace pursuit for compressive sensing signal reconstruction".
       IEEE Transactions on Information Theory 55(5):2230-2249, 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.recovery import SubspacePursuit
    >>> A = np.random.default_rng(0).normal(size=(60, 200))
    >>> x = np.zeros(200)
    >>> x[[3, 50, 120]] = 2.0, -1.0, 0.5
    >>> model = SubspacePursuit(3).fit(A, A @ x)
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
        return FitTwice(n_nonzero, n_nonzero, columns.shape[1])


class FitTwice(MergeAndPrune):
    """Join s columns, keep s, and fit again."""

    def start(self, columns, Y):
        """Return the fit by the columns that correlate most with y."""
        return self._fit(columns, Y, top(columns, columns.correlate(Y), self.n_nonzero))

    def _prune(self, columns, Y, candidates, values, moduli):
        places = largest_places(moduli, self.n_nonzero)
        rows = columns.xp.arange(len(places))[:, None]
        return self._fit(columns, Y, candidates[rows, places])

    def _fit(self, columns, Y, support):
        fit = least_squares(columns, Y, support)
        self.dependent |= bool(fit.dependent.any())
        norms = columns.xp.sqrt(columns.squared_norms(fit.residual))
        return Iterate(support, fit.values, fit.residual, norms)
