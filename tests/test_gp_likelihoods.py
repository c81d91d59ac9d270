"""Likelihoods of latent values: densities, slopes, expectations, predictions."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from reference_gp_laplace import LOG_DENSITIES, integral
from scipy import stats

from sparseprob._arrays import to_compute, to_numpy
from sparseprob.gp._likelihoods import Bernoulli, Gaussian, Poisson, StudentT

COUNTS = np.array([0.0, 1.0, 3.0, 7.0, 2.0, 30.0])
LABELS = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])
REALS = np.array([0.3, -1.2, 2.0, 0.0, 0.5, -0.4])
EXPOSURE = np.array([1.0, 0.5, 2.0, 3.0, 1.0, 10.0])
MEAN = np.array([0.2, -0.5, 1.0, 0.7, -1.5, 1.3])
VARIANCE = np.array([0.1, 0.4, 0.02, 1.0, 0.6, 0.3])

# likelihood, targets, name of the oracle, its parameters for each value
CASES = [
    pytest.param(Gaussian(0.3), REALS, "gaussian", [(0.3,)] * 6, id="gaussian"),
    pytest.param(
        StudentT(3.5, 0.8, ("df", "scale")), REALS, "student_t", [(3.5, 0.8)] * 6, id="student_t"
    ),
    pytest.param(Bernoulli(), LABELS, "logit", [()] * 6, id="logit"),
    pytest.param(Bernoulli("probit"), LABELS, "probit", [()] * 6, id="probit"),
    pytest.param(
        Poisson(EXPOSURE), COUNTS, "poisson", [(e,) for e in EXPOSURE], id="poisson-exposures"
    ),
    pytest.param(Poisson(2.0), COUNTS, "poisson", [(2.0,)] * 6, id="poisson"),
]


@pytest.mark.parametrize(("likelihood", "y", "name", "parameters"), CASES)
def test_log_density_is_that_of_scipy(likelihood, y, name, parameters):
    expected = [LOG_DENSITIES[name](*a, *p) for *a, p in zip(y, MEAN, parameters, strict=True)]
    assert_allclose(likelihood.log_density(y, MEAN), expected, rtol=1e-12)


@pytest.mark.parametrize(("likelihood", "y", "name", "parameters"), CASES)
def test_slope_and_curvature_are_differences_of_the_density(likelihood, y, name, parameters):
    h = 1e-5
    slope, curvature = likelihood.derivatives(y, MEAN)
    above, below = (likelihood.value_and_slope(y, MEAN + s * h) for s in (1, -1))
    assert_allclose(slope, (above[0] - below[0]) / (2 * h), rtol=1e-6, atol=1e-8)
    signed = -(above[1] - below[1]) / (2 * h)
    assert_allclose(likelihood.curvature(y, MEAN), signed, rtol=1e-6, atol=1e-8)
    assert_allclose(curvature, np.maximum(signed, 1e-8), rtol=1e-6, atol=1e-8)


def test_curvature_far_out_is_clipped_and_weights_stay_positive():
    likelihood, y, f = StudentT(4.0, 0.1), np.zeros(2), np.array([0.05, 3.0])
    assert likelihood.curvature(y, f)[1] < 0
    assert_allclose(likelihood.derivatives(y, f)[1][1], 1e-8)
    weights = likelihood.majorizing_curvature(y, f)
    assert_allclose(weights, -likelihood.derivatives(y, f)[0] / f, rtol=1e-12)  # slope / residual


@pytest.mark.parametrize(("likelihood", "y", "name", "parameters"), CASES)
def test_expectations_are_integrals(likelihood, y, name, parameters):
    values = likelihood.expected(y, MEAN, VARIANCE)[0]
    for k in range(6):
        exact = integral(
            lambda f, k=k: LOG_DENSITIES[name](y[k], f, *parameters[k]), MEAN[k], VARIANCE[k]
        )
        # 20 nodes on sigmoids and 50 on log(1 + r^2): 1e-6 at these variances
        assert_allclose(values[k], exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 20.0])
@pytest.mark.parametrize(("likelihood", "y", "name", "parameters"), CASES)
def test_gradients_of_expectations_are_differences(likelihood, y, name, parameters, scale):
    variance, h = scale * VARIANCE, 1e-5
    _, by_mean, by_variance = likelihood.expected(y, MEAN, variance)

    def differences(dm, dv):
        above, below = (
            likelihood.expected(y, MEAN + s * dm, variance + s * dv)[0] for s in (1, -1)
        )
        return (above - below) / (2 * (dm + dv))

    size = np.abs(likelihood.expected(y, MEAN, variance)[0])
    noise = 1e-15 * size / h  # of a difference of numbers of this size
    assert np.all(np.abs(by_mean - differences(h, 0.0)) < 1e-6 * np.abs(by_mean) + 50 * noise)
    step = h * variance
    change = np.abs(by_variance - differences(0.0, step))
    assert np.all(change < 1e-6 * np.abs(by_variance) + 50 * noise / variance + 1e-8)


@pytest.mark.parametrize(("likelihood", "y", "name", "parameters"), CASES)
def test_gradients_by_parameters_are_differences(likelihood, y, name, parameters):
    theta = likelihood.parameters
    gradient = likelihood.expected_parameter_gradient(y, MEAN, VARIANCE)
    assert gradient.shape == theta.shape == (len(likelihood.free),)
    assert_allclose(likelihood.with_parameters(theta).log_density(y, MEAN),
                    likelihood.log_density(y, MEAN), rtol=1e-14)  # fmt: skip
    for k in range(len(theta)):
        step = 1e-5 * np.eye(len(theta))[k]
        above, below = (
            likelihood.with_parameters(theta + s * step).expected(y, MEAN, VARIANCE)[0].sum()
            for s in (1, -1)
        )
        assert_allclose(gradient[k], (above - below) / 2e-5, rtol=1e-6)


@pytest.mark.parametrize(("likelihood", "y", "name", "parameters"), CASES)
def test_log_predictive_is_an_integral(likelihood, y, name, parameters):
    values = likelihood.log_predictive(y, MEAN, VARIANCE)
    for k in range(6):
        exact = integral(
            lambda f, k=k: np.exp(LOG_DENSITIES[name](y[k], f, *parameters[k])),
            MEAN[k],
            VARIANCE[k],
        )
        assert_allclose(values[k], np.log(exact), rtol=1e-6, atol=1e-6)


def test_log_predictive_where_the_density_is_narrow_or_the_latent_value_uncertain():
    y, mean, variance = np.array([1000.0, 0.0]), np.array([4.0, -3.0]), np.array([2.0, 100.0])
    exact = [
        integral(lambda f: stats.poisson.pmf(1000, np.exp(f)), 4.0, 2.0, at=[6.6, 6.9, 7.2]),
        integral(lambda f: stats.poisson.pmf(0, np.exp(f)), -3.0, 100.0, at=[0.0, 2.0]),
    ]
    values = Poisson().log_predictive(y, mean, variance)
    assert_allclose(values[0], np.log(exact[0]), rtol=1e-8)
    assert_allclose(values[1], np.log(exact[1]), atol=3e-3)  # a cliff as narrow as the spacing
    outlier = StudentT(2.5, 0.01).log_predictive(np.array([3.0]), np.array([0.0]), np.array([0.5]))
    exact = integral(lambda f: stats.t.pdf(3.0, 2.5, f, 0.01), 0.0, 0.5, at=[2.9, 2.99, 3, 3.01])
    assert_allclose(outlier, np.log(exact), rtol=1e-6)
    p = Bernoulli().predictive(np.array([-50.0, 50.0]), np.array([100.0, 100.0]))[0]
    assert np.all((p > 0) & (p <= 1))
    assert_allclose(p.sum(), 1.0, rtol=1e-3)


def test_moments_of_predictions():
    mean, variance = np.array([0.4]), np.array([0.3])
    rate, spread = Poisson(2.0).predictive(mean, variance)
    first, second = (integral(lambda f, k=k: (2 * np.exp(f)) ** k, 0.4, 0.3) for k in (1, 2))
    assert_allclose(rate, first, rtol=1e-9)
    assert_allclose(spread, first + second - first**2, rtol=1e-8)
    assert_allclose(Gaussian(0.2).predictive(mean, variance)[1], 0.5)
    assert_allclose(StudentT(4.0, 0.5).predictive(mean, variance)[1], 0.3 + stats.t(4).var() / 4)
    assert StudentT(2.0, 0.5).predictive(mean, variance)[1][0] == np.inf
    for link in ("logit", "probit"):
        p, spread = Bernoulli(link).predictive(mean, variance)
        exact = integral(lambda f, link=link: np.exp(LOG_DENSITIES[link](1, f)), 0.4, 0.3)
        assert_allclose(p, exact, rtol=1e-6)
        assert_allclose(spread, p * (1 - p), rtol=1e-12)


def test_extreme_values_stay_finite():
    f = np.array([-800.0, -40.0, 40.0, 800.0])
    for link in ("logit", "probit"):
        for y in (0.0, 1.0):
            slope, curvature = Bernoulli(link).derivatives(np.full(4, y), f)
            assert np.isfinite(slope).all()
            assert np.all((curvature >= 1e-8) & (curvature <= 1.01))


def test_student_t_approaches_the_gaussian():
    t, gauss = (L.expected(REALS, MEAN, VARIANCE) for L in (StudentT(1e6, 0.7), Gaussian(0.49)))
    for ours, limit in zip(t, gauss, strict=True):
        assert_allclose(ours, limit, rtol=1e-4, atol=1e-5)  # they differ by O(1 / df)


def test_rows_are_taken_and_blocks_do_not_matter(monkeypatch):
    likelihood = Poisson(EXPOSURE)
    whole = likelihood.expected(COUNTS, MEAN, VARIANCE)[0]
    rows = np.array([4, 1])
    part = likelihood.take(rows).expected(COUNTS[rows], MEAN[rows], VARIANCE[rows])[0]
    assert_allclose(part, whole[rows], rtol=1e-14)
    whole = Bernoulli().expected(LABELS, MEAN, VARIANCE)
    monkeypatch.setattr("sparseprob.gp._likelihoods._BLOCK", 40)  # two rows at a time
    for blocked, value in zip(Bernoulli().expected(LABELS, MEAN, VARIANCE), whole, strict=True):
        assert_allclose(blocked, value, rtol=1e-14)


@pytest.mark.parametrize(("likelihood", "y", "name", "parameters"), CASES)
def test_other_array_libraries(xp, likelihood, y, name, parameters):
    A = [to_compute(xp.asarray(a)) for a in (y, MEAN, VARIANCE)]
    for method, arguments in (("expected", 3), ("derivatives", 2), ("log_predictive", 3)):
        ours = np.atleast_2d([to_numpy(a) for a in getattr(likelihood, method)(*A[:arguments])])
        host = getattr(likelihood, method)(*(y, MEAN, VARIANCE)[:arguments])
        assert_allclose(ours.ravel(), np.ravel(host), rtol=1e-10)
    gradient = likelihood.expected_parameter_gradient(*A)
    assert_allclose(gradient, likelihood.expected_parameter_gradient(y, MEAN, VARIANCE), rtol=1e-10)
