"""Truncated posteriors of models whose causes combine by a maximum, on the CPU.

The states of a point are walked depth first: a stack with one row per active cause holds the
superpositions, so that a state costs one pass over the features. Twin of ``_max_cupy``.
"""

import numpy as np
from numba import njit

from ._fast_exp import exp_of_negative
from ._superpositions import (
    LARGEST,
    SOFT,
    add_multiple,
    add_share,
    fit_of,
    largest_and_fit,
    noise_free,
    ratio_of,
    superpose,
)

_NEGLIGIBLE = 1e-14  # states whose weight is below this part of the largest are left out of sums
_FEW = 4  # points side by side in the selection
_options = {"cache": True, "fastmath": {"contract"}, "error_model": "numpy"}
# Sums in any order, or they would not be vectorized; rows and weights are finite numbers.
_sums = {**_options, "fastmath": {"contract", "reassoc", "nnan", "nsz"}}


def excess_scores(Y, W):
    """Score causes by how far they exceed the data, -sum_d max(W_hd - y_d, 0).

    Parameters
    ----------
    Y : array of shape (n, D)
        Rows; a very large number stands for an entry that was not observed.
    W : array of shape (H, D)

    Returns
    -------
    scores : array of shape (n, H)
    """
    scores = np.empty((len(Y), len(W)), dtype=Y.dtype)
    _excess(Y, W, scores)
    return scores


def truncated_posterior(problem, singles, candidates, table, *, num=None, den=None, mean=None):
    """Posterior over the null state, all singletons, and the states of the table.

    Parameters
    ----------
    problem : MaxProblem
    singles : array of shape (n, H)
        Energies of the singletons, relative to the null state.
    candidates : int32 array of shape (n_candidates, n)
    table : StateTable
    num, den : float64 array of shape (H, D), default=None
        The sums over points and states of the table of q(s) A_dh y_d and q(s) A_dh are added to
        them, where A_dh is the share of cause h in feature d.
    mean : array of shape (n, D), default=None
        The sums over the states of the table of q(s) times the superposition are written to it.

    Returns
    -------
    log_norm, mean_energy : float64 array of shape (n,)
    alone : array of shape (n, H)
        Probabilities of the singletons.
    marginals : array of shape (n, H)
    """
    n, dtype = len(singles), singles.dtype
    log_norm, mean_energy = np.empty(n), np.empty(n)
    alone, marginals = np.empty(singles.shape, dtype), np.empty(singles.shape, dtype)
    num, den = (np.empty((0, 0)) if A is None else A for A in (num, den))
    mean = np.empty((0, 0), problem.data.dtype) if mean is None else mean
    _posterior(
        problem, singles, candidates, *depth_first(table), num, den, mean,
        log_norm, mean_energy, alone, marginals,
    )  # fmt: skip
    return log_norm, mean_energy, alone, marginals


def state_energies(problem, singles, candidates, table):
    """Energies (1 + H + S, n) of the null state, the singletons and the states of the table."""
    (n, H), S = singles.shape, len(table.length)
    first, slot, length, order = depth_first(table)
    found = np.empty((n, S), dtype=singles.dtype)
    _energies(problem, candidates, first, slot, length, found)
    energies = np.zeros((1 + H + S, n), dtype=singles.dtype)
    energies[1 : 1 + H], energies[1 + H + order] = singles.T, found.T
    return energies


def listed_shares(problem, states, rows, energies, *, num=None, den=None, mean=None):
    """Sums over listed states, as `search_states` leaves them; see `truncated_posterior`.

    Singletons are among the states listed.
    """
    num, den = (np.empty((0, 0)) if A is None else A for A in (num, den))
    mean = np.empty((0, 0), problem.data.dtype) if mean is None else mean
    _listed(problem, states, rows, energies, num, den, mean)


def depth_first(table):
    """First slot, last slot and length of the states in depth-first order, and the order."""
    order = np.lexsort(table.members[:, ::-1].T)  # padding with -1 puts parents before children
    return tuple(
        np.ascontiguousarray(A) for A in (table.members[order, 0], table.unit[order],
                                          table.length[order], order)
    )  # fmt: skip


# ---------------------------------------------------------------- selection
@njit(nogil=True, **_options)
def _excess(Y, W, scores):
    n = Y.shape[0]
    for start in range(0, n - _FEW + 1, _FEW):
        for h in range(W.shape[0]):
            a, b, c, d = _excess_of_four(W[h], Y[start], Y[start + 1], Y[start + 2], Y[start + 3])
            scores[start, h], scores[start + 1, h] = -a, -b
            scores[start + 2, h], scores[start + 3, h] = -c, -d
    for p in range(n - n % _FEW, n):
        for h in range(W.shape[0]):
            scores[p, h] = -_excess_of_four(W[h], Y[p], Y[p], Y[p], Y[p])[0]


