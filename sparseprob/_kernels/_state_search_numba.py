"""Learned sets of states, one set per point (J. Drefs, E. Guiraud, J. Lücke, JMLR 23(21), 2022).

A state is a sorted list of units ``h * V + k``: latent h takes its k-th non-zero value. Proposals
are compared with the states kept; the best ones stay, so the free energy never falls.
"""

import numpy as np
from numba import njit

from ._state_pool import (
    below,
    energy_of,
    insert_unit,
    load_states,
    log_norm_and_mean,
    marginals_of,
    offer_state,
    store_states,
    uniform,
    worst_of,
    write_posterior,
)

HOLD, SAMPLE, EVO = 0, 1, 2  # what to propose besides the preselected states
_N_PRIOR, _N_MARGINAL = 8, 16  # states drawn per sweep
_N_GENERATIONS, _N_PARENTS, _N_BEST, _N_RANDOM = 2, 5, 3, 2
_options = {"cache": True, "error_model": "numpy"}


def search_states(
    B, candidates, slope, bias, coupling, values, table, prior, states, rows, keys, kind, *,
    pairs=None,
):  # fmt: skip
    """Improve the states of some points, and return the posterior over them.

    Parameters
    ----------
    B : array of shape (H, n)
    candidates : int32 array of shape (n_candidates, n)
        Preselected latents, whose states are always proposed.
    slope, bias, coupling, values, table
        Energies and table of states as for ``truncated_posterior``.
    prior : array of shape (V,)
        Probabilities of the non-zero values.
    states : unsigned array of shape (n_rows, n_states, length)
        The states kept for all rows, changed in place; the largest number fills up, the largest
        number less one in the first place marks a state not yet found. State 0 is the null state.
    rows : int array of shape (n,)
        The rows of `states` that belong to the points.
    keys : uint64 array of shape (n,)
        Seeds of the random numbers of each point.
    kind : int
        HOLD, SAMPLE or EVO.
    pairs : float64 array of shape (H, H), default=None
        The sums over points of E[s_h s_h'] for h != h' are added to it.

    Returns
    -------
    log_norm, mean_energy : float64 array of shape (n,)
    marginals : array of shape (V, H, n)
    energies : float64 array of shape (n, n_states)
        Energies of the states kept, -inf where there is none.
    """
    (H, n), V = B.shape, len(slope)
    marginals = np.empty((V, H, n), dtype=B.dtype)
    log_norm, mean_energy = np.empty(n), np.empty(n)
    energies = np.empty((n, states.shape[1]))
    half = np.zeros((H, H) if pairs is not None else (0, 0))
    singles = np.ascontiguousarray(bias.T, dtype=np.float64), np.asarray(slope, dtype=np.float64)
    _search(
        B, candidates, *singles, np.asarray(coupling, dtype=np.float64),
        np.asarray(values, dtype=np.float64), table.parent, table.unit, table.members, table.length,
        np.asarray(prior, dtype=np.float64), states, rows, keys, kind,
        log_norm, mean_energy, marginals, energies, half,
    )  # fmt: skip
    if pairs is not None:
        pairs += half + half.T
    return log_norm, mean_energy, marginals, energies


@njit(nogil=True, **_options)
def _search(
    B, candidates, bias, slope, coupling, values, parent, unit, members, length, prior, states,
    rows, keys, kind, log_norm, mean_energy, marginals, energies, half,
):  # fmt: skip
    (H, n), V = B.shape, len(slope)
    n_states, width = states.shape[1], states.shape[2]
    c, q = np.empty(H * V), np.empty(H * V)
    walk = np.empty(candidates.shape[0] * V + len(parent))
    pool = np.empty((n_states, width), np.int64)
    size, energy = np.empty(n_states, np.int64), np.empty(n_states)
    tags, random = np.empty(n_states, np.uint64), np.empty(1, np.uint64)
    for p in range(n):
        random[0] = keys[p]
        for h in range(H):
            for k in range(V):
                c[h * V + k] = bias[h, k] + slope[k] * B[h, p]
        kept = states[rows[p]]
        count = load_states(kept, c, coupling, values, pool, size, energy, tags)
        if kind != HOLD:
            slots = candidates[:, p]
            count = _propose_preselected(
                slots, parent, unit, members, length, c, coupling, values, walk,
                pool, size, energy, tags, count,
            )  # fmt: skip
        if kind == SAMPLE:
            count = _propose_samples(
                prior, q, random, c, coupling, values, pool, size, energy, tags, count
            )
        elif kind == EVO:
            count = _evolve(random, H, c, coupling, values, pool, size, energy, tags, count)
        if kind != HOLD:
            store_states(pool, size, count, kept)
        energies[p, :count], energies[p, count:] = energy[:count], -np.inf
        log_norm[p], mean_energy[p] = log_norm_and_mean(energy, count)
        write_posterior(pool, size, energy, count, values, log_norm[p], q, half)
        for h in range(H):
            for k in range(V):
                marginals[k, h, p] = q[h * V + k]


