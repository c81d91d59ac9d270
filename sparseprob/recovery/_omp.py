"""Orthogonal matching pursuit (Y. C. Pati, R. Rezaiifar, P. S. Krishnaprasad, 1993)."""

from numbers import Integral, Real

from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions

from ._greedy import GreedyRegressor, squared_tolerance
from ._rules import Rule
from ._weighted_omp import WeightedOMP


class OrthogonalMatchingPursuit(GreedyRegressor):
    r"""Greedy sparse regression: the column that fits the residual best, then least squares.

    Each step adds the column of the largest :math:`|a_j^H r| / \|a_j\|` to the support and fits all
    coefficients of the support anew.

    Parameters
    ----------
    n_nonzero_coefs : int, default=None
        The largest number of columns. None means a tenth of them, or no limit but the rank if `tol`
        or `noise_std` is given.
    tol : float, default=None
        Stop when the squared length of the residual is at most this.
    noise_std : float, default=None
        Standard deviation :math:`\sigma` of the noise of one measurement: stop when the residual is
        no longer than :math:`\sigma \sqrt{M + 2 \sqrt{M \log M}}`, which noise rarely exceeds [2]_.
        For complex noise, the root of its mean squared modulus.
    fit_intercept : bool, default=False
        Take the means off y and the columns first.
    method : {"auto", "gram", "residual"}, default="auto"
        "gram" forms :math:`A^H A`, which pays for many right-hand sides [3]_; "residual" multiplies
        by the adjoint in each step. "auto" takes the one of fewer multiplications, and "residual"
        for operators, on a GPU, and where the Gram matrix would exceed 2 GiB. On a GPU "gram" means
        "residual" too.

    Attributes
    ----------
    coef_ : array of shape (n_features,) or (n_targets, n_features)
        Coefficients of the columns as given.
    intercept_ : float or array of shape (n_targets,)
        Zero unless `fit_intercept`.
    support_ : int array, or list of them for several targets
        The columns in the order chosen.
    n_nonzero_coefs_ : int or array of shape (n_targets,)
        Sizes of the supports.
    n_iter_ : int or array of shape (n_targets,)
        Numbers of steps.
    residual_norm_ : float or array of shape (n_targets,)
        Lengths of the residuals.
    stop_reason_ : str, or list of them for several targets
        "max_iter" (`n_nonzero_coefs` reached), "tol" (`tol` or `noise_std`), "no_decrease" (no
        column correlates with the residual), "rank" (what is left depends linearly on the support)
        or "zero_target".
    path_ : OMPPath, or list of one
        All steps, for a single target; None for several.
    n_features_in_ : int
        Number of columns.

    See Also
    --------
    WeightedOMP : Prior knowledge by weights, stop without knowing the noise, outliers.

    Notes
    -----
    With M rows, N columns and S steps a right-hand side costs M N S multiplications by residuals,
    and M N + N S^2 / 2 through the Gram matrix, which itself costs M N^2 / 2 once.

    References
    ----------
    .. [1] Y. C. Pati, R. Rezaiifar, P. S. Krishnaprasad. "Orthogonal matching pursuit: recursive
       function approximation with applications to wavelet decomposition". Asilomar, 1993.
    .. [2] T. T. Cai, L. Wang. "Orthogonal matching pursuit for sparse signal recovery with noise".
       IEEE Transactions on Information Theory 57(7):4680-4688, 2011.
    .. [3] R. Rubinstein, M. Zibulevsky, M. Elad. "Efficient implementation of the K-SVD algorithm
       using batch orthogonal matching pursuit". Technion, 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.recovery import OrthogonalMatchingPursuit
    >>> A = np.random.default_rng(0).normal(size=(60, 200))
    >>> x = np.zeros(200)
    >>> x[[3, 50, 120]] = 2.0, -1.0, 0.5
    >>> model = OrthogonalMatchingPursuit(3).fit(A, A @ x)
    >>> model.support_
    array([  3,  50, 120])
    >>> bool(abs(model.coef_ - x).max() < 1e-12)
    True
    """

    _parameter_constraints: dict = {
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "noise_std": [Interval(Real, 0, None, closed="neither"), None],
        "fit_intercept": ["boolean"],
        "method": [StrOptions({"auto", "gram", "residual"})],
    }

    def __init__(
        self,
        n_nonzero_coefs=None,
        *,
        tol=None,
        noise_std=None,
        fit_intercept=False,
        method="auto",
    ):
        self.n_nonzero_coefs = n_nonzero_coefs
        self.tol = tol
        self.noise_std = noise_std
        self.fit_intercept = fit_intercept
        self.method = method

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Recover the coefficients.

        Parameters
        ----------
        X : {array, sparse array, LinearOperator} of shape (n_samples, n_features)
            The measurement matrix, real or complex. Inside ``with distributed():`` the rows of
            this rank.
        y : array of shape (n_samples,) or (n_samples, n_targets)
            The measurements; right-hand sides are recovered independently of each other.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or y has NaN or infinity, if they do not fit together, or if `n_nonzero_coefs` is
            larger than the number of rows or columns.
        """
        return self._fit(X, y)

    def _fit(self, X, y, *, path=None, **penalized):
        """Fit, possibly with the loss, penalty and weights of `WeightedOMP`."""
        problem = self._check_problem(X, y, fit_intercept=self.fit_intercept)
        n_rows, n_columns = problem.columns.n_rows, problem.columns.shape[1]
        largest = min(n_rows, n_columns)
        if self.n_nonzero_coefs is not None and self.n_nonzero_coefs > largest:
            raise ValueError(
                f"n_nonzero_coefs must not exceed the {n_rows} rows or the {n_columns} columns of "
                f"X, got {self.n_nonzero_coefs!r}."
            )
        tol = squared_tolerance(self.tol, self.noise_std, n_rows)
        rule = Rule(*(penalized.get(k, d) for k, d in _PLAIN.items()))
        max_iter = self.n_nonzero_coefs
        if max_iter is None:
            tenth = tol is None and rule.alpha == 0
            max_iter = min(largest, max(1, n_columns // 10)) if tenth else largest
        return self._pursue(
            problem, rule, weights=penalized.get("weights"), max_iter=max_iter, tol=tol,
            method=self.method, path=path,
        )  # fmt: skip


_PLAIN = {"loss": "squared", "penalty": "l1", "alpha": 0.0}


def orthogonal_mp(
    A,
    y,
    *,
    n_nonzero_coefs=None,
    tol=None,
    noise_std=None,
    weights=None,
    loss="squared",
    penalty="l1",
    alpha=0.0,
    method="auto",
    return_path=False,
):
    """Solve sparse recovery problems by orthogonal matching pursuit, plain or penalized.

    Parameters
    ----------
    A : {array, sparse array, LinearOperator} of shape (n_samples, n_features)
        The measurement matrix, real or complex.
    y : array of shape (n_samples,) or (n_samples, n_targets)
        The measurements.
    n_nonzero_coefs : int, default=None
        The largest number of columns. None means a tenth of them, or no limit but the rank if
        `tol`, `noise_std` or a positive `alpha` is given.
    tol : float, default=None
        Stop when the squared length of the residual is at most this.
    noise_std : float, default=None
        Standard deviation of the noise of one measurement; see `OrthogonalMatchingPursuit`.
    weights : array of shape (n_features,), default=None
        Weights of the penalty; None weighs all columns by one.
    loss : {"squared", "sqrt"}, default="squared"
        See `WeightedOMP`, which knows absolute deviations too.
    penalty : {"l1", "l0"}, default="l1"
        See `WeightedOMP`.
    alpha : float, default=0.0
        Weight of the penalty; 0 is plain orthogonal matching pursuit.
    method : {"auto", "gram", "residual"}, default="auto"
        See `OrthogonalMatchingPursuit`.
    return_path : bool, default=False
        Return all steps instead of the last coefficients.

    Returns
    -------
    coef : array of shape (n_features,) or (n_features, n_targets)
        Coefficients, or with `return_path` an `OMPPath`, a list of them for several targets.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.recovery import orthogonal_mp
    >>> A = np.random.default_rng(0).normal(size=(60, 200))
    >>> path = orthogonal_mp(A, A[:, 7] - 2 * A[:, 9], n_nonzero_coefs=2, return_path=True)
    >>> path.support
    array([9, 7])
    >>> path.coef_on_support(2).round(6)
    array([-2.,  1.])
    """
    estimator = OrthogonalMatchingPursuit(
        n_nonzero_coefs, tol=tol, noise_std=noise_std, method=method
    )
    estimator._validate_params()
    WeightedOMP(loss, penalty, alpha, weights=weights)._validate_params()
    if loss == "absolute" or alpha == "auto":
        raise ValueError(
            f"orthogonal_mp takes loss='squared' or 'sqrt' and a number alpha, got {loss!r} and "
            f"{alpha!r}; use WeightedOMP."
        )
    estimator._fit(
        A, y, path=return_path, loss=loss, penalty=penalty, alpha=float(alpha),
        weights=weights,
    )  # fmt: skip
    if return_path:
        return estimator.path_
    coef = estimator.coef_
    return coef if coef.ndim == 1 else coef.T
