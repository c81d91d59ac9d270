"""What the estimators with Kronecker structure share: checks of factors and y, predictions."""

import math
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted

from .. import mpi
from .._arrays import compute_namespace, is_array, is_on_gpu, like, to_compute, to_cupy, to_numpy
from .._base import Estimator
from ..linear_operators import KroneckerOperator, check_factors, mode_products


class KroneckerProblem(NamedTuple):
    """Factors and a stack of measurements in one library and of one precision."""

    factors: list
    Y: Any  # (T, M_1, ..., M_K)
    form: str  # of y: "vector", "tensor", or either with "snapshots" behind it
    given: Any  # an array, or None, whose library the answers follow

    def coef(self, stack):
        """Return coefficients (T, N_1, ..., N_K) with snapshots last, or without their axis."""
        return last_axis(stack) if self.form.endswith("snapshots") else stack[0]

    def answer(self, A):
        """Return A in the library of what the caller gave."""
        return A if self.given is None else like(A, self.given)


class KroneckerRegressor(RegressorMixin, Estimator):
    """Base of the estimators whose X is a list of factors or a `KroneckerOperator`."""

    _reference_attribute = "coef_"

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # a list of matrices
        tags.target_tags.multi_output = True
        return tags

    def _check_problem(self, X, y):
        """Check X and y and return them as a `KroneckerProblem`; raises one sentence otherwise."""
        with mpi.errors_together():
            factors, given = read_factors(X)
            Y, form = _measurements(y, factors)
            dtype = np.result_type(*factors, 1j if Y.dtype.kind == "c" else 0.0)
            real = np.empty(0, dtype).real.dtype
            if is_on_gpu(factors[0]) and not is_on_gpu(Y):
                Y = to_cupy(Y)
            elif is_on_gpu(Y) and not is_on_gpu(factors[0]):
                raise ValueError(
                    "y is on the GPU and the factors are on the host; move the factors with "
                    "cupy.asarray or y with y.get()."
                )
            xp = compute_namespace(Y)
            Y = xp.ascontiguousarray(Y, dtype=dtype)
            factors = [F.astype(dtype if F.dtype.kind == "c" else real) for F in factors]
        return KroneckerProblem(factors, Y, form, given)

    def _check_factors(self, X):
        """Return the factors that predictions go through, and whose library they follow."""
        check_is_fitted(self)
        factors, given = read_factors(X)
        self._check_same_library(factors[0] if given is None else given, "predict")
        coef, n_modes = self.coef_, len(self.supports_)
        if len(factors) != n_modes or any(
            F.shape[1] != n for F, n in zip(factors, coef.shape, strict=False)
        ):
            raise ValueError(
                f"The factors have shapes {_shapes(factors)}; fitted with "
                f"{tuple(coef.shape[:n_modes])} columns."
            )
        return factors, given

    def _predict(self, factors):
        """Return the stack of predicted tensors (T, P_1, ..., P_K)."""
        coef, n_modes = to_compute(self.coef_), len(factors)
        xp = compute_namespace(factors[0])
        stack = coef[None] if coef.ndim == n_modes else xp.moveaxis(coef, -1, 0)
        return mode_products(xp.ascontiguousarray(stack), factors)

    def _formed(self, stack, given, form=None):
        """Return a stack of predictions in the form y had in ``fit``."""
        form = self._form if form is None else form
        stack = stack.reshape(len(stack), -1) if form.startswith("vector") else stack
        result = last_axis(stack) if form.endswith("snapshots") else stack[0]
        return result if given is None else like(result, given)

    def predict(self, X):
        """Predict measurements.

        Parameters
        ----------
        X : list of arrays of shape (P_k, N_k), or KroneckerOperator

        Returns
        -------
        y : array
            In the form of the y of ``fit``: a vector, a tensor, or one with an axis of snapshots.
        """
        factors, given = self._check_factors(X)
        return self._formed(self._predict(factors), given)

    def score(self, X, y):
        """Return the coefficient of determination of the prediction over all entries.

        Parameters
        ----------
        X : list of arrays of shape (M_k, N_k), or KroneckerOperator
        y : array
            In the form of the y of ``fit``.

        Returns
        -------
        float
            1 for a perfect prediction; of complex numbers the moduli of deviations count.
        """
        true, predicted = to_numpy(y), to_numpy(self.predict(X))
        total = (np.abs(true - true.mean()) ** 2).sum()
        return float(1 - (np.abs(true - predicted) ** 2).sum() / total)


def last_axis(stack):
    """Return a stack with its first axis last."""
    xp = compute_namespace(stack)
    return xp.ascontiguousarray(xp.moveaxis(stack, 0, -1))


def read_factors(X):
    """Return the factors of X, and an array whose library the answers follow, or None."""
    if isinstance(X, KroneckerOperator):
        return X.factors, None
    factors = check_factors(X)
    return factors, X[0] if is_array(X[0]) else None


def _shapes(factors):
    return ", ".join(str(tuple(F.shape)) for F in factors)


def _measurements(y, factors):
    """Return y as a stack (T, M_1, ..., M_K), and the form it had."""
    if y is None:
        raise ValueError("y is None; pass the measurements.")
    Y = to_compute(y) if is_array(y) else np.asarray(y)
    if Y.dtype.kind not in "fiubc" or Y.dtype == np.float16:
        raise TypeError(f"y has dtype {Y.dtype}; pass float32, float64 or complex numbers.")
    sizes = tuple(F.shape[0] for F in factors)
    n_rows, shape = math.prod(sizes), tuple(Y.shape)
    forms = {
        (n_rows,): "vector", sizes: "tensor",
        (n_rows, *shape[-1:]): "vector snapshots", (*sizes, *shape[-1:]): "tensor snapshots",
    }  # fmt: skip
    if shape not in forms:
        raise ValueError(
            f"y has shape {shape} but the factors, of shapes {_shapes(factors)}, need {n_rows} "
            f"measurements: a vector, a tensor of shape {sizes}, or either with a last axis of "
            "snapshots."
        )
    if not compute_namespace(Y).isfinite(Y).all():
        raise ValueError("y contains NaN or infinity; remove such entries first.")
    form = forms[shape] if len(sizes) > 1 else ("vector", "vector snapshots")[Y.ndim - 1]
    if form.endswith("snapshots"):
        Y = compute_namespace(Y).moveaxis(Y, -1, 0)
        if len(Y) == 0 and mpi.n_ranks() == 1:
            raise ValueError("y has no snapshots; give at least one.")
    return Y.reshape(-1 if Y.size else 0, *sizes), form
