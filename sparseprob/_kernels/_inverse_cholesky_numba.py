"""Columns of sparse inverse Cholesky factors and their gradients (Schaefer et al., 2021).

Column j of the factor U on its pattern S_j is L^-T e_last, where L is the Cholesky factor of the
covariance of the points of S_j, j last.
"""

import numpy as np
from numba import njit, prange

from ._column_lanes import (
    by_size,
    dot,
    factor_group,
    fetch_next,
    gather_inputs,
    gather_members,
    group,
    solve_lower,
    solve_upper,
    workspace,
)
from ._covariance_lanes import derivative_columns
from ._lanes import LANES, load, store, sub

_CHUNK = 512  # columns of a piece of work; fixed, so that sums do not depend on the threads
_options = {"cache": True, "fastmath": {"contract"}, "error_model": "numpy"}


@njit(parallel=True, **_options)
def factor_columns(
    kinds, variances, shapes, scaled, nugget, indptr, indices, first, stop, data, failed
):
    """Write the columns first, ..., stop - 1 of the factor into data.

    Parameters
    ----------
    kinds, variances, shapes, scaled
        The covariance, see `Terms`.
    nugget : float
        Added to the diagonal of every covariance.
    indptr : int64 array of shape (n + 1,)
    indices : int32 array of shape (nnz,)
        Patterns of the columns, ascending, the column itself last.
    first, stop : int
    data : float64 array of shape (nnz,)
    failed : int8 array of shape (n,)
        How often the jitter of a column had to grow tenfold; -1 where even the largest failed.
    """
    for c in prange((stop - first + _CHUNK - 1) // _CHUNK):
        start = first + c * _CHUNK
        nuggets = nugget, nugget, indptr.shape[0]
        _factor_chunk(
            kinds, variances, shapes, scaled, nuggets, indptr, indices,
            start, min(start + _CHUNK, stop), data, failed,
        )  # fmt: skip


@njit(parallel=True, **_options)
def posterior_columns(
    kinds, variances, shapes, scaled, noise, nugget, n_noisy, indptr, indices, first, stop, data,
    failed,
):  # fmt: skip
    """Write columns of the factor of points of which the first n_noisy have noise.

    Parameters are those of `factor_columns`; other points have the nugget on their diagonal.
    """
    for c in prange((stop - first + _CHUNK - 1) // _CHUNK):
        start = first + c * _CHUNK
        nuggets = noise, nugget, n_noisy
        _factor_chunk(
            kinds, variances, shapes, scaled, nuggets, indptr, indices,
            start, min(start + _CHUNK, stop), data, failed,
        )  # fmt: skip


@njit(nogil=True, **_options)
def _factor_chunk(
    kinds, variances, shapes, scaled, nuggets, indptr, indices, first, stop, data, failed
):
    columns = by_size(indptr, first, stop)
    starts, pads = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    tried = np.zeros(LANES, np.int64)
    largest = (indptr[first + 1 : stop + 1] - indptr[first:stop]).max()
    work = workspace(scaled.shape[0], scaled.shape[2], largest, 2)
    u = np.empty((largest + 1, LANES))
    for g in range(0, len(columns), LANES):
        size, n_columns = group(columns, g, indptr, starts, pads)
        fetch_next(scaled, columns, g, indptr, indices)
        gather_members(indices, starts, pads, size, work[5])
        gather_inputs(scaled, work[5], size, work[0])
        _gather_nuggets(nuggets, work[5], size, work[4])
        factor_group(kinds, variances, shapes, pads, size, size, 0, work, tried)
        u[:size] = 0.0
        u[size - 1] = 1.0
        solve_upper(work[3], size, u)
        for lane in range(n_columns):
            failed[columns[g + lane]] = tried[lane]
            for a in range(pads[lane], size):
                data[starts[lane] + a - pads[lane]] = u[a, lane]


@njit(**_options)
def _gather_nuggets(nuggets, members, size, out):
    noise, nugget, n_noisy = nuggets
    for a in range(size):
        for lane in range(LANES):
            out[a, lane] = noise if members[a, lane] < n_noisy else nugget


@njit(parallel=True, **_options)
def column_gradients(
    kinds, variances, shapes, scaled, nugget, indptr, indices, first, stop, dU, n_lengthscales
):
    """Gradient by the covariance's parameters of a function of the columns of the factor.

    Parameters
    ----------
    kinds, variances, shapes, scaled, nugget, indptr, indices, first, stop
        See `factor_columns`.
    dU : float64 array of shape (nnz,)
        Gradient of the function by the entries of the factor.
    n_lengthscales : int
        1, or the number of features.

    Returns
    -------
    gradient : float64 array of shape (T * (n_lengthscales + 2),)
        By log variance, log lengthscales and log shape of each term.
    """
    n_chunks = (stop - first + _CHUNK - 1) // _CHUNK
    sums = np.zeros((n_chunks, kinds.shape[0] * (n_lengthscales + 2)))
    for c in prange(n_chunks):
        start = first + c * _CHUNK
        _gradient_chunk(
            kinds, variances, shapes, scaled, nugget, indptr, indices,
            start, min(start + _CHUNK, stop), dU, n_lengthscales, sums[c],
        )  # fmt: skip
    return sums.sum(axis=0)


@njit(nogil=True, **_options)
def _gradient_chunk(
    kinds, variances, shapes, scaled, nugget, indptr, indices, first, stop, dU, n_lengthscales, out
):
    columns = by_size(indptr, first, stop)
    starts, pads = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    tried, n_parameters = np.zeros(LANES, np.int64), len(out)
    largest = (indptr[first + 1 : stop + 1] - indptr[first:stop]).max()
    work = workspace(scaled.shape[0], scaled.shape[2], largest, 3)
    work[4][:] = nugget
    u, r = np.empty((largest + 1, LANES)), np.empty((largest + 1, LANES))
    by_parameter = np.zeros((n_parameters, largest + 1, LANES))
    sums, total = np.zeros((n_parameters, LANES)), np.empty((1, LANES))
    for g in range(0, len(columns), LANES):
        size, n_columns = group(columns, g, indptr, starts, pads)
        fetch_next(scaled, columns, g, indptr, indices)
        gather_members(indices, starts, pads, size, work[5])
        gather_inputs(scaled, work[5], size, work[0])
        factor_group(kinds, variances, shapes, pads, size, size, n_lengthscales, work, tried)
        u[:size] = 0.0
        u[size - 1] = 1.0
        solve_upper(work[3], size, u)
        for lane in range(LANES):
            for a in range(size):
                own = a >= pads[lane] and lane < n_columns
                r[a, lane] = dU[starts[lane] + a - pads[lane]] if own else 0.0
        _dual(work[3], size, u, r, total)
        derivative_columns(kinds, n_lengthscales, size, work, u, by_parameter)
        for k in range(n_parameters):
            store(sums, k, sub(load(sums, k), dot(r, by_parameter[k], size)))
    for k in range(n_parameters):
        out[k] = sums[k].sum()


@njit(**_options)
def _dual(K, size, u, r, total):
    """Replace gradients g by K^-1 (g - (g.u) e_last / (2 u_last)).

    Then the derivative of the function is -r^T (dK) u, as u = z / u_last with K z = e_last.
    """
    store(total, 0, dot(r, u, size))
    for lane in range(LANES):
        r[size - 1, lane] -= 0.5 * total[0, lane] / u[size - 1, lane]
    solve_lower(K, size, r)
    solve_upper(K, size, r)
