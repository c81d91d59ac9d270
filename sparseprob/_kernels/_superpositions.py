"""Superpositions of causes by a maximum, or by the root of a sum of powers, feature by feature.

The functions take a `MaxProblem` for its `kind` and arrays; loops over features become vector
instructions.
"""

import numpy as np
from numba import njit

from ._fast_root import root

LARGEST, STRONGEST, SOFT = 0, 1, 2  # what becomes of causes that meet
_options = {"cache": True, "fastmath": {"contract"}, "error_model": "numpy"}
# Sums over features in any order, or they would not be vectorized; the rows are finite numbers.
_sums = {**_options, "fastmath": {"contract", "reassoc", "nnan", "nsz"}}


@njit(**_options)
def superpose(problem, above, row, here):
    """Add a cause, with its row of `problem.rows`, to the superposition of others."""
    if problem.kind == LARGEST:
        for d in range(len(here)):
            here[d] = above[d] if above[d] > row[d] else row[d]
    elif problem.kind == STRONGEST:
        for d in range(len(here)):  # in any order of causes; of w and -w, the positive one
            high = above[d] if above[d] > row[d] else row[d]
            low = row[d] if above[d] > row[d] else above[d]
            here[d] = high if high >= -low else low
    else:
        for d in range(len(here)):
            here[d] = above[d] + row[d]


@njit(**_options)
def noise_free(problem, here, bar):
    """Return the noise-free row of a superposition: itself, or the root of a sum of powers."""
    if problem.kind != SOFT:
        return here
    for d in range(len(here)):
        x = problem.scale[d] * root(abs(here[d]), problem.exponent)
        bar[d] = x if here[d] >= 0 else -x
    return bar


@njit(**_sums)
def fit_of(bar, y, half):
    """Half of |y|^2 - |y - bar|^2; `half` is 0.5 where y was observed and 0 elsewhere."""
    total = bar.dtype.type(0)
    for d in range(len(bar)):
        total += bar[d] * (y[d] - half[d] * bar[d])
    return total


@njit(**_sums)
def largest_and_fit(above, row, y, half, here):
    """As `superpose` and `fit_of`, in one pass."""
    total = here.dtype.type(0)
    for d in range(len(here)):
        x = above[d] if above[d] > row[d] else row[d]
        here[d] = x
        total += x * (y[d] - half[d] * x)
    return total


@njit(**_options)
def energy_of_units(problem, units, n, p):
    """Energy of the state of n units (V = 1) at point p."""
    if n == 0:
        return 0.0
    rows, half = problem.rows, problem.half[p if len(problem.half) > 1 else 0]
    here, bar = np.empty(rows.shape[1], rows.dtype), np.empty(rows.shape[1], rows.dtype)
    here[:] = rows[units[0]]
    for i in range(1, n):
        superpose(problem, here, rows[units[i]], here)
    fit = fit_of(noise_free(problem, here, bar), problem.data[p], half)
    return problem.precision * np.float64(fit) + n * problem.bonus


@njit(**_options)
def add_multiple(q, row, total):
    for d in range(len(row)):
        total[d] += q * row[d]


@njit(**_options)
def ratio_of(noiseless, here, ratio):
    """|noise-free row| over |sum of powers|, which may be the same array as the first."""
    for d in range(len(here)):
        ratio[d] = abs(noiseless[d]) / max(abs(here[d]), 1e-307)


@njit(**_options)
def add_share(problem, q, h, bar, total):
    """Add q A_h, the share of cause h; for soft superpositions `bar` holds ratios."""
    if problem.kind == SOFT:
        reach = problem.reach[h]
        for d in range(len(bar)):
            a = reach[d] * bar[d]
            total[d] += q * (a if a < 1.0 else 1.0)
    else:
        row, zero = problem.rows[h], q - q
        for d in range(len(bar)):
            total[d] += q if abs(row[d]) >= abs(bar[d]) else zero
