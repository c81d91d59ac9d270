"""The interface that all probabilistic sparse coding estimators share."""

import hashlib
import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import _fit_context
from sklearn.callback import with_callbacks
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from .. import _checkpoint, mpi
from .._arrays import compute_dtype, like, to_numpy
from .._threads import one_blas_thread
from ._encoder import SparseEncoder, rows_at_once
from ._initial import initial_parameters
from ._online import OnlineStatistics
from ._schedule import LinearSchedule
from ._states import build_state_table
from ._statistics import summarize_rows
from ._truncated_em import EMOptions, EMState, TruncatedEM


class TruncatedSparseCoding(SparseEncoder):
    """Base of the sparse coding models: fit, inference, sampling, checkpoints, online learning.

    A subclass takes its constructor from ``with_parameters``, and supplies its alphabet
    ``_values``, ``_make_model()`` (context, posterior, statistics, M-step), the annealing points
    ``_annealing``, the parameters it can learn, and how they become fitted attributes and back:
    ``_parameter_attributes(params)`` and ``_parameters()``.
    """

    _reference_attribute = "components_"
    _annealing: dict = {"T": [(0, 5.0), (0.8, 1.0)]}
    _learnable: tuple = ("components", "prior", "noise")
    _values: tuple = (1.0,)  # non-zero values of a latent
    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "n_candidates": [Interval(Integral, 1, None, closed="left"), None],
        "max_active": [Interval(Integral, 1, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "schedule": [StrOptions({"anneal"}), LinearSchedule, None],
        "prior_correction": [StrOptions({"none", "et"})],
        "data_cut": [Interval(Real, 0, 1, closed="both")],
        "preselect": [StrOptions({"default", "joint"}), callable],
        "state_search": [StrOptions({"select", "sample", "evo"})],
        "n_states": [Interval(Integral, 1, None, closed="left"), None],
        "states_path": [str, None],
        "missing": [StrOptions({"nan"}), None],
        "init": [StrOptions({"mean", "data"}), "array-like", dict],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "learn": [tuple, list],
        "fit_offset": ["boolean"],
        "reinit_dead": ["boolean"],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "max_states": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    # ------------------------------------------------------------------ learning
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, resume_from=None):
        """Learn the parameters by truncated expectation maximization.

        Parameters
        ----------
        X : array or row source of shape (n_samples, n_features)
            NumPy, CuPy or torch array, memory map, h5py dataset or ``datasets.on_gpu(...)``. Inside
            ``with distributed():`` the rows of this rank.
        y : None
            Ignored.
        resume_from : str or Path, default=None
            A file written by `sparseprob.callbacks.Checkpoint` during a fit of the same data with
            the same parameters, from which to continue.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X has NaN, infinity or no variance, if `n_candidates`, `max_active` and
            `n_components` do not go together, or if the checkpoint does not belong to this fit.
        """
        with mpi.errors_together():
            X = self._check_X(X, reset=True)
            self._table, self._model = self._make_table(), self._make_model()
            saved = None if resume_from is None else _checkpoint.load(resume_from)
        self._em = em = self._engine(X)
        self._state = em.start(self._draw_seed()) if saved is None else self._resume(saved)
        steps = self._iterations(
            X, y, max_iter=self.max_iter * self.n_init, first=self._state.n_steps,
            until=lambda: self._state.finished,
        )  # fmt: skip
        with one_blas_thread():
            for _ in steps:
                em.step(self._state)
        self._set_attributes(self._fitted_attributes())
        if not self.converged_ and self.tol > 0 and self._state.finished:
            warnings.warn(
                f"The free energy still changed by more than tol={self.tol} after {self.max_iter} "
                "iterations; increase max_iter or tol.",
                ConvergenceWarning,
                stacklevel=2,
            )
        self._forget("_em", "_state", "_online", "_table", "_model")
        return self

    def partial_fit(self, X, y=None):
        """Update the model with one batch of rows by online EM.

        Running statistics s <- (1 - eta) s + eta s_batch with eta = (t + 2)^-0.6 (O. Cappé,
        E. Moulines, JRSS-B 71, 2009), then an M-step.

        Parameters
        ----------
        X : array or row source of shape (n_samples, n_features)
        y : None
            Ignored.

        Returns
        -------
        self : object
        """
        first = not hasattr(self, "_online")
        self._validate_params()
        with mpi.errors_together():
            X = self._check_X(X, reset=not hasattr(self, "components_"), method="partial_fit")
            self._table, self._model = self._make_table(), self._make_model()
        if first:
            known = self._parameters() if hasattr(self, "components_") else None
            self._online = OnlineStatistics(self._draw_seed(), known)
        em = self._engine(X)
        with one_blas_thread():
            record = self._online.update(em)
        self._set_attributes(self._attributes_of(self._online.params, [record], X, False))
        self._forget("_table", "_model")
        return self

    def _forget(self, *names):
        for name in names:
            self.__dict__.pop(name, None)

    def _sizes(self):
        """Numbers of atoms, of candidates and of causes active together."""
        H = self.n_components or self.n_features_in_
        n_candidates = min(8, H) if self.n_candidates is None else self.n_candidates
        return H, n_candidates, self.max_active or min(4, n_candidates)

    def _make_table(self):
        """Build the table of states; refuses numbers that do not go together."""
        H, n_candidates, max_active = self._sizes()
        return build_state_table(
            n_candidates,
            max_active,
            len(self._values) + 1,
            n_components=H,
            max_states=self.max_states,
        )

    def _model_options(self):
        unknown = set(self.learn) - set(self._learnable)
        if unknown:
            raise ValueError(f"learn must be chosen from {self._learnable}, got {sorted(unknown)}.")
        names = ("learn", "prior_correction", "preselect")
        sizes = {"max_active": self._sizes()[2], "missing": self.missing == "nan"}
        return {name: getattr(self, name) for name in names} | sizes

    def _engine(self, X):
        """Summarize the rows and assemble the engine of truncated EM."""
        dtype, model, table = compute_dtype(X), self._model, self._table
        batch_size = rows_at_once(self.batch_size, X, self._sizes()[0])
        summary = summarize_rows(X, batch_size, dtype, missing=self.missing == "nan")
        if not np.sqrt(summary.variance).mean() > 0:
            raise ValueError(
                f"X has zero variance (n_samples={summary.n_rows}); at least two different rows "
                "are needed."
            )
        H = self._sizes()[0]
        if summary.n_rows < H:
            warnings.warn(
                f"n_components={H} exceeds n_samples={summary.n_rows}; the dictionary is not "
                "determined by the data.",
                UserWarning,
                stacklevel=3,
            )
        names = ("max_iter", "tol", "data_cut", "n_init", "reinit_dead", "verbose")
        values = {name: getattr(self, name) for name in names}
        options = EMOptions(**values, batch_size=batch_size, dtype=dtype)

        def initial(restart, rng):
            return initial_parameters(self._given_init(), model, X, summary, H, rng)

        search = self._make_search(table, summary)
        return TruncatedEM(model, table, X, summary, self._schedule(), options, initial, search)

    def _given_init(self):
        """`init` in the terms of the model."""
        return self.init

    def _make_search(self, table, summary=None):
        if self.state_search == "select":
            return None
        if self.missing is not None:
            raise ValueError(
                "missing='nan' needs state_search='select', got "
                f"{self.state_search!r}; rows with missing entries use preselected states."
            )
        from ._state_search import StateSearch

        return StateSearch(
            self.state_search, table, n_states=self.n_states, path=self.states_path,
            summary=summary,
        )  # fmt: skip

    def _schedule(self):
        if self.schedule == "anneal":
            return LinearSchedule(self._annealing)
        return self.schedule or LinearSchedule()

    def _draw_seed(self):
        return int(mpi.broadcast(check_random_state(self.random_state).randint(2**31 - 1)))

    # ------------------------------------------------------------------ fitted attributes
    def _fitted_attributes(self):
        best = self._state.result()
        return self._attributes_of(
            best["params"], best["history"], self._em.rows, best["converged"]
        )

    def _attributes_of(self, params, history, X, converged):
        attributes = self._parameter_attributes(params)
        dtype = compute_dtype(X)
        for name, value in attributes.items():
            if isinstance(value, np.ndarray):
                attributes[name] = like(value.astype(dtype), X)
        names = history[0] if history else {}
        return attributes | {
            "history_": {name: np.array([record[name] for record in history]) for name in names},
            "lower_bound_": float(history[-1]["lower_bound"]) if history else -np.inf,
            "n_used_": int(history[-1]["n_used"]) if history else 0,
            "n_iter_": len(history),
            "converged_": bool(converged),
        }

    def _set_attributes(self, attributes):
        for name, value in attributes.items():
            setattr(self, name, value)

    # ------------------------------------------------------------------ checkpoints
    def _checkpoint_state(self):
        """Everything a resumed fit needs, for `sparseprob.callbacks.Checkpoint`."""
        state, em = self._state, self._em
        arrays = {f"params/{name}": value for name, value in state.params.items()}
        meta = {
            name: getattr(state, name)
            for name in (
                "seed",
                "restart",
                "iteration",
                "n_steps",
                "n_flat",
                "converged",
                "finished",
            )
        }
        meta |= {
            "history": state.history,
            "options": self._options(),
            "data": self._fingerprint(em),
        }
        if state.best is not None:
            arrays |= {f"best/{name}": value for name, value in state.best["params"].items()}
            meta["best"] = {name: state.best[name] for name in ("history", "converged")}
        local = {} if em.search is None else em.search.local_arrays()
        return {"arrays": arrays, "meta": meta | {"has_local": bool(local)}, "local": local}

    def _resume(self, saved):
        meta, em = saved["meta"], self._em
        with mpi.errors_together():
            _checkpoint.check_same(meta["data"], self._fingerprint(em), "data")
            _checkpoint.check_same(meta["options"], self._options(), "parameters")
            if em.search is not None:
                em.search.restore(saved["local"])
        arrays: dict[str, dict] = {"params": {}, "best": {}}
        for key, value in saved["arrays"].items():
            group, name = key.split("/")
            arrays[group][name] = value
        best = meta.pop("best", None)
        if best is not None:
            best = {"params": arrays["best"], **best}
        fields = {name: meta[name] for name in EMState.__dataclass_fields__ if name in meta}
        return EMState(**{**fields, "params": arrays["params"], "best": best})

    def _options(self):
        """Parameters that shape the fit, as JSON values."""
        options = {"estimator": type(self).__name__}
        for name, value in self.get_params(deep=False).items():
            if name not in ("verbose", "states_path"):
                options[name] = _plain(value)
        return options

    @staticmethod
    def _fingerprint(em):
        """Shape, dtype and a hash of the first and last rows of the whole data."""
        rows, s = em.rows, em.summary
        mine = (_row_hash(rows[:1]), _row_hash(rows[s.n_local - 1 :])) if s.n_local else None
        ends = [pair for pair in mpi.all_gather(mine) if pair is not None]
        return {
            "n_samples": s.n_rows, "n_features": len(s.mean), "dtype": str(em.options.dtype),
            "first_row": ends[0][0], "last_row": ends[-1][1],
        }  # fmt: skip


def _plain(value):
    """Return a parameter value as something JSON can hold and compare."""
    if isinstance(value, LinearSchedule):
        return {name: [list(p) for p in points] for name, points in (value.points or {}).items()}
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, (tuple, list)) and all(isinstance(v, str) for v in value):
        return list(value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, np.random.RandomState):
        return "RandomState"
    if callable(value):
        return getattr(value, "__qualname__", type(value).__name__)
    return hashlib.sha256(np.ascontiguousarray(to_numpy(value)).tobytes()).hexdigest()


def _row_hash(row):
    return hashlib.sha256(np.ascontiguousarray(to_numpy(row)).tobytes()).hexdigest()[:16]
