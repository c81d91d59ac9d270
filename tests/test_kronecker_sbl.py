"""Kronecker-structured sparse Bayesian learning: dense oracles, and what it owes its user."""

import logging
import pickle
import warnings

import numpy as np
import pytest
import reference_kronecker as reference
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from sparseprob import move_estimator_to
from sparseprob._arrays import is_on_gpu, to_numpy
from sparseprob.callbacks import History
from sparseprob.linear_operators import KroneckerOperator, mode_products
from sparseprob.metrics import nmse, support_recovery_rate
from sparseprob.recovery import KroneckerSBL
from sparseprob.recovery._kronecker_posterior import KroneckerPosterior, Measurements, compress
from sparseprob.recovery._kronecker_variances import alternate, change, rank_one

WIDE, TALL, MIXED = [(2, 4), (3, 5), (2, 3)], [(5, 3), (4, 2)], [(2, 4), (5, 3), (2, 2), (3, 2)]
SHAPES = [[(3, 6)], [(6, 3)], WIDE, TALL, MIXED]


def draw(rng, shape, is_complex):
    A = rng.normal(size=shape)
    return A + 1j * rng.normal(size=shape) if is_complex else A


def planted(
    shapes=((8, 15), (12, 15), (15, 15)), k=3, snr=25.0, *, seed=0, is_complex=False, n_snapshots=0
):
    """Factors, a tensor on a product of supports, noisy measurements, the noise variance."""
    rng = np.random.default_rng(seed)
    factors = [draw(rng, shape, is_complex) for shape in shapes]
    supports = [np.sort(rng.choice(n, k, replace=False)) for _, n in shapes]
    sizes = (max(n_snapshots, 1), *(n for _, n in shapes))
    x = np.zeros(sizes, dtype=factors[0].dtype)
    x[np.ix_(range(sizes[0]), *supports)] = draw(rng, (sizes[0], *(k,) * len(shapes)), is_complex)
    y = mode_products(x, factors)
    noise_var = float((np.abs(y) ** 2).mean() / 10 ** (snr / 10))
    noise = draw(rng, y.shape, is_complex) * (noise_var / (2 if is_complex else 1)) ** 0.5
    x, y = (np.moveaxis(A, 0, -1) if n_snapshots else A[0] for A in (x, y + noise))
    return factors, x, y, noise_var


def small(shapes, is_complex, seed=0):
    """A problem for dense oracles: factors, variances, measurements, compressed data."""
    rng = np.random.default_rng(seed)
    factors = [draw(rng, shape, is_complex) for shape in shapes]
    gammas = [rng.uniform(0.1, 2, size=n) for _, n in shapes]
    y = draw(rng, [m for m, _ in shapes], is_complex)
    data = Measurements(y[None], 0.0, y.size, 1)
    return factors, gammas, y, compress(data, factors)


