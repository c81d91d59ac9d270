"""Keys of rows and their hashes: the same in every process, on every machine, for a seed."""

from typing import Any, NamedTuple

import numpy as np

from .._arrays import compute_namespace, is_array, is_on_gpu, to_compute, to_cupy, to_numpy
from .._kernels._sketch_numba import hash_bytes, hash_integers, hash_range

_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_WORD = (1 << 64) - 1
KINDS = {"int64": 1, "uint64": 2, "str": 3, "bytes": 4}
_TYPES: dict[type, str] = {
    str: "str", np.str_: "str", bytes: "bytes", np.bytes_: "bytes",
}  # fmt: skip


class Keys(NamedTuple):
    """Keys of some rows.

    Parameters
    ----------
    kind : {"int64", "uint64", "str", "bytes"}
    values : ndarray of shape (n,), default=None
        The keys; None if only their hashes are kept.
    hashes : uint64 ndarray of shape (n,)
        On the GPU for rows that are there.
    """

    kind: str
    values: Any
    hashes: Any

    def take(self, positions):
        """Return the keys at some positions, on the host."""
        values = None if self.values is None else self.values[to_numpy(positions)]
        if is_on_gpu(self.hashes):
            positions = to_cupy(positions)
        return Keys(self.kind, values, to_numpy(self.hashes[positions]))

    def for_kernel(self):
        """Return hashes, and what makes them if keys are the numbers of rows."""
        if isinstance(self.hashes, NumberHashes):
            return np.empty(0, dtype=np.uint64), self.values.first, np.uint64(self.hashes.offset)
        return self.hashes, 0, np.uint64(0)


def seed_offset(seed, kind, purpose=0):
    """Return the number that starts a hash: another for each seed, kind of key and purpose."""
    return mix_integer(mix_integer(seed) + _GOLDEN * (KINDS.get(kind, 0) + 16 * purpose))


def mix_integer(x):
    """Finalizer of splitmix64 on a Python integer, after a step of its generator."""
    x = (x + _GOLDEN) & _WORD
    x = ((x ^ (x >> 30)) * _FIRST) & _WORD
    x = ((x ^ (x >> 27)) * _SECOND) & _WORD
    return x ^ (x >> 31)


def mix_array(x):
    """Finalizer of splitmix64 on a uint64 array, NumPy or CuPy, after a step of its generator."""
    xp = compute_namespace(x)
    x = x + xp.uint64(_GOLDEN)
    x = (x ^ (x >> xp.uint64(30))) * xp.uint64(_FIRST)
    x = (x ^ (x >> xp.uint64(27))) * xp.uint64(_SECOND)
    return x ^ (x >> xp.uint64(31))


def rehash(hashes, seed, purpose):
    """Return hashes of another kind, independent of the given ones for all practical purposes."""
    xp = compute_namespace(hashes)
    return mix_array(hashes ^ xp.uint64(seed_offset(seed, None, purpose)))


