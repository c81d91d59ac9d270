"""Truncated expectation maximization over chunks of rows, on any device and any number of ranks.

J. Lücke, J. Eggert, "Expectation Truncation and the Benefits of Preselection in Training Generative
Models", JMLR 11:2855-2900, 2010.
"""

import logging
import time
import warnings
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .. import mpi
from .._arrays import compute_namespace, to_numpy
from .._threads import over_chunks
from ._statistics import Statistics, kth_largest, row_uniforms

_LOG = logging.getLogger("sparseprob.dictionary")
_PARTIAL, _NOISE = 1, 2  # streams of random numbers
_OF_EVERY_MODEL = ("lower_bound", "temperature", "n_used", "seconds")  # in the history
_N_FLAT = 3  # iterations below tol before the fit counts as converged
_N_HALVINGS, _ROUNDING = 8, 1e-13  # of M-steps that let the free energy fall


@dataclass
class EMState:
    """All that changes from iteration to iteration; what a checkpoint holds."""

    params: dict
    seed: int
    restart: int = 0
    iteration: int = 0  # of this restart
    n_steps: int = 0  # of all restarts
    n_flat: int = 0
    converged: bool = False
    finished: bool = False
    history: list = field(default_factory=list)
    best: dict | None = None  # the best finished restart

    def result(self):
        """Parameters, history and convergence of the best restart so far."""
        current = {"params": self.params, "history": self.history, "converged": self.converged}
        if self.best is None or not self.history:
            return self.best or current
        return max(self.best, current, key=lambda r: r["history"][-1]["lower_bound"])


class EMOptions(NamedTuple):
    """Parameters of the estimator that the engine needs."""

    max_iter: int
    tol: float
    data_cut: float
    n_init: int
    batch_size: int
    dtype: np.dtype  # of the rows
    reinit_dead: bool
    verbose: int


@dataclass
class _Sums:
    """What a thread gathers in an E-step."""

    statistics: Statistics
    worst: tuple = (np.inf, None)  # bound and row explained worst


