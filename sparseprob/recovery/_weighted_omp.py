"""Orthogonal matching pursuit driven by losses with weighted penalties.

S. Mohammad-Taheri, S. Brugiapaglia, "The greedy side of the LASSO", 2023, arXiv:2303.00844.
"""

from numbers import Integral, Real

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions

from .._arrays import to_numpy
from ._alphas import noise_blind_alpha
from ._greedy import GreedyRegressor
from ._rules import Rule


class WeightedOMP(GreedyRegressor):
    r"""Greedy sparse regression whose choices lower a regularized, weighted loss.

    With columns :math:`a_j` of unit length and coefficients z of these columns, the objective is

    .. math:: G(z) = \mathrm{loss}(y - A z) + \alpha\,\mathrm{pen}(z),

    where the loss is :math:`\|r\|_2^2` ("squared"), :math:`\|r\|_2` ("sqrt") or :math:`\|r\|_1`
    ("absolute"), and the penalty :math:`\sum_j w_j |z_j|` ("l1") or the sum of :math:`w_j^2` over
    the support ("l0"). Each step finds the coefficient whose change alone lowers G most. If it is a
    new one, all coefficients of the support are fitted to the loss without the penalty; if it is
    one of the support, or none, the pursuit ends. So the penalty decides what enters and when to
    stop, and does not shrink what has entered.

    Parameters
    ----------
    loss : {"sqrt", "squared", "absolute"}, default="sqrt"
        With "sqrt" the same alpha serves every level of noise; "absolute" stands outliers in y,
        for real data on the host.
    penalty : {"l1", "l0"}, default="l1"
        The penalty.
    alpha : float or "auto", default="auto"
        Weight of the penalty, in the objective above; scikit-learn's ``Lasso(alpha)`` divides the
        squared loss by 2 M, which makes this alpha 2 M times its. "auto" stops at the level of
        Gaussian noise without knowing it, for the loss "sqrt" and the penalty "l1". With 0, it is
        orthogonal matching pursuit.
    weights : array of shape (n_features,), default=None
        Weights :math:`w_j \ge 0`, small where a coefficient is expected; they act on the columns of
        unit length. None weighs all by one.
    max_iter : int, default=None
        The largest number of columns; None means as many as X has rows or columns, and with
        alpha=0 a tenth of the columns.
    tol : float, default=0.0
        Stop when the squared length of the residual is at most this.
    fit_intercept : bool, default=False
        Take the means off y and the columns first.
    normalize : bool, default=True
        Work on the columns divided by their lengths; coefficients are returned for the columns as
        given. Without it the columns must have unit length.
    method : {"auto", "gram", "residual"}, default="auto"
        "gram" forms :math:`A^H A`, which pays for many right-hand sides; "residual" multiplies by
        the adjoint in each step. "auto" takes the one of fewer multiplications, and "residual" for
        operators, on a GPU, and where the Gram matrix would exceed 2 GiB. On a GPU "gram" means
        "residual" too.
    lad_solver : {"descent", "highs", "irls"}, default="descent"
        How absolute deviations are fitted: by descent along edges from the fit before, by a linear
        program, or by reweighted least squares followed by descent.

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
    alpha_ : float
        The alpha that was used.
    stop_reason_ : str, or list of them for several targets
        "no_decrease" (no coefficient lowers the objective), "active_index" (one of the support
        lowers it most), "max_iter", "tol", "rank" (what is left depends linearly on the support) or
        "zero_target".
    path_ : OMPPath, or list of one
        All steps, for a single target; None for several.
    n_features_in_ : int
        Number of columns.

    See Also
    --------
    OrthogonalMatchingPursuit : No penalty, a fixed number of columns or a level of noise.

    Notes
    -----
    With equal weights the losses "squared" and "sqrt" choose the columns in the order of orthogonal
    matching pursuit, and alpha only says when to stop: ``fit`` with ``alpha=0``, then
    ``path_.coef_at_alpha(alpha)`` gives the answer for every alpha.

    References
    ----------
    .. [1] S. Mohammad-Taheri, S. Brugiapaglia. "The greedy side of the LASSO: New algorithms for
       weighted sparse recovery via loss function-based orthogonal matching pursuit".
       arXiv:2303.00844, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.recovery import WeightedOMP
    >>> rng = np.random.default_rng(0)
    >>> A = rng.normal(size=(60, 200))
    >>> x = np.zeros(200)
    >>> x[[3, 50, 120]] = 2.0, -1.0, 0.5
    >>> model = WeightedOMP().fit(A, A @ x + 0.01 * rng.normal(size=60))
    >>> model.support_
    array([  3,  50, 120])
    """

    _parameter_constraints: dict = {
        "loss": [StrOptions({"sqrt", "squared", "absolute"})],
        "penalty": [StrOptions({"l1", "l0"})],
        "alpha": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "weights": ["array-like", None],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "normalize": ["boolean"],
        "method": [StrOptions({"auto", "gram", "residual"})],
        "lad_solver": [StrOptions({"descent", "highs", "irls"})],
    }

    def __init__(
        self,
        loss="sqrt",
        penalty="l1",
        alpha="auto",
        *,
        weights=None,
        max_iter=None,
        tol=0.0,
        fit_intercept=False,
        normalize=True,
        method="auto",
        lad_solver="descent",
    ):
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.weights = weights
        self.max_iter = max_iter
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.normalize = normalize
        self.method = method
        self.lad_solver = lad_solver

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
            If X or y has NaN or infinity, if they do not fit together, if weights are negative or
            of a wrong length, if `alpha="auto"` is asked of another loss than "sqrt" with "l1", or
            if data for the loss "absolute" are complex.
        """
        problem = self._check_problem(
            X, y, fit_intercept=self.fit_intercept, normalize=self.normalize
        )
        if not self.normalize:
            _check_unit_length(problem.columns)
        n_rows, n_columns = problem.columns.n_rows, problem.columns.shape[1]
        self.alpha_ = self._resolved_alpha(n_rows, n_columns)
        max_iter = self.max_iter
        if max_iter is None:
            max_iter = max(1, n_columns // 10) if self.alpha == 0 else n_columns
        return self._pursue(
            problem,
            Rule(self.loss, self.penalty, self.alpha_),
            weights=self.weights,
            max_iter=min(max_iter, n_rows, n_columns),
            tol=self.tol or None,
            method=self.method,
            solver=self.lad_solver,
        )

    def _resolved_alpha(self, n_rows, n_columns):
        if self.alpha != "auto":
            return float(self.alpha)
        if (self.loss, self.penalty) != ("sqrt", "l1"):
            raise ValueError(
                f"alpha='auto' is known for loss='sqrt' and penalty='l1' only, got {self.loss!r} "
                f"and {self.penalty!r}; give a number or let WeightedOMPCV choose."
            )
        return noise_blind_alpha(n_rows, n_columns)


def _check_unit_length(columns):
    norms = to_numpy(columns.norms)
    allowed = max(1e-6, 20 * float(np.finfo(columns.real_dtype).eps))
    off = np.flatnonzero((np.abs(norms - 1) > allowed) & (norms > 0))
    if len(off):
        raise ValueError(
            f"normalize=False expects columns of unit length, but column {off[0]} has length "
            f"{norms[off[0]]:.6g} (after its mean is taken off, with fit_intercept=True); "
            "divide the columns by their lengths or use normalize=True."
        )
