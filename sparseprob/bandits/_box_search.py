"""How the points of a box are looked for that have the largest upper bounds: in cells or a cloud.

A search adds points to those of the policy and returns the number of one; it holds nothing of the
policy.
"""

import warnings
from typing import Any

import numpy as np

from ._batch import BanditWarning
from ._partition_tree import PartitionTree, kernel_radii
from ._point_cloud import cloud
from ._setup import sobol_points

_CUTS = 10  # of each side, at most


class TreeSearch:
    """Cells of a tree, which is cut where the variance at a center is small for the cell's size."""

    def __init__(self, policy):
        points = policy._candidates
        center = points.append(points.in_box(np.full((1, points.n_features), 0.5)))[0]
        sides = (points.high - points.low)[None]
        radius = kernel_radii(policy._kernel, policy.fnorm, points.X[:1], sides)[0]
        self.tree = PartitionTree(policy.n_split, center, sides[0], radius)
        self._kernel = policy._kernel
        self._values: np.ndarray | None = None  # indices of all cells
        self._is_warned = False

    def initial(self, policy, n):
        """Return the numbers of n points: the center of the box, and others anywhere."""
        return [0, *_anywhere(policy, n - 1).tolist()]

    def renew(self, policy):
        """Go on with new means and widths: give up cells that cannot hold the optimum."""
        tree, points, kernel = self.tree, policy._candidates, policy._kernel
        self._values = None
        if kernel is not self._kernel:
            centers = points.X[tree.numbers]
            tree.radii[:] = kernel_radii(kernel, policy.fnorm, centers, tree.widths)
            self._kernel = kernel
        policy._posterior.score(points.X)
        if policy.optimizer is None:
            self._give_up(policy)

    def _give_up(self, policy):
        posterior, evaluated = policy._posterior, policy._ledger.indices
        spread = policy._beta * np.sqrt(posterior.leverage[evaluated])
        lower = posterior.mean[evaluated] - spread
        best = evaluated[np.argmax(lower)]
        leaves = np.flatnonzero(self.tree.is_leaf)
        hopeless = self.tree.indices(policy._upper_bounds(), leaves) < lower.max()
        hopeless &= self.tree.numbers[leaves] != best
        self.tree.is_leaf[leaves[hopeless]] = False

    def picked(self):
        """Notice that leverages changed."""
        self._values = None

    def select(self, policy):
        """Return the center of the cell of the largest index; cut cells on the way."""
        tree, posterior, points = self.tree, policy._posterior, policy._candidates
        deepest = policy.max_depth
        if deepest is None:
            deepest = _CUTS * points.n_features
        if self._values is None:
            self._values = np.where(tree.is_leaf, tree.indices(policy._upper_bounds()), -np.inf)
        values = self._values
        while True:
            cell = int(np.argmax(values))
            number = int(tree.numbers[cell])
            spread = policy._beta * np.sqrt(posterior.leverage[number])
            if spread > tree.radii[cell] or tree.depths[cell] >= deepest or self._is_full(policy):
                self._values = values
                return number
            values = np.append(values, self._cut(cell, policy))
            values[cell] = -np.inf

    def _cut(self, cell, policy):
        """Cut a cell and return the indices of its parts."""
        tree, posterior, points = self.tree, policy._posterior, policy._candidates
        first = points.total
        new = tree.cut(cell, points, _lengths(policy), _radii_of(policy))
        posterior.score(points.X, first)
        return tree.indices(policy._upper_bounds(), new)

    def _is_full(self, policy):
        if self.tree.n_cells < policy.max_cells:
            return False
        if not self._is_warned:
            self._is_warned = True
            warnings.warn(
                f"The box has been cut into max_cells={policy.max_cells} cells and is not cut any "
                "further; lower fnorm or beta_scale, or use discretization='cloud'.",
                BanditWarning,
                stacklevel=2,
            )
        return True


class CloudSearch:
    """A number of points that move for every batch, some all over the box, some near the best."""

    def __init__(self, policy):
        points = policy._candidates
        unit = sobol_points(policy._n_candidates, points.n_features, policy._rng)
        points.append(points.in_box(unit))

    def initial(self, policy, n):
        """Return the numbers of n points anywhere."""
        if policy.initial == "sobol":
            return list(range(min(n, policy._n_candidates)))
        return _anywhere(policy, n).tolist()

    def renew(self, policy):
        """Move all points that have not been asked for."""
        points, posterior, ledger = policy._candidates, policy._posterior, policy._ledger
        free = np.ones(points.total, dtype=bool)
        free[ledger.log["index"]] = False
        free = np.flatnonzero(free)
        best = np.argsort(-posterior.at(ledger.points)[0], kind="stable")
        drawn = cloud(ledger.points[best], policy._n_candidates, points, policy._rng)
        points.replace(free[: len(drawn)], drawn[: len(free)])
        points.append(drawn[len(free) :])
        posterior.score(points.X)

    def picked(self):
        """Notice that leverages changed."""

    def select(self, policy):
        """Return the point of the largest upper bound."""
        return int(np.argmax(policy._upper_bounds()))


SEARCHES: dict[str, Any] = {"tree": TreeSearch, "cloud": CloudSearch}


def _anywhere(policy, n):
    points, rng = policy._candidates, policy._rng
    if n == 0:
        return np.arange(0)
    d = points.n_features
    unit = sobol_points(n, d, rng) if policy.initial == "sobol" else rng.random((n, d))
    return points.append(points.in_box(unit))


def _lengths(policy):
    """What sides of cells are compared by: the length-scales of the kernel where it has them."""
    terms, points = policy._kernel.terms, policy._candidates
    if terms is None:
        return points.high - points.low
    return np.broadcast_to(terms.proportions(points.X[:1]), points.n_features)


def _radii_of(policy):
    def radii(centers, widths):
        return kernel_radii(policy._kernel, policy.fnorm, centers, widths)

    return radii
