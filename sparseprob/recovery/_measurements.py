"""A measurement matrix seen through columns of unit length: dense, sparse or an operator.

Everything the pursuits ask of it is here. Each rank may hold its own rows: norms, correlations and
Gram matrices are sums over rows.
"""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator

from .._arrays import is_array
from ..mpi import row_sum

_BLOCK = 2**24  # entries of the dense blocks that are formed of an operator or of squares


def is_operator(X):
    """Whether X is known by its products only."""
    return isinstance(X, LinearOperator) or (
        not is_array(X)
        and not sparse.issparse(X)
        and all(hasattr(X, name) for name in ("shape", "dtype", "matvec", "rmatvec"))
    )


class UnitColumns:
    """The columns of A, divided by their lengths; with `center`, less their means first.

    Parameters
    ----------
    A : array (NumPy or CuPy), scipy sparse array or LinearOperator of shape (M, N)
        The local rows. A dense matrix is used as it is, unless it is to be centered.
    dtype : numpy.dtype
        Type of the computations; complex if A or the right-hand sides are.
    xp : module
        NumPy or CuPy.
    center : bool
        Whether the mean over all rows is taken off every column.
    normalize : bool
        Without it the lengths are taken to be one, except those of columns of zeros.

    Attributes
    ----------
    shape : tuple (M, N)
        M counts the local rows.
    n_rows : int
        Rows on all ranks.
    norms : real array of shape (N,)
        Lengths of the columns over all ranks; zero for columns of zeros, and for constant ones
        that have been centered.
    mean : array of shape (N,)
        Means of the columns; None without centering.
    """

    def __init__(self, A, dtype, xp=np, *, center=False, normalize=True):
        self.A, self.xp, self.dtype = A, xp, np.dtype(dtype)
        self.shape = tuple(A.shape)
        self.real_dtype = np.empty(0, self.dtype).real.dtype
        self.is_dense, self.is_sparse = is_array(A), sparse.issparse(A)
        self.n_rows = int(row_sum(float(self.shape[0])))
        self.mean = self._offset = None
        if center:
            self._center()
        squares = self._squared_lengths()
        if self._offset is not None and not self.is_sparse:
            squares = squares - self.shape[0] * xp.abs(self._offset) ** 2  # of this rank's rows
        self.norms = xp.sqrt(xp.maximum(row_sum(squares), 0)).astype(self.real_dtype)
        if self.mean is not None:
            smallest = 10 * np.finfo(self.real_dtype).eps * np.sqrt(self.n_rows)
            self.norms[self.norms <= smallest * xp.abs(self.mean)] = 0
        self.lengths = self.norms  # what coefficients are divided by
        if not normalize:
            self.lengths = (self.norms > 0).astype(self.real_dtype)
        self._inverse = xp.zeros_like(self.lengths)
        self._inverse[self.norms > 0] = 1 / self.lengths[self.norms > 0]

    def correlate(self, R):
        """Return A^H R over unit columns and all ranks, of shape (N, T)."""
        C = self._adjoint(R)
        if self._offset is not None:
            C = C - self._offset.conj()[:, None] * R.sum(axis=0)
        return row_sum(C).astype(self.dtype, copy=False) * self._inverse[:, None]

    def combine(self, Z):
        """Return the local rows of A Z over unit columns, of shape (M, T)."""
        Z = Z * self._inverse[:, None]
        AZ = self._forward(Z)
        return AZ if self._offset is None else AZ - self._offset @ Z

    def take(self, indices):
        """Return columns of unit length as a dense array of shape (M, k), local rows."""
        columns = self._columns(indices) * self._inverse[indices]
        if self._offset is not None:
            columns = columns - self._offset[indices] * self._inverse[indices]
        return columns.astype(self.dtype, copy=False)

    def gram(self):
        """Return the Gram matrix of the unit columns over all ranks, of shape (N, N)."""
        if self.is_dense:
            G = self.A.conj().T @ self.A if self._is_complex else self.A.T @ self.A
        elif self.is_sparse:
            G = (self.A.conj().T @ self.A).toarray()
        else:
            G = self.xp.empty((self.shape[1],) * 2, dtype=self.dtype)
            for block in self._blocks():
                G[:, block] = self.A.rmatmat(self._columns(block))
        if self._offset is not None:
            means, n_rows = self._offset, self.shape[0]
            sums = self._adjoint(self.xp.ones((n_rows, 1), dtype=self.dtype))[:, 0]
            cross = self.xp.outer(sums, means)
            G = G - cross - cross.conj().T + n_rows * self.xp.outer(means.conj(), means)
        G = row_sum(G).astype(self.dtype, copy=False)
        G *= self._inverse
        G *= self._inverse[:, None]
        return G

    def squared_norms(self, R):
        """Return the squared lengths of the columns of R over all ranks, float64 of shape (T,)."""
        return row_sum((self.xp.abs(R) ** 2).sum(axis=0, dtype=np.float64))

    def original(self, Z):
        """Return coefficients of unit columns, of shape (N, T), as coefficients of A."""
        return Z * self._inverse[:, None]

    @property
    def _is_complex(self):
        return np.dtype(self.A.dtype).kind == "c"

    def _center(self):
        ones = self.xp.ones((self.shape[0], 1), dtype=self.dtype)
        self.mean = row_sum(self._adjoint(ones)[:, 0].conj()) / self.n_rows
        if not self._is_complex:
            self.mean = self.mean.real
        self.mean = self.mean.astype(self.A.dtype, copy=False)
        if self.is_dense:
            self.A = self.A - self.mean  # the one copy: differences of large numbers lose digits
        else:
            self._offset = self.mean

    def _adjoint(self, R):
        """Return A^H R without conjugating, or making complex, a copy of A."""
        if not (self.is_dense or self.is_sparse):
            return self.xp.asarray(self.A.rmatmat(R))
        if self._is_complex:
            return (R.conj().T @ self.A).conj().T
        if self.xp.iscomplexobj(R):
            R = self.xp.ascontiguousarray(R)
            return self.xp.ascontiguousarray(self.A.T @ R.view(R.real.dtype)).view(R.dtype)
        return (R.T @ self.A).T  # rows of A as they lie in memory

    def _forward(self, Z):
        if not (self.is_dense or self.is_sparse):
            return self.xp.asarray(self.A.matmat(Z))
        if self.xp.iscomplexobj(Z) and not self._is_complex:
            Z = self.xp.ascontiguousarray(Z)
            return self.xp.ascontiguousarray(self.A @ Z.view(Z.real.dtype)).view(Z.dtype)
        return self.A @ Z

    def _columns(self, indices):
        if self.is_dense:
            return self.A[:, indices]
        if self.is_sparse:
            return self.A[:, indices].toarray()
        positions = self.xp.arange(self.shape[1])[indices]
        chosen = self.xp.zeros((self.shape[1], len(positions)), dtype=self.dtype)
        chosen[positions, self.xp.arange(len(positions))] = 1
        return self.xp.asarray(self.A.matmat(chosen))

    def _blocks(self):
        """Yield slices of columns that are small enough to be formed."""
        width = max(1, _BLOCK // max(1, *self.shape))
        for start in range(0, self.shape[1], width):
            yield slice(start, min(start + width, self.shape[1]))

    def _squared_lengths(self):
        """Return the squared lengths of the local columns, float64; of sparse ones, centered."""
        if self.is_sparse:
            return self._sparse_squares()
        if hasattr(self.A, "gram_diag"):
            return self.xp.asarray(self.A.gram_diag(), dtype=np.float64)
        squares = self.xp.empty(self.shape[1], dtype=np.float64)
        for block in self._blocks():
            part = self._columns(block)
            squares[block] = _squared_columns(self.xp, part)
        return squares

    def _sparse_squares(self):
        A = self.A
        values, counts = A.data, np.diff(A.indptr)
        if self._offset is not None:
            values = values - np.repeat(self._offset, counts)
        columns = np.repeat(np.arange(A.shape[1]), counts)
        squares = np.bincount(columns, np.abs(values).astype(np.float64) ** 2, A.shape[1])
        if self._offset is not None:
            squares += (A.shape[0] - counts) * np.abs(self._offset.astype(np.complex128)) ** 2
        return squares


def _squared_columns(xp, A):
    if A.dtype == np.float64:  # without a temporary of the size of A
        return xp.einsum("ij,ij->j", A, A)
    return (xp.abs(A) ** 2).sum(axis=0, dtype=np.float64)
