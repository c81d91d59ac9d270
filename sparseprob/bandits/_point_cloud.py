"""Points all over a box, and denser around the best points so far, drawn anew for each batch."""

import numpy as np

from ._setup import sobol_points

_CENTERS = 3  # best points around which others are drawn
_SPREADS = (0.001, 0.2)  # deviations of these, beside the sides of the box
_MOVED = 20  # coordinates that differ from those of the center, at most on average


def cloud(best, n, points, rng):
    """Draw n points, half of them all over the box and half around some points.

    The deviations of the latter are log-uniform between a thousandth and a fifth of the box, so
    that there are candidates at every distance from the center.

    Parameters
    ----------
    best : float64 array of shape (n_best, n_features)
        Evaluated points, the best first.
    n : int
    points : BoxPoints
        Knows the box.
    rng : numpy.random.Generator

    Returns
    -------
    drawn : float64 array of shape (n, n_features)
    """
    n_near = n // 2 if len(best) else 0
    d = points.n_features
    centers = best[:_CENTERS][np.arange(n_near) % max(1, min(_CENTERS, len(best)))]
    spread = np.exp(rng.uniform(*np.log(_SPREADS), size=(n_near, 1)))
    moves = spread * rng.normal(size=(n_near, d))
    if d > _MOVED:
        stay = rng.random((n_near, d)) > _MOVED / d
        stay[np.arange(n_near), rng.integers(d, size=n_near)] = False
        moves[stay] = 0.0
    near = centers + moves * (points.high - points.low)
    everywhere = points.in_box(sobol_points(n - n_near, d, rng))
    return np.vstack([everywhere, np.clip(near, points.low, points.high)])
