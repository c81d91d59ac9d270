"""Annealing schedules: how temperature, data cut and noise change over the iterations.

Deterministic annealing of truncated EM follows J. Lücke and J. Eggert (JMLR 11:2855-2900, 2010).
"""

from sklearn.base import BaseEstimator

_DEFAULTS = {"T": 1.0}


class LinearSchedule(BaseEstimator):
    """Piecewise linear annealing schedule.

    Parameters
    ----------
    points : dict, default=None
        Maps a quantity to its list of ``(position, value)`` points. A float position is a fraction
        of ``max_iter``, an int an iteration, a negative int counts from the end. Values are
        interpolated linearly and constant outside the points. Quantities: ``"T"`` (temperature, 1
        if absent), ``"data_cut"``, ``"anneal_prior"`` (non-zero: temper the prior too),
        ``"partial"`` (fraction of the rows used), ``"components_noise"``, ``"prior_noise"``,
        ``"noise_scale_noise"`` (standard deviation of Gaussian noise added to the parameter before
        the E-step). Absent ones are 0.

    Examples
    --------
    >>> from sparseprob.dictionary import LinearSchedule
    >>> schedule = LinearSchedule({"T": [(0, 5.0), (0.8, 1.0)]})
    >>> schedule.value("T", 40, 100)
    3.0
    """

    def __init__(self, points=None):
        self.points = points

    def value(self, name, iteration, max_iter):
        """Return the value of a quantity at an iteration.

        Parameters
        ----------
        name : str
            The quantity.
        iteration : int
            Number of the iteration, from 0.
        max_iter : int
            Number of iterations planned.

        Returns
        -------
        float
        """
        points = (self.points or {}).get(name)
        if not points:
            return _DEFAULTS.get(name, 0.0)
        points = sorted((_iteration_of(position, max_iter), float(v)) for position, v in points)
        before = [p for p in points if p[0] <= iteration]
        after = [p for p in points if p[0] > iteration]
        if not before or not after:
            return (before[-1] if before else after[0])[1]
        (x0, v0), (x1, v1) = before[-1], after[0]
        return v0 + (v1 - v0) * (iteration - x0) / (x1 - x0)

    def settled_at(self, max_iter):
        """Return the first iteration from which no quantity changes any more.

        Parameters
        ----------
        max_iter : int
            Number of iterations planned.

        Returns
        -------
        float
        """
        last = [_iteration_of(x, max_iter) for ps in (self.points or {}).values() for x, _ in ps]
        return max(last, default=0)


def _iteration_of(position, max_iter):
    if isinstance(position, float):
        return position * max_iter
    return position if position >= 0 else max_iter + position
