"""The base estimator: validation, announced iterations, models that move between devices."""

import copy

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin, ProgressBar
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    check_is_fitted,
    validate_data,
)

from . import mpi
from ._arrays import is_array, is_row_source, like, to_compute


class Estimator(CallbackSupportMixin, BaseEstimator):
    """Base of every estimator: everything follows X, iterations are announced to callbacks."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        return tags

    def _init_callback_context(self, **kwargs):
        """Set up callbacks; under MPI only rank 0 draws progress bars."""
        callbacks = getattr(self, "_skl_callbacks", [])
        if mpi.rank() == 0 or not callbacks:
            return super()._init_callback_context(**kwargs)
        try:
            self._skl_callbacks = [c for c in callbacks if not isinstance(c, ProgressBar)]
            return super()._init_callback_context(**kwargs)
        finally:
            self._skl_callbacks = callbacks

    def _iterations(self, X, y=None, *, max_iter, first=0, until=None):
        """Yield iteration numbers, announcing each to the callbacks.

        Ends when a callback asks on any rank, or when ``until()`` is true after an iteration.
        ``_fitted_attributes()`` of the estimator gives callbacks a model fitted so far.
        """
        root = self._init_callback_context(max_subtasks=max_iter - first)
        root.call_on_fit_task_begin(estimator=self, X=X, y=y)
        for n_iter in range(first, max_iter):
            task = root.subcontext(task_name="iteration")
            task.call_on_fit_task_begin(estimator=self, X=X, y=y)
            yield n_iter
            with mpi.errors_together():
                asked = task.call_on_fit_task_end(
                    estimator=self, X=X, y=y, reconstruction_attributes=self._fitted_attributes
                )
            if mpi.any_rank(asked) or (until is not None and until()):
                break
        root.call_on_fit_task_end(
            estimator=self, X=X, y=y, reconstruction_attributes=self._fitted_attributes
        )

    def _check_X(self, X, *, reset, method="fit"):
        """Check X, or refuse it in one sentence; values are checked later, chunk by chunk.

        Arrays keep their library and are not copied; anything else becomes NumPy. Row sources
        (objects with ``shape``, ``dtype`` and row slicing) are returned as they are.
        """
        if not reset:
            check_is_fitted(self)
        if is_row_source(X) or (is_array(X) and not isinstance(X, np.ndarray)):
            self._check_rows(X, reset=reset)
            checked = X
        else:
            checked = validate_data(
                self,
                X,
                reset=reset,
                dtype="numeric",
                ensure_all_finite=False,
                ensure_min_samples=0 if mpi.n_ranks() > 1 else 1,
            )
        if not reset:
            self._check_same_library(checked, method)
        return checked

    def _check_rows(self, X, *, reset):
        shape, name = tuple(X.shape), type(self).__name__
        if len(shape) != 2:
            raise ValueError(
                f"Expected 2D array, got {len(shape)}D array instead: shape={shape}. "
                "Reshape your data to (n_samples, n_features)."
            )
        kind = np.dtype(X.dtype).kind if is_row_source(X) else to_compute(X[:0, :]).dtype.kind
        if kind == "c":
            raise ValueError(f"Complex data not supported by {name}; pass real numbers.")
        if kind not in "fiub":
            raise ValueError(f"{name} expects numeric data, got dtype {X.dtype}; convert it first.")
        if shape[0] < 1 and mpi.n_ranks() == 1:
            raise ValueError(
                f"Found array with 0 sample(s) (shape={shape}), at least 1 is required."
            )
        if shape[1] < 1:
            raise ValueError(
                f"Found array with 0 feature(s) (shape={shape}), at least 1 is required."
            )
        _check_feature_names(self, X, reset=reset)
        _check_n_features(self, X, reset=reset)

    def _check_same_library(self, X, method):
        fitted, given = getattr(self, self._reference_attribute), X
        kinds = [_library(A) for A in (fitted, given)]
        if kinds[0] != kinds[1]:
            raise ValueError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same namespace "
                f"and the same device as those passed to fit(): fitted on {kinds[0]}, "
                f"got {kinds[1]}. Move the model with sparseprob.move_estimator_to(estimator, X)."
            )


def _library(X):
    """Name of the array library and device of X; row sources count as what their slices are."""
    if is_array(X):
        device = getattr(X, "device", "cpu")
        kind = type(X).__module__.split(".")[0]
        return "numpy" if kind == "numpy" else f"{kind} ({device})"
    return _library(X[:0]) if getattr(X, "is_on_gpu", False) else "numpy"


def move_estimator_to(estimator, X):
    """Return a copy of a fitted estimator whose arrays live where X lives.

    Parameters
    ----------
    estimator : Estimator
        A fitted estimator of this package.
    X : array
        Any array of the wanted library on the wanted device, for example ``numpy.empty(0)`` to
        bring a model trained on a GPU back to the host.

    Returns
    -------
    estimator : Estimator
        A shallow copy; the given estimator is not changed.
    """
    check_is_fitted(estimator)
    moved = copy.copy(estimator)
    for name, value in vars(estimator).items():
        if name.endswith("_") and is_array(value):
            setattr(moved, name, like(to_compute(value), X))
    return moved
