"""Kernel, likelihood and posterior of largest bound by stochastic gradients (Cao et al., 2023)."""

import numpy as np
from sklearn.utils import check_random_state

from .._arrays import compute_namespace, to_numpy
from ._elbo import Gradient, repeated
from ._task import POSTERIOR_TOL, Layout

_DECAY, _SQUARE_DECAY, _TINY = 0.9, 0.999, 1e-8
_FIRST_EPOCHS = 5  # before points are ordered anew
_LATE, _SLOWER = 5 / 7, 0.1  # after this share of the epochs, steps are shorter
_LAST_EPOCHS = 3  # over which the bound has to settle


class StochasticSearch:
    """Adam on all parameters at once, a batch of columns at a time; moments of what is met only.

    Parameters
    ----------
    task : Task
    learn : bool
        Whether kernel and likelihood move too.
    batch_size, max_iter : int
    learning_rate : float
    """

    def __init__(self, task, *, learn=True, batch_size, learning_rate, max_iter):
        self.task, self.converged, self.history = task, False, []
        self._learn = learn and len(task.parameters()) > 0
        self._batch_size, self._rate, self._n_epochs = batch_size, learning_rate, max_iter
        self._rng = check_random_state(task.sparsity.seed)
        self._start(Layout(task))

    def _start(self, layout):
        """Begin with the best posterior for the kernel of now."""
        task, self.layout = self.task, layout
        layout.update(task, POSTERIOR_TOL)
        posterior, bound = layout.posterior, layout.bound
        self._nu, self._V = posterior.nu.copy(), posterior.V.copy()
        pattern = bound.patterns.posterior
        xp = compute_namespace(self._V)
        self._last = pattern.indptr[1:] - 1
        self._is_last = xp.zeros(len(self._V), dtype=bool)
        self._is_last[self._last] = True
        self._units = {
            "parameters": 1.0,
            "nu": xp.sqrt(bound.marginals(self._V)),
            "V": repeated(self._V[self._last], pattern.indptr),
        }
        sizes = {"parameters": np.zeros(len(task.parameters())), "nu": self._nu, "V": self._V}
        self._moments = {name: [A * 0.0, A * 0.0] for name, A in sizes.items()}
        self._n_steps = 0

    def step(self, tol):
        """Pass over all columns once, in a random order."""
        n, epoch = len(self.task.y), len(self.history)
        if self._learn and epoch == min(_FIRST_EPOCHS, self._n_epochs // 2):
            if self.layout.is_out_of_order(self.task):
                self._start(Layout(self.task))
        rate = self._rate * (1.0 if epoch < _LATE * self._n_epochs else _SLOWER)
        xp, order = compute_namespace(self._V), self._rng.permutation(n)
        self.value = sum(
            self._batch_step(xp.asarray(np.sort(order[first : first + self._batch_size])), rate)
            for first in range(0, n, self._batch_size)
        )
        self.history.append(self.value)
        last = self.history[-_LAST_EPOCHS - 1 :]
        spread = max(last) - min(last)
        self.converged = len(last) > _LAST_EPOCHS and spread <= tol * max(1.0, abs(self.value))

    def _batch_step(self, columns, rate):
        """Take a step up the bound as estimated by some columns; return their terms of it."""
        task, n = self.task, len(self.task.y)
        likelihood = self.layout.likelihood(task.likelihood)
        value, gradient, seen, entries = self.layout.bound.batch(
            columns, task.covariance, likelihood, self._nu, self._V
        )
        gradient = Gradient(*(part * (n / len(columns)) for part in gradient))
        self._n_steps += 1
        self._nu[seen] += self._moved("nu", seen, gradient.nu, rate)
        V, is_last = self._V[entries], self._is_last[entries]
        xp = compute_namespace(V)
        # diagonal entries move on a logarithmic scale and stay positive
        unit = xp.where(is_last, V, self._units["V"][entries])
        step = self._adam("V", entries, gradient.V * unit, rate)
        self._V[entries] = xp.where(is_last, V * xp.exp(step), V + unit * step)
        if self._learn:
            ascent = np.concatenate([to_numpy(gradient.theta), to_numpy(gradient.likelihood)])
            x = task.parameters() + self._adam("parameters", slice(None), ascent, rate)
            self.task = task.with_parameters(np.clip(x, *task.bounds().T))
        return value

    def _moved(self, name, places, gradient, rate):
        unit = self._units[name][places]
        return unit * self._adam(name, places, gradient * unit, rate)

    def _adam(self, name, places, gradient, rate):
        """Return the step of some entries, in their units; others and their moments stay."""
        xp, (first, second) = compute_namespace(gradient), self._moments[name]
        first[places] += (1 - _DECAY) * (gradient - first[places])
        second[places] += (1 - _SQUARE_DECAY) * (gradient**2 - second[places])
        correction = (1 - _SQUARE_DECAY**self._n_steps) ** 0.5
        rate = rate * correction / (1 - _DECAY**self._n_steps)
        return rate * first[places] / (xp.sqrt(second[places]) + correction * _TINY)

    def finish(self):
        """Return task, layout, the prior's factor and the bound at the end of the search."""
        task, layout = self.task, self.layout.copy()
        layout.posterior.nu, layout.posterior.V = self._nu, self._V
        layout.bias = self.layout.bias
        U, layout.n_jitter = layout.bound.factor(task.covariance)
        value, _ = layout.bound.value_and_gradient(
            task.covariance, layout.likelihood(task.likelihood), U, self._nu, self._V
        )
        return task, layout, U, value

    def at_bounds(self):
        """Names of parameters at a bound."""
        return self.task.names_at_bounds() if self._learn else []
