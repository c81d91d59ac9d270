"""Columns of unit length: every storage equals the dense matrix, on one rank and on several."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator

from sparseprob.recovery._measurements import UnitColumns, is_operator

STORAGES = {"dense": np.asarray, "sparse": sparse.csc_array, "operator": aslinearoperator}


def matrix(kind, rng, shape=(7, 11)):
    A = rng.normal(size=shape) * (rng.random(shape) < 0.6)
    if kind == "complex":
        A = A + 1j * rng.normal(size=shape) * (A != 0)
    A[:, 3] = 0
    return A


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("right", ["real", "complex"])
@pytest.mark.parametrize("storage", STORAGES)
def test_storages_equal_the_dense_matrix(storage, kind, right, center):
    rng = np.random.default_rng(0)
    A = matrix(kind, rng)
    R = rng.normal(size=(7, 3)) + (1j * rng.normal(size=(7, 3)) if right == "complex" else 0)
    Z = rng.normal(size=(11, 2)) + (1j * rng.normal(size=(11, 2)) if right == "complex" else 0)
    columns = UnitColumns(STORAGES[storage](A), np.result_type(A, R), center=center)
    B = A - A.mean(axis=0) if center else A
    lengths = np.linalg.norm(B, axis=0)
    unit = B / np.where(lengths > 0, lengths, np.inf)
    assert_allclose(columns.norms, lengths, atol=1e-12)
    assert_allclose(columns.correlate(R), unit.conj().T @ R, atol=1e-12)
    assert_allclose(columns.combine(Z), unit @ Z, atol=1e-12)
    assert_allclose(columns.take([5, 3, 0]), unit[:, [5, 3, 0]], atol=1e-12)
    assert_allclose(columns.gram(), unit.conj().T @ unit, atol=1e-12)
    assert_allclose(columns.squared_norms(R), (np.abs(R) ** 2).sum(axis=0), rtol=1e-12)
    assert columns.take(np.arange(2)).dtype == columns.gram().dtype == columns.dtype


@pytest.mark.parametrize("storage", STORAGES)
def test_centered_constant_columns_are_zero(storage):
    A = np.random.default_rng(0).normal(size=(50, 4))
    A[:, 1] = 1e3 / 3
    columns = UnitColumns(STORAGES[storage](A), A.dtype, center=True)
    assert columns.norms[1] == 0
    assert not columns.correlate(A)[1].any()


def test_lengths_may_be_left_as_they_are():
    A = np.random.default_rng(0).normal(size=(5, 4))
    columns = UnitColumns(A, A.dtype, normalize=False)
    assert_allclose(columns.take([2, 1]), A[:, [2, 1]])
    assert_allclose(columns.norms, np.linalg.norm(A, axis=0))


def test_a_dense_matrix_is_not_copied():
    A = np.random.default_rng(0).normal(size=(5, 4))
    assert UnitColumns(A, A.dtype).A is A


def test_operators_are_known_by_their_products():
    assert is_operator(aslinearoperator(np.eye(2)))
    assert not any(is_operator(A) for A in (np.eye(2), sparse.eye_array(2), [[1.0]]))


@pytest.mark.mpi
def test_rows_on_two_ranks_equal_rows_on_one(mpiexec):
    mpiexec(
        2,
        """
import numpy as np
from sparseprob import distributed, row_slice
from sparseprob.recovery._measurements import UnitColumns

rng = np.random.default_rng(0)
A = rng.normal(size=(9, 5)) + 1j * rng.normal(size=(9, 5))
R = rng.normal(size=(9, 2)) + 1j * rng.normal(size=(9, 2))
for center in (False, True):
    columns = UnitColumns(A, A.dtype, center=center)
    whole = columns.correlate(R), columns.gram(), columns.norms
    with distributed():
        mine = row_slice(9)
        part = UnitColumns(A[mine], A.dtype, center=center)
        parts = part.correlate(R[mine]), part.gram(), part.norms
        for ours, expected in zip(parts, whole, strict=True):
            np.testing.assert_allclose(ours, expected, atol=1e-12)
        assert part.n_rows == 9 and part.shape[0] < 9
""",
    )
