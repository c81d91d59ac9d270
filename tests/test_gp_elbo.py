"""The bound of sparse posteriors: against dense matrices, differences, and the log evidence."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_gp_elbo import (
    bound,
    dense,
    gaussian_expected,
    log_evidence,
    poisson_expected,
)
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from sparseprob._covariance import Covariance
from sparseprob._kernels import _elbo_numba as kernel
from sparseprob.gp import ball_sparsity, maximin_order, nearest_predecessors
from sparseprob.gp._elbo import Bound, Pattern, Patterns, entries_of
from sparseprob.gp._likelihoods import Bernoulli, Gaussian, Poisson, StudentT
from sparseprob.gp._patterns import Sparsity, all_ancestors, ball_ancestors, first_points
from sparseprob.gp._posterior import Posterior
from sparseprob.gp._sparse_solves import posterior_variances
from sparseprob.gp._task import Layout, Task

NUGGET = 1e-6
LIKELIHOODS = [
    Gaussian(0.3),
    StudentT(4.0, 0.5, free=("scale", "df")),
    Bernoulli("logit"),
    Bernoulli("probit"),
    Poisson(),
]


def name(likelihood):
    return type(likelihood).__name__ + getattr(likelihood, "link", "")


class Problem:
    """Points in maximin order, targets, patterns of nearest neighbors, and a covariance."""

    def __init__(self, n, m, likelihood, seed=0, lengthscales=(0.2, 0.3)):
        rng = self.rng = np.random.default_rng(seed)
        kernel = ConstantKernel(1.3) * Matern(list(lengthscales), nu=1.5)
        self.covariance = Covariance.from_kernel(kernel, 2)
        X = rng.random((n, 2))
        order, self.lengths = maximin_order(self.covariance.scale(X))
        self.points = X[order]
        K = self.covariance(self.points) + NUGGET * np.eye(n)
        self.f = np.linalg.cholesky(K) @ rng.normal(size=n)
        self.y = self.draw(likelihood)
        self.likelihood = likelihood
        self.pattern = Pattern(*nearest_predecessors(self.covariance.scale(self.points), m))

    def draw(self, likelihood):
        """Targets of a likelihood; labels and counts are those of a strong signal."""
        rng, f = self.rng, self.f
        if isinstance(likelihood, Poisson):
            return rng.poisson(np.exp(f)).astype(float)
        if isinstance(likelihood, Bernoulli):
            return (rng.random(len(f)) < 1 / (1 + np.exp(-2 * f))).astype(float)
        return f + 0.5 * rng.standard_t(4, size=len(f))

    def bound(self, ancestors=None, pattern=None):
        pattern = self.pattern if pattern is None else pattern
        ancestors = pattern if ancestors is None else ancestors
        return Bound(self.points, self.y, Patterns(pattern, pattern, ancestors), NUGGET)

    def random_factor(self):
        data = 0.3 * self.rng.normal(size=len(self.pattern.indices))
        data[self.pattern.indptr[1:] - 1] = 1 + self.rng.random(len(self.y))
        return data


def fitted(problem, ancestors=None, tol=1e-9):
    """The bound, the prior's factor and the best posterior of a problem."""
    given = problem.bound(ancestors)
    U, _ = given.factor(problem.covariance)
    posterior = Posterior(given)
    posterior.update(U, problem.likelihood, tol)
    return given, U, posterior


@pytest.mark.parametrize("counts", [False, True])
def test_bound_of_any_posterior_equals_the_dense_one(counts):
    likelihood = Poisson() if counts else Gaussian(0.3)
    problem = Problem(300, 8, likelihood)
    given = problem.bound(all_ancestors(problem.pattern))
    U, _ = given.factor(problem.covariance)
    nu, V = problem.rng.normal(size=300), problem.random_factor()
    value, _ = given.value_and_gradient(problem.covariance, likelihood, U, nu, V)
    expected = poisson_expected(problem.y) if counts else gaussian_expected(problem.y, 0.3)
    factors = (dense(*problem.pattern, data) for data in (U, V))
    # the inverse of a random factor has large entries: rounding of the dense formula is 1e-10
    assert_allclose(value, bound(*factors, nu, expected), rtol=1e-9)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=name)