# ---------------------------------------------------------------- posterior
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
class TestPosterior:
    """The exact identities of the E-step hold to rounding: 1e-11 of the largest value."""

    def test_mean_variances_evidence(self, shapes, is_complex):
        factors, gammas, y, (data, small_factors) = small(shapes, is_complex)
        posterior = KroneckerPosterior(data, small_factors, gammas, 0.3)
        A, gamma = reference.dense(factors), reference.prior(gammas)
        mean, covariance, evidence = reference.gaussian_posterior(A, gamma, 0.3, y.ravel())
        assert_allclose(posterior.mean().ravel(), mean, atol=1e-11 * np.abs(mean).max())
        variances = np.diag(covariance).real
        assert_allclose(posterior.variances().ravel(), variances, atol=1e-11 * variances.max())
        assert_allclose(posterior.log_evidence(), evidence, rtol=1e-10)
        moments, noise_var = reference.sbl_step(A, gamma, 0.3, y.ravel())
        assert_allclose(posterior.second_moments().ravel(), moments, rtol=1e-10)
        assert_allclose(posterior.next_noise_var(), noise_var, rtol=1e-10)

    def test_the_factored_covariance(self, shapes, is_complex):
        """Predictions through other factors, and coloring as a matrix square root."""
        factors, gammas, y, _ = small(shapes, is_complex)
        options = {"init": gammas, "noise_var": 0.3, "max_iter": 1, "prune": 0.0, "tol": 1e9}
        model = KroneckerSBL("am", inner_max=1, **options).fit(factors, y)
        A, gamma = reference.dense(factors), reference.prior(model.gammas_)
        covariance = reference.gaussian_posterior(A, gamma, 0.3, y.ravel())[1]
        rng = np.random.default_rng(1)
        others = [draw(rng, (m + 1, n), is_complex) for m, n in shapes]
        for given in (factors, others):
            B = reference.dense(given)
            expected = np.einsum("ij,jk,ik->i", B, covariance, B.conj()).real ** 0.5
            mean, std = model.predict(given, return_std=True)
            assert_allclose(std.ravel(), expected, rtol=1e-8)
            assert_allclose(mean.ravel(), B @ model.coef_.ravel(), rtol=1e-9, atol=1e-10)
        N = len(gamma)
        white = np.eye(N, dtype=y.dtype).reshape(N, *model.coef_.shape)
        root = model._covariance.color(white).reshape(N, N).T
        atol = 1e-10 * np.abs(covariance).max()
        assert_allclose(root @ root.conj().T, covariance, atol=atol)


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
def test_draws_from_the_posterior_have_its_moments(is_complex):
    factors, gammas, y, _ = small([(2, 3), (2, 2)], is_complex)
    model = KroneckerSBL("am", init=gammas, noise_var=0.3, max_iter=1, prune=0.0, tol=1e9)
    model.fit(factors, y)
    A, gamma = reference.dense(factors), reference.prior(model.gammas_)
    mean, covariance, _ = reference.gaussian_posterior(A, gamma, 0.3, y.ravel())
    n = 40_000
    draws = model.sample_posterior(n, random_state=0).reshape(n, -1)
    assert draws.dtype == model.coef_.dtype
    spread = np.sqrt(np.diag(covariance).real)
    error = 4 / np.sqrt(n)  # four standard errors
    assert (np.abs(draws.mean(axis=0) - mean) < 1.5 * error * spread).all()
    around = draws - mean
    found = around.T @ around.conj() / n
    assert (np.abs(found - covariance) < 1.5 * error * np.outer(spread, spread)).all()
    if is_complex:  # circular
        assert (np.abs(around.T @ around / n) < 1.5 * error * np.outer(spread, spread)).all()
    again = model.sample_posterior(3, random_state=0)
    assert_array_equal(again, model.sample_posterior(3, random_state=0))


# ---------------------------------------------------------------- variances
def test_rank_one_moments_are_a_fixed_point_of_all_rules():
    rng = np.random.default_rng(0)
    for sizes in ((6,), (4, 5), (7, 2), (3, 4, 5), (2, 3, 2, 4)):
        gammas = [rng.uniform(0.1, 3, size=n) for n in sizes]
        moments = reference.prior(gammas).reshape(sizes)
        start = [np.ones(n) for n in sizes]
        for found in (
            rank_one(moments),
            alternate(moments, start, max_sweeps=50, tol=1e-13),
            alternate(moments, gammas, max_sweeps=1, tol=0),
        ):
            assert_allclose(reference.prior(found), moments.ravel(), rtol=1e-10)
            assert_allclose([np.linalg.norm(g) for g in found[:-1]], 1, rtol=1e-12)


def test_the_rank_one_rule_is_a_sequence_of_singular_vectors():
    moments = np.random.default_rng(0).exponential(size=(6, 3, 4))
    U, s, Vh = np.linalg.svd(moments.reshape(6, 12))
    U2, s2, Vh2 = np.linalg.svd(np.abs(s[0] * Vh[0]).reshape(3, 4))
    expected = [np.abs(U[:, 0]), np.abs(U2[:, 0]), np.abs(s2[0] * Vh2[0])]
    for found, wanted in zip(rank_one(moments), expected, strict=True):
        assert_allclose(found, wanted, rtol=1e-10)


def test_alternation_ends_where_no_vector_can_be_improved():
    rng = np.random.default_rng(0)
    moments = rng.exponential(size=(4, 5, 3))
    found = alternate(moments, [np.ones(n) for n in moments.shape], max_sweeps=500, tol=1e-12)
    for k, g in enumerate(found):
        assert_allclose(g, reference.block_update(moments, found, k), rtol=1e-8)
    cost = reference.expected_cost(moments, found)
    for _ in range(20):
        other = [g * np.exp(0.1 * rng.normal(size=g.shape)) for g in found]
        assert reference.expected_cost(moments, other) > cost


