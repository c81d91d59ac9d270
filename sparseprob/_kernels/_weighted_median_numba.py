"""Weighted medians: how far one column can lower the sum of absolute residuals, on the CPU.

The sum of |r_i - t a_i| is piecewise linear in t. Its slope at zero says on which side the minimum
lies, or that it is at zero; the knots of that side are searched by a selection with weights in the
manner of Hoare's FIND (Communications of the ACM 4:321-322, 1961), in linear expected time.
"""

import numpy as np
from numba import get_num_threads, njit, prange

_SMALL = 2**18  # entries of a matrix that one thread goes through in milliseconds
_options = {"cache": True, "error_model": "numpy"}
# Sums in any order, or they would not be vectorized; NaN and infinity keep their meaning.
_sums = {**_options, "fastmath": {"contract", "reassoc", "nsz"}}


def absolute_decreases(At, r, x, extra):
    """Return by how much moving each coefficient alone lowers a sum of absolute values.

    The largest decrease of ||r - t a_j||_1 + extra_j |x_j + t| over t, from t = 0.

    Parameters
    ----------
    At : float64 array of shape (N, M)
        Columns of A, one a row, C-contiguous.
    r : float64 array of shape (M,)
        Residual; interpolated rows are exactly zero.
    x, extra : float64 array of shape (N,)
        Coefficients, and what their moduli cost.

    Returns
    -------
    gains : float64 array of shape (N,)
        Not negative.
    steps : float64 array of shape (N,)
        The minimizers t nearest to zero.
    """
    gains, steps = np.empty(len(At)), np.empty(len(At))
    n_threads = get_num_threads() if At.size > _SMALL else 1
    arguments = At, r, np.sign(r), np.flatnonzero(r == 0), x, extra, gains, steps
    buffers = np.empty((n_threads, 2, len(r) + 1))
    if n_threads == 1:  # waking threads takes longer
        _decreases_of_thread(0, *arguments, buffers)
    else:
        _decreases(*arguments, buffers)
    return gains, steps


def weighted_median(values, weights):
    """Return the smallest value that, with all smaller ones, has half of the weight."""
    return _select(values.copy(), weights.copy(), len(values), weights.sum() / 2)


@njit(parallel=True, **_options)
def _decreases(At, r, signs, zeros, x, extra, gains, steps, buffers):
    for thread in prange(len(buffers)):
        _decreases_of_thread(thread, At, r, signs, zeros, x, extra, gains, steps, buffers)


@njit(**_options)
def _decreases_of_thread(thread, At, r, signs, zeros, x, extra, gains, steps, buffers):
    values, weights = buffers[thread, 0], buffers[thread, 1]
    for j in range(thread, len(At), len(buffers)):
        steps[j] = best_step(At[j], r, signs, zeros, x[j], extra[j], values, weights)
        gains[j] = 0.0
        if steps[j] != 0:
            penalty = extra[j] * (abs(x[j]) - abs(x[j] + steps[j]))
            gains[j] = max(_loss_decrease(At[j], r, steps[j]) + penalty, 0.0)


@njit(**_options)
def best_step(a, r, signs, zeros, x, extra, values, weights):
    """Minimize ||r - t a||_1 + extra |x + t| over t; zero if that cannot be bettered."""
    slope, flat = slopes(a, signs, zeros)
    if x == 0:
        flat += extra
    else:
        slope -= extra * np.sign(x)
    if not abs(slope) > flat:
        return 0.0
    side, n = np.sign(slope), 0
    for i in range(len(a)):
        weights[n] = abs(a[i])  # overwritten unless r_i / a_i is on this side: no branch to guess
        values[n] = abs(r[i]) / weights[n]
        n += (signs[i] * a[i] * side > 0) & (weights[n] > 0)
    if x * side < 0:
        values[n], weights[n] = abs(x), extra
        n += 1
    if n == 0:  # products that underflow
        return 0.0
    return side * _select(values, weights, n, 0.5 * (abs(slope) - flat))


@njit(**_sums)
def slopes(a, signs, zeros):
    """Return a' sign(r), and the sum of |a_i| where r_i is zero."""
    slope, flat = 0.0, 0.0
    for i in range(len(a)):
        slope += a[i] * signs[i]
    for i in zeros:
        flat += abs(a[i])
    return slope, flat


@njit(**_sums)
def _loss_decrease(a, r, t):
    decrease = 0.0
    for i in range(len(a)):
        decrease += abs(r[i]) - abs(r[i] - t * a[i])
    return decrease


@njit(**_options)
def _select(values, weights, n, need):
    """Return the smallest of n values that, with all smaller ones, has weight `need`.

    Values and weights are reordered.
    """
    first, last = 0, n - 1
    while first < last:
        pivot = _median_of_three(values[first], values[(first + last) // 2], values[last])
        below, equal = 0.0, 0.0
        low, i, high = first, first, last
        while i <= high:
            if values[i] < pivot:
                below += weights[i]
                values[i], values[low] = values[low], values[i]
                weights[i], weights[low] = weights[low], weights[i]
                low, i = low + 1, i + 1
            elif values[i] > pivot:
                values[i], values[high] = values[high], values[i]
                weights[i], weights[high] = weights[high], weights[i]
                high -= 1
            else:
                equal += weights[i]
                i += 1
        if below >= need and low > first:
            last = low - 1
        elif below + equal >= need or high == last:
            return pivot
        else:
            need -= below + equal
            first = high + 1
    return values[first]


@njit(**_options)
def _median_of_three(a, b, c):
    return max(min(a, b), min(max(a, b), c))
