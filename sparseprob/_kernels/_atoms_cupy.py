"""Dictionary updates of K-SVD on a GPU; see the Numba twin. The host waits for nothing."""

from functools import lru_cache

import cupy
import numpy as np

from ._atoms_cuda import atoms_source
from ._atoms_numba import Users

_THREADS = 512  # of a multiprocessor, whose blocks share the users of an atom
_EACH = 16  # numbers of a row that a thread holds
_ROW_NUMBERS = 64  # numbers of rows that a thread holds at a time, in single precision


def users_of_atoms(indices, values, n_atoms):
    """Return which rows use which atom; see the twin."""
    atoms = cupy.where(values != 0, indices, np.int32(n_atoms)).ravel()
    places = cupy.argsort(atoms)  # stable
    starts = cupy.zeros(n_atoms + 1, dtype=np.int64)
    starts[1:] = cupy.cumsum(cupy.bincount(atoms, minlength=n_atoms + 1)[:n_atoms])
    return Users(starts, (places // max(1, indices.shape[1])).astype(np.int32), places)


def keep_better_codes(A, D, new_indices, new_values, indices, values, R):
    """Replace the code of each row where that lowers its residual; see the twin."""
    R[...] = _residuals(A, D, indices, values)
    rest = _residuals(A, D, new_indices, new_values)
    better = ((rest * rest).sum(axis=1) <= (R * R).sum(axis=1))[:, None]
    for old, new in ((R, rest), (indices, new_indices), (values, new_values)):
        old[...] = cupy.where(better, new, old)


def _residuals(A, D, indices, values):
    return A - _codes(indices, values, len(D)) @ D


def _codes(indices, values, n_atoms):
    X = cupy.zeros((len(indices), n_atoms), dtype=values.dtype)
    X[cupy.arange(len(indices))[:, None], indices] = values
    return X


def moments_of_codes(Y, indices, values, n_atoms):
    """Return the sums X^T X and X^T Y over rows Y of codes X, in double precision."""
    X = _codes(indices, values, n_atoms)
    return (X.T @ X).astype(np.float64), (X.T @ Y).astype(np.float64)


def update_atoms(D, R, users, values, n_power_iterations, total):
    """Fit every atom in turn, and its coefficients, in place; see the twin."""
    k, d = D.shape
    shape = _block_shape(d, D.itemsize)
    n_blocks = min(4, max(1, _THREADS // shape[0]))
    n_blocks *= cupy.cuda.Device().attributes["MultiProcessorCount"]
    add, collect, finish = (
        _kernel(name, D.dtype.name, *shape)
        for name in ("add_users", "collect_parts", "finish_atom")
    )
    grid, block, width = (n_blocks,), (shape[0],), np.int32(d + 1)
    parts, sums = cupy.empty((n_blocks, d + 1), dtype=D.dtype), cupy.empty(d + 1)
    new, collectors = D.copy(), (-(-(d + 1) // 32),)
    for j in range(k):
        atom = np.int32(j), np.int32(d)
        for step in range(n_power_iterations):
            arguments = R, D, *users, values, sums, parts, *atom, np.int32(step == 0)
            add(grid, block, arguments)
            collect(collectors, (256,), (parts, sums, np.int32(n_blocks), width))
            if total is not None:
                sums = cupy.asarray(total(sums))
        finish(grid, block, (R, D, new, *users, values, sums, *atom))
    D[...] = new


def _block_shape(d, itemsize):
    """Threads of a block, numbers of a row for each, and rows that are read together."""
    threads = 64
    while threads < 1024 and d > threads * _EACH:
        threads *= 2
    each = -(-d // threads)
    room = _ROW_NUMBERS * 4 // itemsize * min(1, 256 / threads)
    return threads, each, max(1, min(4, int(room) // each))


@lru_cache
def _kernel(name, dtype, *shape):
    return cupy.RawKernel(atoms_source(name, dtype, *shape), name, options=("-std=c++11",))
