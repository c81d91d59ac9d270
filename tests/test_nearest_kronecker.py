"""Sums of Kronecker products nearest to a matrix."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from reference_torch_structured import alternating_kronecker, kronecker_sum

from sparseprob._arrays import to_numpy
from sparseprob.linear_operators import KroneckerOperator, nearest_kronecker


def draw(*shape, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=shape)
    return (A + 1j * rng.normal(size=shape) if np.dtype(dtype).kind == "c" else A).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.complex128, np.float32])
def test_a_kronecker_product_is_found(dtype):
    A, B = draw(4, 3, dtype=dtype), draw(2, 5, seed=1, dtype=dtype)
    V, W = nearest_kronecker(np.kron(A, B), (4, 3), (2, 5))
    assert V.dtype == W.dtype == dtype
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    assert_allclose(kronecker_sum(V, W), np.kron(A, B), atol=tolerance)
    assert_allclose(np.linalg.norm(V), np.linalg.norm(W), rtol=tolerance)
    assert_allclose(KroneckerOperator([V[0], W[0]]).to_dense(), np.kron(A, B), atol=tolerance)


@pytest.mark.parametrize("seed", range(3))
def test_one_product_against_alternating_least_squares(seed):
    M, shapes = draw(6, 12, seed=seed), ((3, 2), (2, 6))
    rng = np.random.default_rng(seed)
    found = kronecker_sum(*nearest_kronecker(M, *shapes))
    errors = [
        np.linalg.norm(M - alternating_kronecker(M, *shapes, rng, n_iter=100)) for _ in range(4)
    ]
    assert np.linalg.norm(M - found) <= min(errors) * (1 + 1e-12)
    assert_allclose(np.linalg.norm(M - found), min(errors), rtol=1e-6)


def test_errors_are_those_of_the_singular_values_left_out():
    M = draw(6, 20)
    blocks = [
        M[i * 3 : (i + 1) * 3, j * 5 : (j + 1) * 5].ravel() for i in range(2) for j in range(4)
    ]
    s = np.linalg.svd(np.array(blocks), compute_uv=False)
    for n_terms in range(1, 9):
        V, W = nearest_kronecker(M, (2, 4), (3, 5), n_terms)
        assert V.shape == (n_terms, 2, 4)
        assert W.shape == (n_terms, 3, 5)
        error = np.linalg.norm(M - kronecker_sum(V, W))
        assert_allclose(error, np.sqrt((s[n_terms:] ** 2).sum()), rtol=1e-10, atol=1e-12)


def test_arrays_of_any_library(xp):
    M = draw(6, 8)
    expected = nearest_kronecker(M, (2, 4), (3, 2), 3)
    found = nearest_kronecker(xp.asarray(M), (2, 4), (3, 2), 3)
    for F in found:
        assert type(F) is type(xp.asarray(M))
    assert_allclose(kronecker_sum(*map(to_numpy, found)), kronecker_sum(*expected), atol=1e-12)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"shape_V": (2, 3)}, ValueError, r"are of shape \(6, 6\), but M is of shape \(6, 8\)"),
        ({"shape_V": (2,)}, ValueError, r"shape_V must be two positive numbers, got \(2,\)"),
        ({"shape_W": 3}, ValueError, r"shape_W must be two positive numbers, got \(3,\)"),
        ({"shape_W": (3, -2)}, ValueError, "shape_W must be two positive numbers"),
        ({"n_terms": 7}, ValueError, "n_terms must be from 1 to 6, got 7"),
        ({"n_terms": 1.5}, ValueError, "n_terms must be from 1 to 6, got 1.5"),
        ({"M": np.full((6, 8), np.nan)}, ValueError, "M contains NaN"),
        ({"M": np.ones(6)}, ValueError, r"M has shape \(6,\); expected a matrix"),
        ({"M": np.ones((6, 8), np.float16)}, TypeError, "M has dtype float16"),
    ],
)
def test_bad_input(change, error, message):
    given = {"M": draw(6, 8), "shape_V": (2, 4), "shape_W": (3, 2)} | change
    with pytest.raises(error, match=message):
        nearest_kronecker(**given)
