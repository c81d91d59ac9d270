"""Sketches that are a random matrix times the matrix: sums of rows with random factors."""

import numpy as np

from .._arrays import compute_namespace, to_cupy, to_numpy
from ._matrix_sketch import MatrixSketch


class LinearSketch(MatrixSketch):
    """Sums of all rows with random factors that follow from the keys.

    Sketches of updates add up: a row may be given in pieces, in one sketch or in several. Sketchers
    make it; see `MatrixSketch` for what it can do.

    Parameters
    ----------
    settings : Settings
        What two sketches must agree in.
    table : array of shape (n_samples, n_features)
        The sums.
    n_rows : int
        Number of rows sketched.
    given : array, default=None
        The matrix, whose library answers follow; None for NumPy.

    Attributes
    ----------
    table_ : array of shape (n_samples, n_features)
        The sums; on the GPU if the matrix was there.
    """

    def __init__(self, settings, table, n_rows, given=None):
        super().__init__(settings, n_rows, table.shape[1], given)
        self.table_ = table

    @property
    def frobenius_norm_(self):
        """Frobenius norm of the matrix, estimated by that of the table."""
        table = self.table_.astype(np.float64, copy=False)
        return float(compute_namespace(table).linalg.norm(table))

    def _product(self, other):
        ours, theirs = self.table_, other.table_
        if compute_namespace(ours) is not compute_namespace(theirs):
            ours, theirs = to_cupy(ours), to_cupy(theirs)
        W = ours.T @ theirs
        squares = (self.frobenius_norm_ * other.frobenius_norm_) ** 2
        # E|W|^2 is the squared norm of the product plus the variance itself
        variance = (squares + float((W.astype(np.float64) ** 2).sum())) / (self.n_samples + 1)
        return W, float(np.sqrt(variance))

    @classmethod
    def _merge(cls, sketches):
        table = sum((sketch.table_ for sketch in sketches[1:]), sketches[0].table_)
        n_rows = sum(sketch.n_rows_ for sketch in sketches)
        return cls(sketches[0]._settings, table, n_rows, sketches[0]._given)

    def _contents(self):
        return {"n_rows": self.n_rows_}, {"table": to_numpy(self.table_)}

    @classmethod
    def _of_contents(cls, settings, numbers, arrays):
        return cls(settings, arrays["table"], numbers["n_rows"])

    def _moved_like(self, other):
        if compute_namespace(other.table_) is not np:
            self.table_ = to_cupy(self.table_)
        return super()._moved_like(other)
