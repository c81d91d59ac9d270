"""Products of a Monarch matrix and the adjoint of another one, and how to find their factors.

T. Dao and others, "Monarch: Expressive structured matrices for efficient and accurate training",
ICML 2022.
"""

import math

import numpy as np
from sklearn.utils import check_random_state

from ._array_operator import ArrayOperator, checked_array
from ._arrays import compute_namespace, is_on_gpu, to_numpy

_LEAST_GAP = 1e-8  # between eigenvalues, relative to the largest


class MonarchProduct(ArrayOperator):
    r"""A matrix :math:`M_1 M_2^*` of two Monarch matrices of block rank one.

    The class holds convolutions and maps like the Fourier transform. With outputs (l, j) and inputs
    (l', j'), j and j' the fastest indices,

    .. math:: A_{(l,j),(l',j')} = \sum_k L_{j,l,k} \, D_{j,j',k} \, R_{j',k,l'}

    that is, sorted by j and j' the blocks of A are :math:`L_j \, \mathrm{diag}(D_{jj'}) \, R_{j'}`.

    Parameters
    ----------
    left : array of shape (J, l, k)
        The factors L.
    middle : array of shape (J, J', k)
        The diagonals D.
    right : array of shape (J', k, l')
        The factors R.

    Attributes
    ----------
    left, middle, right : array
        The factors as NumPy or CuPy arrays.
    shape : tuple (M, N)
        (l J, l' J').
    dtype : numpy.dtype
    is_on_gpu : bool
        Whether the factors are on a GPU; then products take CuPy arrays.

    Raises
    ------
    ValueError
        If the factors do not fit together.

    References
    ----------
    See [Dao2022]_.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.linear_operators import MonarchProduct
    >>> rng = np.random.default_rng(0)
    >>> A = MonarchProduct(*rng.normal(size=(3, 4, 4, 4))).to_dense()
    >>> found = MonarchProduct.from_matrix(A, random_state=0)
    >>> np.allclose(found.to_dense(), A)
    True
    >>> sum(F.size for F in (found.left, found.middle, found.right)), A.size
    (192, 256)
    """

    def __init__(self, left, middle, right):
        self.left, self.middle, self.right = (
            checked_array(F, name, 3)
            for F, name in ((left, "left"), (middle, "middle"), (right, "right"))
        )
        parts = (self.left, self.middle, self.right)
        (J, n_out, k), (K, n_in) = self.left.shape, self.right.shape[::2]
        if self.middle.shape != (J, K, k) or self.right.shape[1] != k:
            raise ValueError(
                f"left {self.left.shape}, middle {self.middle.shape} and right {self.right.shape} "
                "do not fit together; expected shapes (J, l, k), (J, J', k) and (J', k, l')."
            )
        if len({is_on_gpu(F) for F in parts}) > 1:
            raise ValueError("Some factors are on the host and some on a GPU; move them together.")
        self.is_on_gpu = is_on_gpu(self.left)
        super().__init__(np.result_type(*parts), (n_out * J, n_in * K))

    @classmethod
    def from_operators(cls, first, second):
        """Return the product of a Monarch matrix and the adjoint of another one.

        Parameters
        ----------
        first, second : MonarchOperator
            Of block rank one, with as many blocks of inputs of the same size.

        Returns
        -------
        MonarchProduct
            ``first @ second.H``.

        Raises
        ------
        ValueError
            If the matrices do not fit together, or are cut off.
        """
        for A in (first, second):
            uncut = (A.left.shape[0] * A.left.shape[1], A.right.shape[0] * A.right.shape[2])
            if A.block_rank != 1 or A.shape != uncut:
                raise ValueError(
                    "Both matrices must be of block rank one and not cut off, got block rank "
                    f"{A.block_rank}, shape {A.shape} of {uncut}."
                )
        if first.right.shape[::2] != second.right.shape[::2]:
            raise ValueError(
                f"Both matrices must have the same blocks of inputs, got {first.right.shape[::2]} "
                f"and {second.right.shape[::2]} (number and size)."
            )
        middle = first.right @ second.right.conj().transpose(0, 2, 1)
        return cls(first.left, middle.transpose(1, 2, 0), second.left.conj().transpose(0, 2, 1))

    @classmethod
    def from_matrix(cls, A, *, rtol=1e-6, random_state=None):
        """Return the factors of a matrix that is such a product.

        Parameters
        ----------
        A : array of shape (b * b, b * b)
            All its blocks must be invertible. NumPy, CuPy or torch; real or complex.
        rtol : float, default=1e-6
            Largest error of the product of the factors, relative to the norm of A.
        random_state : int or RandomState, default=None
            For the combination of blocks whose eigenvectors are computed.

        Returns
        -------
        MonarchProduct
            May be complex where A is real.

        Raises
        ------
        numpy.linalg.LinAlgError
            If A is not such a product, or its factors are not determined by it.
        ValueError
            If A is not square or its size is no square number.
        """
        A = checked_array(A, "A")
        b = math.isqrt(len(A))
        if A.shape != (b * b, b * b):
            raise ValueError(f"A must be of shape (b * b, b * b), got {tuple(A.shape)}.")
        wide = A.astype(np.result_type(A.dtype, np.float64), copy=False)
        N = wide.reshape(b, b, b, b).transpose(1, 3, 0, 2)  # N[j, j'] are the blocks (l, l')
        try:
            factors = _factors(N, check_random_state(random_state))
        except np.linalg.LinAlgError as cause:
            raise np.linalg.LinAlgError(f"A is not a generic MM* matrix: {cause}") from cause
        xp, found = compute_namespace(A), cls(*factors)
        error = float(xp.linalg.norm(found.to_dense(force=True) - wide) / xp.linalg.norm(wide))
        if not error <= rtol:  # a GPU answers NaN for the inverse of a singular matrix
            raise np.linalg.LinAlgError(
                f"A is not a generic MM* matrix: its factors reproduce it with error {error:.2g}."
            )
        narrow = A.dtype in (np.float32, np.complex64)
        return cls(*(_narrowed(F) for F in factors)) if narrow else found

    def _matmat(self, X):
        (J, n_out, _), (K, n_in), T = self.left.shape, self.right.shape[::2], X.shape[1]
        Z = self.right @ X.reshape(n_in, K, T).transpose(1, 0, 2)
        Z = self.middle.transpose(2, 0, 1) @ Z.transpose(1, 0, 2)
        Y = self.left @ Z.transpose(1, 0, 2)
        return Y.transpose(1, 0, 2).reshape(n_out * J, T)

    def _rmatmat(self, X):
        return self.H._matmat(X)

    def _dense(self):
        blocks = (self.left[:, None] * self.middle[:, :, None, :]) @ self.right[None]
        return blocks.transpose(2, 0, 3, 1).reshape(self.shape)

    def _adjoint(self):
        return MonarchProduct(*(F.conj() for F in self._turned()))

    def _transpose(self):
        return MonarchProduct(*self._turned())

    def _turned(self):
        """Return the factors of the transpose."""
        return (
            self.right.transpose(0, 2, 1),
            self.middle.transpose(1, 0, 2),
            self.left.transpose(0, 2, 1),
        )


