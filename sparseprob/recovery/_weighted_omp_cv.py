"""Cross-validated choice of the weight of the penalty in greedy pursuit.

S. Mohammad-Taheri, S. Brugiapaglia, "The greedy side of the LASSO", 2023, arXiv:2303.00844.
"""

from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.base import _fit_context
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.utils._param_validation import Interval, StrOptions

from .. import mpi
from .._arrays import compute_namespace, is_array, like, to_numpy
from ._alphas import alpha_max
from ._base import SparseRegressor
from ._greedy import _check_weights
from ._measurements import is_operator
from ._pursuit import paths_of, pursue
from ._rules import Rule, active_decrease, decrease
from ._weighted_omp import WeightedOMP

_N_ALPHAS = 41
_PACKED = 2**25  # coefficients of all steps of all targets that are pursued at a time
_DECADES = {("squared", "l0"): 8}  # below alpha_max; 4 where alpha is of the order of a residual
_FITTED = (
    "coef_", "intercept_", "support_", "n_nonzero_coefs_", "n_iter_", "residual_norm_",
    "stop_reason_", "path_",
)  # fmt: skip


class WeightedOMPCV(SparseRegressor):
    r"""Greedy pursuit with a penalty whose weight is chosen by cross-validation.

    Columns are divided by their lengths, on the rows of each fold too (there is no
    ``normalize=False``). With equal weights and the squared or square-root loss, the columns are
    chosen in an order that does not depend on alpha: one pursuit a fold serves all alphas.
    Otherwise there is one pursuit for each alpha and fold.

    Parameters
    ----------
    loss : {"sqrt", "squared", "absolute"}, default="sqrt"
        As in `WeightedOMP`.
    penalty : {"l1", "l0"}, default="l1"
    alphas : array-like of shape (n_alphas,), default=None
        Weights of the penalty to try. None takes 41 of them, equally spaced on a log scale over 4
        decades below the smallest alpha that chooses no column (8 decades for the squared loss
        with the l0 penalty, whose alpha is the square of a correlation).
    weights : array-like of shape (n_features,), default=None
        Weights of the columns of unit length; None weighs all by one.
    max_iter : int, default=None
        Largest number of columns; None is the smaller side of X.
    tol : float, default=0.0
        As in `WeightedOMP`.
    cv : int, cross-validation generator or iterable of splits, default=5
        Under `distributed` every rank splits its own rows.
    scoring : str or callable, default=None
        A score, the larger the better. None is the negative mean squared error, or for
        ``loss="absolute"`` the negative mean absolute error, which outliers among the rows left
        out do not decide.
    fit_intercept : bool, default=False
        Take the means off y and the columns first. Outliers move means: with ``loss="absolute"``
        add a column of ones to X and give it the weight zero instead.
    method : {"auto", "gram", "residual"}, default="auto"
        As in `WeightedOMP`.
    lad_solver : {"descent", "highs", "irls"}, default="descent"
        As in `WeightedOMP`.

    Attributes
    ----------
    alpha_ : float
        The alpha of the best mean score; of equal scores the largest, which gives fewest columns.
    alphas_ : array of shape (n_alphas,)
        The alphas tried, the largest first; like the scores in the library of X.
    score_path_ : array of shape (n_alphas, n_folds)
        Score of each alpha on each fold.
    mse_path_ : array of shape (n_alphas, n_folds)
        Mean squared error, over targets too.
    coef_ : array of shape (n_features,) or (n_targets, n_features)
        Coefficients of the pursuit of all rows with ``alpha_``; in the library of X.
    intercept_ : float or array of shape (n_targets,)
    support_ : int array of shape (n_chosen,), or list of them
        Columns in the order chosen.
    n_nonzero_coefs_, n_iter_, residual_norm_, stop_reason_, path_ : see `WeightedOMP`
        Of the pursuit of all rows.
    n_features_in_ : int
        Columns seen by ``fit``.

    Raises
    ------
    ValueError
        If X is a LinearOperator, which cannot be split into rows.

    References
    ----------
    .. [1] S. Mohammad-Taheri, S. Brugiapaglia. "The greedy side of the LASSO: New algorithms for
       weighted sparse recovery via loss function-based orthogonal matching pursuit".
       arXiv:2303.00844, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.recovery import WeightedOMPCV
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 100))
    >>> y = X[:, [3, 7]] @ [1.0, -2.0] + 0.1 * rng.normal(size=60)
    >>> model = WeightedOMPCV().fit(X, y)
    >>> sorted(model.support_.tolist())
    [3, 7]
    """

    _parameter_constraints = {
        "loss": [StrOptions({"sqrt", "squared", "absolute"})],
        "penalty": [StrOptions({"l1", "l0"})],
        "alphas": ["array-like", None],
        "weights": ["array-like", None],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="left")],
        "cv": ["cv_object"],
        "scoring": [str, callable, None],
        "fit_intercept": ["boolean"],
        "method": [StrOptions({"auto", "gram", "residual"})],
        "lad_solver": [StrOptions({"descent", "highs", "irls"})],
    }

    def __init__(
        self,
        loss="sqrt",
        penalty="l1",
        *,
        alphas=None,
        weights=None,
        max_iter=None,
        tol=0.0,
        cv=5,
        scoring=None,
        fit_intercept=False,
        method="auto",
        lad_solver="descent",
    ):
        self.loss = loss
        self.penalty = penalty
        self.alphas = alphas
        self.weights = weights
        self.max_iter = max_iter
        self.tol = tol
        self.cv = cv
        self.scoring = scoring
        self.fit_intercept = fit_intercept
        self.method = method
        self.lad_solver = lad_solver

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Choose alpha on folds of the rows, then pursue with all rows.

        Parameters
        ----------
        X : {array, sparse array} of shape (n_samples, n_features)
        y : array of shape (n_samples,) or (n_samples, n_targets)

        Returns
        -------
        self : WeightedOMPCV
        """
        if is_operator(X):
            raise ValueError(
                "WeightedOMPCV cannot split a LinearOperator into rows; choose alpha yourself "
                "with WeightedOMP, or pass the matrix."
            )
        if self.scoring is not None and mpi.n_ranks() > 1:
            raise ValueError(
                "scoring is not a sum over rows that ranks could share; leave it at None under "
                "distributed()."
            )
        problem = self._check_problem(X, y, fit_intercept=self.fit_intercept)
        weights = _check_weights(self.weights, self.n_features_in_)
        dtype = problem.columns.real_dtype
        alphas = self._grid(problem, weights).astype(dtype).astype(np.float64)
        folds = _Folds(self, alphas, X, y)
        squares, scores = zip(*(folds.scores(*fold) for fold in folds), strict=True)
        best = np.mean(scores, axis=0).argmax()
        self.alpha_ = float(alphas[best])
        for name, table in (("alphas_", alphas), ("mse_path_", squares), ("score_path_", scores)):
            table = np.ascontiguousarray(np.array(table, dtype=dtype).T)
            setattr(self, name, like(table, X) if is_array(X) else table)
        final = self._pursuit(self.alpha_).fit(X, y)
        for name in _FITTED:
            setattr(self, name, getattr(final, name))
        return self

    def _pursuit(self, alpha):
        """Return the estimator for one alpha."""
        names = ("loss", "penalty", "weights", "tol", "fit_intercept", "method", "lad_solver")
        common = {name: getattr(self, name) for name in names}
        return WeightedOMP(alpha=alpha, max_iter=self._max_iter(self.n_features_in_), **common)

    def _max_iter(self, n_columns):
        return n_columns if self.max_iter is None else self.max_iter

    def _grid(self, problem, weights):
        """Return the alphas, the largest first."""
        if self.alphas is not None:
            alphas = np.unique(np.asarray(self.alphas, dtype=np.float64).ravel())[::-1]
            if not len(alphas) or not np.isfinite(alphas).all() or alphas[-1] < 0:
                raise ValueError(f"alphas must be finite and non-negative, got {self.alphas!r}.")
            return alphas
        largest = max(
            alpha_max(problem.columns, problem.Y[:, t], self.loss, self.penalty, weights)
            for t in range(problem.Y.shape[1])
        )
        largest = largest if largest > 0 else 1.0
        decades = _DECADES.get((self.loss, self.penalty), 4)
        return largest * np.logspace(0, -decades, _N_ALPHAS)


class _Folds:
    """The folds of the rows of X and y, and scores of all alphas on each."""

    def __init__(self, model, alphas, X, y):
        self.model, self.alphas = model, alphas
        self.A = model._check_matrix(X, reset=True)
        self.Y, self.y_is_vector = model._check_targets(y, self.A, X)
        if sparse.issparse(self.A):
            self.A = self.A.tocsr()
        self.xp = compute_namespace(self.Y)
        weights = np.ones(1) if model.weights is None else np.asarray(to_numpy(model.weights))
        self.weight = float(weights[0])
        self.one_pursuit = (weights == weights[0]).all() and model.loss != "absolute"

    def __iter__(self):
        """Yield indices of the rows to fit and of those left out."""
        cv, y = check_cv(self.model.cv), to_numpy(self.Y)
        return iter(list(cv.split(np.zeros((len(y), 1)), y[:, 0] if self.y_is_vector else y)))

    def scores(self, train, test):
        """Return mean squared error and score of every alpha on the rows left out."""
        train, test = self.xp.asarray(train), self.xp.asarray(test)
        if sparse.issparse(self.A):
            train, test = to_numpy(train), to_numpy(test)
        A, Y, sums, scores = self.A[test], self.Y[test], [], []
        for fitted in self._fits(self.A[train], self.Y[train]):
            error = self.xp.abs(Y - self.xp.reshape(fitted.predict(A), Y.shape))
            sums.append([float((error**2).sum()), float(error.sum())])
            if self.model.scoring is not None:
                score = check_scoring(fitted, scoring=self.model.scoring)
                scores.append(score(fitted, A, Y[:, 0] if self.y_is_vector else Y))
        total, n = mpi.row_sum(np.array(sums), float(Y.size))
        squares, moduli = total.T / n
        if self.model.scoring is None:
            scores = -(moduli if self.model.loss == "absolute" else squares)
        return squares, scores

    def _fits(self, A, Y):
        """Yield an estimator fitted to some rows for each alpha, the largest first."""
        pursuit = self.model._pursuit(self.alphas[-1])
        if not self.one_pursuit:
            for alpha in self.alphas:
                yield pursuit.set_params(alpha=alpha).fit(A, Y[:, 0] if self.y_is_vector else Y)
            return
        problem = pursuit._check_problem(A, Y, fit_intercept=pursuit.fit_intercept)
        paths = self._paths(problem)
        counts = np.array([self._n_steps(path) for path in paths])
        for n_steps in counts.T:
            coef = self.xp.stack([p.coef_at(int(k)) for p, k in zip(paths, n_steps, strict=True)])
            pursuit._store(problem._replace(y_is_vector=self.y_is_vector), coef.T)
            yield pursuit

    def _paths(self, problem):
        """Return the path of every target, over unit columns, to the smallest alpha."""
        model, columns, Y = self.model, problem.columns, problem.Y
        rule = Rule(model.loss, model.penalty, float(self.alphas[-1]))
        max_iter = min(model._max_iter(columns.shape[1]), columns.n_rows, columns.shape[1])
        paths, width = [], max(1, _PACKED // (max_iter * (max_iter + 1) // 2))
        for first in range(0, Y.shape[1], width):
            steps = pursue(
                columns, Y[:, first : first + width], rule, max_iter=max_iter,
                weights=model.weights, tol=model.tol or None, method=model.method, with_path=True,
            )  # fmt: skip
            paths += paths_of(columns, steps, rule, self.weight)
        if self.xp is not np:
            paths = [path.of_matrix(np.ones(columns.shape[1]), problem.Y) for path in paths]
        return paths

    def _n_steps(self, path):
        """Return where a path ends for each alpha; as `OMPPath.n_steps_at_alpha`, all at once."""
        rule = Rule(self.model.loss, self.model.penalty, 1.0)
        prices = self.alphas * rule.prices(np.float64(self.weight))
        n_steps = np.full(len(prices), len(path))
        for k in range(len(path) - 1, -1, -1):
            rho, c = path.residual_norms[k], np.full(1, path.max_correlation[k])
            x = np.abs(to_numpy(path.coef_on_support(k)))[:, None]
            rival = active_decrease(rule, x, rho, prices).max(axis=0, initial=0.0)
            n_steps[decrease(rule, c, rho, prices) <= rival] = k
        return n_steps
