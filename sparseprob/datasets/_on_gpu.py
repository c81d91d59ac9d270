"""Rows that stay on the host or on disk and are computed on a GPU, chunk by chunk."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

_N_BUFFERS = 3  # one being read, one being sent, one being computed on
_CHUNK_BYTES = 2**27
_N_READERS = 4  # one thread does not fill the bus


def on_gpu(X):
    """Wrap rows on the host or on disk so that they are computed on the GPU.

    The chunks are copied through page-locked memory on a stream of their own, read and sent ahead
    of the computation. Data that fit on the card are faster resident: ``cupy.asarray(X)``.

    Parameters
    ----------
    X : ndarray, memmap or h5py.Dataset of shape (n_samples, n_features)

    Returns
    -------
    rows : GPURows
        A row source: has ``shape`` and ``dtype``, and its slices are CuPy arrays.

    Raises
    ------
    ImportError
        If CuPy or a GPU is missing.

    Examples
    --------
    >>> from sparseprob.datasets import on_gpu
    >>> model.fit(on_gpu(np.load("rows.npy", mmap_mode="r")))  # doctest: +SKIP
    """
    try:
        import cupy
    except ImportError as error:
        raise ImportError(
            "on_gpu needs CuPy, which is not installed; pip install 'sparseprob[gpu]'."
        ) from error
    if not cupy.cuda.is_available():
        raise ImportError("on_gpu needs a GPU, and CuPy finds none; pass X itself to use the CPU.")
    return GPURows(X)


class GPURows:
    """Row source over host rows whose slices are CuPy arrays; made by `on_gpu`."""

    is_on_gpu = True

    def __init__(self, rows):
        self.rows, self.shape, self.ndim = rows, tuple(rows.shape), len(rows.shape)
        self.dtype = np.dtype(rows.dtype).newbyteorder("=")  # a GPU knows no other

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, key):
        import cupy

        return cupy.asarray(np.asarray(self.rows[key], dtype=self.dtype))

    def iter_chunks(self, batch_size):
        """Yield ``(start, chunk)``; a chunk is valid until the next one is asked for."""
        import cupy

        n, D = self.shape
        size = min(batch_size, n, max(1, _CHUNK_BYTES // (D * self.dtype.itemsize)))
        starts = range(0, n, size) if n else []
        host = [_page_locked((size, D), self.dtype) for _ in range(_N_BUFFERS)]
        device = [cupy.empty((size, D), self.dtype) for _ in range(_N_BUFFERS)]
        sent = [cupy.cuda.Event() for _ in range(_N_BUFFERS)]
        used = [cupy.cuda.Event() for _ in range(_N_BUFFERS)]
        copies = cupy.cuda.Stream(non_blocking=True)
        for event in used:  # work may be under way on memory that `device` got from the pool
            event.record(cupy.cuda.get_current_stream())
        number = cupy.cuda.runtime.getDevice()

        def read_and_send(i):
            slot, start = i % _N_BUFFERS, starts[i]
            stop = min(start + size, n)
            with cupy.cuda.Device(number):
                sent[slot].synchronize()  # the page-locked rows of the last round have left
                _read(self.rows, start, stop, host[slot])
                copies.wait_event(used[slot])  # the computation on the last round has ended
                device[slot][: stop - start].set(host[slot][: stop - start], stream=copies)
                sent[slot].record(copies)
            return slot, device[slot][: stop - start]

        try:
            with ThreadPoolExecutor(1) as reader:
                ahead = [reader.submit(read_and_send, i) for i in range(min(2, len(starts)))]
                for i, start in enumerate(starts):
                    slot, chunk = ahead.pop(0).result()
                    cupy.cuda.get_current_stream().wait_event(sent[slot])
                    yield start, chunk
                    used[slot].record(cupy.cuda.get_current_stream())
                    if i + 2 < len(starts):
                        ahead.append(reader.submit(read_and_send, i + 2))
        finally:
            copies.synchronize()  # before the buffers return to their pools


def _page_locked(shape, dtype):
    import cupy

    size = int(np.prod(shape))
    memory = cupy.cuda.alloc_pinned_memory(max(1, size * dtype.itemsize))
    return np.frombuffer(memory, dtype, size).reshape(shape)


def _read(rows, start, stop, target):
    if hasattr(rows, "read_direct"):  # h5py, without a temporary array
        rows.read_direct(target, np.s_[start:stop], np.s_[: stop - start])
        return

    def copy(piece):
        target[piece.start - start : piece.stop - start] = rows[piece]

    edges = np.linspace(start, stop, _N_READERS + 1).astype(int)
    with ThreadPoolExecutor(_N_READERS) as readers:
        list(readers.map(copy, map(slice, edges[:-1], edges[1:])))
