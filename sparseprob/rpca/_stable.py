"""Stable principal component pursuit: dense noise beside the outliers (Z. Zhou et al., 2010)."""

import math

import numpy as np

from .._arrays import compute_namespace
from ._blocks import LowRank
from ._certificate import duality_gap
from ._filled import ThresholdSolver, difference, inner
from ._partial_svd import spectral_norm
from ._problem import observed

_CONTINUATION = 0.9
_MARGIN = 10
_ROUGHLY = 1e-4  # change of L at which the noise is estimated anew
_SMALLEST_TOL = 1e-8
_SETTLED = 0.02  # relative change of the noise that is small enough
_MAD = 1.4826


class StablePursuit(ThresholdSolver):
    """min ||L||_* + lam ||S||_1 + ||M - L - S||_F^2 / (2 mu), by accelerated proximal steps.

    For a given L the best S is soft(M - L), so the problem is one in L alone, whose smooth part
    has a gradient of Lipschitz constant 1 / mu: the step is mu, and L needs no memory but its
    factors. Momentum starts anew where it points uphill (B. O'Donoghue, E. Candes, 2015).
    """

    kind = "soft"
    has_certificate = True

    def start(self):
        """Noise level, first and last mu."""
        self.known = self.options.noise_scale is not None
        self._set_noise(self.options.noise_scale if self.known else self._deviation())
        norm = spectral_norm(observed(self.rows), self.options.rng)
        self.mu = max(0.99 * norm, self.mu_last)
        self.lam, self.tol, self.t = self.options.lam, self.options.tol, 1.0
        self.before = self.ahead = LowRank.zeros(self.rows)
        self.n_expected = _MARGIN

    def _set_noise(self, sigma):
        """Take a noise level, at least one that `tol` would not see, and its mu."""
        self.noise_scale = max(
            sigma, self.options.tol * self.summary.norm * self.summary.n_seen**-0.5
        )
        self.mu_last = math.sqrt(2 * max(self.rows.n_rows, self.rows.shape[1])) * sigma

    def _deviation(self):
        """Median of |M - L|, as the standard deviation of normal noise; outliers hardly move it."""
        return _MAD * self.kth_largest(self.low, self.summary.n_seen / 2)

    def step(self):
        """A proximal step from the extrapolated L."""
        matrix, _ = self.made(self.ahead, self.lam * self.mu)
        kept, count = self.svd.above(matrix, self.n_expected, self.mu)
        self.n_expected = count + _MARGIN
        self.before, ahead = self.low, self.ahead
        self.low = LowRank(kept.U, kept.s - kept.s.dtype.type(self.mu), kept.V)
        self._extrapolate(ahead)
        self.threshold = self.lam * self.mu
        moved = difference(self.low, ahead) / self.summary.norm
        if self.mu > self.mu_last:
            self.mu = max(_CONTINUATION * self.mu, self.mu_last)
        elif not self.known and moved <= _ROUGHLY:
            self._lower_noise()
        elif moved <= self.tol:
            self._certify()
            self.finished = self.gap <= self.options.gap_tol or self.tol <= _SMALLEST_TOL
            self.tol /= 4

    def _lower_noise(self):
        """Estimate the noise from what this L leaves; the first estimates contain L itself."""
        sigma = self._deviation()
        before = self.noise_scale
        if sigma <= (1 - _SETTLED) * before:
            self._set_noise(sigma)
        self.known = self.noise_scale > (1 - _SETTLED) * before

    def _extrapolate(self, ahead):
        uphill = inner(ahead, self.low) - inner(self.low, self.low)
        uphill += inner(self.low, self.before) - inner(ahead, self.before)
        if uphill > 0:
            self.t = 1.0
        following = (1 + math.sqrt(1 + 4 * self.t**2)) / 2
        beta, self.t = (self.t - 1) / following, following
        self.ahead = _combined(self.low, self.before, beta)

    def _certify(self):
        self._note(self.rows.sums(self._sums, 4))
        squares = (self.residual * self.summary.norm) ** 2
        self.objective = float(self.low.s.sum()) + self.lam * self.sparse_l1
        self.objective += squares / (2 * self.mu)
        self.gap = duality_gap(self, self.options.rng, smoothing=self.mu, squares=squares)

    def _sums(self, start, block, sums):
        self._worker(self.low, self.threshold, None)(start, block, sums)

    def dual(self, start, block, out):
        """Write rows of Y = (M - L - S) / mu to `out`; return their product with the data."""
        sums = np.zeros(4)
        Z = self._worker(self.low, self.threshold, None)(start, block, sums)
        L = self.low.block(start, self.rows.memory("low", len(block)))
        self.xp.subtract(Z, L, out=out)
        out /= self.dtype.type(self.mu)
        return float((self.xp.nan_to_num(block) * out).sum())


def _combined(a, b, beta):
    """Return a + beta (a - b) for LowRank matrices."""
    if beta == 0 or b.rank == 0:
        return LowRank(a.U, a.s * a.s.dtype.type(1 + beta), a.V)
    xp = compute_namespace(a.U)
    s = xp.concatenate([(1 + beta) * a.s, -beta * b.s]).astype(a.s.dtype, copy=False)
    return LowRank(xp.hstack([a.U, b.U]), s, xp.hstack([a.V, b.V]))
