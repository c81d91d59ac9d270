"""The ask/tell surface of every policy: open batches, feedback, budget."""

import time
from numbers import Integral

import numpy as np

from .._arrays import like, to_numpy
from ._answers import PolicyAnswers
from ._batch import Batch
from ._ledger import FAILED, PENDING, TOLD
from ._setup import PolicySetup


class Policy(PolicyAnswers, PolicySetup):
    """Base of every policy: maximize an unknown function by asking for batches of evaluations.

    A policy writes ``_start``, ``_select``, ``_picked``, ``_learn``, ``_posterior_at`` and perhaps
    ``_posterior_on_candidates``; everything else is here.
    """

    _asynchronous = False  # whether asking goes on while evaluations are pending

    # What a policy writes.

    def _start(self):
        """Set up the model; candidates, kernel and an empty ledger exist."""

    def _select(self):
        """Return the next pick, its posterior mean and its leverage; changes nothing."""
        raise NotImplementedError

    def _picked(self, index):
        """Take a pick into the variances and return whether the batch is complete."""
        raise NotImplementedError

    def _learn(self, indices, values, rebuild):
        """Take in feedback that has just been added to the ledger, in the order of asking.

        With `rebuild` the variances do not match the counts any more: after the initial design,
        after evaluations that failed, and after outside data.
        """
        raise NotImplementedError

    def _posterior_at(self, X):
        """Return posterior means and leverages (n,) at points, in internal units."""
        raise NotImplementedError

    def _posterior_on_candidates(self):
        """Return posterior means and leverages on the candidates of this rank."""
        return self._posterior_at(self._candidates.X)

    def _points(self, indices):
        """Return the coordinates (n, n_features) of numbered candidates."""
        return self._candidates.points(indices)

    def _size(self):
        """Number of inducing points, for the history."""
        return self._ledger.n_absorbed

    def ask(self, n=None):
        """Return the next evaluations to make.

        Parameters
        ----------
        n : int, default=None
            At most so many; the batch goes on at the next call. None asks for the whole batch.

        Returns
        -------
        batch : Batch
            Empty while the feedback of a complete batch is pending (``batch_closed_``) and when
            `max_evals` is used up.
        """
        self._check_initialized()
        if n is not None and (not isinstance(n, Integral) or n < 1):
            raise ValueError(f"n must be a positive whole number or None, got {n!r}.")
        if self._asynchronous and n is None:
            n = 1
        picks: list = []
        while not self._closed and (n is None or len(picks) < n) and self._left() > 0:
            picks.append(self._pick())
        if self._left() <= 0 and self._open_ids().size:
            self._closed = True
        ids = np.array([pick[0] for pick in picks], dtype=np.int64)
        indices = np.array([pick[1] for pick in picks], dtype=np.int64)
        points = self._points(indices) if len(picks) else np.empty((0, self.n_features_in_))
        return Batch(ids, indices, like(points, self._candidates.X))

    def _left(self):
        return np.inf if self.max_evals is None else self.max_evals - len(self._ledger)

    def _pick(self):
        initial = bool(self._queue)
        if initial:
            index, mean, leverage = self._queue.pop(0), np.nan, np.nan
        else:
            index, mean, leverage = self._select()
        number = self._ledger.ask(
            batch=self._batch,
            index=index,
            mu_at_pick=self._outside(mean),
            s_at_pick=leverage,
            beta=self._beta,
            m=self._size(),
            wall=time.perf_counter() - self._clock,
        )
        if initial:
            self._closed = not self._queue
        else:
            complete = self._picked(index)
            self._closed = complete and not self._asynchronous
        return number, index

    def tell(self, batch, y, *, failed="raise"):
        """Take in the results of evaluations, of a whole batch or of a part of one, in any order.

        Parameters
        ----------
        batch : Batch or array-like of int
            What `ask` returned, or a selection ``batch[rows]`` of it; or numbers of candidates,
            each of which must be pending.
        y : array-like of shape (n,) or None
            The values; None means that all evaluations failed.
        failed : {"raise", "drop"}, default="raise"
            What to do about values that are not finite: refuse them, or record these evaluations
            as failed.

        Returns
        -------
        self : object
            The policy.
        """
        self._check_initialized()
        ids = self._pending_ids(batch)
        values = self._check_values(y, len(ids), failed)
        log = self._ledger.log
        log["y"][ids] = values
        log["status"][ids] = np.where(np.isfinite(values), TOLD, FAILED)
        if self._asynchronous and not self._initial_is_open():
            self._absorb(ids)
        elif self._closed and not (log["status"][self._open_ids()] == PENDING).any():
            self._finish_batch()
        return self

    def _initial_is_open(self):
        return self._batch == 0

    def observe(self, indices, y):
        """Take in values that were measured elsewhere, without having been asked for.

        Before the first `ask` they replace the initial design.

        Parameters
        ----------
        indices : array-like of int of shape (n,)
            Numbers of the candidates.
        y : array-like of shape (n,)
            Finite values.

        Returns
        -------
        self : object
            The policy.
        """
        self._check_initialized()
        indices = self._check_indices(indices)
        values = self._check_values(y, len(indices), "raise")
        if self._initial_is_open() and not len(self._ledger):
            self._queue, self._batch = [], 1
        ids = [
            self._ledger.ask(batch=-1, index=index, y=value, status=TOLD, mu_at_pick=np.nan,
                             s_at_pick=np.nan, beta=self._beta, wall=np.nan)
            for index, value in zip(indices.tolist(), values.tolist(), strict=True)
        ]  # fmt: skip
        self._absorb(np.array(ids, dtype=np.int64), rebuild=True)
        return self

    def flush(self):
        """Learn from what has been told of an open batch, before the rest of it is.

        If nothing is pending, the open batch ends.

        Returns
        -------
        self : object
            The policy.
        """
        self._check_initialized()
        ids = self._open_ids()
        if not len(ids) or self._initial_is_open():
            return self
        if (self._ledger.log["status"][ids] == PENDING).any():
            self._absorb(ids)
        else:
            self._finish_batch()
        return self

    def _open_ids(self):
        """Ids of the batch that is being asked for or waits for feedback."""
        return np.flatnonzero(self._ledger.log["batch"] == self._batch)

    def _finish_batch(self):
        initial, ids = self._initial_is_open(), self._open_ids()
        told = self._ledger.log["status"][ids] == TOLD
        self._closed = False
        if initial and not told.any() and not self._ledger.n_absorbed:
            self._queue = self._rng.choice(self._candidates.total, len(ids)).tolist()
            return  # all of the initial design failed: another one, in the same batch
        if initial and self.normalize_y == "initial":
            values = self._sign * self._ledger.log["y"][ids[told]]
            self._shift, self._scale = values.mean(), values.std() or 1.0
        self._batch += 1
        self._absorb(ids, rebuild=initial)

    def _absorb(self, ids, rebuild=False):
        """Add results to the ledger's sums in the order of asking and let the model learn."""
        log = self._ledger.log
        ids = np.sort(ids)
        ids = ids[~log["absorbed"][ids] & (log["status"][ids] != PENDING)]
        log["absorbed"][ids] = True
        taken = ids[(log["status"][ids] == TOLD) | self._fails_again(ids)]
        indices, values = log["index"][taken], self._inside(log["y"][taken])
        values[np.isnan(values)] = self._worst()
        self._ledger.absorb(indices, self._points(indices), values)
        if self._ledger.n_absorbed:
            self._learn(indices, values, bool(rebuild or (log["status"][ids] == FAILED).any()))

    def _fails_again(self, ids):
        """Which evaluations failed at a candidate that had failed before.

        One failure may be an accident, and is left out. A candidate that fails again would be
        asked for forever, since nothing is learned of it: it gets the worst value there is.
        """
        log = self._ledger.log
        failed = log["status"] == FAILED
        _, first = np.unique(log["index"][failed], return_index=True)
        return failed[ids] & ~np.isin(ids, np.flatnonzero(failed)[first])

    def _worst(self):
        """The worst value so far in the units of the model, 0 before there is any."""
        values = self._inside(self._ledger.log["y"][self._ledger.log["status"] == TOLD])
        return values.min() if len(values) else 0.0

    def _inside(self, y):
        """Feedback in the units of the model: to be maximized, scaled."""
        return (self._sign * y - self._shift) / self._scale

    def _outside(self, mean):
        return self._sign * (mean * self._scale + self._shift)

    def _check_indices(self, indices):
        indices = np.atleast_1d(np.asarray(indices))
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise ValueError(f"indices must be whole numbers in one row, got {indices!r}.")
        total = self._candidates.total
        bad = indices[(indices < 0) | (indices >= total)]
        if len(bad):
            raise ValueError(
                f"There are {total} candidates, numbered 0 to {total - 1}; got index {bad[0]}."
            )
        return indices.astype(np.int64)

    def _check_values(self, y, n, failed):
        if failed not in ("raise", "drop"):
            raise ValueError(f"failed must be 'raise' or 'drop', got {failed!r}.")
        y = np.full(n, np.nan) if y is None else to_numpy(y)
        if y.dtype.kind not in "fiub" and not (y.dtype == object and failed == "drop"):
            raise ValueError(f"y must be numeric, got dtype {y.dtype}.")
        values = np.atleast_1d(y.astype(np.float64))
        if values.shape != (n,):
            raise ValueError(f"y must have one value for each of {n} evaluations, got {y.shape}.")
        if failed == "raise" and not np.isfinite(values).all():
            place = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(
                f"y[{place}] is {values[place]}; pass failed='drop' to record failed evaluations."
            )
        return np.where(np.isfinite(values), values, np.nan)

    def _pending_ids(self, batch):
        log = self._ledger.log
        if isinstance(batch, Batch):
            bad = [i for i in batch.ids.tolist() if i >= len(log) or log["status"][i] != PENDING]
            if bad:
                raise ValueError(
                    f"Evaluation {bad[0]} is not pending: it was told before, or asked for by "
                    "another policy; use observe(indices, y) for outside data."
                )
            if len(set(batch.ids.tolist())) < len(batch):
                raise ValueError("The batch holds the same evaluation twice; tell each once.")
            return batch.ids
        ids, pending = [], np.flatnonzero(log["status"] == PENDING).tolist()
        for index in self._check_indices(batch).tolist():
            found = next((i for i in pending if log["index"][i] == index), None)
            if found is None:
                raise ValueError(
                    f"Candidate {index} is not pending; use observe(indices, y) for outside data."
                )
            pending.remove(found)
            ids.append(found)
        return np.array(ids, dtype=np.int64)
