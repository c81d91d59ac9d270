"""Truncated posteriors of linear models with discrete latents, on the CPU.

Energies in Gram form: a state costs one addition and one pair term per active cause (J. Lücke,
J. Eggert, JMLR 11:2855-2900, 2010). Points are worked on in blocks, side by side.
"""

import numpy as np
from numba import njit

from ._fast_exp import exp_of_negative

_BLOCK, _FEW = 64, 32  # points side by side: posterior, selection
_NEGLIGIBLE = -34.0  # states whose weight is below exp(-34) = 2e-15 for a whole block are skipped
_options = {"cache": True, "fastmath": {"contract"}, "error_model": "numpy"}


def select_candidates(B, scale, shift, n_candidates):
    """Preselect the latents with the largest scores max_k(scale[k, h] B[h] + shift[k, h]).

    Parameters
    ----------
    B : array of shape (H, n)
        Projections of n points on H atoms.
    scale, shift : array of shape (V, H)
        The shift may be -inf.
    n_candidates : int

    Returns
    -------
    candidates : int32 array of shape (n_candidates, n)
        Best first; of equal scores the lower index first.
    """
    candidates = np.empty((n_candidates, B.shape[1]), dtype=np.int32)
    _select(np.ascontiguousarray(B), scale, shift, candidates)
    return candidates


def truncated_posterior(
    B, candidates, slope, bias, coupling, values, table, *, pairs=None, out=None
):
    """Posterior over the null state, all singletons, and the states of the table.

    A latent h at its k-th value has energy ``bias[k, h] + slope[k] B[h]``; two active latents add
    ``-values[k] values[k'] coupling[h, h']``. The null state has energy 0.

    Parameters
    ----------
    B : array of shape (H, n)
        Projections, float32 or float64, which is the type computed in.
    candidates : int32 array of shape (n_candidates, n)
        Preselected latents of each point.
    slope, values : array of shape (V,)
    bias : array of shape (V, H)
    coupling : array of shape (H, H)
    table : StateTable
        States of two or more active candidates.
    pairs : float64 array of shape (H, H), default=None
        The sums over points of E[s_h s_h'] for h != h' are added to it.
    out : array of shape (V, H, n), default=None
        Memory for the marginals.

    Returns
    -------
    log_norm : float64 array of shape (n,)
        Log of the sum of exp(energy).
    mean_energy : float64 array of shape (n,)
    marginals : array of shape (V, H, n)
        Probability of each value of each latent.
    """
    (H, n), V = B.shape, len(slope)
    marginals = np.empty((V, H, n), dtype=B.dtype) if out is None else out
    log_norm, mean_energy = np.empty(n), np.empty(n)
    half = np.zeros((H, H) if pairs is not None else (0, 0))
    products = np.outer(values, values).astype(B.dtype)
    _posterior(
        np.ascontiguousarray(B), candidates, slope, bias, coupling, products,
        table.parent, table.unit, table.members, table.length,
        log_norm, mean_energy, marginals, half,
    )  # fmt: skip
    if pairs is not None:
        pairs += half + half.T
    return log_norm, mean_energy, marginals


@njit(nogil=True, **_options)
def _select(B, scale, shift, candidates):
    best = np.empty((candidates.shape[0], _FEW), dtype=B.dtype)
    label = np.empty((candidates.shape[0], _FEW), dtype=B.dtype)
    score = np.empty(_FEW, dtype=B.dtype)
    for start in range(0, B.shape[1], _FEW):
        size = min(_FEW, B.shape[1] - start)
        best[:] = -np.inf
        for h in range(B.shape[0]):
            _score(B, scale, shift, h, start, start + size, score)
            _insert(best, label, score, B.dtype.type(h))
        for c in range(candidates.shape[0]):
            for p in range(size):
                candidates[c, start + p] = np.int32(label[c, p])


