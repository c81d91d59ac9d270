"""What a search of states needs to know of a model: the energy of a state, and of its neighbours.

Each model has a problem: a named tuple of the arrays of a chunk. `energy_of` and `energies_around`
are compiled anew for each kind of problem. A state is a sorted list of units ``h * V + k``.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numba.extending import overload

from ._slab_support import added_gain, fill_support, new_support
from ._superpositions import energy_of_units

_options = {"cache": True, "error_model": "numpy"}


class LinearProblem(NamedTuple):
    """States of a linear model with discrete latents: energies in Gram form."""

    coupling: np.ndarray  # (H, H)
    values: np.ndarray  # (V,)


def energy_of(units, n, c, problem, p):
    """Energy of the state of n units at point p; `c` has the energies of its singletons."""
    raise NotImplementedError  # pragma: no cover - replaced by the overloads


def energies_around(units, n, c, problem, p, V, found):
    """Write into `found` (H, V + 1) the energies of the state with one latent changed.

    Column k + 1 has the latent at its k-th value, column 0 at zero.
    """
    raise NotImplementedError  # pragma: no cover - replaced by the overloads


def _is(problem, kind):
    return getattr(problem, "instance_class", None) is kind


# ---------------------------------------------------------------- linear models
@overload(energy_of)
def _linear_energy_of(units, n, c, problem, p):
    return _linear_energy if _is(problem, LinearProblem) else None


def _linear_energy(units, n, c, problem, p):
    values, V, total = problem.values, len(problem.values), 0.0
    for i in range(n):
        total += c[units[i]]
        for j in range(i):
            product = values[units[i] % V] * values[units[j] % V]
            total -= product * problem.coupling[units[i] // V, units[j] // V]
    return total


@overload(energies_around)
def _linear_energies_around(units, n, c, problem, p, V, found):
    return _linear_around if _is(problem, LinearProblem) else None


def _linear_around(units, n, c, problem, p, V, found):
    values, coupling, H = problem.values, problem.coupling, found.shape[0]
    base = energy_of(units, n, c, problem, p)
    field, holds = np.zeros(H), np.full(H, -1)
    for i in range(n):
        h, v = units[i] // V, values[units[i] % V]
        holds[h] = units[i] % V
        for g in range(H):
            field[g] += v * coupling[g, h]
    for h in range(H):
        old, around, without = holds[h], field[h], base
        if old >= 0:
            around -= values[old] * coupling[h, h]
            without -= c[h * V + old] - values[old] * around
        found[h, 0] = without
        for k in range(V):
            found[h, k + 1] = without + c[h * V + k] - values[k] * around


# ---------------------------------------------------------------- models with a maximum
class MaxProblem(NamedTuple):
    """Rows and causes that combine by a maximum; also what the kernels of these models take.

    Energies are relative to the null state, ``precision`` times the gain in half the squared
    distance plus ``bonus`` for each active cause.
    """

    data: np.ndarray  # (n, D), 0 where not observed
    half: np.ndarray  # (1, D) or (n, D): 0.5 where observed, 0 where not
    rows: np.ndarray  # (H, D), the causes; for a soft maximum powers with sign, float64
    reach: np.ndarray  # (H, D), for a soft maximum the powers over the causes
    scale: np.ndarray  # (D,), for a soft maximum the unit of the causes
    kind: int  # LARGEST, STRONGEST, SOFT
    exponent: float  # 1 / rho of a soft maximum
    precision: float
    bonus: float


@overload(energy_of)
def _max_energy_of(units, n, c, problem, p):
    return _max_energy if _is(problem, MaxProblem) else None


def _max_energy(units, n, c, problem, p):
    return c[units[0]] if n == 1 else energy_of_units(problem, units, n, p)


# ---------------------------------------------------------------- spike and slab
class SlabProblem(NamedTuple):
    """Spikes of a model whose slabs are integrated out; latents in units of their deviations."""

    projections: np.ndarray  # (H, n), float64
    coupling: np.ndarray  # (H, H)
    correlation: np.ndarray  # (H, H), of the slabs
    ratio: np.ndarray  # (H,), means of the slabs
    log_odds: np.ndarray  # (H,)


@overload(energy_of)
def _slab_energy_of(units, n, c, problem, p):
    return _slab_energy if _is(problem, SlabProblem) else None


def _slab_energy(units, n, c, problem, p):
    return c[units[0]] if n == 1 else fill_support(units, n, problem, p, new_support(n))


@overload(energies_around)
def _slab_energies_around(units, n, c, problem, p, V, found):
    return _slab_around if _is(problem, SlabProblem) else None


def _slab_around(units, n, c, problem, p, V, found):
    support, fewer = new_support(n + 1), np.empty(n + 1, np.int64)
    base = fill_support(units, n, problem, p, support)
    for h in range(found.shape[0]):
        found[h, 0] = base
        found[h, 1] = base + added_gain(units, n, h, problem, p, support)
    for i in range(n):
        h = units[i]
        m = changed_state(units, n, h, -1, V, fewer)
        found[h, 0], found[h, 1] = energy_of(fewer, m, c, problem, p), base


# ---------------------------------------------------------------- any other model
@overload(energies_around)
def _other_energies_around(units, n, c, problem, p, V, found):
    own = _is(problem, LinearProblem) or _is(problem, SlabProblem)
    return None if own else _other_around


def _other_around(units, n, c, problem, p, V, found):
    changed = np.empty(n + 1, np.int64)
    for h in range(found.shape[0]):
        for k in range(-1, V):
            m = changed_state(units, n, h, k, V, changed)
            found[h, k + 1] = energy_of(changed, m, c, problem, p)


@njit(**_options)
def changed_state(parent, n, h, k, V, child):
    """Copy a state with latent h at its k-th value (-1: zero); returns its length."""
    m = 0
    for i in range(n):
        if parent[i] // V != h:
            child[m] = parent[i]
            m += 1
    if k >= 0:
        insert_unit(child, m, h * V + k)
        m += 1
    return m


@njit(**_options)
def insert_unit(units, n, u):
    """Insert a unit into a sorted list of n."""
    i = n
    while i > 0 and units[i - 1] > u:
        units[i] = units[i - 1]
        i -= 1
    units[i] = u
