"""Predictions from the nearest noisy values, point by point or jointly (Katzfuss et al., 2020)."""

import numpy as np
from scipy.sparse.linalg import spsolve_triangular

from .. import mpi
from .._arrays import compute_namespace, to_numpy
from ._inverse_cholesky import as_csc, count_failed
from ._neighbors import nearest_predecessors, nearest_training
from ._ordering import maximin_order

_CHUNK = 2**17  # points predicted at a time
_SHARE = 1e-10  # of the prior variance, on the diagonal of values without noise
_BLOCK = 256  # columns of an inverse held at a time


def predict_locally(covariance, noise, A, residual, queries, n_neighbors):
    """Means and standard deviations (q,) of values without noise, each from its neighbors.

    A (n, d) are the training points, residual (n,) their noisy values of mean zero.
    """
    xp = compute_namespace(A)
    neighbors = nearest_training(
        covariance.scale(A), covariance.scale(queries), min(n_neighbors, len(A))
    )
    terms, residual = covariance.terms(A), xp.ascontiguousarray(residual)
    means, deviations = xp.zeros((2, len(queries)))
    failed = xp.zeros(len(queries), dtype=np.int8)
    predict_columns = terms.kernels("response").predict_columns
    for start in range(0, len(queries), _CHUNK):
        part = slice(start, start + _CHUNK)
        predict_columns(
            *terms, noise, covariance.terms(queries[part]).scaled, neighbors[part], residual,
            means[part], deviations[part], failed[part],
        )  # fmt: skip
    if bool((failed < 0).any()):
        raise np.linalg.LinAlgError(
            f"The covariance of the neighbors of query {int(failed.argmin())} cannot be factored, "
            "even with a thousandth of the prior variance on its diagonal."
        )
    return means, deviations


class JointPosterior:
    """Joint posterior of values without noise at some points, by a sparse precision factor.

    Points stand behind the training points, maximin among themselves, and see their nearest
    training points and points before them. Arrays are on the host.

    Parameters
    ----------
    covariance : Covariance
    noise : float
    A : array of shape (n, d)
    residual : array of shape (n,)
    queries : array of shape (q, d)
    n_neighbors : int
    """

    def __init__(self, covariance, noise, A, residual, queries, n_neighbors):
        n, xp = len(A), compute_namespace(A)
        self.order = to_numpy(maximin_order(covariance.scale(queries))[0])
        points = xp.concatenate([A, queries[xp.asarray(self.order)]])
        m = min(n_neighbors, len(points) - 1)
        indptr, indices = nearest_predecessors(covariance.scale(points), m)
        indptr, indices = indptr[n:] - indptr[n], indices[int(indptr[n]) :]
        q = len(queries)
        data, failed = xp.zeros(len(indices)), xp.zeros(q, dtype=np.int8)
        terms = covariance.terms(points)
        terms.kernels("inverse_cholesky").posterior_columns(
            *terms, noise, _SHARE * covariance.variance, n,
            indptr, indices, 0, q, data, failed,
        )  # fmt: skip
        with mpi.each_rank_alone():  # ranks may predict different numbers of times
            count_failed(failed)
        data, indices, indptr = (to_numpy(part) for part in (data, indices, indptr))
        columns = as_csc(data, indices, indptr, (n + q, q)).tocsr()
        self._lower = columns[n:].T.tocsr()  # of the factor among the points, transposed
        self._lower.sort_indices()
        self._mean = self._solve(-(columns[:n].T @ to_numpy(residual)))

    def _solve(self, x):
        return spsolve_triangular(self._lower, x, lower=True)

    def _restored(self, values):
        """Rows in the order in which the points were given."""
        restored = np.empty_like(values)
        restored[self.order] = values
        return restored

    def mean(self):
        """Means (q,)."""
        return self._restored(self._mean)

    def deviations(self):
        """Standard deviations (q,)."""
        squares, q = np.zeros(len(self._mean)), len(self._mean)
        for start in range(0, q, _BLOCK):
            squares += (self._solve(np.eye(q, min(_BLOCK, q - start), -start)) ** 2).sum(axis=1)
        return self._restored(np.sqrt(squares))

    def covariance(self):
        """Covariance matrix (q, q)."""
        root = self._restored(self._solve(np.eye(len(self._mean))))
        return root @ root.T

    def samples(self, n_samples, rng):
        """Draws (q, n_samples)."""
        noise = rng.standard_normal((len(self._mean), n_samples))
        return self._restored(self._mean[:, None] + self._solve(noise))
