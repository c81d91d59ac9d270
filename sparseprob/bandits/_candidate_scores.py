"""Means, leverages and upper bounds of this rank's candidates under a sparse posterior.

On the host leverages are brought up to date only where a pick could depend on it.
"""

from typing import Any

import numpy as np

from .._arrays import compute_namespace, is_on_gpu
from .._kernels import kernels
from .._threads import over_chunks
from ._cross_covariance import CrossCovariance

_CHUNK, _GPU_CHUNK = 512, 65536  # rows whose covariances are held at a time, by a thread
_SPARE = 64  # columns allocated at a time
_FIRST, _GROWTH = 64, 2  # rows brought up to date at a time, the best first
_MANY = 2**24  # multiplications that are shared out to threads
_FEWEST = 8192  # rows whose coordinates are kept at least


class CandidateScores:
    """The candidates of this rank: what is compared when a pick is made.

    In mode "dense" the coordinates W of all candidates are kept, in mode "stream" those of the
    candidates that had to be looked at lately; all others are computed again when needed.

    Parameters
    ----------
    X : array of shape (n, n_features)
    prior : float64 array of shape (n,)
        Prior variances over lam.
    storage : {"auto", "dense", "stream"}
    max_bytes : float
        Of coordinates that are kept.

    Attributes
    ----------
    mean, leverage, bounds : float64 array of shape (n,)
        Leverages and bounds are those after the first `applied` members of the chain; bounds only
        ever fall while a batch is put together, so that old ones are still bounds.
    applied : int64 array of shape (n,)
    origin : float64 array of shape (n,)
        Leverages before the chain.
    W : array of shape (n, capacity) or None
    """

    def __init__(self, X, prior, storage, max_bytes):
        self.X, self.prior = X, prior
        self.storage, self.max_bytes = storage, max_bytes
        xp, n = compute_namespace(X), len(X)
        self.mean, self.leverage, self.bounds, self.origin = (xp.zeros(n) for _ in range(4))
        self.applied = xp.zeros(n, dtype=np.int64)
        self.start: Any = None
        self.best: Any = None
        self._forget()

    def __getstate__(self):
        """Leave out what is computed again when needed."""
        return self.__dict__ | {"W": None, "_rows": None, "_slot": None, "_pool": None}

    def __setstate__(self, state):
        self.__dict__.update(state)
        if not self.is_dense:
            self._forget()

    def _forget(self):
        """Forget all coordinates."""
        self.W: Any = None
        self._rows: Any = None
        self._slot: Any = None
        self._pool: Any = None
        self.is_dense, self._n_pooled = False, 0

    # ---- coordinates ----------------------------------------------------------------------------

    def build(self, model):
        """Take leverages from a model that was just built."""
        self._make_room(model, model.n_components)
        self._pass(model, self._leverages_of_chunk)
        self.leverage[:] = self.origin
        self.applied[:] = 0
        self.start, self.best = None, None
        self._slot, self._n_pooled = None, 0

    def _make_room(self, model, m):
        """Allocate coordinates of m columns and a few more, or none if they do not fit."""
        size = self.X.dtype.itemsize
        capacity = -(-m // _SPARE) * _SPARE
        fits = size * len(self.X) * capacity <= self.max_bytes
        if self.storage == "stream" or (self.storage == "auto" and not fits):
            self._forget()
        elif self.W is None or self.W.shape[1] < m:
            self.W = None  # before the new ones, or there would be two
            self.W = compute_namespace(self.X).zeros((len(self.X), capacity), dtype=self.X.dtype)
            self.is_dense = True

    def _leverages_of_chunk(self, rows, W, model):
        if self.is_dense:
            self.W[rows, : W.shape[1]] = W
        kernels("candidates", W).leverages(W, model.ratios, self.prior[rows], self.origin[rows])

    def _pass(self, model, work):
        """Call ``work(rows, W, model)`` with the coordinates of every chunk of candidates."""
        xp: Any = compute_namespace(self.X)
        m0, m = model.G.shape
        size = _GPU_CHUNK if is_on_gpu(self.X) else _CHUNK

        def on_chunk(start, chunk, buffers):
            K, W = (buffer[: len(chunk)] for buffer in buffers)
            xp.matmul(model.cross.rows(chunk, K), model.G, out=W)
            work(slice(start, start + len(chunk)), W, model)

        def new():
            return xp.empty((size, m0)), xp.empty((size, m))

        over_chunks(on_chunk, self.X, size, np.dtype(np.float64), new)

    def _restore(self, model):
        """Compute the coordinates again that a saved policy left out."""
        if self.is_dense and self.W is None:
            self._make_room(model, model.n_components)

            def store(rows, W, model):
                self.W[rows, : W.shape[1]] = W

            self._pass(model, store)

    def times(self, model, V):
        """Return the products (n, k) of coordinates with V (m, k)."""
        self._restore(model)
        if self.is_dense:
            return self._dense_times(V.astype(self.W.dtype, copy=False))
        out = compute_namespace(self.X).empty((len(self.X), V.shape[1]))
        weights = model.G @ V

        def on_chunk(start, chunk, _):
            out[start : start + len(chunk)] = model.cross.times(chunk, weights)

        size = _GPU_CHUNK if is_on_gpu(self.X) else _CHUNK
        over_chunks(on_chunk, self.X, size, np.dtype(np.float64))
        return out

    def _dense_times(self, V):
        if not is_on_gpu(self.W):
            return self.W[:, : len(V)] @ V
        padded = compute_namespace(V).zeros((self.W.shape[1], V.shape[1]), dtype=V.dtype)
        padded[: len(V)] = V
        return self.W @ padded  # there a part of W would be copied first

    def add_column(self, model, point, column):
        """Take in the direction by which `model` was just extended by a point (1, d)."""
        a, c = column
        self._slot, self._n_pooled = None, 0
        if not self.is_dense:
            return
        m = len(a)
        new = CrossCovariance(model.kernel, point).rows(self.X)[:, 0]
        new -= self.times(model, a[:, None])[:, 0]
        if m == self.W.shape[1]:
            old = self.W
            self._make_room(model, m + 1)
            if not self.is_dense:
                return
            self.W[:, :m] = old
        self.W[:, m] = c * new

    # ---- bounds ---------------------------------------------------------------------------------

    def set_means(self, model, weights, beta):
        """Take the mean of coordinates' weights (m,) and the width beta; nobody is picked now."""
        self.mean = self.times(model, weights[:, None])[:, 0].astype(np.float64, copy=False)
        kernels("candidates", self.X).upper_bounds(self.mean, self.leverage, beta, self.bounds)
        self.best = None

    def start_batch(self, keep):
        """Note the start of a batch; `keep` if `return_to_start` may follow."""
        self.start = (self.leverage.copy(), self.applied.copy()) if keep else None

    def return_to_start(self, n_start):
        """Take the members of the chain from `n_start` on, those of the batch, out again."""
        late = self.applied > n_start
        self.leverage[late], self.applied[late] = (a[late] for a in self.start)
        self.best = None

    def push(self, model, u, beta):
        """Take in a new member of the model's chain: at once on a GPU, else when it matters."""
        self.best = None
        if not is_on_gpu(self.X):
            return
        loops = kernels("candidates", self.X)
        self._restore(model)
        if self.is_dense:
            self.best = loops.advance(self.W, u, self.leverage, self.mean, beta, self.bounds)
        else:
            change = self.times(model, u[:, None])[:, 0] ** 2
            self.leverage = compute_namespace(u).maximum(self.leverage - change, loops.FLOOR)
            loops.upper_bounds(self.mean, self.leverage, beta, self.bounds)
        self.applied[:] = model.n_chain

    def top(self, model, beta):
        """Return the row of the largest upper bound, the first of them, and the bound."""
        if not len(self.X):
            return 0, -np.inf
        if self.best is None:
            loops = kernels("candidates", self.X)
            row = loops.top(self.bounds) if is_on_gpu(self.X) else self._lazy_top(model, beta)
            self.best = (row, float(self.bounds[row]))
        return self.best

    def _lazy_top(self, model, beta):
        """Refresh the best candidate, then all that may exceed it, the best first."""
        loops, n_chain = kernels("candidates", self.X), model.n_chain
        row = loops.top(self.bounds)
        if self.applied[row] == n_chain:
            return row
        self._refresh(model, np.array([row]), beta)
        value = self.bounds[row]
        if self._rows is None:
            self._rows = np.empty(len(self.X), dtype=np.int64)
        n_stale = loops.stale_above(self.bounds, self.applied, n_chain, value, self._rows)
        rows, size = self._rows[:n_stale].copy(), _FIRST
        while len(rows):
            order = np.arange(len(rows))
            if len(rows) > size:
                order = np.argpartition(-self.bounds[rows], size)
            block, rows = rows[order[:size]], rows[order[size:]]
            self._refresh(model, block, beta)
            value, size = max(value, self.bounds[block].max()), size * _GROWTH
            rows = rows[self.bounds[rows] >= value]
        return loops.top(self.bounds)

    def _refresh(self, model, rows, beta):
        """Bring leverages and bounds of a few rows up to date."""
        loops = kernels("candidates", self.X)
        self._restore(model)
        slots, W = (rows, self.W) if self.is_dense else self._pooled(model, rows)
        lag = min(int(model.n_chain - self.applied[rows].min()), model.n_components)
        many = len(rows) * lag * model.n_components > _MANY
        (loops.refresh_together if many else loops.refresh)(
            rows, slots, W, model.chain, model.n_chain, model.inverse, self.origin, self.mean,
            beta, self.applied, self.leverage, self.bounds,
        )  # fmt: skip

    def _pooled(self, model, rows):
        """Return where coordinates of rows stand in the pool, and the pool."""
        m = model.n_components
        if self._slot is None:
            self._slot = np.full(len(self.X), -1, dtype=np.int64)
        missing = rows[self._slot[rows] < 0]
        largest = max(_FEWEST, int(self.max_bytes / 4 / (8 * m)))
        if self._n_pooled + len(missing) > max(largest, len(rows)):
            self._slot[:], self._n_pooled, missing = -1, 0, rows
        first, stop = self._n_pooled, self._n_pooled + len(missing)
        if self._pool is None or self._pool.shape[1] != m or len(self._pool) < stop:
            size = max(1024, stop, min(2 * stop, largest))
            old, self._pool = self._pool, np.empty((size, m))
            if first:
                self._pool[:first] = old[:first]
        if len(missing):
            self._pool[first:stop] = model.rows(self.X[missing])
            self._slot[missing], self._n_pooled = np.arange(first, stop), stop
        return self._slot[rows], self._pool

    def leverages(self, model):
        """Return the leverages (n,) of all candidates; nothing is changed."""
        found = compute_namespace(self.X).empty(len(self.X))

        def on_chunk(rows, W, model):
            found[rows] = model.leverages(W, self.prior[rows])

        self._pass(model, on_chunk)
        return found

    # ---- the local rule of batches --------------------------------------------------------------

    def local_ratios(self, model, points):
        """Return bounds (n,) of how far a batch at points (b, d) has shrunk each variance, and s.

        The bound of candidate i is 1 plus the sum over the batch of its squared posterior
        covariances over its variance s_i, all at the start of the batch.
        """
        xp = compute_namespace(self.X)
        ratios, start = xp.ones(len(self.X)), xp.empty(len(self.X))
        V, cross = (
            model.covariance_vectors(model.rows(points)),
            CrossCovariance(model.kernel, points),
        )

        def on_chunk(rows, W, model):
            start[rows] = model.leverages(W, self.prior[rows], model.start_inverse)
            shares = cross.rows(self.X[rows]) / model.lam + W @ V
            ratios[rows] += (shares**2).sum(axis=1) / start[rows]

        self._pass(model, on_chunk)
        return ratios, start

    def add_local_ratio(self, model, point, ratios, start):
        """Add what another evaluation at a point (1, d) adds to these bounds."""
        shares = CrossCovariance(model.kernel, point).rows(self.X)[:, 0] / model.lam
        shares += self.times(model, model.covariance_vectors(model.rows(point)))[:, 0]
        ratios += shares**2 / start
