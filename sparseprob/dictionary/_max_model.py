"""Models whose causes combine by a maximum, p(y|s) = N(max_h s_h W_h, sigma^2 I): MCA, MMCA.

J. Lücke, M. Sahani, JMLR 9:1227-1267, 2008; G. Puertas, J. Bornschein, J. Lücke, NIPS 23, 2010;
J. Bornschein, M. Henniges, J. Lücke, PLOS Comput Biol 9(6):e1003062, 2013.
"""

from typing import NamedTuple

import numpy as np

from .._arrays import compute_namespace, to_numpy
from .._kernels import _max_numba, kernels
from .._kernels._state_problems import MaxProblem
from .._kernels._state_search_numba import listed_posterior
from .._kernels._superpositions import LARGEST, SOFT, STRONGEST
from ._model import DEAD, Posterior, TruncatedModel, ranked
from ._statistics import observed_part

FLOOR = 1e-4  # smallest magnitude of an entry of an atom
_UNOBSERVED = 1e30  # no cause exceeds it


class MaxContext(NamedTuple):
    """Everything an E-step needs besides the rows; arrays in the library and dtype of the chunk."""

    components: object  # (H, D)
    rows: object  # (H, D), what superpositions are made of; see `MaxProblem`
    reach: object  # (H, D)
    scale: object  # (D,)
    kind: int
    exponent: float
    log_odds: object  # (1,) float64
    temperature: float
    anneal_prior: bool
    precision: float  # beta / sigma^2
    bonus: float  # energy of an active cause


