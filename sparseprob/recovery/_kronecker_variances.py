"""Variances of factors from second moments: best rank one, or alternation (He & Joseph, 2024).

Each rule takes the tensor of second moments and returns non-negative vectors whose outer product
models it; all but the last have unit length.
"""

import math

import numpy as np
from scipy.optimize import nnls

from .._arrays import compute_namespace, like, to_numpy

_SMALLEST = 1e-12  # of the largest variance: what is divided by
_FLOOR = 1e-5  # of the largest variance: what coupled variances never fall below


def rank_one(moments):
    """Return the vectors of the successive best rank-one approximations of a non-negative tensor.

    A non-negative matrix has non-negative leading singular vectors (Perron).
    """
    gammas = []
    while moments.ndim > 1:
        matrix = moments.reshape(moments.shape[0], -1)
        u = _leading_left_vector(matrix)
        gammas.append(u)
        moments = (u @ matrix).reshape(moments.shape[1:])
    return [*gammas, moments]


def _leading_left_vector(matrix):
    xp = compute_namespace(matrix)
    if matrix.shape[0] <= matrix.shape[1]:
        return xp.abs(xp.linalg.eigh(matrix @ matrix.T)[1][:, -1])
    u = matrix @ xp.abs(xp.linalg.eigh(matrix.T @ matrix)[1][:, -1])
    return u / xp.linalg.norm(u)


def alternate(moments, gammas, *, max_sweeps, tol, rule=None):
    """Minimize the expected negative log prior over one vector after the other.

    Parameters
    ----------
    moments : real array of shape (n_1, ..., n_K)
    gammas : list of real arrays of shape (n_k,)
        Where to start.
    max_sweeps : int
    tol : float
        Sweeps end when the outer product changes by less than this share of its length.
    rule : callable, default=None
        Turns the minimizer of mode k into what is used: ``rule(k, gamma)``.

    Returns
    -------
    gammas : list
    """
    for _ in range(max_sweeps):
        new = _sweep(moments, gammas, rule)
        done = change(new, gammas) <= tol
        gammas = new
        if done:
            break
    return gammas


def _sweep(moments, gammas, rule):
    """Update every vector once, with the newest values of the others.

    The tensor is read twice, whatever the number of modes: `left` holds it contracted with the
    vectors already updated.
    """
    xp, n_all, left = compute_namespace(moments), moments.size, moments
    new, inverse = [], [1 / xp.maximum(g, _SMALLEST * g.max()) for g in gammas]
    for k, g in enumerate(gammas):
        mine = left
        for other in inverse[:k:-1]:
            mine = mine @ other
        updated = mine * (len(g) / n_all)
        if rule is not None:
            updated = rule(k, updated)
        if k < len(gammas) - 1:
            updated = updated / xp.linalg.norm(updated)
            weights = 1 / xp.maximum(updated, _SMALLEST * updated.max())
            left = (weights @ left.reshape(len(g), -1)).reshape(left.shape[1:])
        new.append(updated)
    return new


class Coupling:
    """Variances that borrow from their neighbors: C g with g >= 0, C tridiagonal.

    Parameters
    ----------
    strengths : sequence of float
        What each mode's variances take from either neighbor; 0 for none.
    supports : list of int arrays
        Positions that are left; only neighbors in the full vector are coupled.
    """

    def __init__(self, strengths, supports):
        self.matrices = []
        for strength, positions in zip(strengths, supports, strict=True):
            apart = np.abs(np.subtract.outer(positions, positions))
            self.matrices.append((apart == 0) + strength * (apart == 1))

    def __call__(self, k, gamma):
        """Return the coupled variances nearest to `gamma`."""
        C, target = self.matrices[k], to_numpy(gamma).astype(np.float64)
        scale = target.max()
        coupled = C @ nnls(C, target / scale)[0] + _FLOOR
        return like((coupled * scale).astype(gamma.dtype), gamma)


def unit_outer(gammas):
    """Return the vectors scaled so that all but the last have unit length; same outer product."""
    norms = [float(compute_namespace(g).linalg.norm(g)) for g in gammas[:-1]]
    scaled = [g / norm for g, norm in zip(gammas, norms, strict=False)]
    return [*scaled, gammas[-1] * math.prod(norms)]


def change(new, old):
    """Return the distance of two outer products over the length of the old one.

    With P and Q the products of the first vectors, P x n - Q x o = (P - Q) x n + Q x (n - o):
    the squared length of the difference is summed from small terms and loses no digits.
    """
    squared, inner, length = 0.0, 0.0, 1.0  # |P - Q|^2, <P - Q, Q>, |Q|^2
    for n, o in zip(new, old, strict=True):
        n, o = (to_numpy(g).astype(np.float64) for g in (n, o))
        rows = np.stack([n, o, n - o])
        (nn, no, nd), (_, oo, od), (_, _, dd) = (rows @ rows.T).tolist()
        squared = squared * nn + length * dd + 2 * inner * nd
        inner, length = inner * no + length * od, length * oo
    return math.sqrt(max(squared, 0.0) / length)
