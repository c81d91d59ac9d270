"""DKLGP estimators: exact cases, the method's figures, variants, solvers, ranks, bad input."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern
from sklearn.multiclass import OneVsRestClassifier

from sparseprob._arrays import to_numpy
from sparseprob.gp import (
    DKLGPClassifier,
    DKLGPPoissonRegressor,
    DKLGPRegressor,
    VecchiaGPRegressor,
)

MATERN = ConstantKernel(1.2) * Matern([0.3, 0.4], nu=1.5)


def field(n, seed=0, noise=0.1, lengthscale=0.2):
    """Points in the unit square, a Matern field, and noisy values of it."""
    rng = np.random.default_rng(seed)
    X = rng.random((n, 2))
    K = Matern(lengthscale, nu=1.5)(X) + 1e-10 * np.eye(n)
    f = np.linalg.cholesky(K) @ rng.normal(size=n)
    return X, f, f + noise * rng.normal(size=n)


def nlpd(mean, std, y):
    """Mean negative log density of y under Gaussians."""
    return np.mean(0.5 * np.log(2 * np.pi * std**2) + 0.5 * ((y - mean) / std) ** 2)


@pytest.mark.parametrize("normalize_y", [False, True])
def test_with_all_neighbors_it_is_the_exact_gaussian_process(normalize_y):
    X, _, y = field(80)
    y = 3 * y + 5 * normalize_y
    queries = np.random.default_rng(1).random((30, 2))
    model = DKLGPRegressor(
        MATERN, n_neighbors=150, noise_variance=0.05, nugget=0, optimize_kernel=False,
        normalize_y=normalize_y,
    ).fit(X, y)  # fmt: skip
    exact = GaussianProcessRegressor(MATERN, alpha=0.05, optimizer=None, normalize_y=normalize_y)
    exact.fit(X, y)
    for joint in (False, True):
        mean, std = model.predict(queries, return_std=True, joint=joint)
        expected = exact.predict(queries, return_std=True)
        # conjugate gradients end at 1e-7 prior deviations; the rest is rounding
        assert_allclose(mean, expected[0], rtol=1e-8, atol=1e-8)
        assert_allclose(std, expected[1], rtol=1e-8)
    cov = model.predict(queries, return_cov=True)[1]
    assert_allclose(cov, exact.predict(queries, return_cov=True)[1], atol=1e-8)
    value = exact.log_marginal_likelihood_value_
    assert_allclose(model.log_marginal_likelihood(), value, rtol=1e-8)
    assert_allclose(model.elbo(), value, rtol=1e-8)
    assert_allclose(model.predict(X), model.mean_, atol=1e-8)


@pytest.fixture(scope="module")
def benchmark_task():
    """The field F2D(1.5) of the method's notes: 4000 points to learn from, 1000 to predict."""
    rng = np.random.default_rng(0)
    X = rng.random((5000, 2))
    K = Matern(0.1, nu=1.5)(X) + 1e-8 * np.eye(5000)
    f = np.linalg.cholesky(K) @ rng.standard_normal(5000)
    y = f + 0.1 * rng.standard_normal(5000)
    return X[:4000], y[:4000], X[4000:], f[4000:], y[4000:]


def scores(model, task):
    """Root mean square error of f and mean negative log density of y at the test points."""
    mean, std = model.predict(task[2], return_std=True, observation=True)
    return np.sqrt(np.mean((mean - task[3]) ** 2)), nlpd(mean, std, task[4])


@pytest.mark.parametrize(("n_neighbors", "margin"), [(30, 0.002), (10, 0.01)])
def test_known_kernel_predicts_as_well_as_the_exact_process(benchmark_task, n_neighbors, margin):
    kernel = ConstantKernel(1.0) * Matern(0.1, nu=1.5)
    model = DKLGPRegressor(
        kernel, noise_variance=0.01, n_neighbors=n_neighbors, nugget=1e-8, optimize_kernel=False
    ).fit(*benchmark_task[:2])
    error, density = scores(model, benchmark_task)
    assert abs(density + 0.61528) < margin  # of the exact process
    if n_neighbors == 30:
        assert abs(error / 0.08128 - 1) < 0.005


