"""What truncated EM needs of a model, and what all models with Gaussian noise share.

J. Lücke, J. Eggert, "Expectation Truncation and the Benefits of Preselection in Training Generative
Models", JMLR 11:2855-2900, 2010.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from .._arrays import compute_namespace
from ._statistics import observed_part, squared_norms

PRIOR_RANGE = (1e-6, 1 - 1e-6)
DEAD = 1e-8  # an atom used less than this often keeps its place


class Posterior(NamedTuple):
    """Truncated posterior of n rows; arrays in the library of the rows."""

    free_energy: object  # (n,) float64, relative to the log-joint of the null state
    log_norm: object  # (n,) float64, log of the summed tempered joint, relative to the null state
    marginals: object  # (V, H, n), probability of each value of each latent
    codes: object  # (H, n), posterior means of the latents


class TruncatedModel:
    """A generative model whose latents are mostly zero, and noise that is Gaussian.

    Parameters of the model are a dict of float64 arrays on the host: ``components`` (H, D), others
    as the model likes. A subclass supplies ``context``, ``posterior``, ``candidates``,
    ``state_energies``, ``mean``, ``statistics_shapes``, ``maximize``, ``initial``, ``sample``.

    Parameters
    ----------
    values : sequence of float
        The V non-zero values of a latent; what V-fold states are made of.
    tied : bool
        Whether all non-zero values share one probability.
    learn : sequence of str
        Parameters that the M-step updates.
    prior_correction : {"none", "et"}
        "et" corrects the prior for the truncation to `max_active` causes.
    preselect : {"default", "joint"} or callable
        Score of the candidates.
    max_active : int
        Largest number of active causes of a state, for the prior correction.
    missing : bool
        Whether NaN marks entries that were not observed.
    """

    bounds: dict = {
        "components": (-np.inf, np.inf), "prior": PRIOR_RANGE, "noise_scale": (1e-12, np.inf),
    }  # fmt: skip

    def __init__(self, values, *, tied, learn, prior_correction, preselect, max_active, missing):
        self.values = np.asarray(values, dtype=np.float64)
        self.tied, self.learn, self.max_active = tied, tuple(learn), max_active
        self.prior_correction, self.preselect, self.missing = prior_correction, preselect, missing

    monotone = False  # whether the engine shortens M-steps that let the free energy fall
    shared_prior = True  # whether one prior holds for all latents

    def check_initial(self, params):
        """Refuse initial parameters that the model cannot have; any that are finite will do."""

    @property
    def sums_rows(self):
        """Whether `accumulate_rows` must see every row; else the summary of all rows is enough."""
        return self.missing

    def smallest_noise(self, params):
        """Smallest variance of the noise, for choosing the precision."""
        return float(np.min(params["noise_scale"])) ** 2

    # ------------------------------------------------------------------ the null state
    def null_log_joint(self, statistics, params):
        """Sum of log p(s=0, y) over the rows that the statistics count."""
        squares = float(statistics["sum_of_squares"])
        m, noise = params.get("offset"), float(params["noise_scale"]) ** 2
        counts = statistics["observed"]
        if m is not None:
            squares += counts @ m**2 - 2 * m @ statistics["data"]
        log_normal = -0.5 * float(counts.sum()) * np.log(2 * np.pi * noise)
        return (
            float(statistics["n_rows"]) * self._log_null_prior(params)
            + log_normal - squares / (2 * noise)
        )  # fmt: skip

    def null_log_joints(self, Y, params):
        """log p(s=0, y) of each row, float64."""
        xp, D = compute_namespace(Y), Y.shape[1]
        n_observed = D
        if self.missing:
            Y, mask = observed_part(Y)
            n_observed = mask.sum(axis=1, dtype=np.float64)
        squares, m = squared_norms(Y), params.get("offset")
        if m is not None and m.any():
            m = xp.asarray(m)
            constant = mask.astype(np.float64) @ m**2 if self.missing else m @ m
            squares = squares - 2 * Y @ m.astype(Y.dtype) + constant
        noise = float(params["noise_scale"]) ** 2
        log_normal = -0.5 * n_observed * np.log(2 * np.pi * noise)
        return self._log_null_prior(params) + log_normal - squares / (2 * noise)

    @staticmethod
    def _log_null_prior(params):
        return len(params["components"]) * np.log1p(-params["prior"].sum())

    # ------------------------------------------------------------------ sums over rows
    @staticmethod
    def row_statistics_shapes(D):
        """Names and shapes of the sums that depend on the rows alone."""
        return {
            "n_rows": (), "sum_of_squares": (), "data": (D,), "observed": (D,), "free_energy": (),
        }  # fmt: skip

    def posterior(self, Y, context, table, *, statistics=None, search=None, rows=None):
        """Truncated posterior of a chunk, whose statistics are added if given.

        `rows` are the local numbers of its rows when states are learned.
        """
        raise NotImplementedError

    def accumulate(self, Y, context, table, statistics, *, search=None, rows=None):
        """Add the statistics of a chunk; return the free energies relative to the null states."""
        found = self.posterior(
            Y, context, table, statistics=statistics, search=search, rows=rows
        )  # fmt: skip
        statistics["free_energy"] += found.free_energy.sum()
        statistics["counts"] += found.marginals.sum(axis=-1, dtype=np.float64)
        return found.free_energy

    def accumulate_rows(self, Y, statistics):
        """Add what depends on the rows alone."""
        statistics["n_rows"] += len(Y)
        if self.missing:
            Y, mask = observed_part(Y)
            statistics["observed"] += mask.sum(axis=0)
        else:
            statistics["observed"] += len(Y)
        statistics["sum_of_squares"] += squared_norms(Y).sum()
        statistics["data"] += Y.sum(axis=0, dtype=np.float64)

    def fill_rows(self, statistics, summary):
        """Set what depends on the rows alone from the summary of all rows."""
        statistics["n_rows"], statistics["data"] = summary.n_rows, summary.mean * summary.n_rows
        statistics["sum_of_squares"] = summary.sum_of_squares
        statistics["observed"] = summary.n_observed

    # ------------------------------------------------------------------ prior
    def new_prior(self, counts, n_rows, prior):
        """Probabilities (V,) of the non-zero values that all latents share, from counts (V, H)."""
        H, n_active = counts.shape[1], counts.sum(axis=1) / n_rows  # (V,) per row
        if self.prior_correction == "et":
            factor = truncation_factor(H, self.max_active, prior.sum())
            total = factor * prior.sum() * n_active.sum()
            new = total * n_active / max(n_active.sum(), np.finfo(float).tiny)
        else:
            new = n_active / H
        if self.tied:
            new = np.full_like(new, new.mean())
        new = np.maximum(new, PRIOR_RANGE[0])
        return new * min(1.0, PRIOR_RANGE[1] / new.sum())

    @staticmethod
    def check_prior(prior):
        """Refuse a prior that was given to start from."""
        if not (prior.min() > 0 and prior.sum() < 1):
            raise ValueError(
                f"init['prior'] must lie strictly between 0 and 1, got {prior.tolist()}."
            )

    def dead(self, statistics):
        """Numbers of the atoms that no row uses."""
        used = statistics["counts"].sum(axis=0)
        return np.flatnonzero(used < DEAD * float(statistics["n_rows"]))

    def reinitialize(self, params, h, row):
        """Replace atom h, in place, by a row that is explained badly."""
        params["components"][h] = np.clip(row, *self.bounds["components"])

    def truncated_mass(self, params):
        """Prior probability of at most `max_active` active causes."""
        H, prior = len(params["components"]), params["prior"].sum()
        log_p, _ = _count_log_probabilities(H, self.max_active, prior)
        return float(np.exp(log_p).sum())

    def record(self, params):
        """Scalars for the history."""
        return {"prior": float(params["prior"].sum()), "noise_scale": float(params["noise_scale"])}

    def draw_states(self, prior, shape, rng):
        """Draw latents of the given shape (n, H) from their prior (V,)."""
        edges = np.concatenate([[0.0], np.cumsum(prior)])
        k = np.searchsorted(edges, rng.random(shape), side="right") - 1  # V means inactive
        return np.append(self.values, 0.0)[k]

    # ------------------------------------------------------------------ tempering
    def free_energy_of(self, log_norm, energy, marginals, context):
        """Bound at temperature 1 of the tempered posterior: add (1 - beta) E[untempered part]."""
        beta = 1.0 / context.temperature
        if beta == 1.0:
            return log_norm
        if context.anneal_prior:
            return log_norm + (1 - beta) / beta * energy
        xp = compute_namespace(marginals)
        if context.log_odds.ndim == 1:
            n_active = marginals.sum(axis=1, dtype=np.float64)  # (V, n)
            log_prior = xp.einsum("k,kn->n", context.log_odds, n_active)
        else:
            log_prior = xp.einsum("kh,khn->n", context.log_odds, marginals.astype(np.float64))
        return log_norm + (1 - beta) / beta * (energy - log_prior)


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


def ranked(scores, n_candidates):
    """Indices (n_candidates, n) of the largest scores (n, H); ties go to the lower index."""
    xp = compute_namespace(scores)
    order = xp.argsort(-scores, axis=1, kind="stable") if xp is np else xp.argsort(-scores, axis=1)
    return xp.ascontiguousarray(order[:, :n_candidates].T.astype(np.int32))