# ---------------------------------------------------------------- proposals
@njit(**_options)
def _propose_preselected(
    slots, parent, unit, members, length, c, coupling, values, walk, pool, size, energy, tags, count
):
    """Offer all singletons, and the states of the table over the candidates."""
    V, U = len(values), len(slots) * len(values)
    units = np.empty(max(1, members.shape[1]), np.int64)
    for u in range(len(c)):
        units[0] = u
        count = offer_state(units, 1, c[u], pool, size, energy, tags, count)
    for u in range(U):
        walk[u] = c[slots[u // V] * V + u % V]
    for s in range(len(parent)):
        value = walk[parent[s]] + walk[unit[s]]
        for i in range(length[s] - 1):
            v = members[s, i]
            product = values[unit[s] % V] * values[v % V]
            value -= product * coupling[slots[unit[s] // V], slots[v // V]]
        walk[U + s] = value
        if count < len(energy) or value > energy[worst_of(energy, count)]:
            for i in range(length[s]):
                v = members[s, i]
                insert_unit(units, i, slots[v // V] * V + v % V)
            count = offer_state(units, length[s], value, pool, size, energy, tags, count)
    return count


@njit(**_options)
def _propose_samples(prior, q, random, c, coupling, values, pool, size, energy, tags, count):
    """Offer states drawn from the prior, and from the marginals of the states kept."""
    V, H = len(values), len(c) // len(values)
    units = np.empty(pool.shape[1] + 1, np.int64)
    log_norm, _ = log_norm_and_mean(energy, count)
    marginals_of(pool, size, energy, count, log_norm, q)
    for draw in range(_N_PRIOR + _N_MARGINAL):
        n = 0
        for h in range(H):
            left = uniform(random)
            for k in range(V):
                left -= prior[k] if draw < _N_PRIOR else q[h * V + k]
                if left < 0:
                    if n < len(units):
                        units[n] = h * V + k
                    n += 1
                    break
        if n <= pool.shape[1]:
            value = energy_of(units, n, c, coupling, values)
            count = offer_state(units, n, value, pool, size, energy, tags, count)
    return count


@njit(**_options)
def _evolve(random, H, c, coupling, values, pool, size, energy, tags, count):
    """Offer children of fit states: changes of one latent, and crossings of two parents."""
    width = pool.shape[1]
    parents, sizes = np.empty((_N_PARENTS, width), np.int64), np.empty(_N_PARENTS, np.int64)
    child = np.empty(2 * width + 1, np.int64)
    for _ in range(_N_GENERATIONS):
        for i in range(_N_PARENTS):
            s = _fit_one(random, energy, count)
            parents[i], sizes[i] = pool[s], size[s]
        for i in range(_N_PARENTS):
            count = _mutate(
                random, parents[i], sizes[i], H, child, c, coupling, values,
                pool, size, energy, tags, count,
            )  # fmt: skip
            for j in range(_N_PARENTS):
                n = _cross(
                    random, parents[i], sizes[i], parents[j], sizes[j], H, len(values), child
                )
                if i != j and n <= width:
                    value = energy_of(child, n, c, coupling, values)
                    count = offer_state(child, n, value, pool, size, energy, tags, count)
    return count


@njit(**_options)
def _fit_one(random, energy, count):
    """Choose a state with probability proportional to its fitness l - 2 min(min l, 0)."""
    lowest = 0.0
    for s in range(count):
        lowest = min(lowest, energy[s])
    total = 0.0
    for s in range(count):
        total += energy[s] - 2 * lowest
    left = uniform(random) * total
    for s in range(count):
        left -= energy[s] - 2 * lowest
        if left < 0:
            return s
    return count - 1


@njit(**_options)
def _mutate(random, parent, n, H, child, c, coupling, values, pool, size, energy, tags, count):
    """Offer the best changes of one latent, and some random ones."""
    V = len(values)
    field, holds = np.zeros(H), np.full(H, -1)
    for i in range(n):
        h, v = parent[i] // V, values[parent[i] % V]
        holds[h] = parent[i] % V
        for g in range(H):
            field[g] += v * coupling[g, h]
    base = energy_of(parent, n, c, coupling, values)
    best, where = np.full(_N_BEST, -np.inf), np.full(_N_BEST, -1)
    for change in range(H * (V + 1) + _N_RANDOM):
        chosen = change >= H * (V + 1)
        at = below(random, H * (V + 1)) if chosen else change
        h, k, old = at // (V + 1), at % (V + 1) - 1, holds[at // (V + 1)]
        if k == old or (old < 0 and n == len(parent)):
            continue
        gain = 0.0
        around = field[h]
        if old >= 0:
            around -= values[old] * coupling[h, h]
            gain -= c[h * V + old] - values[old] * around
        if k >= 0:
            gain += c[h * V + k] - values[k] * around
        if chosen:
            m = _changed(parent, n, h, k, V, child)
            count = offer_state(child, m, base + gain, pool, size, energy, tags, count)
        elif gain > best[-1]:
            _rank(best, where, gain, at)
    for i in range(_N_BEST):
        if where[i] >= 0:
            m = _changed(parent, n, where[i] // (V + 1), where[i] % (V + 1) - 1, V, child)
            count = offer_state(child, m, base + best[i], pool, size, energy, tags, count)
    return count


@njit(**_options)
def _rank(best, where, gain, at):
    i = len(best) - 1
    while i > 0 and best[i - 1] < gain:
        best[i], where[i] = best[i - 1], where[i - 1]
        i -= 1
    best[i], where[i] = gain, at


@njit(**_options)
def _changed(parent, n, h, k, V, child):
    """Copy a state with latent h at value k (-1: zero); returns its length."""
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
def _cross(random, first, n_first, second, n_second, H, V, child):
    """One-point crossover: latents before the cut from the first, the others from the second."""
    cut, m = (1 + below(random, max(1, H - 1))) * V, 0
    for i in range(n_first):
        if first[i] < cut:
            child[m] = first[i]
            m += 1
    for i in range(n_second):
        if second[i] >= cut:
            child[m] = second[i]
            m += 1
    return m