class MaxModel(TruncatedModel):
    """The part of truncated EM that is particular to maximal causes.

    Parameters are ``components`` (H, D), ``prior`` (1,), ``noise_scale`` ().

    Parameters
    ----------
    magnitude : bool
        Where causes meet, the one of the largest magnitude wins; else the largest one, and causes
        are positive.
    combination : {"auto", "soft", "hard"}
        A maximum, or the root of a sum of powers; "auto": soft at temperatures above 1.
    monotone : bool
        Whether the engine shortens M-steps that let the free energy fall.
    **options
        As of `TruncatedModel`; the default of `preselect` is by how far a cause exceeds the data,
        for magnitudes by the distance from them.
    """

    def __init__(self, *, magnitude, combination, monotone, **options):
        super().__init__((1.0,), tied=True, **options)
        self.magnitude, self.combination, self.monotone = magnitude, combination, monotone
        if not magnitude:
            self.bounds = self.bounds | {"components": (FLOOR, np.inf)}

    def check_initial(self, params):
        """Refuse causes that are not positive where they must be."""
        lowest = params["components"].min()
        if not self.magnitude and lowest < 0:
            raise ValueError(
                f"init['components'] must not be negative where the largest cause wins, got "
                f"{lowest:.4g}; use MaximumMagnitudeCausesAnalysis for causes of both signs."
            )

    def floored(self, W):
        """Keep the magnitudes of entries at the floor or above, with their signs."""
        if not self.magnitude:
            return np.maximum(W, FLOOR)
        return np.where(np.abs(W) >= FLOOR, W, np.where(W < 0, -FLOOR, FLOOR))

    def rho(self, temperature):
        """Exponent of the soft maximum."""
        T = max(temperature, 1.20 if self.magnitude else 1.05)
        return float(np.clip(1 / (1 - 1 / T), 1.0, 35.0))

    def is_soft(self, temperature):
        """Whether causes combine softly at a temperature."""
        return self.combination == "soft" or (self.combination == "auto" and temperature > 1)

    def statistics_shapes(self, H, D):
        """Names and shapes of the sums over rows that the M-step needs."""
        shapes = {"shares_data": (H, D), "shares": (H, D), "counts": (1, H), "explained": ()}
        return self.row_statistics_shapes(D) | shapes

    # ------------------------------------------------------------------ E-step
    def context(self, params, xp, dtype, temperature=1.0, anneal_prior=False):
        """Prepare the causes, or their powers where the maximum is soft."""
        W, noise = self.floored(params["components"]), float(params["noise_scale"]) ** 2
        beta = 1.0 / temperature
        log_odds = np.log(params["prior"]) - np.log1p(-params["prior"].sum())
        components = xp.asarray(W, dtype=dtype, order="C")
        if self.is_soft(temperature):
            rho, kind = self.rho(temperature), SOFT
            scale, powers = signed_powers(W, rho)
            rows, reach = xp.asarray(powers), xp.asarray(np.abs(powers / W))
        else:
            rho, kind = 1.0, STRONGEST if self.magnitude else LARGEST
            scale, rows, reach = np.ones(1), components, components[:0]
        return MaxContext(
            components, rows, reach, xp.asarray(scale), kind, 1.0 / rho,
            log_odds=xp.asarray(log_odds), temperature=float(temperature),
            anneal_prior=bool(anneal_prior), precision=beta / noise,
            bonus=float(log_odds[0]) * (beta if anneal_prior else 1.0),
        )  # fmt: skip

    def _prepared(self, Y, context, table):
        """Problem of a chunk, energies (n, H) of its singletons, and its candidates."""
        xp, W = compute_namespace(Y), context.components
        if self.missing:
            Y, mask = observed_part(Y)
            squares = mask @ (W**2).T
        else:
            mask = xp.ones((1, Y.shape[1]), dtype=Y.dtype)
            squares = (W**2).sum(axis=1)
        B = Y @ W.T
        gains = B - squares / 2  # half of |y|^2 - |y - W_h|^2
        singles = Y.dtype.type(context.precision) * gains + Y.dtype.type(context.bonus)
        problem = MaxProblem(
            Y, mask / 2, context.rows, context.reach, context.scale, context.kind,
            context.exponent, context.precision, context.bonus,
        )  # fmt: skip
        if callable(self.preselect):
            return problem, singles, ranked(self.preselect(B, context), table.n_candidates)
        if self.preselect == "joint":
            scores = singles
        elif self.magnitude:
            scores = gains
        else:
            seen = xp.where(mask > 0, Y, Y.dtype.type(_UNOBSERVED)) if self.missing else Y
            scores = kernels("max", Y).excess_scores(seen, W)
        return problem, singles, self._best(scores, table.n_candidates)

    @staticmethod
    def _best(scores, n_candidates):
        xp, H = compute_namespace(scores), scores.shape[1]
        one, zero = xp.ones((1, H), scores.dtype), xp.zeros((1, H), scores.dtype)
        scores = xp.ascontiguousarray(scores.T)
        return kernels("linear_discrete", scores).select_candidates(scores, one, zero, n_candidates)

    def posterior(self, Y, context, table, *, statistics=None, search=None, rows=None):
        """Truncated posterior of a chunk, whose statistics are added if given.

        `rows` are the local numbers of its rows when states are learned.
        """
        problem, singles, candidates = self._prepared(Y, context, table)
        sums = {}
        if statistics is not None:
            sums = {"num": statistics["shares_data"], "den": statistics["shares"]}
        if search is None:
            log_norm, energy, alone, marginals = kernels("max", Y).truncated_posterior(
                problem, singles, candidates, table, **sums
            )
            marginals = marginals.T[None]
        else:
            log_norm, energy, marginals, alone = self._searched(
                problem, singles, candidates, context, search, rows, sums
            )
        if statistics is not None:
            self._add_sums(statistics, problem, alone, energy, marginals)
        free_energy = self.free_energy_of(log_norm, energy, marginals, context)
        return Posterior(free_energy, log_norm, marginals, marginals[0])

    def _add_sums(self, statistics, problem, alone, energy, marginals):
        """Add the share of the singletons, and E[|y|^2 - |y - superposition|^2]."""
        if alone is not None:
            mask = 2 * problem.half
            used = alone.sum(axis=0, dtype=np.float64)[:, None]
            statistics["shares_data"] += alone.T @ problem.data
            statistics["shares"] += alone.T @ mask if self.missing else used
        n_active = marginals.sum(dtype=np.float64)
        gain = (energy.sum() - problem.bonus * n_active) / problem.precision
        statistics["explained"] += 2 * gain

    def state_energies(self, Y, context, table):
        """Candidates (n_candidates, n) and energies (1 + H + S, n) of all states of K_n."""
        problem, singles, candidates = self._prepared(Y, context, table)
        return candidates, kernels("max", Y).state_energies(problem, singles, candidates, table)

    def mean(self, Y, context, table, *, search=None, rows=None):
        """Posterior means (n, D) of the noise-free rows."""
        problem, singles, candidates = self._prepared(Y, context, table)
        mean = compute_namespace(Y).zeros(Y.shape, dtype=Y.dtype)
        if search is not None:
            self._searched(
                problem, singles, candidates, context, search, rows, {"mean": mean}
            )  # fmt: skip
            return mean
        _, _, alone, _ = kernels("max", Y).truncated_posterior(
            problem, singles, candidates, table, mean=mean
        )
        mean += alone @ context.components
        return mean

    # ------------------------------------------------------------------ learned states
    def improved_states(self, Y, context, table, search, rows):
        """States, places and energies of a search; see `StateSearch.improve`."""
        problem, singles, candidates = self._prepared(Y, context, table)
        return self._improved(problem, singles, candidates, context, search, rows)

    def _improved(self, problem, singles, candidates, context, search, rows):
        odds = np.exp(to_numpy(context.log_odds))
        singles = np.ascontiguousarray(to_numpy(singles).T)[None]
        return search.improve(singles, problem, candidates, odds / (1 + odds), rows)

    def _searched(self, problem, singles, candidates, context, search, rows, sums):
        """Log-norm, mean energy and marginals over learned states, whose sums are added."""
        xp, H = compute_namespace(singles), singles.shape[1]
        problem = MaxProblem(*(to_numpy(a) if hasattr(a, "shape") else a for a in problem))
        found = self._improved(problem, singles, candidates, context, search, rows)
        host = {name: np.zeros(a.shape, a.dtype) for name, a in sums.items()}
        _max_numba.listed_shares(problem, *found, **host)
        for name, a in sums.items():
            a += xp.asarray(host[name])
        states, places, energies = found
        posterior = listed_posterior(states, places, energies, self.values, H, singles.dtype)
        return *(xp.asarray(a) for a in posterior), None

    # ------------------------------------------------------------------ M-step
    def maximize(self, statistics, params, variance):
        """Return new parameters from summed statistics; see `TruncatedModel`.

        The causes take a step of a fixed-point iteration, which may let the free energy fall.
        `variance` is the mean variance of a feature: the noise variance stays above 1e-8 of it.
        """
        n_rows, new = float(statistics["n_rows"]), dict(params)
        if "components" in self.learn:
            sums = statistics["shares_data"], statistics["shares"]
            step = self._damped_step if self.magnitude else self._step
            new["components"] = self.floored(step(*sums, n_rows, params["components"]))
        if "noise" in self.learn:
            residual = float(statistics["sum_of_squares"] - statistics["explained"])
            residual /= float(statistics["observed"].sum())
            new["noise_scale"] = np.sqrt(np.array(max(residual, 1e-8 * variance)))
        if "prior" in self.learn:
            new["prior"] = self.new_prior(statistics["counts"], n_rows, params["prior"])
        return new

    @staticmethod
    def _step(num, den, n_rows, old):
        """Means of the rows that a cause explains; entries that explain none keep their values."""
        used = den > DEAD * n_rows
        return np.where(used, num / np.where(used, den, 1.0), old)

    @staticmethod
    def _damped_step(num, den, n_rows, old):
        """Such means, taken with more caution the fewer rows an entry explains."""
        alpha = np.maximum(1 - np.exp(-den / 2.5), 0.2)
        return alpha * num / np.maximum(den, 1e-4) + (1 - alpha) * old

    # ------------------------------------------------------------------ generative model
    def initial(self, summary, H, rng):
        """Initial parameters: atoms scattered around the mean of the data."""
        D, spread = len(summary.mean), float(np.sqrt(summary.variance).mean())
        W = summary.mean + rng.normal(scale=spread / 4, size=(H, D))
        return {
            "components": self.floored(W if self.magnitude else np.abs(W)),
            "prior": np.array([np.clip(1.0 / H, 1e-6, 0.5)]),
            "noise_scale": np.array(spread),
        }

    def superposed(self, codes, W):
        """Noise-free rows (n, D) of codes (n, H): at each feature the winner of all s_h W_h."""
        xp, soft = compute_namespace(codes), self.is_soft(1.0)
        total = xp.zeros((len(codes), W.shape[1]), dtype=W.dtype)
        if soft:
            rho = self.rho(1.0)
            scale = signed_powers(to_numpy(W), rho)[0].max() * float(abs(codes).max(initial=1.0))
        for s, w in zip(codes.T, W, strict=True):
            part = s[:, None] * w
            if soft:
                total += xp.sign(part) * (abs(part) / scale) ** rho
            elif self.magnitude:
                high, low = xp.maximum(total, part), xp.minimum(total, part)
                total = xp.where(high >= -low, high, low)
            else:
                total = xp.maximum(total, part)
        return scale * xp.sign(total) * abs(total) ** (1 / rho) if soft else total

    def sample(self, params, n_samples, rng):
        """Draw data and states from the model: X (n, D), S (n, H)."""
        W = self.floored(params["components"])
        S = self.draw_states(params["prior"], (n_samples, len(W)), rng)
        noise = rng.normal(scale=float(params["noise_scale"]), size=(n_samples, W.shape[1]))
        return self.superposed(S, W) + noise, S


def signed_powers(W, rho):
    """Scale (D,), and sign(W) (|W| / scale)^rho, whose sums over causes stay within [-1, 1]."""
    scale = np.abs(W).max(axis=0) * len(W) ** (1 / rho)
    return scale, np.sign(W) * (np.abs(W) / scale) ** rho
