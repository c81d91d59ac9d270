"""The pool of states of one point: what is kept, what is better, what follows from it.

A state is a sorted list of units ``h * V + k``: latent h takes its k-th non-zero value.
"""

import numpy as np
from numba import njit

from ._state_problems import energy_of

_options = {"cache": True, "error_model": "numpy"}


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
def uniform(random):
    random[0] += np.uint64(0x9E3779B97F4A7C15)
    return (_mix(random[0]) >> np.uint64(11)) * 2.0**-53


@njit(**_options)
def below(random, n):
    return min(int(uniform(random) * n), n - 1)


@njit(**_options)
def load_states(kept, c, problem, p, pool, size, energy, tags):
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
        energy[s] = energy_of(pool[s], n, c, problem, p)
        count += 1
    return count


@njit(**_options)
def store_states(pool, size, count, kept):
    largest = np.iinfo(kept.dtype).max
    kept[:] = largest
    for s in range(count):
        for i in range(size[s]):
            kept[s, i] = pool[s, i]
    for s in range(count, kept.shape[0]):
        kept[s, 0] = largest - 1


@njit(**_options)
def worst_of(energy, count):
    """Number of the worst state but the null state, which stays."""
    worst = 1
    for s in range(2, count):
        if energy[s] < energy[worst]:
            worst = s
    return worst


@njit(**_options)
def offer_state(units, n, value, pool, size, energy, tags, count):
    """Take a state into the pool if it is new and better than the worst; returns the new number."""
    full = count == len(energy)
    if n > pool.shape[1] or n == 0 or (full and count < 2):
        return count
    place = worst_of(energy, count) if full else count
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
def log_norm_and_mean(energy, count):
    """Log of the sum of exp(energy), and the mean energy."""
    top = energy[:count].max()
    total = mean = 0.0
    for s in range(count):
        w = np.exp(energy[s] - top)
        total += w
        mean += w * energy[s]
    return top + np.log(total), mean / total


@njit(**_options)
def marginals_of(pool, size, energy, count, log_norm, q):
    q[:] = 0
    for s in range(count):
        w = np.exp(energy[s] - log_norm)
        for i in range(size[s]):
            q[pool[s, i]] += w
