"""Linear operators that are never formed, and the nearest ones to a given matrix.

C. F. Van Loan, "The ubiquitous Kronecker product", J. Comput. Appl. Math. 123:85-100, 2000.
"""

import math

import numpy as np

from ._array_operator import ArrayOperator, checked_array
from ._arrays import compute_namespace, is_array, is_on_gpu, to_numpy
from ._monarch import MonarchOperator, monarch_project
from ._monarch_product import MonarchProduct
from ._nearest_kronecker import nearest_kronecker

__all__ = [
    "KroneckerOperator",
    "MonarchOperator",
    "MonarchProduct",
    "monarch_project",
    "nearest_kronecker",
]


class KroneckerOperator(ArrayOperator):
    r"""The Kronecker product :math:`A_1 \otimes \dots \otimes A_K`, known by its factors.

    With x the entries of a tensor X in C order, A x holds the entries of
    :math:`X \times_1 A_1 \dots \times_K A_K`. Products run along one mode after the other, in the
    order that costs the fewest operations.

    Parameters
    ----------
    factors : sequence of arrays of shape (M_k, N_k)
        NumPy, CuPy or torch, real or complex; integers become float64. They are not copied.

    Attributes
    ----------
    factors : tuple of arrays
        The factors as NumPy or CuPy arrays.
    shape : tuple (M, N)
        The products of the M_k and of the N_k.
    output_shape, input_shape : tuple
        The M_k and the N_k.
    dtype : numpy.dtype
    is_on_gpu : bool
        Whether the factors are on a GPU; then `matmat` and its siblings take CuPy arrays.

    Raises
    ------
    ValueError
        If there is no factor, or one is not a matrix, is empty, or has NaN or infinity.
    TypeError
        If a factor is not numeric or is float16.

    References
    ----------
    .. [1] C. F. Van Loan. "The ubiquitous Kronecker product". Journal of Computational and Applied
       Mathematics 123:85-100, 2000.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.linear_operators import KroneckerOperator
    >>> A = KroneckerOperator([np.ones((2, 3)), np.eye(4)])
    >>> A.shape
    (8, 12)
    >>> A @ np.arange(12.0)
    array([12., 15., 18., 21., 12., 15., 18., 21.])
    """

    def __init__(self, factors):
        self.factors = check_factors(factors)
        self.output_shape, self.input_shape = (
            tuple(int(F.shape[side]) for F in self.factors) for side in (0, 1)
        )
        self.is_on_gpu = is_on_gpu(self.factors[0])
        shape = (math.prod(self.output_shape), math.prod(self.input_shape))
        super().__init__(np.result_type(*self.factors), shape)

    def column(self, j):
        """Return one column.

        Parameters
        ----------
        j : int
            From -N to N - 1.

        Returns
        -------
        array of shape (M,)

        Raises
        ------
        IndexError
            If there is no such column.
        """
        N = self.shape[1]
        if not -N <= j < N:
            raise IndexError(f"column {j} does not exist; the operator has {N} columns.")
        where = np.unravel_index(j % N, self.input_shape)
        return outer([F[:, i] for F, i in zip(self.factors, where, strict=True)]).ravel()

    def gram_diag(self):
        """Return the squared lengths of the columns.

        Returns
        -------
        real array of shape (N,)
            The diagonal of the Gram matrix.
        """
        xp = compute_namespace(self.factors[0])
        return outer([(xp.abs(F) ** 2).sum(axis=0) for F in self.factors]).ravel()

    def _dense(self):
        xp = compute_namespace(self.factors[0])
        dense = self.factors[0]
        for F in self.factors[1:]:
            dense = xp.kron(dense, F)
        return dense

    def _matmat(self, X):
        tensor = X.T.reshape(-1, *self.input_shape)
        return mode_products(tensor, self.factors).reshape(-1, self.shape[0]).T

    def _rmatmat(self, X):
        return self.H._matmat(X)

    def _adjoint(self):
        return KroneckerOperator([F.conj().T for F in self.factors])

    def _transpose(self):
        return KroneckerOperator([F.T for F in self.factors])


def check_factors(factors):
    """Return the factors as NumPy or CuPy arrays of one floating type each."""
    if is_array(factors) or not hasattr(factors, "__len__"):
        raise TypeError(
            f"factors must be a list of 2-D arrays, got {type(factors).__name__}; put the matrices "
            "in a list."
        )
    if len(factors) == 0:
        raise ValueError("factors is empty; give at least one 2-D array.")
    checked = tuple(checked_array(F, f"factor {k}") for k, F in enumerate(factors))
    if len({is_on_gpu(F) for F in checked}) > 1:
        raise ValueError("Some factors are on the host and some on a GPU; move them together.")
    return checked


def outer(vectors):
    """Return the tensor whose entries are the products of one entry of each vector."""
    tensor = vectors[0]
    for v in vectors[1:]:
        tensor = tensor[..., None] * v
    return tensor


def grid(xp, *positions):
    """Return what indexes the entries of a tensor at all combinations of positions."""
    return xp.ix_(*[xp.asarray(to_numpy(i)).astype(np.int64) for i in positions])


def mode_products(tensor, matrices):
    r"""Return :math:`T \times_1 F_1 \dots \times_K F_K` for every tensor of a stack.

    Of two modes the one with the smaller 1/n - 1/m goes first, for F of shape (m, n): exchanging
    neighbors shows that this order needs the fewest operations, and it keeps tensors small.

    Parameters
    ----------
    tensor : array of shape (T, n_1, ..., n_K)
    matrices : sequence of arrays of shape (m_k, n_k)

    Returns
    -------
    array of shape (T, m_1, ..., m_K)
    """
    order = sorted(
        range(len(matrices)), key=lambda k: 1 / matrices[k].shape[1] - 1 / matrices[k].shape[0]
    )
    for k in order:
        tensor = mode_product(tensor, matrices[k], k + 1)
    return tensor


def mode_product(tensor, F, axis):
    """Return the tensor with F of shape (m, n) applied along an axis of length n."""
    before, after = tensor.shape[:axis], tensor.shape[axis + 1 :]
    n_before, n_after = math.prod(before), math.prod(after)
    if n_after == 1:
        product = tensor.reshape(n_before, F.shape[1]) @ F.T
    else:
        product = F @ tensor.reshape(n_before, F.shape[1], n_after)
    return product.reshape(*before, F.shape[0], *after)
