"""Codes of exactly s atoms for many rows, on a GPU; see the Numba twin.

Correlations of all rows come from one matrix product a step; the rest of a step is one kernel.
"""

from functools import lru_cache

import cupy
import numpy as np

from ._sparse_coding_cuda import coding_source
from ._sparse_coding_rules import atoms_together, tolerances

_BLOCKS = 8  # of a multiprocessor
_THREADS = 256  # of a block, where there are many atoms
_FEW = 32  # atoms of a code, up to which a block has fewer threads


def sparse_code(G, B, squares, n_nonzero):
    """Choose `n_nonzero` atoms for every row, and their coefficients; see the twin."""
    G, B = cupy.ascontiguousarray(G), cupy.ascontiguousarray(B)
    n, k = B.shape
    indices = cupy.empty((n, n_nonzero), dtype=np.int32)
    values = cupy.empty((n, n_nonzero), dtype=B.dtype)
    for rows in _batches(n, k, n_nonzero, B.dtype.itemsize):
        _code_rows(G, B[rows], squares[rows], indices[rows], values[rows])
    return indices, values


def _batches(n, k, s, itemsize):
    """Slices of rows, for which there is room."""
    free = cupy.cuda.Device().mem_info[0] + cupy.get_default_memory_pool().free_bytes()
    size = max(1, min(n, int(0.5 * free) // ((s * s + 3 * k) * itemsize)))
    n_batches = -(-n // size)
    size = -(-n // n_batches)
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _code_rows(G, B, squares, support, values):
    n, k = B.shape
    s, dtype = support.shape[1], B.dtype
    negligible, dependent = tolerances(dtype)
    n_together = atoms_together(s)
    floors = (negligible * cupy.sqrt(squares)).astype(dtype)
    counts, ended = cupy.zeros(n, dtype=np.int32), cupy.zeros(n, dtype=np.int32)
    X, C = cupy.zeros((n, k), dtype=dtype), B.copy()
    grid = min(n, _BLOCKS * cupy.cuda.Device().attributes["MultiProcessorCount"])
    K = cupy.empty((n, s, s), dtype=dtype)
    scratch = cupy.empty((grid, 2, n_together, s), dtype=dtype)
    block = _THREADS if s > _FEW else 64
    sizes = np.int32(n), np.int32(k), np.int32(s)
    extend = _kernel("extend_codes", dtype.name, n_together)
    step, n_steps = 0, -(-s // n_together)
    while step < n_steps or bool(((counts < s) & (ended == 0)).any()):
        if step > 0:
            cupy.matmul(X, G, out=C)
            cupy.subtract(B, C, out=C)
        arguments = (
            G, C, floors, K, support, counts, ended, X, scratch, *sizes, dtype.type(dependent)
        )  # fmt: skip
        extend((grid,), (block,), arguments)
        step += 1
    _kernel("collect_codes", dtype.name, n_together)(
        (grid,), (block,), (support, counts, C, X, values, *sizes)
    )


@lru_cache
def _kernel(name, dtype, n_together):
    return cupy.RawKernel(coding_source(name, dtype, n_together), name, options=("-std=c++11",))
