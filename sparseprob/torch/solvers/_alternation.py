"""Rows as combinations of atoms at chosen places: codes and atoms by least squares in turn."""

from dataclasses import dataclass

import numpy as np

from ..._arrays import compute_namespace
from ..._kernels import kernels
from ._whitening import leading_vectors

_RIDGE = 1e-6  # of the mean square of the codes of an atom


@dataclass(frozen=True)
class Pattern:
    """Places where the code of a row may have numbers.

    Parameters
    ----------
    n_atoms, n_nonzero : int
    kind : {"segment", "topk"}
        Atoms are cut in segments of equal length, of which each code uses `n_per_segment`; or codes
        use any `n_nonzero` atoms.
    n_per_segment : int, default=1
    """

    n_atoms: int
    n_nonzero: int
    kind: str = "segment"
    n_per_segment: int = 1

    def check(self):
        """Refuse sizes that do not fit together."""
        k, s, n = self.n_atoms, self.n_nonzero, self.n_per_segment
        if self.kind not in _CODERS:
            raise ValueError(f"pattern must be one of {sorted(_CODERS)}, got {self.kind!r}.")
        if not 1 <= s <= k:
            raise ValueError(f"n_nonzero must be between 1 and n_atoms={k}, got {s}.")
        if self.kind == "segment" and (n < 1 or s % n or k % (s // n) or k * n < s):
            raise ValueError(
                f"{k} atoms cannot be cut in segments of equal length of which {n} make "
                f"{s} non-zeros; n_nonzero must be a multiple of n_per_segment, and n_atoms one of "
                "the number of segments."
            )

    @property
    def segment(self):
        """Length of a segment; None for free places."""
        return (
            self.n_atoms * self.n_per_segment // self.n_nonzero if self.kind == "segment" else None
        )

    def first_places(self):
        """Return places to begin with, of shape (n_nonzero,)."""
        p = np.arange(self.n_nonzero, dtype=np.int32)
        if self.segment is None:
            return p
        return p // self.n_per_segment * self.segment + p % self.n_per_segment


def first_factors(A, pattern):
    """Return atoms (k, d), places and zeros to begin with: leading singular vectors.

    Each segment has one of the leading ones at least. Where they are too few, rows of A follow.
    """
    xp = compute_namespace(A)
    vectors = leading_vectors(A.astype(np.float64, copy=False).T, pattern.n_atoms).T
    missing = pattern.n_atoms - len(vectors)
    if missing > 0:
        rows = A[xp.asarray(np.linspace(0, len(A) - 1, missing).astype(np.int64))]
        lengths = xp.linalg.norm(rows, axis=1, keepdims=True)
        vectors = xp.concatenate([vectors, rows / xp.where(lengths > 0, lengths, 1)])
    segment = pattern.segment or 1
    order = np.arange(pattern.n_atoms).reshape(segment, -1).T.ravel()
    D = xp.ascontiguousarray(vectors[xp.asarray(order)], dtype=A.dtype)
    places = xp.asarray(pattern.first_places())
    indices = xp.ascontiguousarray(xp.broadcast_to(places, (len(A), len(places))))
    return D, indices, xp.zeros(indices.shape, dtype=A.dtype)


def alternate(A, D, indices, values, pattern):
    """Update codes in place, then the atoms; the squared error of the rows does not rise.

    Parameters
    ----------
    A : C-contiguous array of shape (n, d)
    D : C-contiguous array of shape (k, d)
    indices : C-contiguous int32 array of shape (n, s)
    values : C-contiguous array of shape (n, s)
    pattern : Pattern

    Returns
    -------
    D : array of shape (k, d)
        New atoms. Those without users point along the largest residuals.
    residual : array of shape (n, d)
    """
    xp = compute_namespace(A)
    _CODERS[pattern.kind](A, D, indices, values, pattern)
    S = xp.zeros((len(A), len(D)), dtype=A.dtype)
    S[xp.arange(len(A))[:, None], indices] = values
    D = _fitted_atoms(A, S, D)
    residual = A - S @ D
    return _with_users(D, S, residual), residual


def _segment_codes(A, D, indices, values, pattern):
    update = kernels("segments", A).update_segment_codes
    update(D @ D.T, A @ D.T, indices, values, pattern.n_per_segment)


def _free_codes(A, D, indices, values, pattern):
    """Codes by matching pursuit, where they are better than those at hand."""
    xp, coding, atoms = compute_namespace(A), kernels("sparse_coding", A), kernels("atoms", A)
    lengths = xp.linalg.norm(D, axis=1)
    lengths = xp.where(lengths > 0, lengths, 1)
    E = xp.ascontiguousarray(D / lengths[:, None])
    squares = (A.astype(np.float64) ** 2).sum(axis=1)
    new_indices, new_values = coding.sparse_code(E @ E.T, A @ E.T, squares, pattern.n_nonzero)
    new_values = (new_values / lengths[new_indices]).astype(A.dtype)
    atoms.keep_better_codes(A, D, new_indices, new_values, indices, values, xp.empty_like(A))


_CODERS = {"segment": _segment_codes, "topk": _free_codes}


def _fitted_atoms(A, S, D):
    """Return least-squares atoms; where codes leave them open they stay near those of before."""
    xp = compute_namespace(A)
    G = S.astype(np.float64).T @ S.astype(np.float64)
    ridge = _RIDGE * G.diagonal().mean()
    ridge = xp.where(ridge > 0, ridge, 1.0)
    step = xp.linalg.solve(G + ridge * xp.eye(len(G)), (S.T @ (A - S @ D)).astype(np.float64))
    return D + step.astype(D.dtype)


def _with_users(D, S, residual):
    """Return the atoms; those that no code uses are replaced by the largest residuals."""
    xp = compute_namespace(D)
    unused = ~(S != 0).any(axis=0)
    lengths = xp.linalg.norm(residual, axis=1)
    worst = xp.argsort(-lengths)
    mine = worst[xp.minimum(xp.maximum(xp.cumsum(unused.astype(np.int64)) - 1, 0), len(worst) - 1)]
    scale = xp.where(lengths[mine] > 0, lengths[mine], 1)[:, None]
    change = unused & (lengths[mine] > 0)
    return xp.where(change[:, None], residual[mine] / scale, D)