def test_a_sweep_updates_every_vector_with_the_newest_of_the_others():
    rng = np.random.default_rng(0)
    moments, gammas = rng.exponential(size=(3, 2, 4)), [np.ones(n) for n in (3, 2, 4)]
    expected = list(gammas)
    for k in range(3):
        expected[k] = reference.block_update(moments, expected, k)
        if k < 2:
            expected[k] = expected[k] / np.linalg.norm(expected[k])
    for found, wanted in zip(
        alternate(moments, gammas, max_sweeps=1, tol=0), expected, strict=True
    ):
        assert_allclose(found, wanted, rtol=1e-12)


def test_changes_of_outer_products_keep_their_digits():
    rng = np.random.default_rng(0)
    old = [rng.uniform(size=n) for n in (3, 4, 2)]
    length = np.linalg.norm(reference.prior(old))
    for step in (1.0, 1e-4, 1e-9):
        new = [g + step * rng.normal(size=g.shape) for g in old]
        expected = np.linalg.norm(reference.prior(new) - reference.prior(old)) / length
        assert_allclose(change(new, old), expected, rtol=1e-5)  # digits the oracle has left
    assert change(old, old) == 0
    assert_allclose(change([2 * g for g in old], old), 7, rtol=1e-12)


# ---------------------------------------------------------------- iterations
@pytest.mark.parametrize("method", ["svd", "am", "one-step"])
def test_with_one_factor_a_step_is_that_of_sparse_bayesian_learning(method):
    rng = np.random.default_rng(0)
    A, y, gamma = rng.normal(size=(5, 8)), rng.normal(size=5), rng.uniform(0.5, 2, size=8)
    model = KroneckerSBL(method, max_iter=3, tol=0, prune=0.0, init=[gamma]).fit([A], y)
    noise_var = 0.1 * (y**2).mean()
    for step in range(4):
        evidence = reference.gaussian_posterior(A, gamma, noise_var, y)[2]
        assert_allclose(model.log_evidence_[step], evidence, rtol=1e-10)
        if step < 3:
            gamma, noise_var = reference.sbl_step(A, gamma, noise_var, y)
    assert_allclose(model.gammas_[0], gamma, rtol=1e-10)
    assert_allclose(model.noise_var_, noise_var, rtol=1e-10)
    mean, covariance, _ = reference.gaussian_posterior(A, gamma, noise_var, y)
    assert_allclose(model.coef_, mean, rtol=1e-9)
    assert_allclose(model.posterior_var_, np.diag(covariance), rtol=1e-9)


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("noise", ["known", "learned"])
@pytest.mark.parametrize("method", ["am", "one-step"])
def test_alternation_never_lowers_the_evidence(method, noise, is_complex):
    factors, _, y, noise_var = planted([(4, 6), (5, 7)], 2, 15, is_complex=is_complex)
    model = KroneckerSBL(
        method, noise_var=noise_var if noise == "known" else None, prune=0.0, tol=0, max_iter=60
    ).fit(factors, y)
    steps = np.diff(model.log_evidence_)
    assert steps.min() > -1e-8 * abs(model.log_evidence_[-1])
    assert model.log_evidence_[-1] - model.log_evidence_[0] > 10
    assert not model.converged_


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("method", ["svd", "am"])
def test_noiseless_tensors_are_recovered(method, is_complex):
    factors, x, y, _ = planted(k=2, snr=300, is_complex=is_complex)
    model = KroneckerSBL(method, max_iter=300).fit(factors, y)
    assert nmse(model.coef_, x) < 1e-6
    assert support_recovery_rate(model.coef_, x) == 1
    assert_allclose(model.predict(factors), y, atol=1e-3 * np.abs(y).max())
    assert model.score(factors, y) > 1 - 1e-6


