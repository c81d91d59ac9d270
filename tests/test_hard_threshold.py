"""Keeping the largest entries: ties, axes, libraries, half precision."""

import numpy as np
import pytest
import reference_thresholding as reference
from numpy.testing import assert_array_equal

from sparseprob._arrays import to_numpy
from sparseprob.recovery import hard_threshold

DTYPES = ["float32", "float64", "complex64", "complex128"]


@pytest.mark.parametrize("dtype", [*DTYPES, "int64"])
@pytest.mark.parametrize("s", [0, 1, 4, 11, 12])
def test_hard_threshold_keeps_exactly_the_largest(dtype, s):
    """Values of three sizes tie all the time; the oracle sorts by size, then by place."""
    rng = np.random.default_rng(s)
    x = rng.integers(-3, 4, size=12).astype(dtype)
    expected = reference.keep_largest(x, s)
    assert_array_equal(hard_threshold(x, s), expected)
    assert hard_threshold(x, s).dtype == x.dtype
    assert_array_equal(x, np.random.default_rng(s).integers(-3, 4, size=12))


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_hard_threshold_along_an_axis(axis):
    x = np.random.default_rng(0).integers(-3, 4, size=(4, 5, 6)).astype(float)
    expected = np.apply_along_axis(reference.keep_largest, axis, x, 3)
    assert_array_equal(hard_threshold(x, 3, axis=axis), expected)


def test_hard_threshold_of_the_whole_array_ties_in_order_of_rows():
    x = np.full((3, 4), -2.0)
    assert_array_equal(hard_threshold(x, 5).ravel(), [-2.0] * 5 + [0.0] * 7)


def test_hard_threshold_in_every_library(xp):
    x = np.random.default_rng(1).integers(-9, 10, size=(7, 9)).astype(np.float32)
    for axis, s in ((None, 20), (0, 3), (1, 4)):
        result = hard_threshold(xp.asarray(x), s, axis=axis)
        assert type(result) is type(xp.asarray(x))
        assert_array_equal(to_numpy(result), hard_threshold(x, s, axis=axis))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
def test_hard_threshold_of_weights_in_torch(dtype):
    torch = pytest.importorskip("torch")
    values = torch.arange(-8, 8).to(getattr(torch, dtype)).reshape(4, 4).requires_grad_()
    result = hard_threshold(values, 2, axis=1)
    assert result.dtype == values.dtype
    assert not result.requires_grad
    expected = hard_threshold(np.arange(-8.0, 8.0).reshape(4, 4), 2, axis=1)
    assert_array_equal(result.to(torch.complex64).numpy().real, expected)


def test_hard_threshold_in_place(xp):
    if xp.name == "array_api_strict":
        pytest.skip("numpy cannot write into it")
    given = np.array([[3.0, -1.0], [2.0, 5.0]])
    x = xp.asarray(given.copy())
    assert hard_threshold(x, 2, out=x) is x
    assert_array_equal(to_numpy(x), [[3.0, 0.0], [0.0, 5.0]])


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"n_nonzero": 5}, ValueError, "between 0 and the 4 entries of x, got 5"),
        ({"n_nonzero": -1}, ValueError, "between 0 and"),
        ({"n_nonzero": 3, "axis": 1}, ValueError, "2 entries of each slice along axis 1"),
        ({"n_nonzero": 1.5}, TypeError, "must be an integer"),
        ({"n_nonzero": 1, "axis": 2}, ValueError, "axis=2 does not exist"),
    ],
)
def test_hard_threshold_refuses(arguments, error, match):
    with pytest.raises(error, match=match):
        hard_threshold(np.ones((2, 2)), **arguments)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_hard_threshold_refuses_nan(library):
    module = pytest.importorskip(library)
    with pytest.raises(ValueError, match="NaN"):
        hard_threshold(module.asarray([1.0, float("nan"), 2.0]), 1)
