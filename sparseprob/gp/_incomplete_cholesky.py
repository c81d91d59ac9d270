"""Incomplete Cholesky factors on a given pattern, from the last row to the first."""

import warnings

import numpy as np
from scipy import sparse

from .._arrays import compute_namespace, to_numpy
from .._kernels import kernels
from .._threads import n_threads_allowed
from ._sparse_solves import row_view

_LEAST_PIVOT = 1e-10  # share of a diagonal entry that must be left as pivot
_SHIFTS = (0.0, *(10.0**k for k in range(-7, 5)))  # of the diagonal; small ones spare accuracy


def ichol0(A):
    r"""Incomplete Cholesky factor without fill, upper triangular.

    Finds an upper triangular V with :math:`V V^\top \approx A` whose non-zeros are those of the
    upper triangle of A: columns are worked off from the last to the first, and entries outside the
    pattern are dropped. For a precision matrix in maximin order that is the order in which little
    is lost [Schafer2021]_. With a full pattern it is the exact factor.

    If a pivot is not positive, the diagonal of A is raised by a share of 1e-7, 1e-6, ... of it,
    with a warning.

    Parameters
    ----------
    A : sparse matrix or array of shape (n, n)
        Symmetric, with a positive diagonal.

    Returns
    -------
    V : scipy.sparse.csc_array of shape (n, n)
        Upper triangular, in double precision.

    Raises
    ------
    numpy.linalg.LinAlgError
        If no shift makes the pivots positive.

    References
    ----------
    See [Schafer2021]_.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> from sparseprob.gp import ichol0
    >>> A = sparse.diags_array([[-1.0] * 3, [2.0] * 4, [-1.0] * 3], offsets=[-1, 0, 1])
    >>> V = ichol0(A)
    >>> bool(np.allclose((V @ V.T).toarray(), A.toarray()))
    True
    """
    if not sparse.issparse(A):
        raise TypeError(f"A must be a sparse matrix or array of scipy, got {type(A).__name__}.")
    if A.ndim != 2 or A.shape[0] != A.shape[1]:
        raise ValueError(f"A must be square, got shape {A.shape}.")
    A = sparse.csc_array(A, dtype=np.float64, copy=True)
    A.sum_duplicates()
    if not np.isfinite(A.data).all():
        raise ValueError("A contains NaN or infinity.")
    difference = abs(A - A.T)
    if difference.nnz and difference.max() > 1e-8 * abs(A).max():
        raise ValueError("A must be symmetric; pass (A + A.T) / 2 if it nearly is.")
    diagonal = A.diagonal()
    if len(diagonal) and not diagonal.min() > 0:
        raise ValueError(
            f"A must have a positive diagonal, its smallest entry is {diagonal.min()}."
        )
    upper = sparse.csc_array(sparse.triu(A, format="csc"))
    indptr, indices = upper.indptr.astype(np.int64), upper.indices.astype(np.int32)
    data, n_shifts = incomplete_factor(indptr, indices, upper.data)
    if n_shifts:
        warnings.warn(
            f"The incomplete factor of A broke down; its diagonal was raised by the share "
            f"{_SHIFTS[n_shifts]:g}.",
            UserWarning,
            stacklevel=2,
        )
    return sparse.csc_array((data, indices, indptr), shape=A.shape)


def incomplete_factor(indptr, indices, data):
    """Return the data of V and the number of shifts of the diagonal that it took.

    Parameters
    ----------
    indptr, indices, data : ndarray
        Upper triangle of a symmetric matrix by columns, the diagonal last in each; data is kept.

    Returns
    -------
    V : ndarray of shape (nnz,)
    n_shifts : int
        0 if the factor exists; k if the k-th shift, 10^(k - 8) times the diagonal, made it exist.
    """
    diagonal, xp = indptr[1:] - 1, compute_namespace(data)
    factor_without_fill = kernels("incomplete_cholesky", data).factor_without_fill
    for n_shifts, shift in enumerate(_SHIFTS):
        V = xp.array(data, dtype=np.float64)
        V[diagonal] *= 1 + shift
        floors = _LEAST_PIVOT * V[diagonal]
        failed = factor_without_fill(indptr, indices, V, floors, xp.zeros(len(diagonal)))
        if failed < 0:
            return V, n_shifts
    raise np.linalg.LinAlgError(
        f"The incomplete Cholesky factor broke down at column {failed}, even with its diagonal "
        f"raised {_SHIFTS[-1]:g}-fold; check that all entries are finite."
    )


def gram_on_pattern(indptr, indices, data, W, rows=None):
    """Return the entries of U U^T + diag(W) that are in the pattern of U.

    Parameters
    ----------
    indptr, indices, data : ndarray
        The upper triangular U by columns.
    W : float or ndarray of shape (n,)
        Added to the diagonal.
    rows : RowView, default=None
        The pattern by rows, if it is at hand.

    Returns
    -------
    Q : ndarray of shape (nnz,)
        In the order of data.
    """
    n = len(indptr) - 1
    rows = row_view(indptr, indices) if rows is None else rows
    n_chunks = max(1, min(4 * n_threads_allowed(), n))
    edges = np.searchsorted(to_numpy(rows.starts), np.linspace(0, len(indices), n_chunks + 1))
    edges[0], edges[-1] = 0, n
    places = np.full((n_chunks, n), -1, dtype=np.int32)
    out = compute_namespace(data).empty(len(indices))
    kernels("incomplete_cholesky", data).gram_columns(
        indptr, indices, data, rows.starts, rows.columns, rows.positions, edges, places, out
    )
    out[indptr[1:] - 1] += W
    return out
