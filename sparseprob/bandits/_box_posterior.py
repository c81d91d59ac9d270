"""The sparse posterior of points in a box that come, move and are picked one after another."""

import numpy as np

from ._box_points import grown
from ._cross_covariance import CrossCovariance
from ._dictionary import draw
from ._sparse_posterior import SparsePosterior, _inverse

_FLOOR = 1e-12  # of a leverage
_REBUILT = 1.5  # growth of the dictionary after which its embedding is computed afresh


class BoxPosterior:
    """Means and leverages of numbered points, under a dictionary that takes in every pick.

    The posterior of BKB [Calandriello2019]_, with one difference: between draws, a point that is
    picked joins the dictionary at once. So the picks of a batch shrink the variance around them
    even where nothing was evaluated before.

    Parameters
    ----------
    kernel : KernelFunction
    lam, qbar : float
    seed : int
        Of the draws.

    Attributes
    ----------
    mean, leverage : float64 arrays of shape (n,)
        Of all points; the mean is that at the start of the batch.
    """

    def __init__(self, kernel, lam, qbar, seed):
        self.kernel, self.lam, self.qbar, self.seed = kernel, lam, qbar, seed
        self.model = SparsePosterior(kernel, lam)
        self._n = self._n_draws = self.n_fallbacks = self._n_at_build = 0
        self._holds_all = False  # whether the dictionary is all evaluated points
        self._W = np.zeros((64, 64))
        self._values = np.zeros((3, 64))  # mean, leverage, prior

    @property
    def W(self):
        return self._W[: self._n, : self.model.n_components]

    @property
    def mean(self):
        return self._values[0, : self._n]

    @property
    def leverage(self):
        return self._values[1, : self._n]

    @property
    def _prior(self):
        return self._values[2, : self._n]

    @property
    def is_built(self):
        """Whether there has been feedback."""
        return self._n_at_build > 0

    # ---- feedback -------------------------------------------------------------------------------

    def learn(self, ledger, indices, values, pending, *, rebuild, kernel):
        """Take in feedback that has been added to the ledger; draw a new dictionary.

        Means and leverages of points are those of before until `score` computes them. Of a kernel
        that is not the one of before, the leverages for the draw are not known; those of before
        are taken.
        """
        kept = np.ones(len(ledger.indices), dtype=bool)
        if self.is_built:
            kept = self._draw(ledger)
        if kernel is not self.kernel:
            self.kernel, self.model, rebuild = kernel, SparsePosterior(kernel, self.lam), True
        grows = len(kept) > _REBUILT * self._n_at_build
        same = kept.all() and self._holds_all and not len(pending) and not rebuild and not grows
        if same:
            self.model.learn(ledger.points[ledger.slots(indices)], values)
            weights = self.model.mean_weights(ledger.points[:0])
        else:
            self.model.build(
                ledger.indices[kept], ledger.points[kept], ledger.points, ledger.counts, ledger.sums
            )
            self._n_at_build = len(kept)
            weights = self.model.h
        self._indices, self._counts = ledger.indices.copy(), ledger.counts.copy()
        self._holds_all = bool(kept.all())
        self._mean_of = self.model.cross
        self._mean_weights = (self.model.G @ weights)[:, None]
        self.model.start_batch()

    def _draw(self, ledger):
        """Draw from all evaluated points by their leverages at the start of the batch."""
        leverages = self.model.leverages_at(ledger.points, self.model.start_inverse)
        self._n_draws += 1
        kept, fallback = draw(
            ledger.indices, ledger.counts, leverages, self.qbar, self.seed, self._n_draws
        )
        self.n_fallbacks += int(fallback)
        return kept

    @property
    def logdet(self):
        """log det(I + K / lam) of the evaluations, with the covariance of the embedding."""
        _, logdet = np.linalg.slogdet(self.model.B)
        return float(np.log(self.model.ratios).sum() + logdet)

    # ---- points ---------------------------------------------------------------------------------

    def score(self, X, first=0):
        """Compute means and leverages of the points from a number on; X are all points."""
        self._n = len(X)
        self._values = grown(self._values, self._n, axis=1)
        self._make_room(self.model.n_components)
        rows = slice(first, self._n)
        self.W[rows] = self.model.rows(X[rows])
        self._prior[rows] = self.kernel.diag(X[rows]) / self.lam
        self.mean[rows] = self._mean_at(X[rows])
        self.leverage[rows] = self.model.leverages(self.W[rows], self._prior[rows])

    def _make_room(self, n_columns):
        self._W = grown(grown(self._W, self._n), n_columns, axis=1)

    def _mean_at(self, X):
        return self._mean_of.times(X, self._mean_weights)[:, 0]

    def at(self, X):
        """Return means and leverages (n,) of any points."""
        return self._mean_at(X), self.model.leverages_at(X)

    def start_leverage(self, number):
        """Return the leverage of a point at the start of the batch."""
        row = slice(number, number + 1)
        return float(
            self.model.leverages(self.W[row], self._prior[row], self.model.start_inverse)[0]
        )

    def pick(self, number, X):
        """Count an evaluation of a point in the variances."""
        if number not in self.model.indices:
            self._extend(number, X)
        u = self.model.pick(self.W[number])
        change = self.W @ u
        np.maximum(self.leverage - change**2, _FLOOR, out=self.leverage)

    def _extend(self, number, X):
        """Let a point join the dictionary, unless it hardly differs from it."""
        model, point = self.model, X[number : number + 1]
        column = model.extend(number, point)
        if column is None:
            return
        a, c = column
        m = len(a)
        self._make_room(m + 1)
        new = CrossCovariance(self.kernel, point).rows(X[: self._n])[:, 0] - self.W[:, :m] @ a
        self.W[:, m] = c * new
        if self._holds_all:
            return  # the evaluated points have nothing in the new direction
        border = (self._counts * self.W[self._indices, m]) @ self.W[self._indices]
        for B in (model.B, model.start_B):
            B[m, :] += border
            B[:m, m] += border[:m]
        model.inverse, model.start_inverse = _inverse(model.B), _inverse(model.start_B)
        self.leverage[:] = model.leverages(self.W, self._prior)
