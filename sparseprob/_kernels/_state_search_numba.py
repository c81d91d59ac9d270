"""Learned sets of states, one set per point (J. Drefs, E. Guiraud, J. Lücke, JMLR 23(21), 2022).

A state is a sorted list of units ``h * V + k``: latent h takes its k-th non-zero value. Proposals
are compared with the states kept; the best ones stay, so the free energy never falls.
"""

import numpy as np
from numba import njit

from ._state_pool import (
    below,
    load_states,
    log_norm_and_mean,
    marginals_of,
    offer_state,
    store_states,
    uniform,
)
from ._state_problems import changed_state, energies_around, energy_of, insert_unit

HOLD, SAMPLE, EVO = 0, 1, 2  # what to propose besides the preselected states
_N_PRIOR, _N_MARGINAL = 8, 16  # states drawn per sweep
_N_GENERATIONS, _N_PARENTS, _N_BEST, _N_RANDOM = 2, 5, 3, 2
_options = {"cache": True, "error_model": "numpy"}


def search_states(singles, problem, candidates, table, prior, states, rows, keys, kind):
    """Improve the states of some points.

    Parameters
    ----------
    singles : array of shape (V, H, n)
        Energies of all states with one active latent, relative to the null state.
    problem : named tuple
        What `energy_of` needs for the other states; see ``_state_problems``.
    candidates : int32 array of shape (n_candidates, n)
        Preselected latents, whose states are always proposed.
    table : StateTable
        States over the candidates.
    prior : array of shape (H, V)
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

    Returns
    -------
    energies : float64 array of shape (n, n_states)
        Energies of the states kept, -inf where there is none.
    """
    energies = np.empty((len(rows), states.shape[1]))
    _search(
        singles, problem, candidates, table.members, table.length,
        np.asarray(prior, dtype=np.float64), states, rows, keys, kind, energies,
    )  # fmt: skip
    return energies


@njit(nogil=True, **_options)
def _search(
    singles, problem, candidates, members, length, prior, states, rows, keys, kind, energies,
):  # fmt: skip
    V, H, n = singles.shape
    n_states, width = states.shape[1], states.shape[2]
    c, q = np.empty(H * V), np.empty(H * V)
    pool = np.empty((n_states, width), np.int64)
    size, energy = np.empty(n_states, np.int64), np.empty(n_states)
    tags, random = np.empty(n_states, np.uint64), np.empty(1, np.uint64)
    for p in range(n):
        random[0] = keys[p]
        for h in range(H):
            for k in range(V):
                c[h * V + k] = singles[k, h, p]
        kept = states[rows[p]]
        count = load_states(kept, c, problem, p, pool, size, energy, tags)
        if kind != HOLD:
            count = _propose_preselected(
                candidates[:, p], members, length, c, problem, p, V,
                pool, size, energy, tags, count,
            )  # fmt: skip
        if kind == SAMPLE:
            count = _propose_samples(
                prior, q, random, c, problem, p, pool, size, energy, tags, count
            )
        elif kind == EVO:
            count = _evolve(random, H, V, c, problem, p, pool, size, energy, tags, count)
        if kind != HOLD:
            store_states(pool, size, count, kept)
        energies[p, :count], energies[p, count:] = energy[:count], -np.inf


def listed_posterior(states, rows, energies, values, H, dtype, pairs=None):
    """Posterior over listed states.

    Parameters
    ----------
    states, rows, energies
        As for `search_states`.
    values : float64 array of shape (V,)
    H : int
    dtype : numpy.dtype
        Of the marginals.
    pairs : float64 array of shape (H, H), default=None
        The sums over points of E[s_h s_h'] for h != h' are added to it.

    Returns
    -------
    log_norm, mean_energy : float64 array of shape (n,)
    marginals : array of shape (V, H, n)
    """
    n = len(rows)
    marginals = np.empty((len(values), H, n), dtype=dtype)
    log_norm, mean_energy = np.empty(n), np.empty(n)
    half = np.zeros((H, H) if pairs is not None else (0, 0))
    _listed(states, rows, energies, values, log_norm, mean_energy, marginals, half)
    if pairs is not None:
        pairs += half + half.T
    return log_norm, mean_energy, marginals


