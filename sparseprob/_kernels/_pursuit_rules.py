"""Rules of selection of greedy pursuits, compiled: the column that lowers the loss most.

S. Mohammad-Taheri, S. Brugiapaglia, "The greedy side of the LASSO", 2023, arXiv:2303.00844. Codes:
0 largest correlation, 1 squared loss and l1, 2 squared and l0, 3 square root and l1, 4 square root
and l0. A price is alpha w (l1) or alpha w^2 (l0).
"""

import numpy as np
from numba import njit

_options = {"cache": True, "error_model": "numpy"}
_BLOCK = 512


@njit(**_options)
def added_decrease(code, c, rho, price):
    """Return by how much a column of correlation c outside the support lowers the objective."""
    if code == 1:
        return max(c - price / 2, 0.0) ** 2
    if code == 2:
        return max(c * c - price, 0.0)
    if code == 3:
        return _sqrt_l1(c, rho, price)
    if code == 4:
        below = np.sqrt(max((rho - c) * (rho + c), 0.0))
        return max(c * c / (rho + below) - price, 0.0) if rho > 0 else 0.0
    return c * c


@njit(**_options)
def _sqrt_l1(c, rho, price):
    # With price = cos a and c / rho = cos b it is rho (1 - cos(a - b)), written without canceling.
    if price >= 1 or rho <= 0:
        return 0.0
    below = np.sqrt(max((rho - c) * (rho + c), 0.0))
    sine = np.sqrt(1 - price * price)
    s = max(sine * c - price * below, 0.0) / rho
    return rho * s * s / (1 + (price * c + sine * below) / rho)


@njit(**_options)
def active_decrease(code, x, rho, price):
    """Return by how much moving a coefficient of modulus x lowers the objective."""
    if code == 1:
        v = min(x, price / 2)
        return price * v - v * v
    if code == 2:
        return max(price - x * x, 0.0) if x > 0 else 0.0
    if code == 3:
        v = x if price >= 1 else min(x, price * rho / np.sqrt(1 - price * price))
        return price * v - v * v / (rho + np.sqrt(rho * rho + v * v)) if v > 0 else 0.0
    if code == 4:
        return max(price - x * x / (rho + np.sqrt(rho * rho + x * x)), 0.0) if x > 0 else 0.0
    return 0.0


@njit(**_options)
def best_active(code, x, support, n, rho, prices):
    """Return the largest decrease that moving one of n coefficients brings."""
    best = 0.0
    if code == 0:
        return best
    for i in range(n):
        price = prices[support[i] if len(prices) > 1 else 0]
        best = max(best, active_decrease(code, abs(x[i]), rho, price))
    return best


@njit(**_options)
def best_added(code, squares, rho, prices):
    """Return the column of the largest decrease, and the decrease.

    Parameters
    ----------
    code : int
    squares : array of shape (N,)
        Squared moduli of the correlations; zero where a column must not be chosen.
    rho : float
    prices : float64 array of shape (N,), or of shape (1,) for equal prices

    Returns
    -------
    index : int
        The lowest of equal ones; -1 if nothing lowers the objective.
    gain : float
    """
    if code == 0 or len(prices) == 1:
        j = first_largest(squares)
        if squares[j] <= 0:
            return -1, 0.0
        gain = added_decrease(code, np.sqrt(np.float64(squares[j])), rho, prices[0])
        return (j, gain) if gain > 0 else (-1, 0.0)
    best, index = 0.0, -1
    for j in range(len(squares)):
        if squares[j] > 0:
            gain = added_decrease(code, np.sqrt(np.float64(squares[j])), rho, prices[j])
            if gain > best:
                best, index = gain, j
    return index, best


@njit(**_options)
def _block_largest(values, start, stop):
    """Return the largest of a block; four comparisons run side by side."""
    a = b = c = d = values[start]
    j = start
    while j + 4 <= stop:
        a = values[j] if values[j] > a else a
        b = values[j + 1] if values[j + 1] > b else b
        c = values[j + 2] if values[j + 2] > c else c
        d = values[j + 3] if values[j + 3] > d else d
        j += 4
    while j < stop:
        a = values[j] if values[j] > a else a
        j += 1
    return max(max(a, b), max(c, d))


@njit(**_options)
def first_largest(values):
    """Return the first index of the largest value; values are finite."""
    best, block = values[0], 0
    for start in range(0, len(values), _BLOCK):
        largest = _block_largest(values, start, min(start + _BLOCK, len(values)))
        if largest > best:
            best, block = largest, start
    for j in range(block, len(values)):
        if values[j] == best:
            return j
    return block
