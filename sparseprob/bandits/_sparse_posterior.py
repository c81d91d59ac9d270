"""The sparse posterior of a dictionary, small enough for every rank to hold all of it.

After Calandriello, Carratino, Lazaric, Valko & Rosasco (2020), in whitened coordinates.
"""

from typing import Any

import numpy as np

from .._arrays import compute_namespace
from ._cross_covariance import CrossCovariance
from ._dictionary import embedding

_FLOOR = 1e-12  # of a leverage
_CHUNK = 8192  # points at a time
_RECOMPUTED = 64  # updates of the inverse in place
_DEPENDENT = 1e-8  # share of its variance by which a point must differ from the dictionary


class SparsePosterior:
    r"""Posterior mean and leverage from the embedding of a dictionary D, with ridge lam.

    Embeddings z have :math:`z_i^\top z_j \approx k_{ij}`; the mean of f is linear in them, the
    variance keeps what the prior has beyond them. Coordinates w are whitened by the precision at
    the time of building, in whose eigenvectors it is ``lam * ratios``:

    .. math:: w = G^\top k_D(x), \quad z^\top z = \mathrm{lam} \sum_a \mathrm{ratios}_a w_a^2,
        \quad s = \frac{k(x, x) - z^\top z}{\mathrm{lam}} + w^\top B^{-1} w

    where B is the identity plus :math:`w w^\top` of every evaluation since. Of these, the chain
    holds vectors u, each of which takes :math:`(w^\top u)^2` off the leverage of every point.

    Parameters
    ----------
    kernel : KernelFunction
    lam : float

    Attributes
    ----------
    indices : int64 array of shape (m0,)
        Numbers of the candidates that are the dictionary.
    G : array of shape (m0, m)
    ratios : array of shape (m,)
    B, inverse, start_inverse : array of shape (m, m)
        B and its inverse now, and the inverse when the batch started.
    chain : array of shape (capacity, m)
    n_chain, n_start : int
        Members of the chain now, and when the batch started.
    """

    def __init__(self, kernel, lam):
        self.kernel, self.lam = kernel, lam
        self.indices = np.empty(0, dtype=np.int64)
        self._W: Any = None  # coordinates and leverages of evaluated points
        self._leverages: Any = None
        self._n_applied = 0

    @property
    def n_components(self):
        """Dimension m of the embedding."""
        return self.G.shape[1]

    # ---- building -------------------------------------------------------------------------------

    def build(self, indices, points, evaluated, counts, sums, total=lambda *sums: sums):
        """Take dictionary points and evaluated points (q, d) with their counts and sums.

        `total` adds up sums over evaluated points that are shared out over ranks.
        """
        xp = compute_namespace(points)
        self.indices, self.cross = np.array(indices), CrossCovariance(self.kernel, points)
        E = embedding(self.cross.rows(points))
        precision, h = total(*self._moments(E, evaluated, xp.asarray(counts), xp.asarray(sums)))
        precision, Q = xp.linalg.eigh(precision)
        precision = xp.maximum(precision, 0.0) + self.lam
        self.G = xp.ascontiguousarray(E @ Q / xp.sqrt(precision))
        self.ratios, self.h = precision / self.lam, (h @ Q) / xp.sqrt(precision)
        self.B, self.inverse = xp.eye(self.n_components), xp.eye(self.n_components)
        self.chain, self.n_chain, self._n_updates = xp.zeros((64, self.n_components)), 0, 0
        self.forget_evaluated(0)
        self.start_batch()

    def _moments(self, E, points, counts, sums):
        """Sums over evaluated points of n z z' and of S z."""
        xp, m = compute_namespace(E), E.shape[1]
        second, first = xp.zeros((m, m)), xp.zeros(m)
        for start in range(0, len(points), _CHUNK):
            rows = slice(start, start + _CHUNK)
            Z = self.cross.rows(points[rows]) @ E
            second += Z.T @ (counts[rows, None] * Z)
            first += Z.T @ sums[rows]
        return second, first

    def start_batch(self):
        """Remember the variances of now as those at the start of a batch."""
        self.start_B, self.start_inverse = self.B.copy(), self.inverse.copy()
        self.n_start = self.n_chain

    def return_to_start(self):
        """Take the evaluations since the start of the batch out of the variances."""
        self.B, self.inverse = self.start_B.copy(), self.start_inverse.copy()
        self.n_chain = self.n_start

    def extend(self, index, point):
        """Add a point to a dictionary that holds all evaluated ones.

        Coordinates of these in the new direction are zero, so that everything else stays.

        Returns
        -------
        column : tuple of array of shape (m,) and float, or None
            With (a, c), the new coordinate of a candidate is ``c * (k(x, point) - a'w)``. None,
            and nothing is changed, if the point hardly differs from the dictionary.
        """
        xp = compute_namespace(point)
        w = self.rows(point)[0]
        a = self.lam * self.ratios * w
        prior = float(self.kernel.diag(point)[0])
        rest = prior - float(a @ w)
        if rest < _DEPENDENT * prior:
            return None
        c = 1.0 / np.sqrt(rest * self.lam)
        m0, m = self.G.shape
        G = xp.zeros((m0 + 1, m + 1))
        G[:m0, :m], G[:m0, m], G[m0, m] = self.G, -c * (self.G @ a), c
        self.G = G
        self.ratios, self.h = xp.append(self.ratios, 1.0), xp.append(self.h, 0.0)
        self.B, self.inverse, self.start_B, self.start_inverse = (
            _with_one(A) for A in (self.B, self.inverse, self.start_B, self.start_inverse)
        )
        self._W = xp.concatenate([self._W, xp.zeros((len(self._W), 1))], axis=1)
        chain = xp.zeros((len(self.chain), m + 1))
        chain[: self.n_chain, :m] = self.chain[: self.n_chain]
        self.chain = chain
        self.indices = np.append(self.indices, index)
        self.cross = CrossCovariance(self.kernel, xp.concatenate([self.cross.points, point]))
        return a, c

    def restored(self, points, G, ratios, inverse, **_):
        """Take over the arrays of another posterior, for its answers."""
        self.cross = CrossCovariance(self.kernel, points)
        self.G, self.ratios, self.inverse = G, ratios, inverse
        return self

    # ---- evaluations ----------------------------------------------------------------------------

    def pick(self, w):
        """Count an evaluation of the point of coordinates w (m,) in the variances; return u."""
        xp = compute_namespace(w)
        p = self.inverse @ w
        u = p / xp.sqrt(1.0 + w @ p)
        self.B += w[:, None] * w
        self.inverse -= u[:, None] * u
        self._n_updates += 1
        if self.n_chain == len(self.chain):
            self.chain = xp.concatenate([self.chain, xp.zeros_like(self.chain)])
        self.chain[self.n_chain] = u
        self.n_chain += 1
        return u

    def learn(self, points, values):
        """Take in the values (b,) of evaluations that the variances count already."""
        self.h = self.h + self.rows(points).T @ compute_namespace(points).asarray(values)

    def mean_weights(self, pending):
        """Return the weights of coordinates in the mean; `pending` (p, d) have no values yet."""
        xp = compute_namespace(self.G)
        if self._n_updates >= _RECOMPUTED:
            self.inverse, self._n_updates = _inverse(self.B), 0
        if not len(pending):
            return self.inverse @ self.h
        W = self.rows(pending)
        return xp.linalg.solve(self.B - W.T @ W, self.h)

    # ---- posterior ------------------------------------------------------------------------------

    def rows(self, X):
        """Return the coordinates (n, m) of points."""
        return self.cross.rows(X) @ self.G

    def leverages(self, W, prior, inverse=None):
        """Return leverages (n,) from coordinates and prior variances over lam."""
        xp = compute_namespace(W)
        inverse = self.inverse if inverse is None else inverse
        rest = xp.maximum(prior - W**2 @ self.ratios, 0.0)
        return xp.maximum(rest + ((W @ inverse) * W).sum(axis=1), _FLOOR)

    def leverages_at(self, X, inverse=None):
        """Return the leverages (n,) of points."""
        return self.leverages(self.rows(X), self.kernel.diag(X) / self.lam, inverse)

    def start_leverages(self, points):
        """Return the leverages (q,) of evaluated points when the batch started.

        Points are those of the last call, and new ones behind them.
        """
        xp, known = compute_namespace(points), len(self._W)
        if self.n_start > self._n_applied:
            changes = (self._W @ self.chain[self._n_applied : self.n_start].T) ** 2
            self._leverages = xp.maximum(self._leverages - changes.sum(axis=1), _FLOOR)
        self._n_applied = self.n_start
        if len(points) > known:
            W, prior = self.rows(points[known:]), self.kernel.diag(points[known:]) / self.lam
            new = self.leverages(W, prior, self.start_inverse)
            self._W = xp.concatenate([self._W, W])
            self._leverages = xp.concatenate([self._leverages, new])
        return self._leverages

    def forget_evaluated(self, first):
        """Forget what is known of evaluated points from `first` on."""
        xp = compute_namespace(self.G)
        if not first:
            self._W, self._leverages = xp.zeros((0, self.n_components)), xp.zeros(0)
            self._n_applied = 0
        self._W, self._leverages = self._W[:first], self._leverages[:first]

    def at(self, X, weights):
        """Return means and leverages (n,) of points, from the weights of the mean."""
        xp = compute_namespace(self.G)
        mean, leverage = xp.empty(len(X)), xp.empty(len(X))
        for start in range(0, len(X), _CHUNK):
            rows = slice(start, start + _CHUNK)
            W = self.rows(X[rows])
            mean[rows] = W @ weights
            leverage[rows] = self.leverages(W, self.kernel.diag(X[rows]) / self.lam)
        return mean, leverage

    def leverages_in_chunks(self, X):
        """Return the leverages (n,) of many points."""
        return self.at(X, compute_namespace(self.G).zeros(self.n_components))[1]

    def covariances(self, X):
        """Return the posterior covariances (n, n) of points, over lam."""
        W = self.rows(X)
        return self.kernel(X, X) / self.lam - (W * self.ratios) @ W.T + (W @ self.inverse) @ W.T

    def covariance_vectors(self, W):
        """Return V (m, b) such that ``w'V + k(x, y) / lam`` are covariances with rows y of W.

        Those of the posterior at the start of the batch, in units of lam.
        """
        return (W @ self.start_inverse - W * self.ratios).T


def _with_one(A):
    """Return A with another dimension, of its own."""
    xp, m = compute_namespace(A), len(A)
    grown = xp.zeros((m + 1, m + 1))
    grown[:m, :m], grown[m, m] = A, 1.0
    return grown


def _inverse(B):
    """Inverse of a matrix that is at least the identity, symmetric."""
    xp = compute_namespace(B)
    R = xp.linalg.inv(xp.linalg.cholesky(B))
    return R.T @ R
