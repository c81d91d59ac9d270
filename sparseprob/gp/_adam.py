"""Stochastic gradient ascent with a step of its own for every parameter (Kingma & Ba, 2015)."""

from .._arrays import compute_namespace

_DECAY, _SQUARE_DECAY, _TINY = 0.9, 0.999, 1e-8


class Adam:
    """Adam over named arrays, in units of their own.

    Parameters
    ----------
    units : dict of str to float or array
        The length of a step at learning rate 1, of every array that moves.
    """

    def __init__(self, units):
        self._units = units
        self._moments = {}
        self._n_steps = 0

    def step(self, arrays, gradients, learning_rate):
        """Move arrays up their gradients, in place."""
        self._n_steps += 1
        correction = (1 - _SQUARE_DECAY**self._n_steps) ** 0.5
        rate = learning_rate * correction / (1 - _DECAY**self._n_steps)
        for name, unit in self._units.items():
            A, gradient = arrays[name], gradients[name]
            xp = compute_namespace(A)
            if name not in self._moments:
                self._moments[name] = xp.zeros_like(A), xp.zeros_like(A)
            first, second = self._moments[name]
            first += (1 - _DECAY) * (gradient - first)
            second += (1 - _SQUARE_DECAY) * (gradient * gradient - second)
            A += rate * unit * first / (xp.sqrt(second) + correction * _TINY)
