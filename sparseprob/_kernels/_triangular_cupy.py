"""Sparse upper triangular matrices on a GPU: solves and products; see the Numba twin.

`solve` adds in no fixed order: its last digits vary from run to run.
"""

from functools import lru_cache

import cupy
import numpy as np

from ._columns_cupy import Place
from ._elbo_cupy import projected_variances
from ._triangular_cuda import triangular_source


def row_view(indptr, indices):
    """Return row starts, column numbers and positions in the columns' data, row by row."""
    n = len(indptr) - 1
    columns = cupy.searchsorted(indptr, cupy.arange(len(indices)), side="right") - 1
    positions = cupy.argsort(indices.astype(np.int64) * n + columns)
    row_starts = cupy.zeros(n + 1, dtype=np.int64)
    row_starts[1:] = cupy.cumsum(cupy.bincount(indices, minlength=n))
    return row_starts, columns[positions].astype(np.int32), positions


def solve(indptr, indices, data, x):
    """Replace x (n,) by V^{-1} x."""
    pending = cupy.bincount(indices, minlength=len(x)).astype(np.int32) - 1  # without itself
    _substitute("solve", indptr, indices, data, x, pending)


def solve_transposed(indptr, indices, data, x):
    """Replace x (n,) by V^{-T} x."""
    _substitute("solve_transposed", indptr, indices, data, x, cupy.ones(len(x), dtype=np.int32))


def solve_many(indptr, indices, data, X):
    """Replace X (n, k) by V^{-1} X."""
    _column_by_column(solve, indptr, indices, data, X)


def solve_transposed_many(indptr, indices, data, X):
    """Replace X (n, k) by V^{-T} X."""
    _column_by_column(solve_transposed, indptr, indices, data, X)


def compressed_products(indptr, indices, data, x, out):
    """Write sum_t data[t] x[indices[t]] for each column into out (n,); see the twin."""
    n = len(indptr) - 1
    launch_triangular("compressed_products", n, (indptr, indices, data, x, np.int64(n), out))


compressed_products_parallel = compressed_products


def inverse_diagonal(indptr, indices, data, rows, work, out):
    """Write the diagonal of (V V^T)^{-1}, for some rows, into out; work does not matter."""
    weights, none = cupy.ones((len(rows), 1)), cupy.empty(0, dtype=np.int32)
    neighbors = rows.astype(np.int32)[:, None]
    projected_variances(neighbors, weights, indptr, none, indptr, indices, data, 1, out)


def launch_triangular(name, n_columns, arguments, size=None):
    """Run a kernel; one whose warps keep a column gets memory for `size` entries."""
    place = Place(1 if size is None else size + (size + 1) // 2, n_columns)
    more = () if size is None else (np.int32(size), place.scratch)
    place.run(_kernel(name, place.shared > 0, cupy.cuda.Device().id), (*arguments, *more))


def _substitute(name, indptr, indices, data, x, pending):
    counter = cupy.zeros(1, dtype=np.int32)
    arguments = (indptr, indices, data, np.int32(len(x)), x, pending, counter)
    launch_triangular(name, len(x), arguments)


def _column_by_column(solve, indptr, indices, data, X):
    for k in range(X.shape[1]):
        x = cupy.ascontiguousarray(X[:, k])
        solve(indptr, indices, data, x)
        X[:, k] = x


@lru_cache(maxsize=16)
def _kernel(name, in_shared, device):
    source = triangular_source(name, in_shared)
    return cupy.RawKernel(source, name, options=("-std=c++17",))
