"""Regression by the Vecchia likelihood: exact with all neighbors, and what it says of failures."""

import subprocess
import sys

import numpy as np
import pytest
import reference_gp as reference
from numpy.testing import assert_allclose
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel

from sparseprob._arrays import to_numpy
from sparseprob.callbacks import History
from sparseprob.gp import VecchiaGPRegressor
from sparseprob.gp._fisher import Ascent

KERNEL = 1.3 * Matern([0.4, 0.6], nu=2.5)
NOISE = 0.02
FIXED = {"noise_variance": NOISE, "optimize_kernel": False}


def field(n, seed=0):
    """Noisy values of a smooth function, and the points of some queries."""
    rng = np.random.default_rng(seed)
    X = rng.random((n, 2))
    y = np.sin(5 * X[:, 0]) + X[:, 1] + 0.1 * rng.standard_normal(n)
    return X, y, rng.random((13, 2))


@pytest.fixture
def exact():
    """What scikit-learn's exact model makes of 60 values, standardized."""
    X, y, _ = field(60)
    return GaussianProcessRegressor(KERNEL, alpha=NOISE, optimizer=None, normalize_y=True).fit(X, y)


def test_with_all_neighbors_it_is_the_exact_model(exact):
    X, y, Q = field(60)
    model = VecchiaGPRegressor(KERNEL, n_neighbors=59, normalize_y=True, **FIXED).fit(X, y)
    expected = exact.log_marginal_likelihood_value_
    assert_allclose(model.log_marginal_likelihood_value_, expected, rtol=1e-10)
    assert_allclose(model.log_marginal_likelihood(), expected, rtol=1e-10)
    theta = KERNEL.theta + 0.1
    assert_allclose(
        model.log_marginal_likelihood(theta, noise_variance=NOISE),
        exact.log_marginal_likelihood(theta),
        rtol=1e-10,
    )
    mean, std = exact.predict(Q, return_std=True)
    cov = exact.predict(Q, return_cov=True)[1]
    for joint in (False, True):
        ours = model.predict(Q, return_std=True, joint=joint)
        assert_allclose(ours[0], mean, atol=1e-8)
        assert_allclose(ours[1], std, atol=1e-8)
    assert_allclose(model.predict(Q, return_cov=True)[1], cov, atol=1e-8)
    assert_allclose(model.score(Q, mean), 1.0)


def test_local_predictions_are_kriging_from_twice_as_many_neighbors():
    X, y, Q = field(200)
    model = VecchiaGPRegressor(KERNEL, n_neighbors=4, **FIXED).fit(X, y)
    mean, std = model.predict(Q, return_std=True)
    K = KERNEL(X) + NOISE * np.eye(200)
    for i, x in enumerate(Q):
        S = np.argsort((((X - x) / [0.4, 0.6]) ** 2).sum(axis=1))[:8]
        expected = reference.kriging(K[np.ix_(S, S)], KERNEL(Q[i : i + 1], X[S])[0], 1.3, y[S])
        assert_allclose([mean[i], std[i] ** 2], expected, atol=1e-11)


def test_one_query_is_the_same_jointly_and_alone():
    X, y, Q = field(200)
    model = VecchiaGPRegressor(KERNEL, n_neighbors=5, **FIXED).fit(X, y)
    for x in Q:
        alone, joint = (model.predict(x[None], return_std=True, joint=j) for j in (False, True))
        assert_allclose(np.ravel(joint), np.ravel(alone), atol=1e-7)


def test_noise_of_observations_and_draws_from_the_posterior():
    X, y, Q = field(150)
    model = VecchiaGPRegressor(KERNEL, n_neighbors=20, normalize_y=True, **FIXED).fit(X, y)
    mean, cov = model.predict(Q, return_cov=True)
    noise = NOISE * y.var()
    for joint in (False, True):
        std = model.predict(Q, return_std=True, joint=joint)[1]
        noisy = model.predict(Q, return_std=True, joint=joint, observation=True)[1]
        assert_allclose(noisy**2 - std**2, noise, rtol=1e-9)
    assert_allclose(np.sqrt(np.diag(cov)), std, rtol=1e-9)
    assert_allclose(
        model.predict(Q, return_cov=True, observation=True)[1] - cov, noise * np.eye(13), atol=1e-12
    )
    draws = model.sample_y(Q, 4000, random_state=0)
    assert draws.shape == (13, 4000)
    error = np.sqrt(np.diag(cov) / 4000)
    assert np.all(abs(draws.mean(axis=1) - mean) < 4 * error)
    assert_allclose(np.cov(draws), cov, atol=4 * np.diag(cov).max() * np.sqrt(2 / 4000))


