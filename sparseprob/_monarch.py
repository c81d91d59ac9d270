"""Monarch matrices: two block-diagonal factors with a transposition between, and projection.

T. Dao and others, "Monarch: Expressive structured matrices for efficient and accurate training",
ICML 2022.
"""

import math

import numpy as np

from ._array_operator import AdjointOperator, ArrayOperator, checked_array, is_count
from ._arrays import compute_namespace, is_array, is_on_gpu, like
from ._truncation import truncated

_LOPSIDED = 4  # a factor pair further apart than this is not near the root


class MonarchOperator(ArrayOperator):
    r"""A Monarch matrix, known by its two factors.

    Inputs are cut into k consecutive blocks, :math:`x_{k i}`; outputs :math:`y_{l j}` are sorted by
    their residue j, which is the fastest index. Then

    .. math:: y_{lj} = \sum_{k, t} L_{j, l, (k, t)} \sum_i R_{k, (j, t), i} \, x_{ki}

    so that block k of the inputs meets residue j of the outputs in a matrix of rank at most r,
    whatever the others are. With as many blocks of as many inputs, and r = 1, these are the Monarch
    matrices :math:`P L P^T R`.

    Parameters
    ----------
    left : array of shape (J, l, k * r)
        Block-diagonal factor that is applied last.
    right : array of shape (k, J * r, i)
        Block-diagonal factor that is applied first.
    shape : tuple (M, N), default=None
        At most (l * J, k * i), the default. Missing inputs are zero, surplus outputs are cut off.

    Attributes
    ----------
    left, right : array
        The factors as NumPy or CuPy arrays.
    shape : tuple (M, N)
        Shape of the matrix.
    block_rank : int
        Rank r of the blocks.
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
    >>> from sparseprob.linear_operators import MonarchOperator
    >>> A = MonarchOperator(np.ones((3, 2, 2)), np.ones((2, 3, 4)))
    >>> A.shape
    (6, 8)
    >>> A @ np.ones(8)
    array([8., 8., 8., 8., 8., 8.])
    """

    def __init__(self, left, right, shape=None):
        self.left, self.right = checked_array(left, "left", 3), checked_array(right, "right", 3)
        if is_on_gpu(self.left) != is_on_gpu(self.right):
            raise ValueError("One factor is on the host and one on a GPU; move one of them.")
        self.is_on_gpu = is_on_gpu(self.left)
        (J, n_outputs, width), (k, height, n_inputs) = self.left.shape, self.right.shape
        if width % k or height % J or width // k != height // J:
            raise ValueError(
                f"left of shape {self.left.shape} and right of shape {self.right.shape} do not "
                f"fit together; expected shapes ({J}, l, {k} r) and ({k}, {J} r, i)."
            )
        self.block_rank, full = width // k, (n_outputs * J, k * n_inputs)
        shape = full if shape is None else tuple(int(n) for n in shape)
        if len(shape) != 2 or not all(1 <= n <= m for n, m in zip(shape, full, strict=True)):
            raise ValueError(f"shape must be at most {full} for these factors, got {shape}.")
        super().__init__(np.result_type(self.left, self.right), shape)

    def _matmat(self, X):
        (J, n_outputs, _), (k, _, n_inputs) = self.left.shape, self.right.shape
        r, T = self.block_rank, X.shape[1]
        X = _padded(X, k * n_inputs).reshape(k, n_inputs, T)
        inner = (self.right @ X).reshape(k, J, r, T).transpose(1, 0, 2, 3)
        Y = self.left @ inner.reshape(J, k * r, T)
        return Y.transpose(1, 0, 2).reshape(n_outputs * J, T)[: self.shape[0]]

    def _rmatmat(self, Y):
        (J, n_outputs, _), (k, _, n_inputs) = self.left.shape, self.right.shape
        r, T = self.block_rank, Y.shape[1]
        Y = _padded(Y, J * n_outputs).reshape(n_outputs, J, T).transpose(1, 0, 2)
        inner = (self.left.conj().transpose(0, 2, 1) @ Y).reshape(J, k, r, T)
        inner = inner.transpose(1, 0, 2, 3).reshape(k, J * r, T)
        X = self.right.conj().transpose(0, 2, 1) @ inner
        return X.reshape(k * n_inputs, T)[: self.shape[1]]

    def _dense(self):
        return monarch_dense(self.left, self.right, self.shape)

    def _adjoint(self):
        return AdjointOperator(self)

    def _transpose(self):
        return AdjointOperator(MonarchOperator(self.left.conj(), self.right.conj(), self.shape))


