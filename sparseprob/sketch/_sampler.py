"""What the sketchers that sample rows share: weights, keys that occur twice."""

import numpy as np
from scipy import sparse
from sklearn.base import _fit_context
from sklearn.utils._param_validation import StrOptions

from .._arrays import is_array, like, to_compute, to_numpy
from ._keys import Keys, as_keys
from ._matrix_sketch import Settings
from ._rows import Rows, as_rows, row_lengths
from ._sampled_sketch import SampledSketch, sample_rows
from ._scan import scan
from ._sketcher import Sketcher

_SMALLEST = 2.0**-1022  # below, reciprocals overflow


class SamplingSketcher(Sketcher):
    """Base of the sketchers that sample rows by a rule, `_rule()`."""

    _method: str
    _parameter_constraints: dict = {
        **Sketcher._parameter_constraints,
        "weighting": [StrOptions({"l2", "l1", "l0", "uniform"})],
        "duplicates": [StrOptions({"error", "sum"})],
        "store_keys": ["boolean", StrOptions({"auto"})],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def sketch(self, A, keys=None, *, weights=None):
        """Sketch a matrix.

        Parameters
        ----------
        A : {array, sparse matrix, data frame, row source} of shape (n_rows, n_features)
            Rows with keys; a vector counts as a single column. A sparse matrix that is not CSR is
            converted, which takes a copy.
        keys : array-like of shape (n_rows,), default=None
            Integers, strings or bytes, each once; None numbers the rows.
        weights : array-like of shape (n_rows,), default=None
            Weights to sample by, in place of `weighting`; rows of weight zero are never sampled.

        Returns
        -------
        sketch : SampledSketch
            Under `distributed`, of the rows of all ranks.
        """
        return self._sketch(A, keys, weights=weights)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, A, keys=None, *, weights=None):
        """Add rows to the sketch.

        Parameters
        ----------
        A : {array, sparse matrix, data frame, row source} of shape (n_rows, n_features)
        keys : array-like of shape (n_rows,), default=None
            None goes on numbering the rows.
        weights : array-like of shape (n_rows,), default=None
            Weights to sample by, in place of `weighting`.

        Returns
        -------
        self : object
            ``sketch_`` is the sketch of all rows so far, the same bits as of all at once. A key of
            an earlier chunk is refused if both rows are sampled; otherwise it is not noticed.
        """
        return self._add(A, keys, weights=weights)

    def _check_stream(self):
        if self.duplicates == "sum":
            raise ValueError(
                "duplicates='sum' needs all rows at once: rows of one key may be in different "
                "chunks. Use sketch, or sum the rows first."
            )

    def _sketch_matrix(self, A, keys, first, weights=None):
        rows = as_rows(A)
        summing = self.duplicates == "sum" and keys is not None
        keys = as_keys(
            keys, rows.n_rows, seed=self.seed, first=first, gpu=rows.on_gpu, unique=not summing,
            lazy=True,
        )  # fmt: skip
        roots = None if weights is None else _roots(weights, rows.n_rows)
        if summing and rows.n_rows:
            if roots is not None:
                raise ValueError("duplicates='sum' makes new rows, which have no given weights.")
            rows, keys = _summed(rows, keys)
        weighting = self._weighting() if roots is None else "given"
        rule = self._rule()
        found, totals = scan(rows, keys, rule, weighting, roots)
        store_keys = (
            keys.kind in ("int64", "uint64") if self.store_keys == "auto" else (self.store_keys)
        )
        sample = sample_rows(rows, keys, found, totals, rule, store_keys=store_keys)
        settings = Settings(self._method, self.seed, weighting, keys.kind, self.n_samples)
        return SampledSketch(settings, sample, totals, rows.given, summing)

    def _weighting(self):
        return "uniform" if self.weighting == "l0" else self.weighting

    def _rule(self):
        """Return the rule that chooses rows."""
        raise NotImplementedError


def _roots(weights, n_rows):
    """Return square roots of weights, or refuse them."""
    weights = to_numpy(to_compute(weights)) if is_array(weights) else np.asarray(weights)
    weights = weights.astype(np.float64, copy=False)
    if weights.shape != (n_rows,):
        raise ValueError(
            f"There must be one weight for each of the {n_rows} rows, got shape {weights.shape}."
        )
    fine = (weights >= 0) & (weights < np.inf)
    if not fine.all():
        row = int(np.argmin(fine))
        raise ValueError(
            f"Weights must be finite and not negative, got {weights[row]} in row {row}."
        )
    roots = np.sqrt(weights)
    return np.where(roots < _SMALLEST, 0.0, roots)


def _summed(rows, keys):
    """Return the sums of rows of equal keys, and each key once."""
    row_lengths(rows)  # names a row that is not finite
    hashes = to_numpy(keys.hashes)
    _, firsts, places = np.unique(hashes, return_index=True, return_inverse=True)
    if len(firsts) == len(hashes):
        return rows, keys
    n = len(hashes)
    adding = sparse.csr_array((np.ones(n), (places, np.arange(n))), shape=(len(firsts), n))
    if rows.on_gpu:
        from cupyx.scipy.sparse import csr_matrix

        adding = csr_matrix(adding)
    once = Rows(adding.astype(rows.dtype) @ rows.A.astype(rows.dtype), rows.given)
    taken = keys.take(firsts)
    return once, Keys(keys.kind, taken.values, like(taken.hashes, keys.hashes))