def test_after_pruning_everything_is_exact_for_what_is_left():
    """Compressed data give the posterior of the dense problem restricted to the supports."""
    factors, _, y, _ = planted([(6, 9), (7, 8)], 2, 20)
    model = KroneckerSBL().fit(factors, y)
    assert all(0 < len(S) < F.shape[0] for S, F in zip(model.supports_, factors, strict=True))
    gamma = reference.prior(model.gammas_)
    chosen = gamma > 0
    A = reference.dense(factors)[:, chosen]
    mean, covariance, evidence = reference.gaussian_posterior(
        A, gamma[chosen], model.noise_var_, y.ravel()
    )
    assert_allclose(model.coef_.ravel()[chosen], mean, rtol=1e-9)
    assert_allclose(model.posterior_var_.ravel()[chosen], np.diag(covariance), rtol=1e-8)
    assert not model.coef_.ravel()[~chosen].any()
    assert not model.posterior_var_.ravel()[~chosen].any()
    assert_allclose(model.log_evidence_[-1], evidence, rtol=1e-10)
    assert len(model.log_evidence_) == model.n_iter_ + 1
    support = reference.prior([np.isin(np.arange(F.shape[1]), S) for F, S in
                               zip(factors, model.supports_, strict=True)])  # fmt: skip
    assert_array_equal(support, chosen)


def test_the_noise_is_learned():
    found = []
    for seed in range(6):
        factors, _, y, noise_var = planted(snr=15, seed=seed)
        found.append(KroneckerSBL().fit(factors, y).noise_var_ / noise_var)
    # 1440 residuals: a relative standard deviation of 0.037 each, less what the fit takes
    assert 0.9 < np.median(found) < 1.06


def test_factors_in_another_order_give_the_answer_in_that_order():
    factors, _, y, noise_var = planted([(5, 7), (6, 8), (4, 6)], 2, 20)
    order = [2, 0, 1]
    options = {"noise_var": noise_var, "prune": 0.0, "tol": 0, "max_iter": 10}
    plain = KroneckerSBL("am", inner_tol=0, inner_max=300, **options).fit(factors, y)
    other = KroneckerSBL("am", inner_tol=0, inner_max=300, **options)
    other.fit([factors[k] for k in order], y.transpose(order))
    # the M-steps have converged, so that the order of the sweeps no longer matters
    assert_allclose(
        other.coef_, plain.coef_.transpose(order), atol=1e-6 * np.abs(plain.coef_).max()
    )
    assert_allclose(other.log_evidence_, plain.log_evidence_, rtol=1e-8)


@pytest.mark.parametrize("noise", ["known", "learned"])
def test_units_of_factors_and_measurements_do_not_matter(noise):
    factors, _, y, noise_var = planted([(5, 7), (6, 8), (4, 6)], 2, 20)
    known = noise == "known"
    plain = KroneckerSBL(noise_var=noise_var if known else None).fit(factors, y)
    c, scale = [1e3, 2.0, 1e-5], 1e-4
    model = KroneckerSBL(noise_var=noise_var * scale**2 if known else None)
    model.fit([F * a for F, a in zip(factors, c, strict=True)], y * scale)
    unit = scale / np.prod(c)
    assert_allclose(model.coef_, unit * plain.coef_, atol=1e-9 * unit * np.abs(plain.coef_).max())
    assert_allclose(model.noise_var_, scale**2 * plain.noise_var_, rtol=1e-9)
    shift = y.size * np.log(scale)
    assert_allclose(model.log_evidence_, plain.log_evidence_ - shift, rtol=1e-9, atol=1e-6)
    assert_allclose(model.gammas_[0], plain.gammas_[0], rtol=1e-8)


def test_single_precision_stays_and_is_close_to_double():
    for is_complex, dtype in ((False, np.float32), (True, np.complex64)):
        factors, _, y, noise_var = planted(snr=20, is_complex=is_complex)
        double = KroneckerSBL(noise_var=noise_var).fit(factors, y)
        single = KroneckerSBL(noise_var=noise_var)
        single.fit([F.astype(dtype) for F in factors], y.astype(dtype))
        assert single.coef_.dtype == dtype
        assert single.posterior_var_.dtype == np.float32
        assert {g.dtype for g in single.gammas_} == {np.dtype(np.float32)}
        assert nmse(single.coef_, double.coef_) < 1e-6  # 1e-3 of the length
        assert single.predict([F.astype(dtype) for F in factors]).dtype == dtype
        assert single.sample_posterior(2, 0).dtype == dtype
        _, std = single.predict([F.astype(dtype) for F in factors], return_std=True)
        assert std.dtype == np.float32


