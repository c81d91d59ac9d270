"""Rows of an exact posterior on many candidates: sums of rows, candidate by candidate."""

from numba import njit, prange

_CHUNK = 1024  # candidates whose sums stay in the nearest cache
_SHARED = 2**22  # multiplications that are shared out to threads


def add_rows(R, weights, out):
    """Add the first rows of R (q, n), weighted, to out (n,) in place.

    Every sum is over rows in their order, whatever the number of candidates and threads: the bits
    do not depend on how candidates are shared out.
    """
    if len(weights) * len(out) < _SHARED:
        _add_rows(R, weights, out)
    else:
        _add_rows_by_threads(R, weights, out)


@njit(cache=True)
def _add_rows(R, weights, out):
    for start in range(0, len(out), _CHUNK):
        _add_to_chunk(R, weights, out, start, min(start + _CHUNK, len(out)))


@njit(cache=True, parallel=True)
def _add_rows_by_threads(R, weights, out):
    for c in prange((len(out) + _CHUNK - 1) // _CHUNK):
        _add_to_chunk(R, weights, out, c * _CHUNK, min((c + 1) * _CHUNK, len(out)))


@njit(cache=True)
def _add_to_chunk(R, weights, out, start, stop):
    o, q = out[start:stop], len(weights)
    fours = q - q % 4
    for b in range(0, fours, 4):
        w0, w1, w2, w3 = weights[b], weights[b + 1], weights[b + 2], weights[b + 3]
        r0, r1 = R[b, start:stop], R[b + 1, start:stop]
        r2, r3 = R[b + 2, start:stop], R[b + 3, start:stop]
        for i in range(len(o)):
            o[i] = (((o[i] + w0 * r0[i]) + w1 * r1[i]) + w2 * r2[i]) + w3 * r3[i]
    for b in range(fours, q):
        weight, r = weights[b], R[b, start:stop]
        for i in range(len(o)):
            o[i] += weight * r[i]
