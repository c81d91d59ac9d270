"""What a policy tells about itself: posterior, best candidate, history, regret; run and save."""

from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError

from .._arrays import is_array, like, to_compute, to_numpy
from . import _regret, _run, _saving
from ._batch import Batch, BestResult
from ._ledger import FAILED, PENDING, TOLD

_HISTORY = ["step", "batch", "index", "y", "mu_at_pick", "s_at_pick", "beta", "m", "wall", "failed"]


class PolicyAnswers:
    """Answers and fitted attributes that all policies share."""

    # What the rest of a policy provides.
    n_features_in_: int
    _candidates: Any
    _ledger: Any
    _points: Any
    _posterior_at: Any
    _posterior_on_candidates: Any
    _outside: Any
    _batch: int
    _closed: bool
    _beta: float
    _lam: float
    _scale: float

    def run(self, f, n_evals, *, executor=None, callback=None, timeout=None):
        """Ask for batches, evaluate a function on them and tell the results.

        An evaluation that raises, returns no finite number or takes too long is recorded as failed
        and the run goes on.

        Parameters
        ----------
        f : callable
            Takes a point (n_features,), returns a number.
        n_evals : int
            Number of evaluations to make, beyond those already made.
        executor : object, default=None
            ``joblib.Parallel``, or anything with ``submit`` or ``map`` (concurrent.futures,
            mpi4py.futures, dask). None evaluates here, under ``with sparseprob.distributed():``
            in shares of the ranks.
        callback : callable, default=None
            Called with the policy after each batch; returning True ends the run.
        timeout : float, default=None
            Seconds after which an evaluation counts as failed.

        Returns
        -------
        self : object
            The policy.
        """
        return _run.run(self, f, n_evals, executor=executor, callback=callback, timeout=timeout)

    def save(self, path):
        """Write the whole state, so that `load` goes on with the same trajectory.

        Parameters
        ----------
        path : str or Path
            File to write, in NumPy's ``.npz`` format without pickled objects; written atomically.
        """
        _saving.save(self, path)

    @classmethod
    def load(cls, path):
        """Read a policy written by `save`.

        Parameters
        ----------
        path : str or Path

        Returns
        -------
        policy : object
            It asks for the same evaluations that the saved one would have asked for.
        """
        return _saving.load(cls, path)

    def predict(self, X, return_std=False):
        """Return posterior means of the function.

        Parameters
        ----------
        X : array of shape (n_queries, n_features)
        return_std : bool, default=False

        Returns
        -------
        mean : array of shape (n_queries,)
        std : array of shape (n_queries,)
            Standard deviations of the function without noise, if asked for.
        """
        self._check_learned()
        given = X if is_array(X) else np.asarray(X)
        if given.ndim != 2 or given.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X must have shape (n_queries, {self.n_features_in_}), got {tuple(given.shape)}."
            )
        rows = like(to_compute(given), self._candidates.X)
        mean, leverage = self._posterior_at(rows)
        mean, std = self._answered(mean, leverage)
        return (like(mean, given), like(std, given)) if return_std else like(mean, given)

    def _answered(self, mean, leverage):
        """Means and standard deviations in the units of the feedback."""
        return self._outside(mean), self._scale * (self._lam * leverage) ** 0.5

    @property
    def mean_(self):
        """Posterior means (n_candidates,), of the candidates of this rank."""
        self._check_learned()
        return self._candidates.answer(self._answered(*self._posterior_on_candidates())[0])

    @property
    def posterior_std_(self):
        """Posterior standard deviations (n_candidates,), of the candidates of this rank."""
        self._check_learned()
        return self._candidates.answer(self._answered(*self._posterior_on_candidates())[1])

    @property
    def best_(self):
        """The evaluated candidate of the best posterior mean, a `BestResult`."""
        self._check_learned()
        points = like(self._ledger.points, self._candidates.X)
        mean, leverage = map(to_numpy, self._posterior_at(points))
        best = int(np.argmax(mean))
        value, std = self._answered(mean[best], leverage[best])
        point = self._ledger.points[best].copy()
        return BestResult(int(self._ledger.indices[best]), point, float(value), float(std))

    @property
    def history_(self):
        """All evaluations in the order of asking, a structured array.

        Fields: ``step, batch, index, y, mu_at_pick, s_at_pick, beta, m`` (inducing points),
        ``wall`` (seconds since `initialize`), ``failed``. y is NaN while pending; batch 0 is the
        initial design, -1 outside data.
        """
        self._check_initialized()
        log = self._ledger.log
        kinds = [(name, log.dtype[name]) for name in _HISTORY[:-1]] + [("failed", np.bool_)]
        history = np.empty(len(log), dtype=kinds)
        for name in _HISTORY[:-1]:
            history[name] = log[name]
        history["failed"] = log["status"] == FAILED
        return history

    def regret(self, f_values, kind="cumulative"):
        """Return the regret after each evaluation, given the true values of the candidates.

        Parameters
        ----------
        f_values : array of shape (n_candidates,)
            Values without noise of all candidates.
        kind : {"cumulative", "simple", "inference", "relative"}, default="cumulative"

        Returns
        -------
        regret : ndarray
        """
        self._check_initialized()
        return _regret.regret(self, f_values, kind)

    @property
    def pending_(self):
        """Evaluations asked for and not told yet, a `Batch`."""
        self._check_initialized()
        ids = np.flatnonzero(self._ledger.log["status"] == PENDING)
        indices = self._ledger.log["index"][ids]
        return Batch(ids, indices, like(self._points(indices), self._candidates.X))

    @property
    def batch_closed_(self):
        """Whether the open batch is complete and waits for its feedback."""
        self._check_initialized()
        return self._closed

    @property
    def n_evals_(self):
        """Number of evaluations told, without failed ones."""
        self._check_initialized()
        return int((self._ledger.log["status"] == TOLD).sum())

    @property
    def batch_sizes_(self):
        """Sizes of the batches that have been learned from, without the initial design."""
        self._check_initialized()
        batches = self._ledger.log["batch"]
        sizes = np.bincount(batches[batches >= 0], minlength=self._batch)
        return sizes[1 : self._batch]

    @property
    def n_batches_(self):
        """Number of batches that have been learned from, without the initial design."""
        return len(self.batch_sizes_)

    @property
    def counts_(self):
        """Numbers of evaluations told (n_candidates,), of the candidates of this rank."""
        return self._candidates.answer(self._per_candidate(lambda y: np.ones(len(y)), np.int64))

    @property
    def feedback_sums_(self):
        """Sums of the feedback (n_candidates,), of the candidates of this rank."""
        return self._candidates.answer(self._per_candidate(lambda y: y, np.float64))

    def _per_candidate(self, weights, dtype):
        self._check_initialized()
        log, n = self._ledger.log, len(self._candidates.X)
        log = log[log["status"] == TOLD]
        rows = log["index"] - self._candidates.offset
        own = (rows >= 0) & (rows < n)
        totals = np.bincount(rows[own], weights=weights(log["y"][own]), minlength=n)
        return totals.astype(dtype)

    @property
    def beta_(self):
        """Width of the confidence bounds now, which multiplies the root of the leverage."""
        self._check_learned()
        return float(self._beta)

    @property
    def leverage_(self):
        """Normalized posterior variances (n_candidates,): variances over `lam`."""
        self._check_learned()
        return self._candidates.answer(self._posterior_on_candidates()[1])

    @property
    def effective_dimension_(self):
        """Sum of the leverages over all evaluations."""
        self._check_learned()
        _, leverage = self._posterior_at(like(self._ledger.points, self._candidates.X))
        return float(self._ledger.counts @ to_numpy(leverage))

    @property
    def information_gain_(self):
        """Half the sum of ``log(1 + leverage)`` over the picks, each at its pick."""
        self._check_initialized()
        leverages = self._ledger.log["s_at_pick"]
        return float(0.5 * np.log1p(leverages[np.isfinite(leverages)]).sum())

    def _check_initialized(self):
        if not hasattr(self, "_ledger"):
            raise NotFittedError(
                f"This {type(self).__name__} has no candidates yet; call initialize(X) first."
            )

    def _check_learned(self):
        self._check_initialized()
        if not self._ledger.n_absorbed:
            raise NotFittedError(
                f"This {type(self).__name__} has no feedback yet; ask() and tell() first."
            )
