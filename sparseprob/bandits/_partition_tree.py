"""A box cut into cells, finer where a function may be large (after Rando et al., 2022)."""

import numpy as np

from .._covariance import _correlation
from ._box_points import grown


class PartitionTree:
    """Cells of a box; a cell is cut into equal parts across the side that is longest.

    Parameters
    ----------
    n_split : int
        Parts of a cell.
    number : int
        Of the point in the center of the box.
    widths : float64 array of shape (n_features,)
        Sides of the box.

    Attributes
    ----------
    numbers, parents, depths : int64 arrays of shape (n_cells,)
        Number of the point in the center; the cell it was cut from, -1 for the box; cuts so far.
    widths : float64 array of shape (n_cells, n_features)
    radii : float64 array of shape (n_cells,)
        How far the function may move between the center and a corner.
    is_leaf : bool array of shape (n_cells,)
        Whether it is to be considered: neither cut nor given up.
    """

    def __init__(self, n_split, number, widths, radius):
        self.n_split, self.n_cells = n_split, 0
        self._integers = np.zeros((3, 64), dtype=np.int64)
        self._radii, self._is_leaf = np.zeros(64), np.zeros(64, dtype=bool)
        self._widths = np.zeros((64, len(widths)))
        self._add([number], -1, 0, widths, radius)

    def _add(self, numbers, parent, depth, widths, radius):
        first, self.n_cells = self.n_cells, self.n_cells + len(numbers)
        cells = slice(first, self.n_cells)
        self._integers = grown(self._integers, self.n_cells, axis=1)
        self._radii = grown(self._radii, self.n_cells)
        self._is_leaf = grown(self._is_leaf, self.n_cells)
        self._widths = grown(self._widths, self.n_cells)
        self._integers[0, cells] = numbers
        self._integers[1, cells], self._integers[2, cells] = parent, depth
        self._radii[cells], self._widths[cells], self._is_leaf[cells] = radius, widths, True
        return np.arange(first, self.n_cells)

    @property
    def numbers(self):
        return self._integers[0, : self.n_cells]

    @property
    def parents(self):
        return self._integers[1, : self.n_cells]

    @property
    def depths(self):
        return self._integers[2, : self.n_cells]

    @property
    def widths(self):
        return self._widths[: self.n_cells]

    @property
    def radii(self):
        return self._radii[: self.n_cells]

    @property
    def is_leaf(self):
        return self._is_leaf[: self.n_cells]

    def cut(self, cell, points, lengths, radius_of):
        """Cut a cell across the side that is longest beside `lengths`; return the new cells.

        Parameters
        ----------
        cell : int
        points : BoxPoints
            New centers are added; the middle one of an odd number of parts is there already.
        lengths : float64 array of shape (n_features,)
        radius_of : callable
            From centers and sides of cells to radii.
        """
        widths, parts = self.widths[cell].copy(), self.n_split
        side = int(np.argmax(widths / lengths))
        widths[side] /= parts
        steps = np.arange(parts) - (parts - 1) / 2
        centers = np.repeat(points.X[self.numbers[cell]][None], parts, axis=0)
        centers[:, side] += steps * widths[side]
        numbers = np.full(parts, self.numbers[cell])
        numbers[steps != 0] = points.append(centers[steps != 0])
        radii = radius_of(centers, np.repeat(widths[None], parts, axis=0))
        self.is_leaf[cell] = False
        return self._add(numbers, cell, self.depths[cell] + 1, widths, radii)

    def indices(self, bounds, cells=slice(None)):
        """Return how large the function may be in cells, from upper bounds at all points.

        The bound at the center, or that at the center of the cell it was cut from with the radius
        of that, whichever is lower; and the radius on top.
        """
        parents = self.parents[cells]
        above = np.where(parents >= 0, bounds[self.numbers[parents]] + self.radii[parents], np.inf)
        return np.minimum(bounds[self.numbers[cells]], above) + self.radii[cells]


def kernel_radii(kernel, fnorm, centers, widths):
    """Return how far a function of some norm may move from the centers of cells to their corners.

    The distance of the two points in the metric of the kernel, times the norm. All corners are
    equally far for stationary kernels; of others, two opposite corners are looked at.

    Parameters
    ----------
    kernel : KernelFunction
    fnorm : float
    centers, widths : float64 arrays of shape (n, n_features)
    """
    if kernel.terms is not None:
        terms, squares = kernel.terms, np.zeros(len(widths))
        for kind, variance, shape, scales in zip(
            terms.kinds, terms.variances, terms.shapes, terms.lengthscales, strict=True
        ):
            r2 = ((0.5 * widths / scales) ** 2).sum(axis=1)
            squares += 2 * variance * (1 - _correlation(np, kind, shape, r2))
        return fnorm * np.sqrt(squares)
    distances = np.zeros(len(centers))
    for sign in (-0.5, 0.5):
        corners = centers + sign * widths
        both = [kernel(c[None], x[None])[0, 0] for c, x in zip(centers, corners, strict=True)]
        squares = kernel.diag(centers) + kernel.diag(corners) - 2 * np.array(both)
        distances = np.maximum(distances, np.sqrt(np.maximum(squares, 0.0)))
    return fnorm * distances
