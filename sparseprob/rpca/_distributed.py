"""QR of a tall matrix whose rows are on several threads and ranks (TSQR)."""

import numpy as np

from .. import mpi
from .._threads import n_threads_allowed, thread_pool

_ROWS_PER_COLUMN = 8  # fewer rows than this per column and thread are not worth a thread


def orthonormal(Y, *, spread=True):
    """Return Q and R of ``Y = Q R``: factors of the pieces first, then of their stacked R.

    Parameters
    ----------
    Y : array of shape (n_rows, k)
        The rows of this rank.
    spread : bool
        Whether the ranks hold different rows; otherwise all hold the same Y.

    Returns
    -------
    Q : array of shape (n_rows, min(n_rows of all ranks, k))
        The rows of this rank.
    R : array of shape (min(n_rows of all ranks, k), k)
        The same on every rank. Nothing but such triangles crosses ranks.
    """
    Q, R = _threaded(Y)
    if not spread or mpi.n_ranks() == 1:
        return Q, R
    from .._arrays import like, to_numpy

    pieces = mpi.all_gather(to_numpy(R))
    first = sum(len(piece) for piece in pieces[: mpi.rank()])
    small, R = np.linalg.qr(np.concatenate(pieces))
    return Q @ like(small[first : first + Q.shape[1]], Q), like(R, Q)


def _threaded(Y):
    if not isinstance(Y, np.ndarray):
        return _module(Y).linalg.qr(Y)
    n_rows, k = Y.shape
    n_threads = min(n_threads_allowed(), n_rows // max(1, _ROWS_PER_COLUMN * k))
    if n_threads < 2:
        return np.linalg.qr(Y)
    pool = thread_pool(n_threads)
    pieces = list(pool.map(np.linalg.qr, np.array_split(Y, n_threads)))
    small, R = np.linalg.qr(np.concatenate([r for _, r in pieces]))
    Q = np.empty_like(Y)
    edges = np.cumsum([0] + [len(q) for q, _ in pieces])

    def write(i):
        np.matmul(pieces[i][0], small[i * k : (i + 1) * k], out=Q[edges[i] : edges[i + 1]])

    list(pool.map(write, range(n_threads)))
    return Q, R


def _module(A):
    from .._arrays import compute_namespace

    return compute_namespace(A)
