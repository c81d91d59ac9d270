"""Weights in coordinates where errors of outputs are plain distances."""

import numpy as np

from ..._arrays import compute_namespace


def whitened(problem, damp):
    r"""Return :math:`A = W R^T`, R and the damping used, in double precision.

    With the upper triangular R of :math:`R^T R = C` the loss of V is
    :math:`E(V) = \|A - V R^T\|_F^2`.
    """
    R, used = problem.cholesky(damp)
    return problem.W.astype(np.float64, copy=False) @ R.T, R, used


def atoms_of_weight(problem, R, components):
    """Return atoms of unit length for the weight itself, as columns, and their lengths.

    Parameters
    ----------
    problem : LayerProblem
    R : array of shape (d_in, d_in)
        As `whitened` returns it; None if the atoms are those of the weight already.
    components : array of shape (n_atoms, d_in)
        Atoms of W R^T, as rows.
    """
    xp, atoms = problem.xp, components.T
    if R is not None:
        atoms = _solve_upper(R, atoms.astype(np.float64, copy=False))
        atoms[problem.dead] = 0
    lengths = xp.sqrt((atoms.astype(np.float64) ** 2).sum(axis=0))
    lengths = xp.where(lengths > 0, lengths, 1)
    dtype = problem.W.dtype
    return (atoms / lengths).astype(dtype), lengths.astype(dtype)


def _solve_upper(R, B):
    """Return R^-1 B for upper triangular R."""
    if compute_namespace(R) is np:
        from scipy.linalg import solve_triangular
    else:
        from cupyx.scipy.linalg import solve_triangular
    return solve_triangular(R, B, lower=False, check_finite=False)


def leading_vectors(A, rank):
    """Return the leading left singular vectors of A as columns."""
    xp = compute_namespace(A)
    if xp is np:
        return np.linalg.svd(A, full_matrices=False)[0][:, :rank]
    # A GPU finds eigenvectors ten times sooner. What they lose, a share 1e-16 of the squares of A,
    # counts only where the rest is smaller than that.
    if A.shape[0] <= A.shape[1]:
        return xp.linalg.eigh(A @ A.T)[1][:, ::-1][:, :rank]
    return xp.linalg.qr(A @ xp.linalg.eigh(A.T @ A)[1][:, ::-1][:, :rank])[0]
