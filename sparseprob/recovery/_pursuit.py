"""Greedy pursuit of many right-hand sides: through the Gram matrix, or through residuals.

S. Mohammad-Taheri, S. Brugiapaglia, "The greedy side of the LASSO", 2023, arXiv:2303.00844.
"""

import warnings

import numba
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .. import mpi
from .._arrays import to_numpy
from .._kernels._pursuit_dense_numba import dense_pursuit
from .._kernels._pursuit_numba import gram_pursuit
from .._kernels._pursuit_steps import (
    LOW_RESIDUAL,
    STOP_REASONS,
    Limits,
    Steps,
    new_steps,
)
from .._threads import one_blas_thread, over_chunks
from ._measurements import is_operator
from ._path import OMPPath, PursuitResult
from ._residual_pursuit import residual_pursuit

_BLOCK = 2**26  # bytes of correlations that are formed at a time
_BATCH = 2**27  # bytes of a batch of the residual form, on the host
_LARGEST_GRAM = 2**31  # bytes
_FEW = 4  # right-hand sides that are pursued one by one: a product of a vector is as fast
_SMALL = 2**19  # entries of a matrix for which a second thread does not pay
_CACHE = 2**20  # bytes of a Gram matrix that is in the cache anyway
_FITTED = 256  # right-hand sides whose residuals are formed at a time
_CHUNK = 16  # right-hand sides that a thread takes at a time


def pursue(columns, Y, rule, *, weights=None, max_iter, tol=None, method="auto", with_path=False):
    """Choose columns for every right-hand side until its end.

    Parameters
    ----------
    columns : UnitColumns
    Y : array of shape (M, T)
        Local rows of the right-hand sides.
    rule : Rule
        Loss "squared" or "sqrt", penalty and its weight.
    weights : real array of shape (N,), default=None
        None weighs all columns by one.
    max_iter : int
        The largest number of columns.
    tol : float, default=None
        A pursuit ends when the squared length of its residual is at most this.
    method : {"auto", "gram", "residual"}
        See `choose_method`.
    with_path : bool
        Whether to keep every step.

    Returns
    -------
    steps : Steps
        On the host, the same on all ranks.

    Warns
    -----
    ConvergenceWarning
        If a column that lies in the span of those already chosen came up; it is left out.
    """
    n_steps = min(max_iter, columns.n_rows, columns.shape[1])
    prices = rule.prices(np.ones(1) if weights is None else to_numpy(weights).astype(np.float64))
    if (prices == prices[0]).all():
        prices = prices[:1]
    limits = _limits(columns, rule, tol)
    if method == "auto":
        method = choose_method(columns, Y.shape[1], n_steps)
    form = _gram_form if method == "gram" and columns.xp is np else _residual_form
    steps = form(columns, Y, rule, prices, limits, n_steps, with_path)
    if (steps.dropped >= 0).any():
        warn_dependent(int(steps.dropped[steps.dropped >= 0].min()) + 1)
    return steps


def choose_method(columns, n_targets, n_steps):
    """Return the form that needs fewer multiplications; a Gram matrix only where there is room.

    With P entries in the matrix (those stored, of a sparse one), T right-hand sides and S steps,
    residuals need T S P multiplications; the Gram matrix N P / 2 (N^2 times the mean number of
    entries in a row of a sparse matrix), then T (P + N S^2 / 2). Operators, GPUs and Gram matrices
    of more than 2 GiB have the residual form.

    Parameters
    ----------
    columns : UnitColumns
    n_targets, n_steps : int

    Returns
    -------
    method : {"gram", "residual"}
    """
    n = columns.shape[1]
    too_large = n * n * columns.dtype.itemsize > _LARGEST_GRAM
    if is_operator(columns.A) or columns.xp is not np or too_large:
        return "residual"
    entries = columns.A.nnz if columns.is_sparse else columns.n_rows * n
    through_gram = n * entries / 2 + n_targets * (entries + n * n_steps**2 / 2)
    return "gram" if through_gram < n_targets * n_steps * entries else "residual"


