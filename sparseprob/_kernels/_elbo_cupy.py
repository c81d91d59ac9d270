"""Bound of a sparse posterior, column by column, on a GPU; see the Numba twin.

Columns add to the gradients by V and by the mean in no fixed order: their last digits vary from run
to run. All else is repeatable.
"""

from functools import lru_cache

import cupy
import numpy as np

from . import _elbo_numba
from ._columns_cupy import Place
from ._elbo_cuda import bound_source, n_vectors


def marginal_columns(columns, anc_indptr, anc_indices, indptr, indices, V, n_buffers, out):
    """Write the posterior variance of every column; n_buffers does not matter. See the twin."""
    factor = (anc_indptr, anc_indices, indptr, indices, V)
    size = _longest(columns, anc_indptr)
    _launch("marginal_columns", factor, size, len(columns), (columns, np.int64(len(columns)), out))


def elbo_gradient_columns(
    columns, prior_indptr, prior_indices, U, anc_indptr, anc_indices, indptr, indices, V, delta,
    by_variance, terms, dU, dV, dnu,
):  # fmt: skip
    """Terms of the bound and its gradient, of which the first buffers take all; see the twin."""
    factor = (anc_indptr, anc_indices, indptr, indices, V)
    arguments = (
        columns, np.int64(len(columns)), prior_indptr, prior_indices, U, delta, by_variance, terms,
        dU, dV[0], dnu[0],
    )  # fmt: skip
    size = _longest(columns, anc_indptr)
    _launch("elbo_gradient_columns", factor, size, len(columns), arguments)


def projected_variances(
    neighbors, weights, anc_indptr, anc_indices, indptr, indices, V, n_buffers, out
):
    """Write ``|V^-1 b|^2`` for every query; n_buffers does not matter. See the twin."""
    q, m = neighbors.shape
    if not q:
        return
    whole = len(anc_indices) == 0
    if whole:
        size = int(neighbors.max()) + 1
    else:
        counts = anc_indptr[1:] - anc_indptr[:-1]
        size = 1 << int(counts[neighbors].sum(axis=1).max()).bit_length()  # sorted in place
    factor = (anc_indptr, anc_indices, indptr, indices, V)
    arguments = (neighbors, weights, np.int64(q), np.int32(m), out)
    _launch("projected_variances", factor, size, q, arguments, whole=whole)


def closure(indptr, indices, first, counts, out):
    """All ancestors of every column, found on the host; see the twin."""
    results = cupy.asnumpy(counts), cupy.asnumpy(out)
    _elbo_numba.closure(*map(cupy.asnumpy, (indptr, indices, first)), *results)
    counts[...], out[...] = map(cupy.asarray, results)


def _longest(columns, indptr):
    return int((indptr[columns + 1] - indptr[columns]).max()) if len(columns) else 0


def _launch(name, factor, size, n_warps, arguments, *, whole=False):
    """Run a kernel whose warps have up to `size` ancestors each."""
    if not n_warps:
        return
    place = Place(n_vectors(name) * size + (size + 1) // 2, n_warps)
    kernel = _kernel(name, whole, place.shared > 0, cupy.cuda.Device().id)
    place.run(kernel, (*factor, np.int32(size), place.scratch, *arguments))


@lru_cache(maxsize=16)
def _kernel(name, whole, in_shared, device):
    return cupy.RawKernel(bound_source(name, whole, in_shared), name, options=("-std=c++17",))