def test_learned_kernel_predicts_as_well_as_that_of_a_peer(benchmark_task):
    kernel = ConstantKernel(0.5) * Matern(0.25, nu=1.5)
    model = DKLGPRegressor(kernel, noise_variance=0.25, nugget=1e-8).fit(*benchmark_task[:2])
    error, density = scores(model, benchmark_task)
    assert density < -0.61483 + 0.003  # GPBoost 1.8.0 with as many neighbors
    assert error < 0.08116 * 1.005
    assert model.converged_


def test_both_solvers_find_the_same_kernel():
    X, _, y = field(500)
    response, profiled = (
        DKLGPRegressor(n_neighbors=20, solver=solver).fit(X, y) for solver in ("response", "lbfgs")
    )
    # both maximize approximations of one likelihood, whose maximum is flat to a few percent
    assert_allclose(profiled.kernel_.theta, response.kernel_.theta, atol=0.1)
    assert_allclose(profiled.noise_variance_, response.noise_variance_, rtol=0.1)
    assert profiled.elbo_ > response.elbo_ - 0.05
    assert len(profiled.elbo_history_) == profiled.n_iter_
    assert np.all(np.diff(profiled.elbo_history_) > -1e-9 * abs(profiled.elbo_))
    # ancestors are chosen again for the final kernel
    assert profiled.elbo_history_[-1] == pytest.approx(profiled.elbo_, abs=0.1)


def test_stochastic_steps_climb_towards_the_same_bound():
    X, _, y = field(300)
    options = {"n_neighbors": 10, "noise_variance": 0.05, "tol": 0}
    start = clone(DKLGPRegressor(MATERN, **options, optimize_kernel=False)).fit(X, y)
    best = DKLGPRegressor(MATERN, **options, solver="lbfgs", ancestors="full").fit(X, y)
    model = DKLGPRegressor(
        MATERN, **options, solver="adam", batch_size=50, learning_rate=0.05, max_iter=40,
        ancestors="full", random_state=0,
    ).fit(X, y)  # fmt: skip
    assert start.elbo_ + 0.8 * (best.elbo_ - start.elbo_) < model.elbo_ < best.elbo_ + 0.5
    assert model.n_iter_ == 40


def test_stochastic_steps_leave_a_fixed_kernel():
    X, _, y = field(100)
    model = DKLGPRegressor(
        MATERN, n_neighbors=8, solver="adam", max_iter=3, tol=0, optimize_kernel=False,
        random_state=0,
    ).fit(X, y)  # fmt: skip
    assert_array_equal(model.kernel_.theta, MATERN.theta)
    assert model.noise_variance_ == 0.1


def test_heavy_tails_ignore_outliers():
    X, f, _ = field(600)
    y = f + 0.1 * np.random.default_rng(4).standard_t(2, size=600)
    errors = {}
    for likelihood in ("gaussian", "student_t"):
        model = DKLGPRegressor(likelihood=likelihood, n_neighbors=15).fit(X, y)
        errors[likelihood] = np.sqrt(np.mean((model.predict(X) - f) ** 2))
    assert errors["student_t"] < 0.75 * errors["gaussian"]
    assert 1.3 < model.df_ < 3.5
    assert 0.08 < model.noise_variance_**0.5 < 0.13
    with pytest.raises(ValueError, match=r"for Gaussian noise only; use elbo\(\)"):
        model.log_marginal_likelihood()
    fixed = DKLGPRegressor(likelihood="student_t", df=4.0, n_neighbors=15, max_iter=3, tol=0)
    assert fixed.fit(X, y).df_ == 4.0
    std, noisy = (fixed.predict(X, True, observation=o)[1] for o in (False, True))
    assert_allclose(noisy**2, std**2 + 2 * fixed.noise_variance_)  # of t with 4 degrees


