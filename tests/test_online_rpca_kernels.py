"""The kernels of online robust PCA, NumPy's and CuPy's, beside slow alternations; its start."""

import math

import numpy as np
import pytest
import reference_online_rpca as reference
from numpy.testing import assert_allclose, assert_array_equal
from reference_online_rpca import basis, problem, with_holes

from sparseprob._kernels import _online_rpca_cupy, _online_rpca_numba
from sparseprob.rpca._online_start import principal_rows, start_from

KERNELS = pytest.mark.parametrize("kernels", [_online_rpca_numba, _online_rpca_cupy])


@KERNELS
@pytest.mark.parametrize("forgetting", [1.0, 0.9])
@pytest.mark.parametrize("holes", [0, 0.2])
def test_dictionary_follows_the_alternation(kernels, forgetting, holes):
    X = with_holes(problem(12, 25, size=5.0, noise=0.05)[1], holes)
    lam, D = 0.05, basis(25, 3) * 0.5
    A, B = lam * np.eye(3), 2 * lam * D
    expected = reference.online_dictionary(X, D.T, A, B.T, lam, forgetting)
    missed = kernels.learn_dictionary(X, D, A, B, lam, forgetting, 1e-10, 200)
    assert missed == 0
    # The alternation ends 1e-14 |z| from its limit over one minus its rate, 1e-9 at the worst.
    assert_allclose(D.T, expected[0], atol=1e-8)
    assert_allclose(A, expected[1], atol=1e-8)
    assert_allclose(B.T, expected[2], atol=1e-8)


@KERNELS
@pytest.mark.parametrize("holes", [0, 0.2])
def test_tracker_follows_the_geodesic(kernels, holes):
    X = with_holes(problem(4, 25, size=5.0, noise=0.05)[1], holes, seed=4)
    lam, U, A, state = 0.05, basis(25, 3), np.zeros((3, 3)), np.zeros(4)
    expected, step = U.T, 2.0
    squares = 0.0
    for t, z in enumerate(X, 1):
        w, G = reference.grasta_row(z, expected, 1 / lam)
        squares += w @ w
        size = step / (1 + t) * np.linalg.norm(G) / math.sqrt(25)
        size *= np.linalg.norm(w) / math.sqrt(squares / t)
        expected = reference.geodesic(expected, w, G, size)
    kernels.track_subspace(X, U, A, state, lam, 1.0, step, 1e-10, 200, 5000)
    assert_allclose(U.T, expected, atol=1e-9)
    assert_allclose(U @ U.T, np.eye(3), atol=1e-12)
    assert_allclose(state, [4, 4, 4, squares], rtol=1e-9)
    assert_allclose(np.trace(A), squares, rtol=1e-9)


@KERNELS
def test_rows_are_orthonormal_again(kernels):
    X = problem(200, 25)[1].astype(np.float32)
    U = basis(25, 3).astype(np.float32)
    kernels.track_subspace(
        X, U, np.zeros((3, 3)), np.zeros(4), 0.05, 1.0, 2.0, 1e-3, 200, 30
    )  # fmt: skip
    assert_allclose(U @ U.T, np.eye(3), atol=1e-6)


@KERNELS
@pytest.mark.parametrize("name", ["dictionary", "tracker"])
def test_rows_that_say_nothing_change_nothing(kernels, name):
    X = np.zeros((3, 25))
    X[1] = np.nan
    X[1, 4] = 0
    D, A = basis(25, 3), np.eye(3)
    B, before = D * 1.1, D.copy()
    if name == "dictionary":
        kernels.learn_dictionary(X, D, A, B, 0.1, 0.9, 1e-6, 200)
    else:
        X[2], X[2, :3] = np.nan, 1.0  # no more entries than weights
        kernels.track_subspace(X, D, A, np.zeros(4), 0.1, 0.9, 2.0, 1e-6, 200, 30)
    assert_array_equal(D, before)
    assert_array_equal(A, np.eye(3))


@KERNELS
def test_steps_that_do_not_end_are_counted(kernels):
    X = problem(5, 25, size=1000.0)[1]
    D = basis(25, 3)
    arguments = (D, np.eye(3), D * 1.1, 0.05, 1.0, 1e-6)
    assert kernels.learn_dictionary(X, *arguments, 1) == 5
    assert kernels.learn_dictionary(X, *arguments, 200) == 0


def test_components_are_those_of_the_scatter():
    rng = np.random.default_rng(0)
    D, R = rng.normal(size=(3, 20)), rng.normal(size=(40, 3))
    V, s = principal_rows(D, R.T @ R)
    _, expected, Vt = np.linalg.svd(R @ D, full_matrices=False)
    assert_allclose(s, expected[:3], rtol=1e-10)
    assert_allclose(abs(V @ Vt[:3].T), np.eye(3), atol=1e-10)
    assert (V[range(3), abs(V).argmax(axis=1)] > 0).all()


def test_start_from_exact_rows():
    rng = np.random.default_rng(0)
    L = rng.choice([-1.0, 1.0], (50, 3)) @ rng.choice([-1.0, 1.0], (3, 60))  # entries 1 and 3
    V, lam = start_from(L, 3, "auto", np.random.RandomState(0))
    assert_allclose(L @ V.T @ V, L, atol=1e-12)
    assert_allclose(lam, 0.02)
    assert start_from(L, 3, 0.3, np.random.RandomState(0))[1] == 0.3


def test_start_with_missing_entries_and_few_rows():
    L = problem(50, 60)[0]
    V, _ = start_from(with_holes(L), 3, "auto", np.random.RandomState(0))
    assert reference.explained(V, L) > 0.99
    V, lam = start_from(L[:1], 3, "auto", np.random.RandomState(0))
    assert_allclose(V @ V.T, np.eye(3), atol=1e-12)
    assert_allclose(lam, 0.5 * np.median(abs(L[0])))


@KERNELS
@pytest.mark.parametrize("solver", ["orpca", "grasta"])
def test_what_is_missing_does_not_influence_the_rest(kernels, solver):
    """With a column that is not seen and not in the basis, the others learn as without it."""
    X, V = problem(20, 25, size=5.0, noise=0.05)[1], np.zeros((3, 25))
    V[:, 1:] = basis(24, 3)
    X[:, 0] = np.nan
    bases = []
    for Z, D in ((X, V.copy()), (X[:, 1:].copy(), V[:, 1:].copy())):
        A = 0.1 * np.eye(3)
        if solver == "orpca":
            kernels.learn_dictionary(Z, D, A, 0.15 * D, 0.05, 0.95, 1e-6, 200)
        else:  # the angle is measured by all columns
            step = 2 * math.sqrt(D.shape[1])
            kernels.track_subspace(Z, D, A, np.zeros(4), 0.05, 0.95, step, 1e-6, 200, 30)
        bases.append(D)
    assert_array_equal(bases[0][:, 0], 0)
    assert_allclose(bases[0][:, 1:], bases[1], atol=1e-10)
    assert abs(bases[1] - V[:, 1:]).max() > 0.1
