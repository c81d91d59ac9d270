"""Sparse inverse Cholesky factors and the Vecchia likelihood: values, gradients, failures."""

import subprocess
import sys

import numba
import numpy as np
import pytest
import reference_gp as reference
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, RationalQuadratic

from sparseprob._covariance import Covariance
from sparseprob._kernels import _inverse_cholesky_numba as factor_kernels
from sparseprob._kernels import _response_numba as response_kernels
from sparseprob.gp import sic_factor, vecchia_loglik

KERNELS = [
    ConstantKernel(2.0) * Matern([0.3, 0.4, 0.5], nu=1.5),
    Matern(0.3, nu=0.5),
    Matern([0.3, 0.4, 0.5], nu=2.5) + RBF(0.2),
    2 * RationalQuadratic(0.4, alpha=1.3) + Matern([0.2, 0.4, 0.1], nu=0.5),
    RationalQuadratic(0.4, alpha=1.3),
]
NUGGET = 1e-2
all_kernels = pytest.mark.parametrize("kernel", KERNELS, ids=str)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def X(rng):
    return rng.random((60, 3))


@pytest.fixture
def pattern(rng):
    """Columns of all sizes up to 13, so that eight of them are filled up to the largest."""
    return reference.random_pattern(60, 12, rng)


def dense(kernel, X, nugget=NUGGET):
    return kernel(X) + nugget * np.eye(len(X))


def test_full_patterns_give_the_inverse(X):
    kernel, full = KERNELS[0], reference.nearest_pattern(X, 60)
    U = sic_factor(kernel, X, *full, NUGGET).toarray()
    assert_allclose(U @ U.T, np.linalg.inv(dense(kernel, X)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7])
def test_small_problems_of_even_and_odd_size(X, size):
    X, kernel = X[:size], KERNELS[0]
    U = sic_factor(kernel, X, *reference.nearest_pattern(X, size), NUGGET).toarray()
    assert_allclose(U @ U.T @ dense(kernel, X), np.eye(size), atol=1e-10)


def test_exponential_covariance_on_a_line_needs_one_neighbor():
    """A Markov process: the divergence is zero, and tau = 0 does no harm."""
    X, kernel = np.sort(np.random.default_rng(1).random(40))[:, None], Matern(0.3, nu=0.5)
    U = sic_factor(kernel, X, *reference.nearest_pattern(X, 1), 0.0).toarray()
    assert reference.divergence(kernel(X), U) == pytest.approx(0, abs=1e-10)


@all_kernels
def test_columns_are_those_of_dense_inverses(kernel, X, pattern):
    U, K = sic_factor(kernel, X, *pattern, NUGGET), dense(kernel, X)
    assert_allclose(U.toarray(), reference.inverse_cholesky(K, *pattern), rtol=1e-9, atol=1e-10)
    assert_allclose(np.diag(U.T @ K @ U), 1, atol=1e-12)
    assert U.has_sorted_indices
    assert U.nnz == len(pattern[1])


def test_larger_patterns_are_closer_to_the_covariance(X):
    kernel, K = KERNELS[0], dense(KERNELS[0], X)
    factors = [
        sic_factor(kernel, X, *reference.nearest_pattern(X, m), NUGGET).toarray()
        for m in (1, 3, 9, 27, 59)
    ]
    divergences = [reference.divergence(K, U) for U in factors]
    assert np.all(np.diff(divergences) < 0)
    assert divergences[-1] == pytest.approx(0, abs=1e-9)


@all_kernels
def test_gradients_of_columns_are_those_of_differences(kernel, X, pattern, rng):
    covariance = Covariance.from_kernel(kernel, 3)
    dU = rng.standard_normal(len(pattern[1]))

    def function(theta):
        return sic_factor(covariance.with_theta(theta), X, *pattern, NUGGET).data @ dU

    gradient = covariance.chain(
        factor_kernels.column_gradients(
            *covariance.terms(X), NUGGET, *pattern, 0, len(X), dU, covariance.n_lengthscales
        )
    )
    differences = reference.central_differences(function, covariance.theta)
    assert_allclose(gradient, differences, rtol=1e-6, atol=1e-6 * abs(differences).max())