def test_probabilities_are_near_those_of_the_laplace_approximation():
    X, f, _ = field(150, lengthscale=0.3)
    labels = np.where(np.random.default_rng(2).random(150) < 1 / (1 + np.exp(-3 * f)), "b", "a")
    kernel = ConstantKernel(6.0) * Matern(0.3, nu=1.5)
    model = DKLGPClassifier(kernel, n_neighbors=149, optimize_kernel=False).fit(X, labels)
    peer = GaussianProcessClassifier(kernel, optimizer=None).fit(X, labels)
    queries = np.random.default_rng(3).random((50, 2))
    p = model.predict_proba(queries)
    # the bound's posterior differs from Laplace's by a few percent at these few labels
    assert_allclose(p, peer.predict_proba(queries), atol=0.05)
    assert_allclose(p.sum(axis=1), 1.0)
    assert_array_equal(model.predict(queries), model.classes_[(p[:, 1] > 0.5).astype(int)])
    mean, variance = model.latent_mean_and_variance(queries)
    assert_array_equal(mean > 0, p[:, 1] > 0.5)
    expected = peer.latent_mean_and_variance(queries)
    assert_allclose(variance, expected[1], rtol=0.2)
    plugin = model.predict_proba(queries, plugin=True)
    assert_allclose(plugin[:, 1], 1 / (1 + np.exp(-mean)))
    assert np.all(np.abs(plugin - 0.5) >= np.abs(p - 0.5))


def test_probit_and_logit_agree_on_the_labels():
    X, f, _ = field(400)
    labels = (f > 0).astype(int)
    predicted = [
        DKLGPClassifier(MATERN, link=link, n_neighbors=15, optimize_kernel=False)
        .fit(X, labels)
        .predict(X)
        for link in ("logit", "probit")
    ]
    assert np.mean(predicted[0] == predicted[1]) > 0.98
    assert np.mean(predicted[0] == labels) > 0.9


def test_more_classes_go_through_one_versus_rest():
    X, f, _ = field(200)
    labels = np.digitize(f, [-0.5, 0.5])
    model = DKLGPClassifier(n_neighbors=10, max_iter=3, tol=0)
    with pytest.raises(ValueError, match=r"wrap the estimator in sklearn\.multiclass"):
        model.fit(X, labels)
    assert OneVsRestClassifier(model).fit(X, labels).score(X, labels) > 0.7


def test_rates_of_counts():
    X, f, _ = field(800)
    rng = np.random.default_rng(5)
    exposure = rng.uniform(0.5, 2.0, size=800)
    y = rng.poisson(exposure * np.exp(1 + f))
    model = DKLGPPoissonRegressor(n_neighbors=15).fit(X, y, exposure)
    mean, std = model.predict(X, return_std=True)
    inside = np.abs(mean - np.exp(1 + f)) < 2 * std
    assert 0.88 < inside.mean() < 0.99  # 95 % of a Gaussian; rates are log-normal
    doubled = model.predict(X, 2 * np.ones(800), return_std=True)
    assert_allclose(doubled, 2 * np.array([mean, std]), rtol=1e-12)
    counts = model.predict(X, exposure, return_std=True, observation=True)[1]
    assert_allclose(counts**2, (exposure * std) ** 2 + exposure * mean, rtol=1e-10)
    assert_allclose(model.base_rate_, y.sum() / exposure.sum())
    scaled = DKLGPPoissonRegressor(n_neighbors=15).fit(X, y, 10 * exposure)
    # steps end at tol, and rounding decides on which side
    assert_allclose(scaled.predict(X), mean / 10, rtol=5e-3)


