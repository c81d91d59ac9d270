"""Weighted orthogonal matching pursuit: what weights, losses and alpha do."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator

from sparseprob._arrays import to_numpy
from sparseprob.recovery import (
    OrthogonalMatchingPursuit,
    WeightedOMP,
    _pursuit,
    orthogonal_mp,
)
from sparseprob.recovery._alphas import alpha_max, noise_blind_alpha
from sparseprob.recovery._measurements import UnitColumns

RULES = [(loss, penalty) for loss in ("squared", "sqrt") for penalty in ("l1", "l0")]


@pytest.fixture(params=["gram", "one by one", "side by side"])
def method(request, monkeypatch):
    """Each form of the engine: the Gram matrix, and residuals of one or of many targets."""
    if request.param == "gram":
        return "gram"
    monkeypatch.setattr(_pursuit, "_FEW", 4 if request.param == "one by one" else 0)
    return "residual"


def compressed_sensing(seed, M, N, s, eta):
    """Unit columns, y with noise of length eta, and s standard normal coefficients."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(M, N))
    A /= np.linalg.norm(A, axis=0)
    x, e = np.zeros(N), rng.normal(size=M)
    x[rng.choice(N, s, replace=False)] = rng.normal(size=s)
    return A, A @ x + eta * e / np.linalg.norm(e), x


def orthogonal_matrix(seed, n):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


# --- closed forms ---------------------------------------------------------------------------------


def test_an_orthogonal_matrix_gives_thresholds(method):
    Q, rng = orthogonal_matrix(0, 40), np.random.default_rng(1)
    c, weights, alpha = rng.normal(size=40), rng.uniform(0.5, 1.5, 40), 0.6
    hard = WeightedOMP("squared", "l0", alpha, weights=weights, method=method).fit(Q, Q @ c)
    kept = np.abs(c) > np.sqrt(alpha) * weights
    assert 5 < kept.sum() < 35
    assert_allclose(hard.coef_, np.where(kept, c, 0), atol=1e-12)
    # With l1 and equal weights, the first column enters above alpha / 2, the others above alpha.
    soft = WeightedOMP("squared", "l1", alpha, method=method).fit(Q, Q @ c)
    assert_array_equal(np.flatnonzero(soft.coef_), np.flatnonzero(np.abs(c) > alpha))
    lone = WeightedOMP("squared", "l1", 1.5 * np.abs(c).max(), method=method).fit(Q, Q @ c)
    assert_array_equal(lone.support_, [np.abs(c).argmax()])
    assert lone.stop_reason_ == "active_index"


@pytest.mark.parametrize(("loss", "penalty"), RULES)
def test_alpha_max_is_where_the_first_column_enters(loss, penalty, method):
    A, y, _ = compressed_sensing(2, 40, 60, 5, 0.1)
    A *= np.random.default_rng(0).uniform(0.5, 2, 60)  # lengths do not matter
    weights = np.random.default_rng(1).uniform(0.5, 2, 60)
    if (loss, penalty) == ("sqrt", "l1"):
        weights = np.maximum(weights, 0.9)  # a price of one or more keeps a column out
    largest = alpha_max(UnitColumns(A, np.float64), y, loss, penalty, weights)
    for factor, size in ((1 + 1e-9, 0), (1 - 1e-6, 1)):
        model = WeightedOMP(loss, penalty, factor * largest, weights=weights, method=method)
        assert (model.fit(A, y).n_nonzero_coefs_ > 0) == size
    weights[:30] = 0
    kept = alpha_max(UnitColumns(A[:, 30:], np.float64), y, loss, penalty, weights[30:])
    assert_allclose(alpha_max(UnitColumns(A, np.float64), y, loss, penalty, weights), kept)


def test_alpha_max_of_nothing_is_zero():
    A, y, _ = compressed_sensing(3, 20, 30, 3, 0.1)
    columns = UnitColumns(A, np.float64)
    assert alpha_max(columns, 0 * y, "sqrt", "l1") == 0
    assert alpha_max(columns, y, "squared", "l0", np.zeros(30)) == 0


def test_the_automatic_alpha():
    tau = np.sqrt(2 * np.log(300) / 150)
    alpha = noise_blind_alpha(150, 300)
    assert_allclose(2 * alpha * np.sqrt(1 - alpha**2), tau, rtol=1e-14)
    A, y, _ = compressed_sensing(4, 150, 300, 10, 0.1)
    assert WeightedOMP().fit(A, y).alpha_ == alpha