def test_gradients_are_those_of_central_differences(likelihood):
    problem = Problem(25, 4, likelihood)
    given = problem.bound()
    U, _ = given.factor(problem.covariance)
    nu, V = 0.3 * problem.rng.normal(size=25), problem.random_factor()
    parameters = {
        "theta": problem.covariance.theta, "likelihood": likelihood.parameters, "nu": nu, "V": V,
    }  # fmt: skip

    def value(theta, likelihood, nu, V):
        covariance = problem.covariance.with_theta(theta)
        noise = problem.likelihood.with_parameters(likelihood)
        return given.value_and_gradient(covariance, noise, given.factor(covariance)[0], nu, V)

    gradient = value(**parameters)[1]
    for part, x in parameters.items():
        found, step = np.zeros(len(x)), 1e-5
        for k in range(len(x)):
            ends = [{**parameters, part: x + s * step * np.eye(len(x))[k]} for s in (1, -1)]
            found[k] = (value(**ends[0])[0] - value(**ends[1])[0]) / (2 * step)
        scale = np.abs(found).max(initial=1.0)
        # differences of values near 100 with steps of 1e-5 are right to about 1e-9
        assert_allclose(getattr(gradient, part), found, atol=1e-6 * scale, err_msg=part)


def test_gaussian_bound_is_the_evidence_if_the_pattern_is_full():
    problem = Problem(60, 59, Gaussian(0.3))
    given, U, posterior = fitted(problem)
    value, gradient = given.value_and_gradient(
        problem.covariance, problem.likelihood, U, posterior.nu, posterior.V
    )
    K = problem.covariance(problem.points) + NUGGET * np.eye(60)
    assert_allclose(value, log_evidence(problem.y, K + 0.3 * np.eye(60)), rtol=1e-10)
    # conjugate gradients leave 1e-3 of a step shorter than tol
    assert_allclose(gradient.nu, 0.0, atol=1e-6)
    assert_allclose(gradient.V, 0.0, atol=1e-8)


def test_bound_is_below_the_evidence_of_the_sparse_prior():
    problem = Problem(200, 5, Gaussian(0.3))
    given, U, posterior = fitted(problem, all_ancestors(problem.pattern))
    value = given.value_and_gradient(
        problem.covariance, problem.likelihood, U, posterior.nu, posterior.V
    )[0]
    factor = dense(*problem.pattern, U)
    evidence = log_evidence(problem.y, np.linalg.inv(factor @ factor.T) + 0.3 * np.eye(200))
    assert value < evidence
    assert evidence - value < 0.5  # the incomplete factor loses little


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=name)
def test_posterior_is_a_stationary_point_if_the_pattern_is_full(likelihood):
    problem = Problem(40, 39, likelihood)
    given, U, posterior = fitted(problem)
    _, gradient = given.value_and_gradient(
        problem.covariance, likelihood, U, posterior.nu, posterior.V
    )
    # steps end below 1e-9 prior deviations, weights change by less than 1e-8; times curvatures
    assert_allclose(gradient.nu, 0.0, atol=1e-5)
    if not isinstance(likelihood, StudentT):  # whose negative weights count as zero
        assert_allclose(gradient.V, 0.0, atol=1e-5)


def test_no_posterior_nearby_has_a_larger_bound():
    problem = Problem(60, 59, Poisson())
    given, U, posterior = fitted(problem)

    def value(nu, V):
        return given.value_and_gradient(problem.covariance, problem.likelihood, U, nu, V)[0]

    best = value(posterior.nu, posterior.V)
    for _ in range(10):
        nu = posterior.nu + 0.01 * problem.rng.normal(size=60)
        V = posterior.V * (1 + 0.01 * problem.rng.normal(size=len(posterior.V)))
        assert value(nu, posterior.V) < best
        assert value(posterior.nu, V) < best


