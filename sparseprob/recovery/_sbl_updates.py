"""Updates of prior variances and noise that raise the evidence: EM, MacKay's, pattern-coupled.

M. E. Tipping, JMLR 1, 2001; D. P. Wipf, B. D. Rao, IEEE Trans. Signal Processing 55(7), 2007
(snapshots); J. Fang, Y. Shen, H. Li, P. Wang, IEEE Trans. Signal Processing 63(2), 2015 (patterns).
"""

import numpy as np

from ._sbl_posterior import ActiveColumns, log_evidence, posterior, posterior_factor, square_sum


class EvidenceSearch:
    """Prior variances, noise and posterior of one problem; a step changes all three.

    Parameters
    ----------
    columns : UnitColumns
    Y : array of shape (M, T)
        Snapshots that share the prior variances.
    noise_var : float or None
        Variance of the noise; None to learn it.
    prune : float
        Columns with less than this share of the largest variance are dropped.
    tol : float
        A relative change of the variances below it ends the search.
    total : callable
        Sums arrays over the ranks that hold other snapshots; `row_sum`, or the identity.

    Attributes
    ----------
    gamma : array of shape (N,)
        Prior variances of the coefficients of unit columns; zero outside the active set.
    """

    def __init__(self, columns, Y, *, noise_var=None, prune=1e-3, tol=1e-4, total):
        self.columns, self.Y, self.xp, self.total = columns, Y, columns.xp, total
        self.tol, self.prune, self.log_evidence = tol, prune, []
        energy, snapshots = total(square_sum(Y), float(Y.shape[1]))
        self.n_snapshots = float(snapshots)
        self.power = power = float(energy) / (self.n_snapshots * len(Y))
        self.learns_noise = noise_var is None
        self.noise_var = 0.1 * power if noise_var is None else float(noise_var)
        self.noise_floor = 50 * float(np.finfo(columns.real_dtype).eps) * power
        self._usable = columns.norms > 0
        self.converged = power == 0 or not bool(self._usable.any())
        if self.converged and noise_var is None:
            self.noise_var = power
        self._start(self.xp.where(self._usable, power, 0).astype(columns.real_dtype))

    def _start(self, gamma):
        self.gamma = gamma
        indices = self.xp.flatnonzero(gamma > 0)
        self.active = ActiveColumns(self.columns, self.Y, indices)
        if not self.converged:
            self.posterior = posterior(self.active, gamma[indices], self.noise_var)

    def step(self):
        """Update variances and noise, then the posterior and the evidence."""
        if self.converged:
            return
        gamma = self._new_gamma()
        before, noise_before = self.gamma, self.noise_var
        if self.learns_noise:
            self.noise_var = max(self._new_noise_var(), self.noise_floor)
        self.gamma = gamma
        self.converged = self._has_settled(before, noise_before)
        self.active = self.active.restricted(self.xp.flatnonzero(gamma > 0))
        self.posterior = posterior(self.active, gamma[self.active.indices], self.noise_var)
        self._record()

    def _new_gamma(self):
        """Return the next variances of all columns; zero drops a column."""
        raise NotImplementedError

    def _has_settled(self, gamma, noise_var):
        """Whether variances and noise are, within tol, what they were before."""
        change = float(self.xp.linalg.norm(self.gamma - gamma))
        return bool(
            change <= self.tol * float(self.xp.linalg.norm(gamma))
            and abs(self.noise_var - noise_var) <= self.tol * noise_var
        )

    def coefficients(self):
        """Return the posterior mean (N, T) and variance (N,) over unit columns."""
        mean = self.xp.zeros((len(self.gamma), self.Y.shape[1]), dtype=self.Y.dtype)
        variance = self.xp.zeros_like(self.gamma)
        indices = self.active.indices
        if len(indices) and hasattr(self, "posterior"):
            mean[indices] = self.posterior.mean
            variance[indices] = self.posterior.ratio * self.gamma[indices]
        return mean, variance

    def factor(self):
        """Return the factor of the posterior covariance; see `posterior_factor`."""
        indices = self.active.indices
        return posterior_factor(self.active, self.gamma[indices], self.noise_var)

    def _record(self):
        value = float(self.total(log_evidence(self.posterior, self.Y.shape[1])))
        if not np.isfinite(value):
            raise FloatingPointError(
                "The evidence of sparse Bayesian learning is not finite; rescale X and y, or give "
                "noise_var."
            )
        self.log_evidence.append(value)

    def _moments(self):
        """Return means over snapshots of |x_j|^2 of the posterior mean, and of its variance."""
        found, T = self.posterior, float(self.Y.shape[1])
        squares = (self.xp.abs(found.mean) ** 2).sum(axis=1)
        squares, ratio = self.total(squares, T * found.ratio)
        return squares / self.n_snapshots, ratio / self.n_snapshots

    def _new_noise_var(self):
        """EM: mean square of the residual, and of what the posterior leaves open."""
        found, T = self.posterior, float(self.Y.shape[1])
        determined = float((1 - found.ratio).sum(dtype=np.float64))
        expected = square_sum(found.residual) + T * self.noise_var * determined
        return float(self.total(expected)) / (self.n_snapshots * len(self.Y))

    def _spread(self, values):
        """Return values of the active columns as an array over all, after pruning."""
        gamma = self.xp.zeros_like(self.gamma)
        gamma[self.active.indices] = self.xp.where(values > self.prune * values.max(), values, 0)
        return gamma


class EMSearch(EvidenceSearch):
    """Expectation maximization: the evidence never falls, but for what pruning takes."""

    def _new_gamma(self):
        squares, ratio = self._moments()
        return self._spread(squares + ratio * self.gamma[self.active.indices])


class MacKaySearch(EvidenceSearch):
    """MacKay's fixed point: the same stationary points in fewer steps, evidence not monotone."""

    def _new_gamma(self):
        squares, ratio = self._moments()
        return self._spread(squares / self.xp.clip(1 - ratio, 1e-12, 1))


class PatternSearch(EMSearch):
    """EM with the precision of a coefficient tied to those of its neighbors."""

    _shape, _rate = 0.5, 1e-4  # of the Gamma prior of the precisions, where y has unit power

    def __init__(self, *problem, coupling, **options):
        self.coupling = coupling
        super().__init__(*problem, **options)

    def _new_gamma(self):
        moments = self.xp.zeros_like(self.gamma)
        squares, ratio = self._moments()
        moments[self.active.indices] = squares + ratio * self.gamma[self.active.indices]
        energy = self._coupled(moments)
        degrees = 1.0 if self.Y.dtype.kind == "c" else 0.5
        shape = degrees + self._shape / self.n_snapshots
        rate = self._rate * self.power / self.n_snapshots
        precision = shape / (degrees * energy + rate)
        precision[precision * self.prune > precision[self._usable].min()] = np.inf
        return self.xp.where(self._usable, 1 / self._coupled(precision), 0)

    def _coupled(self, values):
        """Return every value plus its two neighbors times the coupling."""
        coupled = values.copy()
        coupled[1:] += self.coupling * values[:-1]
        coupled[:-1] += self.coupling * values[1:]
        return coupled
