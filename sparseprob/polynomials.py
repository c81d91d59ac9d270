"""Orthonormal polynomials in many variables: sets of degrees and the matrices they give.

Bases of S. Mohammad-Taheri, S. Brugiapaglia, arXiv:2303.00844, 2023, section 5.
"""

from bisect import bisect
from functools import lru_cache
from math import comb, sqrt
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state

from ._arrays import compute_dtype, compute_namespace, like, to_compute, to_numpy

__all__ = [
    "intrinsic_weights",
    "is_lower",
    "max_order",
    "multi_index_set",
    "sample_points",
    "tensor_design",
]

_LARGEST = 10**8  # entries of a set of multi-indices; beyond it nothing useful fits in memory


def multi_index_set(kind, n_dims, order):
    r"""List the degrees of the polynomials of a basis, in lexicographic order.

    Parameters
    ----------
    kind : {"hyperbolic_cross", "total_degree", "tensor"}
        Which rows :math:`\nu` belong to the set: :math:`\prod_i (\nu_i + 1) \le` order + 1,
        :math:`\sum_i \nu_i \le` order, or :math:`\max_i \nu_i \le` order.
    n_dims : int
        Number of variables.
    order : int
        Largest degree in one variable.

    Returns
    -------
    indices : int64 array of shape (n_polynomials, n_dims)
        One polynomial a row; the constant comes first.

    Raises
    ------
    ValueError
        If a parameter is out of range, or the set would have more than 1e8 entries.

    References
    ----------
    .. [1] S. Mohammad-Taheri, S. Brugiapaglia. "The greedy side of the LASSO: New algorithms for
       weighted sparse recovery via loss function-based orthogonal matching pursuit". 2023,
       arXiv:2303.00844.

    Examples
    --------
    >>> from sparseprob.polynomials import multi_index_set
    >>> multi_index_set("hyperbolic_cross", 2, 2)
    array([[0, 0],
           [0, 1],
           [0, 2],
           [1, 0],
           [2, 0]])
    """
    _check_set(kind, n_dims, order)
    n = _count(kind, n_dims, order)
    if n * n_dims > _LARGEST:
        raise ValueError(
            f"The {kind} set of order {order} in {n_dims} variables has {n} polynomials, "
            f"too many to list; max_order({kind!r}, {n_dims}, n_max) gives an order that fits."
        )
    heads, budgets = np.zeros((1, 0), dtype=np.int64), np.array([_budget(kind, order)])
    for _ in range(n_dims):  # each row is continued by every degree that its budget allows
        n_next = _n_degrees(kind, budgets)
        parents = np.repeat(np.arange(len(heads)), n_next)
        degrees = np.arange(len(parents)) - np.repeat(np.cumsum(n_next) - n_next, n_next)
        heads = np.column_stack([heads[parents], degrees])
        budgets = _spend(kind, budgets[parents], degrees)
    return heads


def max_order(kind, n_dims, n_max):
    """Largest order whose set has at most a given number of polynomials.

    Parameters
    ----------
    kind : {"hyperbolic_cross", "total_degree", "tensor"}
        As in `multi_index_set`.
    n_dims : int
        Number of variables.
    n_max : int
        Largest number of polynomials.

    Returns
    -------
    order : int

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Examples
    --------
    >>> from sparseprob.polynomials import max_order, multi_index_set
    >>> order = max_order("hyperbolic_cross", 5, 500)
    >>> order, len(multi_index_set("hyperbolic_cross", 5, order))
    (18, 426)
    """
    _check_set(kind, n_dims, 0)
    _check_integer("n_max", n_max, 1)
    above = 1
    while _count(kind, n_dims, above) <= n_max:
        above *= 2
    return bisect(range(above), n_max, key=lambda order: _count(kind, n_dims, order)) - 1


def is_lower(indices):
    """Whether a set of multi-indices is lower: with a row, it has all rows of smaller degrees.

    Parameters
    ----------
    indices : int array of shape (n_polynomials, n_dims)
        Degrees, in any order.

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        If the indices are not a table of non-negative integers.

    Examples
    --------
    >>> from sparseprob.polynomials import is_lower
    >>> is_lower([[0, 0], [0, 1], [1, 0]]), is_lower([[0, 0], [1, 1]])
    (True, False)
    """
    indices = _check_indices(indices)
    members = {tuple(row) for row in indices.tolist()}
    for row in members:  # one step down in each variable is enough
        for i, degree in enumerate(row):
            if degree and (*row[:i], degree - 1, *row[i + 1 :]) not in members:
                return False
    return True


