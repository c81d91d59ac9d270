"""Learned state sets: sampled (J. Lücke et al., 2018) or evolved (J. Drefs et al., 2022).

Each row keeps its best states from one E-step to the next, so truncation adapts to the row.
"""

import numpy as np

from .. import mpi
from .._arrays import to_numpy
from .._kernels import _state_search_numba as kernel

_KINDS = {"sample": kernel.SAMPLE, "evo": kernel.EVO}
_N_STATES, _LONGEST = 32, 16  # states kept for a row, causes of a state
_N_ROUNDS = 8  # searches for rows that are seen for the first time


class StateSearch:
    """The states kept for the rows of this rank.

    Parameters
    ----------
    kind : {"sample", "evo"}
        Proposals: samples of the prior and of the posterior so far, or mutations and crossings.
    table : StateTable
        States over the preselected candidates; they are always among the proposals.
    n_states : int, default=None
        States kept for a row; None means 32.
    path : str, default=None
        File of the states; None keeps them in memory. Each rank adds its number.
    summary : RowSummary, default=None
        Of the rows to be learned from. None: rows are new in every call, and are searched at once.
    """

    def __init__(self, kind, table, *, n_states=None, path=None, summary=None):
        self.kind, self.table = kind, table
        self.n_states, self.path, self.summary = n_states or _N_STATES, path, summary
        self.states: np.ndarray | None = None
        self._held = False
        self.begin(0, 0)

    def reset(self):
        """Forget all states: every row begins with the null state."""
        if self.states is not None:
            self.states[:] = _nothing((1, *self.states.shape[1:]), self.states.dtype)

    def begin(self, seed, step):
        """Begin an E-step with random numbers of its own."""
        self._seed, self._step, self._held = seed, step, False

    def hold(self):
        """Keep the states as they are until the next E-step begins."""
        self._held = True

    def local_arrays(self):
        """Return what a checkpoint must hold of this rank's rows."""
        return {} if self.states is None else {"states": np.asarray(self.states)}

    def restore(self, arrays):
        """Take up the states of a checkpoint."""
        self.states = self._allocated(arrays["states"].shape[1:], arrays["states"].dtype)
        self.states[:] = arrays["states"]

    def improve(self, singles, problem, candidates, prior, rows):
        """Improve the states of some rows.

        Parameters
        ----------
        singles : array of shape (V, H, n)
            Energies of the singletons.
        problem : named tuple
            What the kernel needs for the energies of other states, arrays on the host.
        candidates : int array of shape (n_candidates, n)
        prior : array of shape (V,) or (V, H)
            Probabilities of the non-zero values.
        rows : sequence of int of length n
            Local numbers of the rows.

        Returns
        -------
        states : unsigned array of shape (n_rows, n_states, length)
        places : int array of shape (n,)
            The rows of `states` that belong to the points.
        energies : float64 array of shape (n, n_states)
        """
        singles, candidates = to_numpy(singles), to_numpy(candidates)
        rows, (V, H, _) = np.asarray(rows, dtype=np.int64), singles.shape
        states, places = self._states_of(rows, H, V)
        each = np.ascontiguousarray(np.broadcast_to(np.reshape(prior, (V, -1)), (V, H)).T)
        kind = kernel.HOLD if self._held else _KINDS[self.kind]
        for i in range(1 if self.summary is not None else _N_ROUNDS):
            energies = kernel.search_states(
                singles, problem, candidates, self.table, each, states, places,
                self._keys(rows, i), kind,
            )  # fmt: skip
        return states, places, energies

    def _states_of(self, rows, H, V):
        """The array of states and the places of the rows in it."""
        length = min(H, max(_LONGEST, 2 * self.table.max_active))
        dtype = np.uint16 if H * V < 2**16 - 2 else np.uint32
        if self.summary is None:
            return _nothing((len(rows), self.n_states, length), dtype), np.arange(len(rows))
        if self.states is None:
            self.states = self._allocated((self.n_states, length), dtype)
            self.reset()
        return self.states, rows

    def _allocated(self, shape, dtype):
        """Memory, or a file, for the states of this rank's rows."""
        shape = (self.summary.n_local, *shape)
        if self.path is None or not self.summary.n_local:
            return np.empty(shape, dtype)
        path = f"{self.path}.rank{mpi.rank():04d}" if mpi.n_ranks() > 1 else self.path
        return np.memmap(path, dtype, "w+", shape=shape)

    def _keys(self, rows, i):
        """Seeds that depend on the number of the row in the whole data only."""
        first = 0 if self.summary is None else self.summary.offset
        generator = np.random.Philox(key=[self._seed, self._step * _N_ROUNDS + i])
        salt = np.random.Generator(generator).integers(2**63, dtype=np.uint64)
        with np.errstate(over="ignore"):
            return (rows + first).astype(np.uint64) * np.uint64(0xD1342543DE82EF95) + salt


def _nothing(shape, dtype):
    """States (n, n_states, length) of rows that know the null state only."""
    largest = np.iinfo(dtype).max
    states = np.full(shape, largest, dtype)
    states[:, 1:, 0] = largest - 1
    return states
