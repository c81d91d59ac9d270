"""The loop of a policy: ask, evaluate the objective with an executor, tell, until the budget."""

import logging
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, wait
from contextlib import contextmanager
from numbers import Integral, Real

import numpy as np

from .. import mpi
from ._executors import Guarded, as_pool, evaluator, n_workers, outcome_of
from ._ledger import PENDING, TOLD

_LOG = logging.getLogger("sparseprob")
_MOST_FAILURES = 30  # in a row


def run(policy, f, n_evals, executor=None, callback=None, timeout=None):
    """Ask for batches, evaluate them, and tell the results.

    What a policy had asked for before and was not told comes first. An evaluation that raises,
    returns something else than a finite number, or takes longer than `timeout`, is recorded as
    failed, and the run goes on. The batch that the last evaluation falls into stays open, so that
    two runs in a row take the steps of one; ``policy.flush()`` ends it.

    Parameters
    ----------
    policy : Policy
        Initialized.
    f : callable
        ``f(x)`` takes a point of shape (n_features,) and returns a number. Executors of processes
        need one that can be pickled.
    n_evals : int
        Evaluations to make, failed ones among them.
    executor : object, default=None
        What evaluates the points of a batch side by side: a ``joblib.Parallel``, anything with a
        method ``submit`` (``concurrent.futures``, ``mpi4py.futures.MPIPoolExecutor``, a dask
        client) or ``map``. None evaluates them one after the other; under ``distributed`` the
        ranks share them.
    callback : callable, default=None
        ``callback(policy)`` is called after every batch; the run ends when it returns True.
    timeout : float, default=None
        Seconds after which an evaluation is given up. It is left behind in a thread, which ends
        with its process.

    Returns
    -------
    policy : Policy
        The same.

    Raises
    ------
    RuntimeError
        If all evaluations of the first batch fail, many in a row do, or the executor breaks. What
        was measured is kept.
    """
    _check(f, n_evals, callback, timeout)
    with mpi.errors_together():
        evaluate = evaluator(executor)
    loop = _Loop(policy, Guarded(f, timeout), int(n_evals), callback)
    if policy._asynchronous and executor is not None and mpi.n_ranks() == 1:
        pool = as_pool(executor)
        if hasattr(pool, "submit"):
            loop.keep_busy(pool)
            return policy
    loop.in_batches(evaluate, mpi.n_ranks() if executor is None else n_workers(executor))
    return policy


def _check(f, n_evals, callback, timeout):
    if not callable(f):
        raise TypeError(f"f must be a function of a point, got {f!r}.")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function of the policy or None, got {callback!r}.")
    if not isinstance(n_evals, Integral) or isinstance(n_evals, bool) or n_evals < 1:
        raise ValueError(f"n_evals must be a positive whole number, got {n_evals!r}.")
    if timeout is not None and not (isinstance(timeout, Real) and float(timeout) > 0):
        raise ValueError(f"timeout must be a positive number of seconds or None, got {timeout!r}.")


