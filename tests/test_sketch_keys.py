"""Hashes of keys: the same everywhere, different for different keys, and bad keys refused."""

import os
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_sketch import splitmix64

from sparseprob.sketch import PrioritySketcher
from sparseprob.sketch._keys import as_keys, mix_array, mix_integer, rehash, units


def hashes(keys, seed=0):
    return as_keys(keys, len(keys), seed=seed).hashes


def test_the_mixing_is_splitmix64():
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    states = [(1234567 + i * 0x9E3779B97F4A7C15) % 2**64 for i in range(3)]
    assert [mix_integer(s) for s in states] == published
    assert [splitmix64(s) for s in states] == published
    assert mix_array(np.array(states, dtype=np.uint64)).tolist() == published


def test_hashes_never_change():
    """Sketches of earlier releases stay comparable."""
    assert hashes([0, 1, -1], 7).tolist() == FROZEN_INTEGERS
    assert hashes(["", "a", "Zürich", "a longer key"], 7).tolist() == FROZEN_STRINGS


FROZEN_INTEGERS = [14105680077167936040, 3098721570804658924, 14835294262623301548]
FROZEN_STRINGS = [
    2188143236957343083,
    17822713096251954584,
    11741229279498114799,
    17215921058188711813,
]


def test_row_numbers_are_integer_keys():
    numbered = as_keys(None, 5, seed=3, first=2)
    assert_array_equal(numbered.hashes, hashes(np.arange(2, 7), 3))
    lazy = as_keys(None, 5, seed=3, first=2, lazy=True).take(np.array([4, 0]))
    assert_array_equal(lazy.hashes, numbered.hashes[[4, 0]])
    assert_array_equal(lazy.values, [6, 2])


@pytest.mark.parametrize(
    "same",
    [
        (np.arange(3), [0, 1, 2], np.arange(3, dtype=np.int8), np.arange(3, dtype=np.uint32)),
        (["a", "bc"], np.array(["a", "bc"]), np.array(["a", "bc"], dtype=object), ("a", "bc")),
        ([b"a", b"bc"], np.array([b"a", b"bc"])),
    ],
    ids=["integers", "strings", "bytes"],
)
def test_equal_keys_of_any_container_are_equal(same):
    for keys in same[1:]:
        assert_array_equal(hashes(keys), hashes(same[0]))


def test_pandas_columns_are_keys():
    pandas = pytest.importorskip("pandas")
    assert_array_equal(hashes(pandas.Series(["a", "b"])), hashes(["a", "b"]))
    assert_array_equal(hashes(pandas.Series([3, 4])), hashes([3, 4]))
    assert_array_equal(hashes(pandas.Series(["a", "b"], dtype="category")), hashes(["a", "b"]))
    with pytest.raises(TypeError, match="of float and str"):
        hashes(pandas.Series(["a", None], dtype=object).fillna(0.5))


def test_kinds_of_keys_have_hashes_of_their_own():
    values = {hashes(k)[0] for k in ([5], ["5"], [b"5"], np.array([5], dtype=np.uint64))}
    assert len(values) == 4


def test_strings_that_differ_only_in_trailing_zeros_differ():
    keys = ["a" + "\0" * n for n in range(12)] + ["\0" * n for n in range(12)]
    assert len(set(hashes(keys).tolist())) == 24


def test_numbers_of_hashes_are_uniform_and_inside_the_unit_interval():
    u = units(hashes(np.arange(200_000)))
    assert 0 < u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    counts = np.bincount((u * 100).astype(int), minlength=100)
    assert ((counts - 2000) ** 2 / 2000).sum() < 99 + 4 * np.sqrt(2 * 99)  # chi-squared, 4 sd
    assert units(np.array([0, 2**64 - 1], dtype=np.uint64)).tolist() == [2.0**-54, 1 - 2.0**-54]


def test_seeds_and_purposes_give_independent_hashes():
    keys = np.arange(100_000)
    u = np.stack([units(hashes(keys, seed)) for seed in (0, 1, 2)] + [
        units(rehash(hashes(keys), 0, purpose)) for purpose in (1, 2)
    ])  # fmt: skip
    off = np.corrcoef(u)[np.triu_indices(5, 1)]
    assert_allclose(off, 0, atol=4.5 / np.sqrt(len(keys)))


def test_fresh_processes_agree_whatever_the_hash_seed():
    program = (
        "from sparseprob.sketch import PrioritySketcher as P; import numpy as np, hashlib;"
        "s = P(5, store_keys=True).sketch(np.arange(1.0, 41.0), [f'k{i}' for i in range(40)]);"
        "print(hashlib.sha256(s.to_bytes()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program], env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "123")
    }  # fmt: skip
    assert len(found) == 1


@pytest.mark.parametrize(
    ("keys", "error", "match"),
    [
        (
            [1, "a"],
            TypeError,
            "all integers, all strings or all bytes, got a column of int and str",
        ),
        ([1, 2.0], TypeError, "got a column of float and int"),
        (["a", b"a"], TypeError, "bytes and str"),
        (["a", None], TypeError, "NoneType and str"),
        ([True, False], TypeError, "got a column of bool"),
        (np.array([True, False]), TypeError, "got dtype bool"),
        (np.array([1.0, 2.0]), TypeError, "got dtype float64; convert"),
        (np.array(["2020-01-01", "2020-01-02"], dtype="M8[D]"), TypeError, "got dtype datetime64"),
        ([1, 2**63], ValueError, "pass a NumPy array of dtype uint64"),
        ([1, 2, 3], ValueError, "one key for each of the 2 rows, got 3 keys"),
        ([[1, 2]], TypeError, "got a column of list"),
        (np.array([[1, 2]]), ValueError, r"got \(1, 2\) keys"),
        ([7, 7], ValueError, "rows 0 and 1 both have 7"),
        (["b", "b"], ValueError, "rows 0 and 1 both have 'b'; join them first"),
    ],
)
def test_bad_keys_are_refused(keys, error, match):
    with pytest.raises(error, match=match):
        PrioritySketcher().sketch(np.ones((2, 1)), keys)


def test_keys_that_occur_twice_are_found_anywhere():
    keys = np.random.default_rng(0).permutation(1000)
    keys[777] = keys[5]
    with pytest.raises(ValueError, match=f"rows 5 and 777 both have .*{keys[5]}"):
        PrioritySketcher(3).sketch(np.ones((1000, 1)), keys)


def test_keys_of_other_libraries(xp):
    keys = xp.asarray(np.array([4, 9]))
    assert_array_equal(as_keys(keys, 2, seed=0).hashes, hashes([4, 9]))