def units(hashes):
    """Return the numbers strictly between 0 and 1 that hashes stand for."""
    xp = compute_namespace(hashes)
    return ((hashes >> xp.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def as_keys(keys, n_rows, *, seed, first=0, gpu=False, unique=True, lazy=False):
    """Check the keys of rows and hash them.

    Parameters
    ----------
    keys : array-like of shape (n_rows,), default=None
        Integers, strings or bytes; None numbers the rows.
    n_rows : int
    seed : int
    first : int
        Number of the first row.
    gpu : bool
        Whether the rows are on the GPU.
    unique : bool
        Whether a key that occurs twice is refused.
    lazy : bool
        Whether the hashes of row numbers may be made when asked for, in place of an array.

    Returns
    -------
    keys : Keys
    """
    if keys is None:
        return _row_numbers(n_rows, seed_offset(seed, "int64"), first, gpu, lazy)
    values, kind = _typed(keys)
    if values.ndim != 1 or values.shape[0] != n_rows:
        shape = values.shape[0] if values.ndim == 1 else values.shape
        raise ValueError(f"There must be one key for each of the {n_rows} rows, got {shape} keys.")
    offset = np.uint64(seed_offset(seed, kind))
    hashes = np.empty(n_rows, dtype=np.uint64)
    if kind in ("int64", "uint64"):
        hash_integers(values.view(np.uint64), offset, hashes)
    else:
        hash_bytes(*_joined(values), offset, hashes)
    if unique:
        _check_unique(values, hashes)
    return Keys(kind, values, _on_device(hashes, gpu))


def _row_numbers(n_rows, offset, first, gpu, lazy):
    numbers = RowNumbers(first)
    if gpu:
        import cupy

        hashes = _hash_numbers(cupy.arange(first, first + n_rows, dtype=np.uint64), offset)
    elif lazy:
        hashes = NumberHashes(numbers, offset)
    else:
        hashes = np.empty(n_rows, dtype=np.uint64)
        hash_range(first, np.uint64(offset), hashes)
    return Keys("int64", numbers, hashes)


def _hash_numbers(numbers, offset):
    xp = compute_namespace(numbers)
    step = xp.uint64((offset - _GOLDEN) & _WORD)  # mix_array takes the step of the generator
    return mix_array(numbers.astype(np.uint64) * xp.uint64(_GOLDEN) + step)


class RowNumbers:
    """Keys that are the numbers of rows, made when asked for."""

    def __init__(self, first):
        self.first = first

    def __getitem__(self, positions):
        return np.asarray(positions, dtype=np.int64) + self.first


class NumberHashes:
    """Hashes of the numbers of rows, made when asked for."""

    def __init__(self, numbers, offset):
        self.numbers, self.offset = numbers, offset

    def __getitem__(self, positions):
        return _hash_numbers(self.numbers[positions], self.offset)


def _on_device(hashes, gpu):
    if not gpu:
        return hashes
    import cupy

    return cupy.asarray(hashes)


def _typed(keys):
    """Return keys as an array of one of the kinds, or refuse them."""
    if is_array(keys) and not isinstance(keys, np.ndarray):
        keys = to_numpy(to_compute(keys))
    if not isinstance(keys, np.ndarray):
        dtype = getattr(keys, "dtype", None)
        keep = isinstance(dtype, np.dtype) and dtype.kind in "iu"
        keys = np.asarray(keys) if keep else _objects(keys)
    code = keys.dtype.kind
    if code in "USTO":
        return _strings(keys.astype(object, copy=False))
    if code == "u":
        return _integers(keys, "uint64" if keys.dtype.itemsize == 8 else "int64")
    if code == "i":
        return _integers(keys, "int64")
    raise TypeError(
        f"Keys must be integers, strings or bytes, got dtype {keys.dtype}; convert them first."
    )


def _integers(keys, kind):
    try:
        return np.ascontiguousarray(keys, dtype=np.dtype(kind)), kind
    except OverflowError as error:
        raise ValueError(
            "Keys do not fit 64-bit integers with a sign; pass a NumPy array of dtype uint64."
        ) from error


def _objects(keys):
    """Return a sequence as an object array, without NumPy's turning numbers into strings."""
    items = list(keys)
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def _strings(keys):
    """Return objects of one type, all strings, all bytes or all integers."""
    kinds = {_TYPES.get(kind, kind.__name__) for kind in map(type, keys.ravel().tolist())}
    if kinds <= {"int", "int8", "int16", "int32", "int64"}:
        return _integers(keys, "int64")
    if kinds <= {"uint64"}:
        return _integers(keys, "uint64")
    if len(kinds) == 1 and (kind := next(iter(kinds))) in ("str", "bytes"):
        return keys, kind
    raise TypeError(
        "Keys must be all integers, all strings or all bytes, got a column of "
        f"{' and '.join(sorted(kinds))}; convert them to one type."
    )


def _joined(values):
    """Return UTF-8 bytes of all strings, one behind the other, and where each ends."""
    encoded = [
        v.encode("utf-8", "surrogatepass") if isinstance(v, str) else bytes(v)
        for v in values.tolist()
    ]
    ends = np.cumsum([len(v) for v in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), ends


def _check_unique(values, hashes):
    if values.dtype != object and bool((values[1:] > values[:-1]).all()):
        return
    in_order = np.sort(hashes)
    if not (in_order[1:] == in_order[:-1]).any():
        return
    order = np.argsort(hashes, kind="stable")
    twice = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])[0]
    first, second = order[twice], order[twice + 1]
    key = values[[second]].tolist()[0]
    raise ValueError(
        f"Keys must be unique, but rows {first} and {second} both have {key!r}; "
        "join them first, or sum them with duplicates='sum'."
    )
