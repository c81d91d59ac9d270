"""Sparse inverse Cholesky factors in closed form (Schäfer, Katzfuss & Owhadi, 2021)."""

import numpy as np
from scipy.sparse import csc_array

from .. import mpi
from .._arrays import compute_namespace, is_on_gpu, like, to_compute, to_numpy
from ._covariance import read_covariance


def sic_factor(kernel, X, indptr, indices, nugget=1e-6):
    r"""Return the sparse inverse Cholesky factor of a covariance matrix.

    Of all upper triangular matrices U with the given pattern, the one for which
    :math:`\mathcal N(0, (U U^T)^{-1})` is closest to :math:`\mathcal N(0, K + \tau I)` in
    Kullback-Leibler divergence. Columns are independent: column j is the last column of the
    inverse transposed Cholesky factor of the covariance of the points in its pattern.

    Parameters
    ----------
    kernel : kernel object
        Products of ConstantKernel with Matern (nu 0.5, 1.5, 2.5), RBF or RationalQuadratic of
        scikit-learn, and sums of these; or a gpytorch kernel.
    X : array of shape (n, d)
        Points in their order, coarse to fine.
    indptr : int64 array of shape (n + 1,)
    indices : int32 array of shape (nnz,)
        Column j of the pattern is ``indices[indptr[j]:indptr[j + 1]]``, ascending and j last, as
        `nearest_predecessors` returns it.
    nugget : float, default=1e-6
        The number :math:`\tau` added to the diagonal. Columns that cannot be factored with it get
        more, tenfold up to a thousandth of the prior variance.

    Returns
    -------
    U : csc_array of shape (n, n)
        On the device of X.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a column cannot be factored with the largest nugget.

    Notes
    -----
    Costs :math:`O(n m^3)` operations for m entries a column, and memory for the result alone. Under
    ``with sparseprob.distributed():`` all ranks pass all points; each computes its share of the
    columns.

    References
    ----------
    See [Schafer2021]_.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import Matern
    >>> from sparseprob.gp import sic_factor
    >>> X = np.array([[0.0], [1.0], [0.5]])
    >>> indptr, indices = np.array([0, 1, 3, 6]), np.array([0, 0, 1, 0, 1, 2], dtype=np.int32)
    >>> U = sic_factor(Matern(nu=0.5), X, indptr, indices, nugget=0.0)
    >>> np.allclose((U @ U.T) @ Matern(nu=0.5)(X), np.eye(3))
    True
    """
    A, indptr, indices = _checked(X, indptr, indices)
    covariance = as_covariance(kernel, A.shape[1])
    data, failed = factor_data(covariance, A, indptr, indices, nugget)
    count_failed(failed)
    return as_csc(data, indices, indptr)


def vecchia_loglik(kernel, X, y, indptr, indices, noise_variance):
    r"""Return the Vecchia approximation of the log likelihood of noisy values.

    It is the sum of the log densities of every value given those of its pattern,
    :math:`\sum_j \log R_{jj} - \tfrac12 \|R^T y\|^2 - \tfrac n2 \log 2 \pi`, with the factor R of
    the covariance of the values; with full patterns it is exact.

    Parameters
    ----------
    kernel : kernel object
        See `sic_factor`.
    X : array of shape (n, d)
        Points in their order.
    y : array of shape (n,)
        Values of mean zero, in the same order.
    indptr : int64 array of shape (n + 1,)
    indices : int32 array of shape (nnz,)
        The pattern, see `sic_factor`.
    noise_variance : float

    Returns
    -------
    log_likelihood : float
        Under ``with sparseprob.distributed():``, where all ranks pass all points, of all columns.

    References
    ----------
    See [Vecchia1988]_ and [Katzfuss2021]_.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from sparseprob.gp import vecchia_loglik
    >>> X, y = np.array([[0.0], [1.0]]), np.array([1.0, -1.0])
    >>> indptr, indices = np.array([0, 1, 3]), np.array([0, 0, 1], dtype=np.int32)
    >>> round(vecchia_loglik(RBF(), X, y, indptr, indices, 0.5), 4)
    -3.2733
    """
    A, indptr, indices = _checked(X, indptr, indices)
    covariance = as_covariance(kernel, A.shape[1])
    residual = like(np.asarray(to_numpy(y), dtype=np.float64), A)
    if residual.shape != (len(A),):
        raise ValueError(f"y must have shape ({len(A)},) as X has rows, got {residual.shape}.")
    terms = covariance.terms(A)
    value, *_ = response_sums(terms, noise_variance, indptr, indices, residual, len(A), 0)
    return float(value)


