"""Dictionaries of sparse posteriors: random draws by leverage, and the embeddings they span.

Draws and embedding follow Calandriello, Carratino, Lazaric, Valko & Rosasco (2019, 2020).
"""

import numpy as np

from .._arrays import compute_namespace

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)


def philox(counters, key, n_rounds=10):
    """Return the four random words of 32 bits of each counter (Salmon et al., 2011: Philox4x32).

    Parameters
    ----------
    counters : uint64 array of shape (4, n)
        Words of 32 bits.
    key : pair of int
        Words of 32 bits.
    n_rounds : int, default=10

    Returns
    -------
    words : uint64 array of shape (4, n)
    """
    a, b, c, d = (np.asarray(row, dtype=np.uint64) for row in counters)
    for n_round in range(n_rounds):
        k0, k1 = (
            np.uint64((k + n_round * w) & 0xFFFFFFFF) for k, w in zip(key, _WEYL, strict=True)
        )
        p, q = a * np.uint64(_MULTIPLIERS[0]), c * np.uint64(_MULTIPLIERS[1])
        a, b, c, d = (q >> _WORD) ^ b ^ k0, q & _LOW, (p >> _WORD) ^ d ^ k1, p & _LOW
    return np.array([a, b, c, d])


def uniform_by_number(numbers, seed, build):
    """Uniform numbers in [0, 1) that depend on a number, a seed and a build only.

    So a draw is the same whatever the order of the candidates and however ranks share them out.
    """
    numbers = np.asarray(numbers, dtype=np.uint64)
    zero = np.zeros_like(numbers)
    words = philox(np.array([numbers & _LOW, numbers >> _WORD, zero, zero]), (seed, build))
    return ((words[0] >> np.uint64(5)) * 2.0**26 + (words[1] >> np.uint64(6))) * 2.0**-53


def draw(numbers, counts, leverages, qbar, seed, build):
    """Draw a dictionary from evaluated candidates; each is kept with ``min(1, qbar n s)``.

    Parameters
    ----------
    numbers : int array of shape (q,)
        Of the candidates.
    counts, leverages : array of shape (q,)
        Evaluations n and leverages s.
    qbar : float
    seed, build : int
        Say which draw it is.

    Returns
    -------
    kept : bool array of shape (q,)
        At least one: if none was drawn, that of the largest n s.
    fallback : bool
        Whether none was drawn.
    """
    weights = np.asarray(counts) * np.asarray(leverages)
    kept = uniform_by_number(numbers, seed, build) < np.minimum(1.0, qbar * weights)
    fallback = not kept.any()
    if fallback:
        kept[np.argmax(weights)] = True
    return kept, fallback


def embedding(K):
    """Return E (m0, m) with ``k_D(x)' E E' k_D(y)`` near k(x, y), from K (m0, m0).

    Directions whose eigenvalue is rounding, such as those of repeated points, are left out.
    """
    xp = compute_namespace(K)
    values, vectors = xp.linalg.eigh(K)
    keep = values > len(K) * np.finfo(np.float64).eps * values[-1]
    return vectors[:, keep] / xp.sqrt(values[keep])
