"""What a fitted sparse coding model tells about rows: codes, bounds, samples, probable states."""

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils import Bunch, check_random_state

from .. import mpi
from .._arrays import (
    compute_dtype,
    compute_namespace,
    is_on_gpu,
    like,
    to_compute,
    to_numpy,
)
from .._base import Estimator
from .._threads import one_blas_thread, over_chunks
from ._inference import infer_rows, rows_per_chunk, top_kept_states
from ._states import n_states
from ._statistics import checked_rows

_CPU_ROWS = 1024  # rows of a chunk: its projections stay in the cache
_GPU_NUMBERS = 2**27  # projections of a chunk: few launches, moderate memory


def rows_at_once(batch_size, X, n_components):
    """Rows of a chunk: `batch_size`, or a default that suits the device of X."""
    default = max(_CPU_ROWS, _GPU_NUMBERS // n_components) if is_on_gpu(X) else _CPU_ROWS
    return batch_size or default


class SparseEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, Estimator):
    """The methods of a fitted model; `TruncatedSparseCoding` adds the learning."""

    def _inference(self, X, method):
        """Checked X, model, parameters and context for computing posteriors."""
        X = self._check_X(X, reset=False, method=method)
        model, params = self._make_model(), self._parameters()
        return X, model, params, model.context(params, compute_namespace(X), compute_dtype(X))

    def _over_chunks(self, X, work, batch_size=None):
        """Call ``work(rows, chunk)`` for every chunk, after refusing what cannot be computed."""

        def take(start, Y, _):
            checked_rows(Y, start, self.missing == "nan")
            work(slice(start, start + len(Y)), Y)

        batch_size = rows_at_once(batch_size or self.batch_size, X, self._sizes()[0])
        with one_blas_thread():
            over_chunks(take, X, batch_size, compute_dtype(X))

    def transform(self, X, method="mean"):
        """Encode rows by their truncated posterior.

        Parameters
        ----------
        X : array or row source of shape (n_samples, n_features)
        method : {"mean", "map"}, default="mean"
            Posterior mean of the states, or the most probable state.

        Returns
        -------
        codes : array of shape (n_samples, n_components)
            In the library, on the device and in the floating type of X.
        """
        if method not in ("mean", "map"):
            raise ValueError(f"method must be 'mean' or 'map', got {method!r}.")
        if method == "map":
            return self.infer(X, top_k=1).states[:, 0]
        X, model, _, context = self._inference(X, "transform")
        table, xp = self._make_table(), compute_namespace(X)
        search = self._make_search(table)
        codes = xp.empty((X.shape[0], self.components_.shape[0]), dtype=compute_dtype(X))

        def take(rows, Y):
            numbers = range(rows.start, rows.stop)
            found = model.posterior(Y, context, table, search=search, rows=numbers)
            codes[rows] = found.codes.T

        self._over_chunks(X, take)
        return like(codes, X)

    def inverse_transform(self, X):
        """Map codes to data space, ``codes @ components_ + offset_``.

        Parameters
        ----------
        X : array of shape (n_samples, n_components)

        Returns
        -------
        X_original : array of shape (n_samples, n_features)
        """
        codes, params = to_compute(X), self._parameters()
        xp = compute_namespace(codes)
        dtype = compute_dtype(X) if hasattr(X, "dtype") else codes.dtype
        W = xp.asarray(params["components"], dtype=dtype)
        return like(codes.astype(dtype) @ W + xp.asarray(params["offset"], dtype=dtype), X)

    def reconstruct(self, X):
        """Posterior mean of the noise-free data, entries missing in X included.

        Parameters
        ----------
        X : array or row source of shape (n_samples, n_features)

        Returns
        -------
        X_mean : array of shape (n_samples, n_features)
        """
        X, model, _, context = self._inference(X, "reconstruct")
        table, xp = self._make_table(), compute_namespace(X)
        search = self._make_search(table)
        means = xp.empty(X.shape, dtype=compute_dtype(X))

        def take(rows, Y):
            numbers = range(rows.start, rows.stop)
            means[rows] = model.mean(Y, context, table, search=search, rows=numbers)

        self._over_chunks(X, take)
        return like(means, X)

    def score_samples(self, X):
        """Free energy of each row: a lower bound of its log-likelihood, in nats.

        Parameters
        ----------
        X : array or row source of shape (n_samples, n_features)

        Returns
        -------
        bound : array of shape (n_samples,), float64
        """
        X, model, params, context = self._inference(X, "score_samples")
        table, xp = self._make_table(), compute_namespace(X)
        search = self._make_search(table)
        bound = xp.empty(X.shape[0])

        def take(rows, Y):
            numbers = range(rows.start, rows.stop)
            found = model.posterior(Y, context, table, search=search, rows=numbers)
            bound[rows] = found.free_energy + model.null_log_joints(Y, params)

        self._over_chunks(X, take)
        return like(bound, X)

    def score(self, X, y=None):
        """Mean free energy per row; of all ranks' rows inside `distributed`.

        Parameters
        ----------
        X : array or row source of shape (n_samples, n_features)
        y : None
            Ignored.

        Returns
        -------
        float
        """
        with mpi.errors_together():
            bound = to_numpy(self.score_samples(X))
        total, n_rows = mpi.row_sum(np.array(bound.sum()), np.array(float(bound.size)))
        return float(total / n_rows)

    def _shown_marginals(self, marginals):
        """What `infer` tells of the probabilities (n, V, H) of the non-zero values."""
        return marginals.sum(axis=1)

    @property
    def _n_features_out(self):
        return self.components_.shape[0]

    def sample(self, n_samples=1):
        """Draw data and latent states from the model.

        Parameters
        ----------
        n_samples : int, default=1

        Returns
        -------
        X : array of shape (n_samples, n_features)
        states : array of shape (n_samples, n_components)
        """
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}.")
        params = self._parameters()
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))
        dtype = to_compute(self.components_).dtype
        return tuple(
            like(A.astype(dtype), self.components_)
            for A in self._make_model().sample(params, n_samples, rng)
        )

    def infer(
        self, X, top_k=10, *, adaptive=False, max_candidates=None, max_active=None, log=False
    ):
        """Most probable states of each row, with their probabilities.

        Parameters
        ----------
        X : array or row source of shape (n_samples, n_features)
        top_k : int, default=10
            Number of states per row; at most the number of states evaluated.
        adaptive : bool, default=False
            Redo rows whose best state has exactly `max_active` active causes with one more
            candidate and one more active cause, until none is left or a limit is reached.
        max_candidates, max_active : int, default=None
            Limits of the widening; None means twice the model's own.
        log : bool, default=False
            Return log-probabilities.

        Returns
        -------
        result : Bunch
            ``states`` (n, k, n_components); ``prob`` (n, k), normalized over all states evaluated,
            descending, 0 beyond the states found; ``marginals`` (n, n_components), the
            probability that a cause is active;
            ``abs_marginals`` (n, n_components), the posterior mean of its magnitude;
            ``n_candidates`` (n,) and ``max_active`` (n,), the state sets used.
        """
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}.")
        X, model, _, context = self._inference(X, "infer")
        table, H = self._make_table(), self.components_.shape[0]
        limits = (
            min(H, max_candidates or 2 * table.n_candidates),
            min(H, max_active or 2 * table.max_active),
        )
        total = n_states(H, table.n_candidates, table.max_active, table.n_values)
        search = self._make_search(table)
        if adaptive and search is not None:
            raise ValueError(
                "adaptive=True widens preselected states and needs state_search='select', got "
                f"{self.state_search!r}; learned states are not limited to the candidates."
            )
        found = {}

        def take(rows, Y):
            if search is None:
                found[rows.start] = infer_rows(
                    model, Y, context, table, top_k=top_k, adaptive=adaptive, limits=limits,
                    max_states=self.max_states,
                )  # fmt: skip
            else:
                numbers = range(rows.start, rows.stop)
                found[rows.start] = top_kept_states(
                    model, search, Y, context, table, numbers, top_k
                )

        self._over_chunks(X, take, rows_per_chunk(total, compute_dtype(X)))
        parts = [found[start] for start in sorted(found)]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        marginals = joined["marginals"]
        dtype = compute_dtype(X)
        arrays = {
            "states": joined["states"].astype(dtype),
            "prob": joined["log_prob"] if log else np.exp(joined["log_prob"]),
            "marginals": self._shown_marginals(marginals).astype(dtype),
            "abs_marginals": np.tensordot(marginals, abs(model.values), axes=(1, 0)).astype(dtype),
            "n_candidates": joined["n_candidates"],
            "max_active": joined["max_active"],
        }
        return Bunch(**{name: like(value, X) for name, value in arrays.items()})