def monarch_project(M, n_blocks="sqrt", block_rank=1):
    r"""Return the Monarch matrix nearest to a matrix, in the Frobenius norm.

    The sub-matrices of M in which one block of inputs meets one residue of outputs are disjoint,
    and only the rank of each is bounded; truncating the singular values of each is the optimum.

    Parameters
    ----------
    M : array of shape (d_out, d_in)
        NumPy, CuPy or torch; real or complex.
    n_blocks : int, tuple of two int, or "sqrt", default="sqrt"
        Number of blocks of inputs and of residues of outputs. "sqrt" takes for the inputs the
        larger, for the outputs the smaller factor of the pair nearest to the root of the size.
    block_rank : int, default=1
        Rank r of the sub-matrices.

    Returns
    -------
    left : array of shape (J, ceil(d_out / J), k * r)
        Factors for `MonarchOperator`, in the library and on the device of M. Sizes that the
        numbers of blocks do not divide are rounded up; what is added is zero.
    right : array of shape (k, J * r, ceil(d_in / k))
        The factor that is applied first.

    Raises
    ------
    ValueError
        If `n_blocks` or `block_rank` do not fit the matrix.

    See Also
    --------
    MonarchOperator : Products with the result.

    References
    ----------
    See [Dao2022]_.

    Examples
    --------
    The discrete Fourier transform is a Monarch matrix, once its columns are sorted:

    >>> import numpy as np
    >>> from sparseprob.linear_operators import MonarchOperator, monarch_project
    >>> F = np.fft.fft(np.eye(36))[:, np.arange(36).reshape(6, 6).T.ravel()]
    >>> left, right = monarch_project(F)
    >>> np.allclose(MonarchOperator(left, right).to_dense(), F)
    True
    >>> left.size + right.size, F.size
    (432, 1296)
    """
    A = checked_array(M, "M")
    counts = block_counts(n_blocks, *A.shape)
    check_block_rank(block_rank, counts, A.shape)
    left, right = monarch_factors(monarch_blocks(A, counts), block_rank)
    return (like(left, M), like(right, M)) if is_array(M) else (left, right)


def block_counts(n_blocks, d_out, d_in):
    """Return the numbers of blocks of inputs and of residues of outputs."""
    if isinstance(n_blocks, str) and n_blocks == "sqrt":
        return _near_root(d_in)[0], _near_root(d_out)[1]
    pair = tuple(n_blocks) if hasattr(n_blocks, "__len__") else (n_blocks, n_blocks)
    if len(pair) != 2 or not all(map(is_count, pair)):
        raise ValueError(
            f"n_blocks must be a positive number, two of them or 'sqrt', got {n_blocks!r}."
        )
    if pair[0] > d_in or pair[1] > d_out:
        raise ValueError(
            f"n_blocks must be from 1 to the size of the layer, ({d_in} inputs, {d_out} outputs), "
            f"got {n_blocks!r}."
        )
    return tuple(int(n) for n in pair)


def _near_root(n):
    """Return the pair of factors nearest to the root of n, or of a size a little above it."""
    small = next(i for i in range(math.isqrt(n), 0, -1) if n % i == 0)
    if n // small <= _LOPSIDED * small:
        return n // small, small
    side = math.isqrt(n - 1) + 1
    return side, -(-n // side)


def block_shape(counts, shape):
    """Return the shape (l, i) of the sub-matrices."""
    return -(-shape[0] // counts[1]), -(-shape[1] // counts[0])


def rank_that_fits(counts, shape, compression):
    """Return the largest block rank with which a share `compression` of the numbers is saved."""
    per_rank = math.prod(counts) * sum(block_shape(counts, shape))
    return math.floor((1 - compression) * math.prod(shape) / per_rank)


def check_block_rank(block_rank, counts, shape):
    """Refuse ranks that sub-matrices cannot have."""
    most = min(block_shape(counts, shape))
    if not is_count(block_rank, most):
        raise ValueError(
            f"block_rank must be from 1 to {most} for {counts[0]} x {counts[1]} blocks of a matrix "
            f"of shape {tuple(shape)}, got {block_rank!r}."
        )


def monarch_blocks(A, counts):
    """Return the sub-matrices of A, of shape (k, J, l, i), padded by zeros."""
    (k, J), (n_outputs, n_inputs) = counts, block_shape(counts, A.shape)
    if A.shape != (n_outputs * J, k * n_inputs):
        padded = compute_namespace(A).zeros((n_outputs * J, k * n_inputs), dtype=A.dtype)
        padded[: A.shape[0], : A.shape[1]] = A
        A = padded
    return A.reshape(n_outputs, J, k, n_inputs).transpose(2, 1, 0, 3)


def monarch_factors(blocks, block_rank):
    """Return left and right of the sub-matrices of shape (k, J, l, i) truncated to a rank."""
    xp, (k, J, n_outputs, n_inputs) = compute_namespace(blocks), blocks.shape
    left, right = truncated(blocks, block_rank)
    return (
        xp.ascontiguousarray(left.transpose(1, 2, 0, 3)).reshape(J, n_outputs, k * block_rank),
        right.reshape(k, J * block_rank, n_inputs),
    )


def monarch_dense(left, right, shape):
    """Return the matrix of given factors."""
    (J, n_outputs, width), (k, _, n_inputs) = left.shape, right.shape
    r = width // k
    L = left.reshape(J, n_outputs, k, r).transpose(2, 0, 1, 3)
    blocks = L @ right.reshape(k, J, r, n_inputs)
    dense = blocks.transpose(2, 1, 0, 3).reshape(n_outputs * J, k * n_inputs)
    return dense[: shape[0], : shape[1]]


def _padded(X, n_rows):
    """Return X with rows of zeros at its end."""
    if len(X) == n_rows:
        return X
    xp = compute_namespace(X)
    return xp.concatenate([X, xp.zeros((n_rows - len(X), X.shape[1]), dtype=X.dtype)])
