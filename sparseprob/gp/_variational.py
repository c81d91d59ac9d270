"""Kernel and likelihood of largest bound, the posterior profiled out, or from noisy values.

The bound is that of Cao et al. (2023). Its largest value over posteriors is a function of the few
parameters of kernel and likelihood alone, and quasi-Newton steps find the maximum of that in about
ten evaluations.
"""

import numpy as np

from ._fisher import Ascent
from ._response_search import ResponseSearch
from ._task import FINAL_TOL, Layout

FIRST_POINTS = 5000  # whose bound is maximized first, if there are four times as many
_ROUGH = 1e-4  # tolerance there
_MOST_ORDERINGS = 4


class ProfiledSearch:
    """Quasi-Newton steps of kernel and likelihood, each with the posterior that is best for it.

    Parameters
    ----------
    task : Task
    learn : bool
        Whether there are steps; otherwise kernel and likelihood stay.
    """

    def __init__(self, task, *, learn=True, **_):
        self.task, self.converged, self._n_orderings = task, False, 1
        self._learn = learn and len(task.parameters()) > 0
        is_long = len(task.y) >= 4 * FIRST_POINTS and "maximin" in task.sparsity.ordering
        self._is_rough = self._learn and is_long
        self.layout = Layout(task, FIRST_POINTS if self._is_rough else None)
        if self._learn:
            self._ascend()

    def step(self, tol):
        """Take one step; at the top, go on with all points, or in a new order if that helps."""
        if not self._learn:
            self.value = self.layout.value_and_gradient(self.task, FINAL_TOL)[0]
            self.converged = True
            return
        self._ascent.step(max(tol, _ROUGH) if self._is_rough else tol)
        self.task, self.value = self.task.with_parameters(self._ascent.x), self._ascent.value
        if not self._ascent.converged:
            return
        reorder = self._n_orderings < _MOST_ORDERINGS and self.layout.is_out_of_order(self.task)
        self.converged = not (reorder or self._is_rough)
        if not self.converged:
            self._is_rough, self._n_orderings = False, self._n_orderings + reorder
            self.layout = Layout(self.task)
            self._ascend()

    def finish(self):
        """Return task, layout, the prior's factor and the bound at the end of the search."""
        layout = Layout(self.task) if self._is_rough else self.layout.copy()
        value, _, U = layout.value_and_gradient(self.task, FINAL_TOL)
        return self.task, layout, U, value

    def at_bounds(self):
        """Names of parameters at a bound."""
        return self.task.names_at_bounds() if self._learn else []

    def _ascend(self):
        task = self.task
        self._ascent = Ascent(self._evaluate, task.parameters(), task.bounds(), "lbfgs")
        self.value = self._ascent.value

    def _evaluate(self, x):
        value, gradient, _ = self.layout.value_and_gradient(self.task.with_parameters(x))
        return value, np.concatenate([gradient.theta, gradient.likelihood]), np.eye(len(x))


class NoisySearch:
    """Fisher scoring of the Vecchia likelihood of noisy values, Gaussian noise; then a posterior.

    Parameters
    ----------
    task : Task
    """

    def __init__(self, task, **_):
        self.task, sparsity = task, task.sparsity
        self._search = ResponseSearch(
            task.A,
            task.y,
            task.covariance,
            task.likelihood.noise_variance,
            n_neighbors=sparsity.n_neighbors,
            ordering=sparsity.ordering,
            seed=sparsity.seed,
        )
        self._search.start("fisher", task.reorder_tol)

    @property
    def converged(self):
        """Whether the last step was small."""
        return self._search.converged

    @property
    def value(self):
        """Vecchia log likelihood, of the first points only at the beginning."""
        return self._search.value

    def step(self, tol):
        """Take one step of Fisher scoring."""
        self._search.step(tol)
        parameters = np.append(self._search.covariance.theta, np.log(self._search.noise))
        self.task = self.task.with_parameters(parameters)

    def finish(self):
        """Return task, layout, the prior's factor and the bound at the end of the search."""
        layout = Layout(self.task)
        value, _, U = layout.value_and_gradient(self.task, FINAL_TOL)
        return self.task, layout, U, value

    def at_bounds(self):
        """Names of parameters at a bound."""
        return self.task.names_at_bounds()
