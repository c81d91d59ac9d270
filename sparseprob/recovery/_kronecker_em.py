"""Expectation maximization for Kronecker-structured variances (Y. He, G. Joseph, 2024)."""

import math
from typing import NamedTuple

import numpy as np

from .. import mpi
from .._arrays import compute_namespace, to_numpy
from ..linear_operators import grid
from ..mpi import row_sum
from ._kronecker_posterior import (
    KroneckerPosterior,
    Measurements,
    PosteriorCovariance,
    compress,
    squared_norm,
)
from ._kronecker_variances import Coupling, alternate, change, rank_one, unit_outer

_START = 10.0  # power that the prior expects at first, over that of y: from wide to narrow


class EMOptions(NamedTuple):
    """What shapes the iterations; one entry per factor in the tuples."""

    method: str  # "svd", "am" or "one-step"
    noise_var: float | None  # None: learned
    coupling: tuple | None
    prune: tuple
    tol: float
    inner_tol: float
    inner_max: int


class Units(NamedTuple):
    """Scales that make the data of unit power, and the factors' rows on average of unit length."""

    y: float
    factors: list

    @property
    def coef(self):
        """What coefficients of the scaled problem are multiplied by."""
        return self.y / math.prod(self.factors)


def measure(problem):
    """Return the units of a problem; a scale of 0 means that there is nothing to explain."""
    energy, n_snapshots = row_sum(squared_norm(problem.Y), float(len(problem.Y)))
    n_rows = math.prod(problem.Y.shape[1:])
    scales = [math.sqrt(squared_norm(F) / F.shape[0]) for F in problem.factors]
    return Units(math.sqrt(energy / (n_snapshots * n_rows)), scales), int(n_snapshots)


class KroneckerEM:
    """State of the iterations: posterior of the entries that are left, and the way there.

    Parameters
    ----------
    problem : KroneckerProblem
    units : Units
    n_snapshots : int
        Of all ranks.
    options : EMOptions
    init : list of arrays, default=None
        Variances to start from, in the units of the squared coefficients.
    """

    def __init__(self, problem, units, n_snapshots, options, init=None):
        self.options, self.units = options, units
        self.shape = tuple(F.shape[1] for F in problem.factors)
        self.dtype, self.log_evidence, self.converged = problem.Y.dtype, [], False
        self._n_values = n_snapshots * math.prod(problem.Y.shape[1:])
        real = np.empty(0, self.dtype).real.dtype
        floor = 10 * float(np.finfo(real).eps)
        self._least_noise = floor if options.noise_var is None else 0.0
        noise_var = 0.1 if options.noise_var is None else options.noise_var / units.y**2
        factors = [F / scale for F, scale in zip(problem.factors, units.factors, strict=True)]
        gammas = self._initial(factors, init)
        seen = [
            np.flatnonzero(to_numpy((F != 0).any(axis=0) & (g > 0)))
            for F, g in zip(factors, gammas, strict=True)
        ]
        self.supports = [np.arange(n) for n in self.shape]
        self._factors, self.gammas = factors, gammas
        Y = problem.Y / units.y
        self._data = Measurements(Y, 0.0, math.prod(Y.shape[1:]), n_snapshots)
        self._keep(seen)
        self._infer(noise_var)

    def _initial(self, factors, init):
        """Equal variances, or what the caller gave; all but the last vector of unit length."""
        xp = compute_namespace(factors[0])
        real = np.empty(0, self.dtype).real.dtype
        gammas = [xp.ones(n, dtype=np.float64) for n in self.shape]
        gammas[-1] *= _START
        if init is not None:
            gammas = [xp.asarray(to_numpy(g), dtype=np.float64) for g in init]
            gammas[-1] = gammas[-1] / self.units.coef**2
        return [g.astype(real) for g in unit_outer(gammas)]

    def step(self):
        """Update the variances and the noise, prune, and infer again."""
        noise_var = self.posterior.noise_var
        if self.options.noise_var is None:
            noise_var = max(self.posterior.next_noise_var(), self._least_noise)
        gammas, noise_var = mpi.broadcast((self._maximize(), noise_var))
        kept = []
        for g, share in zip(gammas, self.options.prune, strict=True):
            keep = g >= share * g.max()
            g *= keep
            kept.append(np.flatnonzero(to_numpy(keep)))
        self.converged = change(gammas, self.gammas) <= self.options.tol
        self.gammas = gammas
        self._keep(kept)
        self._infer(noise_var)

    def _maximize(self):
        """Return new variances of the entries that are left."""
        moments, options = self.posterior.second_moments(), self.options
        if options.method == "svd":
            return rank_one(moments)
        rule = None
        if options.coupling is not None:
            rule = Coupling(options.coupling, self.supports)
        sweeps = 1 if options.method == "one-step" else options.inner_max
        return alternate(moments, self.gammas, max_sweeps=sweeps, tol=options.inner_tol, rule=rule)

    def _keep(self, kept):
        """Drop all other entries from factors and variances; the data shrink with the spans."""
        if any(len(i) < len(g) for i, g in zip(kept, self.gammas, strict=True)):
            on_device = [compute_namespace(self._data.Y).asarray(i) for i in kept]
            self._factors = [F[:, i] for F, i in zip(self._factors, on_device, strict=True)]
            self.gammas = unit_outer([g[i] for g, i in zip(self.gammas, on_device, strict=True)])
            self.supports = [S[i] for S, i in zip(self.supports, kept, strict=True)]
        self._data, self._factors = compress(self._data, self._factors)

    def _infer(self, noise_var):
        self.posterior = KroneckerPosterior(self._data, self._factors, self.gammas, noise_var)
        evidence = self.posterior.log_evidence()
        if not math.isfinite(evidence):
            raise FloatingPointError(
                f"The evidence is {evidence} after {len(self.log_evidence)} iterations; rescale "
                "the factors, or pass float64."
            )
        values = self._n_values * (2 if self.dtype.kind == "c" else 1)
        self.log_evidence.append(evidence - values * math.log(self.units.y))

    # ------------------------------------------------------------------ in the units of the caller
    def coefficients(self):
        """Return the posterior means (T, N_1, ..., N_K)."""
        means = self.posterior.mean()
        means *= self.units.coef
        return self._embed(means)

    def variances(self):
        """Return the posterior variances (N_1, ..., N_K)."""
        variances = self.posterior.variances()
        variances *= self.units.coef**2
        return self._embed(variances[None])[0]

    def noise_var(self):
        """Return the variance of the noise."""
        return self.posterior.noise_var * self.units.y**2

    def full_gammas(self):
        """Return the variances with zeros where pruned; the last carry the scale."""
        full = [self._embed_vector(g, k) for k, g in enumerate(self.gammas)]
        full[-1] *= self.units.coef**2
        return full

    def covariance(self):
        """Return the posterior covariance in factored form."""
        gammas = [*self.gammas[:-1], self.gammas[-1] * self.units.coef**2]
        supports = [self.posterior.xp.asarray(S) for S in self.supports]
        return PosteriorCovariance(supports, self.posterior.V, gammas, self.posterior.share)

    def _embed(self, stack):
        """Return the stack with zeros where pruned."""
        if stack.shape[1:] == self.shape:
            return stack
        xp = compute_namespace(stack)
        full = xp.zeros((len(stack), *self.shape), dtype=stack.dtype)
        full[grid(xp, range(len(stack)), *self.supports)] = stack
        return full

    def _embed_vector(self, gamma, k):
        xp = compute_namespace(gamma)
        full = xp.zeros(self.shape[k], dtype=gamma.dtype)
        full[xp.asarray(self.supports[k])] = gamma
        return full