def tensor_design(kind, indices, points):
    r"""Evaluate orthonormal polynomials in many variables at given points.

    A polynomial is a product :math:`\Psi_\nu(t) = \prod_i \psi_{\nu_i}(t_i)`, with
    :math:`\psi_n = \sqrt{2n+1}\,P_n`, orthonormal under the uniform measure on [-1, 1], or
    :math:`\psi_0 = 1`, :math:`\psi_n(t) = \sqrt2 \cos(n \arccos t)`, orthonormal under the arcsine
    measure. For a measurement matrix divide by the root of the number of points.

    Parameters
    ----------
    kind : {"legendre", "chebyshev"}
        The polynomials in one variable.
    indices : int array of shape (n_polynomials, n_dims)
        Degrees, as from `multi_index_set`.
    points : array of shape (n_points, n_dims)
        Points of the cube [-1, 1]^d; any array library.

    Returns
    -------
    design : array of shape (n_points, n_polynomials)
        In the library, on the device and in the precision of the points.

    Raises
    ------
    ValueError
        If a point is outside the cube, the number of variables differs, or `kind` is unknown.

    References
    ----------
    .. [1] S. Mohammad-Taheri, S. Brugiapaglia. "The greedy side of the LASSO: New algorithms for
       weighted sparse recovery via loss function-based orthogonal matching pursuit". 2023,
       arXiv:2303.00844.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.polynomials import tensor_design
    >>> tensor_design("chebyshev", [[0], [1], [2]], np.array([[1.0], [0.0]])).round(4)
    array([[ 1.    ,  1.4142,  1.4142],
           [ 1.    ,  0.    , -1.4142]])
    """
    values = _choose(_VALUES, kind)
    indices, T = _check_indices(indices), to_compute(points)
    if T.ndim != 2 or T.shape[1] != indices.shape[1]:
        raise ValueError(
            f"points must have shape (n_points, {indices.shape[1]}) for indices of shape "
            f"{indices.shape}, got {tuple(T.shape)}."
        )
    if T.dtype.kind not in "fiu":
        raise ValueError(f"points must be real numbers, got dtype {T.dtype}.")
    xp = compute_namespace(T)
    T = xp.asarray(T, dtype=compute_dtype(T))
    if not bool(xp.all(xp.abs(T) <= 1)):
        raise ValueError("points must lie in [-1, 1]; scale them, and remove NaN.")
    design = xp.ones((T.shape[0], len(indices)), dtype=T.dtype)
    for i in range(indices.shape[1]):
        table = values(T[:, i], int(indices[:, i].max()), xp)
        used = np.flatnonzero(indices[:, i])
        degrees, used = xp.asarray(indices[used, i]), xp.asarray(used)
        design[:, used] *= table[degrees].T
    return like(design, points)


def sample_points(kind, n_points, n_dims, *, random_state=None):
    """Draw points from the measure under which the polynomials are orthonormal.

    Parameters
    ----------
    kind : {"legendre", "chebyshev"}
        Uniform on the cube for Legendre, the arcsine measure for Chebyshev polynomials.
    n_points, n_dims : int
        Size of the sample and number of variables.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    points : float64 array of shape (n_points, n_dims)
        Within [-1, 1]^d.

    Raises
    ------
    ValueError
        If `kind` is unknown.

    Examples
    --------
    >>> from sparseprob.polynomials import sample_points
    >>> sample_points("chebyshev", 100, 3, random_state=0).shape
    (100, 3)
    """
    from_uniform = _choose(_FROM_UNIFORM, kind)
    uniform = check_random_state(random_state).uniform(-1, 1, size=(n_points, n_dims))
    return from_uniform(uniform)


