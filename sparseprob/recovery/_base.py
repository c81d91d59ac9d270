"""What the sparse regressors share: checks of A and y, coefficients, predictions."""

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    check_is_fitted,
    validate_data,
)

from .. import mpi
from .._arrays import (
    compute_namespace,
    is_array,
    is_on_gpu,
    is_row_source,
    like,
    to_compute,
    to_cupy,
    to_numpy,
)
from .._base import Estimator
from ._measurements import UnitColumns, is_operator


class Problem(NamedTuple):
    """Measurements Y of shape (M, T) through columns; what the caller gave and took off."""

    columns: UnitColumns
    Y: Any
    y_mean: Any  # (T,) taken off Y; None without an intercept
    y_is_vector: bool
    given: Any  # the X of the caller, whose library the answers follow


class SparseRegressor(MultiOutputMixin, RegressorMixin, Estimator):
    """Base of the estimators that explain y by few columns of X, real or complex."""

    _reference_attribute = "coef_"

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _check_problem(self, X, y, *, fit_intercept=False, normalize=True):
        """Check X and y and return them as a `Problem`; raises one sentence otherwise."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        with mpi.errors_together():
            A = self._check_matrix(X, reset=True)
            Y, y_is_vector = self._check_targets(y, A, X)
            dtype = np.result_type(_floating(A.dtype), 1j if Y.dtype.kind == "c" else 0.0)
            if A.dtype != _floating(A.dtype) and not is_operator(A):
                A = A.astype(_floating(A.dtype))
            xp = compute_namespace(Y)
            Y = xp.ascontiguousarray(Y, dtype=dtype)
        columns = UnitColumns(A, dtype, xp, center=fit_intercept, normalize=normalize)
        y_mean = None
        if fit_intercept:
            y_mean = mpi.row_sum(Y.sum(axis=0)) / columns.n_rows
            Y = Y - y_mean.astype(dtype, copy=False)
        return Problem(columns, Y, y_mean, y_is_vector, X)

    def _store(self, problem, Z):
        """Set ``coef_`` and ``intercept_`` from coefficients (N, T) of the unit columns."""
        columns, y_mean = problem.columns, problem.y_mean
        coef = columns.original(Z).T
        intercept = 0.0
        if y_mean is not None:
            intercept = y_mean - coef @ columns.mean
            intercept = intercept.astype(coef.dtype, copy=False)
            intercept = intercept[0] if problem.y_is_vector else intercept
            intercept = intercept if problem.y_is_vector else like(intercept, problem.given)
        coef = columns.xp.ascontiguousarray(coef[0] if problem.y_is_vector else coef)
        self.coef_ = _answer(coef, problem.given)
        self.intercept_ = intercept

    def predict(self, X):
        """Predict measurements: X times the coefficients, plus the intercept.

        Parameters
        ----------
        X : {array, sparse array, LinearOperator} of shape (n_samples, n_features)

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_targets)
            In the library of X.
        """
        check_is_fitted(self)
        A = self._check_matrix(X, reset=False)
        xp = compute_namespace(to_compute(self.coef_))
        coef = xp.atleast_2d(to_compute(self.coef_)).T
        product = A.matmat(coef) if is_operator(A) else A @ coef
        intercept = self.intercept_
        product = product + (to_compute(intercept) if is_array(intercept) else intercept)
        return _answer(product[:, 0] if self.coef_.ndim == 1 else product, X)

    def score(self, X, y, sample_weight=None):
        """Return the coefficient of determination of the prediction.

        Parameters
        ----------
        X : {array, sparse array, LinearOperator} of shape (n_samples, n_features)
        y : array of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array of shape (n_samples,), default=None

        Returns
        -------
        float
            R^2, averaged over the targets; for complex data of the moduli of the deviations.
        """
        true, predicted = (to_numpy(a) for a in (y, self.predict(X)))
        if true.dtype.kind == "c" or predicted.dtype.kind == "c":
            weight = np.ones(len(true)) if sample_weight is None else np.asarray(sample_weight)
            true, predicted = (a.reshape(len(a), -1) for a in (true, predicted))
            mean = np.average(true, axis=0, weights=weight)
            residual, total = (weight @ np.abs(true - a) ** 2 for a in (predicted, mean))
            return float(np.mean(1 - residual / total))
        return float(r2_score(true, predicted, sample_weight=sample_weight))

    def _check_matrix(self, X, *, reset):
        """Return X as a NumPy or CuPy array, sparse CSC array or operator; values are finite."""
        if is_operator(X):
            self._check_features(X, reset=reset)
            check_operator(X)
            return X
        if is_row_source(X):
            X = X[:]
        if sparse.issparse(X):
            return self._check_sparse(X, reset=reset)
        if not is_array(X):
            X = X if hasattr(X, "iloc") else np.asarray(X)
        if is_array(X) and (not isinstance(X, np.ndarray) or X.dtype.kind == "c"):
            A = to_compute(X)
            self._check_features(A, reset=reset)
            check_finite(A, "X")
        else:
            A = validate_data(self, X, reset=reset, dtype="numeric", ensure_min_samples=0)
            self._check_features(A, reset=False)
        if not reset:
            self._check_same_library(X, "predict")
        _refuse_half(A, "X")
        return A

    def _check_sparse(self, X, *, reset):
        self._check_features(X, reset=reset)
        A = sparse.csc_array(X)
        check_finite(A.data, "X")
        return A

    def _check_features(self, X, *, reset):
        shape, name = tuple(X.shape), type(self).__name__
        if len(shape) != 2:
            raise ValueError(
                f"Expected 2D array, got {len(shape)}D array instead: shape={shape}. "
                "Reshape your data to (n_samples, n_features)."
            )
        if np.dtype(getattr(X, "dtype", None)).kind not in "fiubc":
            raise TypeError(f"{name} expects numeric data, got dtype {X.dtype}; convert it first.")
        for size, what in zip(shape, ("sample", "feature"), strict=True):
            if size < 1 and (what == "feature" or mpi.n_ranks() == 1):
                raise ValueError(
                    f"Found array with 0 {what}(s) (shape={shape}) while a minimum of 1 is "
                    f"required by {name}."
                )
        _check_feature_names(self, X, reset=reset)
        _check_n_features(self, X, reset=reset)

    def _check_targets(self, y, A, X):
        """Return y as an array (M, T) in the library of X, and whether it was a vector."""
        Y = to_compute(y) if is_array(y) else np.asarray(y)
        if Y.dtype.kind == "O":
            Y = Y.astype(np.float64)
        if Y.dtype.kind not in "fiubc":
            raise TypeError(f"y must be numeric, got dtype {Y.dtype}; convert it first.")
        _refuse_half(Y, "y")
        if Y.ndim not in (1, 2):
            raise ValueError(f"y must be of shape (M,) or (M, T), got {Y.shape}; reshape it.")
        if Y.shape[0] != A.shape[0]:
            raise ValueError(
                f"X has {A.shape[0]} rows but y has {Y.shape[0]}{factor_shapes(A)}; give one "
                "measurement for each row."
            )
        if Y.ndim == 2 and Y.shape[1] == 0:
            raise ValueError("y has no columns; give at least one right-hand side.")
        check_finite(Y, "y")
        if is_on_gpu(X) and not is_on_gpu(Y):
            Y = to_cupy(Y)
        elif is_on_gpu(Y) and not is_on_gpu(X) and not is_operator(X):
            raise ValueError(
                "y is on the GPU and X on the host; move X with cupy.asarray or y with y.get()."
            )
        return Y.reshape(len(Y), -1), Y.ndim == 1


def factor_shapes(A):
    """Name the factors of a Kronecker operator in an error."""
    factors = getattr(A, "factors", None)
    if factors is None:
        return ""
    return f" (the factors have shapes {', '.join(str(tuple(f.shape)) for f in factors)})"


def check_operator(X):
    """Refuse an operator that has no adjoint, or whose products are not of the type it says."""
    vector = np.zeros(X.shape[0], dtype=_floating(X.dtype))
    if getattr(X, "is_on_gpu", False):
        vector = to_cupy(vector)
    try:
        product = X.rmatvec(vector)
    except (NotImplementedError, RecursionError, TypeError) as error:
        raise ValueError(
            "X is a LinearOperator without rmatvec; define it: the adjoint is needed at every step."
        ) from error
    if np.dtype(product.dtype).kind == "c" and np.dtype(X.dtype).kind != "c":
        raise ValueError(
            f"X says dtype {X.dtype} but its rmatvec returns {product.dtype}; "
            "construct the LinearOperator with the complex dtype."
        )


def check_finite(A, name):
    """Raise a ValueError that names the array if it holds NaN or infinity."""
    if isinstance(A, np.ndarray):
        assert_all_finite(A, input_name=name)
    elif A.dtype.kind in "fc" and not compute_namespace(A).isfinite(A).all():
        raise ValueError(f"Input {name} contains NaN or infinity; remove such entries first.")


def _floating(dtype):
    """Return the type of the computations for data of this type: single precision stays."""
    dtype = np.dtype(dtype)
    return dtype if dtype.kind in "fc" else np.dtype(np.float64)


def _refuse_half(A, name):
    if A.dtype == np.float16:
        raise TypeError(f"{name} is float16, too coarse for a recovery; pass float32 or float64.")


def _answer(A, given):
    """Return A in the library of what the caller gave; NumPy for sparse arrays and operators."""
    return like(A, given) if is_array(given) else A
