"""Rows that two sketches have in common, side by side."""

from typing import NamedTuple

import numpy as np
from scipy import sparse


class JoinedRows(NamedTuple):
    """Rows of two tables that have a key in common.

    Parameters
    ----------
    A : float64 ndarray of shape (n_common, n_occurring)
        Rows of the left table, without columns that are zero in all of them.
    columns : int64 ndarray of shape (n_occurring,)
        Which columns these are.
    Y : float64 ndarray of shape (n_common, n_targets)
        Rows of the right table.
    p : float64 ndarray of shape (n_common,)
        Probabilities that they are in both sketches.
    """

    A: np.ndarray
    columns: np.ndarray
    Y: np.ndarray
    p: np.ndarray


def joined_rows(left, right):
    """Return the rows that two sketches of single rows have in common.

    Parameters
    ----------
    left, right : SampledSketch

    Returns
    -------
    rows : JoinedRows
    """
    for sketch in (left, right):
        if sketch.summed_:
            raise ValueError(
                "Sketches with duplicates='sum' hold sums of rows, which are not right for "
                "regression; give each key a single row."
            )
    match = left.match(right)
    A, Y = on_host(left.rows_)[match.left], on_host(right.rows_)[match.right]
    columns = np.unique(A.indices)
    A = A[:, columns] if len(columns) < A.shape[1] else A
    A, Y = (M.toarray().astype(np.float64, copy=False) for M in (A, Y))
    return JoinedRows(A, columns, Y, match.probabilities)


def on_host(rows):
    """Return a CSR matrix of scipy or cupyx on the host."""
    return rows if sparse.issparse(rows) else sparse.csr_array(rows.get())
