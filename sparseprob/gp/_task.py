"""What is sought: a posterior on patterns, for a kernel and a likelihood that are learned."""

import copy
from dataclasses import dataclass, replace

import numpy as np
from sklearn.utils import check_random_state

from .._arrays import compute_namespace, to_numpy
from .._covariance import Covariance
from ._elbo import Bound
from ._likelihoods import Likelihood
from ._patterns import Sparsity, all_ancestors, ball_ancestors
from ._posterior import Posterior

POSTERIOR_TOL = 1e-4  # of the posterior while the kernel is learned
FINAL_TOL = 1e-7
_MOST_BIAS = 0.01  # of the marginal variances
_RADII = (2.0, 3.0, 4.0)  # of balls of ancestors, one after the other
_BALL = 3.0
_RANGES = {"noise_variance": (1e-8, 1e2), "scale": (1e-4, 10.0), "df": (0.05, 1e3)}


@dataclass(frozen=True)
class Task:
    """Points, targets, how sparse their posterior is, and the kernel and likelihood of now."""

    A: np.ndarray  # (n, d)
    y: np.ndarray  # (n,)
    likelihood: Likelihood
    covariance: Covariance
    sparsity: Sparsity
    ancestors: str
    nugget: float
    reorder_tol: float

    def bounds(self):
        """Bounds of the logarithms of the parameters of kernel and likelihood, (P, 2)."""
        size = float(self.y.std()) or 1.0
        units = {"noise_variance": size**2, "scale": size, "df": 1.0}
        own = [np.log(_RANGES[name]) + np.log(units[name]) for name in self.likelihood.free]
        return np.vstack([self.covariance.bounds, *own])

    def with_parameters(self, x):
        """Return the task with other parameters of kernel and likelihood, given as logarithms."""
        n = len(self.covariance.theta)
        return replace(
            self,
            covariance=self.covariance.with_theta(x[:n]),
            likelihood=self.likelihood.with_parameters(x[n:]),
        )

    def parameters(self):
        """Logarithms of the parameters of kernel and likelihood, (P,)."""
        return np.concatenate([self.covariance.theta, self.likelihood.parameters])

    def names_at_bounds(self):
        """Names of parameters at a bound."""
        names = [*self.covariance.names, *self.likelihood.free]
        at = np.isclose(self.parameters()[:, None], self.bounds(), rtol=0, atol=1e-9).any(axis=1)
        return [name for name, is_at in zip(names, at, strict=True) if is_at]


class Layout:
    """Points in the order for a task's kernel, with a posterior on their patterns.

    Parameters
    ----------
    task : Task
    n_points : int, default=None
        How many points, the first of the order, are used; None is all.
    """

    def __init__(self, task, n_points=None):
        A, covariance = task.A, task.covariance
        self.order, self._all_lengths = task.sparsity.order(covariance, A)
        self._task, self._ordered_with = task, covariance.proportions(A)
        self._rows, self._lengths = self.order[:n_points], self._all_lengths[:n_points]
        points = compute_namespace(A).ascontiguousarray(A[self._rows])
        patterns = task.sparsity.patterns(covariance, points, self._lengths)
        self.posterior = Posterior(Bound(points, task.y[self._rows], patterns, task.nugget))
        self.bias, self.n_jitter = None, 0

    def copy(self):
        """Return a layout whose posterior can go its own way, and chooses ancestors again."""
        new = copy.copy(self)
        new.posterior, new.bias = copy.copy(self.posterior), None
        return new

    @property
    def bound(self):
        """The bound on the log evidence."""
        return self.posterior.bound

    def likelihood(self, likelihood):
        """Return a likelihood with its rows in order."""
        return likelihood.take(self._rows)

    def lengths(self, task):
        """Return the distances of points to those before them, for the kernel of a task."""
        if task.sparsity.metric == "correlation":
            return self._all_lengths
        ratios = self._ordered_with / task.covariance.proportions(task.A)
        return self._all_lengths * float(np.exp(np.mean(np.log(ratios))))

    def is_out_of_order(self, task):
        """Whether the ratio of two lengthscales has changed much since points were ordered."""
        if task.sparsity.ordering == "given":
            return False
        ratios = task.covariance.proportions(task.A) / self._ordered_with
        return ratios.max() / ratios.min() - 1 > task.reorder_tol

    def update(self, task, tol):
        """Find the posterior for the kernel and likelihood of a task; return the prior's factor."""
        U, self.n_jitter = self.bound.factor(task.covariance)
        self.posterior.update(U, self.likelihood(task.likelihood), tol)
        if self.bias is None:
            self._choose_ancestors()
            self.posterior.update(U, self.likelihood(task.likelihood), tol)
        return U

    def value_and_gradient(self, task, tol=POSTERIOR_TOL):
        """Return the bound at the posterior for a task, its gradient, and the prior's factor."""
        U, posterior = self.update(task, tol), self.posterior
        value, gradient = self.bound.value_and_gradient(
            task.covariance,
            self.likelihood(task.likelihood),
            U,
            posterior.nu,
            posterior.V,
        )
        return value, gradient, U

    def _choose_ancestors(self):
        """Take more ancestors until marginal variances are right to a percent."""
        task = self._task
        pattern = self.bound.patterns.prior
        bound = self.posterior.bound = self.bound.with_ancestors(pattern)
        if task.ancestors == "full":
            self.posterior.bound = bound.with_ancestors(all_ancestors(pattern))
        elif task.ancestors == "ball":
            self._see_balls(max(task.sparsity.rho, _BALL))
        self.bias = self._measured_bias()
        has_balls = np.isfinite(to_numpy(self._lengths)).all()
        for radius in _RADII if task.ancestors == "auto" and has_balls else ():
            if self.bias < _MOST_BIAS:
                break
            self._see_balls(radius)
            self.bias = self._measured_bias()

    def _measured_bias(self):
        return self.posterior.bias(check_random_state(self._task.sparsity.seed))

    def _see_balls(self, radius):
        bound = self.bound
        ancestors = ball_ancestors(
            self._task.covariance, bound.points, self._lengths, radius, bound.patterns.prior
        )
        self.posterior.bound = bound.with_ancestors(ancestors)
