"""Least absolute deviations by descent along edges, on the CPU.

A fit with k columns passes through k rows, its basis. Leaving one of them at a time, and going on
to the weighted median along the edge, lowers the loss until no edge does (I. Barrodale,
F. D. K. Roberts, SIAM Journal on Numerical Analysis 10:839-848, 1973).
"""

import numpy as np
from numba import njit

from ._weighted_median_numba import best_step, slopes

_options = {"cache": True, "error_model": "numpy"}
_TINY = 1e-11  # entries of the tableau below it are rounding errors


@njit(**_options)
def enter(T, k, basis, r, values, weights):
    """Pass through one more row by moving along ``T[k]``; return the row, -1 if there is none.

    Parameters
    ----------
    T : float64 array of shape (capacity, M)
        In row h < k, the change of the fit at all rows when its value at row ``basis[h]`` grows by
        one. Row k is a new column less its values at the basis, which the others take off.
    k : int
        Rows of the basis; the new one becomes ``basis[k]``.
    basis : int64 array of shape (capacity,)
    r : float64 array of shape (M,)
        Residual, changed in place; exactly zero at the basis.
    values, weights : float64 array of shape (M + 1,)
        Memory.
    """
    signs, zeros = np.sign(r), np.flatnonzero(r == 0)
    step = best_step(T[k], r, signs, zeros, 0.0, 0.0, values, weights)
    row = _row_at(T[k], r, step)
    if row < 0:  # the loss is flat up to the nearest knot
        row = _nearest_row(T[k], r)
        if row < 0:
            return row
        step = r[row] / T[k, row]
    _move(T[k], r, step)
    basis[k] = row
    _pivot(T, k + 1, basis, r, k)
    return row


@njit(**_options)
def descend(T, k, basis, r, max_pivots, values, weights):
    """Move to a vertex from which no edge lowers the sum of absolute residuals.

    Parameters
    ----------
    T, k, basis, r, values, weights : see `enter`
    max_pivots : int

    Returns
    -------
    n_pivots : int
    largest : float
        Largest modulus of the multipliers of the basis with subgradient zero at other rows of zero
        residual. At most one proves the minimum.
    """
    for n_pivots in range(max_pivots + 1):
        signs, zeros = np.sign(r), np.flatnonzero(r == 0)
        leaving, best, largest = -1, 1e-9, 0.0
        for h in range(k):
            slope, flat = slopes(T[h], signs, zeros)
            largest = max(largest, abs(slope))
            if abs(slope) - flat > best:
                leaving, best = h, abs(slope) - flat
        if leaving < 0 or n_pivots == max_pivots:
            break
        step = best_step(T[leaving], r, signs, zeros, 0.0, 0.0, values, weights)
        row = _row_at(T[leaving], r, step)
        if row < 0 or step == 0:
            break
        _move(T[leaving], r, step)
        r[basis[leaving]] = -step
        basis[leaving] = row
        _pivot(T, k, basis, r, leaving)
    return n_pivots, largest


@njit(**_options)
def _row_at(a, r, step):
    """Return the row whose residual vanishes after a step, the one with the largest |a_i|."""
    row, largest = -1, _TINY
    for i in range(len(a)):
        if abs(a[i]) > largest and abs(r[i] / a[i] - step) <= 1e-14 * abs(step):
            row, largest = i, abs(a[i])
    return row


@njit(**_options)
def _nearest_row(a, r):
    row = -1
    for i in range(len(a)):
        if abs(a[i]) > _TINY and (row < 0 or abs(r[i] / a[i]) < abs(r[row] / a[row])):
            row = i
    return row


@njit(**_options)
def _move(a, r, step):
    for i in range(len(r)):
        r[i] -= step * a[i]


@njit(**_options)
def _pivot(T, k, basis, r, h):
    """Make row h of the tableau one at its new row of the basis, the others zero."""
    row, pivot = basis[h], T[h, basis[h]]
    r[row] = 0.0
    for i in range(T.shape[1]):
        T[h, i] /= pivot
    T[h, row] = 1.0
    for g in range(k):
        factor = T[g, row]
        if g == h or factor == 0:
            continue
        for i in range(T.shape[1]):
            T[g, i] -= factor * T[h, i]
        T[g, row] = 0.0
    for g in range(k):
        if g != h:
            T[h, basis[g]] = 0.0
            r[basis[g]] = 0.0
