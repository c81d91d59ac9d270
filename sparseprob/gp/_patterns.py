"""Order, sparsity patterns and ancestors of sparse posteriors (Cao et al., 2023)."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csc_array
from sklearn.utils import check_random_state

from .._arrays import compute_namespace, like, to_numpy
from .._kernels import _elbo_numba as elbo
from ._elbo import Pattern, Patterns, repeated
from ._neighbors import ball_sparsity, nearest_predecessors
from ._ordering import maximin_order, order_points

_BLOCK = 2**24  # correlations held at a time
_MOST_CLOSED = 2 * 10**8  # entries of whole sets of ancestors


@dataclass(frozen=True)
class Sparsity:
    """How points are ordered and which entries factors have; see `DKLGPRegressor`."""

    n_neighbors: int
    rho: float
    pattern: str
    variant: str
    ordering: str
    metric: str
    seed: int

    def order(self, covariance, A):
        """Return order and lengths of points A (n, d)."""
        if self.metric == "correlation" and self.ordering == "maximin":
            return maximin_order(A, metric="correlation", kernel=covariance)
        return order_points(covariance.scale(A), self.ordering, check_random_state(self.seed))

    def patterns(self, covariance, points, lengths):
        """Return the patterns for points in their order; ancestors are the prior's pattern."""
        if self.metric == "correlation":
            prior = self._by_correlation(covariance, points, lengths)
        else:
            prior = self._by_distance(covariance.scale(points), lengths)
        if self.variant == "global":
            width = len(prior.indices) / (len(prior.indptr) - 1) if self.pattern == "ball" else 0
            prior = first_points(points, round(width) or self.n_neighbors)
        posterior = first_points(points, 0) if self.variant == "diagonal" else prior
        return Patterns(prior, posterior, prior)

    def _by_distance(self, scaled, lengths):
        if self.pattern == "ball":
            return Pattern(*ball_sparsity(scaled, lengths, self.rho)[:2])
        return Pattern(*nearest_predecessors(scaled, self.n_neighbors))

    def _by_correlation(self, covariance, points, lengths):
        """The same for the distance sqrt(1 - correlation), from blocks of the whole matrix."""
        n, xp, columns = len(points), compute_namespace(points), []
        ell, step = to_numpy(lengths), max(1, _BLOCK // len(points))
        for first in range(0, n, step):
            stop = min(first + step, n)
            similar = covariance(points[first:stop], points[:stop]) / covariance.variance
            squares = 1.0 - to_numpy(xp.minimum(similar, 1.0))
            for j in range(first, stop):
                columns.append(self._column(squares[j - first, :j], j, ell))
        counts = [len(column) for column in columns]
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        indices = np.concatenate(columns).astype(np.int32)
        return Pattern(like(indptr, points), like(indices, points))

    def _column(self, squares, j, ell):
        """Pattern of one column by squared distances to the points before it."""
        if self.pattern == "ball":
            near = np.flatnonzero(squares <= (self.rho * np.minimum(ell[:j], ell[j])) ** 2)
        else:
            near = np.sort(np.argsort(squares, kind="stable")[: self.n_neighbors])
        return np.append(near, j)


def first_points(points, m):
    """Pattern in which every column sees the first m points and itself."""
    xp, n = compute_namespace(points), len(points)
    own = xp.arange(n)
    indptr = xp.concatenate([xp.zeros(1, dtype=np.int64), xp.cumsum(xp.minimum(own, m) + 1)])
    indices = xp.arange(int(indptr[-1])) - repeated(indptr[:-1], indptr)
    indices[indptr[1:] - 1] = own
    return Pattern(indptr, indices.astype(np.int32))


def ball_ancestors(covariance, points, lengths, rho, pattern):
    """Union of a pattern with the points in balls around earlier points."""
    ancestors = Pattern(*ball_sparsity(covariance.scale(points), lengths, rho)[2:])
    parts = [(np.ones(len(p.indices), dtype=np.int8), *map(to_numpy, (p.indices, p.indptr)))
             for p in (ancestors, pattern)]  # fmt: skip
    shape = (len(points), len(points))
    union = csc_array(parts[0], shape=shape) + csc_array(parts[1], shape=shape)
    union.sort_indices()
    return Pattern(
        like(union.indptr.astype(np.int64), points), like(union.indices.astype(np.int32), points)
    )


def all_ancestors(pattern):
    """Closure of a pattern: every point that a substitution through the factor can reach."""
    indptr, indices = map(to_numpy, pattern)
    counts = np.zeros(len(indptr) - 1, dtype=np.int64)
    elbo.closure(indptr, indices, indptr, counts, np.empty(0, dtype=np.int32))
    first = np.concatenate([[0], np.cumsum(counts)])
    if first[-1] > _MOST_CLOSED:
        raise ValueError(
            f"ancestors='full' would take {first[-1]:.2g} numbers for n={len(counts)} points; use "
            "ancestors='ball'."
        )
    out = np.empty(first[-1], dtype=np.int32)
    elbo.closure(indptr, indices, first, counts, out)
    return Pattern(like(first, pattern.indptr), like(out, pattern.indptr))