@pytest.mark.parametrize("solver", ["fisher", "lbfgs"])
def test_the_learned_kernel_is_that_of_the_exact_likelihood(solver):
    X, y, _ = field(60)
    peer = GaussianProcessRegressor(KERNEL + WhiteKernel(NOISE)).fit(X, y)
    model = VecchiaGPRegressor(KERNEL, noise_variance=0.5, n_neighbors=59, solver=solver, tol=1e-9)
    history = History(("log_marginal_likelihood_value_",))
    model.set_callbacks(history).fit(X, y)
    assert model.converged_
    expected = peer.log_marginal_likelihood_value_
    assert_allclose(model.log_marginal_likelihood_value_, expected, atol=1e-4)
    theta = np.append(model.kernel_.theta, np.log(model.noise_variance_))
    assert_allclose(theta, peer.kernel_.theta, atol=1e-2)  # scikit-learn's stops at 1e-5 of value
    values = history.records["log_marginal_likelihood_value_"]
    assert np.all(np.diff(values) >= 0)


def test_the_default_kernel_finds_scales_and_noise():
    X, y, Q = field(800)
    options = {"n_neighbors": 15, "tol": 1e-11, "reorder_tol": 1e3}
    stretched = VecchiaGPRegressor(**options).fit(X * [1.0, 1e3], 50 * y)
    plain = VecchiaGPRegressor(**options).fit(X, y)
    assert_allclose(plain.noise_variance_, 0.01, rtol=0.15)
    assert_allclose(stretched.noise_variance_, 2500 * plain.noise_variance_, rtol=1e-3)
    assert_allclose(stretched.predict(Q * [1.0, 1e3]), 50 * plain.predict(Q), atol=0.05)


def test_many_points_begin_with_a_part_of_them():
    """The short cut ends where the plain ascent does, and does not lose the order's freshness."""
    from sparseprob.gp import _response_search as search

    X, y, Q = field(900)
    X *= [1.0, 20.0]
    options = {"kernel": Matern([1.0, 1.0], (1e-2, 1e3), nu=1.5), "n_neighbors": 10, "tol": 1e-8}
    plain = VecchiaGPRegressor(**options).fit(X, y)
    before = search._FIRST_COLUMNS
    try:
        search._FIRST_COLUMNS = 200
        staged = VecchiaGPRegressor(**options).fit(X, y)
    finally:
        search._FIRST_COLUMNS = before
    # Orders differ where length-scales did when points were ordered, by up to reorder_tol.
    assert_allclose(
        staged.log_marginal_likelihood_value_, plain.log_marginal_likelihood_value_, rtol=0.02
    )
    assert_allclose(staged.predict(Q), plain.predict(Q), atol=0.02)
    ratio = np.divide(*plain.kernel_.length_scale)
    assert ratio < 0.5  # so that points were ordered again


def test_order_of_rows_does_not_matter():
    X, y, Q = field(300)
    shuffled = np.random.default_rng(1).permutation(300)
    one = VecchiaGPRegressor(n_neighbors=10).fit(X, y)
    other = VecchiaGPRegressor(n_neighbors=10).fit(X[shuffled], y[shuffled])
    assert_allclose(other.predict(Q), one.predict(Q), rtol=1e-8)
    assert_allclose(shuffled[other.order_], one.order_)


@pytest.mark.parametrize(
    "ordering", ["maximin", "maximin-approximate", "random", "coordinate", "given"]
)
def test_orders(ordering):
    X, y, Q = field(300)
    model = VecchiaGPRegressor(n_neighbors=20, ordering=ordering, random_state=0).fit(X, y)
    assert_allclose(np.sort(model.order_), np.arange(300))
    truth = np.sin(5 * Q[:, 0]) + Q[:, 1]
    assert_allclose(model.predict(Q), truth, atol=0.15)


