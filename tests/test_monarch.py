"""Monarch matrices as operators, nearest ones, and products of two."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose
from reference_torch_structured import (
    block_diagonal,
    monarch_matrix,
    nearest_monarch,
    transposition,
)

from sparseprob._arrays import to_numpy
from sparseprob._truncation import _by_eigenvectors, truncated
from sparseprob.linear_operators import MonarchOperator, MonarchProduct, monarch_project

# Shape of the matrix, k, J, block rank; the last ones need padding.
CASES = [
    ((16, 16), 4, 4, 1), ((12, 20), 5, 3, 2), ((20, 12), 2, 5, 3), ((11, 13), 4, 3, 2),
    ((7, 10), 6, 7, 1), ((5, 9), 1, 1, 2),
]  # fmt: skip
EXACT = {np.float64: 1e-12, np.complex128: 1e-12, np.float32: 2e-5, np.complex64: 2e-5}


def draw(*shape, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=shape)
    return (A + 1j * rng.normal(size=shape) if np.dtype(dtype).kind == "c" else A).astype(dtype)


def factors(shape, k, J, r, dtype=np.float64, seed=0):
    return (
        draw(J, -(-shape[0] // J), k * r, seed=seed, dtype=dtype),
        draw(k, J * r, -(-shape[1] // k), seed=seed + 1, dtype=dtype),
    )


def products(shape, dtype, seed=0):
    (J, n_out, k), (K, n_in) = shape[:3], shape[3:]
    return tuple(
        draw(*s, seed=seed + i, dtype=dtype)
        for i, s in enumerate([(J, n_out, k), (J, K, k), (K, k, n_in)])
    )


def check_operator(A, dense, dtype):
    """Every product against the dense matrix, and the dot test."""
    close = {"rtol": EXACT[dtype], "atol": EXACT[dtype] * np.abs(dense).max() * 10}
    (M, N), adjoint = dense.shape, dense.conj().T
    X, Y = draw(N, 3, seed=7, dtype=dtype), draw(M, 3, seed=8, dtype=dtype)
    assert A.shape == (M, N)
    assert A.dtype == dtype
    assert_allclose(A.to_dense(), dense, **close)
    assert (A @ X).dtype == dtype
    assert_allclose(A @ X, dense @ X, **close)
    assert_allclose(A @ X[:, 0], dense @ X[:, 0], **close)
    assert_allclose(A.rmatmat(Y), adjoint @ Y, **close)
    assert_allclose(A.rmatvec(Y[:, 0]), adjoint @ Y[:, 0], **close)
    assert_allclose(A.H @ Y, adjoint @ Y, **close)
    assert_allclose(A.H.to_dense(), adjoint, **close)
    assert_allclose(A.H.H @ X, dense @ X, **close)
    assert_allclose(A.T @ Y, dense.T @ Y, **close)
    assert (A @ X[:, :0]).shape == (M, 0)
    left, right = np.vdot(A.H @ Y[:, 0], X[:, 0]), np.vdot(Y[:, 0], A @ X[:, 0])
    assert_allclose(left, right, rtol=EXACT[dtype] * 100)
    assert_allclose(pickle.loads(pickle.dumps(A)) @ X, A @ X, rtol=0)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", list(EXACT), ids=lambda d: d.__name__)
def test_operator_against_its_entries(case, dtype):
    left, right = factors(*case, dtype=dtype)
    A = MonarchOperator(left, right, case[0])
    assert A.block_rank == case[3]
    check_operator(A, monarch_matrix(left, right, case[0]), dtype)


def test_square_matrices_are_the_product_of_the_paper():
    left, right = factors((16, 16), 4, 4, 1)
    P = transposition(4, 4)
    expected = P @ block_diagonal(left) @ P.T @ block_diagonal(right)
    assert_allclose(MonarchOperator(left, right).to_dense(), expected, atol=1e-13)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_projection_against_every_sub_matrix(case, dtype):
    shape, k, J, rank = case
    M = draw(*shape, dtype=dtype)
    left, right = monarch_project(M, (k, J), min(rank, -(-shape[0] // J), -(-shape[1] // k)))
    expected = nearest_monarch(M, k, J, rank)
    assert_allclose(MonarchOperator(left, right, shape).to_dense(), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(16, 16), (64, 64), (256, 256), (1024, 1024), (256, 64)])
def test_monarch_matrices_are_their_own_projections(shape):
    M = draw(*shape)
    once = MonarchOperator(*monarch_project(M)).to_dense()
    twice = MonarchOperator(*monarch_project(once)).to_dense()
    assert 0.3 < np.linalg.norm(M - once) / np.linalg.norm(M) < 1
    assert_allclose(twice, once, atol=1e-10)


@pytest.mark.parametrize(("n", "larger", "unsorted"), [(15, 5, 3.2), (36, 6, 5.5), (85, 17, 8.2)])
def test_the_fourier_transform_is_one_when_sorted(n, larger, unsorted):
    F = np.fft.fft(np.eye(n)) / np.sqrt(n)
    columns = np.arange(n).reshape(n // larger, larger).T.ravel()

    def error(M):
        return np.linalg.norm(M - MonarchOperator(*monarch_project(M)).to_dense())

    assert error(F[:, columns]) < 1e-14
    assert_allclose(error(F), unsorted, atol=0.05)  # figures of two digits


@pytest.mark.parametrize(("n", "figures"), [(64, (0.7778, 0.7846)), (256, (0.8861, 0.8883))])
def test_gaussian_matrices_are_as_hard_as_for_equal_rank(n, figures):
    """Known figures of one draw; draws differ by less than 2 %."""
    M = draw(n, n)
    left, right = monarch_project(M)
    s = np.linalg.svd(M, compute_uv=False)
    rank = (left.size + right.size) // (2 * n)
    errors = (
        np.linalg.norm(M - MonarchOperator(left, right).to_dense()),
        np.sqrt((s[rank:] ** 2).sum()),
    )
    assert_allclose(np.array(errors) / np.linalg.norm(M), figures, rtol=0.02)


def test_perturbed_factors_are_never_nearer():
    M, rng = draw(24, 30), np.random.default_rng(0)
    left, right = monarch_project(M, (5, 4), 2)
    least = np.linalg.norm(M - MonarchOperator(left, right).to_dense())
    for scale in (1.0, 1e-2, 1e-4):
        for _ in range(20):
            L = left + scale * rng.normal(size=left.shape)
            R = right + scale * rng.normal(size=right.shape)
            assert np.linalg.norm(M - MonarchOperator(L, R).to_dense()) > least


def test_full_block_rank_reproduces_any_matrix():
    for shape, k, J in (((12, 20), 5, 3), ((11, 13), 4, 3)):
        M = draw(*shape)
        rank = min(-(-shape[0] // J), -(-shape[1] // k))
        found = MonarchOperator(*monarch_project(M, (k, J), rank), shape).to_dense()
        assert_allclose(found, M, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((256, 64), ((16, 16, 8), (8, 16, 8))),  # 64 = 8 x 8, 256 = 16 x 16
        ((15, 85), ((3, 5, 17), (17, 3, 5))),  # the inputs take the larger factor, 17 and 5
        ((17, 23), ((4, 5, 5), (5, 4, 5))),  # primes are rounded up to 20 and 25
    ],
)
def test_block_counts_near_the_root(shape, sizes):
    left, right = monarch_project(draw(*shape))
    assert (left.shape, right.shape) == sizes


def test_arrays_of_any_library(xp):
    M = draw(12, 20)
    expected = MonarchOperator(*monarch_project(M, (5, 3), 2)).to_dense()
    found = monarch_project(xp.asarray(M), (5, 3), 2)
    for F in found:
        assert type(F) is type(xp.asarray(M))
    A = MonarchOperator(*found)
    assert_allclose(to_numpy(A.to_dense()), expected, atol=1e-12)
    x = draw(20, seed=1)
    y = A @ (xp.asarray(x) if xp.name == "cupy" else x)
    assert_allclose(to_numpy(y), expected @ x, atol=1e-12)
    assert_allclose(to_numpy(A.rmatvec(y)), expected.T @ expected @ x, atol=1e-11)
    assert_allclose(to_numpy(A.T @ y), expected.T @ expected @ x, atol=1e-11)


@pytest.mark.parametrize("dtype", list(EXACT), ids=lambda d: d.__name__)
@pytest.mark.parametrize("shape", [(4, 4, 4, 4, 4), (3, 2, 5, 2, 4)], ids=str)
def test_product_against_its_blocks(shape, dtype):
    left, middle, right = products(shape, dtype)
    J, K = middle.shape[:2]
    N = np.block(
        [[left[i] @ np.diag(middle[i, j]) @ right[j] for j in range(K)] for i in range(J)]
    )  # sorted by j and j'
    dense = transposition(J, shape[1]) @ N @ transposition(K, shape[4]).T
    check_operator(MonarchProduct(left, middle, right), dense, dtype)


def test_product_of_two_operators():
    first = MonarchOperator(*factors((12, 20), 5, 3, 1, np.complex128))
    second = MonarchOperator(*factors((8, 20), 5, 4, 1, np.complex128, seed=5))
    found = MonarchProduct.from_operators(first, second)
    expected = first.to_dense() @ second.to_dense().conj().T
    assert_allclose(found.to_dense(), expected, atol=1e-12)


@pytest.mark.parametrize("b", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_factors_of_a_product_are_found(b, dtype):
    left, middle, right = products((b,) * 5, dtype)
    A = MonarchProduct(left, middle, right).to_dense()
    found = MonarchProduct.from_matrix(A, random_state=0)
    error = np.linalg.norm(found.to_dense() - A) / np.linalg.norm(A)
    assert error < 1e-8  # inverses and eigenvectors of random blocks
    again = MonarchProduct.from_matrix(A, random_state=0)
    assert_allclose(again.left, found.left, rtol=0)


def test_convolutions_are_products_of_two_monarch_matrices():
    c = draw(25)
    circulant = np.array([np.roll(c, i) for i in range(25)]).T
    found = MonarchProduct.from_matrix(circulant, random_state=0)
    assert_allclose(found.to_dense(), circulant, atol=1e-9)
    x = draw(25, seed=1)
    expected = np.fft.ifft(np.fft.fft(c) * np.fft.fft(x)).real
    assert_allclose(found @ x, expected, atol=1e-9)
    narrow = MonarchProduct.from_matrix(circulant.astype(np.float32), random_state=0)
    assert narrow.dtype in (np.float32, np.complex64)


def test_product_in_any_library(xp):
    A = MonarchProduct(*products((3,) * 5, np.float64)).to_dense()
    found = MonarchProduct.from_matrix(xp.asarray(A), random_state=0)
    assert found.is_on_gpu == (xp.name == "cupy")
    assert_allclose(to_numpy(found.to_dense()), A, atol=1e-9)


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (draw(16, 16), "factors reproduce it with error"),
        (np.eye(16), "not a generic MM. matrix: Singular matrix"),
        (np.kron(np.ones((2, 2)), np.eye(2)), "not a generic MM. matrix: Singular matrix"),
        # every block is the identity: any basis has eigenvectors
        (
            (transposition(2, 2) @ np.kron(np.ones((2, 2)), np.eye(2)) @ transposition(2, 2).T),
            "eigenvalues of its blocks are repeated",
        ),
    ],
)
def test_other_matrices_have_no_factors(A, message):
    with pytest.raises(np.linalg.LinAlgError, match=message):
        MonarchProduct.from_matrix(A, random_state=0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: MonarchOperator(np.ones((3, 2, 5)), np.ones((2, 3, 4))), ValueError,
         r"left of shape \(3, 2, 5\) and right of shape \(2, 3, 4\) do not fit together"),
        (lambda: MonarchOperator(np.ones((3, 2, 2)), np.ones((2, 6, 4))), ValueError,
         "do not fit together"),
        (lambda: MonarchOperator(np.ones((3, 2)), np.ones((2, 6, 4))), ValueError,
         r"left has shape \(3, 2\); expected an array of 3 axes"),
        (lambda: MonarchOperator(np.ones((3, 2, 2)), np.ones((2, 3, 4)), (7, 8)), ValueError,
         r"shape must be at most \(6, 8\) for these factors, got \(7, 8\)"),
        (lambda: monarch_project(np.ones((4, 4)), 5), ValueError,
         r"n_blocks must be from 1 to the size of the layer, \(4 inputs, 4 outputs\), got 5"),
        (lambda: monarch_project(np.ones((4, 4)), "root"), ValueError,
         "n_blocks must be a positive number, two of them or 'sqrt', got 'root'"),
        (lambda: monarch_project(np.ones((4, 4)), 0), ValueError, "n_blocks must be a positive"),
        (lambda: monarch_project(np.ones((4, 6)), 2, 3), ValueError,
         r"block_rank must be from 1 to 2 for 2 x 2 blocks of a matrix of shape \(4, 6\), got 3"),
        (lambda: monarch_project(np.full((4, 4), np.inf)), ValueError, "M contains NaN"),
        (lambda: monarch_project(np.ones((4, 4), np.float16)), TypeError, "M has dtype float16"),
        (lambda: MonarchProduct(*np.ones((2, 2, 2, 2)), np.ones((2, 3, 2))), ValueError,
         "do not fit together"),
        (lambda: MonarchProduct.from_matrix(np.ones((5, 5))), ValueError,
         r"A must be of shape \(b \* b, b \* b\), got \(5, 5\)"),
    ],
)  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_operators_that_make_no_product_are_refused():
    first, wide = (MonarchOperator(*factors((4, n), 2, 2, 1)) for n in (4, 8))
    with pytest.raises(ValueError, match="must have the same blocks of inputs"):
        MonarchProduct.from_operators(first, wide)
    thick = MonarchOperator(*factors((4, 4), 2, 2, 2))
    with pytest.raises(ValueError, match="of block rank one and not cut off, got block rank 2"):
        MonarchProduct.from_operators(first, thick)
    cut = MonarchOperator(first.left, first.right, (3, 4))
    with pytest.raises(ValueError, match="not cut off"):
        MonarchProduct.from_operators(cut, first)


@pytest.mark.parametrize("shape", [(2, 40, 50), (3, 50, 40), (60, 33)])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_truncation_by_eigenvectors(shape, dtype):
    """The way of a GPU, on the CPU."""
    A = draw(*shape, dtype=dtype)
    for rank in (1, 7, min(shape[-2:])):
        expected = truncated(A, rank)
        left, right = _by_eigenvectors(np, A, rank)
        assert_allclose(left @ right, expected[0] @ expected[1], atol=1e-11)
        for found, wanted in zip((left, right), expected, strict=True):
            assert found.shape == wanted.shape
            assert_allclose(np.linalg.norm(found), np.linalg.norm(wanted), rtol=1e-10)
    zeros = _by_eigenvectors(np, np.zeros(shape), 2)
    assert not any(np.isnan(F).any() for F in zeros)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(3, 2, 20, 30), (2, 40, 50), (50, 40)])
@pytest.mark.parametrize("dtype", list(EXACT))
def test_truncation_on_a_gpu(shape, dtype):
    import cupy

    A = draw(*shape, dtype=dtype)
    left, right = truncated(cupy.asarray(A), 7)
    assert left.dtype == right.dtype == dtype
    expected = truncated(A, 7)
    assert_allclose(cupy.asnumpy(left @ right), expected[0] @ expected[1], atol=50 * EXACT[dtype])