def test_counts_of_any_kind_are_taken_if_asked():
    X, f, _ = field(100)
    y = 2.5 * np.random.default_rng(0).poisson(np.exp(f))
    model = DKLGPPoissonRegressor(counts="any", n_neighbors=8, max_iter=2, tol=0).fit(X, y)
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize(
    "model",
    [
        DKLGPRegressor(MATERN, n_neighbors=10, max_iter=5, tol=0),
        DKLGPRegressor(MATERN, n_neighbors=10, pattern="ball", rho=2.5, optimize_kernel=False),
        DKLGPRegressor(MATERN, likelihood="student_t", n_neighbors=10, max_iter=3, tol=0),
    ],
)
def test_order_of_the_rows_does_not_matter(model):
    X, _, y = field(200)
    queries = np.random.default_rng(1).random((20, 2))
    shuffle = np.random.default_rng(2).permutation(200)
    first, second = clone(model).fit(X, y), clone(model).fit(X[shuffle], y[shuffle])
    assert_array_equal(shuffle[second.order_], first.order_)
    # the start, nearest to the mean of the rows, may only change by its rounding
    for joint in (False, True):
        results = [m.predict(queries, return_std=True, joint=joint) for m in (first, second)]
        assert_allclose(results[0], results[1], rtol=1e-8)
    assert_allclose(second.mean_, first.mean_[shuffle], rtol=1e-7, atol=1e-9)


def test_a_single_query_is_predicted_alike_jointly_and_alone():
    X, _, y = field(300)
    model = DKLGPRegressor(MATERN, n_neighbors=12, optimize_kernel=False).fit(X, y)
    for query in np.random.default_rng(1).random((5, 1, 2)):
        alone, together = (model.predict(query, True, joint=joint) for joint in (False, True))
        assert_allclose(alone, together, rtol=1e-10)


def test_joint_distribution_hangs_together():
    X, _, y = field(300)
    queries = np.random.default_rng(1).random((15, 2))
    model = DKLGPRegressor(MATERN, n_neighbors=12, optimize_kernel=False).fit(X, y)
    mean, cov = model.predict(queries, return_cov=True)
    assert_allclose(mean, model.predict(queries, joint=True), rtol=1e-12)
    std = model.predict(queries, return_std=True, joint=True)[1]
    assert_allclose(np.diag(cov), std**2, rtol=1e-10)
    assert_allclose(cov, cov.T, rtol=1e-10)
    noisy = model.predict(queries, return_cov=True, observation=True)[1]
    assert_allclose(noisy - cov, 0.1 * np.eye(15), atol=1e-12)
    draws = model.sample_y(queries, 20_000, random_state=0)
    error = np.sqrt(np.diag(cov) / 20_000)
    assert np.all(np.abs(draws.mean(axis=1) - mean) < 4 * error)
    assert_allclose(np.cov(draws), cov, atol=4 * 2 * cov.max() / np.sqrt(20_000))


def test_variants_of_the_pattern():
    X, _, y = field(300)
    options = {"noise_variance": 0.01, "n_neighbors": 15, "optimize_kernel": False}
    bounds = {}
    for variant in ("full", "global", "diagonal"):
        model = DKLGPRegressor(MATERN, variant=variant, **options).fit(X, y)
        bounds[variant] = model.elbo_
        assert np.isfinite(model.predict(X[:10], return_std=True)).all()
    assert bounds["full"] > bounds["diagonal"] + 10
    assert bounds["full"] > bounds["global"] + 10
    diagonal = DKLGPRegressor(MATERN, variant="diagonal", **options).fit(X, y)
    assert diagonal.factor_.nnz == 300
    assert diagonal.prior_factor_.nnz > 300
    few = DKLGPRegressor(MATERN, variant="global", **options).fit(X, y)
    assert_array_equal(np.unique(few.factor_.indices[-20:]), [*range(15), 298, 299])


def test_balls_make_larger_patterns_with_larger_radii():
    X, _, y = field(400)
    models = [
        DKLGPRegressor(MATERN, pattern="ball", rho=rho, optimize_kernel=False).fit(X, y)
        for rho in (1.0, 2.0, 3.0)
    ]
    sizes = [model.factor_.nnz for model in models]
    assert sizes == sorted(sizes)
    assert models[2].elbo_ > models[1].elbo_ > models[0].elbo_
    mean, std = models[2].predict(X, return_std=True, joint=True)
    exact = VecchiaGPRegressor(MATERN, n_neighbors=399, optimize_kernel=False).fit(X, y)
    expected, deviation = exact.predict(X, return_std=True)
    assert np.max(np.abs(mean - expected) / deviation) < 1
    assert_allclose(std, deviation, rtol=0.3)  # balls of few points


