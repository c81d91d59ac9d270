r"""Spike-and-slab sparse coding: y = W (s z) + noise, spikes s in {0, 1}, slabs z ~ N(mu, Psi).

A.-S. Sheikh, J. A. Shelton, J. Lücke, "A Truncated EM Approach for Spike-and-Slab Sparse Coding",
JMLR 15:2653-2687, 2014.

Tempering at beta = 1 / T acts on the likelihood: q(s, z) = p(s) p(z) p(y|s, z)^beta / Z. With
log p(y|s, z) = log p(y|0) + l(s, z), l = b (sz) - (sz) G (sz) / 2 for G = W S^-1 W', b = W S^-1 y,
the slabs are integrated out as at T = 1 with beta G and beta b in place of G and b. Then

    F = E[log p(s, z, y)] + H(q) = log p(s=0, y) + log Z' + (1 - beta) E[l],

where Z' is the normalizer relative to the null state, p(s=0) p(y|0)^beta. E[l] needs the first and
second moments of sz only. With a tempered prior, q ~ p(s)^beta p(z) p(y|s, z)^beta: the slabs'
prior stays as it is, and (1 - beta) E[sum of the log-odds of active latents] joins F.

All computing is in units of the slabs' deviations: z / sqrt(psi) has variance 1, and the mean
``ratio`` = mu / sqrt(psi). Nothing then diverges as psi goes to zero.
"""

import numpy as np
from scipy import linalg

from .._arrays import compute_namespace, to_numpy
from .._kernels import kernels
from .._kernels._slab_support import listed_posterior
from .._kernels._state_problems import SlabProblem
from . import _slab_arrays as whole
from . import _slab_updates as update
from ._model import DEAD, Posterior, TruncatedModel, ranked
from ._slab_context import plain_projections, slab_context
from ._statistics import observed_part, squared_norms


