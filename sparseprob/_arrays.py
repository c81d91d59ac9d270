"""The array seam: views for computing, answers in the caller's library, chunks of rows.

Inside the package there are two array libraries, NumPy and CuPy. Everything else is a container.
"""

from concurrent.futures import ThreadPoolExecutor

import array_api_compat
import numpy as np


def is_array(X):
    """Whether X is an array of some array library (NumPy, CuPy, torch, ...)."""
    return array_api_compat.is_array_api_obj(X)


def is_row_source(X):
    """Whether X is not an array but hands out rows by slicing (an h5py dataset, `on_gpu(...)`)."""
    return (
        not is_array(X)
        and all(hasattr(X, name) for name in ("shape", "dtype", "__getitem__", "__len__"))
        and not hasattr(X, "iloc")
        and not hasattr(X, "tocsr")
    )  # data frames and sparse matrices


def is_on_gpu(X):
    """Whether computations on X run on a GPU."""
    if array_api_compat.is_torch_array(X):
        return X.device.type == "cuda"
    return array_api_compat.is_cupy_array(X) or getattr(X, "is_on_gpu", False)


def to_compute(X):
    """View an array as NumPy or CuPy, without a copy where memory can be shared."""
    if array_api_compat.is_numpy_array(X) or array_api_compat.is_cupy_array(X):
        return X
    if array_api_compat.is_torch_array(X):
        X = X.detach()
        if X.device.type == "cuda":
            import cupy

            return cupy.from_dlpack(X)
        return X.cpu().numpy()
    if is_array(X):  # any other library of the array API standard, through its CPU device
        return np.from_dlpack(array_api_compat.to_device(X, _cpu_device(X)))
    return np.asarray(X)


def _cpu_device(X):
    xp = array_api_compat.array_namespace(X)
    return (
        xp.__array_namespace_info__().default_device()
        if hasattr(xp, "__array_namespace_info__")
        else "cpu"
    )


def like(A, X):
    """Return the NumPy or CuPy array `A` in the library and on the device of `X`."""
    if not is_array(X):
        return to_cupy(A) if is_on_gpu(X) else to_numpy(A)
    if array_api_compat.is_numpy_array(X):
        return to_numpy(A)
    if array_api_compat.is_cupy_array(X):
        return to_cupy(A)
    xp, device = array_api_compat.array_namespace(X), array_api_compat.device(X)
    if array_api_compat.is_torch_array(X) and is_on_gpu(X):
        return xp.from_dlpack(to_cupy(A))
    return xp.asarray(to_numpy(A), device=device)


def to_numpy(A):
    """Return any array on the host as NumPy; a view where possible."""
    A = to_compute(A)
    return A.get() if array_api_compat.is_cupy_array(A) else A


def to_cupy(A):
    """Return a NumPy or CuPy array on the current GPU."""
    import cupy

    return cupy.asarray(A)


def compute_namespace(X):
    """Return the module, NumPy or CuPy, in which X is computed."""
    if is_on_gpu(X):
        import cupy

        return cupy
    return np


def compute_dtype(X):
    """Floating type of the computations: float32 and float16 data stay in float32."""
    dtype = X.dtype if isinstance(X.dtype, np.dtype) else to_compute(X[:1, :]).dtype
    return np.dtype(np.float32 if dtype in (np.float16, np.float32) else np.float64)


def row_chunks(X, batch_size, dtype, first=0, stop=None):
    """Yield `(start, chunk)` over the rows of X as C-contiguous NumPy or CuPy arrays of `dtype`.

    Rows that live on disk (memory maps, h5py datasets) are read one chunk ahead in a thread.

    Parameters
    ----------
    X : array or row source of shape (n_samples, n_features)
    batch_size : int
        Rows per chunk; rounded up to the chunks of an h5py dataset.
    dtype : numpy.dtype
        Type of the chunks; rows already of this type and in memory are not copied.
    first, stop : int
        Range of rows; a row source on the GPU is always read whole.
    """
    if getattr(X, "is_on_gpu", False):
        xp = compute_namespace(X)
        for start, chunk in X.iter_chunks(batch_size):
            yield start, xp.ascontiguousarray(chunk, dtype=dtype)
        return
    on_disk = is_row_source(X) or _is_memory_map(X)
    batch_size = aligned_batch_size(batch_size, X)
    stop = X.shape[0] if stop is None else min(stop, X.shape[0])
    starts = range(first, stop, batch_size)
    if not on_disk:
        A = to_compute(X)
        xp = compute_namespace(A)
        for start in starts:
            yield start, xp.ascontiguousarray(A[start : min(start + batch_size, stop)], dtype=dtype)
        return

    def read(start):
        return np.array(X[start : min(start + batch_size, stop)], dtype=dtype, order="C")

    with ThreadPoolExecutor(1) as reader:
        ahead = [reader.submit(read, start) for start in starts[:1]]
        for start in starts:
            chunk = ahead.pop().result()
            if start + batch_size < stop:
                ahead.append(reader.submit(read, start + batch_size))
            yield start, chunk


def _is_memory_map(X):
    while isinstance(X, np.ndarray):
        if isinstance(X, np.memmap):
            return True
        X = X.base
    return False


def aligned_batch_size(batch_size, X):
    """Round a number of rows up to the chunks of an h5py dataset."""
    chunks = getattr(X, "chunks", None)
    if isinstance(chunks, tuple) and chunks:
        return -(-batch_size // chunks[0]) * chunks[0]
    return batch_size
