"""Whole-array formulas over the states of K_n: slower than the kernels, on any device, for any row.

States are numbered: the null state, the V * H singletons (value-major), the states of the table.
"""

import numpy as np

from .._arrays import compute_namespace, to_numpy


def linear_energies(singles, couplings, candidates, values, table):
    """Energies of all states when pairs of active latents interact.

    Parameters
    ----------
    singles : array of shape (V, H, n)
        Energies of the singletons.
    couplings : function
        ``couplings(i, j)`` gives the coupling (n,) of the candidates in slots i > j.
    candidates : int array of shape (n_candidates, n)
    values : ndarray of shape (V,)
    table : StateTable

    Returns
    -------
    energies : array of shape (1 + V * H + S, n)
    """
    xp, (V, H, n) = compute_namespace(singles), singles.shape
    energies = xp.empty((1 + V * H + len(table.length), n), dtype=singles.dtype)
    energies[0] = 0.0
    energies[1 : 1 + V * H] = singles.reshape(V * H, n)
    walk = units_of_candidates(singles, candidates)
    alone = list(walk)
    C = len(candidates) if table.max_active > 1 else 0
    pairs = {(i, j): couplings(i, j) for i in range(C) for j in range(i)}
    for s in range(len(table.length)):
        added = int(table.unit[s])
        energy = walk[table.parent[s]] + alone[added]
        for other in table.members[s, : table.length[s] - 1].tolist():
            value = values[added % V] * values[other % V]
            energy = energy - value * pairs[added // V, other // V]
        walk.append(energy)
        energies[1 + V * H + s] = energy
    return energies


def units_of_candidates(singles, candidates):
    """Entries of `singles` (V, H, n) for each unit of the table, a list of arrays (n,)."""
    V, columns = len(singles), compute_namespace(singles).arange(singles.shape[2])
    return [singles[u % V][candidates[u // V], columns] for u in range(len(candidates) * V)]


def normalized(energies):
    """Probabilities q (S, n) of the states, log of the sum, and mean energy, all float64."""
    xp, energies = compute_namespace(energies), energies.astype(np.float64)
    top = energies.max(axis=0)
    q = xp.exp(energies - top)
    total = q.sum(axis=0)
    q /= total
    finite = xp.where(q > 0, energies, 0.0)
    return q, top + xp.log(total), (q * finite).sum(axis=0)


def state_marginals(q, candidates, table, V, H):
    """q(s_h = phi_k), shape (V, H, n), from the probabilities of all states."""
    xp, n = compute_namespace(q), q.shape[1]
    marginals = q[1 : 1 + V * H].reshape(V, H, n).copy()
    columns = xp.arange(n)
    for u in range(table.n_candidates * V):
        containing = np.flatnonzero((table.members == u).any(axis=1)) + 1 + V * H
        if containing.size:
            marginals[u % V][candidates[u // V], columns] += q[xp.asarray(containing)].sum(axis=0)
    return marginals


def pair_moments(q, table, values, H):
    """E[s s'] of the candidates in slots i > j: a dict (i, j) -> array (n,)."""
    xp, V = compute_namespace(q), len(values)
    moments: dict = {}
    for s in range(len(table.length)):
        units = table.members[s, : table.length[s]].tolist()
        for a in range(len(units)):
            for b in range(a):
                i, j = units[a] // V, units[b] // V
                part = values[units[a] % V] * values[units[b] % V] * q[1 + V * H + s]
                moments[i, j] = moments[i, j] + part if (i, j) in moments else part
    zero = xp.zeros(q.shape[1])
    C = table.n_candidates if table.max_active > 1 else 0
    return {(i, j): moments.get((i, j), zero) for i in range(C) for j in range(i)}


def add_rows(target, numbers, rows):
    """Add each of the rows (n, D) to the row of `target` (H, D) that `numbers` (n,) names."""
    if isinstance(target, np.ndarray):
        from scipy.sparse import csr_array

        ones, n = np.ones(len(numbers)), len(numbers)
        chosen = csr_array((ones, (numbers, np.arange(n))), shape=(len(target), n))
        target += chosen @ rows
        return
    import cupyx

    cupyx.scatter_add(target, numbers, rows.astype(target.dtype))


def states_of(indices, candidates, table, values, H):
    """Dense states (n, k, H) of the state numbers `indices` (k, n)."""
    indices, candidates = to_numpy(indices), to_numpy(candidates)
    (k, n), V = indices.shape, len(values)
    dense = np.zeros((n, k, H))
    j, i = np.nonzero((indices > 0) & (indices <= V * H))
    single = indices[j, i] - 1
    dense[i, j, single % H] = values[single // H]
    j, i = np.nonzero(indices > V * H)
    members = table.members[indices[j, i] - 1 - V * H]
    for m in range(members.shape[1]):
        there = members[:, m] >= 0
        unit = members[there, m]
        dense[i[there], j[there], candidates[unit // V, i[there]]] = values[unit % V]
    return dense