@njit(nogil=True, **_options)
def _listed(states, rows, energies, values, log_norm, mean_energy, marginals, half):
    V, H, n = marginals.shape
    q, largest = np.empty(H * V), np.iinfo(states.dtype).max
    for p in range(n):
        q[:] = 0
        top, kept = energies[p].max(), states[rows[p]]
        total = mean = 0.0
        for s in range(energies.shape[1]):
            w = np.exp(energies[p, s] - top)
            if w == 0:
                continue
            total += w
            mean += w * energies[p, s]
        for s in range(energies.shape[1]):
            w, length = np.exp(energies[p, s] - top) / total, 0
            while w > 0 and length < kept.shape[1] and kept[s, length] < largest - 1:
                u = np.int64(kept[s, length])
                q[u] += w
                for i in range(length if len(half) else 0):
                    v = np.int64(kept[s, i])
                    half[u // V, v // V] += w * values[u % V] * values[v % V]
                length += 1
        log_norm[p], mean_energy[p] = top + np.log(total), mean / total
        for h in range(H):
            for k in range(V):
                marginals[k, h, p] = q[h * V + k]


# ---------------------------------------------------------------- proposals
@njit(**_options)
def _propose_preselected(slots, members, length, c, problem, p, V, pool, size, energy, tags, count):
    """Offer all singletons, and the states of the table over the candidates."""
    units = np.empty(max(1, members.shape[1]), np.int64)
    for u in range(len(c)):
        units[0] = u
        count = offer_state(units, 1, c[u], pool, size, energy, tags, count)
    for s in range(len(length)):
        for i in range(length[s]):
            v = members[s, i]
            insert_unit(units, i, slots[v // V] * V + v % V)
        value = energy_of(units, length[s], c, problem, p)
        count = offer_state(units, length[s], value, pool, size, energy, tags, count)
    return count


@njit(**_options)
def _propose_samples(prior, q, random, c, problem, p, pool, size, energy, tags, count):
    """Offer states drawn from the prior, and from the marginals of the states kept."""
    H, V = prior.shape
    units = np.empty(pool.shape[1] + 1, np.int64)
    log_norm, _ = log_norm_and_mean(energy, count)
    marginals_of(pool, size, energy, count, log_norm, q)
    for draw in range(_N_PRIOR + _N_MARGINAL):
        n = 0
        for h in range(H):
            left = uniform(random)
            for k in range(V):
                left -= prior[h, k] if draw < _N_PRIOR else q[h * V + k]
                if left < 0:
                    if n < len(units):
                        units[n] = h * V + k
                    n += 1
                    break
        if n <= pool.shape[1]:
            value = energy_of(units, n, c, problem, p)
            count = offer_state(units, n, value, pool, size, energy, tags, count)
    return count


@njit(**_options)
def _evolve(random, H, V, c, problem, p, pool, size, energy, tags, count):
    """Offer children of fit states: changes of one latent, and crossings of two parents."""
    width = pool.shape[1]
    parents, sizes = np.empty((_N_PARENTS, width), np.int64), np.empty(_N_PARENTS, np.int64)
    child, around = np.empty(2 * width + 1, np.int64), np.empty((H, V + 1))
    for _ in range(_N_GENERATIONS):
        for i in range(_N_PARENTS):
            s = _fit_one(random, energy, count)
            parents[i], sizes[i] = pool[s], size[s]
        for i in range(_N_PARENTS):
            count = _mutate(
                random, parents[i], sizes[i], child, around, c, problem, p,
                pool, size, energy, tags, count,
            )  # fmt: skip
            for j in range(_N_PARENTS):
                n = _cross(random, parents[i], sizes[i], parents[j], sizes[j], H, V, child)
                if i != j and n <= width:
                    value = energy_of(child, n, c, problem, p)
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
def _mutate(random, parent, n, child, around, c, problem, p, pool, size, energy, tags, count):
    """Offer the best changes of one latent, and some random ones."""
    H, V = around.shape[0], around.shape[1] - 1
    energies_around(parent, n, c, problem, p, V, around)
    holds = np.full(H, -1)
    for i in range(n):
        holds[parent[i] // V] = parent[i] % V
    best, where = np.full(_N_BEST, -np.inf), np.full(_N_BEST, -1)
    for change in range(H * (V + 1) + _N_RANDOM):
        chosen = change >= H * (V + 1)
        at = below(random, H * (V + 1)) if chosen else change
        h, k = at // (V + 1), at % (V + 1) - 1
        if k == holds[h] or (holds[h] < 0 and n == len(parent)):
            continue
        if chosen:
            m = changed_state(parent, n, h, k, V, child)
            count = offer_state(child, m, around[h, k + 1], pool, size, energy, tags, count)
        elif around[h, k + 1] > best[-1]:
            _rank(best, where, around[h, k + 1], at)
    for i in range(_N_BEST):
        if where[i] >= 0:
            m = changed_state(parent, n, where[i] // (V + 1), where[i] % (V + 1) - 1, V, child)
            count = offer_state(child, m, best[i], pool, size, energy, tags, count)
    return count


@njit(**_options)
def _rank(best, where, gain, at):
    i = len(best) - 1
    while i > 0 and best[i - 1] < gain:
        best[i], where[i] = best[i - 1], where[i - 1]
        i -= 1
    best[i], where[i] = gain, at


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
