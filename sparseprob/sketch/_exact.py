"""Sums of weights as integers, the same bits in any order; square roots of their ratios."""

import math

import numpy as np

from .._kernels._sketch_numba import UNIT

_BITS = 128  # of the integers whose square roots are taken


def total_of(sums):
    """Return the integer that low and high halves of mantissas by exponent add up to."""
    low, high = sums
    exponents = np.flatnonzero(low | high)
    return sum((int(low[e]) + (int(high[e]) << 26)) << int(e) for e in exponents)


def weights_as_integers(roots):
    """Return the weights of rows, squares of their roots, in units of 2^UNIT."""
    mantissas, exponents = _squares(roots, np)
    return [int(m) << int(e) for m, e in zip(mantissas.tolist(), exponents.tolist(), strict=True)]


def sum_of_squares(roots, xp):
    """Return the exact sum of squares of an array, NumPy or CuPy, by whole-array formulas."""
    roots = roots[roots > 0]
    if not roots.size:
        return 0
    mantissas, exponents = _squares(roots, xp)
    first = int(exponents.min())
    places = exponents - first
    # double precision holds sums of integers below 2^27 exactly up to 2^26 rows
    low, high = (
        xp.bincount(places, weights=half.astype(np.float64)).tolist()
        for half in (mantissas & ((1 << 26) - 1), mantissas >> 26)
    )
    return sum(
        (int(a) + (int(b) << 26)) << (first + e)
        for e, (a, b) in enumerate(zip(low, high, strict=True))
    )


def _squares(roots, xp):
    """Return mantissas and exponents, in units of 2^UNIT, of squares rounded to 53 bits."""
    fractions, exponents = xp.frexp(roots)
    squares, more = xp.frexp(fractions * fractions)
    mantissas = xp.ldexp(squares, 53).astype(np.int64)
    return mantissas, 2 * exponents.astype(np.int64) + more - 53 - UNIT


def root_of_ratio(numerator, denominator=1, *, exponent=0):
    """Return the square root of a ratio of integers times 2^exponent; 0 to infinity."""
    if not numerator:
        return 0.0
    shift = _BITS - numerator.bit_length() + denominator.bit_length()
    shift += (exponent - shift) % 2  # leaves an even power of two
    shifted = numerator << shift if shift >= 0 else numerator >> -shift
    root = math.isqrt(shifted // denominator)
    try:
        return math.ldexp(float(root), (exponent - shift) // 2)
    except OverflowError:
        return math.inf


def length_of(total):
    """Return the square root of an exact sum of squares."""
    return root_of_ratio(total, exponent=UNIT)


def root_of_share(share, total):
    """Return the square root of `share`, an integer, over an exact sum."""
    return root_of_ratio(share, total, exponent=-UNIT)