def intrinsic_weights(kind, indices):
    r"""Largest absolute values of the polynomials on the cube, the natural weights of a pursuit.

    :math:`\prod_i \sqrt{2\nu_i + 1}` for Legendre, :math:`2^{\|\nu\|_0 / 2}` for Chebyshev
    polynomials.

    Parameters
    ----------
    kind : {"legendre", "chebyshev"}
        The polynomials in one variable, as in `tensor_design`.
    indices : int array of shape (n_polynomials, n_dims)
        Degrees.

    Returns
    -------
    weights : float64 array of shape (n_polynomials,)

    Raises
    ------
    ValueError
        If `kind` is unknown or the indices are not a table of non-negative integers.

    Examples
    --------
    >>> from sparseprob.polynomials import intrinsic_weights
    >>> intrinsic_weights("chebyshev", [[0, 0], [3, 0], [1, 2]]).round(4)
    array([1.    , 1.4142, 2.    ])
    """
    squares = _choose(_SQUARED_MAXIMA, kind)
    return np.sqrt(squares(_check_indices(indices)).prod(axis=1))


def _legendre(t, degree, xp):
    """Rows sqrt(2n + 1) P_n(t) for n up to `degree`, by the three-term recurrence."""
    table = xp.ones((degree + 1, len(t)), dtype=t.dtype)
    if degree:
        table[1] = t
    for n in range(1, degree):
        table[n + 1] = ((2 * n + 1) * t * table[n] - n * table[n - 1]) / (n + 1)
    return table * xp.asarray(np.sqrt(2 * np.arange(degree + 1) + 1.0), dtype=t.dtype)[:, None]


def _chebyshev(t, degree, xp):
    """Rows sqrt(2) cos(n arccos t) for n up to `degree`; the first is 1."""
    degrees = xp.arange(degree + 1, dtype=t.dtype)
    table = sqrt(2) * xp.cos(degrees[:, None] * xp.arccos(t))
    table[0] = 1
    return table


_VALUES = {"legendre": _legendre, "chebyshev": _chebyshev}
_FROM_UNIFORM = {
    "legendre": lambda uniform: uniform,
    "chebyshev": lambda uniform: np.sin(np.pi / 2 * uniform),
}
_SQUARED_MAXIMA = {
    "legendre": lambda indices: 2.0 * indices + 1,
    "chebyshev": lambda indices: np.where(indices > 0, 2.0, 1.0),
}


def _budget(kind, order):
    """What a multi-index may spend: a product of (degree + 1), or a sum or largest degree."""
    return order + 1 if kind == "hyperbolic_cross" else order


def _n_degrees(kind, budget):
    """Number of degrees that the next variable may take."""
    return budget if kind == "hyperbolic_cross" else budget + 1


def _spend(kind, budget, degree):
    if kind == "tensor":
        return budget
    return budget // (degree + 1) if kind == "hyperbolic_cross" else budget - degree


def _count(kind, n_dims, order):
    """Number of polynomials of a set, without listing them."""
    if kind == "tensor":
        return (order + 1) ** n_dims
    if kind == "total_degree":
        return comb(n_dims + order, n_dims)
    return _count_products(n_dims, order + 1)


@lru_cache(maxsize=100_000)
def _count_products(n_factors, bound):
    """Number of tuples of positive integers whose product is at most `bound`."""
    if n_factors == 1:
        return bound
    half = n_factors // 2
    total, first = 0, 1
    while first <= bound:  # factors with the same quotient are counted together
        last = bound // (bound // first)
        ways = _count_products(half, last) - _count_products(half, first - 1)
        total += ways * _count_products(n_factors - half, bound // first)
        first = last + 1
    return total


def _check_set(kind, n_dims, order):
    if kind not in ("hyperbolic_cross", "total_degree", "tensor"):
        raise ValueError(
            f"kind must be 'hyperbolic_cross', 'total_degree' or 'tensor', got {kind!r}."
        )
    _check_integer("n_dims", n_dims, 1)
    _check_integer("order", order, 0)


def _check_integer(name, value, smallest):
    if not isinstance(value, Integral) or value < smallest:
        raise ValueError(f"{name} must be an integer of at least {smallest}, got {value!r}.")


def _check_indices(indices):
    indices = np.asarray(to_numpy(indices))
    if indices.ndim != 2 or 0 in indices.shape or indices.dtype.kind not in "iu":
        raise ValueError(
            "indices must be a table of integers, one polynomial a row, "
            f"got shape {indices.shape} and dtype {indices.dtype}."
        )
    if indices.min() < 0:
        raise ValueError(f"indices must not be negative, got {indices.min()}.")
    return indices.astype(np.int64)


def _choose(table, kind):
    if kind not in table:
        raise ValueError(f"kind must be 'legendre' or 'chebyshev', got {kind!r}.")
    return table[kind]
