"""Latent values at new points, from a sparse posterior at training points (Cao et al., 2023)."""

from dataclasses import dataclass

import numpy as np

from .. import mpi
from .._arrays import compute_namespace, like, to_numpy
from .._covariance import Covariance
from .._kernels import kernels
from ._elbo import Pattern, n_buffers
from ._inverse_cholesky import as_csc, count_failed
from ._neighbors import nearest_training
from ._ordering import maximin_order
from ._patterns import Sparsity
from ._sparse_solves import posterior_variances, solve, solve_transposed

_CHUNK = 2**16  # points predicted at a time


@dataclass(frozen=True)
class Trained:
    """A posterior at points in their order: NumPy or CuPy arrays in double precision."""

    covariance: Covariance
    sparsity: Sparsity
    nugget: float
    points: np.ndarray  # (n, d)
    lengths: np.ndarray  # (n,)
    nu: np.ndarray  # (n,)
    V: np.ndarray  # (nnz,)
    pattern: Pattern
    ancestors: Pattern  # those a prediction sees; without indices, all

    def columns(self, points, indptr, indices):
        """Columns of the prior's factor for some patterns on points (k, d)."""
        xp, terms = compute_namespace(points), self.covariance.terms(points)
        q = len(indptr) - 1
        data, failed = xp.zeros(len(indices)), xp.zeros(q, dtype=np.int8)
        terms.kernels("inverse_cholesky").factor_columns(
            *terms, self.nugget, indptr, indices, 0, q, data, failed
        )
        with mpi.each_rank_alone():  # whose queries are its own
            count_failed(failed)
        return data


def predict_each(trained, queries, *, with_deviations):
    """Means and standard deviations (q,) of each query given the training points alone."""
    xp, q = compute_namespace(queries), len(queries)
    means, deviations = xp.zeros((2, q))
    for start in range(0, q, _CHUNK):
        part = slice(start, min(start + _CHUNK, q))
        weights, variances, neighbors = _weights(trained, queries[part])
        means[part] = (weights * trained.nu[neighbors]).sum(axis=1)
        if with_deviations:
            projected = xp.empty(len(variances))
            kernels("elbo", queries).projected_variances(
                neighbors, weights, *trained.ancestors, *trained.pattern, trained.V,
                n_buffers(queries), projected,
            )  # fmt: skip
            deviations[part] = xp.sqrt(variances + projected)
    return means, deviations


def _weights(trained, queries):
    """Regression of every query on its neighbors: weights, variances left over, neighbors."""
    xp, (n, q) = compute_namespace(queries), (len(trained.points), len(queries))
    m = min(trained.sparsity.n_neighbors, n)
    if trained.sparsity.variant == "global":
        neighbors = xp.tile(xp.arange(m, dtype=np.int32), (q, 1))
    else:
        scale = trained.covariance.scale
        neighbors = nearest_training(scale(trained.points), scale(queries), m)
    own = (n + xp.arange(q, dtype=np.int32))[:, None]
    indices = xp.concatenate([neighbors, own], axis=1).ravel()
    points = xp.concatenate([trained.points, queries])
    data = trained.columns(points, (m + 1) * xp.arange(q + 1), indices).reshape(q, m + 1)
    last = data[:, -1:]
    return xp.ascontiguousarray(-data[:, :-1] / last), 1 / last[:, 0] ** 2, neighbors


class JointLatent:
    """Joint posterior at some points: ordered behind the training points, seeing each other.

    Parameters
    ----------
    trained : Trained
    queries : array of shape (q, d)
    """

    def __init__(self, trained, queries):
        n, q = len(trained.points), len(queries)
        points, lengths = self._ordered(trained, queries)
        prior = trained.sparsity.patterns(trained.covariance, points, lengths).prior
        indptr, indices = prior.indptr[n:] - prior.indptr[n], prior.indices[int(prior.indptr[n]) :]
        data = trained.columns(points, indptr, indices)
        data, indices, indptr = map(to_numpy, (data, indices, indptr))
        columns = as_csc(data, indices, indptr, (n + q, q)).tocsr()
        own = columns[n:].tocsc()
        own.sort_indices()
        self._n = n
        self._mean = solve_transposed(
            own.indptr.astype(np.int64),
            own.indices.astype(np.int32),
            own.data,
            -(columns[:n].T @ to_numpy(trained.nu)),
        )
        first, before, V = map(to_numpy, (*trained.pattern, trained.V))
        self._factor = (
            np.concatenate([first, first[-1] + indptr[1:]]),
            np.concatenate([before, indices]),
            np.concatenate([V, data]),
        )

    def _ordered(self, trained, queries):
        """Training points, then queries in maximin order; and lengths of all."""
        xp, n, covariance = compute_namespace(queries), len(trained.points), trained.covariance
        points = xp.concatenate([trained.points, queries])
        if trained.sparsity.metric == "correlation":
            options = {"metric": "correlation", "kernel": covariance}
            order, lengths = maximin_order(points, n_last=len(queries), **options)
        else:
            order, lengths = maximin_order(covariance.scale(points), n_last=len(queries))
        self.order = to_numpy(order[n:]) - n
        lengths = np.concatenate([to_numpy(trained.lengths), to_numpy(lengths[n:])])
        chosen = like(self.order, queries)
        return xp.concatenate([trained.points, queries[chosen]]), like(lengths, queries)

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
        rows = self._n + np.arange(len(self._mean))
        return self._restored(np.sqrt(posterior_variances(*self._factor, rows)))

    def covariance(self):
        """Covariance matrix (q, q); takes memory for n + q times q numbers."""
        q = len(self._mean)
        root = solve(*self._factor, np.eye(self._n + q, q, -self._n))
        covariance = root.T @ root
        return self._restored(self._restored(covariance).T)

    def samples(self, n_samples, rng):
        """Draws (q, n_samples)."""
        noise = rng.standard_normal((self._n + len(self._mean), n_samples))
        return self._restored(
            self._mean[:, None] + solve_transposed(*self._factor, noise)[self._n :]
        )