def test_derivative_along_kernels_is_that_of_the_largest_bound():
    """With the posterior at its best, its change with the kernel does not matter."""
    problem = Problem(60, 59, Bernoulli("logit"))
    task = Task(
        problem.points, problem.y, problem.likelihood, problem.covariance,
        Sparsity(59, 2.0, "nearest", "full", "given", "euclidean", 0), "pattern", NUGGET, 0.2,
    )  # fmt: skip
    layout, x = Layout(task), task.parameters()
    gradient = layout.value_and_gradient(task, 1e-9)[1].theta
    for k in range(len(x)):
        ends = [task.with_parameters(x + s * 1e-4 * np.eye(len(x))[k]) for s in (1, -1)]
        values = [layout.value_and_gradient(end, 1e-9)[0] for end in ends]
        assert_allclose(gradient[k], (values[0] - values[1]) / 2e-4, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("m", "noise_variance"), [(30, 0.01), (30, 1.0), (10, 1.0), (10, 10.0)])
def test_bias_of_few_ancestors(m, noise_variance):
    """The largest errors of marginal variances are those measured for the method, to a factor."""
    largest = {  # for ancestors of the pattern, and with balls of radius 3
        (30, 0.01): (4e-4, 3e-4), (30, 1.0): (0.10, 0.016), (10, 1.0): (0.48, 0.12),
        (10, 10.0): (0.84, 0.23),
    }  # fmt: skip
    problem = Problem(2000, m, Gaussian(noise_variance), lengthscales=(0.1, 0.1))
    given, _, posterior = fitted(problem, tol=1e-4)
    balls = ball_ancestors(
        problem.covariance, problem.points, problem.lengths, 3.0, problem.pattern
    )
    exact = posterior_variances(*problem.pattern, posterior.V)
    errors = [
        np.abs(seen.marginals(posterior.V) / exact - 1)
        for seen in (given, given.with_ancestors(balls))
    ]
    assert errors[1].mean() < errors[0].mean()
    for error, expected in zip(errors, largest[m, noise_variance], strict=True):
        assert expected / 3 < error.max() < 3 * expected
    measured = posterior.bias(np.random.RandomState(0))
    assert measured == pytest.approx(errors[0].mean(), rel=0.5)  # 200 of 2000 columns


def test_marginals_equal_those_of_the_inverse_with_all_ancestors():
    problem = Problem(150, 6, Gaussian(0.3))
    V = problem.random_factor()
    given = problem.bound(all_ancestors(problem.pattern))
    M = dense(*problem.pattern, V)
    expected = np.diag(np.linalg.inv(M @ M.T))
    assert_allclose(given.marginals(V), expected, rtol=1e-10)


def test_marginals_of_a_diagonal_posterior():
    problem = Problem(80, 6, Gaussian(0.3))
    pattern = first_points(problem.points, 0)
    given = Bound(
        problem.points, problem.y, Patterns(problem.pattern, pattern, problem.pattern), NUGGET
    )
    V = 1 + problem.rng.random(80)
    assert_allclose(given.marginals(V), 1 / V**2, rtol=1e-14)
    U, _ = given.factor(problem.covariance)
    posterior = Posterior(given)
    posterior.update(U, problem.likelihood, 1e-9)
    value, gradient = given.value_and_gradient(
        problem.covariance, problem.likelihood, U, posterior.nu, posterior.V
    )
    expected = gaussian_expected(problem.y, 0.3)
    factor = dense(*problem.pattern, U)
    assert_allclose(value, bound(factor, np.diag(posterior.V), posterior.nu, expected), rtol=1e-10)
    assert_allclose(gradient.V, 0.0, atol=1e-8)  # the best independent posterior has a closed form


def test_batches_add_up_to_the_whole():
    problem = Problem(90, 6, Poisson())
    given, U, posterior = fitted(problem)
    nu, V = posterior.nu + 0.1, 1.1 * posterior.V
    value, gradient = given.value_and_gradient(problem.covariance, problem.likelihood, U, nu, V)
    total, by_theta, by_nu, by_V = 0.0, 0.0, np.zeros(90), np.zeros(len(V))
    for columns in np.array_split(problem.rng.permutation(90), 4):
        part, own, seen, entries = given.batch(
            np.sort(columns), problem.covariance, problem.likelihood, nu, V
        )
        total, by_theta = total + part, by_theta + own.theta
        by_nu[seen] += own.nu
        by_V[entries] += own.V
    assert_allclose(total, value, rtol=1e-12)
    assert_allclose(by_theta, gradient.theta, rtol=1e-9)
    assert_allclose(by_nu, gradient.nu, atol=1e-10)
    assert_allclose(by_V, gradient.V, atol=1e-10)


