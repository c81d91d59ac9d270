"""Least squares on supports, one per right-hand side, for all of them at once.

Columns that are at hand are gathered and fitted through their small Gram matrices, with a step of
iterative refinement (Å. Björck, Numerical Methods for Least Squares Problems, 1996, section 6.6.5:
corrected seminormal equations); operators are solved by conjugate gradients (CGLS, section 7.4).
Only the small matrices and the correlations are sums over rows, so the rows may be distributed.
"""

from typing import Any, NamedTuple

import numpy as np

from .._arrays import compute_namespace
from .._threads import n_threads_allowed, one_blas_thread, thread_pool
from ..mpi import n_ranks, row_sum

_BLOCK, _BLOCK_ON_GPU = 2**20, 2**27  # entries of the columns that are gathered at once
_FEW = 64  # a product with one column in so many, or fewer, is done by gathering


class Fit(NamedTuple):
    """Least squares on supports: values (T, k), local residuals (M, T), dependent columns (T,)."""

    values: Any
    residual: Any
    dependent: Any


def least_squares(columns, Y, support, chosen=None):
    """Fit every right-hand side by its own columns; of many minimizers the one of least norm.

    Parameters
    ----------
    columns : UnitColumns
    Y : array of shape (M, T)
    support : int array of shape (T, k)
        Columns of each fit.
    chosen : bool array of shape (T, k), optional
        Places of `support` that count; the others get the value zero, as do columns of zeros.

    Returns
    -------
    Fit
    """
    xp = columns.xp
    chosen = xp.ones(support.shape, dtype=bool) if chosen is None else chosen
    chosen = chosen & (columns.norms > 0)[support]
    if not (columns.is_dense or columns.is_sparse):
        return _conjugate_gradients(columns, Y, support, chosen)
    values, dependent = xp.empty(support.shape, columns.dtype), xp.empty(len(support), bool)
    fit = Fit(values, xp.empty_like(Y), dependent)

    def work(part):
        piece = _by_grams(columns, Y[:, part], support[part], chosen[part])
        fit.values[part], fit.residual[:, part], fit.dependent[part] = piece

    _for_each(work, columns, support)
    return fit


def measure(columns, support, values):
    """Return the local rows of A x, of shape (M, T), for coefficients (T, k) on supports."""
    if not is_gathered(columns, support):
        return columns.combine(scatter(columns.shape[1], support, values))
    product = np.empty((len(support), columns.shape[0]), dtype=columns.dtype)

    def work(part):
        product[part] = (_taken(columns, support[part]) @ values[part, :, None])[:, :, 0]

    _for_each(work, columns, support)
    return product.T


def is_gathered(columns, support):
    """Whether `measure` gathers columns rather than multiplying by all of A; NumPy only."""
    few = _FEW * support.shape[1] <= columns.shape[1]
    return columns.is_dense and few and columns.xp is np


def scatter(n_columns, support, values):
    """Return coefficients (T, k) on supports as a dense array of shape (n_columns, T)."""
    xp = compute_namespace(values)
    Z = xp.zeros((n_columns, len(support)), dtype=values.dtype)
    Z[support, xp.arange(len(support))[:, None]] = values
    return Z


def gather(C, support):
    """Return the entries of C (N, T) on the supports, of shape (T, k)."""
    return C[support, compute_namespace(C).arange(len(support))[:, None]]