def as_covariance(kernel, n_features):
    """Return a kernel object as a `Covariance`; one that is a `Covariance` as it is."""
    return kernel if hasattr(kernel, "terms") else read_covariance(kernel, n_features)


def as_csc(data, indices, indptr, shape=None):
    """Return a sparse matrix by columns in the library of its entries."""
    shape = (len(indptr) - 1,) * 2 if shape is None else shape
    if is_on_gpu(data):
        from cupyx.scipy.sparse import csc_matrix

        return csc_matrix((data, indices, indptr), shape=shape)
    return csc_array((data, indices, indptr), shape=shape)


def factor_data(covariance, A, indptr, indices, nugget):
    """Return the entries of the factor, column by column, and how often columns failed.

    A (n, d) and the pattern are NumPy or CuPy. Under `distributed` ranks share the columns.
    """
    n, xp = len(indptr) - 1, compute_namespace(A)
    data, failed = xp.empty(len(indices)), xp.zeros(n, dtype=np.int8)
    mine = mpi.row_slice(n)
    terms = covariance.terms(A)
    terms.kernels("inverse_cholesky").factor_columns(
        *terms, float(nugget), indptr, indices, mine.start, mine.stop, data, failed
    )
    if mpi.n_ranks() > 1:
        entries = slice(int(indptr[mine.start]), int(indptr[mine.stop]))
        data, failed = (
            like(np.concatenate(mpi.all_gather(to_numpy(part))), A)
            for part in (data[entries], failed[mine])
        )
    return data, failed


def response_sums(terms, noise, indptr, indices, residual, n_columns, n_lengthscales):
    """Log likelihood of the first columns, gradient, information, number that needed jitter.

    They are those over all ranks. Gradient and Fisher information are by the internal parameters
    and at last the log noise, on the host; with ``n_lengthscales=0`` they are empty.
    """
    mine = mpi.row_slice(n_columns)
    xp = compute_namespace(residual)
    failed = xp.zeros(len(indptr) - 1, dtype=np.int8)
    response_columns = terms.kernels("response").response_columns
    log_diagonal, quadratic, gradient, information = response_columns(
        *terms, float(noise), indptr, indices, residual, mine.start, mine.stop,
        n_lengthscales, failed,
    )  # fmt: skip
    sums = np.array([log_diagonal - 0.5 * quadratic, count_failed(failed)])
    (value, n_failed), gradient, information = mpi.row_sum(sums, gradient, information)
    value = float(value) - 0.5 * n_columns * np.log(2 * np.pi)
    return value, gradient, information, int(n_failed)


def count_failed(failed):
    """Return how many columns of this rank needed jitter; raise on all if none helps one."""
    n_failed, column = int((failed != 0).sum()), -1
    if n_failed and int(failed.min()) < 0:
        column = int(failed.argmin())
    column = mpi.row_max(column)
    if column >= 0:
        raise np.linalg.LinAlgError(
            f"The covariance of the neighborhood of column {column} cannot be factored, even with "
            "a thousandth of the prior variance on its diagonal; raise the nugget or noise."
        )
    return n_failed


def _checked(X, indptr, indices):
    """Return points and pattern as arrays of one library, or refuse them in one sentence."""
    A = to_compute(X)
    if A.ndim != 2:
        raise ValueError(f"X must be 2-dimensional, got shape {tuple(A.shape)}.")
    xp = compute_namespace(A)
    A = xp.ascontiguousarray(A, dtype=np.float64)
    indptr = xp.asarray(to_compute(indptr), dtype=np.int64)
    indices = xp.asarray(to_compute(indices), dtype=np.int32)
    n = len(A)
    if indptr.shape != (n + 1,) or int(indptr[0]) != 0 or int(indptr[-1]) != len(indices):
        raise ValueError(
            f"indptr must have {n + 1} entries from 0 to len(indices)={len(indices)} for the {n} "
            f"rows of X, got {len(indptr)} entries."
        )
    own = indices[xp.maximum(indptr[1:] - 1, 0)]
    if (indptr[1:] <= indptr[:-1]).any() or (own != xp.arange(n)).any() or int(indices.min()) < 0:
        raise ValueError("Every column of the pattern must hold earlier points and itself last.")
    return A, indptr, indices
