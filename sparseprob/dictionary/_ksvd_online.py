"""Atoms learned from one batch of rows after the other, from running moments of their codes.

J. Mairal, F. Bach, J. Ponce, G. Sapiro, "Online dictionary learning for sparse coding", ICML 2009,
with the codes and the atoms of unit length of K-SVD.
"""

import numpy as np

from .. import mpi
from .._arrays import compute_namespace, to_numpy
from .._kernels import kernels
from .._kernels._atoms_numba import improve_atoms
from ._ksvd_start import worst_rows
from ._statistics import squared_norms

_POWER = 0.6  # step size (t + 1)^-power after t batches
_TRUST = 10  # batches, as which atoms that are given count
_UNUSED = 1e-6  # share of the mean energy of an atom


class OnlineAtoms:
    """Atoms, and running moments of codes that say how to improve them.

    Parameters
    ----------
    atoms : array of shape (k, d)
        The first atoms, of unit length.
    trusted : bool
        Whether the atoms have been learned from other rows.

    Attributes
    ----------
    atoms : float64 array of shape (k, d)
        On the host, the same on all ranks.
    """

    def __init__(self, atoms, trusted):
        self.atoms = np.array(to_numpy(atoms), dtype=np.float64, order="C")
        k, d = self.atoms.shape
        self.trusted, self.n_batches = trusted, 0
        self.C, self.B = np.zeros((k, k)), np.zeros((k, d))

    def update(self, Y, n_nonzero):
        """Take in the rows of this rank; return the squared error of all of them, coded before."""
        xp, k = compute_namespace(Y), len(self.atoms)
        D = xp.asarray(self.atoms, dtype=Y.dtype)
        topic, squares = kernels("atoms", Y), squared_norms(Y)
        with mpi.errors_together():
            G = D @ D.T
            codes = kernels("sparse_coding", Y).sparse_code(G, Y @ D.T, squares, n_nonzero)
            C, B = (to_numpy(A) for A in topic.moments_of_codes(Y, *codes, k))
        C, B, n_rows, total = mpi.row_sum(
            C, B, np.array(float(len(Y))), np.array(float(squares.sum()))
        )
        error = float(total - 2 * (B * self.atoms).sum() + (C * to_numpy(G)).sum())
        self._blend(C / n_rows, B / n_rows)
        improve_atoms(self.atoms, self.C, self.B)
        self._replace_unused(Y, D, codes)
        return error

    def _blend(self, C, B):
        if self.n_batches == 0 and self.trusted:  # moments under which the atoms stay as they are
            weight = np.trace(C) / len(C)
            self.C, self.B = weight * np.eye(len(C)), weight * self.atoms
            self.n_batches = _TRUST
        step = (self.n_batches + 1.0) ** -_POWER
        self.C += step * (C - self.C)
        self.B += step * (B - self.B)
        self.n_batches += 1

    def _replace_unused(self, Y, D, codes):
        """Give atoms that hardly any row uses the directions of the largest residuals."""
        energies = self.C.diagonal()
        unused = np.flatnonzero(energies <= _UNUSED * energies.mean())
        if not len(unused):
            return
        xp = compute_namespace(Y)
        X = xp.zeros((len(Y), len(D)), dtype=Y.dtype)
        X[xp.arange(len(Y))[:, None], codes[0]] = codes[1]
        residual = Y - X @ D
        worst = worst_rows(residual, to_numpy(squared_norms(residual)), len(unused))
        unused = unused[: len(worst)]
        self.atoms[unused], self.B[unused] = worst, 0
        self.C[unused], self.C[:, unused] = 0, 0
