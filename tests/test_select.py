"""Selection of the largest entries of rows: the kernels behind thresholding and pruning."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sparseprob._arrays import to_numpy
from sparseprob._kernels import kernels

KINDS = {
    "normal": lambda rng, shape: abs(rng.normal(size=shape)),
    "signed": lambda rng, shape: rng.normal(size=shape),
    "few values": lambda rng, shape: rng.integers(-1, 4, size=shape),
    "many scales": lambda rng, shape: np.exp(15 * rng.normal(size=shape)),
    "equal": lambda rng, shape: np.ones(shape),
    "half zero": lambda rng, shape: np.maximum(rng.normal(size=shape), 0),
    "infinite": lambda rng, shape: np.where(rng.random(shape) < 0.2, np.inf, rng.random(shape)),
    "denormal": lambda rng, shape: rng.integers(0, 9, size=shape) * 1e-45,
    "outlier": lambda rng, shape: np.where(rng.random(shape) < 0.02, 1e30, rng.random(shape)),
}


def by_sorting(x, n):
    mask = np.zeros(x.shape, dtype=bool)
    for row, kept in zip(x, mask, strict=True):
        kept[np.argsort(-row.astype(np.float64), kind="stable")[:n]] = True
    return mask


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_largest_entries_are_found(kind, dtype):
    rng = np.random.default_rng(0)
    for shape in ((5, 3), (4, 16), (3, 17), (3, 250), (2, 3000)):
        x = KINDS[kind](rng, shape).astype(dtype)
        for n in {1, shape[1] // 3 + 1, shape[1] - 1, shape[1]}:
            assert_array_equal(kernels("select", x).largest(x, n), by_sorting(x, n))


def test_large_arrays_are_shared_out_to_threads():
    x = np.random.default_rng(0).normal(size=(70, 2**14)).astype(np.float32)
    found = kernels("select", x).largest(x, 5000)
    assert_array_equal(found.sum(axis=1), 5000)
    smallest_kept = np.where(found, x, np.inf).min(axis=1)
    assert (smallest_kept > np.where(found, -np.inf, x).max(axis=1)).all()


@pytest.mark.parametrize("n_columns", [8, 200])
def test_nan_does_no_harm_to_other_rows(n_columns):
    x = np.random.default_rng(0).normal(size=(3, n_columns))
    x[1, 4] = np.nan
    found = kernels("select", x).largest(x, 3)
    assert_array_equal(found[[0, 2]], by_sorting(x[[0, 2]], 3))
    assert not kernels("select", x[:0]).largest(x[:0], 3).size


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(70, 4), (50, 33), (20, 4096), (3, 100_000), (1, 2**20)])
def test_gpu_is_cpu(kind, dtype, shape):
    """Short rows, rows in shared memory, and long ones."""
    import cupy

    x = KINDS[kind](np.random.default_rng(0), shape).astype(dtype)
    A = cupy.asarray(x)
    for n in (1, shape[1] // 3, shape[1] - 1):
        found = kernels("select", A).largest(A, n)
        assert_array_equal(to_numpy(found), by_sorting(x, n))