def _for_each(work, columns, support):
    """Call work(slice) for some right-hand sides at a time, in threads unless there are ranks.

    BLAS is kept to one thread: on matrices this small its own threads only wait for each other.
    """
    T, k = support.shape
    block = _BLOCK if columns.xp is np else _BLOCK_ON_GPU
    at_once = max(1, block // max(1, k * columns.n_rows))  # the same on every rank
    parts = [slice(start, start + at_once) for start in range(0, T, at_once)]
    if columns.xp is not np:
        for part in parts:
            work(part)
        return
    with one_blas_thread():
        n_threads = min(n_threads_allowed(), len(parts))
        in_turn = n_threads == 1 or n_ranks() > 1
        each = map if in_turn else thread_pool(n_threads).map
        list(each(work, parts))


def _taken(columns, support):
    """Return the columns of each support, of shape (T, M, k)."""
    taken = columns.take(support.ravel())
    return taken.reshape(len(taken), *support.shape).transpose(1, 0, 2)


def _by_grams(columns, Y, support, chosen):
    xp, taken = columns.xp, _taken(columns, support)
    if not bool(chosen.all()):
        taken = taken * chosen[:, None, :]
    adjoint, y = taken.conj().transpose(0, 2, 1), Y.T[:, :, None]
    grams, right = row_sum(adjoint @ taken, adjoint @ y)
    places = xp.arange(support.shape[1])
    grams[:, places, places] += ~chosen
    inverses, dependent = _inverses(xp, grams.astype(columns.dtype, copy=False))
    values = inverses @ right.astype(columns.dtype, copy=False)
    residual = y - taken @ values
    correction = row_sum(adjoint @ residual).astype(columns.dtype, copy=False)
    values = values + inverses @ correction
    return values[:, :, 0], (y - taken @ values)[:, :, 0].T, dependent


def _inverses(xp, grams):
    """Return (pseudo-)inverses of Gram matrices, and which of them had dependent columns.

    The diagonal of the inverse is one over the squared distance of each column from the span of
    the others; below `_smallest` the column counts as dependent.
    """
    inverses = _inverses_or_nan(xp, grams)
    places, smallest = xp.arange(grams.shape[1]), _smallest(grams.dtype)
    diagonal = inverses[:, places, places].real
    dependent = ~((diagonal > 0) & (diagonal < 1 / smallest)).all(axis=1)
    if bool(dependent.any()):
        inverses[dependent] = _pseudo_inverses(xp, grams[dependent], smallest)
    return inverses, dependent


def _inverses_or_nan(xp, grams):
    try:
        return xp.linalg.inv(grams)
    except np.linalg.LinAlgError:  # one of them is singular; find out which
        if len(grams) == 1:
            return xp.full_like(grams, np.nan)
        middle = len(grams) // 2
        halves = (_inverses_or_nan(xp, half) for half in (grams[:middle], grams[middle:]))
        return xp.concatenate(list(halves))


def _pseudo_inverses(xp, grams, smallest):
    values, vectors = xp.linalg.eigh(grams)
    kept = values > smallest * values[:, -1:]
    scale = kept / xp.where(kept, values, 1)
    return (vectors * scale[:, None, :]) @ vectors.conj().transpose(0, 2, 1)


def _smallest(dtype):
    """Smallest squared distance of a unit column from the others that still counts."""
    return 1e-12 if np.finfo(dtype).eps < 1e-10 else 1e-5


def _conjugate_gradients(columns, Y, support, chosen):
    """CGLS on all right-hand sides at once; from zero it ends at the minimizer of least norm."""
    xp, n_columns = columns.xp, columns.shape[1]
    inside = scatter(n_columns, support, xp.zeros(support.shape, dtype=bool))
    rows = xp.arange(len(support))[:, None]
    inside[support[chosen], xp.broadcast_to(rows, support.shape)[chosen]] = True
    Z = xp.zeros(inside.shape, dtype=columns.dtype)
    residual, gradient = Y.copy(), columns.correlate(Y) * inside
    direction = gradient
    square = first = _squares(xp, gradient)
    tol = (100 * np.finfo(columns.dtype).eps) ** 2
    for _ in range(4 * support.shape[1] + 20):
        going = square > tol * first
        if not bool(going.any()):
            break
        product = columns.combine(direction)
        step = _ratio(xp, square * going, columns.squared_norms(product)).astype(columns.dtype)
        Z = Z + step * direction
        residual = residual - step * product
        gradient = columns.correlate(residual) * inside
        before, square = square, xp.where(going, _squares(xp, gradient), square)
        direction = gradient + _ratio(xp, square, before).astype(columns.dtype) * direction
    values = gather(Z, support) * chosen
    dependent = chosen.sum(axis=1) > columns.n_rows
    return Fit(values, residual, dependent)


def _squares(xp, A):
    return (xp.abs(A) ** 2).sum(axis=0, dtype=np.float64)


def _ratio(xp, above, below):
    return xp.where(below > 0, above / xp.where(below > 0, below, 1), 0)