def coefficients(columns, steps):
    """Return all coefficients of the unit columns, of shape (N, T), in the library of the matrix.

    Parameters
    ----------
    columns : UnitColumns
    steps : Steps

    Returns
    -------
    Z : array of shape (N, T)
    """
    xp, (T, _) = columns.xp, steps.support.shape
    target, step = np.nonzero(steps.support >= 0)
    Z = xp.zeros((T, columns.shape[1]), dtype=columns.dtype)
    values = steps.coef[target, step].astype(columns.dtype)
    Z[xp.asarray(target), xp.asarray(steps.support[target, step])] = xp.asarray(values)
    return Z.T


def paths_of(columns, steps, rule, weight):
    """Return the path of each right-hand side, of unit columns; steps have been kept.

    Parameters
    ----------
    columns : UnitColumns
    steps : Steps
    rule : Rule
    weight : float or None
        The weight of all columns; None if weights differ.

    Returns
    -------
    paths : list of OMPPath
    """
    return [
        OMPPath(
            steps.support[t, :k].copy(),
            steps.coefs[t, : k * (k + 1) // 2].astype(columns.dtype),
            np.sqrt(np.maximum(steps.squares[t, : k + 1], 0)),
            steps.largest[t, : k + 1].copy(),
            lengths=np.ones(k),
            n_features=columns.shape[1],
            rule=rule,
            weight=weight,
        )
        for t, k in enumerate(steps.count)
    ]


def results(columns, steps, rule, weight):
    """Return the outcome of each right-hand side by itself; steps have been kept.

    Parameters
    ----------
    columns, steps, rule, weight : see `paths_of`

    Returns
    -------
    results : list of PursuitResult
    """
    return [
        PursuitResult(
            path.support,
            steps.coef[t, : len(path)].astype(columns.dtype),
            float(np.sqrt(steps.square[t])),
            len(path),
            STOP_REASONS[steps.stop[t]],
            path,
        )
        for t, path in enumerate(paths_of(columns, steps, rule, weight))
    ]


def warn_dependent(step):
    """Warn of a column in the span of those before it.

    Parameters
    ----------
    step : int
        From 1 on.
    """
    warnings.warn(
        f"The column that came up at step {step} depends linearly on those chosen before; it is "
        "left out, and the pursuit goes on with the others.",
        ConvergenceWarning,
        stacklevel=4,
    )


def _limits(columns, rule, tol):
    eps = float(np.finfo(columns.real_dtype).eps)
    dependent, low = (1e-12, 1e-10) if eps < 1e-10 else (1e-5, 1e-5)
    if tol is None and rule.loss == "squared":
        low *= 1e-3  # the length of the residual decides nothing
    return Limits(rule.code, -1.0 if tol is None else float(tol), dependent, 32 * eps, low)


def _gram_form(columns, Y, rule, prices, limits, n_steps, with_path):
    """Pursue through the Gram matrix; ranks share out the right-hand sides."""
    G = np.ascontiguousarray(columns.gram())
    narrow_G = _in_single_precision(G, n_steps)
    squares, T = columns.squared_norms(Y), Y.shape[1]
    mine = mpi.row_slice(T)
    steps = new_steps(mine.stop - mine.start, n_steps, columns.dtype, with_path)
    n_block = max(_CHUNK, _BLOCK // (columns.shape[1] * columns.dtype.itemsize))
    for start in range(0, T, n_block):
        B = columns.correlate(np.ascontiguousarray(Y[:, start : start + n_block])).T.conj()
        first, stop = max(start, mine.start), min(start + n_block, mine.stop)
        if first >= stop:
            continue
        B = np.ascontiguousarray(B[first - start : stop - start])
        part = _rows(steps, slice(first - mine.start, stop - mine.start))
        _pursue_block(G, narrow_G, B, squares[first:stop], prices, limits, part)
    steps = Steps(*map(np.concatenate, zip(*mpi.all_gather(steps), strict=True)))
    _without_gram(columns, Y, rule, prices, limits, steps)
    return steps


def _in_single_precision(G, n_steps):
    """Return the matrix to preselect columns with; an empty one where it would not pay."""
    single = np.result_type(np.float32, np.complex64 if np.iscomplexobj(G) else 0)
    pays = G.nbytes > _CACHE and n_steps > 8
    return G.astype(single, copy=False) if pays else np.empty((0, 0), dtype=single)


def _pursue_block(G, narrow_G, B, squares, prices, limits, steps):
    def work(start, chunk, _):
        rows = slice(start, start + len(chunk))
        gram_pursuit(G, narrow_G, chunk, squares[rows], prices, limits, _rows(steps, rows))

    with one_blas_thread():
        over_chunks(work, B, _CHUNK, B.dtype)


def _without_gram(columns, Y, rule, prices, limits, steps):
    """Let residuals finish what differences of squares are too coarse for."""
    low = np.flatnonzero(steps.stop == LOW_RESIDUAL)
    n_steps, with_path = steps.support.shape[1], steps.largest.shape[1] > 0
    if len(low):
        taken = None if with_path else (steps.support[low], steps.count[low])
        again = _residual_form(columns, Y[:, low], rule, prices, limits, n_steps, with_path, taken)
        again.dropped[:] = np.maximum(again.dropped, steps.dropped[low])
        for whole, part in zip(steps, again, strict=True):
            whole[low] = part
    coarse = 1e-8 if np.finfo(columns.real_dtype).eps < 1e-10 else 1e-2
    these = np.flatnonzero(steps.square < coarse * columns.squared_norms(Y))
    for start in range(0, len(these), _FITTED):  # there, differences lose half the digits
        part = these[start : start + _FITTED]
        fit = columns.combine(columns.xp.asarray(coefficients(columns, _rows(steps, part))))
        steps.square[part] = columns.squared_norms(Y[:, part] - fit)


def _residual_form(columns, Y, rule, prices, limits, n_steps, with_path, start=None):
    """Pursue through residuals, as many right-hand sides at a time as there is room for."""
    if start is None and Y.shape[1] <= _FEW and _is_plain(columns):
        return _one_by_one(columns, Y, prices, limits, n_steps, with_path)
    M, N = columns.shape
    numbers = 3 * N + n_steps * (M + n_steps) + 4 * M
    n_batch = max(1, _room(columns.xp) // (numbers * columns.dtype.itemsize))
    if mpi.n_ranks() > 1:
        n_batch = min(mpi.all_gather(n_batch))  # ranks may hold different numbers of rows
    parts = []
    for first in range(0, Y.shape[1], n_batch):
        these = slice(first, first + n_batch)
        given = None if start is None else tuple(a[these] for a in start)
        parts.append(
            residual_pursuit(
                columns,
                Y[:, these],
                rule,
                prices,
                limits,
                n_steps,
                with_path=with_path,
                start=given,
            )  # fmt: skip
        )
    return Steps(*map(np.concatenate, zip(*parts, strict=True)))


def _is_plain(columns):
    """Whether the matrix is one block of memory of the right type, on this process alone."""
    A = columns.A
    plain = isinstance(A, np.ndarray) and A.dtype == columns.dtype and mpi.n_ranks() == 1
    return plain and (A.flags.c_contiguous or A.flags.f_contiguous)


def _one_by_one(columns, Y, prices, limits, n_steps, with_path):
    steps = new_steps(Y.shape[1], n_steps, columns.dtype, with_path)
    A, by_columns = columns.A, not columns.A.flags.c_contiguous
    inverse = np.zeros_like(columns.lengths)
    np.divide(1, columns.lengths, out=inverse, where=columns.lengths > 0)
    for t in range(Y.shape[1]):
        y = np.ascontiguousarray(Y[:, t])
        dense_pursuit(
            A.T if by_columns else A, by_columns, inverse, y, prices, limits, steps, t,
            numba.get_num_threads() if A.size > _SMALL else 1,
        )  # fmt: skip
    return steps


def _room(xp):
    """Return the bytes that a batch may take; on a GPU a quarter of what is free."""
    if xp is np:
        return _BATCH
    free = xp.cuda.Device().mem_info[0] + xp.get_default_memory_pool().free_bytes()
    return free // 4


def _rows(steps, rows):
    return Steps(*(array[rows] for array in steps))
