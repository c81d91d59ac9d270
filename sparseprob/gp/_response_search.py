"""Kernel and noise of largest Vecchia likelihood: order, neighbors, Fisher scoring, and again."""

from typing import Any

import numpy as np
from scipy.sparse import eye_array
from sklearn.utils import check_random_state

from .._arrays import compute_namespace
from ._fisher import Ascent
from ._inverse_cholesky import response_sums
from ._neighbors import nearest_predecessors
from ._ordering import order_points

_FIRST_COLUMNS = 5000  # whose likelihood is maximized first, if there are four times as many
_ROUGH = 1e-4  # tolerance there
_MOST_ORDERINGS = 4
_NOISE_RANGE = 1e-8, 1e2  # of the noise, in variances of y
_SPREAD = {"maximin", "maximin-approximate", "random"}  # orders that begin all over the place


class ResponseSearch:
    """State of a fit to noisy values.

    Parameters
    ----------
    A : array of shape (n, d)
    target : array of shape (n,)
    covariance : Covariance
        With start values.
    noise : float
        Start value.
    n_neighbors : int
    ordering : str
    seed : int
        The same on all ranks.
    """

    def __init__(self, A, target, covariance, noise, *, n_neighbors, ordering, seed):
        self._A, self._target = A, target
        self.covariance, self.noise = covariance, noise
        self._n_neighbors, self._ordering, self._seed = n_neighbors, ordering, seed
        self.value, self.n_jitter, self.converged = -np.inf, 0, False
        self._n_orderings, self._n_columns = 0, len(A)
        self._ascent: Any = None
        self._order_points()

    def start(self, solver, reorder_tol):
        """Begin to maximize, with the first columns if there are many."""
        self._reorder_tol = reorder_tol
        self._solver = solver if self.covariance.has_information else "lbfgs"
        if len(self._A) >= 4 * _FIRST_COLUMNS and self._ordering in _SPREAD:
            self._n_columns = _FIRST_COLUMNS
        self._find_neighbors()
        self._ascend()

    def step(self, tol):
        """Take one step; at the top, go on with all columns, or in a new order if that helps."""
        rough = self._n_columns < len(self._A)
        self._ascent.step(max(tol, _ROUGH) if rough else tol)
        self._take(self._ascent.x)
        self.value = self._ascent.value
        if not self._ascent.converged:
            return
        reorder = self._is_out_of_order()
        if reorder:
            self._order_points()
        if rough or reorder:
            self._n_columns = len(self._A)
            self._find_neighbors()
            self._ascend()
        else:
            self.converged = True

    def finish(self):
        """Evaluate the likelihood of all columns, if that was not the last thing done."""
        if self._ascent is None or self._n_columns < len(self._A):
            self._n_columns = len(self._A)
            self._find_neighbors()
            self.value = self._sums(self.covariance, self.noise, 0)[0]

    def at_bounds(self):
        """Names of parameters at a bound."""
        bounds, names = self._bounds(), [*self.covariance.names, "noise_variance"]
        at = np.isclose(self._ascent.x[:, None], bounds, rtol=0, atol=1e-9).any(axis=1)
        return [name for name, is_at in zip(names, at, strict=True) if is_at]

    def _order_points(self):
        scaled = self.covariance.scale(self._A)
        rng = check_random_state(self._seed)
        self.order, self.lengths = order_points(scaled, self._ordering, rng)
        self._ordered_with = self._lengthscales()
        self._n_orderings += 1

    def _find_neighbors(self):
        xp = compute_namespace(self._A)
        rows = self.order[: self._n_columns]
        self._points = xp.ascontiguousarray(self._A[rows])
        self._values = xp.ascontiguousarray(self._target[rows])
        n_neighbors = min(self._n_neighbors, len(rows) - 1)
        self._pattern = nearest_predecessors(self.covariance.scale(self._points), n_neighbors)

    def _lengthscales(self):
        return self.covariance.proportions(self._A)

    def _is_out_of_order(self):
        """Whether the ratio of two lengthscales has changed much since points were ordered."""
        if self._ordering == "given" or self._n_orderings >= _MOST_ORDERINGS:
            return False
        ratios = self._lengthscales() / self._ordered_with
        return ratios.max() / ratios.min() - 1 > self._reorder_tol

    def _ascend(self):
        x = np.append(self.covariance.theta, np.log(self.noise))
        self._ascent = Ascent(self._evaluate, x, self._bounds(), self._solver)
        self.value = self._ascent.value

    def _bounds(self):
        scale = float(self._target.var()) or 1.0
        low, high = np.log(_NOISE_RANGE) + np.log(scale)
        return np.vstack([self.covariance.bounds, [low, high]])

    def _take(self, x):
        self.covariance = self.covariance.with_theta(x[:-1])
        self.noise = float(np.exp(x[-1]))

    def _evaluate(self, x):
        """Log likelihood, gradient and information at theta and the log noise."""
        covariance, n_free = self.covariance.with_theta(x[:-1]), len(x)
        value, gradient, information = self._sums(
            covariance, np.exp(x[-1]), covariance.n_lengthscales
        )
        if not covariance.has_information:  # columns in torch, whose gradient is by theta
            return value, gradient, eye_array(n_free)
        jacobian = np.zeros((len(gradient), n_free))
        jacobian[:-1, :-1], jacobian[-1, -1] = covariance.jacobian, 1.0
        return value, jacobian.T @ gradient, jacobian.T @ information @ jacobian

    def _sums(self, covariance, noise, n_lengthscales):
        terms, (indptr, indices) = covariance.terms(self._points), self._pattern
        value, gradient, information, self.n_jitter = response_sums(
            terms, noise, indptr, indices, self._values, self._n_columns, n_lengthscales
        )
        return value, gradient, information
