"""Truncated posteriors of spike-and-slab models with independent slabs, on the CPU.

Latents are measured in units of their slab's deviation, so that their prior covariance is 1. Each
state extends its parent by one latent: a rank-one update of the posterior covariance (A.-S. Sheikh,
J. A. Shelton, J. Lücke, JMLR 15:2653-2687, 2014). Points are worked on in blocks, side by side.
"""

import numpy as np
from numba import njit

from ._fast_exp import exp_of_negative
from ._linear_discrete_numba import _FEW, _insert, _weigh_row

_BLOCK = 64  # points side by side
_options = {"cache": True, "fastmath": {"contract"}, "error_model": "numpy"}


def select_candidates(B, select, n_candidates):
    """Preselect the latents whose scores, quadratic functions of B, are largest.

    Parameters
    ----------
    B : array of shape (H, n)
        Projections of n points on H atoms.
    select : array of shape (3, H)
        The score of a latent is ``select[0] + select[1] B + select[2] B^2``; may be -inf.
    n_candidates : int

    Returns
    -------
    candidates : int32 array of shape (n_candidates, n)
        Best first; of equal scores the lower index first.
    """
    candidates = np.empty((n_candidates, B.shape[1]), dtype=np.int32)
    _select(np.ascontiguousarray(B), select, candidates)
    return candidates


def truncated_posterior(B, candidates, ratio, bias, coupling, table, *, moments=None):
    """Posterior over the null state, all singletons, and the states of the table.

    A state a has prior log-odds sum(bias[a]); its latents z_a are Gaussian with means ratio[a] and
    variances 1; the log-likelihood relative to the null state is z_a B[a] - z_a coupling[a, a] z_a
    / 2.

    Parameters
    ----------
    B : array of shape (H, n)
        Projections, float32 or float64, which is the type computed in.
    candidates : int32 array of shape (n_candidates, n)
        Preselected latents of each point.
    ratio, bias : array of shape (H,)
    coupling : array of shape (H, H)
    table : StateTable
        States of two or more active candidates.
    moments : float64 array of shape (H, H), default=None
        The sums over points of E[s_h z_h s_h' z_h'] are added to it.

    Returns
    -------
    log_norm : float64 array of shape (n,)
        Log of the summed joint, relative to the null state.
    mean_gain : float64 array of shape (n,)
        Mean of the log-likelihood relative to the null state.
    marginals, codes : array of shape (H, n)
        Probability that a latent is active, and E[s_h z_h].
    """
    (H, n), dtype = B.shape, B.dtype
    marginals, codes = np.empty((2, H, n), dtype=dtype)
    log_norm, mean_gain = np.empty(n), np.empty(n)
    half = np.zeros((H, H))
    variance = 1 / (1 + np.diag(coupling)).astype(dtype)
    order = np.lexsort(table.members.T[::-1])  # each state right before those that it begins
    _posterior(
        np.ascontiguousarray(B), candidates, ratio, bias, coupling, variance,
        table.parent, table.members, table.length, order,
        log_norm, mean_gain, marginals, codes, half,
    )  # fmt: skip
    if moments is not None:
        moments += half + np.tril(half, -1).T + np.triu(half, 1).T
    return log_norm, mean_gain, marginals, codes


@njit(nogil=True, **_options)
def _select(B, select, candidates):
    best = np.empty((candidates.shape[0], _FEW), dtype=B.dtype)
    label = np.empty((candidates.shape[0], _FEW), dtype=B.dtype)
    score, lowest = np.empty(_FEW, dtype=B.dtype), B.dtype.type(-3e38)
    for start in range(0, B.shape[1], _FEW):
        size = min(_FEW, B.shape[1] - start)
        best[:] = -np.inf
        for h in range(B.shape[0]):
            c0, c1, c2 = select[0, h], select[1, h], select[2, h]
            for p in range(size):
                b = B[h, start + p]
                score[p] = max(c0 + (c1 + c2 * b) * b, lowest)
            _insert(best, label, score, B.dtype.type(h))
        for c in range(candidates.shape[0]):
            for p in range(size):
                candidates[c, start + p] = np.int32(label[c, p])