def test_a_warm_start_ends_at_once_and_keeps_zeros():
    factors, _, y, _ = planted(snr=20)
    first = KroneckerSBL(tol=1e-8, max_iter=500).fit(factors, y)
    again = KroneckerSBL(init=first.gammas_, noise_var=first.noise_var_).fit(factors, y)
    assert again.n_iter_ == 1
    for a, b in zip(again.supports_, first.supports_, strict=True):
        assert_array_equal(a, b)
    assert_allclose(again.coef_, first.coef_, atol=1e-6)


# ---------------------------------------------------------------- coupling
def test_without_strength_coupling_is_alternation():
    factors, _, y, noise_var = planted(snr=20)
    options = {"noise_var": noise_var, "max_iter": 8, "tol": 0, "inner_max": 5, "prune": 0.0}
    plain = KroneckerSBL("am", **options).fit(factors, y)
    coupled = KroneckerSBL("am", coupling=0.0, **options).fit(factors, y)
    # apart from the floor, 1e-5 of the largest variance
    assert_allclose(coupled.gammas_[0], plain.gammas_[0], atol=1e-3)
    assert nmse(coupled.coef_, plain.coef_) < 1e-4


def test_coupled_variances_are_mixed_from_neighbors():
    """What a rule returns has a non-negative representation, the best one for the target."""
    from sparseprob.recovery._kronecker_variances import Coupling

    rng = np.random.default_rng(0)
    positions = np.array([0, 1, 2, 5, 6, 9])
    C = np.array(
        [[1.0 if a == b else 0.6 * (abs(a - b) == 1) for b in positions] for a in positions]
    )
    rule = Coupling([0.6], [positions])
    inside = C @ rng.uniform(0.1, 1, size=6)
    assert_allclose(rule(0, inside), inside + 1e-5 * inside.max(), rtol=1e-10)
    target = rng.exponential(size=6)
    found = rule(0, target) - 1e-5 * target.max()
    weights = np.linalg.solve(C, found)
    assert weights.min() > -1e-12
    for _ in range(200):  # no other non-negative weights come closer
        other = C @ np.maximum(weights + 0.1 * rng.normal(size=6), 0)
        assert np.linalg.norm(other - target) >= np.linalg.norm(found - target) - 1e-12


def test_coupling_helps_where_supports_are_blocks():
    errors = {}
    for seed in range(6):
        rng = np.random.default_rng(seed)
        factors = [rng.normal(size=(m, 16)) for m in (6, 8)]
        x = np.zeros((16, 16))
        x[np.ix_([4, 5, 6], [9, 10, 11])] = rng.normal(size=(3, 3))
        clean = factors[0] @ x @ factors[1].T
        noise_var = (clean**2).mean() / 10**0.5
        y = clean + noise_var**0.5 * rng.normal(size=clean.shape)
        for coupling in (None, [0.8, 0.8]):
            model = KroneckerSBL("am", coupling=coupling, noise_var=noise_var, tol=1e-3)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(factors, y)
            errors.setdefault(str(coupling), []).append(nmse(model.coef_, x))
    assert np.median(errors["[0.8, 0.8]"]) < np.median(errors["None"])


# ---------------------------------------------------------------- snapshots, forms, libraries
def test_snapshots_share_their_variances():
    factors, x, y, noise_var = planted([(6, 10), (7, 10)], 3, 20, n_snapshots=20)
    model = KroneckerSBL(noise_var=noise_var).fit(factors, y)
    assert model.coef_.shape == x.shape == (10, 10, 20)
    assert model.posterior_var_.shape == (10, 10)
    assert model.predict(factors).shape == y.shape
    assert model.sample_posterior(3, 0).shape == (3, 10, 10, 20)
    alone = [KroneckerSBL(noise_var=noise_var).fit(factors, y[..., t]) for t in range(9)]
    each = np.median([nmse(m.coef_, x[..., t]) for t, m in enumerate(alone)])
    assert nmse(model.coef_, x) < 0.5 * each


