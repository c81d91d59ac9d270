"""One sample for the sums of 1, x and x² over the rows of a column, from three lists of ranks."""

from dataclasses import dataclass

import numpy as np

from .._arrays import compute_namespace, to_compute, to_numpy

N_LISTS = 3  # weights 1, x² and x⁴
_NOTHING = 1e-280  # below, ranks would overflow


def scale_of(x):
    """Return the power of two above the largest absolute value, which divides exactly."""
    largest = float(abs(x).max()) if x.size else 0.0
    return 2.0 ** np.frexp(largest)[1] if largest else 1.0


def weights(x, scale):
    """Return 1, x² and x⁴ of the scaled column, of shape (3, n); zero where next to nothing."""
    xp = compute_namespace(x)
    square = (x / scale) ** 2
    powers = xp.stack([xp.ones_like(square), square, square**2])
    return xp.where(powers < _NOTHING, 0.0, powers)


def candidates(u, x, k):
    """Return the places of all rows that are among the k + 1 smallest ranks of some weight.

    Works where x lives; ties at the end of a list stay in.
    """
    x = to_compute(x)
    xp = compute_namespace(x)
    if x.shape[0] <= k + 1:
        return np.arange(x.shape[0])
    u, kept = xp.asarray(u), xp.zeros(x.shape, dtype=bool)
    for weight in weights(x, scale_of(x)):
        ranks = _ranks(u, weight, xp)
        kept |= (ranks <= xp.partition(ranks, k)[k]) & (weight > 0)
    return to_numpy(xp.flatnonzero(kept))


def _ranks(u, weight, xp):
    positive = weight > 0
    return xp.where(positive, u / xp.where(positive, weight, 1.0), xp.inf)


@dataclass
class UnionSample:
    """The union of the samples for 1, x² and x⁴ of one size: the largest of at most k rows.

    Parameters
    ----------
    u : ndarray of shape (n,)
        Hashes of the keys as numbers between 0 and 1.
    hashes : ndarray of shape (n,), dtype uint64
        Hashes of the keys, which order equal ranks.
    x : ndarray of shape (n,)
        The column; all rows, or at least its `candidates`.
    k : int
        Number of rows of the union at most.
    cap : int, default=None
        Size of the samples at most: rows of larger places may be missing.
    """

    u: np.ndarray
    hashes: np.ndarray
    x: np.ndarray
    k: int
    cap: int | None = None

    def __post_init__(self):
        self.scale = scale_of(self.x)
        powers = weights(self.x, self.scale)
        self._ranks = np.stack([_ranks(self.u, weight, np) for weight in powers])
        self.places = np.stack([self._places(ranks) for ranks in self._ranks])
        self.size = self._largest_size()
        self.taus = np.array([self._tau(j) for j in range(N_LISTS)])

    def _largest_size(self):
        """Return the size of the samples, or None if all rows are in the union."""
        best = self.places.min(axis=0, initial=len(self.x))
        # a row is in the union of samples of size s if its best place is below s
        sizes = [int(np.partition(best, self.k)[self.k])] if len(best) > self.k else []
        return min([*sizes, self.cap] if self.cap is not None else sizes, default=None)

    def _places(self, ranks):
        order = np.lexsort((self.hashes, ranks))
        places = np.empty(len(ranks), dtype=np.int64)
        places[order] = np.arange(len(ranks))
        places[np.isinf(ranks)] = len(ranks)  # weight zero: never in the list
        return places

    def _tau(self, j):
        if self.size is None:
            return np.inf
        following = self._ranks[j][self.places[j] == self.size]
        return following[0] if following.size else np.inf

    @property
    def listed(self):
        """Whether each row may still matter once other rows are merged in."""
        return (self.places <= (self.k if self.cap is None else self.cap)).any(axis=0)

    @property
    def needed(self):
        """Whether each row is in the union, or next to it and thereby part of probabilities."""
        return self.sampled if self.size is None else (self.places <= self.size).any(axis=0)

    @property
    def sampled(self):
        """Whether each row is in the union."""
        return (self._ranks < self.taus[:, None]).any(axis=0)

    def probabilities(self, x):
        """Probabilities, up to 1, that rows with these values are in the union."""
        return np.minimum(1.0, self._bounds(weights(x, self.scale)))

    def _bounds(self, weight):
        with np.errstate(invalid="ignore"):  # 0 times infinity: a weight of zero is never sampled
            return np.where(weight > 0, self.taus[:, None] * weight, 0.0).max(axis=0)
