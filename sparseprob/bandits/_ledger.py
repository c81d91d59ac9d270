"""The log of evaluations, and sums over the distinct evaluated candidates."""

import numpy as np

PENDING, TOLD, FAILED = 0, 1, 2
_FIELDS = np.dtype(
    [
        ("step", np.int64),
        ("batch", np.int64),
        ("index", np.int64),
        ("y", np.float64),
        ("status", np.int8),
        ("absorbed", np.bool_),
        ("mu_at_pick", np.float64),
        ("s_at_pick", np.float64),
        ("beta", np.float64),
        ("m", np.int64),
        ("wall", np.float64),
    ]
)


class Ledger:
    """Evaluations in the order in which they were asked for, the same on every rank.

    ``indices, points, counts, sums`` hold the distinct evaluated candidates, in the order of their
    first result: numbers (q,), coordinates (q, d), how often each was evaluated and the sum of its
    feedback, in the units in which policies compute.
    """

    def __init__(self, n_features):
        self._log = np.zeros(64, dtype=_FIELDS)
        self._n_asked = 0
        self._slots = {}
        self._indices = np.zeros(64, dtype=np.int64)
        self._points = np.zeros((64, n_features))
        self._counts = np.zeros(64, dtype=np.int64)
        self._sums = np.zeros(64)

    def __len__(self):
        return self._n_asked

    @property
    def log(self):
        """Return the structured array of all evaluations asked for."""
        return self._log[: self._n_asked]

    def ask(self, **entry):
        """Log an evaluation and return its id."""
        if self._n_asked == len(self._log):
            self._log = _doubled(self._log)
        row = self._log[self._n_asked]
        row["step"], row["y"] = self._n_asked, np.nan
        for name, value in entry.items():
            row[name] = value
        self._n_asked += 1
        return self._n_asked - 1

    def absorb(self, indices, points, values):
        """Add feedback in internal units to the sums over distinct candidates."""
        for index, point, value in zip(indices.tolist(), points, values.tolist(), strict=True):
            slot = self._slots.setdefault(index, len(self._slots))
            if slot == len(self._indices):
                for name in ("_indices", "_points", "_counts", "_sums"):
                    setattr(self, name, _doubled(getattr(self, name)))
            self._indices[slot], self._points[slot] = index, point
            self._counts[slot] += 1
            self._sums[slot] += value

    def slots(self, indices):
        """Return where evaluated candidates stand in the arrays of distinct ones."""
        return np.array([self._slots[int(index)] for index in indices], dtype=np.int64)

    @property
    def indices(self):
        return self._indices[: len(self._slots)]

    @property
    def points(self):
        return self._points[: len(self._slots)]

    @property
    def counts(self):
        return self._counts[: len(self._slots)]

    @property
    def sums(self):
        return self._sums[: len(self._slots)]

    @property
    def n_absorbed(self):
        """Number of evaluations in the sums."""
        return int(self.counts.sum())

    @property
    def pending_indices(self):
        """Candidates (with repeats) asked for and not told yet, in the order of asking."""
        return self.log["index"][self.log["status"] == PENDING]

    @property
    def unabsorbed_indices(self):
        """Candidates (with repeats) asked for, not failed, whose value is not in the sums."""
        return self.log["index"][(self.log["status"] != FAILED) & ~self.log["absorbed"]]


def _doubled(A):
    grown = np.zeros((2 * len(A), *A.shape[1:]), dtype=A.dtype)
    grown[: len(A)] = A
    return grown
