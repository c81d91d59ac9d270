"""Response Vecchia likelihood, its gradient and Fisher information, and local predictions.

Column by column: the density of a noisy value given its neighbors' (Vecchia, 1988; Guinness, 2021),
from one Cholesky factor of their covariance. With w = L^-1 y and a_k = L^-1 (dK / dtheta_k) L^-T
e_last the gradient is a quadratic form in w and the a_k, the information one in the a_k.
"""

import numpy as np
from numba import njit, prange

from ._column_lanes import (
    accumulate,
    by_size,
    dot,
    factor_group,
    fetch_ahead,
    fetch_next,
    gather_inputs,
    gather_members,
    gather_values,
    group,
    solve_lower,
    solve_lower_four,
    solve_upper,
    workspace,
    zero_pads,
)
from ._covariance_lanes import derivative_columns
from ._lanes import LANES, load, mul, same, store, sub

_CHUNK = 512  # columns of a piece of work; fixed, so that sums do not depend on the threads
_options = {"cache": True, "fastmath": {"contract"}, "error_model": "numpy"}


@njit(parallel=True, **_options)
def response_columns(
    kinds, variances, shapes, scaled, noise, indptr, indices, residual, first, stop,
    n_lengthscales, failed,
):  # fmt: skip
    """Sum over columns what Fisher scoring needs of the Vecchia likelihood of noisy values.

    Parameters
    ----------
    kinds, variances, shapes, scaled
        The covariance, see `Terms`.
    noise : float
        Variance of the noise.
    indptr : int64 array of shape (n + 1,)
    indices : int32 array of shape (nnz,)
        Patterns of the columns, ascending, the column itself last.
    residual : float64 array of shape (n,)
        Values less their means.
    first, stop : int
    n_lengthscales : int
        1 or the number of features; 0 leaves gradient and information out.
    failed : int8 array of shape (n,)
        How often the jitter of a column had to grow tenfold; -1 where even the largest failed.

    Returns
    -------
    log_diagonal, quadratic : float
        Sums of log R_jj and of (R^T y)_j^2, for the factor R.
    gradient : float64 array of shape (P,)
        Of ``log_diagonal - quadratic / 2``, by log variance, log lengthscales and log shape of each
        term, and by the log of the noise.
    information : float64 array of shape (P, P)
        Its Fisher information.
    """
    n_chunks = (stop - first + _CHUNK - 1) // _CHUNK
    P = kinds.shape[0] * (n_lengthscales + 2) + 1 if n_lengthscales > 0 else 0
    values, gradients = np.zeros((n_chunks, 2)), np.zeros((n_chunks, P))
    informations = np.zeros((n_chunks, P, P))
    for c in prange(n_chunks):
        start = first + c * _CHUNK
        _response_chunk(
            kinds, variances, shapes, scaled, noise, indptr, indices, residual,
            start, min(start + _CHUNK, stop), n_lengthscales, failed,
            values[c], gradients[c], informations[c],
        )  # fmt: skip
    information = informations.sum(axis=0)
    for k in range(P):
        for i in range(k):
            information[i, k] = information[k, i]
    return values[:, 0].sum(), values[:, 1].sum(), gradients.sum(axis=0), information


@njit(nogil=True, **_options)
def _response_chunk(
    kinds, variances, shapes, scaled, noise, indptr, indices, residual, first, stop,
    n_lengthscales, failed, values, gradient, information,
):  # fmt: skip
    columns, P = by_size(indptr, first, stop), len(gradient)
    starts, pads = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    tried, active = np.zeros(LANES, np.int64), _active(kinds, n_lengthscales, P)
    largest = (indptr[first + 1 : stop + 1] - indptr[first:stop]).max()
    work = workspace(scaled.shape[0], scaled.shape[2], largest, 3 if P > 0 else 2)
    work[4][:] = noise
    u, ends = np.empty((largest + 1, LANES)), np.empty((2, LANES))
    rows = np.zeros((P + 1, largest + 1, LANES))  # derivatives, and at last the values
    sums = np.zeros((P, LANES)), np.zeros((P * P, LANES))
    for g in range(0, len(columns), LANES):
        size, n_columns = group(columns, g, indptr, starts, pads)
        fetch_next(scaled, columns, g, indptr, indices)
        gather_members(indices, starts, pads, size, work[5])
        gather_inputs(scaled, work[5], size, work[0])
        factor_group(kinds, variances, shapes, pads, size, size, n_lengthscales, work, tried)
        gather_values(residual, work[5], pads, size, rows[P])
        if P > 0:
            u[:size] = 0.0
            u[size - 1] = 1.0
            solve_upper(work[3], size, u)
            _derivatives(kinds, noise, n_lengthscales, pads, size, n_columns, work, u, rows)
            _solve_rows(work[3], size, active, rows)
            _add_scores(size, active, rows, sums)
        else:
            solve_lower(work[3], size, rows[P])
        _ends(work[3], size, rows[P], ends)
        for lane in range(n_columns):
            failed[columns[g + lane]] = tried[lane]
            values[0] += np.log(ends[0, lane])
            values[1] += ends[1, lane] ** 2
    for k in range(P):
        gradient[k] = sums[0][k].sum()
        for i in range(k + 1):
            information[k, i] = sums[1][k * P + i].sum()


