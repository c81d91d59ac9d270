"""Rows of a matrix, block by block: products, sums over ranks, memory for what a step needs."""

import tempfile
import threading

import numpy as np

from .. import mpi
from .._arrays import _is_memory_map, compute_namespace, is_on_gpu, is_row_source
from .._threads import over_chunks

_BLOCK_BYTES = 2**22  # a block of each matrix fits in the cache of one core, or nearly
_GPU_BYTES = 2**32


class RowBlocks:
    """The rows that this rank has of a matrix X, less `center`; read, never copied whole.

    `fill(start, block)`, if given, makes the rows of another matrix from those of X.
    """

    def __init__(self, X, dtype, center=None, fill=None):
        self.X, self.dtype, self.center, self.fill = X, np.dtype(dtype), center, fill
        self.xp = compute_namespace(X)
        self.shape = n_local, n_columns = tuple(int(n) for n in X.shape)
        self.n_rows = n_local if mpi.n_ranks() == 1 else int(mpi.row_sum(float(n_local)))
        on_gpu = is_on_gpu(X)
        at_once = _GPU_BYTES if on_gpu else _BLOCK_BYTES
        self.batch_size = max(32, at_once // max(1, n_columns * self.dtype.itemsize))
        self.on_disk = not on_gpu and (is_row_source(X) or _is_memory_map(X))
        self._memory = threading.local()

    def made_by(self, fill):
        """Return the matrix whose rows `fill` makes from these."""
        return RowBlocks(self.X, self.dtype, self.center, fill)

    def each(self, work, new=lambda: None):
        """Call ``work(start, block, result)`` for all blocks; return the results of the threads."""

        def prepared(start, block, result):
            if self.center is not None:
                block = block - self.center
            if self.fill is not None:
                block = self.fill(start, block)
            work(start, block, result)

        if self.shape[0] == 0:
            return [new()]
        return over_chunks(prepared, self.X, self.batch_size, self.dtype, new)

    def sums(self, work, size):
        """Sum what ``work(start, block, sums)`` adds to an array of float64, over all ranks."""
        with mpi.errors_together():
            results = self.each(work, lambda: np.zeros(size))
        return np.atleast_1d(mpi.row_sum(sum(results)))

    def memory(self, name, n_rows):
        """Return an array (n_rows, n_columns) that this thread uses again for the next block."""
        kept = getattr(self._memory, name, None)
        if kept is None or len(kept) < n_rows:
            kept = self.xp.empty((n_rows, self.shape[1]), dtype=self.dtype)
            setattr(self._memory, name, kept)
        return kept[:n_rows]

    def empty(self):
        """Return an array of the shape of the rows; in a file without name if X is on disk."""
        if not self.on_disk or 0 in self.shape:
            return self.xp.empty(self.shape, dtype=self.dtype)
        with tempfile.TemporaryFile() as file:
            file.truncate(self.shape[0] * self.shape[1] * self.dtype.itemsize)
            return np.memmap(file, dtype=self.dtype, shape=self.shape)

    def times(self, V):
        """Return this matrix times V: the rows of this rank."""
        product = self.xp.empty((self.shape[0], V.shape[1]), dtype=self.dtype)

        def work(start, block, _):
            self.xp.matmul(block, V, out=product[start : start + len(block)])

        self.each(work)
        return product

    def adjoint_times(self, Q):
        """Return the transpose of this matrix times Q, summed over all rows of all ranks."""
        shape = (Q.shape[1], self.shape[1])

        def new():
            return [self.xp.zeros(shape, dtype=self.dtype), None]

        def work(start, block, result):
            result[1] = self.xp.matmul(Q[start : start + len(block)].T, block, out=result[1])
            result[0] += result[1]

        return self._total([r[0] for r in self.each(work, new)]).T

    def both_times(self, V, U):
        """Return this matrix times V, and its transpose times U, in one pass."""
        product = self.xp.empty((self.shape[0], V.shape[1]), dtype=self.dtype)
        shape = (U.shape[1], self.shape[1])

        def new():
            return [self.xp.zeros(shape, dtype=self.dtype), None]

        def work(start, block, result):
            end = start + len(block)
            self.xp.matmul(block, V, out=product[start:end])
            result[1] = self.xp.matmul(U[start:end].T, block, out=result[1])
            result[0] += result[1]

        total = self._total([r[0] for r in self.each(work, new)])
        return product, total.T

    def _total(self, parts):
        total = parts[0]
        for part in parts[1:]:
            total += part
        return mpi.row_sum(total).astype(self.dtype, copy=False)


class LowRank:
    """A matrix of low rank: U diag(s) V', the rows of this rank."""

    def __init__(self, U, s, V):
        self.U, self.s, self.V = U, s, V
        self.scaled, self.Vt = U * s, V.T

    @classmethod
    def zeros(cls, rows):
        """Return the zero matrix of the shape of some rows."""
        xp, dtype = rows.xp, rows.dtype
        U, V = (xp.zeros((n, 0), dtype=dtype) for n in rows.shape)
        return cls(U, xp.zeros(0, dtype=dtype), V)

    @property
    def rank(self):
        """Number of columns of U."""
        return len(self.s)

    def block(self, start, out):
        """Write the rows from `start` on to `out`."""
        if self.rank == 0:
            out[...] = 0
            return out
        if out.__class__.__module__.startswith("cupy"):
            out[...] = self.scaled[start : start + len(out)] @ self.Vt
            return out
        return np.matmul(self.scaled[start : start + len(out)], self.Vt, out=out)

    def truncated(self, rank):
        """Return the best approximation of at most this rank."""
        return LowRank(self.U[:, :rank], self.s[:rank], self.V[:, :rank])
