"""Checks of tables and targets, products of tables with coefficients."""

import numpy as np
from scipy import sparse
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import validate_data

from .. import mpi
from .._arrays import (
    compute_namespace,
    is_array,
    is_on_gpu,
    is_row_source,
    row_chunks,
    to_compute,
    to_cupy,
)

_CHUNK = 1 << 16  # rows read at a time from files


def checked_table(estimator, X, *, reset):
    """Return X as NumPy or CuPy, CSR matrix or row source; values in memory are finite."""
    if sparse.issparse(X):
        return validate_data(
            estimator, X, reset=reset, accept_sparse="csr", dtype="numeric",
            ensure_min_samples=0 if mpi.n_ranks() > 1 else 1,
        )  # fmt: skip
    table = estimator._check_X(X, reset=reset, method="predict")
    if is_row_source(table):
        return table
    check_finite(table, "X")
    return to_compute(table)


def checked_target(y, X):
    """Return y as an array of shape (n,) or (n, n_targets), and whether it was a vector."""
    Y = to_compute(y) if is_array(y) else np.asarray(y)
    if Y.dtype.kind == "O":
        Y = Y.astype(np.float64)
    if Y.dtype.kind == "c":
        raise ValueError("Complex data not supported by SketchedRidge; pass real numbers.")
    if Y.dtype.kind not in "fiub":
        raise ValueError(f"y must be numeric, got dtype {Y.dtype}; convert it first.")
    if Y.ndim not in (1, 2):
        raise ValueError(f"y must be of shape (n,) or (n, n_targets), got {Y.shape}.")
    check_finite(Y, "y")
    if is_on_gpu(X) and not is_on_gpu(Y):
        Y = to_cupy(Y)
    return Y, Y.ndim == 1


def check_finite(A, name):
    """Raise a ValueError that names the array if it holds NaN or infinity."""
    A = to_compute(A)
    if isinstance(A, np.ndarray):
        assert_all_finite(A, input_name=name)
    elif A.dtype.kind == "f" and not compute_namespace(A).isfinite(A).all():
        raise ValueError(f"Input {name} contains NaN or infinity; remove such entries first.")


def product_with(table, coef):
    """Return the product of a checked table with coefficients, NumPy or CuPy."""
    if sparse.issparse(table):
        return table @ coef
    if not is_row_source(table):
        return table @ coef
    parts = []
    for start, chunk in row_chunks(table, _CHUNK, np.dtype(table.dtype)):
        check_finite(chunk, f"X, from row {start} on,")
        parts.append(chunk @ coef)
    return compute_namespace(parts[0]).concatenate(parts)
