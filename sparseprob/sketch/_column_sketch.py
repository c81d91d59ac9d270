"""The sample of a single column that serves all sums in a correlation."""

from functools import cached_property

import numpy as np

from .._arrays import to_compute, to_numpy
from .._kernels._sketch_numba import match_sorted
from ._keys import Keys, units
from ._matrix_sketch import MatrixSketch, Settings, no_overlap
from ._moments import weighted_moments
from ._union_sample import UnionSample, candidates


class ColumnSketch(MatrixSketch):
    """Rows of a column in one of three samples: for the number of rows, for x and for x².

    Attributes
    ----------
    keys_, x_ : ndarray of shape (n_sampled,)
        Keys and values of the rows in use, in the order of hashes.
    """

    def __init__(self, settings, keys, x, n_rows, cap=None):
        super().__init__(settings, n_rows, 1)
        order = np.argsort(keys.hashes)
        self._keys, self._x, self._cap = keys.take(order), x[order], cap

    @classmethod
    def of_column(cls, x, keys, n_samples, seed):
        """Return the sketch of a column, on the host or on the GPU, with hashed keys."""
        kept = candidates(units(keys.hashes), x, n_samples)
        settings = Settings("correlation", seed, "union", keys.kind, n_samples)
        values = to_numpy(to_compute(x)[_where(kept, x)])
        return cls(settings, keys.take(kept), values, x.shape[0])._without(lambda u: u.listed)

    @cached_property
    def union(self):
        """The rows in use."""
        hashes = self._keys.hashes
        return UnionSample(units(hashes), hashes, self._x, self.n_samples, self._cap)

    @property
    def keys_(self):
        """Keys of the rows in use."""
        return self._keys.values[self.union.sampled]

    @property
    def x_(self):
        """Values of the rows in use."""
        return self._x[self.union.sampled]

    @property
    def frobenius_norm_(self):
        """Length of the column, estimated."""
        return float(np.sqrt(self.x_**2 @ (1 / self.union.probabilities(self.x_))))

    def compact(self):
        """Return the sketch without rows that can enter the union only after others are merged."""
        return self._without(lambda union: union.needed, cap=self.union.size)

    def _without(self, chosen, cap=None):
        kept = np.flatnonzero(chosen(self.union))
        cap = self._cap if cap is None else cap
        return ColumnSketch(self._settings, self._keys.take(kept), self._x[kept], self.n_rows_, cap)

    def moments(self, other):
        """Return `JoinMoments` of this column and another one."""
        moments = weighted_moments(*self._common(other))
        if not moments.n_common:
            no_overlap()
        return moments

    def _common(self, other):
        """Return values of both columns at common keys, and probabilities of these rows."""
        self._check_other(other)
        self._settings.check_pair(other._settings)
        hashes, others = self._keys.hashes, other._keys.hashes
        positions = np.empty((2, min(len(hashes), len(others))), dtype=np.int64)
        left, right = positions[:, : match_sorted(hashes, others, positions)]
        both = self.union.sampled[left] & other.union.sampled[right]
        both &= self._keys.values[left] == other._keys.values[right]
        x, y = self._x[left[both]], other._x[right[both]]
        return x, y, np.minimum(self.union.probabilities(x), other.union.probabilities(y))

    def _product(self, other):
        x, y, p = self._common(other)
        if not len(p):
            no_overlap()
            return np.zeros((1, 1)), np.nan
        variance = (x * y / p) ** 2 @ (1 - p)
        return np.full((1, 1), x * y @ (1 / p)), float(np.sqrt(variance))

    @classmethod
    def _merge(cls, sketches):
        hashes = np.concatenate([sketch._keys.hashes for sketch in sketches])
        if len(np.unique(hashes)) < len(hashes):
            raise ValueError(
                "A key occurs in more than one of the merged sketches; each must hold other rows."
            )
        values = np.concatenate([sketch._keys.values for sketch in sketches])
        settings = sketches[0]._settings
        keys = Keys(settings.key_kind, values, hashes)
        x = np.concatenate([sketch._x for sketch in sketches])
        cap = min((s._cap for s in sketches if s._cap is not None), default=None)
        whole = cls(settings, keys, x, sum(sketch.n_rows_ for sketch in sketches), cap)
        return whole._without(lambda union: union.listed)

    def _contents(self):
        numbers = {"n_rows": self.n_rows_, "cap": self._cap}
        arrays = {"hashes": self._keys.hashes, "keys": self._keys.values, "x": self._x}
        return numbers, arrays

    @classmethod
    def _of_contents(cls, settings, numbers, arrays):
        keys = Keys(settings.key_kind, arrays["keys"], arrays["hashes"])
        return cls(settings, keys, arrays["x"], numbers["n_rows"], numbers["cap"])


def _where(kept, x):
    """Return positions in the library of x."""
    from .._arrays import compute_namespace

    return compute_namespace(x).asarray(kept)
