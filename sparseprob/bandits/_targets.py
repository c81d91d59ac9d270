"""Targets and weights beside rows, checked and where the rows are."""

import numpy as np
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import column_or_1d

from .._arrays import compute_namespace, is_array, to_numpy


def checked_target(A, y):
    """Return y (n,) beside rows A, real and finite; zeros for None."""
    if y is None:
        return compute_namespace(A).zeros(len(A))
    y = to_numpy(y) if is_array(y) else np.asarray(y)
    y = column_or_1d(y, warn=True)
    y = y.astype(np.float64) if y.dtype.kind not in "fiub" else y
    assert_all_finite(y, input_name="y")
    if len(y) != len(A):
        raise ValueError(f"X has {len(A)} rows but y has {len(y)}; give one target for each row.")
    return compute_namespace(A).asarray(y, dtype=np.float64)


def checked_weights(A, sample_weight):
    """Return the weights (n,) of rows A, finite and not negative; ones for None."""
    xp = compute_namespace(A)
    if sample_weight is None:
        return xp.ones(len(A))
    weights = to_numpy(sample_weight) if is_array(sample_weight) else np.asarray(sample_weight)
    weights = weights.astype(np.float64)
    if weights.shape != (len(A),):
        raise ValueError(
            f"sample_weight.shape == {weights.shape}, expected {(len(A),)}: one weight a row."
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("sample_weight must be finite and not negative.")
    return xp.asarray(weights)
