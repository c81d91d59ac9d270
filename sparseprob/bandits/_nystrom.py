"""Gaussian process regression on a dictionary drawn by leverage (Calandriello et al., 2019)."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import (
    ClassNamePrefixFeaturesOutMixin,
    RegressorMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.gaussian_process.kernels import RBF
from sklearn.metrics import r2_score
from sklearn.utils import assert_all_finite, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from .. import mpi
from .._arrays import (
    compute_dtype,
    compute_namespace,
    is_array,
    is_row_source,
    like,
    to_compute,
    to_numpy,
)
from .._base import Estimator
from .._threads import blas_threads_for
from ._batch import BanditWarning
from ._distinct_rows import distinct_rows, uniform_by_content
from ._kernel import KernelFunction
from ._kernel_fit import fit_kernel
from ._sparse_posterior import SparsePosterior
from ._targets import checked_target, checked_weights

_N_PILOT = 200  # rows of the first, uniform dictionary
_N_HYPER = 500  # rows that kernel parameters are learned from
_LARGE = 5000  # points of a dictionary


class NystromGPRegressor(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, RegressorMixin, Estimator
):
    r"""Gaussian process regression whose dictionary is drawn from the rows by their leverages.

    The posterior of `BBKB` for given data: rows x get an embedding z from a dictionary, with
    :math:`z_i^\top z_j \approx k(x_i, x_j)`; the mean is ridge regression on it, the variance keeps
    what the prior has beyond it, so that it is never too small far from the dictionary. A uniform
    dictionary gives first leverages s (variances over lam) of all rows; then each row is kept with
    probability :math:`\min(1, \bar q\, n_i s_i)`, n its weight. A fit costs
    :math:`O(n m^2)` for m points kept.

    Parameters
    ----------
    kernel : sklearn.gaussian_process.kernels.Kernel, default=None
        Covariance function. None is RBF with half the range of each feature.
    lam : float, default=0.1
        Ridge, the variance of the noise.
    qbar : float, default=2.0
        Dictionaries have about qbar times as many points as the effective dimension.
    n_passes : int, default=2
        Passes over the rows, the first of which has a uniform dictionary of 200 rows; more refine
        the leverages that the dictionary is drawn by.
    dictionary : array-like of int, default=None
        Rows of X that are the dictionary; None draws them. Under `distributed` they are rows of
        this rank.
    optimizer : "fmin_l_bfgs_b" or None, default=None
        Whether free kernel parameters are learned first, by the exact marginal likelihood of at
        most 500 rows.
    random_state : int, RandomState instance or None, default=None

    Attributes
    ----------
    kernel_ : sklearn.gaussian_process.kernels.Kernel
        The kernel, with parameters learned if so asked.
    dictionary_ : array of shape (m0, n_features)
        In the library of X.
    dictionary_indices_ : int64 array of shape (m0,)
        Their rows; under `distributed` counted through the ranks.
    leverage_ : array of shape (n_samples,)
        Posterior variances of the rows over lam, in the library of X.
    effective_dimension_ : float
        Sum of the leverages, weighted.
    n_features_in_ : int
        Number of columns.

    See Also
    --------
    BBKB : Chooses the rows to measure.
    sparseprob.gp.SWSGPRegressor : Learns its inducing inputs, for small length-scales.

    Notes
    -----
    Rows that repeat are merged. Draws depend on what is in a row, not where it stands: repeating a
    row is the same as doubling its weight.

    References
    ----------
    See [Calandriello2019]_.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from sparseprob.bandits import NystromGPRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((5000, 1))
    >>> y = np.sin(20 * X[:, 0]) + 0.1 * rng.normal(size=5000)
    >>> model = NystromGPRegressor(RBF(0.1), lam=0.01, random_state=0).fit(X, y)
    >>> mean, std = model.predict(X, return_std=True)
    >>> bool(np.abs(mean - np.sin(20 * X[:, 0])).max() < 0.05)
    True
    >>> len(model.dictionary_) < 100
    True
    """

    _parameter_constraints: dict = {
        "kernel": "no_validation",
        "lam": [Interval(Real, 0, None, closed="neither")],
        "qbar": [Interval(Real, 0, None, closed="neither")],
        "n_passes": [Interval(Integral, 1, None, closed="left")],
        "dictionary": [None, "array-like"],
        "optimizer": [None, StrOptions({"fmin_l_bfgs_b"})],
        "random_state": ["random_state"],
    }
    _reference_attribute = "dictionary_"

    def __init__(
        self,
        kernel=None,
        *,
        lam=0.1,
        qbar=2.0,
        n_passes=2,
        dictionary=None,
        optimizer=None,
        random_state=None,
    ):
        self.kernel = kernel
        self.lam = lam
        self.qbar = qbar
        self.n_passes = n_passes
        self.dictionary = dictionary
        self.optimizer = optimizer
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        return tags

    # ---- fitting --------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Draw the dictionary and learn the posterior.

        Parameters
        ----------
        X : array or row source of shape (n_samples, n_features)
            Under `distributed` the rows of this rank.
        y : array of shape (n_samples,), default=None
            Without it only `transform` can follow.
        sample_weight : array of shape (n_samples,), default=None
            How many measurements a row stands for.

        Returns
        -------
        self : NystromGPRegressor
            The fitted estimator.
        """
        with mpi.errors_together():
            A = self._rows(X, reset=True)
            target, weights = checked_target(A, y), checked_weights(A, sample_weight)
        xp = compute_namespace(A)
        first, order, group = distinct_rows(A, weights)
        if mpi.row_max(len(first)) < 1:
            raise ValueError(
                "All rows have zero weight; give at least one a positive sample_weight."
            )
        points, counts = A[first], xp.bincount(group, weights[order], len(first))
        sums = xp.bincount(group, (weights * target)[order], len(first))
        numbers = to_numpy(first) + sum(mpi.all_gather(len(A))[: mpi.rank()])
        seed = int(mpi.broadcast(check_random_state(self.random_state).randint(2**31 - 1)))
        with blas_threads_for(len(points) * _N_PILOT**2):
            self._fit(points, counts, sums, numbers, seed)
            weights_of_mean = self._model.mean_weights(self._model.cross.points[:0])
            _, leverage = self._model.at(A, weights_of_mean)
        self._has_target = y is not None
        self.effective_dimension_ = float(mpi.row_sum(weights @ leverage))
        self.leverage_ = self._like_given(leverage, X)
        self.dictionary_ = self._like_given(self._model.cross.points, X)
        self.dictionary_indices_ = like(self._model.indices, X if is_array(X) else np.empty(0))
        self._n_features_out = self._model.n_components
        self._state = {
            name: to_numpy(getattr(self._model, name)) for name in ("G", "ratios", "inverse")
        } | {"weights": to_numpy(weights_of_mean), "points": to_numpy(self._model.cross.points)}
        del self._model
        return self

    def _fit(self, points, counts, sums, numbers, seed):
        """Set the model of this rank's distinct rows, with dictionaries of all ranks' rows."""
        xp = compute_namespace(points)
        uniform = uniform_by_content(points, seed, 0)
        self.kernel_ = self._learned_kernel(points, counts, sums, uniform)
        self._model = SparsePosterior(KernelFunction(self.kernel_, points.shape[1]), self.lam)
        kept = self._given_rows(numbers)
        n_passes = 1
        if kept is None:
            kept, n_passes = _smallest(uniform, _N_PILOT), self.n_passes
        for n_pass in range(n_passes):
            if n_pass:
                leverages = self._model.leverages_in_chunks(points)
                p = self.qbar * to_numpy(counts * leverages)
                kept = uniform_by_content(points, seed, n_pass) < np.minimum(1.0, p)
                if not mpi.any_rank(kept.any()):
                    kept = _smallest(-p, 1)
            rows, D = (_of_all_ranks(a[kept]) for a in (numbers, to_numpy(points)))
            self._model.build(rows, xp.asarray(D), points, counts, sums, mpi.row_sum)
        if len(rows) > _LARGE:
            warnings.warn(
                f"The dictionary has {len(rows)} points; raise lam={self.lam} or lower "
                f"qbar={self.qbar}.",
                BanditWarning,
                stacklevel=4,
            )

    def _learned_kernel(self, points, counts, sums, uniform):
        kernel = self.kernel
        if kernel is None:
            ends = np.full((2, points.shape[1]), -np.inf)
            if len(points):
                ends = np.array([to_numpy(points.max(axis=0)), -to_numpy(points.min(axis=0))])
            spread = np.max(mpi.all_gather(ends), axis=0).sum(axis=0)
            kernel = RBF(0.5 * np.where(spread > 0, spread, 1.0))
        KernelFunction(kernel, points.shape[1])  # refuses what is none
        if self.optimizer is None:
            return kernel
        kept = _smallest(uniform, _N_HYPER)
        X, n, S = (_of_all_ranks(to_numpy(a)[kept]) for a in (points, counts, sums))
        return fit_kernel(kernel, X, S / n, n, self.lam, n_hyper=_N_HYPER)

    def _given_rows(self, numbers):
        """Which distinct rows are the dictionary that was given, or None."""
        if self.dictionary is None:
            return None
        given = np.asarray(self.dictionary)
        if given.ndim != 1 or given.dtype.kind not in "iu" or not len(given):
            raise ValueError(
                f"dictionary must be a list of row numbers of X or None, got {self.dictionary!r}."
            )
        kept = np.isin(numbers, given)
        if kept.sum() < len(np.unique(given)):
            missing = given[~np.isin(given, numbers)][0]
            raise ValueError(
                f"Row {missing} of dictionary is not a row of X of positive weight, or it repeats "
                "an earlier one; name that."
            )
        return kept

    def _rows(self, X, *, reset, method="fit"):
        """Return X as an (n, d) array in double precision, finite."""
        if is_row_source(X):
            X = X[:]
        X = self._check_X(X, reset=reset, method=method)
        A = to_compute(X)
        xp = compute_namespace(A)
        A = xp.ascontiguousarray(A, dtype=np.float64)
        if isinstance(A, np.ndarray):
            assert_all_finite(A, input_name="X", estimator_name=type(self).__name__)
        elif not xp.isfinite(A).all():
            raise ValueError("Input X contains NaN or infinity; remove such rows first.")
        return A

    @staticmethod
    def _like_given(A, X):
        """Return A in the library, on the device and in the precision of X."""
        dtype = compute_dtype(X) if is_array(X) or is_row_source(X) else np.float64
        return like(A.astype(dtype, copy=False), X if is_array(X) else np.empty(0))

    # ---- answers --------------------------------------------------------------------------------

    def _fitted_model(self, A):
        """Return the posterior, where A lives, and the weights of its mean."""
        xp = compute_namespace(A)
        model = SparsePosterior(KernelFunction(self.kernel_, A.shape[1]), self.lam)
        arrays = {name: xp.asarray(value) for name, value in self._state.items()}
        return model.restored(**arrays), arrays["weights"]

    def predict(self, X, return_std=False, return_cov=False):
        """Predict values of the function, with deviations or covariances if asked.

        Parameters
        ----------
        X : array of shape (n_queries, n_features)
        return_std : bool, default=False
            Whether to return standard deviations.
        return_cov : bool, default=False
            Whether to return the joint covariance.

        Returns
        -------
        mean : array of shape (n_queries,)
            In the library of X.
        std : array of shape (n_queries,)
            Only with `return_std`; without the noise.
        cov : array of shape (n_queries, n_queries)
            Only with `return_cov`.

        Raises
        ------
        ValueError
            If both are asked for, or the fit was without y.
        """
        A = self._rows(X, reset=False, method="predict")
        if return_std and return_cov:
            raise ValueError("At most one of return_std and return_cov can be asked for.")
        if not self._has_target:
            raise ValueError("The fit had no y, so that there is nothing to predict.")
        model, weights = self._fitted_model(A)
        if return_cov:
            cov = self.lam * model.covariances(A)
            return self._like_given(model.rows(A) @ weights, X), self._like_given(cov, X)
        mean, leverage = model.at(A, weights)
        mean = self._like_given(mean, X)
        if not return_std:
            return mean
        return mean, self._like_given(compute_namespace(A).sqrt(self.lam * leverage), X)

    def transform(self, X):
        r"""Return the embedding of rows, whose products are near the kernel.

        Parameters
        ----------
        X : array of shape (n_queries, n_features)

        Returns
        -------
        Z : array of shape (n_queries, m)
            :math:`z_i^\top z_j \approx k(x_i, x_j)`; exact between points of the dictionary.
        """
        A = self._rows(X, reset=False, method="transform")
        model, _ = self._fitted_model(A)
        scales = compute_namespace(A).sqrt(self.lam * model.ratios)
        return self._like_given(model.rows(A) * scales, X)

    def score(self, X, y, sample_weight=None):
        """Return the coefficient of determination of the predicted means.

        Parameters
        ----------
        X : array of shape (n_queries, n_features)
        y : array of shape (n_queries,)
        sample_weight : array of shape (n_queries,), default=None

        Returns
        -------
        r2 : float
        """
        predicted = to_numpy(self.predict(X))
        return float(r2_score(to_numpy(y), predicted, sample_weight=sample_weight))


def _of_all_ranks(A):
    """Rows of all ranks, in the order of ranks."""
    return np.concatenate(mpi.all_gather(A))


def _smallest(values, n):
    """Mark the n smallest of all ranks' values, here."""
    pooled = np.sort(_of_all_ranks(values))
    return values <= pooled[min(n, len(pooled)) - 1]