def test_moments_and_evidence_of_snapshots_are_those_of_each():
    factors, _, y, _ = planted(WIDE, 2, 10, n_snapshots=3)
    gammas = [np.random.default_rng(k).uniform(0.1, 2, size=n) for k, (_, n) in enumerate(WIDE)]
    stack = np.moveaxis(y, -1, 0)
    data, small_factors = compress(Measurements(stack, 0.0, stack[0].size, 3), factors)
    posterior = KroneckerPosterior(data, small_factors, gammas, 0.2)
    A, gamma = reference.dense(factors), reference.prior(gammas)
    steps = [reference.sbl_step(A, gamma, 0.2, v.ravel()) for v in stack]
    evidence = sum(reference.gaussian_posterior(A, gamma, 0.2, v.ravel())[2] for v in stack)
    expected = np.mean([m for m, _ in steps], axis=0)
    assert_allclose(posterior.second_moments().ravel(), expected, rtol=1e-10)
    assert_allclose(posterior.next_noise_var(), np.mean([v for _, v in steps]), rtol=1e-10)
    assert_allclose(posterior.log_evidence(), evidence, rtol=1e-10)


def test_measurements_may_be_vectors_tensors_or_stacks():
    factors, _, y, _ = planted([(4, 6), (5, 6)], 2)
    expected = KroneckerSBL().fit(factors, y)
    assert expected.predict(factors).shape == (4, 5)
    forms = {(20,): (6, 6), (4, 5, 1): (6, 6, 1), (20, 1): (6, 6, 1)}
    for form, shape in forms.items():
        model = KroneckerSBL().fit(factors, y.reshape(form))
        assert model.coef_.shape == shape
        assert_allclose(model.coef_.reshape(6, 6), expected.coef_, rtol=1e-12)
        prediction, std = model.predict(factors, return_std=True)
        assert prediction.shape == form
        assert std.shape == ((4, 5) if len(form) == 3 else (20,))
        assert_allclose(prediction.ravel(), expected.predict(factors).ravel(), rtol=1e-10)
    by_operator = KroneckerSBL().fit(KroneckerOperator(factors), y.ravel())
    assert_array_equal(by_operator.coef_, expected.coef_)
    assert_allclose(
        by_operator.predict(KroneckerOperator(factors)), expected.predict(factors).ravel()
    )


def test_answers_live_in_the_library_of_the_factors(xp):
    factors, _, y, _ = planted([(4, 6), (5, 6)], 2)
    expected = KroneckerSBL().fit(factors, y)
    given, Y = [xp.asarray(F) for F in factors], xp.asarray(y)
    model = KroneckerSBL().fit(given, Y)
    for name in ("coef_", "posterior_var_"):
        found = getattr(model, name)
        assert type(found) is type(Y)
        assert_allclose(to_numpy(found), getattr(expected, name), rtol=1e-8, atol=1e-12)
    assert type(model.gammas_[1]) is type(Y)
    prediction, std = model.predict(given, return_std=True)
    assert type(prediction) is type(std) is type(Y)
    wanted = expected.predict(factors, return_std=True)
    assert_allclose(to_numpy(prediction), wanted[0], rtol=1e-8)
    assert_allclose(to_numpy(std), wanted[1], rtol=1e-6)
    draws = model.sample_posterior(2, random_state=0)
    assert type(draws) is type(Y)
    assert_allclose(to_numpy(draws), expected.sample_posterior(2, random_state=0), atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["svd", "am"])
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
def test_the_gpu_gives_the_answer_of_the_cpu(method, is_complex):
    import cupy

    factors, _, y, noise_var = planted(snr=20, is_complex=is_complex, n_snapshots=2)
    options = {"noise_var": noise_var, "max_iter": 25, "tol": 0}
    options |= {"coupling": 0.3} if method == "am" else {}
    host = KroneckerSBL(method, **options).fit(factors, y)
    device = KroneckerSBL(method, **options).fit(
        [cupy.asarray(F) for F in factors], cupy.asarray(y)
    )
    assert is_on_gpu(device.coef_)
    assert_allclose(to_numpy(device.coef_), host.coef_, atol=1e-6 * np.abs(host.coef_).max())
    assert_allclose(device.log_evidence_, host.log_evidence_, rtol=1e-8)
    operator = KroneckerOperator([cupy.asarray(F) for F in factors])
    by_operator = KroneckerSBL(method, **options).fit(operator, y)  # y moves to the factors
    assert is_on_gpu(by_operator.coef_)
    with pytest.raises(ValueError, match="y is on the GPU and the factors are on the host"):
        KroneckerSBL().fit(factors, cupy.asarray(y))