def _factors(N, rng):
    """Return left, middle and right for the blocks N of shape (b, b, b, b).

    The matrices N_00^-1 N_0j N_ij^-1 N_i0 have common eigenvectors, the columns of R_0^-1; a random
    combination has distinct eigenvalues unless all of them share some.
    """
    xp, b = compute_namespace(N), len(N)
    inverses = _inverses(xp, N)
    similar = inverses[0, 0] @ N[:1, 1:] @ inverses[1:, 1:] @ N[1:, :1]
    weights = xp.asarray(rng.normal(size=(b - 1, b - 1)))
    combined = (weights[..., None, None] * similar).sum(axis=(0, 1))
    values, vectors = np.linalg.eig(to_numpy(combined))
    _check_distinct(values)
    V = xp.asarray(vectors)
    left = N[:, 0] @ V  # the diagonals D_i0 are one
    right = xp.linalg.inv(left[0]) @ N[0]  # and D_0j
    right[0] = xp.linalg.inv(V)
    middle = xp.linalg.inv(left)[:, None] @ N @ xp.linalg.inv(right)[None]
    return left, xp.ascontiguousarray(xp.diagonal(middle, axis1=2, axis2=3)), right


def _inverses(xp, N):
    inverses = xp.linalg.inv(N)
    if not bool(xp.isfinite(inverses).all()):
        raise np.linalg.LinAlgError("Singular matrix")
    return inverses


def _check_distinct(values):
    gaps = np.abs(values[:, None] - values) + np.where(np.eye(len(values)), np.inf, 0)
    if gaps.min() < _LEAST_GAP * max(np.abs(values).max(), 1e-300):
        raise np.linalg.LinAlgError("eigenvalues of its blocks are repeated")


def _narrowed(F):
    return F.astype(np.complex64 if F.dtype.kind == "c" else np.float32)