@njit(**_options)
def _active(kinds, n_lengthscales, P):
    """Rows to solve for: the values, the noise, and all parameters but shapes that do not exist."""
    active = np.empty(P + 1, np.int64)
    n_active = 0
    for k in range(P + 1):
        t = k // (n_lengthscales + 2)
        is_shape = k < P - 1 and k % (n_lengthscales + 2) == n_lengthscales + 1
        if not is_shape or kinds[t] == 4:
            active[n_active] = k
            n_active += 1
    return active[:n_active]


@njit(**_options)
def _derivatives(kinds, noise, n_lengthscales, pads, size, n_columns, work, u, rows):
    """Write (dK / dtheta_k) u for every parameter; zero for lanes that repeat a column."""
    P = len(rows) - 1
    derivative_columns(kinds, n_lengthscales, size, work, u, rows)
    for a in range(size):
        store(rows[P - 1], a, mul(same(noise), load(u, a)))
    if pads.max() > 0:
        for k in range(P):
            zero_pads(pads, rows[k])
    for lane in range(n_columns, LANES):
        rows[:, :size, lane] = 0.0


@njit(**_options)
def _solve_rows(K, size, active, rows):
    first = 0
    while first + 4 <= len(active):
        k0, k1, k2, k3 = active[first : first + 4]
        solve_lower_four(K, size, rows[k0], rows[k1], rows[k2], rows[k3])
        first += 4
    while first < len(active):
        solve_lower(K, size, rows[active[first]])
        first += 1


@njit(**_options)
def _add_scores(size, active, rows, sums):
    """Add to gradient and information; rows are a_k, the last one is w."""
    last, P = size - 1, len(rows) - 1
    gradient, information = sums
    w = rows[P]
    half = same(0.5)
    for p in range(len(active) - 1):
        k = active[p]
        a = rows[k]
        e, end = load(w, last), load(a, last)
        # e sum_i<last w_i a_i + (e^2 - 1) a_last / 2 = e w.a - (e^2 + 1) a_last / 2
        score = mul(e, sub(dot(w, a, size), mul(half, mul(e, end))))
        accumulate(gradient, k, sub(score, mul(half, end)))
        for q in range(p + 1):
            i = active[q]
            b = rows[i]
            inner = sub(dot(a, b, size), mul(half, mul(end, load(b, last))))
            accumulate(information, k * P + i, inner)


@njit(**_options)
def _ends(K, size, w, ends):
    """Write the diagonal of the factor's columns and their products with the values."""
    store(ends, 0, load(K, (size - 1) * size // 2 + size - 1))
    store(ends, 1, load(w, size - 1))


@njit(parallel=True, **_options)
def predict_columns(
    kinds, variances, shapes, scaled, noise, scaled_test, neighbors, residual, means, deviations,
    failed,
):  # fmt: skip
    """Predict values without noise from their neighbors' noisy ones.

    Parameters
    ----------
    kinds, variances, shapes, scaled, noise, residual
        See `response_columns`.
    scaled_test : float64 array of shape (T, q, d)
        Inputs over the lengthscales of each term.
    neighbors : int32 array of shape (q, m)
    means, deviations : float64 arrays of shape (q,)
        Written.
    failed : int8 array of shape (q,)
        See `response_columns`.
    """
    q = neighbors.shape[0]
    for c in prange((q + _CHUNK - 1) // _CHUNK):
        _predict_chunk(
            kinds, variances, shapes, scaled, noise, scaled_test, neighbors, residual,
            c * _CHUNK, min((c + 1) * _CHUNK, q), means, deviations, failed,
        )  # fmt: skip


@njit(nogil=True, **_options)
def _predict_chunk(
    kinds, variances, shapes, scaled, noise, scaled_test, neighbors, residual, first, stop,
    means, deviations, failed,
):  # fmt: skip
    m = neighbors.shape[1]
    size, pads, tried = m + 1, np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    starts, flat = np.empty(LANES, np.int64), neighbors.reshape(-1)
    work = workspace(scaled.shape[0], scaled.shape[2], size, 2)
    work[4][:] = noise
    work[4][m] = 0.0
    w, ends = np.empty((size, LANES)), np.empty((2, LANES))
    for g in range(first, stop, LANES):
        for lane in range(LANES):
            starts[lane] = min(g + lane, stop - 1) * m
        fetch_ahead(scaled, flat, min(g + LANES, stop) * m, min(g + 2 * LANES, stop) * m)
        gather_members(flat, starts, pads, m, work[5])
        gather_inputs(scaled, work[5], m, work[0])
        gather_values(residual, work[5], pads, m, w)
        _gather_tests(scaled_test, g, stop, m, work[0])
        factor_group(kinds, variances, shapes, pads, size, m, 0, work, tried)
        solve_lower(work[3], m, w)
        row = work[3][m * (m + 1) // 2 :]
        store(ends, 0, dot(row, w, m))
        store(ends, 1, dot(row, row, m))
        for lane in range(min(LANES, stop - g)):
            means[g + lane] = ends[0, lane]
            deviations[g + lane] = np.sqrt(max(variances.sum() - ends[1, lane], 0.0))
            failed[g + lane] = tried[lane]


@njit(**_options)
def _gather_tests(scaled_test, first, stop, m, inputs):
    """Copy the inputs of eight points behind those of their m neighbors."""
    for lane in range(LANES):
        i = min(first + lane, stop - 1)
        for t in range(scaled_test.shape[0]):
            for k in range(scaled_test.shape[2]):
                inputs[t, k, m, lane] = scaled_test[t, i, k]