def test_pieces_of_work_do_not_change_the_sums(monkeypatch):
    problem = Problem(400, 8, Poisson())
    given, U, posterior = fitted(problem)
    results = []
    for n_buffers in (1, 2, 5):
        monkeypatch.setattr("sparseprob.gp._elbo.n_buffers", lambda A, n=n_buffers: n)
        results.append(
            problem.bound().value_and_gradient(
                problem.covariance, problem.likelihood, U, posterior.nu, posterior.V
            )
        )
    for value, gradient in results[1:]:
        assert value == results[0][0]
        for found, expected in zip(gradient, results[0][1], strict=True):
            assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_ancestors_of_a_chain_are_all_points_before():
    indptr = np.array([0, 1, 3, 5, 7])
    indices = np.array([0, 0, 1, 1, 2, 2, 3], dtype=np.int32)
    ancestors = all_ancestors(Pattern(indptr, indices))
    assert_array_equal(ancestors.indptr, [0, 1, 3, 6, 10])
    assert_array_equal(ancestors.indices, [0, 0, 1, 0, 1, 2, 0, 1, 2, 3])


def test_too_many_ancestors_are_refused(monkeypatch):
    monkeypatch.setattr("sparseprob.gp._patterns._MOST_CLOSED", 100)
    problem = Problem(60, 5, Gaussian(0.3))
    with pytest.raises(ValueError, match="use ancestors='ball'"):
        all_ancestors(problem.pattern)


def test_ball_ancestors_hold_pattern_and_balls():
    problem = Problem(120, 4, Gaussian(0.3))
    scaled = problem.covariance.scale(problem.points)
    found = ball_ancestors(
        problem.covariance, problem.points, problem.lengths, 2.0, problem.pattern
    )
    balls = Pattern(*ball_sparsity(scaled, problem.lengths, 2.0)[2:])
    for j in range(120):
        parts = [p.indices[p.indptr[j] : p.indptr[j + 1]] for p in (balls, problem.pattern, found)]
        assert_array_equal(parts[2], np.union1d(*parts[:2]))
        assert parts[2][-1] == j


def test_projected_variances_see_the_ancestors_of_all_neighbors():
    problem = Problem(100, 5, Gaussian(0.3))
    V, rng = problem.random_factor(), problem.rng
    neighbors = np.sort([rng.choice(100, 7, replace=False) for _ in range(70)], axis=1).astype(
        np.int32
    )
    weights = rng.normal(size=(70, 7))
    M = dense(*problem.pattern, V)
    full, some, whole = (np.empty(70) for _ in range(3))
    closed = all_ancestors(problem.pattern)
    empty = Pattern(problem.pattern.indptr, np.empty(0, dtype=np.int32))
    for ancestors, out in ((closed, full), (problem.pattern, some), (empty, whole)):
        kernel.projected_variances(neighbors, weights, *ancestors, *problem.pattern, V, 2, out)
    for q in range(70):
        b = np.zeros(100)
        b[neighbors[q]] = weights[q]
        exact = np.sum(np.linalg.solve(M, b) ** 2)
        assert_allclose([full[q], whole[q]], exact, rtol=1e-10)
        starts = problem.pattern.indptr
        seen = [problem.pattern.indices[starts[i] : starts[i + 1]] for i in neighbors[q]]
        seen = np.unique(np.concatenate(seen))
        reduced = np.sum(np.linalg.solve(M[np.ix_(seen, seen)], b[seen]) ** 2)
        assert_allclose(some[q], reduced, rtol=1e-10)


def test_entries_of_columns():
    entries, starts = entries_of(np.array([0, 1, 3, 6]), np.array([2, 0]))
    assert_array_equal(entries, [3, 4, 5, 0])
    assert_array_equal(starts, [0, 3, 4])