@njit(**_options)
def _score(B, scale, shift, h, start, stop, score):
    lowest = B.dtype.type(-3e38)  # above -inf, so that every latent enters while there is room
    for p in range(stop - start):
        score[p] = max(scale[0, h] * B[h, start + p] + shift[0, h], lowest)
    for k in range(1, scale.shape[0]):
        for p in range(stop - start):
            score[p] = max(scale[k, h] * B[h, start + p] + shift[k, h], score[p])


@njit(**_options)
def _insert(best, label, score, h):
    """Insert latent h into the sorted list of each point; strict comparison keeps ties in order."""
    n_candidates = best.shape[0]
    beaten = False
    for p in range(_FEW):
        beaten |= score[p] > best[n_candidates - 1, p]
    if not beaten:
        return
    for c in range(n_candidates - 1, 0, -1):
        _shift(best[c], best[c - 1], label[c], label[c - 1], score, h)
    for p in range(_FEW):
        x, here, name = score[p], best[0, p], label[0, p]
        best[0, p] = max(x, here)
        label[0, p] = h if x > here else name


@njit(**_options)
def _shift(best, best_above, label, label_above, score, h):
    """Step one place of the sorted lists: keep it, insert h, or take what stood above."""
    for p in range(_FEW):
        x, here, above = score[p], best[p], best_above[p]
        name, name_above = label[p], label_above[p]
        enters, passes = x > here, x > above
        held = x if enters else here
        inserted = h if enters else name
        best[p] = above if passes else held
        label[p] = name_above if passes else inserted


@njit(nogil=True, **_options)
def _posterior(
    B, candidates, slope, bias, coupling, products, parent, unit, members, length,
    log_norm, mean_energy, marginals, half,
):  # fmt: skip
    dtype, U = B.dtype, candidates.shape[0] * len(slope)
    single = np.empty((len(slope), B.shape[0], _BLOCK), dtype)
    walk, alone = np.empty((U + len(parent), _BLOCK), dtype), np.empty((U, _BLOCK), dtype)
    joint, live = np.empty((U, U, _BLOCK), dtype), np.empty(U + len(parent), np.bool_)
    top, total, energy = np.empty(_BLOCK, dtype), np.empty(_BLOCK, dtype), np.empty(_BLOCK, dtype)
    for start in range(0, B.shape[1], _BLOCK):
        size = min(_BLOCK, B.shape[1] - start)
        _singles(B, slope, bias, start, size, single, top)
        _gather(candidates, single, coupling, products, start, size, alone, joint)
        _multiples(parent, unit, members, length, alone, joint, walk, top)
        _weigh(single, walk, U, top, total, energy, live)
        joint[:] = 0
        _collect(parent, unit, members, length, U, walk, joint, live)
        _write(top, total, energy, log_norm, mean_energy, start, size)
        _marginalize(single, walk, candidates, total, marginals, start, size)
        if len(half):
            _scatter(joint, candidates, products, total, half, start, size)


@njit(**_options)
def _singles(B, slope, bias, start, size, single, top):
    """Energies of all singletons and their maximum with the null state."""
    top[:] = 0
    for k in range(len(slope)):
        for h in range(B.shape[0]):
            c, a = bias[k, h], slope[k]
            for p in range(size):
                single[k, h, p] = c + a * B[h, start + p]
            for p in range(size, _BLOCK):
                single[k, h, p] = 0
            for p in range(_BLOCK):
                top[p] = max(top[p], single[k, h, p])


@njit(**_options)
def _gather(candidates, single, coupling, products, start, size, alone, joint):
    """Energies of the candidates' units, and of their pairs."""
    V = single.shape[0]
    for i in range(candidates.shape[0]):
        for p in range(size):
            h = candidates[i, start + p]
            for k in range(V):
                alone[i * V + k, p] = single[k, h, p]
        for j in range(i):
            for p in range(size):
                g = coupling[candidates[i, start + p], candidates[j, start + p]]
                for k in range(V):
                    for m in range(V):
                        joint[i * V + k, j * V + m, p] = products[k, m] * g
    for u in range(alone.shape[0]):
        for p in range(size, _BLOCK):
            alone[u, p] = 0
            for v in range(u):
                joint[u, v, p] = 0


