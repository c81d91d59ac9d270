"""Inducing inputs: where they start, and which are nearest to a point."""

import warnings

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from .._arrays import compute_namespace, is_on_gpu, to_numpy
from .._kernels import kernels
from .._threads import n_threads_allowed, thread_pool
from ._neighbors import nearest_training

MOST_BY_KMEANS = 2000  # inducing inputs
_ROWS_OF_KMEANS = 20  # for each center; more change nothing that training does not
_SCANNED = 4096  # inducing inputs: with fewer, all of them are looked at for every point
_LEAST_PART = 32  # rows of a thread


def initial_inputs(A, n_inducing, how, rng):
    """Return start inducing inputs (M, d) for rows A, which are over the lengthscales.

    Parameters
    ----------
    A : array of shape (n, d)
    n_inducing : int
        At most n.
    how : {"auto", "kmeans", "random"}
        "auto" takes k-means up to 2000 inducing inputs.
    rng : RandomState

    Returns
    -------
    Z : array of shape (n_inducing, d)
        In the library of A.
    """
    xp, n = compute_namespace(A), len(A)
    if n_inducing >= n:
        return A.copy()
    if how == "random" or (how == "auto" and n_inducing > MOST_BY_KMEANS):
        return A[xp.asarray(np.sort(rng.choice(n, n_inducing, replace=False)))]
    rows = np.sort(rng.choice(n, min(n, _ROWS_OF_KMEANS * n_inducing), replace=False))
    seed = int(rng.randint(2**31 - 1))
    if n_inducing <= MOST_BY_KMEANS:
        model = KMeans(n_inducing, n_init=1, init="random", max_iter=20, random_state=seed)
    else:
        model = MiniBatchKMeans(n_inducing, n_init=1, init="random", random_state=seed)
    with warnings.catch_warnings():  # of rows that repeat: two inducing inputs may coincide
        warnings.simplefilter("ignore", ConvergenceWarning)
        centers = model.fit(to_numpy(A[xp.asarray(rows)])).cluster_centers_
    return xp.asarray(np.ascontiguousarray(centers, dtype=np.float64))


def local_means(A, y, Z, n_averaged):
    """Return for each row of Z the mean of y over the nearest rows of A."""
    rows = nearest_training(A, Z, min(n_averaged, len(A)))
    return y[rows].mean(axis=1)


def spacing(Z):
    """Mean distance of a row of Z from the nearest other one; 1 if there is none."""
    if len(Z) < 2:
        return 1.0
    xp = compute_namespace(Z)
    rows = Z[:: max(1, len(Z) // 2000)]
    near = Z[nearest_training(Z, rows, 2)]
    distances = xp.sqrt(((near - rows[:, None]) ** 2).sum(axis=2).max(axis=1))
    return float(distances.mean()) or 1.0


class NeighborSearch:
    """The inducing inputs nearest to points, while these inputs move a little at every step.

    Few inducing inputs are all looked at. Of many, twice as many candidates as neighbors are found
    at a `refresh`, and the nearest of the candidates at every step.

    Parameters
    ----------
    n_neighbors : int
    """

    def __init__(self, n_neighbors):
        self.n_neighbors = n_neighbors
        self._candidates = None

    def refresh(self, A, Z):
        """Find the candidates of rows A, both over the lengthscales."""
        self._candidates = None
        if len(Z) > _SCANNED:
            self._candidates = nearest_training(Z, A, min(len(Z), 2 * self.n_neighbors))

    def nearest(self, A, Z, rows):
        """Return the nearest inducing inputs (n, H) int32, ascending, of rows A.

        rows is where these stood at the last refresh, a slice.
        """
        xp = compute_namespace(A)
        none = xp.empty((len(A), 0), dtype=np.int32)
        candidates = none if self._candidates is None else self._candidates[rows]
        found = xp.empty((len(A), self.n_neighbors), dtype=np.int32)
        search = kernels("local_bound", A).nearest
        over_parts(lambda part: search(A[part], Z, candidates[part], found[part]), A)
        return found


def exact_nearest(A, Z, n_neighbors):
    """Return the nearest inducing inputs (n, H) int32, ascending, of rows A."""
    if len(Z) > _SCANNED:
        return nearest_training(Z, A, n_neighbors)
    return NeighborSearch(n_neighbors).nearest(A, Z, slice(None))


def over_parts(work, A):
    """Return the list of ``work(rows)``, slices of the rows of A, one for each thread.

    Batches are small: threads of a pool wait for each other with less ado than those of a
    compiled loop.
    """
    n_parts = 1 if is_on_gpu(A) else max(1, min(n_threads_allowed(), len(A) // _LEAST_PART))
    edges = [len(A) * part // n_parts for part in range(n_parts + 1)]
    parts = [slice(*ends) for ends in zip(edges[:-1], edges[1:], strict=True)]
    if n_parts == 1:
        return [work(parts[0])]
    return list(thread_pool(n_parts).map(work, parts))