def test_correlation_is_a_distance_for_sums_of_kernels():
    X, _, y = field(250)
    one = ConstantKernel(1.2) * Matern(0.3, nu=1.5)
    options = {"n_neighbors": 10, "optimize_kernel": False}
    plain, correlated = (
        DKLGPRegressor(one, metric=metric, **options).fit(X, y)
        for metric in ("euclidean", "correlation")
    )
    assert_array_equal(plain.order_, correlated.order_)
    assert_allclose(plain.elbo_, correlated.elbo_, rtol=1e-12)
    assert_allclose(plain.predict(X[:9], joint=True), correlated.predict(X[:9], joint=True))
    two = ConstantKernel(1.0) * RBF([0.8, 0.2]) + ConstantKernel(0.3) * Matern([0.1, 0.3], nu=0.5)
    ball = DKLGPRegressor(two, metric="correlation", pattern="ball", optimize_kernel=False)
    assert np.isfinite(ball.fit(X, y).predict(X[:5], return_std=True, joint=True)).all()


@pytest.mark.parametrize("ordering", ["maximin-approximate", "random", "coordinate", "given"])
def test_other_orders(ordering):
    X, f, y = field(300)
    model = DKLGPRegressor(
        MATERN,
        ordering=ordering,
        n_neighbors=20,
        noise_variance=0.01,
        optimize_kernel=False,
        random_state=0,
    ).fit(X, y)
    assert_array_equal(np.sort(model.order_), np.arange(300))
    for joint in (False, True):
        assert np.sqrt(np.mean((model.predict(X, joint=joint) - f) ** 2)) < 0.1


@pytest.mark.parametrize("ancestors", ["pattern", "ball", "full"])
def test_bias_of_the_chosen_ancestors(ancestors):
    X, f, _ = field(500)
    y = np.random.default_rng(0).poisson(np.exp(f - 1))
    options = {"n_neighbors": 8, "optimize_kernel": False}
    model = DKLGPPoissonRegressor(ancestors=ancestors, **options).fit(X, y)
    low, high = {"pattern": (0.02, 1), "ball": (1e-4, 0.02), "full": (0, 1e-10)}[ancestors]
    assert low <= model.ancestor_bias_ < high
    auto = DKLGPPoissonRegressor(**options).fit(X, y)
    assert auto.ancestor_bias_ < 0.01


def test_many_points_begin_with_the_first(monkeypatch):
    monkeypatch.setattr("sparseprob.gp._variational.FIRST_POINTS", 150)
    X, f, _ = field(800)
    y = np.random.default_rng(0).poisson(np.exp(f + 1))
    options = {"n_neighbors": 10, "random_state": 0}
    rough = DKLGPPoissonRegressor(**options).fit(X, y)
    monkeypatch.setattr("sparseprob.gp._variational.FIRST_POINTS", 10_000)
    whole = DKLGPPoissonRegressor(**options).fit(X, y)
    # the maximum is flat, and the last order was made for another kernel
    assert_allclose(rough.elbo_, whole.elbo_, atol=1.5)
    assert np.sqrt(np.mean((rough.mean_ - whole.mean_) ** 2)) < 0.05


def test_many_points_see_few_ancestors_when_they_predict(monkeypatch):
    X, _, y = field(400)
    options = {"noise_variance": 0.01, "n_neighbors": 20, "optimize_kernel": False}
    whole = DKLGPRegressor(MATERN, **options).fit(X, y)
    monkeypatch.setattr("sparseprob.gp._dklgp._FEW", 100)
    some = DKLGPRegressor(MATERN, **options).fit(X, y)
    queries = np.random.default_rng(1).random((50, 2))
    first, second = (model.predict(queries, return_std=True) for model in (whole, some))
    assert_array_equal(first[0], second[0])
    assert_allclose(first[1], second[1], rtol=1e-3)  # at this little noise
    assert np.any(first[1] != second[1])