@all_kernels
def test_likelihood_gradient_and_information(kernel, X, pattern, rng):
    covariance, y = Covariance.from_kernel(kernel, 3), rng.standard_normal(60)
    failed = np.zeros(60, dtype=np.int8)

    def function(theta):
        moved = covariance.with_theta(theta[:-1])
        return vecchia_loglik(moved, X, y, *pattern, np.exp(theta[-1]))

    _, _, gradient, information = response_kernels.response_columns(
        *covariance.terms(X), NUGGET, *pattern, y, 0, 60, covariance.n_lengthscales, failed
    )
    K, theta = dense(kernel, X), np.append(covariance.theta, np.log(NUGGET))
    oracle = reference.vecchia_log_likelihood(K, y, *pattern)
    assert_allclose(function(theta), oracle, rtol=1e-10)
    jacobian = np.zeros((len(gradient), len(theta)))
    jacobian[:-1, :-1], jacobian[-1, -1] = covariance.jacobian, 1
    differences = reference.central_differences(function, theta)
    assert_allclose(jacobian.T @ gradient, differences, rtol=1e-6, atol=1e-6)
    derivatives = [*np.moveaxis(kernel(X, eval_gradient=True)[1], 2, 0), NUGGET * np.eye(60)]
    expected = reference.vecchia_information(K, derivatives, *pattern)
    assert_allclose(jacobian.T @ information @ jacobian, expected, rtol=1e-8, atol=1e-8)


@all_kernels
def test_local_predictions(kernel, X, rng):
    covariance = Covariance.from_kernel(kernel, 3)
    y, Q = rng.standard_normal(60), rng.random((9, 3))
    neighbors = np.array([np.sort(rng.choice(60, 7, replace=False)) for _ in Q], dtype=np.int32)
    means, deviations = np.zeros((2, 9))
    failed = np.zeros(9, dtype=np.int8)
    response_kernels.predict_columns(
        *covariance.terms(X), NUGGET, covariance.terms(Q).scaled, neighbors, y, means, deviations,
        failed,
    )  # fmt: skip
    K = dense(kernel, X)
    for i, S in enumerate(neighbors):
        k, variance = kernel(Q[i : i + 1], X[S])[0], kernel.diag(Q[i : i + 1])[0]
        mean, var = reference.kriging(K[np.ix_(S, S)], k, variance, y[S])
        assert_allclose([means[i], deviations[i] ** 2], [mean, var], atol=1e-11)


def test_likelihood_with_full_patterns_is_exact(X, rng):
    y, full = rng.standard_normal(60), reference.nearest_pattern(X, 60)
    expected = reference.normal_log_density(y, dense(KERNELS[0], X))
    assert_allclose(vecchia_loglik(KERNELS[0], X, y, *full, NUGGET), expected, rtol=1e-11)


def test_results_do_not_depend_on_threads_or_ranges(rng):
    """Columns are alone; sums are over pieces of fixed size."""
    X, y = rng.random((1500, 2)), rng.standard_normal(1500)
    covariance = Covariance.from_kernel(Matern([0.1, 0.2], nu=1.5), 2)
    indptr, indices = reference.random_pattern(1500, 5, rng)
    results = []
    before = numba.get_num_threads()
    try:
        for n_threads in (1, before):
            numba.set_num_threads(n_threads)
            data, failed = np.zeros(len(indices)), np.zeros(1500, dtype=np.int8)
            for first, stop in ((0, 1500),) if n_threads == 1 else ((0, 5), (5, 700), (700, 1500)):
                factor_kernels.factor_columns(
                    *covariance.terms(X), NUGGET, indptr, indices, first, stop, data, failed
                )
            sums = response_kernels.response_columns(
                *covariance.terms(X), NUGGET, indptr, indices, y, 0, 1500, 2, failed
            )
            results.append((data, *sums))
    finally:
        numba.set_num_threads(before)
    for one, many in zip(*results, strict=True):
        assert_array_equal(one, many)