@njit(**_sums)
def _excess_of_four(w, y0, y1, y2, y3):
    zero = w.dtype.type(0)
    a, b, c, d = zero, zero, zero, zero
    for i in range(len(w)):
        x = w[i]
        e0, e1, e2, e3 = x - y0[i], x - y1[i], x - y2[i], x - y3[i]
        a += e0 if e0 > zero else zero
        b += e1 if e1 > zero else zero
        c += e2 if e2 > zero else zero
        d += e3 if e3 > zero else zero
    return a, b, c, d


# ---------------------------------------------------------------- posterior
@njit(nogil=True, **_options)
def _energies(problem, candidates, first, slot, length, found):
    D, dtype = problem.rows.shape[1], problem.rows.dtype
    stack, bar = np.empty((candidates.shape[0] + 1, D), dtype), np.empty(D, dtype)
    who, energy = np.empty(candidates.shape[0], np.int64), np.empty(len(slot))
    for p in range(candidates.shape[1]):
        who[:] = candidates[:, p]
        _walk(problem, p, who, first, slot, length, stack, bar, energy)
        found[p] = energy


@njit(nogil=True, **_options)
def _posterior(
    problem, singles, candidates, first, slot, length, order, num, den, mean,
    log_norm, mean_energy, alone, marginals,
):  # fmt: skip
    (C, n), S, H, D = candidates.shape, len(slot), singles.shape[1], problem.rows.shape[1]
    dtype = problem.rows.dtype
    stack, bar, share = np.empty((C + 1, D), dtype), np.empty(D, dtype), np.zeros((C, D), dtype)
    who, path, used = np.empty(C, np.int64), np.empty(C, np.int64), np.zeros(C, np.bool_)
    above, wanted = _parents(length), np.empty(S, np.bool_)
    energy, weight = np.empty(H + S), np.empty(H + S)
    gathers, averages = len(num) > 0, len(mean) > 0
    for p in range(n):
        who[:] = candidates[:, p]
        energy[:H] = singles[p]
        _walk(problem, p, who, first, slot, length, stack, bar, energy[H:])
        log_norm[p], mean_energy[p] = _weigh(energy, weight)
        for h in range(H):
            alone[p, h] = marginals[p, h] = weight[h]
        _add_marginals(weight[H:], first, slot, length, who, path, marginals[p])
        if averages:
            mean[p] = 0
        if (gathers or averages) and _find_wanted(weight, H, above, wanted):
            _gather(
                problem, who, first, slot, length, weight[H:], wanted, path, stack, bar,
                share, used, mean[p if averages else 0 : p + 1 if averages else 0], gathers,
            )  # fmt: skip
        if gathers:
            _scatter(problem, p, who, used, share, num, den)


@njit(**_options)
def _parents(length):
    """Numbers of the parents, -1 for pairs, of states in depth-first order."""
    above, last = np.full(len(length), -1), np.full(length.max() + 1 if len(length) else 1, -1)
    for s in range(len(length)):
        above[s] = last[length[s] - 1]
        last[length[s]] = s
    return above


@njit(**_options)
def _walk(problem, p, who, first, slot, length, stack, bar, energy):
    """Energies of the states of the table; `stack[g]` is the superposition of g causes."""
    rows, y = problem.rows, problem.data[p]
    half = problem.half[p if len(problem.half) > 1 else 0]
    for s in range(len(slot)):
        g, row = length[s], rows[who[slot[s]]]
        above, here = rows[who[first[s]]] if g == 2 else stack[g - 1], stack[g]
        if problem.kind == LARGEST:
            fit = largest_and_fit(above, row, y, half, here)
        else:
            superpose(problem, above, row, here)
            fit = fit_of(noise_free(problem, here, bar), y, half)
        energy[s] = problem.precision * np.float64(fit) + g * problem.bonus


@njit(**_options)
def _weigh(energy, weight):
    """Probabilities of the states beside the null state; log of the sum, and mean energy."""
    top = 0.0
    for s in range(len(energy)):
        top = energy[s] if energy[s] > top else top
    for s in range(len(energy)):
        weight[s] = exp_of_negative(energy[s] - top)
    total, mean = _sum_and_product(weight, energy)
    total += np.exp(-top)
    for s in range(len(energy)):
        weight[s] /= total
    return top + np.log(total), mean / total


