"""Sparse Bayesian learning (M. E. Tipping, 2001; D. P. Wipf, B. D. Rao, 2004 and 2007)."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import _fit_context
from sklearn.callback import with_callbacks
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .. import mpi
from .._arrays import compute_namespace, like, to_compute, to_numpy
from .._threads import blas_threads_for
from ._base import SparseRegressor, _answer
from ._measurements import UnitColumns
from ._sbl_fast import SequentialSearch
from ._sbl_posterior import colored, row_variances
from ._sbl_updates import EMSearch, EvidenceSearch, MacKaySearch, PatternSearch

_SEARCHES = {"em": EMSearch, "mackay": MacKaySearch, "fast": SequentialSearch}


class SparseBayesianLearning(SparseRegressor):
    r"""Linear regression in which the evidence decides which coefficients are zero.

    Coefficients are :math:`x \sim \mathcal N(0, \operatorname{diag}(\gamma))`, measurements
    :math:`y = A x + e` with noise of variance :math:`\sigma^2`; for complex data both are circular
    complex Gaussian. Prior variances and noise raise the evidence
    :math:`p(y \mid \gamma, \sigma^2)`, at whose maximum most :math:`\gamma_j` are zero. The
    coefficients are the posterior mean, and every one has an error bar, given these variances.

    Parameters
    ----------
    update : {"fast", "em", "mackay"}, default="fast"
        How the evidence is raised. "em" never lowers it, apart from what pruning takes; an
        iteration costs :math:`O(N M^2)`. "mackay" takes fewer iterations to the same stationary
        points, is not monotone, and wants `noise_var`. "fast" adds, changes and removes one column
        at a time by the gain in evidence: far faster where few columns are active, and more
        accurate where the noise is learned and N > M.
    noise_var : float, default=None
        Variance of the noise, of one measurement, in the units of y squared. None learns it.
    fit_intercept : bool, default=False
        Whether means are taken off X and y first.
    shared : bool, default=True
        Whether the columns of a y of shape (M, T) are snapshots: T draws with the same prior
        variances and noise, hence the same support. Otherwise every column is a problem of its own.
    coupling : float, default=0.0
        Share of the neighbors' precisions in that of a coefficient, for coefficients that are
        non-zero in blocks; 0 is none, else more than `prune` and less than 1. Only with "em".
    prune : float, default=1e-3
        Columns whose variance, measured on columns of unit length, falls below this share of the
        largest are dropped for good, by "em" and "mackay": coefficients below about
        :math:`\sqrt{prune}` of the largest are lost. It is what keeps a learned noise variance
        from falling to zero when N > M; lower it if there is little noise.
    min_gain : float, default=None
        Log evidence, in nats, that a column must bring to enter, and keep to stay, by "fast". None
        means :math:`\tfrac34 \log N`. With 0 the evidence alone decides: it takes in columns that
        explain only noise, and with N > M drives a learned noise variance to zero.
    max_iter : int, default=150
        Largest number of iterations; of "fast", of sweeps with many changes each.
    tol : float, default=1e-4
        The fit ends when an iteration changes variances and noise by less than this share.

    Attributes
    ----------
    coef_ : array of shape (n_features,) or (n_targets, n_features)
        Posterior mean, in the library of X.
    intercept_ : float or array of shape (n_targets,)
    sigma_diag_ : array of shape (n_features,)
        Posterior variances of the coefficients; of shape (n_targets, n_features) unless `shared`.
        The same holds for `gamma_`.
    gamma_ : array of shape (n_features,)
        Prior variances; zero where a column was dropped.
    noise_var_ : float or array of shape (n_targets,)
        Variance of the noise, learned or given.
    support_ : array of int
        Columns in use; a list of arrays unless `shared`.
    posterior_factor_ : array of shape (min(n_samples, n_active), n_active)
        Factor of the posterior covariance of the columns in use, in units of the prior deviations:
        it is :math:`W^H W` if W is square, else :math:`I - W^H W`. A list unless `shared`.
    X_offset_ : array of shape (n_features,)
        Means taken off X; None without an intercept.
    log_evidence_ : list of float
        Log evidence after every iteration, summed over targets.
    n_iter_ : int
        Number of iterations.
    converged_ : bool
        Whether the last iteration changed less than `tol`.

    See Also
    --------
    sklearn.linear_model.ARDRegression : The same model for real data with N of a few hundred.

    Notes
    -----
    Under ``with sparseprob.distributed():`` this estimator splits snapshots, not rows: every rank
    passes the whole X and its own columns of y. All ranks end with the same variances and noise,
    and each with the coefficients of its own snapshots.

    Variances start at the mean square of y on columns of unit length, the noise at a tenth of it:
    results scale with y and with the columns of X.

    References
    ----------
    .. [1] M. E. Tipping. "Sparse Bayesian learning and the relevance vector machine". JMLR
       1:211-244, 2001.
    .. [2] M. E. Tipping, A. C. Faul. "Fast marginal likelihood maximisation for sparse Bayesian
       models". AISTATS, 2003.
    .. [3] D. P. Wipf, B. D. Rao. "An empirical Bayesian strategy for solving the simultaneous
       sparse approximation problem". IEEE Trans. Signal Processing 55(7):3704-3716, 2007.
    .. [4] J. Fang, Y. Shen, H. Li, P. Wang. "Pattern-coupled sparse Bayesian learning for recovery
       of block-sparse signals". IEEE Trans. Signal Processing 63(2):360-372, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.recovery import SparseBayesianLearning
    >>> rng = np.random.default_rng(0)
    >>> A, x = rng.normal(size=(40, 100)), np.zeros(100)
    >>> x[[3, 50, 70]] = 1.0, -2.0, 3.0
    >>> model = SparseBayesianLearning().fit(A, A @ x + 0.1 * rng.normal(size=40))
    >>> model.support_
    array([ 3, 50, 70])
    >>> bool(np.all(abs(model.coef_ - x) < 3 * model.sigma_diag_**0.5 + 1e-12))
    True
    """

    _parameter_constraints = {
        "update": [StrOptions({"em", "mackay", "fast"})],
        "noise_var": [Interval(Real, 0, None, closed="neither"), None],
        "fit_intercept": ["boolean"],
        "shared": ["boolean"],
        "coupling": [Interval(Real, 0, 1, closed="left")],
        "prune": [Interval(Real, 0, 1, closed="left")],
        "min_gain": [Interval(Real, 0, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        update="fast",
        *,
        noise_var=None,
        fit_intercept=False,
        shared=True,
        coupling=0.0,
        prune=1e-3,
        min_gain=None,
        max_iter=150,
        tol=1e-4,
    ):
        self.update = update
        self.noise_var = noise_var
        self.fit_intercept = fit_intercept
        self.shared = shared
        self.coupling = coupling
        self.prune = prune
        self.min_gain = min_gain
        self.max_iter = max_iter
        self.tol = tol

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Find the prior variances of largest evidence, and the posterior under them.

        Parameters
        ----------
        X : {array, sparse array, LinearOperator} of shape (n_samples, n_features)
            The measurement matrix A, real or complex.
        y : array of shape (n_samples,) or (n_samples, n_targets)
            The measurements.

        Returns
        -------
        self : SparseBayesianLearning
            The fitted estimator.
        """
        with mpi.errors_together(), mpi.each_rank_alone():
            self._check_coupling()
            problem = self._check_problem(X, y, fit_intercept=self.fit_intercept)
        _check_same_columns(problem.columns)
        searches = [self._new_search(problem.columns, Y) for Y in self._groups(problem)]
        self._fitting = problem, searches

        def settled():
            return not mpi.any_rank(not all(search.converged for search in searches))

        self.n_iter_: int = 0
        self.log_evidence_: list[float] = []
        with blas_threads_for(_largest_product(problem.columns, self.update)):
            for n_iter in self._iterations(X, y, max_iter=self.max_iter, until=settled):
                for search in searches:
                    search.step()
                values = [search.log_evidence[-1] for search in searches if search.log_evidence]
                self.n_iter_, self.log_evidence_ = n_iter + 1, [*self.log_evidence_, sum(values)]
        self._set_fitted()
        del self._fitting
        if not self.converged_ and self.tol > 0:
            warnings.warn(
                f"Prior variances or noise still changed by more than tol={self.tol} after "
                f"max_iter={self.max_iter} iterations; increase max_iter or tol, or use "
                "update='fast'.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def predict(self, X, return_std=False):
        """Predict measurements, with their standard deviations if asked.

        Parameters
        ----------
        X : {array, sparse array, LinearOperator} of shape (n_samples, n_features)
        return_std : bool, default=False
            Whether to return the deviation of a new measurement: that of the coefficients and of
            the noise together. The intercept's own is not counted.

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_targets)
        std : array of the shape of y
            Real; only with `return_std`.
        """
        y = super().predict(X)
        if not return_std:
            return y
        A = self._check_matrix(X, reset=False)
        coef = to_compute(self.coef_)
        xp = compute_namespace(coef)
        with mpi.each_rank_alone():
            columns = UnitColumns(A, coef.dtype, xp, normalize=False)
        variances = [
            row_variances(self._rows(columns, support), root, W, xp) + noise_var
            for support, root, W, noise_var in self._parts()
        ]
        std = xp.sqrt(xp.stack(variances, axis=1)).astype(columns.real_dtype)
        std = std[:, 0] if coef.ndim == 1 else xp.broadcast_to(std, (len(std), len(coef))).copy()
        return y, _answer(std, X)

    def sample_posterior(self, n_samples=1, random_state=None):
        """Draw coefficients from the posterior.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        samples : array of shape (n_samples, n_features) or (n_samples, n_targets, n_features)
            In the library of ``coef_``.
        """
        check_is_fitted(self)
        rng, coef = check_random_state(random_state), to_compute(self.coef_)
        xp, parts = compute_namespace(coef), self._parts()
        targets = xp.atleast_2d(coef)
        samples = xp.repeat(targets[None], n_samples, axis=0)
        for target in range(len(targets)):
            support, root, W, _ = parts[target % len(parts)]
            noise = rng.standard_normal((len(root), n_samples)).astype(root.dtype)
            if coef.dtype.kind == "c":
                noise = (noise + 1j * rng.standard_normal(noise.shape)) / np.sqrt(2)
            deviations = colored(xp.asarray(noise.astype(coef.dtype)), root, W, xp)
            samples[:, target, support] += deviations.T
        return like(samples[:, 0] if coef.ndim == 1 else samples, self.coef_)

    def _check_coupling(self):
        if self.coupling and self.update != "em":
            raise ValueError(
                f"coupling={self.coupling} needs update='em', got update={self.update!r}."
            )
        if 0 < self.coupling <= self.prune:
            raise ValueError(
                f"coupling must be 0 or more than prune={self.prune}, got {self.coupling!r}."
            )

    def _groups(self, problem):
        """Return the measurements of every problem to be solved, arrays (M, T)."""
        if self._is_separate(problem):
            return [problem.Y[:, t : t + 1] for t in range(problem.Y.shape[1])]
        return [problem.Y]

    def _is_separate(self, problem):
        return not self.shared and not problem.y_is_vector

    def _new_search(self, columns, Y):
        options = {"noise_var": self.noise_var, "prune": self.prune, "tol": self.tol}
        if self.update == "fast":
            options["min_gain"] = self.min_gain
        kind: type[EvidenceSearch] = _SEARCHES[self.update]
        if self.coupling:
            kind, options["coupling"] = PatternSearch, self.coupling
        total = mpi.row_sum if self.shared else _same
        return kind(columns, Y, total=total, **options)

    def _fitted_attributes(self):
        self._set_fitted()
        return {name: value for name, value in vars(self).items() if name.endswith("_")}

    def _set_fitted(self):
        """Set all fitted attributes from the state of the searches."""
        problem, searches = self._fitting
        columns, xp = problem.columns, problem.columns.xp
        means, variances = zip(*(search.coefficients() for search in searches), strict=True)
        self._store(problem, xp.concatenate(means, axis=1))
        scale = columns.original(xp.ones((columns.shape[1], 1), dtype=columns.real_dtype)) ** 2
        arrays = {
            "sigma_diag_": xp.stack(variances) * scale[:, 0],
            "gamma_": xp.stack([search.gamma for search in searches]) * scale[:, 0],
        }
        supports = [search.active.indices for search in searches]
        factors = [search.factor() for search in searches]
        noise = np.array([search.noise_var for search in searches], dtype=columns.real_dtype)
        separate = self._is_separate(problem)
        for name, value in arrays.items():
            value = value.astype(columns.real_dtype, copy=False)
            setattr(self, name, _answer(value if separate else value[0], problem.given))
        for name, values in (("support_", supports), ("posterior_factor_", factors)):
            values = [_answer(value, problem.given) for value in values]
            setattr(self, name, values if separate else values[0])
        self.noise_var_ = _answer(noise, problem.given) if separate else searches[0].noise_var
        self.X_offset_ = None if columns.mean is None else _answer(columns.mean, problem.given)
        self.converged_ = all(search.converged for search in searches)

    def _parts(self):
        """Return support, prior deviations on it, factor and noise variance of every problem."""
        xp = compute_namespace(to_compute(self.coef_))
        supports, factors = self.support_, self.posterior_factor_
        if not isinstance(supports, list):
            supports, factors = [supports], [factors]
        noise = np.atleast_1d(to_numpy(self.noise_var_))
        deviations = xp.sqrt(xp.atleast_2d(to_compute(self.gamma_)))
        parts = zip(supports, deviations, factors, noise, strict=True)
        return [
            (
                xp.asarray(to_compute(s)),
                root[xp.asarray(to_compute(s))],
                xp.asarray(to_compute(W)),
                v,
            )
            for s, root, W, v in parts
        ]

    def _rows(self, columns, support):
        rows = columns.take(support)
        if self.X_offset_ is None:
            return rows
        return rows - to_compute(self.X_offset_)[support]


def _same(*arrays):
    """Return the arrays themselves: no sum over ranks."""
    return arrays[0] if len(arrays) == 1 else arrays


def _check_same_columns(columns):
    """Refuse ranks whose X differ, as they do when rows are split."""
    if mpi.n_ranks() == 1:
        return
    norms = columns.norms.astype(np.float64)
    shapes = mpi.all_gather(columns.shape)
    differs = len(set(shapes)) > 1
    if not differs:
        mean = mpi.row_sum(norms) / mpi.n_ranks()
        differs = mpi.any_rank(bool((abs(norms - mean) > 1e-4 * mean).any()))
    if differs:
        raise ValueError(
            "SparseBayesianLearning splits snapshots over ranks, not rows: pass the whole X on "
            f"every rank and each rank's own columns of y. The X have shapes {shapes}."
        )


def _largest_product(columns, update):
    """Return the multiplications of a product with the matrix, or of two with each other."""
    n_rows, n_columns = columns.shape
    return n_rows * n_columns * (1 if update == "fast" else min(n_rows, n_columns))