# --- invariance -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "penalty", "power"),
    [("sqrt", "l1", 0), ("sqrt", "l0", 1), ("squared", "l1", 1), ("squared", "l0", 2)],
)
def test_scaling_the_measurements(loss, penalty, power, method):
    A, y, _ = compressed_sensing(5, 50, 80, 6, 0.3)
    weights = np.random.default_rng(0).uniform(0.5, 1, 80)
    model = WeightedOMP(loss, penalty, 0.15, weights=weights, method=method).fit(A, y)
    assert model.stop_reason_ in ("active_index", "no_decrease")
    assert 1 < model.n_iter_ < 40
    for s in (1e-3, 50.0):
        scaled = WeightedOMP(loss, penalty, 0.15 * s**power, weights=weights, method=method)
        scaled.fit(A, s * y)
        assert_array_equal(scaled.support_, model.support_)
        assert_allclose(scaled.coef_, s * model.coef_, rtol=1e-10, atol=1e-12 * s)


@pytest.mark.parametrize("loss", ["squared", "sqrt"])
def test_without_a_penalty_it_is_orthogonal_matching_pursuit(loss):
    A, y, _ = compressed_sensing(6, 50, 80, 6, 0.3)
    weights = np.random.default_rng(0).uniform(0, 5, 80)
    model = WeightedOMP(loss, alpha=0, weights=weights).fit(A, y)
    plain = OrthogonalMatchingPursuit().fit(A, y)
    assert_array_equal(model.support_, plain.support_)
    assert len(model.support_) == 8  # a tenth of the columns
    assert_allclose(model.coef_, plain.coef_, atol=1e-13)


def test_lengths_of_columns_do_not_matter(method):
    A, y, _ = compressed_sensing(7, 50, 80, 6, 0.3)
    lengths = np.random.default_rng(0).uniform(0.1, 10, 80)
    weights = np.random.default_rng(1).uniform(0.5, 1, 80)
    model = WeightedOMP(alpha=0.1, weights=weights, method=method).fit(A, y)
    scaled = WeightedOMP(alpha=0.1, weights=weights, method=method).fit(A * lengths, y)
    given = WeightedOMP(alpha=0.1, weights=weights, normalize=False, method=method).fit(A, y)
    assert_array_equal(scaled.support_, model.support_)
    assert_allclose(scaled.coef_ * lengths, model.coef_, atol=1e-12)
    assert_allclose(given.coef_, model.coef_, atol=1e-12)


@pytest.mark.parametrize("loss", ["squared", "sqrt", "absolute"])
def test_kinds_of_matrices_and_many_targets(loss):
    A, _, _ = compressed_sensing(8, 30, 40, 4, 0.1)
    Y = np.stack([compressed_sensing(8, 30, 40, 4, eta)[1] for eta in (0.1, 0.3)], axis=1)
    kinds = [A, sparse.csr_array(A), aslinearoperator(A)]
    models = [WeightedOMP(loss, alpha=0.3, max_iter=6).fit(kind, Y) for kind in kinds]
    for model in models:
        assert model.coef_.shape == (2, 40)
        assert_allclose(model.coef_, models[0].coef_, atol=1e-10)
        for t in range(2):
            one = WeightedOMP(loss, alpha=0.3, max_iter=6).fit(A, Y[:, t])
            assert_array_equal(model.support_[t], one.support_)
            assert_allclose(model.coef_[t], one.coef_, atol=1e-10)
            assert_allclose(model.residual_norm_[t], one.residual_norm_, rtol=1e-10)
            assert model.stop_reason_[t] == one.stop_reason_
            assert_allclose(one.path_.coef_at(one.n_iter_), one.coef_, atol=1e-10)
    assert sum(models[0].n_nonzero_coefs_) > 2


@pytest.mark.parametrize("loss", ["sqrt", "absolute"])
def test_every_library_gives_the_same(xp, loss):
    if loss == "absolute" and xp.name == "cupy":
        pytest.skip("absolute deviations are for the host")
    A, y, _ = compressed_sensing(9, 30, 50, 4, 0.1)
    weights = np.random.default_rng(0).uniform(0.5, 1, 50)
    expected = WeightedOMP(loss, alpha=0.3, weights=weights).fit(A, y)
    ours = WeightedOMP(loss, alpha=0.3, weights=xp.asarray(weights))
    ours.fit(xp.asarray(A), xp.asarray(y))
    assert type(ours.coef_) is type(xp.asarray(A))
    assert len(expected.support_) > 1
    assert_array_equal(to_numpy(ours.support_), expected.support_)
    assert_allclose(to_numpy(ours.coef_), expected.coef_, atol=1e-11)
    assert_allclose(to_numpy(ours.predict(xp.asarray(A))), expected.predict(A), atol=1e-11)


# --- what it is for -------------------------------------------------------------------------------


def oracle_error(A, y, x):
    """Relative error of least squares on the true support."""
    fit, support = np.zeros_like(x), np.flatnonzero(x)
    fit[support] = np.linalg.lstsq(A[:, support], y)[0]
    return np.linalg.norm(fit - x) / np.linalg.norm(x)


