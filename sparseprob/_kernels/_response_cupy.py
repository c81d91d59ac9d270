"""Response Vecchia likelihood and local predictions on a GPU; see the Numba twin."""

import cupy
import numpy as np

from ._columns_cupy import largest_column, launch_columns
from ._gp_cuda import active_parameters


def response_columns(
    kinds, variances, shapes, scaled, noise, indptr, indices, residual, first, stop,
    n_lengthscales, failed,
):  # fmt: skip
    """Sums of log diagonal and squares, gradient and information, on the host; see the twin."""
    active = []
    n_parameters = 0
    if n_lengthscales:
        n_parameters = len(kinds) * (n_lengthscales + 2) + 1
        active = [*active_parameters(cupy.asnumpy(kinds), n_lengthscales), n_parameters - 1]
    gradient, information = np.zeros(n_parameters), np.zeros((n_parameters, n_parameters))
    if stop <= first:
        return 0.0, 0.0, gradient, information
    A = len(active)
    n_pairs = (A + 1) * (A + 2) // 2
    arguments = (
        float(noise), indptr, indices, residual, np.int64(first), np.int64(stop), failed,
    )  # fmt: skip
    sums = launch_columns(
        "response_columns", (kinds, variances, shapes, scaled),
        (stop - first, largest_column(indptr, first, stop), A + 2 if A else 1), arguments,
        n_lengthscales=n_lengthscales, n_sums=n_pairs + 1,
    )  # fmt: skip
    sums = cupy.asnumpy(sums)
    pairs = np.zeros((A + 1, A + 1))
    pairs[np.tril_indices(A + 1)] = sums[:-1]
    gradient[active] = pairs[A, :A]
    inner = pairs[:A, :A]
    information[np.ix_(active, active)] = inner + inner.T - np.diag(inner.diagonal())
    return float(sums[-1]), float(pairs[A, A]), gradient, information


def predict_columns(
    kinds, variances, shapes, scaled, noise, scaled_test, neighbors, residual, means, deviations,
    failed,
):  # fmt: skip
    """Predict values without noise from their neighbors' noisy ones; see the twin."""
    q, m = neighbors.shape
    if not q:
        return
    arguments = (
        float(noise), scaled_test, np.int64(q), neighbors, np.int32(m), residual, means,
        deviations, failed,
    )  # fmt: skip
    terms = (kinds, variances, shapes, scaled)
    launch_columns("predict_columns", terms, (q, m + 1, 1), arguments)
