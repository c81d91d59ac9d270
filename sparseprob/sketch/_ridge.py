"""Regression over a join from sketches of both tables (M. Daliri, J. Freire et al., 2025)."""

import warnings
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from .. import mpi
from .._arrays import is_array, like, to_compute, to_numpy
from .._base import Estimator
from ._joined_rows import joined_rows
from ._predictors import checked_table, checked_target, product_with
from ._regression_sketch import regression_sketch, regression_sketch_of_batches
from ._sampled_sketch import SampledSketch
from ._weighted_ridge import WeightedRidge

_FEW = 3  # common rows for each coefficient, below which a warning is due


class SketchedRidge(MultiOutputMixin, RegressorMixin, Estimator):
    r"""Linear regression over the join of two tables that is never made.

    The table of features and the target have keys of their own. Both are sampled, on their own,
    with one hash function, so that rows of the same keys meet; those that do are fitted by

    .. math::

       \min_{\beta, b} \sum_i \frac{1}{p_i} (x_i \beta + b - y_i)^2 + \alpha \|\beta\|^2,

    where :math:`p_i` is the probability that the row is in both samples. The sum estimates that
    over the whole join without bias.

    Parameters
    ----------
    alpha : float, default=0.0
        Penalty, on the scale of the whole join: that of scikit-learn's ``Ridge``.
    fit_intercept : bool, default=True
        Whether to fit an intercept, which is not penalized.
    n_samples : int, default=1000
        Number of rows sampled from each table. If it is at least their number of rows, the fit is
        that of the whole join.
    seed : int, default=0
        Of the hash; the same for both tables.

    Attributes
    ----------
    coef_ : array of shape (n_features,) or (n_targets, n_features)
        Coefficients.
    intercept_ : float or array of shape (n_targets,)
        Zero unless `fit_intercept`.
    coef_std_ : array of the shape of ``coef_``
        Standard deviations of the coefficients around those of the whole join, estimated; how far
        these are from the truth is another question. NaN where they depend on single rows.
    left_out_r2_ : float or array of shape (n_targets,)
        Share of the variance of the target over the join that is explained in rows that were left
        out, one at a time.
    n_common_ : int
        Number of rows in both samples.
    n_join_estimated_ : float
        Estimated number of rows of the join.
    n_features_in_ : int
        Number of columns.

    See Also
    --------
    JoinSearch : Which of many tables explains a target.
    JoinCorrelationSketch : Correlation of two columns over a join.

    Notes
    -----
    Rows are sampled in proportion to their squared length, but at least to the average one: in
    proportion to the squared length alone, a row with y = 0 would never be sampled, and small ones
    would stand for very many. A target that is linear in the features is recovered exactly as soon
    as there are as many common rows as coefficients.

    A fit costs a pass over the tables and a singular value decomposition of the common rows,
    O(n_common n_features^2). The coefficients do not come from normal equations.

    References
    ----------
    .. [1] M. Daliri, J. Freire, D. Li, C. Musco. "Matrix Product Sketching via Coordinated
       Sampling". ICLR, 2025.

    Examples
    --------
    Two tables on 10 000 customers, half of them the same, sketched apart:

    >>> import numpy as np
    >>> from sparseprob.sketch import SketchedRidge
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(15_000, 3))
    >>> y = X @ [1.0, -2.0, 0.5] + 0.1 * rng.normal(size=15_000)
    >>> model = SketchedRidge(n_samples=500)
    >>> customers = np.arange(15_000)
    >>> features = model.sketch(X[:10_000], customers[:10_000])
    >>> target = model.sketch(y[5_000:], customers[5_000:])
    >>> model.fit_sketches(features, target).coef_.round(1)
    array([ 1. , -2. ,  0.5])
    >>> bool(abs(model.n_join_estimated_ - 5_000) < 1_000)
    True
    """

    _parameter_constraints: dict = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "seed": [Interval(Integral, 0, None, closed="left")],
    }
    _reference_attribute = "coef_"

    def __init__(self, alpha=0.0, *, fit_intercept=True, n_samples=1000, seed=0):
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.n_samples = n_samples
        self.seed = seed

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def sketch(self, A, keys=None):
        """Sketch a table of features, or a target, for `fit_sketches`.

        Parameters
        ----------
        A : {array, sparse matrix, data frame, row source} of shape (n_rows, n_columns) or (n_rows,)
            Finite real numbers.
        keys : array of shape (n_rows,), default=None
            Integers, strings or bytes, each once; None numbers the rows.

        Returns
        -------
        sketch : SampledSketch
            Can be written to bytes; under `distributed`, of the rows of all ranks.
        """
        return regression_sketch(A, keys, self.n_samples, self.seed)

    @_fit_context(prefer_skip_nested_validation=True)
    def sketch_batches(self, batches):
        """Sketch a table that never is in memory as a whole, in one pass.

        ``sketch_table(model, "file.parquet", key="id")`` reads a Parquet file this way.

        Parameters
        ----------
        batches : iterable of (A, keys)
            Pieces of the table and their keys.

        Returns
        -------
        sketch : SampledSketch
            The one that `sketch` returns for the whole table, to the bit.
        """
        return regression_sketch_of_batches(batches, self.n_samples, self.seed)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, keys_X=None, keys_y=None):
        """Sketch both tables and fit.

        Parameters
        ----------
        X : {array, sparse matrix, data frame, row source} of shape (n_rows, n_features)
            Features.
        y : array of shape (n_target_rows,) or (n_target_rows, n_targets)
            Target; as many rows as X without keys.
        keys_X : array of shape (n_rows,), default=None
            Keys of the rows of X: integers, strings or bytes, each once.
        keys_y : array of shape (n_target_rows,), default=None
            Keys of the rows of y; give both or none.

        Returns
        -------
        self : SketchedRidge
        """
        if y is None:
            raise ValueError("SketchedRidge requires y to be passed, but the target y is None.")
        with mpi.errors_together():
            table = checked_table(self, X, reset=True)
            target, y_is_vector = checked_target(y, X)
            _check_keys(table, target, keys_X, keys_y)
        sketches = self.sketch(table, keys_X), self.sketch(target, keys_y)
        return self._fit(*sketches, X, y_is_vector)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_sketches(self, X_sketch, y_sketch):
        """Fit to the rows that two sketches have in common.

        Parameters
        ----------
        X_sketch : SampledSketch
            Of the features, from `sketch` or any sampling sketcher.
        y_sketch : SampledSketch
            Of the target, of the same seed, weighting and kind of keys.

        Returns
        -------
        self : SketchedRidge

        Raises
        ------
        ValueError
            If the sketches do not belong together, or have too few keys in common.
        """
        for sketch in (X_sketch, y_sketch):
            if not isinstance(sketch, SampledSketch):
                raise TypeError(
                    "Regression needs sketches that hold rows, from SketchedRidge.sketch or a "
                    f"PrioritySketcher, got {type(sketch).__name__}."
                )
        self.__dict__.pop("feature_names_in_", None)
        self.n_features_in_ = X_sketch.n_features_
        return self._fit(X_sketch, y_sketch, X_sketch._given, y_sketch.n_features_ == 1)

    def _fit(self, X_sketch, y_sketch, given, y_is_vector):
        rows = joined_rows(X_sketch, y_sketch)
        self._check_common(rows)
        fit = WeightedRidge(rows.A, rows.Y, rows.p, self.alpha, self.fit_intercept)
        dtype = np.result_type(X_sketch.rows_.dtype, y_sketch.rows_.dtype)
        n_targets = rows.Y.shape[1]

        def answer(values):
            whole = np.zeros((n_targets, self.n_features_in_), dtype=dtype)
            whole[:, rows.columns] = values.T
            whole = whole[0] if y_is_vector else whole
            return like(whole, given) if is_array(given) else whole

        self.coef_, self.coef_std_ = answer(fit.coef), answer(fit.coef_std)
        self.n_common_, self.n_join_estimated_ = len(rows.p), float(fit.size)
        intercept, r2 = fit.intercept.astype(dtype), fit.left_out_r2
        if y_is_vector:
            intercept, r2 = float(intercept[0]), float(r2[0])
        elif is_array(given):
            intercept = like(intercept, given)
        self.intercept_, self.left_out_r2_ = intercept, r2
        return self

    def _check_common(self, rows):
        n, n_coefs = len(rows.p), self.n_features_in_ + self.fit_intercept
        if not n:
            raise ValueError(
                "The sketches have no key in common: either the tables have none, or too few for "
                "samples of this size; raise n_samples, or check the keys."
            )
        samples = f"{n} sample{'s' if n > 1 else ''}"
        if n < n_coefs and not self.alpha:
            raise ValueError(
                f"The sketches have {samples} in common, too few for {n_coefs} coefficients; raise "
                "n_samples, or set alpha > 0."
            )
        if n < _FEW * n_coefs and (rows.p < 1).any():
            warnings.warn(
                f"The sketches have only {samples} in common for {n_coefs} coefficients, which "
                "will be uncertain; raise n_samples, or see coef_std_ and left_out_r2_.",
                stacklevel=3,
            )

    def predict(self, X):
        """Predict targets.

        Parameters
        ----------
        X : {array, sparse matrix, data frame, row source} of shape (n_rows, n_features)

        Returns
        -------
        y : array of shape (n_rows,) or (n_rows, n_targets)
            In the library of X.
        """
        check_is_fitted(self)
        table = checked_table(self, X, reset=False)
        intercept = to_compute(self.intercept_) if is_array(self.intercept_) else self.intercept_
        product = product_with(table, to_compute(self.coef_).T) + intercept
        return like(product, X) if is_array(X) and not sparse.issparse(X) else product

    def score(self, X, y, sample_weight=None):
        """Return the coefficient of determination of the prediction.

        Parameters
        ----------
        X : {array, sparse matrix, data frame, row source} of shape (n_rows, n_features)
        y : array of shape (n_rows,) or (n_rows, n_targets)
            The targets of these rows, in their order.
        sample_weight : array of shape (n_rows,), default=None

        Returns
        -------
        float
            R^2, averaged over targets.
        """
        true, predicted = (to_numpy(a) for a in (y, self.predict(X)))
        return float(r2_score(true, predicted, sample_weight=sample_weight))


def _check_keys(table, target, keys_X, keys_y):
    if (keys_X is None) != (keys_y is None):
        raise ValueError("Give keys_X and keys_y, or neither.")
    if keys_X is None and table.shape[0] != target.shape[0]:
        raise ValueError(
            f"X and y have inconsistent numbers of samples, {table.shape[0]} and "
            f"{target.shape[0]}; without keys there must be one target for each row."
        )
