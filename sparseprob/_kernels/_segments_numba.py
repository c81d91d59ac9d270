"""Codes with a few atoms from every segment of a dictionary, on the CPU."""

from numba import njit, prange

_options = {"cache": True, "error_model": "numpy"}
_SHARED = 2**20  # multiplications that are worth waking the threads for


def update_segment_codes(G, B, indices, values, n_per_segment):
    """One pass of coordinate descent over the positions of every code, in place.

    Each position takes the atom of its segment, and the coefficient, that lower the squared error
    of the row most while the other positions stay.

    Parameters
    ----------
    G : C-contiguous array of shape (k, k)
        Gram matrix of the atoms.
    B : C-contiguous array of shape (n, k)
        Products of rows and atoms; holds those of the residuals afterwards.
    indices : C-contiguous int32 array of shape (n, s)
        Position p chooses among the atoms of segment p // n_per_segment.
    values : C-contiguous array of shape (n, s)
    n_per_segment : int
        Atoms of a segment that a row uses, all different.
    """
    update = _update_in_parallel if B.size * indices.shape[1] > _SHARED else _update
    update(G, B, indices, values, n_per_segment)


@njit(parallel=True, **_options)
def _update_in_parallel(G, B, indices, values, n_per_segment):
    for i in prange(len(B)):
        _update_row(G, B[i], indices[i], values[i], n_per_segment)


@njit(**_options)
def _update(G, B, indices, values, n_per_segment):
    for i in range(len(B)):
        _update_row(G, B[i], indices[i], values[i], n_per_segment)


@njit(**_options)
def _update_row(G, c, atoms, x, n_per_segment):
    """Update the code of one row; c are the products with the row, and then with its residual."""
    s = len(atoms)
    size = len(G) * n_per_segment // s
    for p in range(s):
        for a in range(len(c)):
            c[a] -= G[atoms[p], a] * x[p]
    for p in range(s):
        first = p // n_per_segment * n_per_segment
        start = first // n_per_segment * size
        best = _best_atom(G, c, atoms, x[p], p, first, first + n_per_segment, start, size)
        old, x_old = atoms[p], x[p]
        square = G[best, best]
        found = (c[best] + G[old, best] * x_old) / square if square > 0 else c[best] * 0
        for a in range(len(c)):
            c[a] += G[old, a] * x_old - G[best, a] * found
        atoms[p], x[p] = best, found


@njit(inline="always")
def _best_atom(G, c, atoms, x, p, first, last, start, size):
    """Return the atom of the segment that helps most; that of position p among equals."""
    old = atoms[p]
    best, gain = old, _gain(c[old] + G[old, old] * x, G[old, old])
    for a in range(start, start + size):
        found = _gain(c[a] + G[old, a] * x, G[a, a])
        if found > gain and not _is_taken(atoms, a, first, last):
            best, gain = a, found
    return best


@njit(inline="always")
def _gain(product, square):
    return product * product / square if square > 0 else product * 0


@njit(inline="always")
def _is_taken(atoms, a, first, last):
    for q in range(first, last):
        if atoms[q] == a:
            return True
    return False
