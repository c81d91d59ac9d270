"""Posteriors and updates of sparse Bayesian learning: dense inverses, closed forms, best gains."""

import numpy as np
import pytest
import reference_sbl as reference
from numpy.testing import assert_allclose, assert_array_equal
from reference_sbl import normal, problem, unit
from sklearn.exceptions import ConvergenceWarning

from sparseprob._threads import one_blas_thread
from sparseprob.recovery import SparseBayesianLearning
from sparseprob.recovery._measurements import UnitColumns
from sparseprob.recovery._sbl_fast import SequentialSearch
from sparseprob.recovery._sbl_posterior import (
    ActiveColumns,
    cholesky,
    colored,
    log_evidence,
    posterior,
    posterior_factor,
    row_variances,
)

SIZES = [(6, 15), (15, 6), (8, 8)]
UPDATES = ["em", "mackay", "fast"]
pytestmark = pytest.mark.usefixtures("one_blas")


@pytest.fixture(scope="module", name="one_blas")
def small_products():
    """Keep BLAS from sharing out products of small matrices."""
    with one_blas_thread():
        yield


def same(*arrays):
    return arrays[0] if len(arrays) == 1 else arrays


# ---------------------------------------------------------------- posterior and evidence
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("T", [1, 3])
def test_posterior_and_evidence_are_those_of_dense_inverses(size, dtype, T):
    rng = np.random.default_rng(1)
    A, Y = normal(rng, size, dtype), normal(rng, (size[0], T), dtype)
    gamma, noise_var = rng.uniform(0.1, 2, size[1]), 0.3
    indices = np.flatnonzero(rng.random(size[1]) < 0.9)
    active = ActiveColumns(UnitColumns(A, A.dtype), Y, indices)
    found = posterior(active, gamma[indices], noise_var)
    B, root = unit(A)[:, indices], np.sqrt(gamma[indices])
    mean, cov = reference.sbl_posterior(B, Y, gamma[indices], noise_var)
    assert_allclose(found.mean, mean, rtol=1e-9, atol=1e-12)
    assert_allclose(found.ratio * gamma[indices], np.diag(cov).real, rtol=1e-9)
    assert_allclose(found.residual, Y - B @ mean, rtol=1e-9, atol=1e-12)
    expected = reference.sbl_evidence(B, Y, gamma[indices], noise_var)
    assert_allclose(log_evidence(found, T), expected, rtol=1e-9)
    W = posterior_factor(active, gamma[indices], noise_var)
    assert W.shape == (min(size[0], len(indices)), len(indices))
    variances = row_variances(B, root, W, np)
    assert_allclose(variances, np.diag(B @ cov @ B.conj().T).real, rtol=1e-9)
    draws = colored(np.eye(len(indices), dtype=dtype), root, W, np)
    assert_allclose(draws @ draws.conj().T, cov, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("M", [6, 60])
def test_blocks_of_columns_change_nothing(monkeypatch, M):
    A, y, _, noise_var = problem(M=M, N=30)
    active = ActiveColumns(UnitColumns(A, A.dtype), y[:, None], np.arange(30))
    whole = posterior(active, np.ones(30), noise_var)
    monkeypatch.setattr("sparseprob.recovery._sbl_posterior._BLOCK", 7 * M)
    active = ActiveColumns(UnitColumns(A, A.dtype), y[:, None], np.arange(30))
    assert len(list(active.blocks())) == 5
    for ours, theirs in zip(posterior(active, np.ones(30), noise_var), whole, strict=True):
        assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_a_smaller_active_set_reuses_products_and_a_larger_one_does_not():
    A, y, _, _ = problem(N=12)
    active = ActiveColumns(UnitColumns(A, A.dtype), y[:, None], np.arange(1, 11))
    gram = active.gram
    smaller = active.restricted(np.array([2, 5, 10]))
    assert "gram" in vars(smaller)
    assert_array_equal(smaller.gram, gram[np.ix_([1, 4, 9], [1, 4, 9])])
    larger = smaller.restricted(np.array([0, 2, 11]))
    B = unit(A)[:, [0, 2, 11]]
    assert_allclose(larger.gram, B.T @ B, rtol=1e-12, atol=1e-14)


def test_cholesky_adds_the_least_jitter_and_says_so():
    singular = np.ones((3, 3))
    with pytest.warns(ConvergenceWarning, match="not positive definite"):
        factor = cholesky(singular.copy(), -1e-16, np)
    assert_allclose(factor @ factor.T, singular, atol=1e-12)
    fortran = np.asfortranarray([[2.0, 1.0], [1.0, 2.0]])
    assert_allclose(cholesky(fortran, 1.0, np), np.linalg.cholesky([[3.0, 1.0], [1.0, 3.0]]))
    with pytest.raises(FloatingPointError, match="not finite"):
        cholesky(-np.eye(3), 0.0, np)


# ---------------------------------------------------------------- EM
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("size", SIZES)
def test_an_em_step_is_that_of_the_formula(size, dtype):
    rng = np.random.default_rng(2)
    A, Y = normal(rng, size, dtype), normal(rng, (size[0], 3), dtype)
    power = np.mean(np.abs(Y) ** 2)
    gamma, noise_var = np.full(size[1], power), 0.1 * power
    for _ in range(3):
        gamma, noise_var = reference.em_step(unit(A), Y, gamma, noise_var)
    model = SparseBayesianLearning("em", max_iter=3, prune=0, tol=0).fit(A, Y)
    norms = np.linalg.norm(A, axis=0)
    assert_allclose(model.gamma_, gamma / norms**2, rtol=1e-9)
    assert_allclose(model.noise_var_, noise_var, rtol=1e-9)
    mean, cov = reference.sbl_posterior(unit(A), Y, gamma, noise_var)
    assert_allclose(model.coef_, (mean / norms[:, None]).T, rtol=1e-9, atol=1e-12)
    assert_allclose(model.sigma_diag_, np.diag(cov).real / norms**2, rtol=1e-9)
    assert_allclose(
        model.log_evidence_[-1], reference.sbl_evidence(unit(A), Y, gamma, noise_var), rtol=1e-9
    )


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("shared", [True, False])
def test_evidence_never_falls_under_em(dtype, shared):
    A, Y, _, _ = problem(T=3, dtype=dtype)
    model = SparseBayesianLearning("em", prune=0, max_iter=30, tol=0, shared=shared).fit(A, Y)
    assert len(model.log_evidence_) == model.n_iter_ == 30
    steps = np.diff(model.log_evidence_)
    assert steps.min() >= -1e-9 * abs(model.log_evidence_[-1])
    assert steps[0] > 0


def test_mackay_and_em_share_their_fixed_point():
    A, y, _, noise_var = problem(M=30, N=8, n_active=8, noise=0.5)
    options = {"noise_var": noise_var, "tol": 1e-12, "max_iter": 20_000, "prune": 0}
    em = SparseBayesianLearning("em", **options).fit(A, y)
    mackay = SparseBayesianLearning("mackay", **options).fit(A, y)
    assert mackay.n_iter_ < em.n_iter_
    assert_allclose(mackay.gamma_, em.gamma_, rtol=1e-8)
    assert_allclose(mackay.coef_, em.coef_, rtol=1e-8)


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_orthonormal_columns_have_a_closed_form(update, dtype):
    """Evidence separates: gamma = max(|c|^2 - noise_var, 0) with c = A^H y."""
    rng = np.random.default_rng(3)
    A = np.linalg.qr(normal(rng, (12, 12), dtype))[0]
    c, noise_var = np.full(12, 0.05, dtype), 0.01
    c[[2, 7]] = 3.0, -1.0
    options = {"noise_var": noise_var, "tol": 1e-10, "max_iter": 5000, "min_gain": 0.0}
    model = SparseBayesianLearning(update, **options).fit(A, A @ c)
    gamma = np.maximum(np.abs(c) ** 2 - noise_var, 0)
    assert_array_equal(model.support_, [2, 7])
    assert_allclose(model.gamma_, gamma, rtol=1e-7)
    assert_allclose(model.coef_, c * gamma / (gamma + noise_var), rtol=1e-7, atol=1e-14)
    assert_allclose(model.sigma_diag_, gamma * noise_var / (gamma + noise_var), rtol=1e-7)


# ---------------------------------------------------------------- one column at a time
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("T", [1, 3])
def test_every_change_is_the_best_of_all_columns(dtype, T):
    rng = np.random.default_rng(4)
    A, noise_var = normal(rng, (12, 7), dtype), 0.2
    x = np.where(np.arange(7) < 3, 1.0, 0.02)[:, None]
    Y = A @ (x * normal(rng, (7, T), dtype)) + 0.4 * normal(rng, (12, T), dtype)
    search = SequentialSearch(
        UnitColumns(A, A.dtype), Y, noise_var=noise_var, total=same, min_gain=0, tol=1e-6
    )
    model, gamma, kinds = search._model, np.zeros(7), set()
    # starts with wrong members, so that some must change and some must leave
    for column, variance in ((3, 5.0), (5, 2.0), (0, 0.01)):
        model.add(column, variance)
        gamma[column] = variance
    for _ in range(8):
        expected = [reference.best_gain(unit(A), Y, gamma, noise_var, j) for j in range(7)]
        best = int(np.argmax([gain for gain, _ in expected]))
        change = search._best_change()
        if not change.gain > 0:
            assert max(gain for gain, _ in expected) < 1e-5
            break
        assert change.column == best
        assert_allclose(change.gain, expected[best][0], rtol=1e-6, atol=1e-8)
        assert_allclose(change.variance, expected[best][1], rtol=1e-4)
        kinds.add("enter" if change.place < 0 else "change" if change.variance else "leave")
        if change.place < 0:
            model.add(change.column, change.variance)
        else:
            model.revalue(change.place, change.variance)
        gamma[change.column] = change.variance
        C = np.linalg.inv(reference.covariance(unit(A), gamma, noise_var))
        assert_allclose(model.S, np.einsum("mj,mn,nj->j", unit(A).conj(), C, unit(A)).real,
                        rtol=1e-8)  # fmt: skip
        assert_allclose(model.Q, unit(A).conj().T @ C @ Y, rtol=1e-8, atol=1e-10)
    assert {"enter", "leave"} <= kinds


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_fast_ends_at_a_maximum_for_every_column(dtype):
    A, y, _, noise_var = problem(M=15, N=25, n_active=3, noise=0.3, dtype=dtype)
    model = SparseBayesianLearning("fast", noise_var=noise_var, min_gain=0, tol=1e-6).fit(A, y)
    assert model.converged_
    gamma = model.gamma_ * np.linalg.norm(A, axis=0) ** 2
    for j in range(25):
        gain, variance = reference.best_gain(unit(A), y[:, None], gamma, noise_var, j)
        assert gain < 1e-5
        if gain > 1e-9:
            assert_allclose(variance, gamma[j], rtol=1e-3)
    expected = reference.sbl_evidence(unit(A), y[:, None], gamma, noise_var)
    assert_allclose(model.log_evidence_[-1], expected, rtol=1e-9)


@pytest.mark.parametrize("T", [None, 4])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_fast_reaches_the_evidence_of_em(dtype, T):
    for seed in range(2):
        A, y, x, _ = problem(M=60, N=150, T=T, dtype=dtype, seed=seed)
        em = SparseBayesianLearning("em", tol=1e-6, max_iter=500).fit(A, y)
        fast = SparseBayesianLearning("fast", tol=1e-6).fit(A, y)
        assert fast.log_evidence_[-1] >= em.log_evidence_[-1] - 1e-3
        for model in (em, fast):
            error = np.linalg.norm(model.coef_.T - x) / np.linalg.norm(x)
            assert error < 0.03  # the noise of 0.05 on 5 of 60 dimensions leaves about 0.01


def test_without_a_price_evidence_alone_decides():
    """At known noise the evidence of the default is lower, and so is its error."""
    A, y, x, noise_var = problem(M=60, N=150, noise=0.3)
    greedy, default = (
        SparseBayesianLearning("fast", noise_var=noise_var, min_gain=gain).fit(A, y)
        for gain in (0, None)
    )
    assert greedy.log_evidence_[-1] > default.log_evidence_[-1]
    assert len(greedy.support_) > len(default.support_) == 5
    errors = [np.linalg.norm(model.coef_ - x) for model in (greedy, default)]
    assert errors[1] < errors[0]


def test_dependent_columns_enter_once():
    A, y, _, _ = problem()
    twice = np.hstack([A, A])
    model = SparseBayesianLearning("fast").fit(twice, y)
    assert len(set(model.support_ % 100)) == len(model.support_)
    assert_allclose(model.predict(twice), SparseBayesianLearning("fast").fit(A, y).predict(A),
                    rtol=1e-6, atol=1e-8)  # fmt: skip
