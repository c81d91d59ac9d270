"""What the Gaussian processes share: checks of X and y, rows of all ranks, answers like X."""

import warnings

import numpy as np
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import column_or_1d

from .. import mpi
from .._arrays import (
    compute_dtype,
    compute_namespace,
    is_array,
    is_on_gpu,
    is_row_source,
    like,
    to_compute,
    to_numpy,
)
from .._base import Estimator


class SparseGP(Estimator):
    """Base of the Gaussian processes: computes in double precision, answers in the type of X."""

    _reference_attribute = "X_train_"

    def _check_training(self, X, y):
        """Return all rows (n, d) and targets (n,) of all ranks, in double precision.

        Warns of repeated rows and of constant features; raises one sentence for anything that
        cannot be learned from.
        """
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        with mpi.errors_together():
            A = self._check_inputs(X, reset=True)
            target = self._check_target(y)
            if len(target) != len(A):
                raise ValueError(
                    f"X has {len(A)} rows but y has {len(target)}; give one target for each row."
                )
        A, target = gathered(A), gathered(target)
        if len(A) < 2:
            raise ValueError(
                f"Found array with {len(A)} sample(s) (shape={tuple(A.shape)}) while a minimum of "
                f"2 is required by {type(self).__name__}."
            )
        self._warn_of_degenerate(A)
        xp = compute_namespace(A)
        return A, xp.asarray(target, dtype=np.float64)

    def _check_target(self, y):
        """Return y (n,), real and finite; classifiers and counts override this."""
        y = to_compute(y) if is_array(y) else np.asarray(y)
        if isinstance(y, np.ndarray):
            y = column_or_1d(y, warn=True)
            if y.dtype.kind not in "fiub":
                y = y.astype(np.float64)
            assert_all_finite(y, input_name="y")
        else:
            y = y.reshape(len(y))
            if not compute_namespace(y).isfinite(y).all():
                raise ValueError("Input y contains NaN or infinity; remove such rows first.")
        return y

    def _check_inputs(self, X, *, reset, method="fit"):
        """Return X as an (n, d) array in double precision, finite; fitted width at predict."""
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

    def _check_queries(self, X, method="predict"):
        """Return the rows to predict at, (q, d) in double precision."""
        return self._check_inputs(X, reset=False, method=method)

    def _warn_of_degenerate(self, A):
        n_repeated, constant = count_repeated(A), constant_features(A)
        if n_repeated:
            warnings.warn(
                f"X has {n_repeated} rows that repeat another row; they are kept, as repeated "
                "measurements.",
                UserWarning,
                stacklevel=3,
            )
        if len(constant):
            warnings.warn(
                f"Features {constant.tolist()} of X are constant; their length-scales stay at "
                "their start values.",
                UserWarning,
                stacklevel=3,
            )

    def _keep_training(self, A, X):
        """Store all rows in the library and precision of X."""
        self.X_train_ = self._like_given(A, X)

    @staticmethod
    def _like_given(A, X):
        """Return A in the library, on the device and in the precision of X."""
        dtype = compute_dtype(X) if is_array(X) or is_row_source(X) else np.float64
        return like(A.astype(dtype, copy=False), X if is_array(X) else np.empty(0))


def gathered(A):
    """Return the rows of all ranks in the order of ranks; A itself outside `distributed`."""
    if mpi.n_ranks() == 1:
        return A
    return like(np.concatenate(mpi.all_gather(to_numpy(A))), A)


def count_repeated(A):
    """Number of rows of A that are equal to an earlier one.

    Equal rows have equal projections, so only neighbors in the order of a projection compare.
    """
    xp = compute_namespace(A)
    weights = xp.asarray(np.sqrt(np.arange(2.0, 2.0 + A.shape[1])))
    projection = (A * weights).sum(axis=1)
    ordered = A[xp.argsort(projection)]
    return int((ordered[1:] == ordered[:-1]).all(axis=1).sum())


def constant_features(A):
    """Numbers of the features that have one value only."""
    return np.flatnonzero(to_numpy(A.max(axis=0) == A.min(axis=0)))


def center_and_scale(y, normalize):
    """Return the mean and the standard deviation to take off y; 0 and 1 if not asked for."""
    if not normalize:
        return 0.0, 1.0
    scale = float(y.std())
    return float(y.mean()), scale if scale > 0 else 1.0


def check_gpu_memory(A, n_bytes, advice):
    """Refuse work that takes more bytes than are free, if A is on a GPU; advice says what to lower.

    The host says so itself.
    """
    if not is_on_gpu(A):
        return
    import cupy

    free = cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes()
    if n_bytes > free:
        raise MemoryError(
            f"This takes about {n_bytes / 1e9:.1f} GB of GPU memory, but {free / 1e9:.1f} GB are "
            f"free; {advice}."
        )
