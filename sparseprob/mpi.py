"""Row sums over MPI ranks: the same script on one process and under `mpiexec`.

Each rank holds its own rows. Inside ``with distributed():`` every statistic that is a sum over rows
becomes one Allreduce; outside it, every function here is the identity.
"""

import os
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from ._arrays import is_array, like, to_numpy

__all__ = ["broadcast", "distributed", "errors_together", "n_ranks", "rank", "row_slice", "row_sum"]

_COMM = ContextVar("sparseprob_comm", default=None)
_SHARED = (
    ValueError, TypeError, OSError, FileNotFoundError, ImportError, MemoryError, FloatingPointError
)  # fmt: skip


@contextmanager
def distributed(comm=None):
    """Spread every fit in this block over the ranks of an MPI communicator.

    Each rank passes its own rows of X (see `row_slice`) and ends with the same fitted model. Start
    the program with ``mpiexec -n K python -m mpi4py program.py`` so that one failing rank ends
    all. Cores are shared out: BLAS and Numba use cores / ranks threads on each node, and rank r of
    a node uses GPU r modulo the number of GPUs.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, default=None
        The communicator; None means ``MPI.COMM_WORLD``.

    Yields
    ------
    comm : mpi4py.MPI.Comm

    Raises
    ------
    ImportError
        If mpi4py or an MPI library is missing.

    Examples
    --------
    >>> from sparseprob import distributed, row_slice  # doctest: +SKIP
    >>> with distributed():  # doctest: +SKIP
    ...     model.fit(X[row_slice(len(X))])
    """
    if comm is None:
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            raise ImportError(
                "distributed() needs mpi4py and an MPI library, which could not be loaded "
                f"({error}); install them with pip install 'sparseprob[mpi]'."
            ) from error
        comm = MPI.COMM_WORLD
    token = _COMM.set(comm)
    try:
        with _threads_per_rank(comm):
            yield comm
    finally:
        _COMM.reset(token)


@contextmanager
def _threads_per_rank(comm):
    import numba
    from threadpoolctl import threadpool_limits

    n_local = _local(comm)[1]
    on_machine = os.cpu_count() or 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else on_machine
    bound = cores < on_machine  # the launcher gave this rank cores of its own
    threads = cores if bound else max(1, cores // n_local)
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, before))
    with threadpool_limits(min(threads, before)):
        try:
            bind_device()
            yield
        finally:
            numba.set_num_threads(before)


def _local(comm):
    """Return the rank and the number of ranks of `comm` on this node."""
    from mpi4py import MPI

    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    try:
        return node.rank, node.size
    finally:
        node.Free()


def bind_device():
    """Use GPU (local rank modulo number of GPUs) for this rank, if CuPy has been imported."""
    import sys

    comm, cupy = _COMM.get(), sys.modules.get("cupy")
    if comm is not None and cupy is not None and cupy.cuda.is_available():
        cupy.cuda.Device(_local(comm)[0] % cupy.cuda.runtime.getDeviceCount()).use()


def rank():
    """Return the rank of this process.

    Returns
    -------
    int
        0 outside `distributed`.
    """
    comm = _COMM.get()
    return 0 if comm is None else comm.rank


def n_ranks():
    """Return the number of ranks.

    Returns
    -------
    int
        1 outside `distributed`.
    """
    comm = _COMM.get()
    return 1 if comm is None else comm.size


def row_slice(n_rows):
    """Return the block of rows of this rank: contiguous, the first ranks get one more.

    Parameters
    ----------
    n_rows : int
        Number of rows of the whole data.

    Returns
    -------
    slice
        All rows outside `distributed`.
    """
    base, extra = divmod(int(n_rows), n_ranks())
    start = rank() * base + min(rank(), extra)
    return slice(start, start + base + (rank() < extra))


def row_sum(*arrays):
    """Sum arrays over the ranks by one Allreduce of one packed float64 buffer.

    Parameters
    ----------
    *arrays : array or float
        Sums over the rows of this rank, real or complex, NumPy or CuPy. Shapes are the same on
        every rank.

    Returns
    -------
    total : ndarray or tuple of ndarray
        The sums over all rows; the arguments themselves outside `distributed`.
    """
    comm = _COMM.get()
    if comm is not None:
        arrays = _all_reduced(comm, arrays)
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


def _all_reduced(comm, given):
    from mpi4py import MPI

    arrays = [_in_double(a) for a in given]
    packed = np.concatenate([a.ravel().view(np.float64) for a in arrays])
    comm.Allreduce(MPI.IN_PLACE, packed, op=MPI.SUM)
    ends = np.cumsum([a.size * a.itemsize // packed.itemsize for a in arrays])[:-1]
    pieces = zip(np.split(packed, ends), arrays, given, strict=True)
    return [_back(piece.view(a.dtype).reshape(a.shape), source) for piece, a, source in pieces]


def _back(A, source):
    return like(A, source) if is_array(source) else A


def _in_double(a):
    """Return an array on the host, in double precision, real or complex."""
    a = np.asarray(to_numpy(a), order="C")
    return a.astype(np.complex128 if a.dtype.kind == "c" else np.float64, copy=False)


def row_max(value):
    """Return the largest of the ranks' values."""
    return max(all_gather(value))


def any_rank(flag):
    """Whether the flag is set on any rank."""
    return any(all_gather(bool(flag)))


def all_gather(value):
    """Return the list of a small Python object of every rank, in the order of ranks."""
    comm = _COMM.get()
    return [value] if comm is None else comm.allgather(value)


def broadcast(value):
    """Return rank 0's value on every rank.

    Parameters
    ----------
    value : object
        Anything that can be pickled; only rank 0's counts.

    Returns
    -------
    value : object
        The argument itself outside `distributed`.
    """
    comm = _COMM.get()
    return value if comm is None else comm.bcast(value)


@contextmanager
def each_rank_alone():
    """Let sums over rows stay on this rank, where all ranks hold the same rows."""
    token = _COMM.set(None)
    try:
        yield
    finally:
        _COMM.reset(token)


@contextmanager
def errors_together():
    """Raise on every rank what was raised on one, before anybody enters a collective.

    Work on local rows goes into this block; sums over ranks come after it.

    Yields
    ------
    None

    Examples
    --------
    >>> from sparseprob.mpi import errors_together, row_sum
    >>> with errors_together():
    ...     part = 3.0  # whatever may fail on one rank
    >>> row_sum(part)
    3.0
    """
    comm = _COMM.get()
    if comm is None:
        yield
        return
    error = None
    try:
        yield
    except Exception as caught:  # noqa: BLE001 - re-raised below, on all ranks
        error = caught
    failed = np.array([error is not None], dtype=np.int64)
    from mpi4py import MPI

    comm.Allreduce(MPI.IN_PLACE, failed, op=MPI.SUM)
    if not failed[0]:
        return
    reports = comm.allgather(None if error is None else (type(error), str(error)))
    if error is not None:
        error.on_all_ranks = True
        raise error
    source, (kind, message) = next((r, rep) for r, rep in enumerate(reports) if rep is not None)
    shared = (kind if kind in _SHARED else RuntimeError)(f"rank {source}: {message}")
    shared.on_all_ranks = True  # so that whoever prints it does so once
    raise shared
