"""Settings of an estimator as points: lists and distributions become coordinates in a cube."""

from itertools import product
from numbers import Real

import numpy as np
from scipy.stats import qmc

_APART = np.sqrt(0.5)  # of one-hot coordinates, so that two categories are one apart


class SearchSpace:
    """A finite set of settings and their coordinates.

    Parameters
    ----------
    spaces : dict or list of dict
        For each parameter a list of values or a distribution with a method ``ppf``.
    n_candidates : int
        Settings to draw when not all of them can be listed.
    rng : numpy.random.RandomState

    Attributes
    ----------
    settings : list of dict
        The candidates, none twice, in an order whose beginnings cover the space.
    points : ndarray of shape (n, n_features)
        Their coordinates: ranks of numbers, quantiles of distributions, indicators of categories.
        Parameters that a setting lacks stand in the middle.
    is_whole : bool
        Whether these are all settings there are.
    """

    def __init__(self, spaces, n_candidates, rng):
        spaces = [spaces] if isinstance(spaces, dict) else list(spaces)
        parts = [[_dimension(name, space[name]) for name in sorted(space)] for space in spaces]
        sizes = [np.prod([part.size for part in dims], dtype=float) for dims in parts]
        self.is_whole = sum(sizes) <= n_candidates
        share = -(-n_candidates // len(parts))
        blocks = [_every(dims) if self.is_whole else _spread(dims, share, rng) for dims in parts]
        self.settings, points = [], []
        widths = [sum(dim.width for dim in dims) for dims in parts]
        for number, (dims, quantiles) in enumerate(zip(parts, blocks, strict=True)):
            kind = _APART * (np.arange(len(parts)) == number)
            for row in quantiles:
                values, coordinates = _setting(dims, row)
                inner = [np.full(width, 0.5) for width in widths]
                inner[number] = coordinates
                self.settings.append(values)
                points.append(np.concatenate([*inner, kind[: len(parts) * (len(parts) > 1)]]))
        self._keep_distinct(np.array(points))
        if self.is_whole or len(parts) > 1:
            self._shuffle(rng)

    def _keep_distinct(self, points):
        seen: dict = {}
        for row, setting in enumerate(self.settings):
            seen.setdefault(repr(sorted(setting.items(), key=lambda item: item[0])), row)
        rows = sorted(seen.values())
        self.settings = [self.settings[row] for row in rows]
        self.points = points[rows]

    def _shuffle(self, rng):
        order = rng.permutation(len(self.settings))
        self.settings = [self.settings[row] for row in order]
        self.points = self.points[order]


def _dimension(name, values):
    if hasattr(values, "ppf"):
        return _Distribution(name, values)
    if isinstance(values, str) or not hasattr(values, "__len__") or not len(values):
        raise ValueError(
            f"Parameter {name!r} must have a non-empty list of values or a distribution with a "
            f"method ppf, got {values!r}."
        )
    values = list(values)
    numbers = all(isinstance(v, Real) and not isinstance(v, (bool, np.bool_)) for v in values)
    return _Numbers(name, sorted(values)) if numbers else _Categories(name, values)


class _Numbers:
    """A list of numbers: what counts is the order."""

    width = 1

    def __init__(self, name, values):
        self.name, self.values, self.size = name, values, len(values)

    def at(self, quantile):
        """Return the value at a quantile and its coordinates."""
        place = min(int(quantile * self.size), self.size - 1)
        return self.values[place], [place / max(self.size - 1, 1)]


class _Categories(_Numbers):
    """A list of anything: equal or not."""

    def __init__(self, name, values):
        super().__init__(name, values)
        self.width = self.size if self.size > 1 else 0

    def at(self, quantile):
        place = min(int(quantile * self.size), self.size - 1)
        return self.values[place], _APART * (np.arange(self.width) == place)


class _Distribution:
    """A distribution of scipy.stats: the coordinate is the quantile."""

    width = 1
    size = np.inf

    def __init__(self, name, distribution):
        self.name, self.distribution = name, distribution
        self.is_discrete = hasattr(distribution, "pmf") or hasattr(
            getattr(distribution, "dist", None), "pmf"
        )

    def at(self, quantile):
        value = self.distribution.ppf(quantile)
        if not self.is_discrete:
            return value, [quantile]
        ends = self.distribution.cdf(value - 1), self.distribution.cdf(value)
        return int(value), [float(np.mean(ends))]


def _every(dims):
    """Quantiles (n, n_dims) at which lists take all combinations."""
    middles = [(np.arange(dim.size) + 0.5) / dim.size for dim in dims]
    return np.array(list(product(*middles))).reshape(-1, len(dims))


def _spread(dims, n, rng):
    """Quantiles (n, n_dims) that cover the cube evenly."""
    if all(np.isfinite(dim.size) for dim in dims) and np.prod([d.size for d in dims]) <= n:
        return _every(dims)
    sobol = qmc.Sobol(max(len(dims), 1), rng=np.random.default_rng(rng.randint(2**31 - 1)))
    points = sobol.random(2 ** int(np.ceil(np.log2(n))))[:n]
    return np.clip(points[:, : len(dims)], 1e-9, 1 - 1e-9)


def _setting(dims, quantiles):
    found = [dim.at(q) for dim, q in zip(dims, quantiles, strict=True)]
    values = {dim.name: value for dim, (value, _) in zip(dims, found, strict=True)}
    coordinates = [np.asarray(c, dtype=float) for _, c in found]
    return values, np.concatenate(coordinates) if coordinates else np.empty(0)