RANKS = """
import sys
import numpy as np
from sparseprob import distributed, row_slice
from sparseprob.recovery import KroneckerOMP, KroneckerSBL

rng = np.random.default_rng(0)
factors = [rng.normal(size=s) + 1j * rng.normal(size=s) for s in ((4, 8), (5, 8))]
x = np.zeros((5, 8, 8), dtype=complex)
x[:, [[1], [6]], [2, 3]] = rng.normal(size=(5, 2, 2))
y = np.einsum("ai,bj,tij->abt", *factors, x) + 0.1 * rng.normal(size=(4, 5, 5))
found = {}
with distributed() as comm:
    mine = y[..., row_slice(5)]
    for name, model in {
        "svd": KroneckerSBL(), "am": KroneckerSBL("am", coupling=0.2, max_iter=20, tol=0),
        "omp": KroneckerOMP(3),
    }.items():
        model.fit(factors, mine)
        pieces = comm.allgather(model.coef_)
        found[name] = np.concatenate(pieces, axis=-1)
        if name != "omp":
            found[name + " evidence"] = model.log_evidence_
    model = KroneckerSBL().fit(factors, y if comm.rank == 0 else y[..., :0])  # nothing on rank 1
    found["all on one"] = np.concatenate(comm.allgather(model.coef_), axis=-1)
    if comm.rank == 0:
        np.savez(sys.argv[1], **found)
"""


@pytest.mark.mpi
def test_ranks_hold_snapshots_and_end_with_one_model(tmp_path, mpiexec):
    for n_ranks in (1, 2):
        mpiexec(n_ranks, RANKS, f"{n_ranks}.npz")
    one, two = (np.load(tmp_path / f"{n}.npz") for n in (1, 2))
    assert len(one.files) == 6
    for name in one.files:
        atol = 1e-10 * np.abs(one[name]).max()
        assert_allclose(two[name], one[name], rtol=0, atol=atol, err_msg=name)


# ---------------------------------------------------------------- what is owed to the user
def test_callbacks_see_a_model_after_every_iteration():
    factors, _, y, _ = planted([(4, 6), (5, 6)], 2)
    history = History(("n_iter_", "noise_var_"))
    model = KroneckerSBL().set_callbacks(history).fit(factors, y)
    assert history.records["n_iter_"] == list(range(1, model.n_iter_ + 1))
    assert history.records["noise_var_"][-1] == model.noise_var_
    assert model.converged_
    assert model.stop_reason_ == "converged"


def test_clones_pickles_and_logs(caplog):
    factors, _, y, _ = planted([(4, 6), (5, 6)], 2)
    model = clone(KroneckerSBL(noise_var=0.1, verbose=1))
    with caplog.at_level(logging.INFO, "sparseprob.recovery"):
        model.fit(factors, y)
    assert len(caplog.records) == model.n_iter_
    assert "left " in caplog.text
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.sample_posterior(2, 0), model.sample_posterior(2, 0))
    assert not model.__sklearn_tags__().input_tags.two_d_array
    with pytest.raises(NotFittedError):
        KroneckerSBL().predict(factors)


def test_nothing_measured_gives_zeros_without_a_warning():
    factors, _, y, _ = planted([(4, 6), (5, 6)], 2)
    for X, Y in ((factors, 0 * y), ([factors[0], 0 * factors[1]], y)):
        model = KroneckerSBL().fit(X, Y)
        assert not model.coef_.any()
        assert model.stop_reason_ == "zero_target"
        prediction, std = model.predict(factors, return_std=True)
        assert not prediction.any()
        assert not std.any()
        assert not model.sample_posterior(2, 0).any()