def test_points_are_ordered_anew_for_other_proportions():
    rng = np.random.default_rng(0)
    X = rng.random((400, 2))
    y = rng.poisson(np.exp(1 + np.sin(20 * X[:, 0])))
    model = DKLGPPoissonRegressor(n_neighbors=8).fit(X, y)
    lengthscales = np.exp(model.kernel_.theta[1:])
    assert lengthscales[1] > 5 * lengthscales[0]
    again = DKLGPPoissonRegressor(model.kernel_, n_neighbors=8, optimize_kernel=False).fit(X, y)
    # neighbors belong to proportions within reorder_tol of the final ones
    assert np.mean(again.order_[:50] == model.order_[:50]) > 0.2
    assert_allclose(again.elbo_, model.elbo_, atol=1.0)


def test_every_library_gives_the_same(xp):
    X, f, y = field(120)
    queries = np.random.default_rng(1).random((10, 2))
    counts = np.round(np.exp(f))
    for model, target in (
        (DKLGPRegressor(MATERN, n_neighbors=8, max_iter=3, tol=0), y),
        (DKLGPPoissonRegressor(MATERN, n_neighbors=8, max_iter=2, tol=0), counts),
    ):
        expected = clone(model).fit(X, target).predict(queries, return_std=True)
        own = clone(model).fit(xp.asarray(X), xp.asarray(target))
        found = own.predict(xp.asarray(queries), return_std=True)
        for a, b in zip(found, expected, strict=True):
            assert type(a) is type(xp.asarray(X))
            assert_allclose(to_numpy(a), b, rtol=1e-9)
        assert type(own.mean_) is type(xp.asarray(X))


