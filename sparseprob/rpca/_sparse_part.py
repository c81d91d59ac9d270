"""The sparse part of a split, gathered block by block."""

import numpy as np
from scipy import sparse

from .._arrays import is_array, like
from .._kernels import kernels

_FILLED = 0.25  # share of entries above which a dense array takes less memory


def sparse_part(solver, X):
    """Return S: CSR where few entries are not zero and X is of NumPy or CuPy, else dense."""
    rows = solver.rows
    known = not is_array(X) or type(X).__module__.split(".")[0] in ("numpy", "cupy")
    if not known or solver.n_sparse >= _FILLED * rows.n_rows * rows.shape[1]:
        return _dense(solver, X)
    if rows.xp is np:
        return _compressed(solver)
    from cupyx.scipy.sparse import csr_matrix

    return csr_matrix(_dense(solver, X))


def _dense(solver, X):
    rows = solver.rows
    S = rows.xp.zeros(rows.shape, dtype=rows.dtype)
    rows.each(lambda start, block, _: solver.sparse_block(start, block, S[start:][: len(block)]))
    return like(S, X)


def _compressed(solver):
    rows = solver.rows
    gather = kernels("rpca", np.empty(0)).gather_nonzero
    index = np.int32 if solver.n_sparse < 2**31 else np.int64

    def work(start, block, pieces):
        S = rows.memory("sparse", len(block))
        count = solver.sparse_block(start, block, S)
        indices, values = np.empty(count, index), np.empty(count, rows.dtype)
        counts = np.empty(len(block), np.int64)
        gather(S, counts, indices, values)
        pieces.append((counts, indices, values))

    pieces = [piece for result in rows.each(work, list) for piece in result]
    empty = (np.zeros(0, np.int64), np.zeros(0, index), np.zeros(0, rows.dtype))
    counts, indices, values = (np.concatenate(parts) for parts in zip(empty, *pieces, strict=True))
    edges = np.concatenate([[0], np.cumsum(counts)])
    return sparse.csr_array((values, indices, edges), shape=rows.shape)
