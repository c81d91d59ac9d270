"""The base of linear operators that are never formed, on the CPU and on a GPU."""

import math
from abc import abstractmethod

import numpy as np
from scipy.sparse.linalg import LinearOperator

from ._arrays import compute_namespace, is_array, to_compute

_MAX_DENSE = 10**8  # entries that to_dense() forms without being forced


class ArrayOperator(LinearOperator):
    """A linear operator whose products run where its arrays are; a subclass has `_matmat`.

    It also has `_adjoint`, `_rmatmat` and `_dense`. scipy's own checks would not let CuPy arrays
    through, so products on a GPU go around them.
    """

    is_on_gpu = False

    def matvec(self, x):
        """Return A x.

        Parameters
        ----------
        x : array of shape (N,) or (N, 1)

        Returns
        -------
        array of shape (M,) or (M, 1)
        """
        return self._on_gpu(x, self.shape[1]) if self.is_on_gpu else super().matvec(x)

    def matmat(self, X):
        """Return A X.

        Parameters
        ----------
        X : array of shape (N, T)

        Returns
        -------
        array of shape (M, T)
        """
        return self._on_gpu(X, self.shape[1]) if self.is_on_gpu else super().matmat(X)

    def rmatvec(self, x):
        """Return the adjoint of A times x.

        Parameters
        ----------
        x : array of shape (M,) or (M, 1)

        Returns
        -------
        array of shape (N,) or (N, 1)
        """
        return self.H.matvec(x) if self.is_on_gpu else super().rmatvec(x)

    def rmatmat(self, X):
        """Return the adjoint of A times X.

        Parameters
        ----------
        X : array of shape (M, T)

        Returns
        -------
        array of shape (N, T)
        """
        return self.H.matmat(X) if self.is_on_gpu else super().rmatmat(X)

    def dot(self, x):
        """Return A times a vector, a matrix, a number or another operator.

        Parameters
        ----------
        x : array, number or LinearOperator

        Returns
        -------
        array or LinearOperator
        """
        if self.is_on_gpu and is_array(x) and x.ndim > 0:
            return self._on_gpu(x, self.shape[1])
        return super().dot(x)

    def to_dense(self, force=False):
        """Return the whole matrix.

        Parameters
        ----------
        force : bool, default=False
            Form it even if it has more than 1e8 entries.

        Returns
        -------
        array of shape (M, N)

        Raises
        ------
        ValueError
            If the matrix is large and `force` is not set.
        """
        if math.prod(self.shape) > _MAX_DENSE and not force:
            raise ValueError(
                f"The matrix of shape {self.shape} has more than {_MAX_DENSE:.0e} entries; use "
                "products with the operator, or to_dense(force=True)."
            )
        return self._dense().astype(self.dtype, copy=False)

    @abstractmethod
    def _dense(self):
        """Return the matrix."""

    def _on_gpu(self, X, n_rows):
        """Multiply a CuPy array, which scipy's own checks would not let through."""
        if X.ndim not in (1, 2) or X.shape[0] != n_rows:
            raise ValueError(f"dimension mismatch: {self.shape}, {tuple(X.shape)}")
        X = to_compute(X)
        return self._matvec(X) if X.ndim == 1 else self._matmat(X)

    def _matvec(self, x):
        return self._matmat(x.reshape(-1, 1))[:, 0]

    def _rmatvec(self, x):
        return self.H._matvec(x)


class AdjointOperator(ArrayOperator):
    """The adjoint of an operator that has `_rmatmat`."""

    def __init__(self, A):
        self.A, self.is_on_gpu = A, A.is_on_gpu
        super().__init__(A.dtype, A.shape[::-1])

    def _matmat(self, X):
        return self.A._rmatmat(X)

    def _rmatmat(self, X):
        return self.A._matmat(X)

    def _dense(self):
        return self.A._dense().conj().T

    def _adjoint(self):
        return self.A


def is_count(n, most=None):
    """Whether n is a whole number from 1 to `most`."""
    return isinstance(n, (int, np.integer)) and n >= 1 and (most is None or n <= most)


def checked_array(F, name, ndim=2):
    """Return an array of `ndim` axes as a NumPy or CuPy array of floating type."""
    F = to_compute(F)
    if F.dtype.kind not in "fiubc" or F.dtype == np.float16:
        raise TypeError(f"{name} has dtype {F.dtype}; pass float32, float64 or complex numbers.")
    if F.ndim != ndim or 0 in F.shape:
        what = "a matrix" if ndim == 2 else f"an array of {ndim} axes"
        raise ValueError(f"{name} has shape {tuple(F.shape)}; expected {what} with entries.")
    if F.dtype.kind not in "fc":
        F = F.astype(np.float64)
    if not compute_namespace(F).isfinite(F).all():
        raise ValueError(f"{name} contains NaN or infinity; remove such entries first.")
    return F
