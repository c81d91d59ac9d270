"""Matrices of any kind as blocks of compressed rows, and the rows that a sample takes from them."""

import logging
from typing import Any

import numpy as np
from scipy import sparse

from .._arrays import (
    compute_namespace,
    is_array,
    is_row_source,
    to_compute,
    to_numpy,
)

_LOG = logging.getLogger("sparseprob.sketch")
BLOCK = 1 << 14  # dense rows that are looked at together
_NO_INDICES = np.empty(0, dtype=np.int32)


class Rows:
    """Checked rows of a matrix: dense or CSR, on the host or on the GPU.

    Parameters
    ----------
    A : ndarray, cupy.ndarray, or CSR matrix of scipy or cupyx
    given : object
        What the caller passed; answers follow its library.
    """

    def __init__(self, A, given):
        self.A = A
        self.is_sparse = is_sparse(A)
        self.n_rows, self.n_features = A.shape
        self.on_gpu = not isinstance(A, np.ndarray) and not sparse.issparse(A)
        self.dtype = np.dtype(np.float32 if A.dtype in (np.float16, np.float32) else np.float64)
        self.given: Any = given if is_array(given) else None
        self.block_size = max(1, self.n_rows) if self.is_sparse else BLOCK

    def block(self, first, stop):
        """Return data, indices and indptr of some rows; no indices for dense rows."""
        if self.is_sparse:
            return self.A.data, self.A.indices, self.A.indptr[first : stop + 1]
        rows = np.ascontiguousarray(self.A[first:stop])
        if rows.dtype == np.float16:
            rows = rows.astype(np.float32)
        ends = np.arange(stop - first + 1, dtype=np.int64) * self.n_features
        return rows.reshape(-1), _NO_INDICES, ends

    def canonical_block(self, first, stop):
        """Return a copy of some rows with columns in order, each once."""
        rows = self.A[first:stop].astype(self.dtype)
        rows.sum_duplicates()
        return rows.data, rows.indices, rows.indptr

    def take(self, positions):
        """Return some rows as a CSR matrix without zeros, its columns in order."""
        if self.on_gpu:
            return self._take_on_gpu(positions)
        rows = self.A[positions]
        rows = sparse.csr_array(rows.astype(self.dtype, copy=False))
        rows.sum_duplicates()
        rows.eliminate_zeros()
        return with_index_type(rows)

    def _take_on_gpu(self, positions):
        import cupy
        from cupyx.scipy.sparse import csr_matrix

        rows = self.A[cupy.asarray(positions)].astype(self.dtype)
        rows = csr_matrix(rows)
        rows.sum_duplicates()
        kept = rows.data != 0  # eliminate_zeros of CuPy drops negative entries too
        ends = cupy.concatenate([cupy.zeros(1, dtype=np.int64), cupy.cumsum(kept)])
        ends = ends[rows.indptr].astype(rows.indptr.dtype)
        return csr_matrix((rows.data[kept], rows.indices[kept], ends), shape=rows.shape)


def with_index_type(rows):
    """Return a CSR array whose indices are int32 where they fit: one form for equal rows."""
    fits = max(rows.shape[1], rows.nnz) < 2**31
    kind = np.dtype(np.int32 if fits else np.int64)
    if rows.indices.dtype == kind and rows.indptr.dtype == kind:
        return rows
    parts = rows.data, rows.indices.astype(kind), rows.indptr.astype(kind)
    return sparse.csr_array(parts, shape=rows.shape)


def is_sparse(A):
    """Whether A is a sparse matrix of scipy or cupyx."""
    return sparse.issparse(A) or type(A).__module__.startswith("cupyx.scipy.sparse")


def is_streamed(A):
    """Whether rows of A are read from elsewhere, block by block."""
    return is_row_source(A) and not is_sparse(A)


def as_rows(A):
    """Check a matrix, or refuse it in one sentence; a vector is a single column.

    Parameters
    ----------
    A : array, data frame or sparse matrix of shape (n_rows, n_features) or (n_rows,)

    Returns
    -------
    rows : Rows
    """
    if is_sparse(A):
        return Rows(_compressed(A), A)
    M = to_compute(A) if is_array(A) else np.asarray(A)
    if M.ndim == 1:
        M = M[:, None]
    check_matrix(M)
    return Rows(M, A)


def _compressed(A):
    check_matrix(A)
    if A.format == "csr":
        return A
    _LOG.info("a matrix in %s form is converted to CSR, which takes a copy", A.format.upper())
    return A.tocsr()


def check_matrix(M):
    """Refuse what is not a matrix of real numbers."""
    if len(M.shape) != 2:
        raise ValueError(f"Expected a matrix with keyed rows, got an array of shape {M.shape}.")
    kind = np.dtype(M.dtype).kind
    if kind not in "fiub":
        raise ValueError(f"Expected real numbers, got dtype {M.dtype}; convert them first.")
    if M.shape[1] < 1:
        raise ValueError(f"Expected at least one column, got shape {tuple(M.shape)}.")


def row_lengths(rows):
    """Return Euclidean lengths of all rows, in double precision, where the rows are.

    Raises ValueError naming the first row with NaN or infinity.
    """
    from .._kernels._sketch_numba import row_lengths as lengths_of_block

    if rows.on_gpu:
        return _lengths_on_gpu(rows)
    lengths = np.empty(rows.n_rows)
    for first in range(0, rows.n_rows, BLOCK):
        stop = min(first + BLOCK, rows.n_rows)
        block = rows.canonical_block(first, stop) if rows.is_sparse else rows.block(first, stop)
        bad = lengths_of_block(block[0], block[2], lengths[first:stop])
        if bad >= 0:
            raise not_finite(first + bad)
    return lengths


def not_finite(row):
    """Return the error for a row with NaN or infinity."""
    return ValueError(f"Row {row} contains NaN or infinity; sketches need finite numbers.")


def _lengths_on_gpu(rows):
    import cupy
    from cupyx.scipy.sparse import csr_matrix

    A = rows.A
    values = A.data if rows.is_sparse else A
    largest = float(abs(values).max()) if values.size else 0.0
    if not np.isfinite(largest):
        raise not_finite(_first_not_finite(A, rows.is_sparse))
    # powers of two change no digit; squares stay in range unless lengths differ by 1e150
    scale = (
        2.0 ** (np.frexp(largest)[1] - 1) if largest and not 2.0**-300 < largest < 2.0**300 else 1.0
    )
    squares = (values.astype(np.float64) / scale) ** 2
    if rows.is_sparse:
        squares = csr_matrix((squares, A.indices, A.indptr), shape=A.shape)
        return cupy.sqrt(squares @ cupy.ones(A.shape[1])) * scale
    return cupy.sqrt(squares.sum(axis=1)) * scale


def _first_not_finite(A, is_sparse_):
    xp = compute_namespace(A.data if is_sparse_ else A)
    if not is_sparse_:
        return int(xp.argmin(xp.isfinite(A).all(axis=1)))
    entry = int(xp.argmin(xp.isfinite(A.data)))
    return int(np.searchsorted(to_numpy(A.indptr), entry, side="right")) - 1
