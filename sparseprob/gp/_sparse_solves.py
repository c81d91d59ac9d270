"""Solves with sparse triangular factors: substitutions, conjugate gradients, marginal variances.

Factors are upper triangular, by columns (indptr, indices, data), the diagonal last in each column.
On a GPU the columns of a substitution wait for each other, so that many run side by side.
"""

from typing import NamedTuple

import numpy as np

from .._arrays import compute_namespace
from .._kernels import kernels
from .._kernels._triangular_numba import _LANES
from .._threads import n_threads_allowed

_SHARED = 2**20  # entries of a matrix whose products are shared out to threads


class RowView(NamedTuple):
    """The entries of a matrix by rows: where rows start, their columns, places in the data."""

    starts: np.ndarray  # (n + 1,) int64
    columns: np.ndarray  # (nnz,) int32, ascending in each row
    positions: np.ndarray  # (nnz,) int64, in the data by columns


class Factor:
    """An upper triangular factor V with sparse columns, ready for products and solves.

    Parameters
    ----------
    indptr : int64 ndarray of shape (n + 1,)
    indices : int32 ndarray of shape (nnz,)
    data : float64 ndarray of shape (nnz,)
    rows : RowView, default=None
        The pattern by rows, if it is at hand.
    """

    def __init__(self, indptr, indices, data, rows=None):
        self.indptr, self.indices, self.data = indptr, indices, data
        self.rows = row_view(indptr, indices) if rows is None else rows
        self._by_rows = data[self.rows.positions]

    def product(self, x):
        """Return V x for x (n,)."""
        return _products(self.rows.starts, self.rows.columns, self._by_rows, x)

    def product_transposed(self, x):
        """Return V^T x for x (n,)."""
        return _products(self.indptr, self.indices, self.data, x)

    def solve(self, x):
        """Return V^{-1} x for x (n,) or (n, k)."""
        return solve(self.indptr, self.indices, self.data, x)

    def solve_transposed(self, x):
        """Return V^{-T} x for x (n,) or (n, k)."""
        return solve_transposed(self.indptr, self.indices, self.data, x)

    def solve_gram(self, x):
        """Return (V V^T)^{-1} x for x (n,) or (n, k)."""
        return self.solve_transposed(self.solve(x))


def row_view(indptr, indices):
    """Return the pattern by rows."""
    return RowView(*kernels("triangular", indices).row_view(indptr, indices))


def solve(indptr, indices, data, x):
    """Return V^{-1} x for x of shape (n,) or (n, k)."""
    x = compute_namespace(data).array(x, dtype=np.float64, order="C")
    triangular = kernels("triangular", data)
    kernel = triangular.solve if x.ndim == 1 else triangular.solve_many
    kernel(indptr, indices, data, x)
    return x


def solve_transposed(indptr, indices, data, x):
    """Return V^{-T} x for x of shape (n,) or (n, k)."""
    x = compute_namespace(data).array(x, dtype=np.float64, order="C")
    triangular = kernels("triangular", data)
    kernel = triangular.solve_transposed if x.ndim == 1 else triangular.solve_transposed_many
    kernel(indptr, indices, data, x)
    return x


def _products(starts, indices, data, x):
    xp, triangular = compute_namespace(data), kernels("triangular", data)
    out = xp.empty(len(starts) - 1)
    small = len(data) < _SHARED
    kernel = triangular.compressed_products if small else triangular.compressed_products_parallel
    kernel(starts, indices, data, xp.ascontiguousarray(x), out)
    return out


def posterior_variances(indptr, indices, data, rows=None):
    """Return the diagonal of (V V^T)^{-1}, whole or at some rows, exactly.

    A row takes a substitution through all columns before it that its own leads to: O(n m) for each
    row, meant for n up to about 20 000. Memory is n * 64 bytes for each thread.

    Parameters
    ----------
    indptr, indices, data : ndarray
        The upper triangular factor V by columns.
    rows : int ndarray of shape (q,), default=None
        None means all.

    Returns
    -------
    variances : ndarray of shape (q,)
    """
    n, xp = len(indptr) - 1, compute_namespace(data)
    rows = xp.arange(n) if rows is None else xp.asarray(rows, dtype=np.int64)
    work = np.zeros((n_threads_allowed(), n, _LANES))
    out = xp.empty(len(rows))
    kernels("triangular", data).inverse_diagonal(indptr, indices, data, rows, work, out)
    return out


class Solution(NamedTuple):
    """What conjugate gradients found."""

    x: np.ndarray
    n_iter: int
    converged: bool
    indefinite: bool = False


def conjugate_gradients(product, precondition, b, *, rtol=1e-6, max_iter=200):
    """Solve A x = b for a positive definite A, preconditioned, from x = 0; tell if A is not.

    Parameters
    ----------
    product, precondition : callable
        A, and an approximate inverse of it that is positive definite; both symmetric.
    b : ndarray of shape (n,)
    rtol : float
        Length of the last residual over that of b.
    max_iter : int

    Returns
    -------
    solution : Solution
    """
    x, residual = np.zeros_like(b), b.copy()
    enough = rtol * np.linalg.norm(b)
    direction, rho = None, 1.0
    for n_iter in range(max_iter + 1):
        if np.linalg.norm(residual) <= enough:
            return Solution(x, n_iter, True)
        z = precondition(residual)
        rho, previous = residual @ z, rho
        direction = z if direction is None else z + (rho / previous) * direction
        image = product(direction)
        curvature = direction @ image
        if not curvature > 0:
            return Solution(x, n_iter, False, indefinite=True)
        step = rho / curvature
        x += step * direction
        residual -= step * image
    return Solution(x, max_iter, False)