def test_columns_of_zeros_have_no_coefficients():
    factors, _, y, _ = planted([(4, 6), (5, 6)], 2)
    factors[0][:, 3] = 0
    model = KroneckerSBL(prune=0.0, max_iter=5, tol=0).fit(factors, y)
    assert not model.coef_[3].any()
    assert 3 not in model.supports_[0]
    others = [factors[0][:, [0, 1, 2, 4, 5]], factors[1]]
    without = KroneckerSBL(prune=0.0, max_iter=5, tol=0).fit(others, y)
    assert_allclose(model.coef_[[0, 1, 2, 4, 5]], without.coef_, rtol=1e-6, atol=1e-9)


def test_running_out_of_iterations_is_said():
    factors, _, y, _ = planted([(4, 6), (5, 6)], 2)
    with pytest.warns(ConvergenceWarning, match="more than tol=0.0001 after 2 iterations"):
        model = KroneckerSBL(max_iter=2).fit(factors, y)
    assert model.stop_reason_ == "max_iter"


FACTORS = [np.eye(2), np.ones((3, 4))]


@pytest.mark.parametrize(
    ("options", "X", "y", "error", "message"),
    [
        ({}, FACTORS, np.ones(5), ValueError,
         r"y has shape \(5,\) but the factors, of shapes \(2, 2\), \(3, 4\), need 6"),
        ({}, FACTORS, np.ones((3, 2)), ValueError, r"a tensor of shape \(2, 3\)"),
        ({}, FACTORS, np.full(6, np.nan), ValueError, "y contains NaN"),
        ({}, FACTORS, np.ones((6, 0)), ValueError, "y has no snapshots"),
        ({}, FACTORS, np.ones(6, dtype=np.float16), TypeError, "y has dtype float16"),
        ({}, FACTORS, np.array(["a"] * 6), TypeError, "y has dtype <U1"),
        ({}, FACTORS, None, ValueError, "y is None"),
        ({}, np.eye(2), np.ones(2), TypeError, "must be a list of 2-D arrays"),
        ({}, [np.eye(2), np.full((2, 2), np.inf)], np.ones(4), ValueError, "factor 1 contains NaN"),
        ({"noise_var": 0.0}, FACTORS, np.ones(6), ValueError, "'noise_var' parameter"),
        ({"tol": -1.0}, FACTORS, np.ones(6), ValueError, "'tol' parameter"),
        ({"method": "em"}, FACTORS, np.ones(6), ValueError, "'method' parameter"),
        ({"method": "am", "coupling": 1.0}, FACTORS, np.ones(6), ValueError, "'coupling' param"),
        ({"method": "am", "coupling": [0.5, 1.0]}, FACTORS, np.ones(6), ValueError,
         r"coupling must be numbers in \[0, 1\)"),
        ({"method": "am", "coupling": [0.5]}, FACTORS, np.ones(6), ValueError,
         "coupling has 1 values for 2 factors"),
        ({"coupling": 0.5}, FACTORS, np.ones(6), ValueError, "coupling needs method='am'"),
        ({"prune": [0.1, -0.1]}, FACTORS, np.ones(6), ValueError, "prune must be numbers"),
        ({"init": [np.ones(2)]}, FACTORS, np.ones(6), ValueError, r"lengths \[2, 4\], got shapes"),
        ({"init": [np.ones(2), -np.ones(4)]}, FACTORS, np.ones(6), ValueError, "non-negative"),
    ],
)  # fmt: skip
def test_bad_input(options, X, y, error, message):
    with pytest.raises(error, match=message):
        KroneckerSBL(**options).fit(X, y)


def test_predictions_need_factors_of_the_same_columns():
    factors, _, y, _ = planted([(4, 6), (5, 6)], 2)
    model = KroneckerSBL().fit(factors, y)
    with pytest.raises(ValueError, match=r"fitted with \(6, 6\) columns"):
        model.predict([np.eye(6), np.eye(5)])
    with pytest.raises(ValueError, match=r"fitted with \(6, 6\) columns"):
        model.predict([np.eye(6)])
    torch = pytest.importorskip("torch")
    there = [torch.from_numpy(F) for F in factors]
    with pytest.raises(ValueError, match="fitted on numpy, got torch"):
        model.predict(there)
    moved = move_estimator_to(model, there[0])
    found, expected = (m.predict(X, return_std=True) for m, X in ((moved, there), (model, factors)))
    for a, b in zip(found, expected, strict=True):
        assert_allclose(to_numpy(a), b, rtol=1e-12)
