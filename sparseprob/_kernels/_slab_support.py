"""Posterior of the active latents of one state of a spike-and-slab model, slabs correlated or not.

With prior means rho and covariance R, projections b and couplings A, the posterior covariance
V = (A + R^-1)^-1 is a corner of the inverse of a quasi-definite matrix that grows with the state::

    [[A, I], [I, -R]]^-1 = [[V, F], [F', -E]],  F = V R^-1,  E = R^-1 - R^-1 V R^-1

so a latent more costs O(n^2), and R is never inverted. The same matrix maps (b - A rho, 0) to
delta = E[z] - rho and x = R^-1 delta.
"""

import numpy as np
from numba import njit

_options = {"cache": True, "error_model": "numpy"}


@njit(**_options)
def new_support(capacity):
    """Return memory for V, F, E; for delta, x; and for what one latent more brings."""
    return (
        np.empty((3, capacity, capacity)),
        np.empty((2, capacity)),
        np.empty((4, capacity)),
        np.empty(6),
    )


@njit(**_options)
def added_gain(latents, n, h, problem, p, support):
    """Energy that latent h brings to the state of n latents that `support` describes."""
    inverse, mean, work, new = support
    V, F, E = inverse
    u, f, g, e = work
    A, R, rho = problem.coupling, problem.correlation, problem.ratio[h]
    u[:n], f[:n], g[:n], e[:n] = 0, 0, 0, 0
    for i in range(n):
        a, r = A[h, latents[i]], R[h, latents[i]]
        for k in range(n):
            u[k] += V[k, i] * a
            f[k] += F[i, k] * a
            g[k] += F[k, i] * r
            e[k] += E[k, i] * r
    left, cross, rest, residual, pull = A[h, h], 1.0, R[h, h], problem.projections[h, p], 0.0
    for k in range(n):
        a, r = A[h, latents[k]], R[h, latents[k]]
        left -= a * u[k]
        cross += a * g[k]
        rest -= r * e[k]
        residual -= a * (problem.ratio[latents[k]] + mean[0, k])
        pull += r * (mean[1, k] - rho * f[k])
    scale = left * rest + cross * cross
    first = residual - rho * left
    new[0] = (rest * first + cross * pull) / scale
    new[1] = (cross * first - left * pull) / scale
    new[2], new[3], new[4], new[5] = rest / scale, cross / scale, left / scale, rho
    gain = rho * residual - 0.5 * rho * rho * left + 0.5 * (first * new[0] + pull * new[1])
    return problem.log_odds[h] + gain - 0.5 * np.log(scale)


@njit(**_options)
def extend_support(n, support):
    """Take in the latent that `added_gain` was last asked about, as number n."""
    inverse, mean, work, new = support
    V, F, E = inverse
    u, f, g, e = work
    t1, t2, t11, t12, t22, rho = new
    for k in range(n):
        mean[0, k] -= u[k] * (rho + t1) - g[k] * t2
        mean[1, k] -= f[k] * (rho + t1) + e[k] * t2
        u1, u2 = u[k] * t11 - g[k] * t12, u[k] * t12 + g[k] * t22  # rows of U T
        f1, f2 = f[k] * t11 + e[k] * t12, f[k] * t12 - e[k] * t22
        for i in range(n):
            V[k, i] += u1 * u[i] - u2 * g[i]
            F[k, i] += u1 * f[i] + u2 * e[i]
            E[k, i] -= f1 * f[i] + f2 * e[i]
        V[k, n] = V[n, k] = -u1
        F[k, n], F[n, k] = -u2, -f1
        E[k, n] = E[n, k] = f2
    mean[0, n], mean[1, n] = t1, t2
    V[n, n], F[n, n], E[n, n] = t11, t12, t22


@njit(**_options)
def fill_support(units, n, problem, p, support):
    """Describe the state of n latents; returns its energy relative to the null state."""
    energy = 0.0
    for i in range(n):
        energy += added_gain(units, i, units[i], problem, p, support)
        extend_support(i, support)
    return energy


def listed_posterior(states, places, energies, problem, dtype, *, moments=None, pulls=None):
    """Posterior over listed states.

    Parameters
    ----------
    states, places, energies
        As for `search_states` of ``_state_search_numba``.
    problem : SlabProblem
    dtype : numpy.dtype
        Of the marginals and codes.
    moments : float64 array of shape (H, H), default=None
        The sums over points of E[s_h z_h s_h' z_h'] are added to it.
    pulls : float64 array of shape (H + 1, H), default=None
        The sums over points and states of x x' - E, and of x in the last row, are added to it.

    Returns
    -------
    log_norm, mean_gain : float64 array of shape (n,)
    marginals, codes : array of shape (H, n)
        As of ``_slab_numba.truncated_posterior``.
    """
    H, n = len(problem.ratio), len(places)
    marginals, codes = np.zeros((2, H, n), dtype=dtype)
    log_norm, mean_gain = np.empty(n), np.empty(n)
    second = np.zeros((H, H)) if moments is None else moments
    third = np.zeros((0, H)) if pulls is None else pulls
    _listed(states, places, energies, problem, log_norm, mean_gain, marginals, codes, second, third)
    return log_norm, mean_gain, marginals, codes


@njit(nogil=True, **_options)
def _listed(
    states, places, energies, problem, log_norm, mean_gain, marginals, codes, second, pulls
):  # fmt: skip
    largest, width = np.iinfo(states.dtype).max, states.shape[2]
    support, latents = new_support(width), np.empty(width, np.int64)
    for p in range(len(places)):
        top, kept, total, gain = energies[p].max(), states[places[p]], 0.0, 0.0
        for s in range(energies.shape[1]):
            total += np.exp(energies[p, s] - top)
        for s in range(energies.shape[1]):
            w, n = np.exp(energies[p, s] - top) / total, 0
            while w > 0 and n < width and kept[s, n] < largest - 1:
                latents[n] = np.int64(kept[s, n])
                n += 1
            fill_support(latents, n, problem, p, support)
            gain += w * _add_state(latents, n, w, problem, p, support, marginals, codes, second)
            if len(pulls):
                _add_pulls(latents, n, w, support, pulls)
        log_norm[p], mean_gain[p] = top + np.log(total), gain


@njit(**_options)
def _add_state(latents, n, w, problem, p, support, marginals, codes, second):
    """Add the moments of a state with weight w; returns its mean log-likelihood gain."""
    V, delta, gain = support[0][0], support[1][0], 0.0
    for i in range(n):
        h = latents[i]
        m = problem.ratio[h] + delta[i]
        marginals[h, p] += w
        codes[h, p] += w * m
        gain += m * problem.projections[h, p]
        for j in range(n):
            g = latents[j]
            x = V[i, j] + m * (problem.ratio[g] + delta[j])
            second[h, g] += w * x
            gain -= 0.5 * problem.coupling[h, g] * x
    return gain


@njit(**_options)
def _add_pulls(latents, n, w, support, pulls):
    E, x, H = support[0][2], support[1][1], pulls.shape[1]
    for i in range(n):
        pulls[H, latents[i]] += w * x[i]
        for j in range(n):
            pulls[latents[i], latents[j]] += w * (x[i] * x[j] - E[i, j])
