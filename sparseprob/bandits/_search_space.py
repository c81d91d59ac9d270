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
            columns = [dim.at(q) for dim, q in zip(dims, quantiles.T, strict=True)]
            names = [dim.name for dim in dims]
            values = zip(*(column for column, _ in columns), strict=True) if names else [()]
            self.settings += [dict(zip(names, row, strict=True)) for row in values]
            inner = [np.full((len(quantiles), width), 0.5) for width in widths]
            inner[number] = np.hstack([np.empty((len(quantiles), 0)), *(c for _, c in columns)])
            kind = np.tile(_APART * (np.arange(len(parts)) == number), (len(quantiles), 1))
            points.append(np.hstack([*inner, kind[:, : len(parts) * (len(parts) > 1)]]))
        self._keep_distinct(np.concatenate(points))
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

    def at(self, quantiles):
        """Return the values at quantiles, a list, and their coordinates (n, width)."""
        places = self._places(quantiles)
        return [self.values[place] for place in places], places[:, None] / max(self.size - 1, 1)

    def _places(self, quantiles):
        return np.minimum((quantiles * self.size).astype(np.int64), self.size - 1)


class _Categories(_Numbers):
    """A list of anything: equal or not."""

    def __init__(self, name, values):
        super().__init__(name, values)
        self.width = self.size if self.size > 1 else 0

    def at(self, quantiles):
        places = self._places(quantiles)
        return [self.values[p] for p in places], _APART * (places[:, None] == np.arange(self.width))


class _Distribution:
    """A distribution of scipy.stats: the coordinate is the quantile."""

    width = 1
    size = np.inf

    def __init__(self, name, distribution):
        self.name, self.distribution = name, distribution
        self.is_discrete = hasattr(distribution, "pmf") or hasattr(
            getattr(distribution, "dist", None), "pmf"
        )

    def at(self, quantiles):
        values = self.distribution.ppf(quantiles)
        if not self.is_discrete:
            return list(values), quantiles[:, None]
        ends = self.distribution.cdf(values - 1) + self.distribution.cdf(values)
        return values.astype(np.int64).tolist(), 0.5 * ends[:, None]


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
