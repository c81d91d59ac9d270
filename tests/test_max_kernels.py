"""The kernels of the models with a maximum: shares, roots, and the GPU against the CPU."""

import re

import numpy as np
import pytest
from numpy.testing import assert_allclose
from reference import max_rows, max_shares

from sparseprob._kernels import _max_numba
from sparseprob._kernels._fast_root import root
from sparseprob._kernels._max_cuda import source_of
from sparseprob._kernels._state_problems import MaxProblem
from sparseprob._kernels._superpositions import LARGEST, SOFT, STRONGEST
from sparseprob.dictionary._max_model import signed_powers
from sparseprob.dictionary._states import build_state_table


def test_kernel_shares_equal_the_formula():
    """One state of two causes takes all the weight: num and den show A itself."""
    rng = np.random.default_rng(0)
    W, rho = rng.gamma(2.0, size=(2, 9)), 4.0
    W *= rng.choice([-1.0, 1.0], size=W.shape)
    scale = np.abs(W).max(axis=0) * 2 ** (1 / rho)
    powers = np.sign(W) * (np.abs(W) / scale) ** rho
    both = np.ones((1, 2))
    y = max_rows(both, W, rho=rho)
    problem = MaxProblem(
        y, np.full((1, 9), 0.5), powers, np.abs(powers / W), scale, SOFT, 1 / rho, 1e6,
        0.0,
    )  # fmt: skip
    num, den = np.zeros((2, 2, 9))
    states, nothing = np.array([[[0, 1]]], np.uint16), np.zeros((1, 1))
    _max_numba.listed_shares(problem, states, np.zeros(1, np.int64), nothing, num=num, den=den)
    expected = max_shares(both, W, magnitude=True, rho=rho)[0]
    assert_allclose(den, expected, rtol=1e-12)
    assert_allclose(num, expected * y, rtol=1e-12)


def test_roots_are_accurate():
    from numba import njit

    @njit
    def apply(t, exponent):
        return np.array([root(x, exponent) for x in t])

    t = np.append(10.0 ** -np.random.default_rng(0).uniform(0, 300, 10_000), [1.0, 0.5])
    for exponent in (1 / 1.05, 1 / 6, 1 / 21, 1 / 35):
        error = 3e-16 * (1 + exponent * 700)
        assert_allclose(apply(t, exponent), t**exponent, rtol=error)
    assert apply(np.zeros(1), 1 / 6)[0] < 1e-50


# ---------------------------------------------------------------- GPU twin
KERNEL_SIZES = [(6, 4, 3, 9, 37), (5, 3, 1, 3, 5), (7, 5, 4, 5, 300), (9, 9, 2, 70, 70)]


def kernel_problem(sizes, kind, dtype, masked):
    H, C, G, n, D = sizes
    rng = np.random.default_rng(n)
    W = rng.gamma(1.5, 2.0, size=(H, D)) * (rng.choice([-1.0, 1.0], size=(H, D)) if kind else 1)
    mask = rng.random((n, D)) < 0.7 if masked else np.ones((1, D))
    Y = mask * (0.9 * W[rng.integers(H, size=n)] + rng.normal(size=(n, D)))
    W, Y, rho = W.astype(dtype), Y.astype(dtype), 6.0
    rows, reach, scale = W, W[:0], np.ones(1)
    if kind == SOFT:
        scale, rows = signed_powers(W.astype(np.float64), rho)
        reach = np.abs(rows / W)
    problem = MaxProblem(
        Y, (mask / 2).astype(dtype), rows, reach, scale, kind, 1 / rho, 2.0 / D, -1.0
    )
    candidates = np.array([rng.permutation(H)[:C] for _ in range(n)], dtype=np.int32).T.copy()
    singles = rng.normal(size=(n, H)).astype(dtype)
    return problem, singles, candidates, build_state_table(C, G, 2, n_components=H), W


def kernel_results(kernel, problem, singles, candidates, table, W, xp):
    num, den = xp.zeros((2, *W.shape))
    mean = xp.zeros(problem.data.shape, problem.data.dtype)
    arguments = problem, singles, candidates, table
    return [
        *kernel.truncated_posterior(*arguments, num=num, den=den), num, den,
        *kernel.truncated_posterior(*arguments, mean=mean), mean,
        kernel.state_energies(*arguments), kernel.excess_scores(problem.data, W),
    ]  # fmt: skip


@pytest.mark.gpu
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", [LARGEST, STRONGEST, SOFT])
@pytest.mark.parametrize("sizes", KERNEL_SIZES)
def test_gpu_kernel_equals_the_cpu_kernel(sizes, kind, dtype, masked):
    import cupy

    from sparseprob._kernels import _max_cupy

    problem, singles, candidates, table, W = kernel_problem(sizes, kind, dtype, masked)
    expected = kernel_results(_max_numba, problem, singles, candidates, table, W, np)
    on_gpu = MaxProblem(*(cupy.asarray(a) if isinstance(a, np.ndarray) else a for a in problem))
    arrays = [cupy.asarray(a) for a in (singles, candidates, W)]
    actual = kernel_results(_max_cupy, on_gpu, *arrays[:2], table, arrays[2], cupy)
    tolerance = 1e-11 if dtype == np.float64 else 2e-5
    for ours, theirs in zip(actual, expected, strict=True):
        largest = max(1.0, np.abs(theirs).max(initial=0))
        assert_allclose(ours.get(), theirs, rtol=0, atol=tolerance * largest)


def test_gpu_code_is_complete():
    """Every placeholder is filled in, whatever the table."""
    for kind in (LARGEST, STRONGEST, SOFT):
        for name, sizes in (("posterior", (8, 4, 154)), ("energies", (40, 2, 780))):
            code = source_of(name, kind, *sizes, "float", True, True)
            assert not re.search(r"\b(REAL|ROW|WIDTH|NARROW|TREE|SHARES|UNIT|N_[A-Z]+)\b", code)
            assert code.count("{") == code.count("}")
