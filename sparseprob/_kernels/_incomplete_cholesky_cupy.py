"""Incomplete Cholesky factors and Gram matrices on their pattern, on a GPU; see the Numba twin.

Columns are taken off each other in no fixed order: last digits of factors vary from run to run.
"""

import cupy
import numpy as np

from ._columns_cupy import largest_column
from ._triangular_cupy import launch_triangular


def factor_without_fill(indptr, indices, data, floors, work):
    """Turn data from the upper triangle of Q into V; work does not matter. See the twin.

    After a failure, data is of no use.
    """
    n = len(indptr) - 1
    pending = cupy.bincount(indices, minlength=n).astype(np.int32) - 1  # without the diagonal
    counter, failed = cupy.zeros(1, dtype=np.int32), cupy.full(1, -1, dtype=np.int32)
    arguments = (indptr, indices, data, floors, np.int32(n), pending, counter, failed)
    launch_triangular("factor_without_fill", n, arguments, largest_column(indptr, 0, n))
    return int(failed[0])


def gram_columns(indptr, indices, data, row_starts, columns, positions, edges, places, out):
    """Write the entries of U U^T on the pattern of U; edges and places do not matter."""
    n = len(indptr) - 1
    arguments = (indptr, indices, data, row_starts, columns, positions, np.int64(n), out)
    launch_triangular("gram_columns", n, arguments, largest_column(indptr, 0, n))