def test_arrays_of_any_library(xp):
    X, y, Q = field(120)
    options = {"n_neighbors": 8, "normalize_y": True}
    expected = VecchiaGPRegressor(**options).fit(X, y)
    model = VecchiaGPRegressor(**options).fit(xp.asarray(X), xp.asarray(y))
    mean, std = model.predict(xp.asarray(Q), return_std=True)
    assert type(mean) is type(xp.asarray(Q))
    assert_allclose(to_numpy(mean), expected.predict(Q), rtol=1e-7)
    assert_allclose(to_numpy(std), expected.predict(Q, return_std=True)[1], rtol=1e-7)
    cov = model.predict(xp.asarray(Q), return_cov=True)[1]
    assert_allclose(to_numpy(cov), expected.predict(Q, return_cov=True)[1], atol=1e-8)


def test_likelihood_is_that_of_gpboost():
    gpboost = pytest.importorskip("gpboost")
    X, y, _ = field(300)
    peer = gpboost.GPModel(
        gp_coords=X,
        cov_function="matern",
        cov_fct_shape=1.5,
        gp_approx="vecchia",
        num_neighbors=12,
        vecchia_ordering="none",
    )
    theirs = -peer.neg_log_likelihood(np.array([0.1, 2.0, 0.3]), y)
    kernel = ConstantKernel(2.0) * Matern(0.3, nu=1.5)
    options = {"noise_variance": 0.1, "optimize_kernel": False, "ordering": "given"}
    ours = VecchiaGPRegressor(kernel, n_neighbors=12, **options).fit(X, y)
    assert_allclose(ours.log_marginal_likelihood_value_, theirs, rtol=1e-8)


def test_parameters_at_bounds_are_named():
    X, y, _ = field(80)
    kernel = ConstantKernel(1.0) * Matern(0.4, (0.39, 0.41))
    with pytest.warns(UserWarning, match="k2__length_scale.* ended at a bound"):
        model = VecchiaGPRegressor(kernel, n_neighbors=10).fit(X, y)
    assert_allclose(model.kernel_.k2.length_scale, 0.41)


def test_constant_features_keep_their_lengthscale():
    X, y, Q = field(80)
    X[:, 1] = 0.5
    with pytest.warns(UserWarning, match=r"Features \[1\] of X are constant"):
        model = VecchiaGPRegressor(1.0 * Matern([0.4, 0.7]), n_neighbors=10).fit(X, y)
    assert_allclose(model.kernel_.k2.length_scale[1], 0.7, rtol=1e-12)
    assert model.kernel_.k2.length_scale[0] != pytest.approx(0.4, rel=1e-3)


def test_repeated_points_are_measurements_of_one_value():
    X, y, Q = field(60)
    twice = VecchiaGPRegressor(KERNEL, n_neighbors=200, **FIXED)
    with pytest.warns(UserWarning, match="60 rows that repeat another row"):
        twice.fit(np.vstack([X, X]), np.append(y, y))
    half = VecchiaGPRegressor(
        KERNEL, n_neighbors=200, noise_variance=NOISE / 2, optimize_kernel=False
    ).fit(X, y)
    assert_allclose(twice.predict(Q), half.predict(Q), atol=1e-8)


def test_jitter_is_counted():
    X, y, _ = field(200)
    model = VecchiaGPRegressor(RBF(3.0), noise_variance=1e-18, optimize_kernel=False)
    with pytest.warns(UserWarning, match="neighborhoods are singular to rounding"):
        model.fit(X, y)
    assert 0 < model.n_jitter_ <= 200


def test_too_few_iterations_are_told():
    X, y, _ = field(100)
    with pytest.warns(ConvergenceWarning, match="after max_iter=2 iterations"):
        model = VecchiaGPRegressor(n_neighbors=5, max_iter=2).fit(X, y)
    assert model.n_iter_ == 2
    assert not model.converged_


