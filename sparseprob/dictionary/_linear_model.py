"""Linear models with discrete latents, p(y|s) = N(W s + m, sigma^2 I): BSC, TSC, DSC.

Energies in Gram form and exact M-step (J. Lücke, J. Eggert, JMLR 11:2855-2900, 2010; G. Exarchakis,
J. Lücke, Neural Computation 29:2979-3013, 2017).
"""

from typing import NamedTuple

import numpy as np

from .._arrays import compute_namespace, to_numpy
from .._kernels import kernels
from .._kernels._state_problems import LinearProblem
from .._kernels._state_search_numba import listed_posterior
from . import _state_arrays as whole
from ._linalg import solve_symmetric
from ._model import DEAD, Posterior, TruncatedModel, ranked
from ._statistics import observed_part


class LinearContext(NamedTuple):
    """Everything an E-step needs besides the rows; arrays in the library and dtype of the chunk."""

    components: object  # (H, D)
    offset: object  # (D,)
    slope: object  # (V,), beta phi / sigma^2
    bias: object  # (V, H)
    coupling: object  # (H, H), beta G / sigma^2
    select_scale: object  # (V, H)
    select_shift: object  # (V, H)
    values: np.ndarray  # (V,), on the host
    log_odds: object  # (V,) float64, log pi_k / pi_0
    temperature: float
    anneal_prior: bool
    precision: float  # beta / sigma^2