class TruncatedEM:
    """The engine: E-steps over chunks, one reduction, M-steps, schedule, restarts.

    Parameters
    ----------
    model : TruncatedModel
        Supplies contexts, posteriors, statistics and the M-step.
    table : StateTable
        States of two or more active causes.
    rows : array or row source of shape (n_samples, n_features)
        The rows of this rank.
    summary : RowSummary
        What one pass over the rows told.
    schedule : LinearSchedule
    options : EMOptions
    initial : callable
        ``initial(restart, rng)`` gives the parameters a restart begins with.
    search : StateSearch, default=None
        Learned state sets; None uses preselection only.
    """

    def __init__(self, model, table, rows, summary, schedule, options, initial, search=None):
        self.model, self.table, self.rows, self.summary = model, table, rows, summary
        self.schedule, self.initial, self.search = schedule, initial, search
        self.options = options
        self.xp = compute_namespace(rows)
        self._promoted = False

    # ------------------------------------------------------------------ iterations
    def start(self, seed):
        """Return the state before the first iteration."""
        state = EMState(params={}, seed=seed)
        self._begin_restart(state)
        return state

    def _begin_restart(self, state):
        rng = np.random.Generator(np.random.Philox(key=[state.seed, state.restart]))
        state.params = self.initial(state.restart, rng)
        state.iteration, state.n_flat, state.converged, state.history = 0, 0, False, []
        if self.search is not None:
            self.search.reset()

    def step(self, state):
        """Run one EM iteration, and move on to the next restart when this one has ended."""
        if state.iteration >= self.options.max_iter or state.converged:
            state.best = state.result()
            state.restart += 1
            self._begin_restart(state)
        began = time.perf_counter()
        record = self._iterate(state)
        record["seconds"] = time.perf_counter() - began
        state.history.append(record)
        state.iteration += 1
        state.n_steps += 1
        self._judge(state)
        self._log(state)

    def _iterate(self, state):
        iteration, value = state.iteration, self.schedule.value
        settings = {
            name: value(name, iteration, self.options.max_iter)
            for name in ("T", "data_cut", "anneal_prior", "partial")
        }
        settings["data_cut"] = max(settings["data_cut"], self.options.data_cut)
        params = self._noisy(state)
        statistics, worst = self.e_step(params, settings, state)
        free_energy = float(statistics["free_energy"]) / float(statistics["n_rows"])
        if not np.isfinite(free_energy):
            raise FloatingPointError(
                f"The free energy of iteration {iteration} is {free_energy}; rescale X or "
                "use float64."
            )
        state.params = self.model.maximize(statistics, params, self.summary.variance.mean())
        if self.model.monotone:
            self._keep_from_falling(state, params, free_energy, settings)
        if worst is not None:
            self._reinitialize_dead(state.params, statistics, worst)
        return {
            "lower_bound": free_energy, "temperature": settings["T"],
            "n_used": int(round(float(statistics["n_rows"]))),
            **self.model.record(params),
        }  # fmt: skip

    def _keep_from_falling(self, state, old, free_energy, settings):
        """Move new components halfway back to the old ones until the free energy does not fall."""
        new = state.params
        for _ in range(_N_HALVINGS + 1):
            statistics, _ = self.e_step(new, settings, state)
            value = float(statistics["free_energy"]) / float(statistics["n_rows"])
            if value >= free_energy - _ROUNDING * abs(free_energy):
                return
            new["components"] = (new["components"] + old["components"]) / 2
        new["components"] = old["components"]

    def _judge(self, state):
        """Count flat iterations once the schedule has settled; end after the last restart."""
        settled = state.iteration > self.schedule.settled_at(self.options.max_iter)
        if settled and self.options.tol > 0 and len(state.history) > 1:
            new, old = (record["lower_bound"] for record in (state.history[-1], state.history[-2]))
            state.n_flat = state.n_flat + 1 if abs(new - old) < self.options.tol * abs(new) else 0
            state.converged = state.n_flat >= _N_FLAT
        ended = state.converged or state.iteration >= self.options.max_iter
        state.finished = ended and state.restart + 1 >= self.options.n_init

    def _log(self, state):
        if self.options.verbose and mpi.rank() == 0:
            r = state.history[-1]
            of_model = [f"{k} {v:.4g} " for k, v in r.items() if k not in _OF_EVERY_MODEL]
            _LOG.info(
                "iteration %d T %.3g rows %d bound %.6f %s%.2f s %.3g points/s",
                state.n_steps, r["temperature"], r["n_used"], r["lower_bound"], "".join(of_model),
                r["seconds"], self.summary.n_rows / max(r["seconds"], 1e-9),
            )  # fmt: skip

    def _noisy(self, state):
        """Parameters with the schedule's Gaussian noise, equal on every rank, clipped to bounds."""
        params = dict(state.params)
        key = [state.seed, (_NOISE << 32) + state.n_steps]
        rng = np.random.Generator(np.random.Philox(key=key))
        for name, bounds in self.model.bounds.items():
            scale = self.schedule.value(f"{name}_noise", state.iteration, self.options.max_iter)
            if scale:
                noisy = params[name] + rng.normal(scale=scale, size=np.shape(params[name]))
                params[name] = np.clip(noisy, *bounds)
        return params

    # ------------------------------------------------------------------ E-step
    def e_step(self, params, settings, state):
        """Return the summed statistics of all rows used and, if wanted, the worst-explained row."""
        context = self.model.context(
            params,
            self.xp,
            self._compute_dtype(params),
            settings["T"],
            bool(settings["anneal_prior"]),
        )
        if self.search is not None:
            self.search.begin(state.seed, state.n_steps)
        threshold = -np.inf
        if settings["data_cut"] > 0:
            threshold = self._cut_threshold(params, context, settings["data_cut"])
        shapes = self.model.statistics_shapes(*params["components"].shape)
        subset = threshold > -np.inf or 0 < settings["partial"] < 1

        def take(start, Y, sums):
            rows = range(start, start + len(Y))
            if subset:
                keep = self._kept(start, len(Y), threshold, settings["partial"], state)
                rows, Y = start + np.flatnonzero(keep), Y[self.xp.asarray(keep)]
            if subset or self.model.sums_rows:
                self.model.accumulate_rows(Y, sums.statistics)
            bound = self.model.accumulate(
                Y, context, self.table, sums.statistics, search=self.search, rows=rows
            )
            if self.options.reinit_dead:
                sums.worst = self._worse(sums.worst, bound, params, Y)

        with mpi.errors_together():
            sums, *others = over_chunks(
                take, self.rows, self.options.batch_size, context.components.dtype,
                lambda: _Sums(Statistics(shapes, self.xp)),
            )  # fmt: skip
            for other in others:
                sums.statistics.add(other.statistics)
                sums.worst = min(sums.worst, other.worst, key=lambda found: found[0])
        total, worst = sums.statistics.summed(), sums.worst
        if not (subset or self.model.sums_rows):
            self.model.fill_rows(total, self.summary)
        total["free_energy"] += self.model.null_log_joint(total, params)
        return total, worst if self.options.reinit_dead else None

    def _compute_dtype(self, params):
        """Energies need float64 when float32 rounding of |y|^2 / sigma^2 would show."""
        if self.options.dtype == np.float32 and not self._promoted:
            self._promoted = self.summary.largest_norm > 1e5 * self.model.smallest_noise(params)
            if self._promoted:
                warnings.warn(
                    "The noise is too small against the rows of X for float32 energies; computing "
                    "in float64 from here on.",
                    UserWarning,
                    stacklevel=2,
                )
        return np.dtype(np.float64) if self._promoted else self.options.dtype

    # ------------------------------------------------------------------ subsets of rows
    def _cut_threshold(self, params, context, data_cut):
        """Smallest log-joint of the rows that plausibly have at most `max_active` causes."""
        mass = self.model.truncated_mass(params)
        n_use = max(1, int(self.summary.n_rows * (1 - (1 - mass) * data_cut)))
        self._log_joint = np.empty(self.summary.n_local)

        def take(start, Y, _):
            rows = range(start, start + len(Y))
            found = self.model.posterior(Y, context, self.table, search=self.search, rows=rows)
            log_joint = found.log_norm + self.model.null_log_joints(Y, params) / context.temperature
            self._log_joint[start : start + len(Y)] = to_numpy(log_joint)

        with mpi.errors_together():
            over_chunks(take, self.rows, self.options.batch_size, context.components.dtype)
        if self.search is not None:
            self.search.hold()  # the second sweep must see the same states
        return kth_largest(self._log_joint, n_use)

    def _kept(self, start, n, threshold, partial, state):
        keep = np.ones(n, dtype=bool)
        if threshold > -np.inf:
            keep &= self._log_joint[start : start + n] >= threshold
        if 0 < partial < 1:
            first = self.summary.offset + start
            u = row_uniforms(state.seed, state.n_steps, _PARTIAL, range(first, first + n), 4)
            keep &= u[:, 0] < partial
        return keep

    # ------------------------------------------------------------------ dead atoms
    def _worse(self, worst, bound, params, Y):
        bound = to_numpy(bound + self.model.null_log_joints(Y, params))
        if bound.size and bound.min() < worst[0]:
            return float(bound.min()), to_numpy(Y[int(bound.argmin())]).astype(np.float64)
        return worst

    def _reinitialize_dead(self, params, statistics, worst):
        """Replace one atom that no row uses by the worst-explained row."""
        dead = self.model.dead(statistics)
        if dead.size:
            row = min(mpi.all_gather(worst), key=lambda w: w[0])[1]
            row = np.where(np.isnan(row), self.summary.mean, row) - params.get("offset", 0.0)
            self.model.reinitialize(params, dead[0], row)
