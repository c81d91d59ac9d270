"""Atoms that K-SVD begins with, and rows that take the place of atoms without users."""

import numpy as np

from .. import mpi
from .._arrays import compute_namespace, row_chunks, to_numpy

_NOISE = 1e-6  # relative, of rows that are taken again


def random_rows(rows, squares, n_atoms, rng):
    """Return different rows of all ranks, of unit length; rows of zeros are not taken.

    Parameters
    ----------
    rows : array of shape (n, d)
        The rows of this rank.
    squares : float64 array of shape (n,)
        Their squared lengths, on the host.
    n_atoms : int
        If there are fewer rows, some are taken again with a little noise.
    rng : numpy.random.Generator
        The same on every rank.
    """
    usable = np.flatnonzero(squares > np.finfo(np.float64).tiny)
    counts = mpi.all_gather(len(usable))
    n, before = sum(counts), sum(counts[: mpi.rank()])
    if n == 0:
        raise ValueError("X has only zeros; there is nothing to represent.")
    chosen = rng.choice(n, size=min(n, n_atoms), replace=False) - before
    atoms = np.zeros((len(chosen), rows.shape[1]))
    with mpi.errors_together():
        for i in np.flatnonzero((chosen >= 0) & (chosen < len(usable))):
            row = int(usable[chosen[i]])
            atoms[i] = to_numpy(rows[row : row + 1])[0]
    return completed(normalized(mpi.row_sum(atoms)), n_atoms, rng)


def leading_directions(rows, n_directions, batch_size):
    """Return leading right singular vectors of the rows of all ranks, of shape (n_directions, d).

    On the host.
    """
    xp, d = compute_namespace(rows), rows.shape[1]
    gram = xp.zeros((d, d))
    with mpi.errors_together():
        for _, Y in row_chunks(rows, batch_size, np.float64):
            gram += Y.T @ Y
    gram = mpi.row_sum(gram)
    vectors = to_numpy(xp.linalg.eigh(gram)[1])[:, ::-1][:, :n_directions].T
    largest = np.take_along_axis(vectors, abs(vectors).argmax(axis=1)[:, None], axis=1)
    return np.ascontiguousarray(vectors * np.where(largest < 0, -1.0, 1.0))


def worst_rows(rows, squares, n_rows):
    """Return the rows of all ranks with the largest residuals, of unit length; maybe fewer.

    On the host.

    Parameters
    ----------
    rows : array of shape (n, d)
        Rows, or the residuals themselves.
    squares : float64 array of shape (n,)
        Squared lengths of the residuals, on the host.
    n_rows : int
    """
    floor = np.finfo(np.float64).tiny
    worst = np.argsort(-squares, kind="stable")[:n_rows]
    worst = worst[squares[worst] > floor]
    mine = to_numpy(rows[compute_namespace(rows).asarray(worst)]).astype(np.float64)
    found = mpi.all_gather((squares[worst], mine))
    lengths = np.concatenate([part[0] for part in found])
    candidates = np.concatenate([part[1] for part in found])
    return normalized(candidates[np.argsort(-lengths, kind="stable")[:n_rows]])


def completed(atoms, n_atoms, rng):
    """Return the atoms, and the first of them again with a little noise until there are enough."""
    missing = n_atoms - len(atoms)
    if missing <= 0:
        return atoms
    again = atoms[np.arange(missing) % len(atoms)]
    noise = rng.normal(scale=_NOISE / np.sqrt(atoms.shape[1]), size=again.shape)
    return np.concatenate([atoms, normalized(again + noise)])


def normalized(rows):
    """Return the rows, of unit length; large and small numbers do not overflow."""
    rows = rows / abs(rows).max(axis=1, keepdims=True, initial=np.finfo(rows.dtype).tiny)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