@pytest.mark.parametrize("eta", [1e-3, 1e-1])
def test_one_alpha_serves_all_levels_of_noise(eta):
    """Medians of 50 trials: within a fifth of least squares on the true support."""
    problems = [compressed_sensing(seed, 150, 300, 10, eta) for seed in range(50)]
    best = np.median([oracle_error(*problem) for problem in problems])
    for alpha in ("auto", 0.178):
        errors = [
            np.linalg.norm(WeightedOMP(alpha=alpha).fit(A, y).coef_ - x) / np.linalg.norm(x)
            for A, y, x in problems
        ]
        assert np.median(errors) < 1.2 * best
    steps = [np.linalg.norm(orthogonal_mp(A, y, n_nonzero_coefs=30) - x) for A, y, x in problems]
    assert np.median(steps) > 2.5 * best  # without a penalty, 30 columns fit the noise


def test_weights_make_up_for_missing_measurements():
    """Half of the true support is known; 40 measurements of 500 unknowns (60 trials)."""
    errors = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        A, x = rng.normal(size=(40, 500)) / np.sqrt(40), np.zeros(500)
        support = rng.choice(500, 10, replace=False)
        x[support] = rng.normal(size=10)
        y = A @ x + 1e-3 * rng.normal(size=40)
        weights = np.ones(500)
        weights[support[:5]] = 1e-3
        fits = [WeightedOMP(alpha=0.251, weights=w).fit(A, y).coef_ for w in (weights, None)]
        errors.append([np.linalg.norm(fit - x) / np.linalg.norm(x) for fit in fits])
    known, unknown = np.array(errors).T
    assert np.median(known) < 2e-3  # 1.44e-3 in the paper
    assert np.mean(known < 0.01) > np.mean(unknown < 0.01) + 0.15


def test_absolute_deviations_stand_outliers():
    """Three of 60 measurements are off by about 100."""
    A, y, x = compressed_sensing(10, 60, 100, 5, 1e-3)
    y[[3, 17, 40]] += 100 * np.random.default_rng(0).normal(size=3)
    robust = WeightedOMP("absolute", alpha=1.0).fit(A, y)
    assert np.linalg.norm(robust.coef_ - x) < 1e-3 * np.linalg.norm(x)
    assert robust.stop_reason_ == "active_index"
    with pytest.raises(ValueError, match="fits depend on alpha"):
        robust.path_.coef_at_alpha(2.0)
    squares = WeightedOMP("squared", alpha=1.0).fit(A, y)
    assert np.linalg.norm(squares.coef_ - x) > np.linalg.norm(x)


def test_the_tolerance_and_the_number_of_columns_end_it(method):
    A, y, _ = compressed_sensing(11, 50, 80, 6, 0.1)
    model = WeightedOMP(alpha=1e-3, tol=0.3, method=method).fit(A, y)
    assert model.stop_reason_ == "tol"
    assert model.residual_norm_**2 <= 0.3 < model.path_.residual_norms[-2] ** 2
    model = WeightedOMP(alpha=1e-3, max_iter=3, method=method).fit(A, y)
    assert (model.stop_reason_, model.n_iter_) == ("max_iter", 3)
    model = WeightedOMP(alpha=1e-3, method=method).fit(A, 0 * y)
    assert (model.stop_reason_, model.n_iter_) == ("zero_target", 0)
    assert_array_equal(model.coef_, 0)
    model = WeightedOMP("squared", alpha=1e3, method=method).fit(A, y)
    assert (model.stop_reason_, model.n_iter_) == ("no_decrease", 0)


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "squared"}, "alpha='auto' is known for loss='sqrt' and penalty='l1' only"),
        ({"penalty": "l0"}, "let WeightedOMPCV choose"),
        ({"alpha": -1.0}, "alpha"),
        ({"weights": [1.0, 2.0]}, "one entry for each of the 30 columns"),
        ({"normalize": False}, "normalize=False expects columns of unit length, but column 4"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    A, y, _ = compressed_sensing(12, 20, 30, 3, 0.1)
    A[:, 4] *= 2
    with pytest.raises(ValueError, match=message):
        WeightedOMP(**arguments).fit(A, y)


def test_absolute_deviations_are_for_real_data():
    A, y, _ = compressed_sensing(13, 20, 30, 3, 0.1)
    for data in ((A + 0j, y), (A, y + 1j)):
        with pytest.raises(ValueError, match="loss='absolute' is for real data"):
            WeightedOMP("absolute", alpha=0.1).fit(*data)
    assert WeightedOMP().fit(A + 0j, y + 1j).coef_.dtype == np.complex128
