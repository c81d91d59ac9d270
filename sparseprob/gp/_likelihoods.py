"""Likelihoods of the latent values: densities, derivatives and expectations under Gaussians.

Everything is elementwise, in the array library of y. Expectations without a closed form use the
Gauss-Hermite rule; their gradients are those of the rule itself, so that a line search on the rule
sees exact slopes.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import log, pi
from typing import Any

import numpy as np

from .._arrays import compute_namespace, is_array, like

_LOG_2PI = log(2 * pi)
_LEAST_CURVATURE = 1e-8
_BLOCK = 2**18  # values of a quadrature held at a time, on the host


class Likelihood:
    """What y says of a latent f, one value at a time.

    `free` names the parameters that are learned; `parameters` are their logarithms.
    """

    free: tuple = ()
    n_nodes = 20

    @property
    def parameters(self):
        """Logarithms of the free parameters, (P,) on the host."""
        return np.log([self._shifted(name) for name in self.free])

    def with_parameters(self, theta):
        """Return the same likelihood with other free parameters, given as logarithms."""
        values = np.exp(np.asarray(theta, dtype=np.float64)).tolist()
        values = map(self._unshifted, self.free, values)
        changes = dict(zip(self.free, values, strict=True))
        return replace(self, **changes)  # type: ignore[type-var]  # dataclasses, all of them

    def take(self, rows):
        """Return the likelihood of some of the rows."""
        return self

    def start(self):
        """Likelihood whose mode is a good start for the mode of this one."""
        return self

    def value_and_slope(self, y, f):
        """Return log p(y | f) and its derivative by f."""
        raise NotImplementedError

    def curvature(self, y, f):
        """Return minus the second derivative of log p(y | f)."""
        raise NotImplementedError

    def log_density(self, y, f):
        """Return log p(y | f), shape (n,)."""
        return self.value_and_slope(y, f)[0]

    def derivatives(self, y, f):
        """Return d log p / df and minus the second derivative, at least 1e-8; both (n,)."""
        xp = compute_namespace(f)
        return self.value_and_slope(y, f)[1], xp.maximum(self.curvature(y, f), _LEAST_CURVATURE)

    def majorizing_curvature(self, y, f):
        """Return a positive W such that Newton steps with it do not overshoot a lot, (n,)."""
        return self.derivatives(y, f)[1]

    def expected(self, y, mean, variance):
        """Return E log p(y | f) for f ~ N(mean, variance) and its derivatives by both; (n,) each.

        By mean it is E l'(f); by variance E l'(f) z / (2 sd) with f = mean + sd z, which is
        E l''(f) / 2.
        """

        def integrand(y, f, z, sd, part):
            value, slope = part.value_and_slope(y, f)
            return value, slope, slope * (z / (2 * sd))

        return self._quadrature(integrand, 3, y, mean, variance)

    def expected_parameter_gradient(self, y, mean, variance):
        """Return the derivatives of the sum of `expected` by `parameters`, (P,) on the host."""
        return np.zeros(0)

    def _shifted(self, name):
        return getattr(self, name)

    def _unshifted(self, name, value):
        return value

    def _quadrature(self, integrand, n_results, y, mean, variance):
        """Integrate over f ~ N(mean, variance), for some rows at a time."""
        xp = compute_namespace(mean)
        nodes, weights = (xp.asarray(A) for A in hermite_rule(self.n_nodes))
        n = mean.shape[0]
        n_rows = max(1, (_BLOCK if xp is np else 64 * _BLOCK) // self.n_nodes)
        results = xp.empty((n_results, n))
        for first in range(0, n, n_rows):
            rows = slice(first, min(first + n_rows, n))
            sd = xp.sqrt(variance[rows, None])
            f = mean[rows, None] + sd * nodes
            values = integrand(y[rows, None], f, nodes, sd, self.take((rows, None)))
            for k in range(n_results):
                results[k, rows] = values[k] @ weights
        return tuple(results)


@dataclass(frozen=True)
class Gaussian(Likelihood):
    """Gaussian noise: y = f + e with e of variance `noise_variance`."""

    noise_variance: float = 0.1
    free: tuple = ("noise_variance",)

    def value_and_slope(self, y, f):
        """Return log p(y | f) and its derivative by f."""
        slope = (y - f) / self.noise_variance
        return -0.5 * (log(self.noise_variance) + _LOG_2PI + slope * (y - f)), slope

    def curvature(self, y, f):
        """Return minus the second derivative of log p(y | f)."""
        return compute_namespace(f).full_like(f, 1 / self.noise_variance)

    def expected(self, y, mean, variance):
        """Return E log p(y | f) for f ~ N(mean, variance) and its derivatives by both."""
        value, slope = self.value_and_slope(y, mean)
        xp = compute_namespace(mean)
        return (
            value - 0.5 * variance / self.noise_variance,
            slope,
            xp.full_like(mean, -0.5 / self.noise_variance),
        )

    def expected_parameter_gradient(self, y, mean, variance):
        """Return the derivatives of the sum of `expected` by `parameters`, (P,) on the host."""
        squares = float(((y - mean) ** 2 + variance).sum())
        gradient = {"noise_variance": 0.5 * (squares / self.noise_variance - len(mean))}
        return np.array([gradient[name] for name in self.free])

    def predictive(self, mean, variance):
        """Return mean and variance of y for f ~ N(mean, variance)."""
        return mean, variance + self.noise_variance

    def log_predictive(self, y, mean, variance):
        """Return log E p(y | f) for f ~ N(mean, variance)."""
        total = variance + self.noise_variance
        xp = compute_namespace(mean)
        return -0.5 * (xp.log(total) + _LOG_2PI + (y - mean) ** 2 / total)


@dataclass(frozen=True)
class StudentT(Likelihood):
    """Heavy-tailed noise: (y - f) / scale has a t distribution with df degrees of freedom.

    A free `df` stays above 1: its parameter is log(df - 1).
    """

    df: float = 5.0
    scale: float = 1.0
    free: tuple = ("scale",)
    n_nodes = 50

    def _shifted(self, name):
        return self.df - 1 if name == "df" else self.scale

    def _unshifted(self, name, value):
        return 1 + value if name == "df" else value

    def start(self):
        """Gaussian noise of the same scale."""
        return Gaussian(self.scale**2)

    @property
    def _spread(self):
        return self.df * self.scale**2

    def _log_norm(self):
        from scipy.special import gammaln

        d = self.df
        return float(gammaln((d + 1) / 2) - gammaln(d / 2) - 0.5 * log(pi * self._spread))

    def value_and_slope(self, y, f):
        """Return log p(y | f) and its derivative by f."""
        xp = compute_namespace(f)
        r = y - f
        value = self._log_norm() - 0.5 * (self.df + 1) * xp.log1p(r * r / self._spread)
        return value, (self.df + 1) * r / (self._spread + r * r)

    def curvature(self, y, f):
        """Return minus the second derivative of log p(y | f); negative far from y."""
        r2 = (y - f) ** 2
        return (self.df + 1) * (self._spread - r2) / (self._spread + r2) ** 2

    def majorizing_curvature(self, y, f):
        """Return the weight of iterated least squares, whose steps never lower the posterior."""
        return (self.df + 1) / (self._spread + (y - f) ** 2)

    def expected_parameter_gradient(self, y, mean, variance):
        """Return the derivatives of the sum of `expected` by `parameters`, (P,) on the host."""
        from scipy.special import digamma

        d, spread = self.df, self._spread
        slope = 0.5 * float(digamma((d + 1) / 2) - digamma(d / 2) - 1 / d)

        def integrand(y, f, z, sd, part):
            xp = compute_namespace(f)
            r2 = (y - f) ** 2
            share = r2 / (spread + r2)
            by_df = slope - 0.5 * xp.log1p(r2 / spread) + 0.5 * (d + 1) / d * share
            return (d + 1) * share - 1, (d - 1) * by_df

        by_scale, by_df = self._quadrature(integrand, 2, y, mean, variance)
        gradient = {"scale": by_scale, "df": by_df}
        return np.array([float(gradient[name].sum()) for name in self.free])

    def predictive(self, mean, variance):
        """Return mean and variance of y; the variance is infinite if df <= 2."""
        noise = self._spread / (self.df - 2) if self.df > 2 else np.inf
        return mean, variance + noise

    def log_predictive(self, y, mean, variance):
        """Return log E p(y | f) for f ~ N(mean, variance).

        The t distribution is a Gaussian whose precision is Gamma distributed; the one integral
        left, over the log precision, is smooth and the trapezoid rule resolves it.
        """
        from scipy.special import gammaln

        xp = compute_namespace(mean)
        half = 0.5 * self.df
        t = np.linspace(-40 / half - 5, log(1 + 40 / half) + 3, 600)
        log_weights = half * log(half) - gammaln(half) + half * (t - np.exp(t)) + log(t[1] - t[0])
        total = xp.full_like(mean, -np.inf)
        for precision, weight in zip(np.exp(t).tolist(), log_weights.tolist(), strict=True):
            part = Gaussian(self.scale**2 / precision).log_predictive(y, mean, variance)
            total = xp.logaddexp(total, weight + part)
        return total


@dataclass(frozen=True)
class Bernoulli(Likelihood):
    """Labels y of 0 and 1 with probability sigmoid(f) ("logit") or Phi(f) ("probit") of a 1."""

    link: str = "logit"

    def value_and_slope(self, y, f):
        """Return log p(y | f) and its derivative by f."""
        xp = compute_namespace(f)
        sign = 2.0 * y - 1.0
        t = sign * f
        if self.link == "logit":
            e = xp.exp(-xp.abs(t))
            return xp.minimum(t, 0.0) - xp.log1p(e), sign * xp.where(t > 0, e, 1.0) / (1 + e)
        value = _special(xp).log_ndtr(t)
        return value, sign * xp.exp(-0.5 * (t * t + _LOG_2PI) - value)

    def curvature(self, y, f):
        """Return minus the second derivative of log p(y | f)."""
        slope = self.value_and_slope(y, f)[1]
        if self.link == "logit":
            return compute_namespace(f).abs(slope) * (1 - compute_namespace(f).abs(slope))
        return slope * (f + slope)

    def predictive(self, mean, variance):
        """Return the probability of a 1, and its variance p (1 - p), for f ~ N(mean, variance)."""
        xp = compute_namespace(mean)
        if self.link == "probit":
            p = _special(xp).ndtr(mean / xp.sqrt(1 + variance))
        else:
            p = xp.exp(self._log_probability(mean, variance))
        return p, p * (1 - p)

    def log_predictive(self, y, mean, variance):
        """Return log E p(y | f) for f ~ N(mean, variance)."""
        xp = compute_namespace(mean)
        mean = (2.0 * y - 1.0) * mean
        if self.link == "probit":
            return _special(xp).log_ndtr(mean / xp.sqrt(1 + variance))
        return self._log_probability(mean, variance)

    def _log_probability(self, mean, variance):
        return log_integral(self, compute_namespace(mean).ones_like(mean), mean, variance)


@dataclass(frozen=True)
class Poisson(Likelihood):
    """Counts y with mean exposure * exp(f); the exposure is a number or one for each row."""

    exposure: Any = 1.0

    def take(self, rows):
        """Return the likelihood of some of the rows."""
        if np.ndim(self.exposure) == 0:
            return self
        exposure = like(self.exposure, rows) if is_array(rows) else self.exposure
        return replace(self, exposure=exposure[rows])

    def _exposure(self, f):
        return self.exposure if np.ndim(self.exposure) == 0 else like(self.exposure, f)

    def value_and_slope(self, y, f):
        """Return log p(y | f) and its derivative by f."""
        xp = compute_namespace(f)
        exposure = self._exposure(f)
        rate = exposure * xp.exp(f)
        return y * (f + xp.log(exposure)) - rate - _special(xp).gammaln(y + 1.0), y - rate

    def curvature(self, y, f):
        """Return minus the second derivative of log p(y | f)."""
        return self._exposure(f) * compute_namespace(f).exp(f)

    def expected(self, y, mean, variance):
        """Return E log p(y | f) for f ~ N(mean, variance) and its derivatives by both."""
        value, slope = self.value_and_slope(y, mean + 0.5 * variance)
        return value - 0.5 * y * variance, slope, 0.5 * (slope - y)

    def predictive(self, mean, variance):
        """Return mean and variance of y for f ~ N(mean, variance)."""
        xp = compute_namespace(mean)
        rate = self._exposure(mean) * xp.exp(mean + 0.5 * variance)
        return rate, rate + rate**2 * xp.expm1(variance)

    def log_predictive(self, y, mean, variance):
        """Return log E p(y | f) for f ~ N(mean, variance)."""
        return log_integral(self, y, mean, variance)


def log_integral(likelihood, y, mean, variance):
    """Return log E p(y | f) for f ~ N(mean, variance) where p is log-concave in f.

    The Gauss-Hermite rule stands at the mode of the integrand and has its width, so that a few
    nodes resolve a p far narrower than the Gaussian (large counts) as well as one far wider.
    """
    xp = compute_namespace(mean)
    f = _mode(likelihood, y, mean, variance)
    width = 1 / xp.sqrt(likelihood.derivatives(y, f)[1] + 1 / variance)
    nodes, weights = hermite_rule(100)
    total = xp.full_like(mean, -np.inf)
    for z, weight in zip(nodes.tolist(), np.log(weights).tolist(), strict=True):
        at = f + width * z
        part = likelihood.log_density(y, at) - 0.5 * (at - mean) ** 2 / variance
        total = xp.logaddexp(total, weight + 0.5 * z * z + part)
    return total + xp.log(width) - 0.5 * xp.log(variance)


def _mode(likelihood, y, mean, variance, n_steps=200):
    """Maximize log p(y | f) - (f - mean)^2 / (2 variance) over f by Newton steps.

    A step is at most as long as a limit, which halves when steps change their direction.
    """
    xp = compute_namespace(mean)
    f, limit, last = mean, xp.maximum(xp.sqrt(variance), 1.0), 0.0
    for _ in range(n_steps):
        slope, curvature = likelihood.derivatives(y, f)
        step = (slope - (f - mean) / variance) / (curvature + 1 / variance)
        limit = xp.where(step * last < 0, 0.5 * limit, limit)
        last = xp.minimum(xp.maximum(step, -limit), limit)
        f = f + last
        if float(xp.abs(last / limit).max()) < 1e-8:
            break
    return f


@lru_cache(maxsize=8)
def hermite_rule(n_nodes):
    """Nodes and weights of the mean over a standard normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
    return nodes, weights / weights.sum()


def _special(xp):
    if xp is np:
        import scipy.special as special
    else:
        import cupyx.scipy.special as special
    return special
