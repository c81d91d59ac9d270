"""Columns of sparse inverse Cholesky factors and their gradients on a GPU; see the Numba twin."""

import cupy
import numpy as np

from ._columns_cupy import largest_column, launch_columns
from ._gp_cuda import active_parameters


def factor_columns(
    kinds, variances, shapes, scaled, nugget, indptr, indices, first, stop, data, failed
):
    """Write the columns first, ..., stop - 1 of the factor into data; see the twin."""
    posterior_columns(
        kinds, variances, shapes, scaled, nugget, nugget, scaled.shape[1],
        indptr, indices, first, stop, data, failed,
    )  # fmt: skip


def posterior_columns(
    kinds, variances, shapes, scaled, noise, nugget, n_noisy, indptr, indices, first, stop, data,
    failed,
):  # fmt: skip
    """Write columns of the factor of points of which the first n_noisy have noise."""
    if stop <= first:
        return
    sizes = (stop - first, largest_column(indptr, first, stop), 1)
    arguments = (
        float(noise), float(nugget), np.int64(n_noisy), indptr, indices, np.int64(first),
        np.int64(stop), data, failed,
    )  # fmt: skip
    launch_columns("posterior_columns", (kinds, variances, shapes, scaled), sizes, arguments)


def column_gradients(
    kinds, variances, shapes, scaled, nugget, indptr, indices, first, stop, dU, n_lengthscales
):
    """Gradient (T (n_lengthscales + 2),), on the host, by the covariance's parameters."""
    gradient = np.zeros(len(kinds) * (n_lengthscales + 2))
    if stop <= first:
        return gradient
    active = active_parameters(cupy.asnumpy(kinds), n_lengthscales)
    arguments = (float(nugget), indptr, indices, np.int64(first), np.int64(stop), dU)
    sums = launch_columns(
        "column_gradients", (kinds, variances, shapes, scaled),
        (stop - first, largest_column(indptr, first, stop), 2), arguments,
        n_lengthscales=n_lengthscales, n_sums=len(active),
    )  # fmt: skip
    gradient[active] = cupy.asnumpy(sums)
    return gradient
