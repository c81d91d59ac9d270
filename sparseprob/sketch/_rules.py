"""Which rows are in a sample: the smallest ranks, or all ranks up to a threshold.

The rank of a row is the square root of its hash over its weight.
"""

from typing import NamedTuple

import numpy as np

from .._arrays import compute_namespace
from ._exact import root_of_share, weights_as_integers


class Selection(NamedTuple):
    """The rows of a sample.

    Parameters
    ----------
    kept : int64 ndarray
        Positions among the candidates.
    root_tau : float
        Square root of the threshold of hash over weight; infinity if all rows are in.
    next_hash : int
        Hash of the row that sets the threshold; 0 if there is none.
    """

    kept: np.ndarray
    root_tau: float
    next_hash: int


class PriorityRule(NamedTuple):
    """The `n_samples` rows of smallest rank; the next rank is the threshold.

    Parameters
    ----------
    n_samples : int
    """

    n_samples: int

    def bound(self, ranks, roots, total):
        """Return a rank that no row of the sample exceeds."""
        xp = compute_namespace(ranks)
        k = self.n_samples
        return float(xp.partition(ranks, k)[k]) if ranks.shape[0] > k else np.inf

    def select(self, ranks, roots, hashes, totals):
        """Return the sample of candidates."""
        close = np.flatnonzero(ranks <= self.bound(ranks, roots, totals.weights))
        order = close[np.lexsort((hashes[close], ranks[close]))]
        kept, following = order[: self.n_samples], order[self.n_samples :][:1]
        if not following.size:
            return Selection(kept, np.inf, 0)
        return Selection(kept, float(ranks[following[0]]), int(hashes[following[0]]))


class ThresholdRule(NamedTuple):
    """All rows of a rank up to a threshold, which expects `n_samples` of them.

    Parameters
    ----------
    n_samples : int
    adaptive : bool
        Whether the threshold accounts for rows that are in with certainty.
    """

    n_samples: int
    adaptive: bool

    def bound(self, ranks, roots, total):
        """Return a rank that no row of the sample exceeds."""
        xp = compute_namespace(roots)
        if not self.adaptive or roots.shape[0] <= self.n_samples:
            return np.inf if self.adaptive else self._plain(total)
        top = xp.sort(xp.partition(roots, -self.n_samples)[-self.n_samples :])[::-1]
        return self._adaptive(top, total)

    def select(self, ranks, roots, hashes, totals):
        """Return the sample of candidates."""
        if totals.n_weighted <= self.n_samples and self.adaptive:
            root_tau = np.inf
        elif self.adaptive:
            root_tau = self._adaptive(np.sort(roots)[::-1][: self.n_samples], totals.weights)
        else:
            root_tau = self._plain(totals.weights)
        return Selection(np.flatnonzero(ranks <= root_tau), root_tau, 0)

    def _plain(self, total):
        return root_of_share(self.n_samples, total) if total else np.inf

    def _adaptive(self, top, total):
        """Return the root of c where min(1, c w) adds up to `n_samples`, from the largest roots.

        Integers throughout: candidates of a part of the rows, which lack rows of small weight, come
        to the same c as all rows do.
        """
        remaining, k = total, self.n_samples
        for w in _integers_one_by_one(top):
            if k * w <= remaining:
                break
            remaining, k = remaining - w, k - 1
        return root_of_share(k, remaining) if remaining > 0 and k > 0 else np.inf


def _integers_one_by_one(roots, batch=64):
    for first in range(0, len(roots), batch):
        part = roots[first : first + batch]
        yield from weights_as_integers(part.get() if hasattr(part, "get") else part)