def test_arrays_of_any_library_and_single_precision(xp, X, pattern, rng):
    kernel, y = KERNELS[0], rng.standard_normal(60)
    U = sic_factor(kernel, xp.asarray(X.astype(np.float32)), *pattern, NUGGET)
    expected = sic_factor(kernel, X, *pattern, NUGGET)
    data = U.data.get() if xp.name == "cupy" else U.data
    assert data.dtype == np.float64
    assert_allclose(data, expected.data, rtol=1e-5, atol=1e-5 * abs(expected.data).max())
    value = vecchia_loglik(kernel, xp.asarray(X), xp.asarray(y), *pattern, NUGGET)
    assert_allclose(value, vecchia_loglik(kernel, X, y, *pattern, NUGGET), rtol=1e-10)


def test_repeated_points_get_jitter_where_there_is_no_nugget(X):
    X = np.vstack([X[:20], X[:20]])
    covariance, full = Covariance.from_kernel(Matern(0.3), 3), reference.nearest_pattern(X, 39)
    data, failed = np.zeros(len(full[1])), np.zeros(40, dtype=np.int8)
    factor_kernels.factor_columns(*covariance.terms(X), 0.0, *full, 0, 40, data, failed)
    assert not failed[:20].any()
    assert (failed[20:] > 0).all()
    assert np.isfinite(data).all()
    nugget = 1e-10 * 10.0 ** failed[39]  # what was added to the diagonal for the last column
    last = slice(full[0][39], full[0][40])
    expected = np.linalg.cholesky(dense(Matern(0.3), X, nugget))
    assert_allclose(data[last][-1], 1 / expected[-1, -1], rtol=1e-3)


def test_columns_that_cannot_be_factored_are_named(X, pattern):
    X[7] = np.nan
    with pytest.raises(np.linalg.LinAlgError, match="column 7 cannot be factored"):
        sic_factor(Matern(), X, *pattern)
    with pytest.raises(np.linalg.LinAlgError, match="column 7 cannot be factored"):
        vecchia_loglik(Matern(), X, np.ones(60), *pattern, 0.1)


def test_bad_input(X, pattern):
    indptr, indices = pattern
    with pytest.raises(ValueError, match="X must be 2-dimensional"):
        sic_factor(RBF(), X[:, 0], indptr, indices)
    with pytest.raises(ValueError, match="indptr must have 60 entries"):
        sic_factor(RBF(), X[:59], indptr, indices)
    with pytest.raises(ValueError, match="itself last"):
        sic_factor(RBF(), X, indptr, indices[::-1])
    with pytest.raises(ValueError, match=r"y must have shape \(60,\)"):
        vecchia_loglik(RBF(), X, np.ones(59), indptr, indices, 0.1)
    with pytest.raises(TypeError, match="not supported"):
        sic_factor("rbf", X, indptr, indices)


FACTOR = """
import sys
import numpy as np
from sklearn.gaussian_process.kernels import Matern
from sparseprob import distributed
from sparseprob.gp import sic_factor, vecchia_loglik

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    X, y = rng.random((1100, 2)), rng.normal(size=1100)
    columns = [np.arange(max(0, j - 4), j + 1) for j in range(1100)]
    indptr = np.cumsum([0] + [len(c) for c in columns])
    indices = np.concatenate(columns).astype(np.int32)
    with distributed() as comm:
        U = sic_factor(Matern(), X, indptr, indices)
        value = vecchia_loglik(Matern(), X, y, indptr, indices, 0.1)
        if comm.rank == comm.size - 1:
            np.savez(sys.argv[1], data=U.data, value=value)
"""


@pytest.mark.mpi
def test_ranks_share_the_columns(tmp_path, mpiexec):
    (tmp_path / "one.py").write_text(FACTOR)
    subprocess.run([sys.executable, "one.py", "one.npz"], cwd=tmp_path, check=True)
    mpiexec(3, FACTOR, "many.npz")
    one, many = np.load(tmp_path / "one.npz"), np.load(tmp_path / "many.npz")
    assert_array_equal(many["data"], one["data"])
    assert_allclose(many["value"], one["value"], rtol=1e-12)