class LinearDiscreteModel(TruncatedModel):
    """The part of truncated EM that is particular to linear models with discrete latents.

    Parameters are ``components`` (H, D), ``prior`` (V,) the probabilities of the non-zero values,
    ``noise_scale`` (), ``offset`` (D,).

    Parameters
    ----------
    fit_offset : bool
        Whether the M-step updates the offset.
    **options
        As of `TruncatedModel`; the default of `preselect` is the projection on the unit atom where
        there is one value, and the joint probability of the singleton where there are more.
    """

    def __init__(self, values, *, fit_offset, **options):
        super().__init__(values, **options)
        self.fit_offset = fit_offset

    def statistics_shapes(self, H, D):
        """Names and shapes of the sums over rows that the M-step needs."""
        V = len(self.values)
        shapes = {"codes_data": (H, D), "counts": (V, H), "pairs": (H, H)}
        if self.missing:
            shapes |= {"imputed": (H, D), "codes_missing": (H, D)}
        return self.row_statistics_shapes(D) | shapes

    # ------------------------------------------------------------------ E-step
    def context(self, params, xp, dtype, temperature=1.0, anneal_prior=False):
        """Prepare Gram matrix, energies of singletons and selection scores."""
        W, noise = params["components"], float(params["noise_scale"]) ** 2
        beta, G, phi = 1.0 / temperature, W @ W.T, self.values
        log_odds = np.log(params["prior"]) - np.log1p(-params["prior"].sum())
        prior_weight = beta if anneal_prior else 1.0
        squares = np.outer(phi**2, np.diag(G)) / (2 * noise)
        scale, shift = self._selection(G, noise, log_odds, squares)
        arrays = {
            "components": W, "offset": params["offset"],
            "slope": beta * phi / noise, "bias": prior_weight * log_odds[:, None] - beta * squares,
            "coupling": beta * G / noise, "select_scale": scale, "select_shift": shift,
        }  # fmt: skip
        return LinearContext(
            **{name: xp.asarray(a, dtype=dtype, order="C") for name, a in arrays.items()},
            values=phi,
            log_odds=xp.asarray(log_odds),
            temperature=float(temperature),
            anneal_prior=bool(anneal_prior),
            precision=beta / noise,
        )

    def _selection(self, G, noise, log_odds, squares):
        """Affine scores scale * b_h + shift of latents at values; an atom W_h = 0 comes last."""
        norms = np.sqrt(np.diag(G))
        if self.preselect == "joint" or len(self.values) > 1:
            scale = np.repeat(self.values[:, None] / noise, len(norms), axis=1)
            shift = log_odds[:, None] - squares
        else:
            scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)[None]
            shift = np.zeros_like(scale)
        return np.where(norms > 0, scale, 0.0), np.where(norms > 0, shift, -np.inf)

    def project(self, Y, context):
        """Projections W (y - m), shape (H, n)."""
        B = context.components @ Y.T
        if self.fit_offset:
            B -= (context.components @ context.offset)[:, None]
        return B

    def posterior(self, Y, context, table, *, statistics=None, search=None, rows=None):
        """Truncated posterior of a chunk, whose statistics are added if given.

        `rows` are the local numbers of its rows when states are learned.
        """
        if self.missing:
            return self._posterior_of_observed(Y, context, table, statistics)
        pairs = None if statistics is None else statistics["pairs"]
        B = self.project(Y, context)
        candidates = self.candidates(B, context, table)
        if search is None:
            log_norm, energy, marginals = kernels("linear_discrete", B).truncated_posterior(
                B, candidates, context.slope, context.bias, context.coupling, context.values,
                table, pairs=pairs,
            )  # fmt: skip
        else:
            log_norm, energy, marginals = self._searched(
                B, candidates, context, search, rows, pairs
            )
        found = self._found(log_norm, energy, marginals, context)
        if statistics is not None:
            statistics["codes_data"] += found.codes @ Y
        return found

    def candidates(self, B, context, table):
        """Indices (n_candidates, n) of the latents preselected for each point, best first."""
        if callable(self.preselect):
            return ranked(self.preselect(B.T, context), table.n_candidates)
        return kernels("linear_discrete", B).select_candidates(
            B, context.select_scale, context.select_shift, table.n_candidates
        )

    def _found(self, log_norm, energy, marginals, context):
        free_energy = self.free_energy_of(log_norm, energy, marginals, context)
        if len(self.values) == 1 and self.values[0] == 1.0:
            return Posterior(free_energy, log_norm, marginals, marginals[0])
        xp = compute_namespace(marginals)
        codes = xp.tensordot(xp.asarray(self.values, dtype=marginals.dtype), marginals, axes=1)
        return Posterior(free_energy, log_norm, marginals, codes)

    def state_energies(self, Y, context, table):
        """Candidates (n_candidates, n) and energies (1 + V H + S, n) of all states of K_n."""
        if self.missing:
            Y, mask = observed_part(Y)
            return self._observed_energies(Y, mask, context, table)
        B = self.project(Y, context)
        candidates = self.candidates(B, context, table)
        singles = self._singles(B, context)

        def couplings(i, j):
            return context.coupling[candidates[i], candidates[j]]

        return candidates, whole.linear_energies(
            singles, couplings, candidates, context.values, table
        )

    @staticmethod
    def _singles(B, context):
        return context.bias[:, :, None] + context.slope[:, None, None] * B[None]

    def mean(self, Y, context, table, *, search=None, rows=None):
        """Posterior means (n, D) of the noise-free rows."""
        codes = self.posterior(Y, context, table, search=search, rows=rows).codes
        return codes.T @ context.components + context.offset

    # ------------------------------------------------------------------ learned states
    def improved_states(self, Y, context, table, search, rows):
        """States, places and energies of a search; see `StateSearch.improve`."""
        B = self.project(Y, context)
        return self._improved(B, self.candidates(B, context, table), context, search, rows)

    def _improved(self, B, candidates, context, search, rows):
        coupling = np.asarray(to_numpy(context.coupling), dtype=np.float64)
        odds = np.exp(to_numpy(context.log_odds))
        return search.improve(
            self._singles(B, context), LinearProblem(coupling, context.values), candidates,
            odds / (1 + odds.sum()), rows,
        )  # fmt: skip

    def _searched(self, B, candidates, context, search, rows, pairs):
        states, places, energies = self._improved(B, candidates, context, search, rows)
        xp, H = compute_namespace(B), len(B)
        host_pairs = None if pairs is None else np.zeros((H, H))
        found = listed_posterior(
            states, places, energies, context.values, H, B.dtype, pairs=host_pairs
        )
        if pairs is not None:
            pairs += xp.asarray(host_pairs)
        return tuple(xp.asarray(a) for a in found)

    # ------------------------------------------------------------------ missing entries
    def _observed_energies(self, Y, mask, context, table):
        """Candidates and energies when each row has a Gram matrix of its own."""
        W, xp, phi = context.components, compute_namespace(Y), context.values
        B = W @ Y.T - (W * context.offset) @ mask.T
        squares = W**2 @ mask.T  # (H, n), squared norms of the observed parts of the atoms
        beta_prior = 1.0 / context.temperature if context.anneal_prior else 1.0
        log_odds = (beta_prior * context.log_odds)[:, None, None].astype(Y.dtype)
        half = xp.asarray(phi**2 * context.precision / 2, dtype=Y.dtype)[:, None, None]
        singles = log_odds - half * squares + context.slope[:, None, None] * B
        if callable(self.preselect):
            scores = self.preselect(B.T, context)
        elif self.preselect == "joint" or len(phi) > 1:
            scores = singles.max(axis=0).T
        else:
            scores = (B / xp.sqrt(xp.maximum(squares, np.finfo(Y.dtype).tiny))).T
        candidates = ranked(scores, table.n_candidates)

        def couplings(i, j):
            both = W[candidates[i]] * W[candidates[j]] * mask
            return Y.dtype.type(context.precision) * both.sum(axis=1)

        return candidates, whole.linear_energies(singles, couplings, candidates, phi, table)

    def _posterior_of_observed(self, Y, context, table, statistics):
        Y, mask = observed_part(Y)
        candidates, energies = self._observed_energies(Y, mask, context, table)
        q, log_norm, energy = whole.normalized(energies)
        V, H = len(self.values), len(context.components)
        marginals = whole.state_marginals(q, candidates, table, V, H).astype(Y.dtype)
        found = self._found(log_norm, energy, marginals, context)
        if statistics is not None:
            moments = whole.pair_moments(q, table, self.values, H)
            statistics["codes_data"] += found.codes @ Y
            self._impute(1 - mask, candidates, moments, found, context, statistics)
        return found

    def _impute(self, absent, candidates, moments, found, context, statistics):
        """Add E[s s'] and, for the entries not observed, E[s (W s)'] and E[s]."""
        W, xp = context.components, compute_namespace(absent)
        squares = xp.tensordot(
            xp.asarray(self.values**2, dtype=W.dtype), found.marginals, axes=1
        )  # fmt: skip
        statistics["codes_missing"] += found.codes @ absent
        statistics["imputed"] += (squares @ absent) * W
        for i in range(len(candidates)):
            expected = xp.zeros_like(absent)
            for j in range(len(candidates)):
                if i != j and moments:
                    moment = moments[max(i, j), min(i, j)]
                    expected += moment[:, None].astype(W.dtype) * W[candidates[j]]
                    if j < i:
                        add_pairs(statistics["pairs"], candidates[i], candidates[j], moment)
            whole.add_rows(statistics["imputed"], candidates[i], expected * absent)

    # ------------------------------------------------------------------ M-step
    def maximize(self, statistics, params, variance):
        """Return the parameters that maximize the free energy, from summed statistics.

        `variance` is the mean variance of a feature: the noise variance stays above 1e-8 of it.
        Entries not observed are completed by their expectations at the old parameters, which
        minorizes the free energy and touches it there: it grows all the same.
        """
        n_rows, H = float(statistics["n_rows"]), len(params["components"])
        new = dict(params)
        W = np.vstack([params["components"], params["offset"]])
        S1, S2, squares = self._augmented(statistics, W)
        fixed = np.diag(S2) < DEAD * n_rows
        if "components" not in self.learn:
            fixed[:H] = True
        fixed[H] = not self.fit_offset
        free = ~fixed
        if free.any():
            right = S1[free] - S2[np.ix_(free, fixed)] @ W[fixed]
            W[free] = solve_symmetric(S2[np.ix_(free, free)], right)
        new["components"], new["offset"] = W[:H], W[H]
        if "noise" in self.learn:
            residual = squares - 2 * np.vdot(W, S1) + np.vdot(W, S2 @ W)
            residual = float(residual) / float(statistics["observed"].sum())
            new["noise_scale"] = np.sqrt(np.array(max(residual, 1e-8 * variance)))
        if "prior" in self.learn:
            new["prior"] = self.new_prior(statistics["counts"], n_rows, params["prior"])
        return new

    def _augmented(self, statistics, W):
        """Sums of E[(s,1)] y^T, E[(s,1)(s,1)^T] and |y|^2, with y completed where it is missing."""
        counts, phi = statistics["counts"], self.values
        H, D = statistics["codes_data"].shape
        S1, S2 = np.empty((H + 1, D)), np.empty((H + 1, H + 1))
        S1[:H], S1[H] = statistics["codes_data"], statistics["data"]
        S2[:H, :H] = statistics["pairs"]
        S2[np.arange(H), np.arange(H)] = phi**2 @ counts
        S2[H, :H] = S2[:H, H] = phi @ counts
        S2[H, H] = statistics["n_rows"]
        squares = float(statistics["sum_of_squares"])
        if self.missing:
            R, K, m = statistics["imputed"], statistics["codes_missing"], W[H]
            absent, expected = S2[H, H] - statistics["observed"], (W[:H] * K).sum(axis=0)
            S1[:H] += R + K * m
            S1[H] += expected + absent * m
            squares += (W[:H] * R).sum() + 2 * m @ expected + absent @ m**2
        return S1, S2, squares

    # ------------------------------------------------------------------ generative model
    def initial(self, summary, H, rng):
        """Initial parameters: atoms scattered around the mean of the data."""
        D, spread = len(summary.mean), float(np.sqrt(summary.variance).mean())
        offset = summary.mean.copy() if self.fit_offset else np.zeros(D)
        V, active = len(self.values), np.clip(1.0 / H, 1e-6, 0.5)
        components = summary.mean - offset + rng.normal(scale=spread / 4, size=(H, D))
        shares = np.full(V, 1.0 / V) if self.tied else rng.dirichlet(np.ones(V))
        return {
            "components": components,
            "prior": np.maximum(active * shares, 1e-6),
            "noise_scale": np.array(spread),
            "offset": offset,
        }

    def sample(self, params, n_samples, rng):
        """Draw data and states from the model: X (n, D), S (n, H)."""
        H, D = params["components"].shape
        S = self.draw_states(params["prior"], (n_samples, H), rng)
        noise = rng.normal(scale=float(params["noise_scale"]), size=(n_samples, D))
        return S @ params["components"] + params["offset"] + noise, S


def add_pairs(pairs, first, second, moments):
    """Add moments (n,) to both triangles of `pairs` (H, H) at latents `first` and `second`."""
    xp, H = compute_namespace(moments), len(pairs)
    sums = xp.bincount(first.astype(np.int64) * H + second, weights=moments, minlength=H * H)
    sums = sums.reshape(H, H)
    pairs += sums + sums.T