@njit(nogil=True, **_options)
def _posterior(
    B, candidates, ratio, bias, coupling, variance, parent, members, length, order,
    log_norm, mean_gain, marginals, codes, half,
):  # fmt: skip
    dtype, (C, n), H = B.dtype, candidates.shape, B.shape[0]
    S, width = members.shape
    single, energy = np.empty((H, _BLOCK), dtype), np.empty((S, _BLOCK), dtype)
    alone, joint = np.empty((3, C, _BLOCK), dtype), np.empty((C, C, _BLOCK), dtype)
    stack = (
        np.zeros((width + 1, width * (width + 1) // 2, _BLOCK), dtype),  # posterior covariances
        np.zeros((width + 1, width, _BLOCK), dtype),  # posterior means
        np.zeros((width + 1, _BLOCK), dtype),  # energies
        np.zeros((width + 4, _BLOCK), dtype),  # what the new latent brings
    )
    sums = np.empty((2, C, _BLOCK), dtype), np.empty((C, C, _BLOCK), dtype)
    top, total, gain = np.empty(_BLOCK, dtype), np.empty(_BLOCK, dtype), np.empty(_BLOCK, dtype)
    live, needed = np.empty(S, np.bool_), np.empty(S, np.bool_)
    for start in range(0, n, _BLOCK):
        size = min(_BLOCK, n - start)
        _singles(B, ratio, bias, coupling, variance, start, size, single, top)
        _gather(B, candidates, ratio, bias, coupling, start, size, alone, joint)
        _multiples(members, length, order, alone, joint, stack, energy, top)
        _weigh(single, energy, top, total, gain, live)
        _mark(parent, live, needed, C)
        sums[0][:], sums[1][:] = 0, 0
        _collect(members, length, order, alone, joint, stack, energy, live, needed, sums)
        for p in range(size):
            log_norm[start + p] = np.float64(top[p]) + np.log(np.float64(total[p]))
            total[p] = 1 / total[p]
        _single_moments(
            B, ratio, coupling, variance, single, total, start, size, gain, marginals, codes, half
        )
        _table_moments(
            candidates, alone, joint, sums, total, start, size, gain, marginals, codes, half
        )
        for p in range(size):
            mean_gain[start + p] = gain[p]


@njit(**_options)
def _singles(B, ratio, bias, coupling, variance, start, size, single, top):
    """Energies of all singletons and their maximum with the null state."""
    half = B.dtype.type(0.5)
    top[:] = 0
    for h in range(B.shape[0]):
        r, v = ratio[h], variance[h]
        constant = bias[h] - half * r * r * coupling[h, h] * v + half * np.log(v)
        for p in range(size):
            b = B[h, start + p]
            single[h, p] = constant + (half * b + r) * b * v
        for p in range(size, _BLOCK):
            single[h, p] = 0
        for p in range(_BLOCK):
            top[p] = max(top[p], single[h, p])


@njit(**_options)
def _gather(B, candidates, ratio, bias, coupling, start, size, alone, joint):
    """Projections, prior means and log-odds of the candidates, and their couplings."""
    for i in range(candidates.shape[0]):
        for p in range(size):
            h = candidates[i, start + p]
            alone[0, i, p], alone[1, i, p], alone[2, i, p] = B[h, start + p], ratio[h], bias[h]
            for j in range(i + 1):
                joint[i, j, p] = coupling[h, candidates[j, start + p]]
        for p in range(size, _BLOCK):
            alone[0, i, p] = alone[1, i, p] = alone[2, i, p] = 0
            for j in range(i + 1):
                joint[i, j, p] = 0


# ---------------------------------------------------------------- states of the table
@njit(**_options)
def _multiples(members, length, order, alone, joint, stack, energy, top):
    """Energies of the states of the table, depth first."""
    first = -1
    for s in order:
        slots, n = members[s], length[s]
        if slots[0] != first:
            first = slots[0]
            _add(slots, 0, alone, joint, stack)
            _gain(slots, 0, alone, stack)
            _extend(0, stack)
        _add(slots, n - 1, alone, joint, stack)
        _gain(slots, n - 1, alone, stack)
        if n < len(slots):
            _extend(n - 1, stack)
        here = stack[2][n]
        for p in range(_BLOCK):
            energy[s, p] = here[p]
            top[p] = max(top[p], here[p])


@njit(**_options)
def _add(slots, n, alone, joint, stack):
    """Compute what the latent slots[n] brings to the state of the n before.

    Rows of stack[3]: its residual projection v, its mean, 1 / (1 + a) for its residual coupling a,
    a itself, and V p for the covariance V of the state and its couplings p to the latent.
    """
    covariance, mean, new, j = stack[0][n], stack[1][n], stack[3], slots[n]
    residual, left = new[0], new[3]
    for p in range(_BLOCK):
        residual[p], left[p] = alone[0, j, p], joint[j, j, p]
    for k in range(n):
        u, coupled = new[4 + k], joint[j, slots[k]]
        for p in range(_BLOCK):
            u[p] = covariance[_place(k, 0), p] * joint[j, slots[0], p]
        for m in range(1, n):
            v, other = covariance[_place(k, m)], joint[j, slots[m]]
            for p in range(_BLOCK):
                u[p] += v[p] * other[p]
        for p in range(_BLOCK):
            residual[p] -= coupled[p] * mean[k, p]
            left[p] -= coupled[p] * u[p]
    one = covariance.dtype.type(1)
    for p in range(_BLOCK):
        new[2, p] = one / (one + left[p])
        new[1, p] = (residual[p] + alone[1, j, p]) * new[2, p]


@njit(**_options)
def _place(i, j):
    return i * (i + 1) // 2 + j if i >= j else j * (j + 1) // 2 + i


@njit(**_options)
def _gain(slots, n, alone, stack):
    """Energy of the state with the latent slots[n], from that of its parent."""
    above, here, new, j = stack[2][n], stack[2][n + 1], stack[3], slots[n]
    half = here.dtype.type(0.5)
    for p in range(_BLOCK):
        here[p] = np.log(new[2, p])
    for p in range(_BLOCK):
        v, r = new[0, p], alone[1, j, p]
        gain = ((half * v + r) * v - half * r * r * new[3, p]) * new[2, p]
        here[p] = above[p] + alone[2, j, p] + half * here[p] + gain


@njit(**_options)
def _extend(n, stack):
    """Mean and covariance of the state with the latent last added."""
    covariance, mean, new = stack[0], stack[1], stack[3]
    for k in range(n):
        u, m, parent_mean = new[4 + k], mean[n + 1, k], mean[n, k]
        for p in range(_BLOCK):
            m[p] = parent_mean[p] - u[p] * new[1, p]
        for i in range(k + 1):
            at, w = _place(k, i), new[4 + i]
            for p in range(_BLOCK):
                covariance[n + 1, at, p] = covariance[n, at, p] + u[p] * w[p] * new[2, p]
        at = _place(n, k)
        for p in range(_BLOCK):
            covariance[n + 1, at, p] = -u[p] * new[2, p]
    at = _place(n, n)
    for p in range(_BLOCK):
        mean[n + 1, n, p], covariance[n + 1, at, p] = new[1, p], new[2, p]


@njit(**_options)
def _weigh(single, energy, top, total, gain, live):
    """Replace energies by weights exp(energy - top), and sum them.

    `live` tells which states of the table have weight for any of the points.
    """
    for p in range(_BLOCK):
        total[p] = exp_of_negative(-top[p])
    for h in range(single.shape[0]):
        _weigh_row(single[h], top, total, gain)
    for s in range(energy.shape[0]):
        live[s] = _weigh_row(energy[s], top, total, gain)
    gain[:] = 0


@njit(**_options)
def _mark(parent, live, needed, n_candidates):
    """Mark the states that are live or begin one that is."""
    for s in range(len(parent)):
        needed[s] = live[s]
    for s in range(len(parent) - 1, -1, -1):
        if needed[s] and parent[s] >= n_candidates:
            needed[parent[s] - n_candidates] = True


@njit(**_options)
def _collect(members, length, order, alone, joint, stack, weight, live, needed, sums):
    """Sum probabilities and first moments (sums[0]), and second moments (sums[1]) of candidates."""
    first = -1
    for s in order:
        if not needed[s]:
            continue
        slots, n = members[s], length[s]
        if slots[0] != first:
            first = slots[0]
            _add(slots, 0, alone, joint, stack)
            _extend(0, stack)
        _add(slots, n - 1, alone, joint, stack)
        _extend(n - 1, stack)
        if not live[s]:
            continue
        covariance, mean, w = stack[0][n], stack[1][n], weight[s]
        for k in range(n):
            active, moment, m = sums[0][0, slots[k]], sums[0][1, slots[k]], mean[k]
            for p in range(_BLOCK):
                active[p] += w[p]
                moment[p] += w[p] * m[p]
            for i in range(k + 1):
                v, other, pair = covariance[_place(k, i)], mean[i], sums[1][slots[k], slots[i]]
                for p in range(_BLOCK):
                    pair[p] += w[p] * (v[p] + m[p] * other[p])


# ---------------------------------------------------------------- results
@njit(**_options)
def _single_moments(
    B, ratio, coupling, variance, single, inverse, start, size, gain, marginals, codes, half
):  # fmt: skip
    """Write probabilities and means of the singletons; add their second moments and gains."""
    halved = B.dtype.type(0.5)
    for h in range(B.shape[0]):
        r, v, a, second = ratio[h], variance[h], coupling[h, h], 0.0
        w = single[h]
        for p in range(size):
            w[p] *= inverse[p]
            b = B[h, start + p]
            m = (b + r) * v
            square = w[p] * (v + m * m)
            marginals[h, start + p] = w[p]
            codes[h, start + p] = w[p] * m
            gain[p] += w[p] * m * b - halved * a * square
            w[p] = square
        for p in range(size):
            second += w[p]
        half[h, h] += second


@njit(**_options)
def _table_moments(
    candidates, alone, joint, sums, inverse, start, size, gain, marginals, codes, half
):  # fmt: skip
    """Add what the states of the table bring."""
    halved = inverse.dtype.type(0.5)
    for i in range(candidates.shape[0]):
        active, moment = sums[0][0, i], sums[0][1, i]
        for p in range(size):
            h = candidates[i, start + p]
            marginals[h, start + p] += active[p] * inverse[p]
            codes[h, start + p] += moment[p] * inverse[p]
            gain[p] += moment[p] * inverse[p] * alone[0, i, p]
        for j in range(i + 1):
            pair, coupled = sums[1][i, j], joint[i, j]
            factor = halved if i == j else inverse.dtype.type(1)
            for p in range(size):
                x = pair[p] * inverse[p]
                gain[p] -= factor * x * coupled[p]
                half[candidates[i, start + p], candidates[j, start + p]] += np.float64(x)
