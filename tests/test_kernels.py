"""The kernels of the linear discrete models against whole-array formulas and dense states."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import truncated_states
from scipy.special import logsumexp

from sparseprob._kernels import kernels
from sparseprob._kernels._fast_exp import exp_of_negative
from sparseprob.dictionary._state_arrays import linear_energies, states_of
from sparseprob.dictionary._states import build_state_table

SIZES = [(6, 6, 6, 1, 5), (6, 4, 3, 2, 70), (10, 5, 1, 1, 1), (1, 1, 1, 1, 3), (5, 5, 2, 3, 33)]
TOLERANCE = {np.float64: 1e-12, np.float32: 2e-5}
kernel = kernels("linear_discrete", np.empty(0))


def problem(H, n_candidates, max_active, V, n, dtype, scale=1.0):
    rng = np.random.default_rng(H + n)
    W = rng.normal(size=(H, 12))
    values = np.array([1.0, 2.0, -1.0])[:V]
    context = SimpleNamespace(
        slope=(0.7 * values).astype(dtype), bias=rng.normal(size=(V, H)).astype(dtype),
        coupling=(0.1 * scale * W @ W.T).astype(dtype), values=values.astype(dtype),
    )  # fmt: skip
    B = (scale * rng.normal(size=(H, n))).astype(dtype)
    table = build_state_table(n_candidates, max_active, V + 1, n_components=H)
    weight, shift = rng.normal(size=(2, V, H)).astype(dtype)
    candidates = kernel.select_candidates(B, weight, shift, n_candidates)
    return B, candidates, context, table


def dense_posterior(B, candidates, context, table):
    """Posterior from the formula, on dense states enumerated without our table."""
    (H, n), values = B.shape, context.values.astype(float)
    results = []
    for i in range(n):
        states = truncated_states(candidates[:, i], H, table.max_active, values)
        energy = np.zeros(len(states))
        for value, slope, bias in zip(values, context.slope, context.bias, strict=True):
            energy += (states == value) @ (bias + slope * B[:, i]).astype(float)
        off_diagonal = context.coupling.astype(float) * (1 - np.eye(H))
        energy -= 0.5 * np.einsum("sh,hg,sg->s", states, off_diagonal, states)
        log_norm = logsumexp(energy)
        q = np.exp(energy - log_norm)
        marginals = np.stack([q @ (states == value) for value in values])
        pairs = np.einsum("s,sh,sg->hg", q, states, states)
        results.append((log_norm, q @ energy, marginals, pairs))
    log_norm, energy, marginals, pairs = (np.array(part) for part in zip(*results, strict=True))
    return log_norm, energy, np.moveaxis(marginals, 0, 2), pairs.sum(axis=0) * (1 - np.eye(H))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("scale", [0.1, 10.0])
@pytest.mark.parametrize("sizes", SIZES)
def test_posterior_equals_dense_enumeration(sizes, dtype, scale):
    B, candidates, context, table = problem(*sizes, dtype, scale)
    pairs = np.ones((len(B), len(B)))
    log_norm, energy, marginals = kernel.truncated_posterior(
        B, candidates, context.slope, context.bias, context.coupling, context.values, table,
        pairs=pairs,
    )  # fmt: skip
    expected = dense_posterior(B, candidates, context, table)
    largest = max(1, np.abs(expected[0]).max(), np.abs(expected[1]).max())
    assert marginals.dtype == dtype
    assert_allclose(log_norm, expected[0], atol=TOLERANCE[dtype] * largest, rtol=0)
    assert_allclose(energy, expected[1], atol=TOLERANCE[dtype] * largest, rtol=0)
    assert_allclose(marginals, expected[2], atol=TOLERANCE[dtype], rtol=0)
    assert_allclose(pairs - 1, expected[3], atol=TOLERANCE[dtype] * B.shape[1], rtol=0)


@pytest.mark.parametrize("sizes", SIZES)
def test_whole_array_energies_equal_the_kernel(sizes):
    B, candidates, context, table = problem(*sizes, np.float64)
    singles = context.bias[:, :, None] + context.slope[:, None, None] * B

    def couplings(i, j):
        return context.coupling[candidates[i], candidates[j]]

    energies = linear_energies(singles, couplings, candidates, context.values, table)
    log_norm, _, _ = kernel.truncated_posterior(
        B, candidates, context.slope, context.bias, context.coupling, context.values, table
    )
    assert_allclose(logsumexp(energies, axis=0), log_norm, rtol=1e-12)
    numbers = np.broadcast_to(np.arange(len(energies))[:, None], energies.shape)
    states = states_of(numbers, candidates, table, context.values, len(B))
    for i in range(B.shape[1]):
        expected = truncated_states(candidates[:, i], len(B), table.max_active, context.values)
        assert {tuple(s) for s in states[i]} == {tuple(s) for s in expected}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_candidates_are_the_best_with_ties_to_the_lower_index(dtype):
    rng = np.random.default_rng(0)
    B = np.round(rng.normal(size=(20, 101)) * 2).astype(dtype)  # many ties
    scale, shift = np.ones((2, 20), dtype), np.zeros((2, 20), dtype)
    scale[1] = -0.5
    shift[:, 3] = -np.inf
    score = (scale[:, :, None] * B + shift[:, :, None]).max(axis=0)
    for n_candidates in (1, 7, 20):
        expected = np.argsort(-score, axis=0, kind="stable")[:n_candidates]
        assert_array_equal(kernel.select_candidates(B, scale, shift, n_candidates), expected)


def test_marginals_go_where_they_are_asked_to_go():
    B, candidates, context, table = problem(6, 4, 3, 2, 70, np.float64)
    energies = (context.slope, context.bias, context.coupling, context.values)
    arguments = (B, candidates, *energies, table)
    out = np.empty((2, *B.shape))
    assert kernel.truncated_posterior(*arguments, out=out)[2] is out
    assert_array_equal(out, kernel.truncated_posterior(*arguments)[2])


def test_exponential_is_accurate():
    from numba import njit

    @njit
    def apply(x):
        return np.array([exp_of_negative(v) for v in x])

    for dtype, low, tolerance in ((np.float64, -700.0, 4e-16), (np.float32, -85.0, 3e-7)):
        x = np.linspace(low, 0, 100_001).astype(dtype)
        assert apply(x).dtype == dtype
        assert_allclose(apply(x), np.exp(x.astype(np.float64)), rtol=tolerance)
        assert_array_equal(apply(np.array([0.0, -1e4], dtype)), [1.0, 0.0])


@pytest.mark.gpu
@pytest.mark.parametrize(("sizes", "dtype"), list(product(SIZES, [np.float64, np.float32])))
def test_gpu_kernel_equals_the_cpu_kernel(sizes, dtype):
    import cupy

    B, candidates, context, table = problem(*sizes, dtype)
    arrays = (context.slope, context.bias, context.coupling, context.values)
    pairs = np.zeros((len(B), len(B)))
    expected = (*kernel.truncated_posterior(B, candidates, *arrays, table, pairs=pairs), pairs)
    on_gpu = [cupy.asarray(a) for a in (B, candidates, *arrays)]
    gpu_pairs = cupy.zeros(pairs.shape)
    twin = kernels("linear_discrete", on_gpu[0])
    actual = twin.truncated_posterior(*on_gpu, table, pairs=gpu_pairs)
    for ours, theirs in zip((*actual, gpu_pairs), expected, strict=True):
        assert_allclose(ours.get(), theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * 10)
