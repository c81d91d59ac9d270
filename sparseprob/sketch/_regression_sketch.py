"""Samples for regression: by squared lengths of rows, but none rarer than the average row."""

import numpy as np
from scipy import sparse

from .. import mpi
from ._exact import length_of, sum_of_squares
from ._joined_rows import on_host
from ._priority import PrioritySketcher
from ._rows import as_rows, row_lengths
from ._sampled_sketch import SampledSketch
from ._sketcher import _over_ranks, _with_keys


def regression_sketch(A, keys, n_samples, seed):
    """Return the sketch of a table, or a target, that is to be joined.

    The weight of a row is its squared length over the mean of them, but at least one: rows of
    zeros are sampled too, and small ones not so rarely that each stands for very many.

    Parameters
    ----------
    A : {array, sparse matrix, data frame, row source} of shape (n_rows, n_features) or (n_rows,)
    keys : array of shape (n_rows,), default=None
    n_samples, seed : int

    Returns
    -------
    sketch : SampledSketch
    """
    sketcher = PrioritySketcher(n_samples + 1, seed=seed, store_keys=True)
    A = A if hasattr(A, "shape") else np.asarray(A)
    by_length = sketcher.sketch(A, keys)
    evenly = sketcher.sketch(A, keys, weights=np.ones(A.shape[:1]))
    return _raised(by_length, evenly, n_samples, seed)


def regression_sketch_of_batches(batches, n_samples, seed):
    """Return the sketch of a stream of pieces of a table and their keys, in one pass."""
    by_length, evenly = (
        PrioritySketcher(n_samples + 1, seed=seed, store_keys=True) for _ in range(2)
    )
    with mpi.errors_together():
        with mpi.each_rank_alone():
            for A, keys in _with_keys(batches):
                by_length.partial_fit(A, keys)
                evenly.partial_fit(A, keys, weights=np.ones(len(A)))
        if not hasattr(evenly, "sketch_"):
            raise ValueError("There was no batch to sketch.")
    return _raised(_over_ranks(by_length.sketch_), _over_ranks(evenly.sketch_), n_samples, seed)


def _raised(by_length, evenly, n_samples, seed):
    """Return the sketch by the larger of both weights, whose rows are in one of two sketches.

    The smaller of two ranks is among the smallest only if it is so in its own list: of lists of
    one row more, nothing is missing.
    """
    totals, both = evenly._totals, (by_length, evenly)
    _, first = np.unique(np.concatenate([s.hashes for s in both]), return_index=True)
    keys = np.concatenate([s.keys_ for s in both])[first]
    rows = sparse.vstack([on_host(s.rows_) for s in both], format="csr")[first]
    mean = length_of(totals.squares) / np.sqrt(max(1, totals.n_rows))
    lengths = row_lengths(as_rows(rows))
    weights = np.maximum((lengths / mean) ** 2, 1.0) if mean else np.ones(len(keys))
    with mpi.each_rank_alone():
        sketch = PrioritySketcher(n_samples, seed=seed).sketch(rows, keys, weights=weights)
    sample = sketch._sample
    # the sum of all weights, estimated from the sample
    weight = sum_of_squares(np.maximum(sample.roots, 1 / sample.root_tau), np)
    totals = totals._replace(weights=weight)
    return SampledSketch(sketch._settings, sample, totals)._moved_like(evenly)
