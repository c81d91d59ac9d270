"""Maximization of a log likelihood in a box: Fisher scoring, or a quasi-Newton method."""

import numpy as np

_LONGEST = 2.0  # change of a log parameter in one step
_MOST_HALVINGS = 12
_ENOUGH = 1e-4  # of the gain that the slope promises
_FLAT = 1e-12  # a parameter that tells this little, next to the others, stays
_LEAST = 100.0  # value that a tolerance is a share of
_MEMORY = 10


class Ascent:
    """Steps that never lower a value; parameters stay within bounds.

    Parameters
    ----------
    evaluate : callable
        Returns value, gradient and Fisher information at x; raises LinAlgError where there is none.
    x : ndarray of shape (P,)
    bounds : ndarray of shape (P, 2)
    solver : {"fisher", "lbfgs"}
    """

    def __init__(self, evaluate, x, bounds, solver="fisher"):
        self._evaluate, self._bounds = evaluate, bounds
        self._direction = _DIRECTIONS[solver]()
        self.x = np.clip(x, bounds[:, 0], bounds[:, 1])
        self.value, self.gradient, self._information = evaluate(self.x)
        self.converged = False

    def step(self, tol):
        """Take a step; the last one promises a gain of less than `tol` times the value."""
        free = self._free()
        direction = self._direction(self.gradient, self._information, free)
        promised = 0.5 * float(self.gradient @ direction)
        self.converged = promised <= tol * max(_LEAST, abs(self.value))
        direction = self._direction.limited(direction)
        if not self._moved(direction):
            self.converged = True  # to rounding

    def _free(self):
        """Parameters that matter and are not held at a bound."""
        diagonal = self._information.diagonal()
        free = diagonal > _FLAT * diagonal.max(initial=0.0)
        for bound, sign in ((self._bounds[:, 0], -1.0), (self._bounds[:, 1], 1.0)):
            free &= ~((self.x == bound) & (sign * self.gradient > 0))
        return free

    def _moved(self, direction):
        """Go along the direction, or a part of it; false if no part of it helps."""
        for _ in range(_MOST_HALVINGS):
            x = np.clip(self.x + direction, self._bounds[:, 0], self._bounds[:, 1])
            slope = float(self.gradient @ (x - self.x))
            try:
                value, gradient, information = self._evaluate(x)
            except np.linalg.LinAlgError:
                value = -np.inf
            if np.isfinite(value) and value >= self.value + _ENOUGH * slope:
                self._direction.learn(x - self.x, self.gradient - gradient)
                self.x, self.value = x, value
                self.gradient, self._information = gradient, information
                return True
            direction = 0.5 * direction
        return False


class _QuasiNewton:
    """Directions of L-BFGS (two-loop recursion)."""

    def __init__(self):
        self._pairs = []

    def __call__(self, gradient, information, free):
        """Return an uphill direction, zero for parameters that are not free."""
        uphill = gradient * free
        direction = self._two_loops(uphill, information, free) * free
        if direction @ uphill > 0:
            return direction
        self._pairs = []  # bounds have spoiled them
        return self._first(uphill, information, free) * free

    def limited(self, direction):
        """Shorten a long direction."""
        return direction * min(1.0, _LONGEST / max(np.abs(direction).max(initial=0.0), 1e-300))

    def learn(self, change, fall):
        """Remember how the gradient fell along a change, if it fell."""
        if change @ fall > 1e-10 * np.sqrt((change @ change) * (fall @ fall)):
            self._pairs = [*self._pairs, (change, fall)][-_MEMORY:]

    def _two_loops(self, g, information, free):
        weights = []
        for change, fall in reversed(self._pairs):
            weight = (change @ g) / (change @ fall)
            g = g - weight * fall
            weights.append(weight)
        g = self._first(g, information, free)
        for (change, fall), weight in zip(self._pairs, reversed(weights), strict=True):
            g = g + (weight - (fall @ g) / (change @ fall)) * change
        return g

    def _first(self, g, information, free):
        """Apply the inverse Hessian that is known without the pairs."""
        if not self._pairs:
            return g / max(np.abs(g).max(), 1.0)
        change, fall = self._pairs[-1]
        return g * ((change @ fall) / (fall @ fall))


class _Scoring(_QuasiNewton):
    """Fisher scoring, whose information is corrected by the last steps.

    The information is not the Hessian, so that scoring alone ends slowly where data are few.
    """

    def limited(self, direction):
        """Shorten what is long: lengthscales that go to infinity must not hold up the others."""
        return np.clip(direction, -_LONGEST, _LONGEST)

    def _first(self, g, information, free):
        kept = information[np.ix_(free, free)]
        kept = kept + 1e-10 * np.diag(kept.diagonal())
        first = np.zeros_like(g)
        first[free] = np.linalg.solve(kept, g[free])
        return first


_DIRECTIONS = {"fisher": _Scoring, "lbfgs": _QuasiNewton}