class _Loop:
    """One run of a policy: what is left of its evaluations, and how many failed in a row."""

    def __init__(self, policy, guarded, left, callback):
        self.policy, self.guarded, self.left, self.callback = policy, guarded, left, callback
        self._in_a_row = 0

    def in_batches(self, evaluate, width):
        """Evaluate one batch after the other; asynchronous policies give `width` at a time."""
        while self.left > 0:
            batch = self._ask(width if self.policy._asynchronous else None)
            if not len(batch):
                return
            self._evaluate(evaluate, batch)
            if self._stops():
                return

    def _ask(self, n=None):
        """Return what is pending, else new evaluations."""
        with _uninterrupted():
            batch = self.policy.pending_
            batch = batch if len(batch) else self.policy.ask(min(n or self.left, self.left))
        batch = batch[: self.left]
        self.left -= len(batch)
        return batch

    def _evaluate(self, evaluate, batch):
        """Evaluate a batch, each rank its part, and tell whatever came of it."""
        mine = mpi.row_slice(len(batch))
        outcomes, broken = {}, None
        try:
            with mpi.each_rank_alone():
                for position, outcome in evaluate(self.guarded, batch.X[mine]):
                    outcomes[mine.start + position] = outcome
        except BrokenExecutor as error:
            broken = error
        except BaseException:
            if mpi.n_ranks() == 1:
                self._tell(batch, outcomes)
            raise
        for others in mpi.all_gather(outcomes):
            outcomes = others | outcomes
        self._tell(batch, outcomes)
        with mpi.errors_together():
            _raise_if_broken(broken)
            self._raise_if_hopeless(batch, outcomes)

    def _tell(self, batch, outcomes):
        rows = sorted(outcomes)
        found = [outcomes[row] for row in rows]
        for index, outcome in zip(batch.indices[rows].tolist(), found, strict=True):
            self._in_a_row = 0 if outcome.reason is None else self._in_a_row + 1
            if outcome.reason is not None and mpi.rank() == 0:
                _LOG.warning("the evaluation of candidate %d failed: %s", index, outcome.reason)
        if rows:
            with _uninterrupted():
                values = np.array([outcome.value for outcome in found])
                self.policy.tell(batch[rows], values, failed="drop")

    def _raise_if_hopeless(self, batch, outcomes):
        last = outcomes[max(outcomes)] if outcomes else None
        if last is None or last.reason is None:
            return
        status = self.policy._ledger.log["status"]
        if not (status == TOLD).any() and not (status == PENDING).any():
            raise RuntimeError(
                f"None of the first {len(status)} evaluations gave a number; the last: "
                f"{last.reason}. Try f on one point."
            ) from last.error
        if self._in_a_row >= max(_MOST_FAILURES, len(batch)):
            raise RuntimeError(
                f"The last {self._in_a_row} evaluations failed; the last: {last.reason}. "
                "What was measured before is kept."
            ) from last.error

    def _stops(self):
        return mpi.any_rank(self.callback is not None and bool(self.callback(self.policy)))

    def keep_busy(self, pool):
        """Hand out an evaluation whenever a worker is free and tell each result as it comes."""
        running: dict = {}
        stopped = False
        try:
            while True:
                while not stopped and self.left > 0 and len(running) < n_workers(pool):
                    batch = self._next(running)
                    if not len(batch):
                        break
                    running[pool.submit(self.guarded, batch.X[0])] = batch
                if not running:
                    return
                done = wait(running, return_when=FIRST_COMPLETED).done
                for future in sorted(done, key=lambda future: int(running[future].ids[0])):
                    stopped = self._take(running, future) or stopped
        except BrokenExecutor as error:
            _raise_if_broken(error)
        finally:
            for future, batch in running.items():
                if not future.cancel() and future.done() and future.exception() is None:
                    self._tell(batch, {0: future.result()})

    def _next(self, running):
        """Return one evaluation: pending from before this run, else a new one."""
        taken = {int(batch.ids[0]) for batch in running.values()}
        with _uninterrupted():
            pending = self.policy.pending_
            free = [row for row, number in enumerate(pending.ids.tolist()) if number not in taken]
            batch = pending[free[:1]] if free else self.policy.ask(1)
        self.left -= len(batch)
        return batch

    def _take(self, running, future):
        outcomes = {0: outcome_of(future)}
        batch = running.pop(future)
        self._tell(batch, outcomes)
        self._raise_if_hopeless(batch, outcomes)
        return self._stops()


def _raise_if_broken(error):
    if error is not None:
        raise RuntimeError(
            f"The executor broke ({error}), perhaps because an evaluation killed its process. What "
            "was measured is kept; call run with a new executor to go on with what was pending."
        ) from error


@contextmanager
def _uninterrupted():
    """Hold back Ctrl-C until the policy has finished changing itself."""
    usual = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or usual is not signal.default_int_handler:
        yield
        return
    asked = []
    signal.signal(signal.SIGINT, lambda *_: asked.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if asked:
        raise KeyboardInterrupt