@njit(**_sums)
def _sum_and_product(weight, energy):
    total = product = 0.0
    for s in range(len(weight)):
        total += weight[s]
        product += weight[s] * energy[s]
    return total, product


@njit(**_options)
def _add_marginals(weight, first, slot, length, who, path, marginals):
    for s in range(len(slot)):
        g = length[s]
        path[0] = first[s] if g == 2 else path[0]
        path[g - 1] = slot[s]
        for i in range(g):
            h = who[path[i]]
            marginals[h] += marginals.dtype.type(weight[s])


@njit(**_options)
def _find_wanted(weight, H, above, wanted):
    """Find the states with weight and those on the way to them; whether there are any."""
    limit, found = _NEGLIGIBLE * weight.max(), False
    for s in range(len(above)):
        wanted[s] = weight[H + s] > limit
        if not wanted[s]:
            weight[H + s] = 0
        found |= wanted[s]
    for s in range(len(above) - 1, -1, -1):
        if wanted[s] and above[s] >= 0:
            wanted[above[s]] = True
    return found


@njit(**_options)
def _gather(
    problem, who, first, slot, length, weight, wanted, path, stack, bar, share, used, mean, gathers
):  # fmt: skip
    """Walk the states again: add q A to the rows of `share`, and q times superposition to `mean`.

    `mean` is the row of the point, or has no row.
    """
    rows = problem.rows
    for s in range(len(slot)):
        if not wanted[s]:
            continue
        g, row = length[s], rows[who[slot[s]]]
        path[0] = first[s] if g == 2 else path[0]
        path[g - 1] = slot[s]
        above, here = rows[who[first[s]]] if g == 2 else stack[g - 1], stack[g]
        superpose(problem, above, row, here)
        if weight[s] == 0:
            continue
        q, noiseless = rows.dtype.type(weight[s]), noise_free(problem, here, bar)
        if len(mean):
            add_multiple(q, noiseless, mean[0])
        if gathers:
            if problem.kind == SOFT:
                ratio_of(noiseless, here, bar)
            for i in range(g):
                c = path[i]
                used[c] = True
                add_share(problem, q, who[c], noiseless, share[c])


@njit(**_options)
def _scatter(problem, p, who, used, share, num, den):
    """Add the shares of the causes in a point to the sums, and clear them."""
    for c in range(len(who)):
        if used[c]:
            _add_to_sums(problem, p, who[c], share[c], num, den)
            share[c], used[c] = 0, False


@njit(**_options)
def _add_to_sums(problem, p, h, share, num, den):
    y, half = problem.data[p], problem.half[p if len(problem.half) > 1 else 0]
    above, below = num[h], den[h]
    for d in range(len(share)):
        a = np.float64(share[d])
        above[d] += a * y[d]
        below[d] += 2 * half[d] * a


# ---------------------------------------------------------------- listed states
@njit(nogil=True, **_options)
def _listed(problem, states, rows, energies, num, den, mean):
    D, dtype, n_states = problem.rows.shape[1], problem.rows.dtype, energies.shape[1]
    here, bar, share = np.empty(D, dtype), np.empty(D, dtype), np.empty(D, dtype)
    for p in range(len(rows)):
        kept, top, total = states[rows[p]], energies[p].max(), 0.0
        for s in range(n_states):
            total += np.exp(energies[p, s] - top)
        if len(mean):
            mean[p] = 0
        for s in range(n_states):
            q = np.exp(energies[p, s] - top) / total
            n = _listed_superposition(problem, kept[s], here) if q > _NEGLIGIBLE else 0
            if n == 0:
                continue
            noiseless = noise_free(problem, here, bar)
            if len(mean):
                add_multiple(dtype.type(q), noiseless, mean[p])
            if problem.kind == SOFT:
                ratio_of(noiseless, here, bar)
            for i in range(n if len(num) else 0):
                share[:] = 0
                add_share(problem, dtype.type(q), np.int64(kept[s, i]), noiseless, share)
                _add_to_sums(problem, p, np.int64(kept[s, i]), share, num, den)


@njit(**_options)
def _listed_superposition(problem, units, here):
    """Superposition of a list of units; returns their number."""
    largest, n = np.iinfo(units.dtype).max, 0
    while n < len(units) and units[n] < largest - 1:
        row = problem.rows[np.int64(units[n])]
        if n == 0:
            here[:] = row
        else:
            superpose(problem, here, row, here)
        n += 1
    return n
