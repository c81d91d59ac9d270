"""The finite set of candidates; under MPI each rank holds a contiguous block of it."""

from typing import Any

import numpy as np

from .. import mpi
from .._arrays import compute_dtype, compute_namespace, is_on_gpu, like, to_compute, to_numpy

_CHUNK = 65536


class Candidates:
    """A block of candidates and where it stands in the whole set.

    Parameters
    ----------
    X : array of shape (n_local, n_features)
        The candidates of this rank; kept without a copy where it is C-contiguous and floating.

    Attributes
    ----------
    X : array of shape (n_local, n_features)
        NumPy or CuPy, float32 or float64.
    offset : int
        Number of the first candidate of this rank.
    total : int
        Number of candidates of all ranks.
    """

    X: Any

    def __init__(self, X):
        self._given = X[:0, :]
        A = to_compute(X)
        xp = compute_namespace(A)
        if isinstance(A, np.memmap) and A.dtype == compute_dtype(A):
            self.X = A
        else:
            self.X = xp.ascontiguousarray(A, dtype=compute_dtype(A))
        sizes = mpi.all_gather(len(self.X))
        self.offset, self.total = sum(sizes[: mpi.rank()]), sum(sizes)
        self.n_features = self.X.shape[1]

    @property
    def xp(self):
        """NumPy or CuPy, whichever holds the candidates."""
        return compute_namespace(self.X)

    def check_finite(self):
        """Refuse missing and infinite values, chunk by chunk."""
        for start in range(0, len(self.X), _CHUNK):
            good = self.xp.isfinite(self.X[start : start + _CHUNK]).all(axis=1)
            if not bool(good.all()):
                row = self.offset + start + int(self.xp.argmin(good))
                raise ValueError(
                    f"X must be finite, but candidate {row} holds NaN or infinity; drop such rows."
                )

    def local(self, index):
        """Return the row of a candidate in this rank's block, or None."""
        row = int(index) - self.offset
        return row if 0 <= row < len(self.X) else None

    def point(self, index):
        """Return the coordinates (n_features,) of a candidate, on the host of every rank."""
        return self.points([index])[0]

    def points(self, indices):
        """Return the coordinates (n, n_features) of candidates, float64 on every rank's host."""
        rows = np.asarray(indices, dtype=np.int64) - self.offset
        own = (rows >= 0) & (rows < len(self.X))
        found = np.zeros((len(rows), self.n_features))
        if own.any():
            found[own] = to_numpy(self.X[self.xp.asarray(rows[own])])
        return mpi.row_sum(found)

    def argmax(self, values):
        """Return the candidate of the largest value and that value; the lowest number wins ties.

        Parameters
        ----------
        values : array of shape (n_local,)
        """
        if len(self.X):
            row = int(self.xp.argmax(values))
            best = (float(values[row]), self.offset + row)
        else:
            best = (-np.inf, self.offset)
        return self.best_of_ranks(*best)

    def best_of_ranks(self, value, index):
        """Return index and value of the best of the pairs that the ranks bring."""
        found = mpi.all_gather((value, index))
        value, index = max(found, key=lambda pair: (pair[0], -pair[1]))
        return index, value

    def value_at(self, values, index):
        """Return a candidate's entry of an array over the local block, on every rank."""
        row = self.local(index)
        return float(mpi.row_sum(np.array(0.0 if row is None else float(values[row]))))

    def answer(self, A):
        """Return an array of the computation in the library of the X that was given."""
        return like(A, self._given)

    @property
    def is_on_gpu(self):
        return is_on_gpu(self.X)
