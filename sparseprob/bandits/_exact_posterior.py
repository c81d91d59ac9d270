"""The exact Gaussian-process posterior on finite candidates, one evaluation after another.

In units of the ridge, with P the q distinct candidates taken so far, everything rests on rows R
over the candidates and a lower triangular G with ``k(P, .) / lam = G R``. The posterior covariance
is ``k / lam - R' S R``, the mean ``R' h``. A candidate taken for the first time adds a row; taken
again, it only changes the small matrix S: memory grows with distinct candidates, not with time.
"""

import copy

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

from .. import mpi
from .._arrays import compute_namespace
from .._kernels import kernels

_BLOCK = 128  # rows allocated at a time
_CHUNK = 8192  # points predicted at a time
_FLOOR = 1e-12  # of a leverage
_REFRESH = 256  # means are summed anew after this many changes in place


class ExactPosterior:
    """Exact posterior of a finite set, with the small matrices replicated on every rank.

    Parameters
    ----------
    candidates : Candidates
        This rank's block.
    kernel : KernelFunction
    lam : float
        Ridge, the noise variance of the posterior.
    max_bytes : float
        Limit of the rows of this rank.
    name : str
        Policy named in messages.

    Attributes
    ----------
    mean, leverage : float64 arrays of shape (n_local,)
        Posterior mean, and variance in units of `lam`, of the candidates of this rank.
    indices, points, counts : arrays of shape (q,), (q, n_features), (q,)
        Distinct candidates taken, and how often.
    logdet : float
        log det(I + K / lam) of all evaluations taken.
    """

    def __init__(self, candidates, kernel, lam, max_bytes=np.inf, name="The policy"):
        self.candidates, self.kernel, self.lam = candidates, kernel, lam
        self.max_bytes, self.name = max_bytes, name
        self._prior = kernel.diag(candidates.X) / lam
        self.clear()

    def clear(self):
        """Go back to the prior."""
        xp, d = self.candidates.xp, self.candidates.n_features
        self.leverage = self._prior.copy()
        self.mean = xp.zeros(len(self._prior))
        self.logdet = 0.0
        self._q = 0
        self._blocks = []  # rows R, _BLOCK at a time
        self._indices, self._counts, self._told = (np.zeros(_BLOCK, np.int64) for _ in range(3))
        self._points, self._sums = np.zeros((_BLOCK, d)), np.zeros(_BLOCK)
        self._G, self._S, self._RP = (np.zeros((_BLOCK, _BLOCK)) for _ in range(3))
        self._h = np.zeros(0)
        self._column = xp.empty(0)  # covariances with the last candidate taken
        self._column_of: int | None = None
        self._taken = []  # distinct candidates since the last mean, if that had all values
        self._mean_is_whole = True
        self._n_changes = 0

    @property
    def indices(self):
        return self._indices[: self._q]

    @property
    def points(self):
        return self._points[: self._q]

    @property
    def counts(self):
        return self._counts[: self._q]

    def slot(self, index):
        """Return where a candidate stands among those taken, or None."""
        found = np.flatnonzero(self.indices == index)
        return int(found[0]) if len(found) else None

    def of(self, index):
        """Return mean and leverage of a candidate of any rank."""
        row, pair = self.candidates.local(index), np.zeros(2)
        if row is not None:
            pair[:] = float(self.mean[row]), float(self.leverage[row])
        return tuple(mpi.row_sum(pair).tolist())

    def after(self, index, times):
        """Return this posterior after `times` more evaluations of a candidate, left as it is."""
        later = copy.copy(self)
        later._S, later._counts = self._S.copy(), self._counts.copy()
        later.leverage, later._taken = self.leverage.copy(), self._taken.copy()
        later._take_again(self.slot(index), times)
        return later

    def take(self, index, times=1):
        """Count `times` evaluations of a candidate in the variances; its value may come later.

        Returns
        -------
        leverage : float
            Of the candidate, before.
        """
        slot = self.slot(index)
        if index not in self._taken:
            self._taken.append(index)
        if slot is not None:
            return self._take_again(slot, times)
        s = self._take_new(index)
        if times > 1:
            self._take_again(self._q - 1, times - 1)
        return s

    def _take_new(self, index):
        """Count a candidate that was not taken before, by a new row."""
        self._make_room()
        q, xp = self._q, self.candidates.xp
        x = self.candidates.point(index)[None]
        k = self.kernel(self.points, x)[:, 0] / self.lam
        r = self._solve(k)
        weights = self._S[:q, :q] @ r
        s = max(float(self.kernel.diag(x)[0]) / self.lam - float(r @ weights), _FLOOR)
        root = np.sqrt(1.0 + s)
        row = self._blocks[-1][q % _BLOCK]
        row[:] = self.kernel(self.candidates.X, xp.asarray(x))[:, 0]
        row /= self.lam
        self._add_rows(-weights, row)
        row /= root
        self._RP[q, :q] = (k - weights @ self._RP[:q, :q]) / root
        self._RP[:q, q], self._RP[q, q] = r, s / root
        self._G[q, :q], self._G[q, q], self._S[q, q] = weights, root, 1.0
        self._indices[q], self._points[q], self._counts[q] = index, x[0], 1
        self._q += 1
        self._shrink(row**2)
        self._column, self._column_of = row / root, index
        self.logdet += float(np.log1p(s))
        return s

    def _take_again(self, slot, times):
        """Count a candidate that has a row `times` more; needs no rows if it was the last taken."""
        q, index = self._q, int(self.indices[slot])
        r = self._RP[:q, slot]
        a = self._G[slot, :q] - self._S[:q, :q] @ r
        s = max(float(a @ r), _FLOOR)
        if self._column_of != index:
            self._column, self._column_of = self.candidates.xp.zeros(len(self._prior)), index
            self._add_rows(a, self._column)
        share = times / (1.0 + times * s)
        self._S[:q, :q] += np.outer(a, share * a)
        self._counts[slot] += times
        self._shrink(share * self._column**2)
        self._column = self._column / (1.0 + times * s)
        self.logdet += float(np.log1p(times * s))
        return s

    def _shrink(self, change):
        self.leverage -= change
        self.leverage = self.candidates.xp.maximum(self.leverage, _FLOOR)

    def _solve(self, k):
        q = self._q
        if q == 0:
            return np.zeros(k.shape)
        return solve_triangular(self._G[:q, :q], k, lower=True, check_finite=False)

    def _add_rows(self, weights, out):
        """Add the weighted rows to an array over the candidates."""
        add_rows = kernels("exact_rows", out).add_rows
        for block, first in zip(self._blocks, range(0, len(weights), _BLOCK), strict=False):
            add_rows(block, weights[first : first + _BLOCK], out)

    def _make_room(self):
        """Make room for another candidate, if the memory allows."""
        if self._q == _BLOCK * len(self._blocks):
            check_memory(self.candidates, self._q + _BLOCK, self.max_bytes, self.name)
            self._blocks.append(self.candidates.xp.empty((_BLOCK, len(self._prior))))
        if self._q == len(self._indices):
            for name in ("_indices", "_points", "_counts", "_told", "_sums", "_G", "_S", "_RP"):
                setattr(self, name, _doubled(getattr(self, name), name in ("_G", "_S", "_RP")))

    def learn(self, indices, values):
        """Take feedback on evaluations that are counted in the variances into the mean.

        Parameters
        ----------
        indices : int64 array of shape (n,)
            With repeats.
        values : array of shape (n,)
        """
        slots = np.array([self.slot(index) for index in indices], dtype=np.int64)
        np.add.at(self._told, slots, 1)
        np.add.at(self._sums, slots, values)
        in_place = self._mean_is_whole and len(self._taken) == 1 and self._n_changes < _REFRESH
        if in_place and self._is_settled:
            self._change_mean(slots[0], values)
        else:
            self._refresh_mean()

    @property
    def _is_settled(self):
        """Whether everything counted has its value."""
        return bool((self._told[: self._q] == self._counts[: self._q]).all())

    def _change_mean(self, slot, values):
        """Move the mean by the values of one candidate, the only one taken since the last mean."""
        before = float(self._h @ self._RP[: len(self._h), slot])
        self.mean += self._column * (float(np.sum(values)) - len(values) * before)
        self._h = self.mean_weights(self._sums[: self._q])
        self._taken = []
        self._n_changes += 1

    def _refresh_mean(self):
        self._mean_is_whole = self._is_settled
        if self._mean_is_whole:
            self._h = self.mean_weights(self._sums[: self._q])
        else:
            self._h = self._mean_weights_of_told()
        self._taken = []
        self.mean = self.combine(self._h)
        self._n_changes = 0

    def mean_weights(self, sums):
        """Return the weights h (q,) of the rows in the mean, given sums (q,) of all evaluations."""
        q = self._q
        return self._G[:q, :q].T @ sums - self._S[:q, :q] @ (self._RP[:q, :q] @ sums)

    def _mean_weights_of_told(self):
        """Weights of the mean while some evaluations count in the variances only."""
        q = self._q
        told = np.flatnonzero(self._told[:q])
        if not len(told):
            return np.zeros(q)
        K = (self._G[:q, :q] @ self._RP[:q, :q])[np.ix_(told, told)]
        K[np.diag_indices(len(told))] += 1.0 / self._told[told]
        targets = self._sums[told] / self._told[told]
        return self._G[told, :q].T @ cho_solve(cho_factor(K, lower=True), targets)

    def combine(self, weights):
        """Return the weighted sum of rows, an array over the candidates of this rank."""
        out = self.candidates.xp.zeros(len(self._prior))
        self._add_rows(weights, out)
        return out

    def rebuild(self, indices, points, told, sums, pending=()):
        """Compute everything anew.

        Parameters
        ----------
        indices, points : arrays of shape (q,), (q, n_features)
            Distinct candidates that were evaluated.
        told, sums : arrays of shape (q,)
            How often, and the sums of the feedback.
        pending : int64 array
            Candidates, with repeats, that count in the variances only.
        """
        self.clear()
        pending = np.asarray(pending, dtype=np.int64)
        more = pending[~np.isin(pending, indices)]
        more = more[np.sort(np.unique(more, return_index=True)[1])]
        all_points = points
        if len(more):
            all_points = np.concatenate([points, self.candidates.points(more)])
        for index, point in zip(np.concatenate([indices, more]), all_points, strict=True):
            self._make_room()
            self._indices[self._q], self._points[self._q] = index, point
            self._q += 1
        q, n_told = self._q, len(indices)
        self._told[:n_told], self._sums[:n_told] = told, sums
        self._counts[:q] = self._told[:q] + (self.indices[:, None] == pending).sum(axis=1)
        if q:
            self._rebuild_matrices()
        self._refresh_mean()

    def _rebuild_matrices(self):
        q = self._q
        K = self.kernel(self.points, self.points) / self.lam
        regularized = K.copy()
        regularized[np.diag_indices(q)] += 1.0 / self.counts
        self._G[:q, :q] = cholesky(regularized, lower=True)
        self._S[:q, :q] = np.eye(q)
        self._RP[:q, :q] = self._solve(K)
        self.logdet = float(2 * np.log(np.diag(self._G)[:q]).sum() + np.log(self.counts).sum())
        for b in range(len(self._blocks)):
            self._rebuild_block(b)

    def _rebuild_block(self, b):
        """Compute the rows of a block from those before it; `_G` is there already."""
        first, stop, xp = b * _BLOCK, min((b + 1) * _BLOCK, self._q), self.candidates.xp
        rows = self._blocks[b][: stop - first]
        rows[:] = self.kernel(xp.asarray(self._points[first:stop]), self.candidates.X)
        rows /= self.lam
        G = self._G[first:stop]
        for before in range(b):
            weights = xp.asarray(G[:, before * _BLOCK : (before + 1) * _BLOCK])
            rows -= weights @ self._blocks[before]
        add_rows = kernels("exact_rows", rows).add_rows
        for i in range(len(rows)):
            add_rows(rows, -G[i, first : first + i], rows[i])
            rows[i] /= G[i, first + i]
            self.leverage -= rows[i] ** 2
        self.leverage = xp.maximum(self.leverage, _FLOOR)

    def at(self, X):
        """Return mean and leverage (n,) at any points X (n, d), in the library of X."""
        xp, q = compute_namespace(X), self._q
        mean, leverage = xp.zeros(len(X)), self.kernel.diag(X) / self.lam
        if q == 0:
            return mean, leverage
        inverse = xp.asarray(solve_triangular(self._G[:q, :q], np.eye(q), lower=True))
        points, S, h = xp.asarray(self.points), xp.asarray(self._S[:q, :q]), xp.asarray(self._h)
        for start in range(0, len(X), _CHUNK):
            rows = slice(start, start + _CHUNK)
            R = inverse @ (self.kernel(points, X[rows]) / self.lam)
            mean[rows] = h @ R[: len(h)]
            leverage[rows] -= (R * (S @ R)).sum(axis=0)
        return mean, xp.maximum(leverage, _FLOOR)


def check_memory(candidates, n_rows, max_bytes, name):
    """Refuse rows that do not fit in memory."""
    n_rows = min(n_rows, -(-candidates.total // _BLOCK) * _BLOCK)
    n_candidates = mpi.row_max(len(candidates.X))
    needed = 8.0 * n_candidates * n_rows
    if needed > max_bytes:
        raise ValueError(
            f"{name} would keep {n_rows} rows over {n_candidates} candidates, "
            f"{needed / 2**20:.0f} MB, more than max_memory_mb={max_bytes / 2**20:.0f}; use BBKB, "
            "whose memory does not grow with evaluations, or raise max_memory_mb."
        )


def _doubled(A, is_square):
    shape = tuple(2 * n for n in A.shape) if is_square else (2 * len(A), *A.shape[1:])
    grown = np.zeros(shape, dtype=A.dtype)
    grown[tuple(slice(n) for n in A.shape)] = A
    return grown
