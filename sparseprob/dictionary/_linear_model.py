"""Linear models with discrete latents, p(y|s) = N(W s + m, sigma^2 I): BSC, TSC, DSC.

Energies in Gram form and exact M-step (J. Lücke, J. Eggert, JMLR 11:2855-2900, 2010; G. Exarchakis,
J. Lücke, Neural Computation 29:2979-3013, 2017).
"""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from .._arrays import compute_namespace, to_numpy
from .._kernels import kernels
from ._linalg import solve_symmetric
from ._statistics import squared_norms

_PRIOR_RANGE = (1e-6, 1 - 1e-6)
_DEAD = 1e-8  # an atom used less than this often keeps its place


class LinearContext(NamedTuple):
    """Everything an E-step needs besides the rows; arrays in the library and dtype of the chunk."""

    components: object  # (H, D)
    projected_offset: object  # (H, 1), W m
    slope: object  # (V,), beta phi / sigma^2
    bias: object  # (V, H)
    coupling: object  # (H, H), beta G / sigma^2
    select_scale: object  # (V, H)
    select_shift: object  # (V, H)
    values: np.ndarray  # (V,), on the host
    log_odds: object  # (V,) float64, log pi_k / pi_0
    temperature: float
    anneal_prior: bool


class LinearDiscreteModel:
    """The part of truncated EM that is particular to linear models with discrete latents.

    Parameters are a dict of float64 arrays: ``components`` (H, D), ``prior`` (V,) the probabilities
    of the non-zero values, ``noise_scale`` (), ``offset`` (D,).

    Parameters
    ----------
    values : sequence of float
        The V non-zero values of a latent.
    tied : bool
        Whether all non-zero values share one probability.
    learn : sequence of str
        Parameters that the M-step updates: "components", "prior", "noise".
    fit_offset : bool
        Whether the M-step updates the offset.
    prior_correction : {"none", "et"}
        "et" corrects the prior for the truncation to `max_active` causes.
    preselect : {"default", "joint"}
        Score of the candidates: projection on the unit atom, or joint probability of the singleton.
    max_active : int
        Largest number of active causes of a state, for the prior correction.
    """

    bounds = {
        "components": (-np.inf, np.inf),
        "prior": _PRIOR_RANGE,
        "noise_scale": (1e-12, np.inf),
    }

    def __init__(self, values, *, tied, learn, fit_offset, prior_correction, preselect, max_active):
        self.max_active = max_active
        self.values = np.asarray(values, dtype=np.float64)
        self.tied, self.learn, self.fit_offset = tied, tuple(learn), fit_offset
        self.prior_correction, self.preselect = prior_correction, preselect

    def statistics_shapes(self, H, D):
        """Names and shapes of the sums over rows that the M-step needs."""
        V = len(self.values)
        return {
            "n_rows": (), "sum_of_squares": (), "data": (D,), "free_energy": (),
            "codes_data": (H, D), "counts": (V, H), "pairs": (H, H),
        }  # fmt: skip

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
            "components": W, "projected_offset": (W @ params["offset"])[:, None],
            "slope": beta * phi / noise, "bias": prior_weight * log_odds[:, None] - beta * squares,
            "coupling": beta * G / noise, "select_scale": scale, "select_shift": shift,
        }  # fmt: skip
        return LinearContext(
            **{name: xp.asarray(a, dtype=dtype, order="C") for name, a in arrays.items()},
            values=phi,
            log_odds=xp.asarray(log_odds),
            temperature=float(temperature),
            anneal_prior=bool(anneal_prior),
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
            B -= context.projected_offset
        return B

    def posterior(self, Y, context, table, *, pairs=None, search=None, rows=None):
        """Truncated posterior of a chunk; `rows` are its local row numbers when states are learned.

        Returns
        -------
        free_energy : array of shape (n,), float64
            Bound of each point relative to the log-joint of its null state.
        log_norm : array of shape (n,), float64
            Log of the summed tempered joint of K_n, relative to the null state.
        marginals : array of shape (V, H, n)
        """
        B = self.project(Y, context)
        if search is None:
            kernel = kernels("linear_discrete", B)
            candidates = self.candidates(B, context, table)
            log_norm, energy, marginals = kernel.truncated_posterior(
                B, candidates, *self._energies(context), table, pairs=pairs
            )
        else:
            log_norm, energy, marginals = search.posterior(B, context, table, rows, pairs=pairs)
        return self._free_energy(log_norm, energy, marginals, context), log_norm, marginals

    def candidates(self, B, context, table):
        """Indices (n_candidates, n) of the latents preselected for each point, best first."""
        if callable(self.preselect):
            return _ranked(self.preselect(B.T, context), table.n_candidates)
        return kernels("linear_discrete", B).select_candidates(
            B, context.select_scale, context.select_shift, table.n_candidates
        )

    @staticmethod
    def _energies(context):
        return context.slope, context.bias, context.coupling, context.values

    def _free_energy(self, log_norm, energy, marginals, context):
        """Bound at temperature 1 of the tempered posterior: add (1 - beta) E[untempered part]."""
        beta = 1.0 / context.temperature
        if beta == 1.0:
            return log_norm
        if context.anneal_prior:
            return log_norm + (1 - beta) / beta * energy
        xp = compute_namespace(marginals)
        n_active = marginals.sum(axis=1, dtype=np.float64)  # (V, n)
        log_prior = xp.einsum("k,kn->n", context.log_odds, n_active)
        return log_norm + (1 - beta) / beta * (energy - log_prior)

    def null_log_joint(self, statistics, params):
        """Sum of log p(s=0, y) over the rows that the statistics count."""
        m, n_rows = params["offset"], float(statistics["n_rows"])
        squares = float(statistics["sum_of_squares"]) - 2 * m @ statistics["data"] + n_rows * m @ m
        return n_rows * self._log_constant(params) - squares / (
            2 * float(params["noise_scale"]) ** 2
        )

    def null_log_joints(self, Y, params):
        """log p(s=0, y) of each row, float64."""
        xp = compute_namespace(Y)
        squares = squared_norms(Y)
        if params["offset"].any():
            m = xp.asarray(params["offset"])
            squares = squares - 2 * Y @ m.astype(Y.dtype) + m @ m
        return self._log_constant(params) - squares / (2 * float(params["noise_scale"]) ** 2)

    @staticmethod
    def _log_constant(params):
        H, D = params["components"].shape
        log_normal = -0.5 * D * np.log(2 * np.pi * float(params["noise_scale"]) ** 2)
        return H * np.log1p(-params["prior"].sum()) + log_normal

    def codes(self, marginals):
        """Posterior means E[s], shape (H, n)."""
        if len(self.values) == 1 and self.values[0] == 1.0:
            return marginals[0]
        xp = compute_namespace(marginals)
        return xp.tensordot(xp.asarray(self.values, dtype=marginals.dtype), marginals, axes=1)

    def accumulate(self, Y, context, table, statistics, *, search=None, rows=None):
        """Add the statistics of a chunk; return the free energies relative to the null states."""
        free_energy, _, marginals = self.posterior(
            Y, context, table, pairs=statistics["pairs"], search=search, rows=rows
        )
        statistics["free_energy"] += free_energy.sum()
        statistics["counts"] += marginals.sum(axis=-1, dtype=np.float64)
        statistics["codes_data"] += self.codes(marginals) @ Y
        return free_energy

    def accumulate_rows(self, Y, statistics):
        """Add what depends on the rows alone."""
        statistics["n_rows"] += len(Y)
        statistics["sum_of_squares"] += squared_norms(Y).sum()
        statistics["data"] += Y.sum(axis=0, dtype=np.float64)

    def fill_rows(self, statistics, summary):
        """Set what depends on the rows alone from the summary of all rows."""
        statistics["n_rows"], statistics["data"] = summary.n_rows, summary.mean * summary.n_rows
        statistics["sum_of_squares"] = summary.sum_of_squares

    # ------------------------------------------------------------------ M-step
    def maximize(self, statistics, params, variance):
        """Return the parameters that maximize the free energy, from summed statistics.

        `variance` is the mean variance of a feature: the noise variance stays above 1e-8 of it.
        """
        n_rows, H = float(statistics["n_rows"]), len(params["components"])
        new = dict(params)
        S1, S2 = self._augmented(statistics)
        W = np.vstack([params["components"], params["offset"]])
        fixed = np.diag(S2) < _DEAD * n_rows
        if "components" not in self.learn:
            fixed[:H] = True
        fixed[H] = not self.fit_offset
        free = ~fixed
        if free.any():
            right = S1[free] - S2[np.ix_(free, fixed)] @ W[fixed]
            W[free] = solve_symmetric(S2[np.ix_(free, free)], right)
        new["components"], new["offset"] = W[:H], W[H]
        if "noise" in self.learn:
            residual = statistics["sum_of_squares"] - 2 * np.vdot(W, S1) + np.vdot(W, S2 @ W)
            residual = float(residual) / (n_rows * W.shape[1])
            new["noise_scale"] = np.sqrt(np.array(max(residual, 1e-8 * variance)))
        if "prior" in self.learn:
            new["prior"] = self._new_prior(statistics["counts"], n_rows, params["prior"])
        return new

    def _augmented(self, statistics):
        """First and second moments of (s, 1): sums of E[(s,1)] y^T and E[(s,1)(s,1)^T]."""
        counts, phi = statistics["counts"], self.values
        H, D = statistics["codes_data"].shape
        S1, S2 = np.empty((H + 1, D)), np.empty((H + 1, H + 1))
        S1[:H], S1[H] = statistics["codes_data"], statistics["data"]
        S2[:H, :H] = statistics["pairs"]
        S2[np.arange(H), np.arange(H)] = phi**2 @ counts
        S2[H, :H] = S2[:H, H] = phi @ counts
        S2[H, H] = statistics["n_rows"]
        return S1, S2

    def _new_prior(self, counts, n_rows, prior):
        H, n_active = counts.shape[1], counts.sum(axis=1) / n_rows  # (V,) per row
        if self.prior_correction == "et":
            total = (
                truncation_factor(H, self.max_active, prior.sum()) * prior.sum() * n_active.sum()
            )
            new = total * n_active / max(n_active.sum(), np.finfo(float).tiny)
        else:
            new = n_active / H
        if self.tied:
            new = np.full_like(new, new.mean())
        new = np.maximum(new, _PRIOR_RANGE[0])
        return new * min(1.0, _PRIOR_RANGE[1] / new.sum())

    def dead(self, statistics):
        """Numbers of the atoms that no row uses."""
        return np.flatnonzero(
            statistics["counts"].sum(axis=0) < _DEAD * float(statistics["n_rows"])
        )

    def truncated_mass(self, params):
        """Prior probability of at most `max_active` active causes."""
        log_p, _ = _count_log_probabilities(
            len(params["components"]), self.max_active, params["prior"].sum()
        )
        return float(np.exp(log_p).sum())

    def record(self, params):
        """Scalars for the history."""
        return {"prior": float(params["prior"].sum()), "noise_scale": float(params["noise_scale"])}

    # ------------------------------------------------------------------ generative model
    def initial(self, summary, H, rng):
        """Initial parameters: atoms scattered around the mean of the data."""
        D, spread = len(summary.mean), float(np.sqrt(summary.variance).mean())
        offset = summary.mean.copy() if self.fit_offset else np.zeros(D)
        V = len(self.values)
        return {
            "components": summary.mean - offset + rng.normal(scale=spread / 4, size=(H, D)),
            "prior": np.full(V, np.clip(1.0 / H, 1e-6, 0.5) / V),
            "noise_scale": np.array(spread),
            "offset": offset,
        }

    def sample(self, params, n_samples, rng):
        """Draw data and states from the model: X (n, D), S (n, H)."""
        H, D = params["components"].shape
        edges = np.concatenate([[0.0], np.cumsum(params["prior"])])
        u = rng.random((n_samples, H))
        k = np.searchsorted(edges, u, side="right") - 1  # V means inactive
        S = np.append(self.values, 0.0)[k]
        noise = rng.normal(scale=float(params["noise_scale"]), size=(n_samples, D))
        return S @ params["components"] + params["offset"] + noise, S


def _count_log_probabilities(H, max_active, prior):
    """Log-probabilities of g = 0..max_active active causes out of H, and g."""
    g = np.arange(max_active + 1)
    log_choose = gammaln(H + 1) - gammaln(g + 1) - gammaln(H - g + 1)
    return log_choose + g * np.log(prior) + (H - g) * np.log1p(-prior), g


def truncation_factor(H, max_active, prior):
    """A / B of Expectation Truncation: 1 / E[number of active causes | at most max_active]."""
    log_p, g = _count_log_probabilities(H, max_active, prior)
    p = np.exp(log_p - log_p.max())
    return p.sum() / (g * p).sum()


def _ranked(scores, n_candidates):
    """Indices (n_candidates, n) of the largest scores (n, H); ties go to the lower index."""
    xp = compute_namespace(scores)
    order = xp.argsort(-scores, axis=1, kind="stable") if xp is np else xp.argsort(-scores, axis=1)
    return xp.ascontiguousarray(order[:, :n_candidates].T.astype(np.int32))


def state_energies(B, candidates, context, table):
    """Energies of all states of K_n relative to the null state, by whole-array formulas.

    Parameters
    ----------
    B : array of shape (H, n)
    candidates : int array of shape (n_candidates, n)

    Returns
    -------
    energies : array of shape (1 + V * H + S, n)
        The null state, the singletons (value-major), the states of the table.
    """
    xp = compute_namespace(B)
    (H, n), V = B.shape, len(context.slope)
    energies = xp.empty((1 + V * H + len(table.length), n), dtype=B.dtype)
    energies[0] = 0.0
    singles = context.bias[:, :, None] + context.slope[:, None, None] * B[None]
    energies[1 : 1 + V * H] = singles.reshape(V * H, n)
    U, columns = table.n_candidates * V, xp.arange(n)
    walk = [singles[u % V][candidates[u // V], columns] for u in range(U)]
    alone = list(walk)
    for s in range(len(table.length)):
        added, energy = int(table.unit[s]), walk[table.parent[s]] + alone[int(table.unit[s])]
        for other in table.members[s, : table.length[s] - 1]:
            slots = candidates[added // V], candidates[int(other) // V]
            value = context.values[added % V] * context.values[int(other) % V]
            energy = energy - value * context.coupling[slots]
        walk.append(energy)
        energies[1 + V * H + s] = energy
    return energies


def states_of(indices, candidates, table, values, H):
    """Dense states (n, k, H) of the state numbers `indices` (k, n) of `state_energies`."""
    indices, candidates = to_numpy(indices), to_numpy(candidates)
    (k, n), V = indices.shape, len(values)
    dense = np.zeros((n, k, H))
    j, i = np.nonzero((indices > 0) & (indices <= V * H))
    single = indices[j, i] - 1
    dense[i, j, single % H] = values[single // H]
    j, i = np.nonzero(indices > V * H)
    members = table.members[indices[j, i] - 1 - V * H]
    for m in range(members.shape[1]):
        there = members[:, m] >= 0
        unit = members[there, m]
        dense[i[there], j[there], candidates[unit // V, i[there]]] = values[unit % V]
    return dense
