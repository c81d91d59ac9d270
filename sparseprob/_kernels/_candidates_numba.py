"""Loops of sparse bandits over candidates: covariances with a dictionary, lazy exact maxima.

A sum of stationary terms is given by its kinds, variances and shapes, the inverse lengthscales
(T, d) and the scaled dictionary (T, d, m), feature by feature, so that inner loops run over it.
"""

import numpy as np
from numba import njit, prange

from ._covariance_lanes import _correlations

SPLIT = 2.0**22 + 1.0  # keeps 31 bits of a number (Veltkamp, 1968)
FLOOR = 1e-12  # of a leverage
_options = {"cache": True, "error_model": "numpy", "nogil": True}
_sums = _options | {"fastmath": {"reassoc", "contract", "nsz"}}  # in any order, as BLAS does


@njit(**_options)
def _covariance_row(x, kinds, variances, shapes, inverse, D, r2, phi, out):
    """Write the covariances of a point with the dictionary."""
    m = D.shape[2]
    for t in range(len(kinds)):
        r2[:] = 0.0
        for f in range(len(x)):
            own, column = x[f] * inverse[t, f], D[t, f]
            for j in range(m):
                gap = own - column[j]
                r2[j] += gap * gap
        if t == 0:
            _correlations(kinds[t], variances[t], shapes[t], r2, False, out, r2)
        else:
            _correlations(kinds[t], variances[t], shapes[t], r2, False, phi, r2)
            for j in range(m):
                out[j] += phi[j]


@njit(**_options)
def covariance_rows(X, kinds, variances, shapes, inverse, D, out):
    """Write the covariances of rows X (n, d) with the dictionary into out (n, m)."""
    r2, phi = np.empty(D.shape[2]), np.empty(D.shape[2])
    for i in range(len(X)):
        _covariance_row(X[i], kinds, variances, shapes, inverse, D, r2, phi, out[i])


@njit(**_sums)
def _dot(a, b, n):
    total = 0.0
    for j in range(n):
        total += a[j] * b[j]
    return total


@njit(**_options)
def covariance_times(X, kinds, variances, shapes, inverse, D, V, out):
    """Write the products of covariances of rows with the rows of V (k, m) into out (n, k)."""
    m = D.shape[2]
    r2, phi, row = np.empty(m), np.empty(m), np.empty(m)
    for i in range(len(X)):
        _covariance_row(X[i], kinds, variances, shapes, inverse, D, r2, phi, row)
        for k in range(len(V)):
            out[i, k] = _dot(row, V[k], m)


@njit(**_sums)
def _two_sums(w, ratios, m):
    """Sums of the squares of w, weighted by ratios and not."""
    weighted, plain = 0.0, 0.0
    for j in range(m):
        square = w[j] * w[j]
        weighted += ratios[j] * square
        plain += square
    return weighted, plain


@njit(**_options)
def leverages(W, ratios, prior, out):
    """Write leverages of rows W (n, m): what the prior has beyond the embedding, and w'w."""
    for i in range(len(W)):
        weighted, plain = _two_sums(W[i], ratios, W.shape[1])
        out[i] = max(max(prior[i] - weighted, 0.0) + plain, FLOOR)


@njit(**_options)
def _rounded(x):
    """31 bits of x: what differs by rounding alone, such as repeated candidates, compares equal."""
    c = x * SPLIT
    return c - (c - x)


@njit(**_options)
def upper_bounds(mean, leverage, beta, out):
    """Write the bounds that candidates are compared by."""
    for i in range(len(mean)):
        out[i] = _rounded(mean[i] + beta * np.sqrt(leverage[i]))


@njit(**_options)
def top(values):
    """Return the row of the largest value, the first of them."""
    best = 0
    for i in range(1, len(values)):
        if values[i] > values[best]:
            best = i
    return best


@njit(**_options)
def stale_above(bounds, applied, n_chain, value, rows):
    """Write the rows that may exceed `value` but miss members of the chain; return how many."""
    n = 0
    for i in range(len(bounds)):
        if bounds[i] >= value and applied[i] < n_chain:
            rows[n] = i
            n += 1
    return n


@njit(**_options)
def _refreshed(w, m, chain, first, last, inverse, origin, leverage):
    """Leverage of a row w after members first..last of the chain, or from the inverse at once."""
    if last - first > m:
        total = origin
        for a in range(m):
            total += w[a] * (_dot(inverse[a], w, m) - w[a])
    else:
        total = leverage
        for k in range(first, last):
            t = _dot(chain[k], w, m)
            total -= t * t
    return max(total, FLOOR)


@njit(**_options)
def refresh(rows, slots, W, chain, n_chain, inverse, origin, mean, beta, applied, leverage, bounds):
    """Bring leverages and bounds of rows up to date; W[slots] are their embeddings.

    Members of the chain are vectors u: each takes (w'u)^2 off a leverage. `inverse` (m, m) takes
    all of them off at once, from the leverage before the first, `origin`.
    """
    for k in range(len(rows)):
        i = rows[k]
        leverage[i] = _refreshed(
            W[slots[k]], len(inverse), chain, applied[i], n_chain, inverse, origin[i], leverage[i]
        )
        applied[i] = n_chain
        bounds[i] = _rounded(mean[i] + beta * np.sqrt(leverage[i]))


@njit(cache=True, error_model="numpy", parallel=True)
def refresh_together(
    rows, slots, W, chain, n_chain, inverse, origin, mean, beta, applied, leverage, bounds
):
    """Do the same on all threads, for many rows."""
    for k in prange(len(rows)):
        i = rows[k]
        leverage[i] = _refreshed(
            W[slots[k]], len(inverse), chain, applied[i], n_chain, inverse, origin[i], leverage[i]
        )
        applied[i] = n_chain
        bounds[i] = _rounded(mean[i] + beta * np.sqrt(leverage[i]))
