"""Rows merged with their repetitions, and random numbers that depend on what is in a row."""

import numpy as np

from .._arrays import compute_namespace, to_numpy
from ._dictionary import uniform_by_number

_STEP, _MIX = 0x9E3779B97F4A7C15, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def distinct_rows(A, weights):
    """Merge equal rows, without those of weight 0.

    Parameters
    ----------
    A : float64 array of shape (n, d)
    weights : float64 array of shape (n,)

    Returns
    -------
    first : int array of shape (q,)
        The first row of each group; groups are in the order of what is in them.
    order : int array of shape (p,)
        Rows of positive weight, sorted.
    group : int array of shape (p,)
        The group of each of these.
    """
    xp = compute_namespace(A)
    kept = xp.flatnonzero(weights > 0)
    if not len(kept):
        return kept, kept, kept
    rows = A[kept]
    order = xp.lexsort(xp.concatenate([kept[None].astype(rows.dtype), rows.T]))
    rows = rows[order]
    new = xp.ones(len(rows), dtype=bool)
    new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    order = kept[order]
    return order[new], order, xp.cumsum(new) - 1


def uniform_by_content(A, seed, build):
    """Uniform numbers in [0, 1) of rows A (n, d), on the host, by their values alone.

    So a draw is the same whatever the order of the rows and however ranks share them out.
    """
    bits = (np.ascontiguousarray(to_numpy(A), dtype=np.float64) + 0.0).view(np.uint64)
    number = np.zeros(len(bits), dtype=np.uint64)
    for column in bits.T:
        number = _mixed(number ^ column)
    return uniform_by_number(number, seed, build)


def _mixed(x):
    """Scramble 64 bits, as SplitMix64 does (Steele, Lea & Flood, 2014)."""
    x = x + np.uint64(_STEP)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX[0])
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX[1])
    return x ^ (x >> np.uint64(31))
