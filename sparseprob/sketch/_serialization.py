"""Sketches as bytes: a header that a person can read, arrays, and a checksum over everything.

Layout: 8 bytes of magic, version (uint16), length of the header (uint32), header (JSON), the arrays
that it lists one behind the other, 16 bytes of BLAKE2b. All numbers are little-endian.
"""

import hashlib
import json
import struct

import numpy as np

_MAGIC, _VERSION = b"SPSKETCH", 1
_FIXED = struct.Struct("<8sHI")
_CHECKSUM = 16
_NUMBERS = ("<f8", "<f4", "<u8", "<i8", "<i4")


def pack(kind, numbers, arrays):
    """Return a kind of sketch, numbers (anything JSON can write) and arrays as bytes.

    Arrays are of floats, integers, or objects that are all strings or all bytes.
    """
    contents = {name: _array_bytes(array) for name, array in arrays.items()}
    header = {
        "kind": kind,
        "numbers": numbers,
        "arrays": [[name, *entry, len(content)] for name, (content, entry) in contents.items()],
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    parts = [content for content, _ in contents.values()]
    body = b"".join([_FIXED.pack(_MAGIC, _VERSION, len(text)), text, *parts])
    return body + _checksum(body)


def unpack(content):
    """Return kind, numbers and arrays, or refuse the bytes in one sentence."""
    content = bytes(content)
    if content[: len(_MAGIC)] != _MAGIC:
        raise ValueError("These bytes are not a sketch: they do not begin with its mark.")
    if len(content) < _FIXED.size + _CHECKSUM:
        raise ValueError(f"The sketch is cut off: only {len(content)} bytes are there.")
    _, version, length = _FIXED.unpack_from(content)
    if version != _VERSION:
        raise ValueError(
            f"The sketch is damaged or of version {version}; this release reads {_VERSION}."
        )
    body = content[:-_CHECKSUM]
    if content[-_CHECKSUM:] != _checksum(body):
        raise ValueError("The sketch is damaged or cut off: its checksum does not fit.")
    header = json.loads(body[_FIXED.size : _FIXED.size + length])
    arrays, start = {}, _FIXED.size + length
    for name, dtype, shape, size in header["arrays"]:
        arrays[name] = _array(body[start : start + size], dtype, shape)
        start += size
    return header["kind"], header["numbers"], arrays


def _checksum(body):
    return hashlib.blake2b(body, digest_size=_CHECKSUM).digest()


def _array_bytes(array):
    """Return the bytes of an array, and its type and shape."""
    if array.dtype == object:
        return _string_bytes(array.tolist())
    array = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    return array.tobytes(), (array.dtype.str, list(array.shape))


def _string_bytes(items):
    encoded = [s.encode("utf-8", "surrogatepass") if isinstance(s, str) else s for s in items]
    lengths = np.array([len(item) for item in encoded], dtype="<i8")
    kind = "bytes" if items and isinstance(items[0], bytes) else "str"
    return lengths.tobytes() + b"".join(encoded), (kind, [len(items)])


def _array(content, dtype, shape):
    if dtype in ("str", "bytes"):
        return _strings(content, dtype, *shape)
    if dtype not in _NUMBERS:
        raise ValueError(f"The sketch holds an array of unknown type {dtype!r}.")
    array = np.frombuffer(content, dtype=dtype).reshape(shape)
    return array.astype(array.dtype.newbyteorder("="))  # a copy, which can be written to


def _strings(content, dtype, n):
    lengths = np.frombuffer(content[: 8 * n], dtype="<i8").tolist()
    array, start = np.empty(n, dtype=object), 8 * n
    for i, length in enumerate(lengths):
        item = content[start : start + length]
        array[i] = item.decode("utf-8", "surrogatepass") if dtype == "str" else item
        start += length
    return array
