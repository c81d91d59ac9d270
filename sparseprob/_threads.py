"""Chunks of rows, shared out over the threads of this process.

Threads work on chunks of their own, not on pieces of one: kernels and BLAS run side by side without
waiting for each other.
"""

import os
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from functools import lru_cache
from threading import Event

from ._arrays import aligned_batch_size, is_on_gpu, row_chunks

_SHARED = 2**24  # multiplications of a product that BLAS shares out to its threads


def over_chunks(work, X, batch_size, dtype, new=lambda: None):
    """Call ``work(start, chunk, result)`` for every chunk of the rows of X.

    Each thread takes a range of chunks in order and has a result of its own, so that the same
    number of threads gives the same bits. Numba decides how many threads there are.

    Parameters
    ----------
    work : callable
        Takes the number of the first row, the chunk, and the thread's result, which it changes.
    X : array or row source of shape (n_samples, n_features)
    batch_size : int
        Rows of a chunk.
    dtype : numpy.dtype
        Type of the chunks.
    new : callable
        Makes an empty result.

    Returns
    -------
    results : list
        The results of the threads, in the order of rows; one for an X without rows.
    """
    batch_size = aligned_batch_size(batch_size, X)
    n_chunks = -(-X.shape[0] // batch_size)
    n_threads = 1 if is_on_gpu(X) else max(1, min(n_threads_allowed(), n_chunks))
    stopped = Event()

    def run(thread):
        result = new()
        edges = (batch_size * (n_chunks * t // n_threads) for t in (thread, thread + 1))
        for start, chunk in row_chunks(X, batch_size, dtype, *edges):
            if stopped.is_set():
                break
            work(start, chunk, result)
        return result

    if n_threads == 1:
        return [run(0)]
    pool = thread_pool(n_threads)
    futures = [pool.submit(run, thread) for thread in range(n_threads)]
    try:
        return [future.result() for future in futures]
    finally:
        stopped.set()  # after an error or Ctrl-C the others do not go on to the end
        wait(futures)


def thread_pool(n_threads):
    """Threads that stay, with their memory, from one pass over the rows to the next."""
    return _pool(n_threads, os.getpid())


@lru_cache(maxsize=4)
def _pool(n_threads, process):
    return ThreadPoolExecutor(n_threads, thread_name_prefix="sparseprob")


def n_threads_allowed():
    """Return the number of threads that Numba was told to use."""
    import numba

    return numba.get_num_threads()


def one_blas_thread():
    """Keep BLAS to one thread in a ``with`` block around `over_chunks`.

    It covers the whole fit, M-steps included: a BLAS thread that has just worked spins for a while
    and would take a core from the next pass over the rows. Products of small matrices want it too:
    the threads of BLAS only wait for each other there.
    """
    return _libraries().limit(limits=1, user_api="blas")


def blas_threads_for(n_multiplications):
    """Keep BLAS to one thread in a ``with`` block whose largest product is small."""
    return one_blas_thread() if n_multiplications < _SHARED else nullcontext()


@lru_cache(maxsize=1)
def _libraries():
    """The libraries with threads, found once: looking for them takes milliseconds."""
    import scipy.linalg  # noqa: F401 - has a BLAS of its own
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
