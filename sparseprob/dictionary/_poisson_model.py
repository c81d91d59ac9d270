"""Mixtures of Poisson distributions, p(y|h) = prod_d Poisson(y_d; W_hd): one cause for each row.

Exact EM (A. P. Dempster, N. M. Laird, D. B. Rubin, JRSS-B 39:1-38, 1977) in whole-array formulas.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import entr

from .._arrays import compute_namespace, to_numpy
from ._model import DEAD, Posterior, TruncatedModel
from ._state_arrays import normalized

FLOOR = 1e-6  # of rates: a count where none was expected does not rule a component out
_SMALLEST = 1e-12  # of the components' probabilities
_SHAPE = 4.0  # of the gamma distribution of initial rates: they vary by half
_ROUNDING = 1e-4  # probabilities given by the user, or kept in single precision, sum to 1 +- this


class PoissonContext(NamedTuple):
    """Everything an E-step needs besides the rows; arrays in the library and dtype of the chunk."""

    components: object  # (H, D), rates
    log_ratios: object  # (H, D), beta log(W_h / reference)
    bias: object  # (H,), energy of a row of zeros
    log_odds: object  # (1, H) float64, log pi_h
    temperature: float
    anneal_prior: bool


class PoissonMixtureModel(TruncatedModel):
    """The part of truncated EM that is particular to mixtures of Poisson distributions.

    Exactly one latent of a row is active; there is no null state. In its place energies are
    relative to the Poisson distribution of the mean rates, the reference: then they are small, and
    single precision suffices. Parameters are ``components`` (H, D) and ``prior`` (H,).
    """

    bounds = {"components": (FLOOR, np.inf), "prior": (_SMALLEST, 1.0)}
    log_factorials = 0.0  # sum of log y! over all rows; the estimator sets it

    def __init__(self, **options):
        super().__init__((1.0,), tied=False, **options)

    def smallest_noise(self, params):
        """No float64 is needed: there is no noise that could be small."""
        return np.inf

    def statistics_shapes(self, H, D):
        """Names and shapes of the sums over rows that the M-step needs."""
        sums = {"codes_data": (H, D), "counts": (1, H), "log_factorials": ()}
        return self.row_statistics_shapes(D) | sums

    # ------------------------------------------------------------------ the reference
    @staticmethod
    def _reference(params):
        """Mean rates (D,) of the mixture."""
        return params["prior"] @ params["components"] / params["prior"].sum()

    def null_log_joint(self, statistics, params):
        """Sum of the log-probabilities under the reference of the rows that are counted."""
        rates = self._reference(params)
        return (
            float(statistics["data"] @ np.log(rates)) - float(statistics["n_rows"]) * rates.sum()
            - float(statistics["log_factorials"])
        )  # fmt: skip

    def null_log_joints(self, Y, params):
        """Log-probability of each row under the reference, float64."""
        xp, rates = compute_namespace(Y), self._reference(params)
        counts = Y.astype(np.float64)
        return counts @ xp.asarray(np.log(rates)) - rates.sum() - log_factorials(counts)

    def accumulate_rows(self, Y, statistics):
        """Add what depends on the rows alone."""
        super().accumulate_rows(Y, statistics)
        statistics["log_factorials"] += log_factorials(Y.astype(np.float64)).sum()

    def fill_rows(self, statistics, summary):
        """Set what depends on the rows alone from the summary of all rows."""
        super().fill_rows(statistics, summary)
        statistics["log_factorials"] = self.log_factorials

    # ------------------------------------------------------------------ E-step
    def context(self, params, xp, dtype, temperature=1.0, anneal_prior=False):
        """Prepare rates and their logarithms."""
        W, beta, rates = params["components"], 1.0 / temperature, self._reference(params)
        log_prior = np.log(params["prior"] / params["prior"].sum())
        bias = (beta if anneal_prior else 1.0) * log_prior + beta * (rates - W).sum(axis=1)
        arrays = {"components": W, "log_ratios": beta * np.log(W / rates), "bias": bias}
        return PoissonContext(
            **{name: xp.asarray(a, dtype=dtype, order="C") for name, a in arrays.items()},
            log_odds=xp.asarray(log_prior)[None],
            temperature=float(temperature),
            anneal_prior=bool(anneal_prior),
        )

    @staticmethod
    def _energies(Y, context):
        return context.log_ratios @ Y.T + context.bias[:, None]

    def posterior(self, Y, context, table, *, statistics=None, search=None, rows=None):
        """Posterior of the components of a chunk, whose statistics are added if given."""
        q, log_norm, energy = normalized(self._energies(Y, context))
        marginals = q[None].astype(Y.dtype)
        free_energy = self.free_energy_of(log_norm, energy, marginals, context)
        if statistics is not None:
            statistics["codes_data"] += marginals[0] @ Y
        return Posterior(free_energy, log_norm, marginals, marginals[0])

    def state_energies(self, Y, context, table):
        """Candidates, which do not matter, and energies (1 + H, n): none active is impossible."""
        xp, energies = compute_namespace(Y), self._energies(Y, context)
        impossible = xp.full((1, len(Y)), -np.inf, dtype=energies.dtype)
        candidates = xp.zeros((table.n_candidates, len(Y)), dtype=np.int32)
        return candidates, xp.concatenate([impossible, energies])

    def mean(self, Y, context, table, *, search=None, rows=None):
        """Posterior means (n, D) of the rates."""
        return self.posterior(Y, context, table).codes.T @ context.components

    # ------------------------------------------------------------------ M-step
    def maximize(self, statistics, params, variance):
        """Return the parameters that maximize the free energy, from summed statistics."""
        counts, n_rows, new = statistics["counts"][0], float(statistics["n_rows"]), dict(params)
        if "components" in self.learn:
            used = counts > DEAD * n_rows
            rates = statistics["codes_data"][used] / counts[used, None]
            new["components"] = params["components"].copy()
            new["components"][used] = np.maximum(rates, FLOOR)
        if "prior" in self.learn:
            prior = np.maximum(counts / n_rows, _SMALLEST)
            new["prior"] = prior / prior.sum()
        return new

    def record(self, params):
        """Scalars for the history: the number of components, as exp of their entropy."""
        return {"n_effective": float(np.exp(entr(params["prior"] / params["prior"].sum()).sum()))}

    def truncated_mass(self, params):
        """All of it: every state is evaluated."""
        return 1.0

    # ------------------------------------------------------------------ generative model
    def initial(self, summary, H, rng):
        """Initial parameters: rates scattered around the mean of the data."""
        spread = rng.gamma(_SHAPE, 1 / _SHAPE, size=(H, len(summary.mean)))
        return {
            "components": np.maximum(summary.mean * spread, FLOOR), "prior": np.full(H, 1.0 / H),
        }  # fmt: skip

    @staticmethod
    def check_prior(prior):
        """Refuse a prior that was given to start from."""
        if not (prior.min() > 0 and abs(prior.sum() - 1) < _ROUNDING):
            raise ValueError(f"init['prior'] must be positive and sum to 1, got {prior.tolist()}.")

    def check_initial(self, params):
        """Refuse negative rates; raise zeros to the floor."""
        smallest = params["components"].min()
        if smallest < 0:
            raise ValueError(
                f"init['components'] are rates and must not be negative, got {smallest}."
            )
        params["components"] = np.maximum(params["components"], FLOOR)

    def sample(self, params, n_samples, rng):
        """Draw counts and one-hot states from the model: X (n, D), S (n, H)."""
        prior = params["prior"] / params["prior"].sum()
        chosen = rng.choice(len(prior), size=n_samples, p=prior)
        counts = rng.poisson(params["components"][chosen]).astype(np.float64)
        return counts, np.eye(len(prior))[chosen]


def log_factorials(Y):
    """Sum over features of log y!, for each row."""
    if isinstance(Y, np.ndarray):
        from scipy.special import gammaln
    else:
        from cupyx.scipy.special import gammaln
    return gammaln(Y + 1).sum(axis=1)


def refuse_non_counts(Y, first, integer):
    """Refuse rows with negative entries or, if `integer`, fractions, naming the first such row.

    `first` is the global number of the first row.
    """
    xp = compute_namespace(Y)
    wrong = Y < 0
    if integer:
        wrong = wrong | (Y != xp.floor(Y))
    if not bool(wrong.any()):
        return
    row, feature = (int(i) for i in np.argwhere(to_numpy(wrong))[0])
    value = float(Y[row, feature])
    if value < 0:
        raise ValueError(
            f"Negative values in data: got {value:g} in row {row + first} of X; pass counts."
        )
    raise ValueError(
        f"Counts must be integers, got {value:g} in row {row + first} of X; pass counts, or "
        "counts='any' for scaled counts."
    )