@njit(**_options)
def _multiples(parent, unit, members, length, alone, joint, walk, top):
    """Energies of the states of the table, each from its parent's."""
    U = alone.shape[0]
    walk[:U] = alone
    for s in range(len(parent)):
        u = unit[s]
        above, added, here = walk[parent[s]], alone[u], walk[U + s]
        for p in range(_BLOCK):
            here[p] = above[p] + added[p]
        for i in range(length[s] - 1):
            pair = joint[u, members[s, i]]
            for p in range(_BLOCK):
                here[p] -= pair[p]
        for p in range(_BLOCK):
            top[p] = max(top[p], here[p])


@njit(**_options)
def _weigh(single, walk, U, top, total, energy, live):
    """Replace energies by weights exp(energy - top); sum the weights and the weighted energies.

    `live` tells which states of the table have weight for any of the points.
    """
    for p in range(_BLOCK):
        total[p] = exp_of_negative(-top[p])
        energy[p] = 0
    walk[:U] = 0
    live[:U] = True
    for k in range(single.shape[0]):
        for h in range(single.shape[1]):
            _weigh_row(single[k, h], top, total, energy)
    for s in range(U, walk.shape[0]):
        live[s] = _weigh_row(walk[s], top, total, energy)


@njit(**_options)
def _weigh_row(row, top, total, energy):
    any_live = False
    for p in range(_BLOCK):
        any_live |= row[p] - top[p] > _NEGLIGIBLE
    if not any_live:
        row[:] = 0
        return False
    for p in range(_BLOCK):
        e = row[p]
        w = exp_of_negative(e - top[p])
        row[p] = w
        total[p] += w
        energy[p] += w * e
    return True


@njit(**_options)
def _collect(parent, unit, members, length, U, walk, joint, live):
    """Sum weights over the states that contain a unit (into walk[:U]) or a pair of units.

    Going backwards, a state holds the sum over all states it begins; a state that contains u < v
    begins with exactly one that contains u and ends with v.
    """
    for s in range(len(parent) - 1, -1, -1):
        if not live[U + s]:
            continue
        live[parent[s]] = True
        u, here, above = unit[s], walk[U + s], walk[parent[s]]
        for p in range(_BLOCK):
            above[p] += here[p]
        for i in range(length[s] - 1):
            pair = joint[u, members[s, i]]
            for p in range(_BLOCK):
                pair[p] += here[p]
        last = joint[u, u]
        for p in range(_BLOCK):
            last[p] += here[p]
    for u in range(U):
        for p in range(_BLOCK):
            walk[u, p] += joint[u, u, p]


@njit(**_options)
def _write(top, total, energy, log_norm, mean_energy, start, size):
    for p in range(size):
        log_norm[start + p] = np.float64(top[p]) + np.log(np.float64(total[p]))
        mean_energy[start + p] = np.float64(energy[p]) / np.float64(total[p])


@njit(**_options)
def _marginalize(single, walk, candidates, total, marginals, start, size):
    """Normalize; the candidates' marginals include the states of the table."""
    V = single.shape[0]
    for p in range(size):
        total[p] = 1 / total[p]
    for i in range(candidates.shape[0]):
        for k in range(V):
            for p in range(size):
                single[k, candidates[i, start + p], p] += walk[i * V + k, p]
    for k in range(V):
        for h in range(single.shape[1]):
            for p in range(size):
                marginals[k, h, start + p] = single[k, h, p] * total[p]


@njit(**_options)
def _scatter(joint, candidates, products, total, pairs, start, size):
    """Add E[s_h s_h'] of each point to one triangle of `pairs`."""
    V = products.shape[0]
    for i in range(candidates.shape[0]):
        for j in range(i):
            for p in range(size):
                x = joint.dtype.type(0)
                for k in range(V):
                    for m in range(V):
                        x += products[k, m] * joint[i * V + k, j * V + m, p]
                pairs[candidates[i, start + p], candidates[j, start + p]] += np.float64(
                    x * total[p]
                )