class SlabModel(TruncatedModel):
    """The part of truncated EM that is particular to spikes with Gaussian slabs.

    Parameters are ``components`` (H, D), ``prior`` (H,), ``noise_variance`` (), (D,) or (D, D),
    ``slab_mean`` (H,), ``slab_covariance`` (H,) or (H, H).

    Parameters
    ----------
    noise : {"scalar", "diag", "full"}
    correlated : bool
        Whether slabs have a full covariance.
    homogeneous : bool
        Whether all latents share one prior.
    **options
        As of `TruncatedModel`; the default of `preselect` is the likelihood of the singleton.
    """

    shared_prior = False

    def __init__(self, *, noise, correlated, homogeneous, **options):
        super().__init__((1.0,), tied=True, **options)
        self.noise, self.correlated, self.homogeneous = noise, correlated, homogeneous
        self.bounds = {
            "components": (-np.inf, np.inf), "slab_mean": (-np.inf, np.inf),
            "prior": (update.LOWEST_PRIOR, 1 - update.LOWEST_PRIOR),
        }  # fmt: skip
        if noise != "full":
            self.bounds["noise_variance"] = (1e-12, np.inf)

    @staticmethod
    def check_prior(prior):
        """Refuse a prior that was given to start from."""
        if not (prior.min() > 0 and prior.max() < 1):
            raise ValueError(
                f"init['prior'] must lie strictly between 0 and 1, got {prior.tolist()}."
            )

    def check_initial(self, params):
        """Refuse variances that are not positive, and matrices that are no covariances."""
        for name in ("noise_variance", "slab_covariance"):
            value = params[name]
            if value.ndim < 2 and not value.min() > 0:
                raise ValueError(f"init[{name!r}] must be positive, got {value.tolist()}.")
            if value.ndim == 2 and not _is_positive_definite(value):
                raise ValueError(
                    f"init[{name!r}] must be symmetric and positive definite; add a small multiple "
                    "of the identity."
                )

    # ------------------------------------------------------------------ sums over rows
    @property
    def sums_rows(self):
        """Whether `accumulate_rows` must see every row; else the summary of all rows is enough."""
        return self.missing or self.noise == "full"

    def statistics_shapes(self, H, D):
        """Names and shapes of the sums over rows that the M-step needs."""
        shapes = {
            "squares": (D, D) if self.noise == "full" else (D,), "counts": (1, H), "codes": (H,),
            "codes_data": (H, D), "second": (H, H),
        }  # fmt: skip
        if self.correlated:
            shapes |= {"pulls": (H,), "pull_squares": (H, H)}
        if self.missing:
            shapes["imputed"] = (H, D)
        return self.row_statistics_shapes(D) | shapes

    def accumulate_rows(self, Y, statistics):
        """Add what depends on the rows alone."""
        super().accumulate_rows(Y, statistics)
        if self.missing:
            Y, _ = observed_part(Y)
        if self.noise == "full":
            statistics["squares"] += Y.T @ Y
        else:
            xp = compute_namespace(Y)
            statistics["squares"] += xp.square(Y).sum(axis=0, dtype=np.float64)

    def fill_rows(self, statistics, summary):
        """Set what depends on the rows alone from the summary of all rows."""
        super().fill_rows(statistics, summary)
        statistics["squares"] = summary.n_observed * (summary.variance + summary.mean**2)

    def null_log_joint(self, statistics, params):
        """Sum of log p(s=0, y) over the rows that the statistics count."""
        noise, squares = params["noise_variance"], statistics["squares"]
        counts, n = statistics["observed"], float(statistics["n_rows"])
        constant = float(counts.sum()) * np.log(2 * np.pi)
        if self.noise == "full":
            factor = linalg.cho_factor(noise, lower=True)
            constant += n * 2 * np.log(np.diag(factor[0])).sum()
            distance = np.trace(linalg.cho_solve(factor, squares))
        else:
            constant += (counts * np.log(noise)).sum()
            distance = (squares / noise).sum()
        return n * np.log1p(-params["prior"]).sum() - 0.5 * (constant + float(distance))

    def null_log_joints(self, Y, params):
        """log p(s=0, y) of each row, float64."""
        xp, noise, D = compute_namespace(Y), params["noise_variance"], Y.shape[1]
        constant = D * np.log(2 * np.pi)
        if self.noise == "full":
            root = np.linalg.cholesky(noise)
            constant += 2 * np.log(np.diag(root)).sum()
            whiten = linalg.solve_triangular(root, np.eye(D), lower=True)
            distance = squared_norms(Y @ xp.asarray(whiten.T, dtype=Y.dtype))
        else:
            logs = np.broadcast_to(np.log(2 * np.pi * noise), (D,))
            constant = logs.sum()
            if self.missing:
                Y, mask = observed_part(Y)
                constant = mask.astype(np.float64) @ xp.asarray(logs)
            deviation = xp.asarray(np.sqrt(noise), dtype=Y.dtype)
            distance = squared_norms(Y / deviation)
        return np.log1p(-params["prior"]).sum() - 0.5 * (constant + distance)

    # ------------------------------------------------------------------ E-step
    def context(self, params, xp, dtype, temperature=1.0, anneal_prior=False):
        """Prepare Gram matrix, prior means and selection scores."""
        return slab_context(
            params, xp, dtype, temperature, anneal_prior, joint=self.preselect == "joint"
        )

    def posterior(self, Y, context, table, *, statistics=None, search=None, rows=None):
        """Truncated posterior of a chunk, whose statistics are added if given.

        `rows` are the local numbers of its rows when states are learned.
        """
        xp, H = compute_namespace(Y), len(context.components)
        if self.missing or (self.correlated and search is None):
            return self._posterior_by_arrays(Y, context, table, statistics)
        B = context.projection @ Y.T
        candidates = self.candidates(B, context, table)
        moments = None if statistics is None else xp.zeros((H, H))
        if search is None:
            found = kernels("slab", B).truncated_posterior(
                B, candidates, context.ratio, context.bias, context.coupling, table,
                moments=moments,
            )  # fmt: skip
        else:
            found = self._searched(B, candidates, context, search, rows, statistics, moments)
        log_norm, gain, marginals, codes = found
        found = self._found(log_norm, gain, marginals, codes, context)
        if statistics is not None:
            statistics["second"] += moments * xp.outer(context.scale, context.scale)
            self._add_codes(found, Y, statistics)
        return found

    def candidates(self, B, context, table):
        """Indices (n_candidates, n) of the latents preselected for each point, best first."""
        if callable(self.preselect):
            return ranked(
                self.preselect(plain_projections(B, context), context), table.n_candidates
            )
        return kernels("slab", B).select_candidates(B, context.select, table.n_candidates)

    def _found(self, log_norm, gain, marginals, codes, context):
        xp, beta = compute_namespace(marginals), 1.0 / context.temperature
        dtype = context.components.dtype
        marginals = marginals.astype(dtype, copy=False)
        codes = codes.astype(dtype, copy=False) * context.scale[:, None].astype(dtype)
        free_energy = log_norm
        if beta != 1.0:
            free_energy = log_norm + (1 - beta) / beta * gain
            if context.anneal_prior:
                active = marginals.astype(np.float64)
                free_energy = free_energy + (1 - beta) * (context.log_odds @ active)
        return Posterior(free_energy, log_norm, xp.asarray(marginals)[None], codes)

    @staticmethod
    def _add_codes(found, Y, statistics):
        statistics["codes_data"] += found.codes @ Y
        statistics["codes"] += found.codes.sum(axis=1, dtype=np.float64)

    def mean(self, Y, context, table, *, search=None, rows=None):
        """Posterior means (n, D) of the noise-free rows."""
        codes = self.posterior(Y, context, table, search=search, rows=rows).codes
        return codes.T @ context.components

    # ------------------------------------------------------------------ any row, any slabs
    def state_energies(self, Y, context, table):
        """Candidates (n_candidates, n) and energies (1 + H + S, n) of all states of K_n."""
        points, _ = self._points(Y, context, table)
        return points.candidates, whole.slab_energies(points, table)

    def _points(self, Y, context, table):
        """What the energies of the rows depend on, and their masks if entries are missing."""
        mask, A = None, context.coupling
        if self.missing:
            Y, mask = observed_part(Y)
        B = context.projection @ Y.T
        if mask is None:
            candidates, diagonal = self.candidates(B, context, table), A.diagonal()[:, None]
        else:
            diagonal = (context.projection * context.atoms) @ mask.T
            candidates = self._observed_candidates(B, diagonal, context, table)

        def couplings(i, j):
            if mask is None:
                return A[candidates[i], candidates[j]]
            both = context.projection[candidates[i]] * context.atoms[candidates[j]]
            return compute_namespace(mask).einsum("nd,nd->n", both, mask)

        return whole.SlabPoints(
            B, diagonal, couplings, candidates, context.ratio, context.bias, context.correlation
        ), mask

    def _observed_candidates(self, B, diagonal, context, table):
        if callable(self.preselect):
            scores = self.preselect(plain_projections(B, context), context)
            return ranked(scores, table.n_candidates)
        xp, T = compute_namespace(B), context.temperature
        bias = context.log_odds if self.preselect == "joint" else xp.zeros_like(context.log_odds)
        scores = whole.single_energies(B * T, diagonal * T, context.ratio, bias.astype(B.dtype))
        return ranked(xp.where(diagonal > 0, scores, -np.inf).T, table.n_candidates)

    def _posterior_by_arrays(self, Y, context, table, statistics):
        points, mask = self._points(Y, context, table)
        moments, D = whole.slab_moments(points, table), context.scale
        log_norm, gain, marginals, codes, pulls = moments
        found = self._found(log_norm, gain, marginals, codes.first, context)
        if statistics is None:
            return found
        if mask is not None:
            Y, _ = observed_part(Y)
            statistics["imputed"] += whole.imputed(1 - mask, points.candidates, codes, context)
        self._add_codes(found, Y, statistics)
        outer = compute_namespace(Y).outer(D, D)
        statistics["second"] += whole.summed(codes, points.candidates) * outer
        if pulls is not None:
            statistics["pull_squares"] += whole.summed(pulls, points.candidates) / outer
            statistics["pulls"] += pulls.first.sum(axis=1) / D
        return found

    # ------------------------------------------------------------------ learned states
    def improved_states(self, Y, context, table, search, rows):
        """States, places and energies of a search; see `StateSearch.improve`."""
        B = context.projection @ Y.T
        return self._improved(B, self.candidates(B, context, table), context, search, rows)[:3]

    def _improved(self, B, candidates, context, search, rows):
        singles = whole.single_energies(
            B, context.coupling.diagonal()[:, None], context.ratio, context.bias
        )
        H, R = len(B), context.correlation
        parts = (B, context.coupling, np.eye(H) if R is None else R, context.ratio, context.bias)
        problem = SlabProblem(*(np.ascontiguousarray(to_numpy(a), dtype=np.float64) for a in parts))
        prior = 1 / (1 + np.exp(-to_numpy(context.log_odds)))
        return *search.improve(singles[None], problem, candidates, prior[None], rows), problem

    def _searched(self, B, candidates, context, search, rows, statistics, moments):
        states, places, energies, problem = self._improved(B, candidates, context, search, rows)
        xp, H, scale = compute_namespace(B), len(B), to_numpy(context.scale)
        second = None if moments is None else np.zeros((H, H))
        pulls = np.zeros((H + 1, H)) if self.correlated and moments is not None else None
        found = listed_posterior(
            states, places, energies, problem, B.dtype, moments=second, pulls=pulls
        )
        if moments is not None:
            moments += xp.asarray(second)
        if pulls is not None:
            statistics["pull_squares"] += xp.asarray(pulls[:H] / np.outer(scale, scale))
            statistics["pulls"] += xp.asarray(pulls[H] / scale)
        return tuple(xp.asarray(a) for a in found)

    # ------------------------------------------------------------------ M-step
    def maximize(self, statistics, params, variance):
        """Return the parameters that maximize the free energy, from summed statistics.

        `variance` is the mean variance of a feature. Entries not observed are completed by their
        expectations at the old parameters, which minorizes the free energy and touches it there:
        it grows all the same.
        """
        n_rows, new, W = float(statistics["n_rows"]), dict(params), params["components"]
        S1, S2, squares = statistics["codes_data"], statistics["second"], statistics["squares"]
        if self.missing:
            S1, squares = S1 + statistics["imputed"], squares + (W * statistics["imputed"]).sum(0)
        used = statistics["counts"][0] >= DEAD * n_rows
        if "components" in self.learn:
            new["components"] = update.new_components(W, S1, S2, ~used)
        if "noise" in self.learn:
            new["noise_variance"] = update.new_noise(
                self.noise, new["components"], S1, S2, squares, statistics["observed"], variance
            )
        if "slab" in self.learn:
            new["slab_mean"], new["slab_covariance"] = update.new_slabs(statistics, params, used)
        if "prior" in self.learn:
            new["prior"] = update.new_prior(
                statistics["counts"][0], n_rows, params["prior"], self.prior_correction,
                self.max_active, self.homogeneous,
            )  # fmt: skip
        return new

    def smallest_noise(self, params):
        """Smallest variance of the noise, for choosing the precision."""
        noise = params["noise_variance"]
        return float(np.linalg.eigvalsh(noise)[0] if noise.ndim == 2 else np.min(noise))

    def truncated_mass(self, params):
        """Prior probability of at most `max_active` active causes."""
        return float(update.active_count_probabilities(params["prior"], self.max_active).sum())

    def record(self, params):
        """Scalars for the history: mean prior, root of the mean noise variance."""
        noise = params["noise_variance"]
        noise = np.diag(noise).mean() if noise.ndim == 2 else np.mean(noise)
        return {"prior": float(params["prior"].mean()), "noise_scale": float(np.sqrt(noise))}

    def reinitialize(self, params, h, row):
        """Replace atom h by a row that is explained badly; its slab starts from N(1, 1)."""
        super().reinitialize(params, h, row)
        for name, value in (("prior", params["prior"].mean()), ("slab_mean", 1.0)):
            params[name] = params[name].copy()
            params[name][h] = value
        psi = params["slab_covariance"] = params["slab_covariance"].copy()
        psi[h] = 0.0
        if psi.ndim == 2:
            psi[:, h] = 0.0
            psi[h, h] = 1.0
        else:
            psi[h] = 1.0

    # ------------------------------------------------------------------ generative model
    def initial(self, summary, H, rng):
        """Initial parameters: atoms around the mean of the data, about two active causes."""
        D, variance = len(summary.mean), summary.variance
        W = summary.mean + rng.normal(scale=np.sqrt(variance).mean() / 4, size=(H, D))
        prior = rng.uniform(0.05, 0.95, size=H) * min(1.0, 4 / H)
        noise = np.maximum(variance, 1e-3 * variance.mean())
        slab_mean, psi = rng.normal(size=H), rng.uniform(0.05, 2.0, size=H)
        shaped = {"scalar": np.array(noise.mean()), "diag": noise, "full": np.diag(noise)}
        return {
            "components": W,
            "prior": np.full(H, prior.mean()) if self.homogeneous else prior,
            "noise_variance": shaped[self.noise],
            "slab_mean": slab_mean,
            "slab_covariance": np.diag(psi) if self.correlated else psi,
        }

    def sample(self, params, n_samples, rng):
        """Draw data, spikes and slabs from the model: X (n, D), S (n, H), Z (n, H)."""
        H, D = params["components"].shape
        S = (rng.random((n_samples, H)) < params["prior"]).astype(np.float64)
        Z = params["slab_mean"] + _drawn(params["slab_covariance"], (n_samples, H), rng)
        noise = _drawn(params["noise_variance"], (n_samples, D), rng)
        return (S * Z) @ params["components"] + noise, S, Z


def _drawn(covariance, shape, rng):
    """Gaussian numbers with a variance, variances, or a covariance matrix."""
    white = rng.normal(size=shape)
    if covariance.ndim == 2:
        return white @ np.linalg.cholesky(covariance).T
    return white * np.sqrt(covariance)


def _is_positive_definite(A):
    symmetric = np.abs(A - A.T).max() <= 1e-6 * np.abs(A).max()
    return symmetric and np.linalg.eigvalsh(A)[0] > 0
