"""What all sketchers share: whole matrices, chunks, streams and ranks."""

from collections.abc import Callable
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils._param_validation import Interval

from .. import mpi
from .._arrays import row_chunks
from ._matrix_sketch import MatrixSketch, merge_all
from ._rows import check_matrix, is_streamed

_CHUNK = 1 << 16  # rows read at a time from files


class Sketcher(BaseEstimator):
    """Base of the sketchers; `_sketch_matrix(A, keys, first)` sketches rows in memory."""

    _sketch_matrix: Callable[..., MatrixSketch]  # `first` is the number of the first row

    _parameter_constraints: dict = {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "seed": [Interval(Integral, 0, None, closed="left")],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def sketch(self, A, keys=None):
        """Sketch a matrix.

        Parameters
        ----------
        A : {array, sparse matrix, data frame, row source} of shape (n_rows, n_features)
            Rows with keys; a vector counts as a single column.
        keys : array-like of shape (n_rows,), default=None
            Integers, strings or bytes, each once; None numbers the rows.

        Returns
        -------
        sketch : MatrixSketch
        """
        return self._sketch(A, keys)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, A, keys=None):
        """Add rows to the sketch.

        Parameters
        ----------
        A : {array, sparse matrix, data frame, row source} of shape (n_rows, n_features)
        keys : array-like of shape (n_rows,), default=None
            None goes on numbering the rows.

        Returns
        -------
        self : object
            ``sketch_`` is the sketch of all rows so far, the same bits as of all at once.
        """
        return self._add(A, keys)

    @_fit_context(prefer_skip_nested_validation=True)
    def sketch_batches(self, batches):
        """Sketch a stream of rows that never is in memory as a whole.

        Parameters
        ----------
        batches : iterable of (A, keys)
            Pieces of a matrix and their keys; keys may be None outside of ranks.

        Returns
        -------
        sketch : MatrixSketch
        """
        with mpi.errors_together():
            self._check_stream()
            sketch = self._sketch_stream(_with_keys(batches))
        return _over_ranks(sketch)

    def _add(self, A, keys, **options):
        self._check_stream()
        before = getattr(self, "sketch_", None)
        first = 0 if before is None else before.n_rows_
        added = self._sketch(A, keys, first=first, **options)
        self.sketch_ = added if before is None else before.merge(added)
        return self

    def _check_stream(self):
        """Refuse options that need all rows at once."""

    def _sketch(self, A, keys, *, first=0, **options):
        with mpi.errors_together():
            A = A if hasattr(A, "shape") else np.asarray(A)
            n_rows = A.shape[0] if A.shape else 0
        if keys is None:
            first += sum(mpi.all_gather(n_rows)[: mpi.rank()])
        with mpi.errors_together():
            if is_streamed(A):
                sketch = self._sketch_stream(_chunks(A, keys, **options), first)
            else:
                sketch = self._sketch_matrix(A, keys, first, **options)
        return _over_ranks(sketch)

    def _sketch_stream(self, batches, first=0):
        sketch = None
        for A, keys, *options in batches:
            added = self._sketch_matrix(A, keys, first, *options)
            first += added.n_rows_
            sketch = added if sketch is None else sketch.merge(added)
        if sketch is None:
            raise ValueError("There was no batch to sketch.")
        return sketch


def _with_keys(batches):
    for A, keys in batches:
        if keys is None and mpi.n_ranks() > 1:
            raise ValueError(
                "Batches need keys under distributed(): no rank knows how many rows the others see."
            )
        yield A, keys


def _chunks(A, keys, **options):
    check_matrix(A)
    if keys is not None and len(keys) != A.shape[0]:
        raise ValueError(
            f"There must be one key for each of the {A.shape[0]} rows, got {len(keys)} keys."
        )
    dtype = np.dtype(A.dtype)
    for start, chunk in row_chunks(A, _CHUNK, dtype):
        part = slice(start, start + len(chunk))
        yield (
            chunk,
            None if keys is None else keys[part],
            *(value if value is None else value[part] for value in options.values()),
        )


def _over_ranks(sketch):
    """Return the sketch of the rows of all ranks, on every rank."""
    if mpi.n_ranks() == 1:
        return sketch
    contents = mpi.all_gather(sketch.to_bytes())
    with mpi.errors_together():
        return merge_all(map(MatrixSketch.from_bytes, contents))._moved_like(sketch)
