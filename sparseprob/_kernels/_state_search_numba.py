"""Learned sets of states, one set per point (J. Drefs, E. Guiraud, J. Lücke, JMLR 23(21), 2022).

A state is a sorted list of units ``h * V + k``: latent h takes its k-th non-zero value. Proposals
are compared with the states kept; the best ones stay, so the free energy never falls.
"""

import numpy as np
from numba import get_num_threads, njit, prange

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
    n_tasks = max(1, min(get_num_threads(), n))
    partial = np.zeros((n_tasks if pairs is not None else 0, H, H))
    singles = np.ascontiguousarray(bias.T, dtype=np.float64), np.asarray(slope, dtype=np.float64)
    _search(
        B, candidates, *singles, np.asarray(coupling, dtype=np.float64),
        np.asarray(values, dtype=np.float64), table.parent, table.unit, table.members, table.length,
        np.asarray(prior, dtype=np.float64), states, rows, keys, kind,
        log_norm, mean_energy, marginals, energies, partial, n_tasks,
    )  # fmt: skip
    if pairs is not None:
        half = partial.sum(axis=0)
        pairs += half + half.T
    return log_norm, mean_energy, marginals, energies


@njit(parallel=True, **_options)
def _search(
    B, candidates, bias, slope, coupling, values, parent, unit, members, length, prior, states,
    rows, keys, kind, log_norm, mean_energy, marginals, energies, partial, n_tasks,
):  # fmt: skip
    (H, n), V = B.shape, len(slope)
    n_states, width = states.shape[1], states.shape[2]
    for task in prange(n_tasks):
        c, q = np.empty(H * V), np.empty(H * V)
        walk = np.empty(candidates.shape[0] * V + len(parent))
        pool = np.empty((n_states, width), np.int64)
        size, energy = np.empty(n_states, np.int64), np.empty(n_states)
        tags, random = np.empty(n_states, np.uint64), np.empty(1, np.uint64)
        for p in range(task * n // n_tasks, (task + 1) * n // n_tasks):
            random[0] = keys[p]
            for h in range(H):
                for k in range(V):
                    c[h * V + k] = bias[h, k] + slope[k] * B[h, p]
            kept = states[rows[p]]
            count = _load(kept, c, coupling, values, pool, size, energy, tags)
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
                _store(pool, size, count, kept)
            energies[p, :count], energies[p, count:] = energy[:count], -np.inf
            log_norm[p], mean_energy[p] = _weigh(energy, count)
            _write(pool, size, energy, count, values, log_norm[p], q, partial, task)
            for h in range(H):
                for k in range(V):
                    marginals[k, h, p] = q[h * V + k]


# ---------------------------------------------------------------- the pool of one point
@njit(**_options)
def _energy_of(units, n, c, coupling, values):
    V, total = len(values), 0.0
    for i in range(n):
        total += c[units[i]]
        for j in range(i):
            product = values[units[i] % V] * values[units[j] % V]
            total -= product * coupling[units[i] // V, units[j] // V]
    return total


@njit(**_options)
def _tag(units, n):
    """Hash of a state, by the finalizer of SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, 2014)."""
    tag = np.uint64(n)
    for i in range(n):
        tag = _mix(tag ^ np.uint64(units[i]))
    return tag


@njit(**_options)
def _mix(x):
    x += np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(**_options)
def _uniform(random):
    random[0] += np.uint64(0x9E3779B97F4A7C15)
    return (_mix(random[0]) >> np.uint64(11)) * 2.0**-53


@njit(**_options)
def _below(random, n):
    return min(int(_uniform(random) * n), n - 1)


@njit(**_options)
def _load(kept, c, coupling, values, pool, size, energy, tags):
    """Read the states of a point and evaluate them anew; returns their number."""
    largest = np.iinfo(kept.dtype).max
    count = 0
    for s in range(kept.shape[0]):
        if s and kept[s, 0] == largest - 1:
            break
        n = 0
        while n < kept.shape[1] and kept[s, n] < largest - 1:
            pool[s, n] = kept[s, n]
            n += 1
        size[s], tags[s] = n, _tag(pool[s], n)
        energy[s] = _energy_of(pool[s], n, c, coupling, values)
        count += 1
    return count


@njit(**_options)
def _store(pool, size, count, kept):
    largest = np.iinfo(kept.dtype).max
    kept[:] = largest
    for s in range(count):
        for i in range(size[s]):
            kept[s, i] = pool[s, i]
    for s in range(count, kept.shape[0]):
        kept[s, 0] = largest - 1


@njit(**_options)
def _worst(energy, count):
    """Number of the worst state but the null state, which stays."""
    worst = 1
    for s in range(2, count):
        if energy[s] < energy[worst]:
            worst = s
    return worst


@njit(**_options)
def _offer(units, n, value, pool, size, energy, tags, count):
    """Take a state into the pool if it is new and better than the worst; returns the new number."""
    full = count == len(energy)
    if n > pool.shape[1] or n == 0 or (full and count < 2):
        return count
    place = _worst(energy, count) if full else count
    if full and value <= energy[place]:
        return count
    tag = _tag(units, n)
    for s in range(count):
        if tags[s] == tag and size[s] == n and _equal(pool[s], units, n):
            return count
    pool[place, :n] = units[:n]
    size[place], energy[place], tags[place] = n, value, tag
    return count if full else count + 1


@njit(**_options)
def _equal(a, b, n):
    for i in range(n):
        if a[i] != b[i]:
            return False
    return True


@njit(**_options)
def _insert(units, n, u):
    """Insert a unit into a sorted list of n."""
    i = n
    while i > 0 and units[i - 1] > u:
        units[i] = units[i - 1]
        i -= 1
    units[i] = u


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
        count = _offer(units, 1, c[u], pool, size, energy, tags, count)
    for u in range(U):
        walk[u] = c[slots[u // V] * V + u % V]
    for s in range(len(parent)):
        value = walk[parent[s]] + walk[unit[s]]
        for i in range(length[s] - 1):
            v = members[s, i]
            product = values[unit[s] % V] * values[v % V]
            value -= product * coupling[slots[unit[s] // V], slots[v // V]]
        walk[U + s] = value
        if count < len(energy) or value > energy[_worst(energy, count)]:
            for i in range(length[s]):
                v = members[s, i]
                _insert(units, i, slots[v // V] * V + v % V)
            count = _offer(units, length[s], value, pool, size, energy, tags, count)
    return count


@njit(**_options)
def _propose_samples(prior, q, random, c, coupling, values, pool, size, energy, tags, count):
    """Offer states drawn from the prior, and from the marginals of the states kept."""
    V, H = len(values), len(c) // len(values)
    units = np.empty(pool.shape[1] + 1, np.int64)
    log_norm, _ = _weigh(energy, count)
    _marginals(pool, size, energy, count, log_norm, q)
    for draw in range(_N_PRIOR + _N_MARGINAL):
        n = 0
        for h in range(H):
            left = _uniform(random)
            for k in range(V):
                left -= prior[k] if draw < _N_PRIOR else q[h * V + k]
                if left < 0:
                    if n < len(units):
                        units[n] = h * V + k
                    n += 1
                    break
        if n <= pool.shape[1]:
            value = _energy_of(units, n, c, coupling, values)
            count = _offer(units, n, value, pool, size, energy, tags, count)
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
                    value = _energy_of(child, n, c, coupling, values)
                    count = _offer(child, n, value, pool, size, energy, tags, count)
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
    left = _uniform(random) * total
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
    base = _energy_of(parent, n, c, coupling, values)
    best, where = np.full(_N_BEST, -np.inf), np.full(_N_BEST, -1)
    for change in range(H * (V + 1) + _N_RANDOM):
        chosen = change >= H * (V + 1)
        at = _below(random, H * (V + 1)) if chosen else change
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
            count = _offer(child, m, base + gain, pool, size, energy, tags, count)
        elif gain > best[-1]:
            _rank(best, where, gain, at)
    for i in range(_N_BEST):
        if where[i] >= 0:
            m = _changed(parent, n, where[i] // (V + 1), where[i] % (V + 1) - 1, V, child)
            count = _offer(child, m, base + best[i], pool, size, energy, tags, count)
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
        _insert(child, m, h * V + k)
        m += 1
    return m


@njit(**_options)
def _cross(random, first, n_first, second, n_second, H, V, child):
    """One-point crossover: latents before the cut from the first, the others from the second."""
    cut, m = (1 + _below(random, max(1, H - 1))) * V, 0
    for i in range(n_first):
        if first[i] < cut:
            child[m] = first[i]
            m += 1
    for i in range(n_second):
        if second[i] >= cut:
            child[m] = second[i]
            m += 1
    return m


# ---------------------------------------------------------------- the posterior over the pool
@njit(**_options)
def _weigh(energy, count):
    """Log of the sum of exp(energy), and the mean energy."""
    top = energy[:count].max()
    total = mean = 0.0
    for s in range(count):
        w = np.exp(energy[s] - top)
        total += w
        mean += w * energy[s]
    return top + np.log(total), mean / total


@njit(**_options)
def _marginals(pool, size, energy, count, log_norm, q):
    q[:] = 0
    for s in range(count):
        w = np.exp(energy[s] - log_norm)
        for i in range(size[s]):
            q[pool[s, i]] += w


@njit(**_options)
def _write(pool, size, energy, count, values, log_norm, q, partial, task):
    """Marginals into q, and E[s_h s_h'] onto one triangle of this task's pairs."""
    _marginals(pool, size, energy, count, log_norm, q)
    if not len(partial):
        return
    V = len(values)
    for s in range(count):
        w = np.exp(energy[s] - log_norm)
        for i in range(size[s]):
            for j in range(i):
                u, v = pool[s, i], pool[s, j]
                partial[task, u // V, v // V] += w * values[u % V] * values[v % V]
