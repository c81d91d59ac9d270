"""Points of a box that are candidates: a table that grows, the same on every rank."""

import numpy as np

from .._arrays import to_numpy
from ._candidates import Candidates


class BoxPoints(Candidates):
    """Numbered points in a box; numbers never change, and neither do points once evaluated.

    Parameters
    ----------
    low, high : float64 arrays of shape (n_features,)
        Corners of the box.

    Attributes
    ----------
    X : float64 array of shape (n, n_features)
        The points by number.
    """

    offset = 0

    def __init__(self, low, high):
        self.low, self.high = low, high
        self.n_features, self.total = len(low), 0
        self._rows = np.empty((64, len(low)))
        self._given = self._rows[:0]
        self.X = self._given

    def append(self, points):
        """Add points (k, n_features) and return their numbers (k,)."""
        first, self.total = self.total, self.total + len(points)
        self._rows = grown(self._rows, self.total)
        self._rows[first : self.total] = points
        self.X = self._rows[: self.total]
        return np.arange(first, self.total)

    def number(self, X, name):
        """Add points that the caller gives, or refuse them in one sentence."""
        X = np.asarray(to_numpy(X), dtype=np.float64)
        if X.ndim != 2 or X.shape[1] != self.n_features or not len(X):
            raise ValueError(
                f"{name} must hold points of shape (n, {self.n_features}), got {X.shape}."
            )
        if not ((X >= self.low) & (X <= self.high)).all():
            raise ValueError(f"{name} holds a point outside the bounds.")
        return self.append(X)

    def replace(self, numbers, points):
        """Move points that have not been evaluated."""
        self._rows[numbers] = points
        self.X = self._rows[: self.total]

    def points(self, indices):
        """Return the coordinates (k, n_features) of numbered points."""
        return self.X[np.asarray(indices, dtype=np.int64)]

    def in_box(self, unit):
        """Return points of the box for points (k, n_features) of the unit cube."""
        return self.low + (self.high - self.low) * unit


def grown(A, n, axis=0):
    """Return an array with room for n entries along an axis, with the entries of A first."""
    if n <= A.shape[axis]:
        return A
    shape = list(A.shape)
    shape[axis] = max(n, 2 * A.shape[axis])
    larger = np.zeros(shape, dtype=A.dtype)
    larger[tuple(slice(k) for k in A.shape)] = A
    return larger