def test_bad_input():
    X, y, Q = field(30)
    with pytest.raises(NotFittedError):
        VecchiaGPRegressor().predict(Q)
    with pytest.raises(ValueError, match="NaN"):
        VecchiaGPRegressor().fit(np.where(X > 0.9, np.nan, X), y)
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        VecchiaGPRegressor().fit(X[:1], y[:1])
    with pytest.raises(ValueError, match="The 'n_neighbors' parameter"):
        VecchiaGPRegressor(n_neighbors=0).fit(X, y)
    with pytest.raises(TypeError, match="WhiteKernel is not supported.*noise_variance"):
        VecchiaGPRegressor(Matern() + WhiteKernel()).fit(X, y)
    model = VecchiaGPRegressor(KERNEL, **FIXED).fit(X, y)
    with pytest.raises(ValueError, match="expecting 2 features"):
        model.predict(X[:, :1])
    with pytest.raises(ValueError, match="At most one of return_std and return_cov"):
        model.predict(Q, return_std=True, return_cov=True)


def test_ascent_of_a_quadratic_in_a_box():
    """Scoring needs one step if the information is the Hessian; bounds hold what they must."""
    H, best = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([0.4, -0.3])

    def value(x):
        return -0.5 * (x - best) @ H @ (x - best), -H @ (x - best), H

    free = np.array([[-1.0, 1.0], [-1.0, 1.0]])
    ascent = Ascent(value, np.zeros(2), free)
    ascent.step(1e-8)
    assert_allclose(ascent.x, best, atol=1e-8)
    for solver in ("fisher", "lbfgs"):
        ascent = Ascent(value, np.zeros(2), np.array([[-1.0, 0.2], [-1.0, 1.0]]), solver)
        for _ in range(40):
            ascent.step(1e-14)
            if ascent.converged:
                break
        assert_allclose(ascent.x, [0.2, -0.3 + 0.5 * 0.2], atol=1e-6)


@pytest.mark.slow
def test_accuracy_on_the_field_of_the_benchmarks():
    """Log density of 1000 held-out values near that of the exact model with the true kernel."""
    rng = np.random.default_rng(0)
    X = rng.random((5000, 2))
    K = Matern(0.1, nu=1.5)(X) + 1e-8 * np.eye(5000)
    f = np.linalg.cholesky(K) @ rng.standard_normal(5000)
    y = f + 0.1 * rng.standard_normal(5000)
    model = VecchiaGPRegressor(ConstantKernel(0.5) * Matern(0.25, nu=1.5)).fit(X[:4000], y[:4000])
    mean, std = model.predict(X[4000:], return_std=True, observation=True)
    density = np.mean(0.5 * np.log(2 * np.pi * std**2) + 0.5 * ((y[4000:] - mean) / std) ** 2)
    assert density < -0.61483 + 0.003  # GPBoost's, at the same number of neighbors
    assert np.sqrt(np.mean((mean - f[4000:]) ** 2)) < 0.08128 * 1.005


FIT = """
import sys
import numpy as np
from sparseprob import distributed, row_slice
from sparseprob.gp import VecchiaGPRegressor

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    X = rng.random((700, 2))
    y = np.sin(6 * X[:, 0]) + X[:, 1] + 0.1 * rng.normal(size=700)
    with distributed() as comm:
        mine = row_slice(700)
        model = VecchiaGPRegressor(n_neighbors=8, ordering=sys.argv[2], random_state=3)
        model.fit(X[mine], y[mine])
        if comm.rank == comm.size - 1:
            np.savez(sys.argv[1], theta=model.kernel_.theta, noise=model.noise_variance_,
                     order=model.order_, value=model.log_marginal_likelihood_value_,
                     mean=model.predict(X[:50]))
"""


@pytest.mark.mpi
@pytest.mark.parametrize(("n_ranks", "ordering"), [(2, "maximin"), (3, "random")])
def test_ranks_end_with_the_model_of_one_process(tmp_path, mpiexec, n_ranks, ordering):

    (tmp_path / "one.py").write_text(FIT)
    arguments = [sys.executable, "one.py", "one.npz", ordering]
    subprocess.run(arguments, cwd=tmp_path, check=True)
    mpiexec(n_ranks, FIT, "many.npz", ordering)
    one, many = np.load(tmp_path / "one.npz"), np.load(tmp_path / "many.npz")
    for name in one.files:
        assert_allclose(many[name], one[name], rtol=1e-8, atol=1e-10)
