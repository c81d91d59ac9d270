"""Kronecker operators against dense matrices."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_kronecker import dense
from scipy.sparse.linalg import LinearOperator, lsqr

from sparseprob._arrays import to_numpy
from sparseprob.linear_operators import KroneckerOperator, mode_products

EXACT = {np.float64: 1e-12, np.complex128: 1e-12, np.float32: 2e-5, np.complex64: 2e-5}
SHAPES = [
    [(3, 4)], [(1, 5), (4, 1)], [(5, 3), (2, 4)], [(2, 3), (4, 2), (3, 5)],
    [(2, 3), (3, 2), (1, 2), (4, 3)],
]  # fmt: skip


def draw(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=shape)
    return (A + 1j * rng.normal(size=shape) if np.dtype(dtype).kind == "c" else A).astype(dtype)


def operator(shapes, dtype):
    return KroneckerOperator([draw(s, dtype, k) for k, s in enumerate(shapes)])


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", list(EXACT), ids=lambda d: d.__name__)
class TestAgainstDense:
    def test_products(self, shapes, dtype):
        K, A = operator(shapes, dtype), dense([draw(s, dtype, k) for k, s in enumerate(shapes)])
        close = {"rtol": EXACT[dtype], "atol": EXACT[dtype] * np.abs(A).max() * 10}
        assert K.shape == A.shape
        assert K.dtype == dtype
        for n, product, expected in (
            (A.shape[1], K.matvec, A), (A.shape[0], K.rmatvec, A.conj().T),
        ):  # fmt: skip
            v = draw((n,), dtype, 7)
            assert product(v).dtype == dtype
            assert_allclose(product(v), expected @ v, **close)
            assert_allclose(product(v[:, None]), expected @ v[:, None], **close)
        X, Y = draw((A.shape[1], 3), dtype, 8), draw((A.shape[0], 3), dtype, 9)
        assert_allclose(K.matmat(X), A @ X, **close)
        assert_allclose(K @ X, A @ X, **close)
        assert_allclose(K.rmatmat(Y), A.conj().T @ Y, **close)
        assert_allclose(K.T @ Y, A.T @ Y, **close)

    def test_dot_test(self, shapes, dtype):
        K = operator(shapes, dtype)
        x, y = draw((K.shape[1],), dtype, 3), draw((K.shape[0],), dtype, 4)
        left, right = np.vdot(K.H @ y, x), np.vdot(y, K @ x)
        assert_allclose(left, right, rtol=EXACT[dtype] * 100)

    def test_matrix_columns_and_their_lengths(self, shapes, dtype):
        K, A = operator(shapes, dtype), dense([draw(s, dtype, k) for k, s in enumerate(shapes)])
        assert_allclose(K.to_dense(), A, rtol=EXACT[dtype])
        for j in (0, A.shape[1] // 2, -1):
            assert_allclose(K.column(j), A[:, j], rtol=EXACT[dtype])
        assert K.gram_diag().dtype == np.empty(0, dtype).real.dtype
        assert_allclose(K.gram_diag(), (np.abs(A) ** 2).sum(axis=0), rtol=EXACT[dtype])


def test_the_last_index_is_the_fastest():
    rng = np.random.default_rng(0)
    factors = [rng.normal(size=(3, n)) for n in (2, 4, 5)]
    x = [rng.normal(size=n) for n in (2, 4, 5)]
    expected = np.kron(factors[0] @ x[0], np.kron(factors[1] @ x[1], factors[2] @ x[2]))
    found = KroneckerOperator(factors) @ np.kron(x[0], np.kron(x[1], x[2]))
    assert_allclose(found, expected, rtol=1e-12)


def test_real_factors_take_complex_vectors_and_mixed_types():
    K = KroneckerOperator(
        [draw((3, 4), np.float32), draw((2, 3), np.complex64), np.eye(2, dtype=int)]
    )
    assert K.dtype == np.complex128  # integers count as float64
    real = KroneckerOperator([np.eye(2), draw((3, 2), np.float64)])
    v = draw((4,), np.complex128)
    assert_allclose(real @ v, real.to_dense() @ v, rtol=1e-12)


def test_it_is_an_operator_of_scipy():
    K = operator([(6, 3), (5, 4)], np.float64)
    assert isinstance(K, LinearOperator)
    x = draw((12,), np.float64)
    assert_allclose(lsqr(K, K @ x, atol=1e-14, btol=1e-14)[0], x, rtol=1e-9)
    assert_allclose((2 * K) @ x, 2 * (K @ x))
    assert_allclose(pickle.loads(pickle.dumps(K)) @ x, K @ x, rtol=0)
    assert_array_equal(K.H.H.to_dense(), K.to_dense())


def test_the_order_of_modes_keeps_tensors_small(monkeypatch):
    """A mode that shrinks the tensor goes before one that grows it."""
    sizes = []
    import sparseprob.linear_operators as module

    plain = module.mode_product
    monkeypatch.setattr(
        module, "mode_product", lambda *args: sizes.append(plain(*args).size) or plain(*args)
    )
    factors = [np.ones((10, 2)), np.ones((5, 5)), np.ones((1, 6))]
    assert mode_products(np.ones((1, 2, 5, 6)), factors).shape == (1, 10, 5, 1)
    assert sizes == [10, 10, 50]


def test_factors_of_any_library(xp):
    factors = [draw((3, 4), np.float64), draw((5, 2), np.float64)]
    K = KroneckerOperator([xp.asarray(F) for F in factors])
    x = draw((8,), np.float64)
    library = xp if xp.name == "cupy" else None
    v = library.asarray(x) if library else x
    expected = np.kron(*factors)
    for found, wanted in (
        (K @ v, expected @ x), (K.matvec(v), expected @ x),
        (K.matmat(v[:, None])[:, 0], expected @ x), (K.rmatvec(K @ v), expected.T @ expected @ x),
        (K.gram_diag(), (expected**2).sum(axis=0)),
    ):  # fmt: skip
        assert_allclose(to_numpy(found), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.gpu
def test_wrong_sizes_on_the_gpu():
    import cupy

    K = KroneckerOperator([cupy.eye(2), cupy.eye(3)])
    with pytest.raises(ValueError, match="dimension mismatch"):
        K.matmat(cupy.ones((5, 2)))


@pytest.mark.parametrize(
    ("factors", "error", "message"),
    [
        ([], ValueError, "factors is empty"),
        (np.ones((2, 2, 2)), TypeError, "list of 2-D arrays, got ndarray"),
        (3, TypeError, "list of 2-D arrays, got int"),
        ([np.ones(3)], ValueError, r"factor 0 has shape \(3,\)"),
        ([np.eye(2), np.ones((0, 2))], ValueError, r"factor 1 has shape \(0, 2\)"),
        ([np.eye(2), np.full((2, 2), np.nan)], ValueError, "factor 1 contains NaN"),
        ([np.eye(2, dtype=np.float16)], TypeError, "factor 0 has dtype float16"),
        ([np.array([["a"]])], TypeError, "factor 0 has dtype <U1"),
    ],
)
def test_bad_factors(factors, error, message):
    with pytest.raises(error, match=message):
        KroneckerOperator(factors)


def test_large_matrices_and_missing_columns_are_refused():
    K = KroneckerOperator([np.ones((101, 100)), np.ones((100, 100))])
    with pytest.raises(ValueError, match=r"shape \(10100, 10000\) has more than 1e\+08 entries"):
        K.to_dense()
    with pytest.raises(IndexError, match="column 10000 does not exist; the operator has 10000"):
        K.column(10000)
    with pytest.raises(ValueError, match="dimension mismatch"):
        K.matvec(np.ones(5))
