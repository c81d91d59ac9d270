"""Least squares on supports: LAPACK's answers, dependent columns, operators."""

import numpy as np
import pytest
import reference_thresholding as reference
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator
from test_thresholding import DTYPES, problem

from sparseprob.recovery import _least_squares
from sparseprob.recovery._least_squares import least_squares
from sparseprob.recovery._measurements import UnitColumns


@pytest.mark.parametrize("form", ["dense", "sparse", "operator"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_least_squares_is_that_of_lapack(form, dtype, monkeypatch):
    """Rounding only: 1e-12 in double precision, 1e-4 in single; blocks of one fit each."""
    monkeypatch.setattr(_least_squares, "_BLOCK", 100)
    A, Y, _ = problem(3, dtype, T=5)
    support = np.array([np.random.default_rng(t).choice(90, 8, replace=False) for t in range(5)])
    chosen = np.random.default_rng(9).random((5, 8)) < 0.8
    fit = least_squares(unit_columns(A, form), Y, support, chosen)
    tol = 1e-4 if np.finfo(dtype).eps > 1e-10 else 1e-12
    for t in range(5):
        x = reference.fit_on(A, Y[:, t], support[t][chosen[t]])
        assert_allclose(fit.values[t], np.where(chosen[t], x[support[t]], 0), atol=tol)
        assert_allclose(fit.residual[:, t], Y[:, t] - A @ x, atol=tol)
    assert not fit.dependent.any()


def unit_columns(A, form):
    make = {"dense": np.asarray, "sparse": sparse.csc_array, "operator": aslinearoperator}[form]
    return UnitColumns(make(A), A.dtype)


@pytest.mark.parametrize("form", ["dense", "operator"])
def test_more_columns_than_rows_take_the_solution_of_least_norm(form):
    A, Y, _ = problem(4, M=10, N=30, T=3)
    support = np.array([np.random.default_rng(t).choice(30, 14, replace=False) for t in range(3)])
    fit = least_squares(unit_columns(A, form), Y, support)
    for t in range(3):
        assert_allclose(fit.values[t], np.linalg.pinv(A[:, support[t]]) @ Y[:, t], atol=1e-9)
    assert fit.dependent.all()
    assert_allclose(fit.residual, 0, atol=1e-10)


def test_columns_that_nearly_depend_are_fitted_to_the_accuracy_of_qr():
    """A condition of 1e5 costs Gram matrices ten digits; the refinement wins them back."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(50, 8))
    A[:, 7] = A[:, 0] + 1e-5 * rng.normal(size=50)
    A /= np.linalg.norm(A, axis=0)
    x = rng.normal(size=8)
    fit = least_squares(unit_columns(A, "dense"), (A @ x)[:, None], np.arange(8)[None])
    assert np.linalg.cond(A) > 1e5
    assert_allclose(fit.values[0], x, atol=1e-9)


def test_copies_of_a_column_share_its_coefficient():
    A, Y, _ = problem(5, T=2)
    A[:, 1] = A[:, 0]
    fit = least_squares(unit_columns(A, "dense"), Y, np.array([[0, 1, 2], [3, 4, 5]]))
    assert_allclose(fit.values[0, 0], fit.values[0, 1], atol=1e-12)
    assert_array_equal(fit.dependent, [True, False])
    assert_allclose(fit.values[0], np.linalg.pinv(A[:, :3]) @ Y[:, 0], atol=1e-10)