@pytest.mark.parametrize(
    ("model", "change", "message"),
    [
        (DKLGPRegressor(), {"X": np.full((20, 2), np.nan)}, "Input X contains NaN"),
        (DKLGPRegressor(), {"y": np.full(20, np.inf)}, "Input y contains infinity"),
        (DKLGPRegressor(), {"X": np.zeros(20)}, "Expected 2D array"),
        (DKLGPRegressor(n_neighbors=0), {}, "n_neighbors"),
        (DKLGPRegressor(rho=0.5), {}, "rho"),
        (DKLGPRegressor(df=1.0, likelihood="student_t"), {}, "df"),
        (DKLGPRegressor(likelihood="student_t", solver="response"), {}, "needs Gaussian noise"),
        (DKLGPRegressor(pattern="ball", ordering="random"), {}, "need a maximin ordering"),
        (
            DKLGPRegressor(ancestors="ball", metric="correlation"),
            {},
            "ancestors='ball' needs metric='euclidean'",
        ),
        (DKLGPClassifier(), {"y": np.arange(20) % 3}, "Only binary classification"),
        (DKLGPClassifier(), {"y": np.ones(20)}, "needs rows of two classes"),
        (DKLGPPoissonRegressor(), {"y": np.full(20, -1.0)}, "Counts must be non-negative"),
        (DKLGPPoissonRegressor(), {"y": np.full(20, 0.5)}, "Counts must be whole numbers"),
        (DKLGPPoissonRegressor(), {"y": np.zeros(20)}, "All counts are zero"),
        (DKLGPPoissonRegressor(), {"exposure": np.zeros(20)}, "exposure must be positive"),
        (DKLGPPoissonRegressor(), {"exposure": np.ones(3)}, r"exposure must have shape \(20,\)"),
        (DKLGPRegressor(RBF([1.0, 1.0, 1.0])), {}, "3 length-scales, but X has 2 features"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(model, change, message):
    rng = np.random.default_rng(0)
    data = {"X": rng.random((20, 2)), "y": rng.integers(0, 2, 20), **change}
    with pytest.raises(ValueError, match=message):
        clone(model).fit(**data)


def test_wrong_width_at_predict():
    X, _, y = field(30)
    model = DKLGPRegressor(n_neighbors=4, max_iter=2, tol=0).fit(X, y)
    with pytest.raises(ValueError, match="X has 3 features, but DKLGPRegressor is expecting 2"):
        model.predict(np.ones((4, 3)))
    with pytest.raises(ValueError, match="At most one of return_std and return_cov"):
        model.predict(X, return_std=True, return_cov=True)


def test_repeated_rows_need_a_nugget():
    X, _, y = field(40)
    X[7] = X[3]
    model = DKLGPRegressor(MATERN, n_neighbors=5, optimize_kernel=False)
    with pytest.warns(UserWarning, match="1 rows that repeat another row"):
        model.fit(X, y)
    assert np.isfinite(model.mean_).all()
    with (
        pytest.warns(UserWarning, match="rows that repeat"),
        pytest.raises(ValueError, match="repeated rows, whose values need a nugget"),
    ):
        clone(model).set_params(nugget=0).fit(X, y)


def test_ends_too_early_or_at_a_bound_are_reported():
    X, _, y = field(100)
    with pytest.warns(UserWarning, match="increase max_iter or tol"):
        DKLGPRegressor(n_neighbors=5, max_iter=1).fit(X, y)
    kernel = ConstantKernel(1.0, "fixed") * Matern(0.5, (0.4, 0.6), nu=1.5)
    with pytest.warns(UserWarning, match="k2__length_scale ended at a bound"):
        DKLGPRegressor(kernel, n_neighbors=5, solver="lbfgs").fit(X, y)


RANKS = """
import sys
import numpy as np
from sklearn.gaussian_process.kernels import ConstantKernel, Matern
from sparseprob import distributed, row_slice
from sparseprob.gp import DKLGPClassifier, DKLGPPoissonRegressor, DKLGPRegressor

def models(X, f):
    kernel = ConstantKernel(1.2) * Matern([0.3, 0.4], nu=1.5)
    options = {"n_neighbors": 8, "max_iter": 3, "tol": 0}
    yield "noisy", DKLGPRegressor(kernel, **options), f
    yield "heavy", DKLGPRegressor(kernel, likelihood="student_t", **options), f
    adam = {"solver": "adam", "batch_size": 40, "random_state": 0}
    yield "adam", DKLGPRegressor(kernel, **options, **adam), f
    yield "labels", DKLGPClassifier(kernel, **options), (f > 0).astype(int)
    yield "counts", DKLGPPoissonRegressor(kernel, **options), np.round(np.exp(f))

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    X = rng.random((201, 2))
    f = np.sin(6 * X[:, 0]) + X[:, 1] - 0.5 + 0.1 * rng.normal(size=201)
    found = {}
    with distributed() as comm:
        mine = row_slice(201)
        for name, model, y in models(X, f):
            fitted = model.fit(X[mine], y[mine])
            found[name] = np.concatenate([fitted.mean_, fitted.kernel_.theta, [fitted.elbo_]])
        exposure = np.linspace(0.5, 2, 201)
        model = DKLGPPoissonRegressor(n_neighbors=8, max_iter=2, tol=0)
        model.fit(X[mine], np.round(np.exp(f[mine])), exposure[mine])
        found["exposure"] = model.predict(X[:20])
        if comm.rank == comm.size - 1:
            np.savez(sys.argv[1], **found)
"""


@pytest.mark.mpi
def test_ranks_end_with_one_model(tmp_path, mpiexec):
    results = []
    for n_ranks in (1, 2, 3):
        mpiexec(n_ranks, RANKS, f"{n_ranks}.npz")
        results.append(np.load(tmp_path / f"{n_ranks}.npz"))
    assert len(results[0].files) == 6
    for name in results[0].files:
        for other in results[1:]:
            assert_allclose(other[name], results[0][name], rtol=1e-8, atol=1e-8, err_msg=name)
