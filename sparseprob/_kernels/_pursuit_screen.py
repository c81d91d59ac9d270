"""Correlations in single precision that say which columns may have the largest one.

The few that may are computed again in double precision, so that the choice is that of double
precision; half the memory is read. The bound on rounding errors is the usual one for sums: N. J.
Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1.
"""

import numpy as np
from numba import njit

_options = {"cache": True, "error_model": "numpy"}
_BLOCK = 512  # columns whose largest correlation is kept
_NEAR = 64  # columns that are looked at again; more are not worth it
_UNIT = 2.0**-24  # unit roundoff of single precision
_RANGE = 1e20  # of squared lengths that single precision holds with ease


@njit(**_options)
def new_screen(G, K):
    """Return memory for one right-hand side, in the precision of G of shape (N, N).

    Correlations b and b0 with the residual and the right-hand side, chosen rows of G, largest
    squared moduli of blocks, columns near the largest and their squared moduli.
    """
    N = len(G)
    b, b0, rows = np.empty(N, G.dtype), np.empty(N, G.dtype), np.empty((K, N), G.dtype)
    blocks = np.empty((N + _BLOCK - 1) // _BLOCK, dtype=b.real.dtype)
    return b, b0, rows, blocks, np.empty(_NEAR, np.int64), np.empty(_NEAR)


@njit(**_options)
def can_screen(G, square, prices):
    """Whether single precision may preselect: there is such a matrix, and equal prices."""
    return len(G) > 0 and len(prices) == 1 and 1 / _RANGE < square < _RANGE


@njit(**_options)
def screen(G, narrow_G, b0, largest, support, x, k, memory):
    """Find the columns that may have the largest correlation, and their squared moduli.

    Parameters
    ----------
    G : array of shape (N, N)
    narrow_G : array of shape (N, N)
        The same in single precision.
    b0 : array of shape (N,)
        Conjugates of the correlations with the right-hand side.
    largest : float
        Not less than any modulus of them.
    support : int64 array
        The k > 0 columns chosen, which do not count.
    x : array
        Their coefficients.
    k : int
    memory : tuple
        Of `new_screen`, with rows for all but the last column chosen.

    Returns
    -------
    n : int
        How many they are, at the beginning of the last two arrays of the memory; -1 if too many.
    """
    b, narrow_b0, rows, blocks, near, moduli = memory
    rows[k - 1] = narrow_G[support[k - 1]]
    u, scale = np.empty(k, dtype=b.dtype), 0.0
    for i in range(k):
        u[i] = np.conj(x[i])
        scale += abs(x[i])
    np.dot(u, rows[:k], b)
    for j in range(len(b)):
        b[j] = narrow_b0[j] - b[j]
    for i in range(k):
        b[support[i]] = 0
    for p in range(len(blocks)):
        blocks[p] = _largest_square(b[p * _BLOCK : (p + 1) * _BLOCK])
    # Four covers complex products; entries of G are at most one.
    error = 4 * (k + 6) * _UNIT * (largest + scale)
    n = _near_largest(b, blocks, np.sqrt(np.float64(blocks.max())) - 2 * error, near)
    for m in range(n):
        moduli[m] = _exact_square(G, b0, support, x, k, near[m])
    return n


@njit(**_options)
def _near_largest(b, blocks, floor, near):
    if floor <= 0:
        return -1
    floor = blocks.dtype.type(floor * floor * (1 - 1e-6))
    n = 0
    for p in range(len(blocks)):
        if blocks[p] < floor:
            continue
        for j in range(p * _BLOCK, min((p + 1) * _BLOCK, len(b))):
            if b[j].real * b[j].real + b[j].imag * b[j].imag >= floor:
                if n == len(near):
                    return -1
                near[n] = j
                n += 1
    return n


@njit(**_options)
def _exact_square(G, b0, support, x, k, j):
    value = x[0] * 0 + b0[j]  # in double precision whatever b0 is in
    for i in range(k):
        value -= np.conj(x[i]) * G[support[i], j]
    return value.real * value.real + value.imag * value.imag


@njit(fastmath={"nnan", "nsz", "contract"}, **_options)
def _largest_square(b):
    """Return the largest squared modulus; without NaN the order of comparisons is free."""
    largest = b[0].real * 0
    for j in range(len(b)):
        square = b[j].real * b[j].real + b[j].imag * b[j].imag
        largest = square if square > largest else largest
    return largest


@njit(fastmath={"nnan", "nsz"}, **_options)
def largest_sum(b):
    """Return the largest |real part| + |imaginary part|."""
    largest = abs(b[0].real) * 0
    for j in range(len(b)):
        size = abs(b[j].real) + abs(b[j].imag)
        largest = size if size > largest else largest
    return np.float64(largest)
