"""The sum of Kronecker products nearest to a matrix.

C. F. Van Loan, N. Pitsianis, "Approximation with Kronecker products", 1993.
"""

import math

from ._array_operator import checked_array, is_count
from ._arrays import compute_namespace, is_array, like
from ._truncation import truncated


def nearest_kronecker(M, shape_V, shape_W, n_terms=1):
    r"""Return the sum of Kronecker products nearest to a matrix.

    Minimizes :math:`\|M - \sum_t V_t \otimes W_t\|_F`. The entries of M, ordered so that each
    block becomes a row, form a matrix in which Kronecker products have rank one; its leading
    singular vectors are the answer.

    Parameters
    ----------
    M : array of shape (a * c, b * d)
        NumPy, CuPy or torch; real or complex.
    shape_V : tuple (a, b)
        Shape of the left factors.
    shape_W : tuple (c, d)
        Shape of the right factors, which are the blocks of the product.
    n_terms : int, default=1
        Number of products, at most min(a * b, c * d), which reproduces M.

    Returns
    -------
    V : array of shape (n_terms, a, b)
        The product with the largest norm first; both factors of a product have the same norm.
        In the library and on the device of M.
    W : array of shape (n_terms, c, d)
        The right factors.

    Raises
    ------
    ValueError
        If the shapes do not multiply to that of M, or there are too many terms.

    References
    ----------
    See [VanLoan1993]_.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.linear_operators import nearest_kronecker
    >>> A, B = np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]])
    >>> V, W = nearest_kronecker(np.kron(A, B), (1, 2), (2, 1))
    >>> np.allclose(np.kron(V[0], W[0]), np.kron(A, B))
    True
    """
    A = checked_array(M, "M")
    (a, b), (c, d) = (_shape(s, name) for s, name in ((shape_V, "shape_V"), (shape_W, "shape_W")))
    if A.shape != (a * c, b * d):
        raise ValueError(
            f"Products of factors of shapes ({a}, {b}) and ({c}, {d}) are of shape "
            f"({a * c}, {b * d}), but M is of shape {tuple(A.shape)}; choose others."
        )
    if not is_count(n_terms, min(a * b, c * d)):
        raise ValueError(f"n_terms must be from 1 to {min(a * b, c * d)}, got {n_terms!r}.")
    V, W = kronecker_terms(A, (a, b), (c, d), n_terms)
    return (like(V, M), like(W, M)) if is_array(M) else (V, W)


def kronecker_terms(A, shape_V, shape_W, n_terms):
    """Return the factors of the nearest sum of products, for checked arguments."""
    xp = compute_namespace(A)
    left, right = truncated(rearranged(A, shape_V, shape_W), n_terms)
    V = xp.ascontiguousarray(left.T).reshape(n_terms, *shape_V)
    return V, xp.ascontiguousarray(right).reshape(n_terms, *shape_W)


def rearranged(A, shape_V, shape_W):
    """Return the matrix of shape (a * b, c * d) whose row (i, j) is the block (i, j) of A."""
    (a, b), (c, d) = shape_V, shape_W
    return A.reshape(a, c, b, d).transpose(0, 2, 1, 3).reshape(a * b, c * d)


def _shape(shape, name):
    shape = tuple(shape) if hasattr(shape, "__len__") else (shape,)
    if len(shape) != 2 or not all(map(is_count, shape)):
        raise ValueError(f"{name} must be two positive numbers, got {shape!r}.")
    return tuple(int(n) for n in shape)


def kronecker_shapes(shapes, d_out, d_in):
    """Return the shapes (a, b) and (c, d) of the factors of a layer."""
    if shapes is None:
        (low_out, high_out), (low_in, high_in) = _factor_pair(d_out), _factor_pair(d_in)
        crosswise = (high_out, low_in), (low_out, high_in)
        lengthwise = (high_out, high_in), (low_out, low_in)
        return min(crosswise, lengthwise, key=lambda s: math.prod(s[0]) + math.prod(s[1]))
    pairs = [tuple(s) if hasattr(s, "__len__") else (s,) for s in shapes]
    whole = all(is_count(n) for s in pairs for n in s)
    if len(pairs) != 2 or not all(len(s) == 2 for s in pairs) or not whole:
        raise ValueError(f"shapes must be two pairs of positive numbers, got {shapes!r}.")
    (a, b), (c, d) = pairs
    if (a * c, b * d) != (d_out, d_in):
        raise ValueError(
            f"Products of factors of shapes {tuple(pairs)} are of shape ({a * c}, {b * d}), the "
            f"weight is of shape ({d_out}, {d_in}); choose shapes that multiply to it."
        )
    return (int(a), int(b)), (int(c), int(d))


def _factor_pair(n):
    """Return the factors of n nearest to its root, the smaller one first."""
    small = next(i for i in range(math.isqrt(n), 0, -1) if n % i == 0)
    return small, n // small
