"""Sketches as bytes: round trips, frozen forms, and damage that is never overlooked."""

import hashlib
import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sparseprob.sketch import (
    CountSketcher,
    GaussianSketcher,
    MatrixSketch,
    PrioritySketcher,
    ThresholdSketcher,
    WeightedMinHashSketcher,
)
from sparseprob.sketch._serialization import pack, unpack

A = np.arange(1.0, 61.0).reshape(30, 2)
KEYS = [f"Schlüssel {i}" for i in range(30)]
SKETCHES = {
    "priority": PrioritySketcher(4).sketch(A),
    "all rows": PrioritySketcher(40).sketch(A),
    "strings": PrioritySketcher(4, store_keys=True).sketch(A, KEYS),
    "bytes": PrioritySketcher(4, store_keys=True).sketch(A, [k.encode() for k in KEYS]),
    "hashes only": ThresholdSketcher(4).sketch(A, KEYS),
    "plain": ThresholdSketcher(4, adaptive=False).sketch(A.astype(np.float32)),
    "unsigned": ThresholdSketcher(4).sketch(A, np.arange(30, dtype=np.uint64)),
    "given": PrioritySketcher(4).sketch(A, weights=np.ones(30)),
    "empty": PrioritySketcher(4).sketch(A[:0]),
    "count": CountSketcher(4).sketch(A),
    "gaussian": GaussianSketcher(3).sketch(A),
    "minhash": WeightedMinHashSketcher(3).sketch(A[:, 0]),
}


@pytest.mark.parametrize("name", SKETCHES)
def test_round_trips(name):
    sketch = SKETCHES[name]
    content = sketch.to_bytes()
    again = MatrixSketch.from_bytes(content)
    assert again.to_bytes() == content
    assert sketch.nbytes == len(content)
    assert repr(again) == repr(sketch)
    assert type(again) is type(sketch)
    assert again.frobenius_norm_ == sketch.frobenius_norm_
    if sketch.n_rows_:
        assert_array_equal(again.product(sketch), sketch.product(again))
    if name in ("strings", "bytes"):
        assert_array_equal(again.keys_, sketch.keys_)
        assert type(again.keys_[0]) is {"strings": str, "bytes": bytes}[name]


@pytest.mark.parametrize("name", ["priority", "strings", "count", "minhash"])
def test_no_flipped_byte_is_overlooked(name):
    content = SKETCHES[name].to_bytes()
    for i in range(len(content)):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(content)
            damaged[i] ^= flip
            with pytest.raises(ValueError, match="sketch"):
                MatrixSketch.from_bytes(damaged)


@pytest.mark.parametrize("name", ["priority", "count"])
def test_no_cut_is_overlooked(name):
    content = SKETCHES[name].to_bytes()
    for n in range(len(content)):
        with pytest.raises(ValueError, match="cut off|not a sketch"):
            MatrixSketch.from_bytes(content[:n])
    with pytest.raises(ValueError, match="damaged"):
        MatrixSketch.from_bytes(content + b"\0")


def test_refusals_say_why():
    content = bytearray(SKETCHES["priority"].to_bytes())
    content[8] = 9
    with pytest.raises(ValueError, match="of version 9; this release reads 1"):
        MatrixSketch.from_bytes(content)
    with pytest.raises(ValueError, match="bytes of a Recipe"):
        MatrixSketch.from_bytes(pack("Recipe", {}, {}))
    with pytest.raises(ValueError, match="do not begin with its mark"):
        MatrixSketch.from_bytes(b"PAR1" + bytes(100))


def test_the_header_can_be_read_by_a_person():
    content = SKETCHES["priority"].to_bytes()
    length = int.from_bytes(content[10:14], "little")
    header = json.loads(content[14 : 14 + length])
    assert header["numbers"]["method"] == "priority"
    assert header["numbers"]["n_rows"] == 30


def test_arrays_come_back_in_their_type_and_shape():
    arrays = {
        "a": np.arange(6.0).reshape(2, 3), "b": np.arange(3, dtype=np.uint64),
        "c": np.array(["", "ü\0", "\ud800"], dtype=object), "d": np.empty(0, dtype=np.int32),
        "e": np.array([b"", b"\0"], dtype=object),
    }  # fmt: skip
    kind, numbers, found = unpack(pack("any", {"x": [1, None]}, arrays))
    assert (kind, numbers) == ("any", {"x": [1, None]})
    for name, array in arrays.items():
        assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert found[name].flags.writeable
    swapped = arrays["a"].astype(">f8")
    assert pack("any", {}, {"a": swapped}) == pack("any", {}, {"a": arrays["a"]})


def test_sketches_of_earlier_releases_are_the_same_bytes():
    digests = {
        name: hashlib.sha256(SKETCHES[name].to_bytes()).hexdigest()[:16]
        for name in ("priority", "strings", "plain", "count")
    }
    assert digests == FROZEN


FROZEN = {
    "priority": "119a65075e24e75c",
    "strings": "fcbfe1f27b9566b0",
    "plain": "0439d7c46d030992",
    "count": "ed485204d900a3bb",
}
