"""Random matrices whose rows follow from hashes of keys, and weighted MinHash, on the CPU."""

import math

import numpy as np
from numba import njit

from ._sketch_numba import mix, unit

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_1, _6 = np.uint64(1), np.uint64(6)
_TWO_PI = 2 * math.pi

_options = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**_options)
def normal_rows(hashes, first, out):
    """Write standard normal numbers; column `first + j` of a row depends on hash and number only.

    `first` and the number of columns are even: numbers come in pairs (G. Box, M. Muller, 1958).
    """
    for i in range(out.shape[0]):
        for j in range(0, out.shape[1], 2):
            state = hashes[i] + np.uint64(first + j) * _GOLDEN
            radius = math.sqrt(-2.0 * math.log(unit(mix(state + _GOLDEN))))
            angle = _TWO_PI * unit(mix(state + _GOLDEN + _GOLDEN))
            out[i, j], out[i, j + 1] = radius * math.cos(angle), radius * math.sin(angle)


@njit(**_options)
def sign_rows(hashes, first, out):
    """Write signs of equal odds; column `first + j` of a row depends on hash and number only."""
    for i in range(out.shape[0]):
        word, current = np.uint64(0), np.int64(-1)
        for j in range(out.shape[1]):
            column = first + j
            if column >> 6 != current:
                current = column >> 6
                word = mix(hashes[i] + np.uint64(current + 1) * _GOLDEN)
            out[i, j] = 1.0 if (word >> np.uint64(column & 63)) & _1 else -1.0


@njit(**_options)
def weighted_minima(hashes, counts, first, minima, winners):
    """For each hash function, find the least hash among `counts[j]` copies of every key.

    Parameters
    ----------
    hashes : uint64 array of shape (n,)
    counts : float64 array of shape (n,)
    first : int
        Number of the first hash function.
    minima : float64 array of shape (k,)
        Receives the least hashes.
    winners : int64 array of shape (k,)
        Receives the keys that attained them.
    """
    for t in range(minima.shape[0]):
        function = mix(np.uint64(first + t) * _GOLDEN + _GOLDEN)
        least, winner = 2.0, -1
        for j in range(hashes.shape[0]):
            h = _least_copy(mix(hashes[j] ^ function), counts[j])
            if h < least:
                least, winner = h, j
        minima[t], winners[t] = least, winner


@njit(inline="always")
def _least_copy(state, count):
    """Least of `count` uniform numbers: only those are drawn that are less than all before."""
    state += _GOLDEN
    h, copy = unit(mix(state)), 1.0
    while True:
        state += _GOLDEN
        copy += 1.0 + math.floor(math.log(unit(mix(state))) / math.log1p(-h))
        if not copy <= count:
            return h
        state += _GOLDEN
        h *= unit(mix(state))
