"""Gaussian fields: their covariance, how they are observed, and what is refused."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from scipy.stats import kstest, norm
from scipy.stats import t as student_t
from sklearn.gaussian_process.kernels import (
    RBF,
    ConstantKernel,
    ExpSineSquared,
    Matern,
    RationalQuadratic,
)

from sparseprob.datasets import make_spatial_field

KERNELS = [
    ConstantKernel(2.0) * Matern(0.2, nu=0.5),
    Matern([0.1, 0.3], nu=1.5) * ConstantKernel(0.5),
    RBF(0.15),
    Matern(0.15, nu=np.inf),
    RationalQuadratic(length_scale=0.2, alpha=0.7),
]


def second_moments(draws):
    """Mean of f f' over draws (n_draws, n), and the standard error of each entry."""
    products = draws[:, :, None] * draws[:, None, :]
    return products.mean(axis=0), products.std(axis=0) / np.sqrt(len(draws))


@pytest.mark.parametrize("kernel", KERNELS[:3])
def test_covariance_of_a_circulant_grid(kernel):
    rng = np.random.RandomState(0)
    bunches = [
        make_spatial_field(49, kernel=kernel, layout="grid", method="circulant", random_state=rng)
        for _ in range(2000)
    ]
    assert bunches[0].clipped < 1e-3
    found, error = second_moments(np.array([b.field for b in bunches]))
    z = (found - kernel(bunches[0].data)) / error
    assert abs(z).max() < 5  # of 1225 entries the largest is around 3.4
    assert 0.8 < z.std() < 1.2


def test_covariance_of_exact_draws():
    kernel, draws = KERNELS[1], []
    for _ in range(1500):  # the locations are the same, the field follows them
        b = make_spatial_field(9, kernel=kernel, layout="grid", random_state=len(draws))
        draws.append(b.field)
    found, error = second_moments(np.array(draws))
    assert (abs(found - kernel(b.data)) < 4.5 * error).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_covariance_of_waves(kernel):
    rng = np.random.RandomState(0)
    bunches = [
        make_spatial_field(16, kernel=kernel, layout="grid", method="fourier", random_state=rng)
        for _ in range(600)
    ]
    found, error = second_moments(np.array([b.field for b in bunches]))
    assert (abs(found - kernel(bunches[0].data)) < 4.5 * error).all()


def test_values_of_a_large_field_are_normal_and_as_rough_as_the_kernel():
    field = make_spatial_field(
        90_000, kernel=Matern(0.01, nu=0.5), layout="grid", random_state=0
    )  # lengthscale of three nodes: nearly independent
    assert field.method == "circulant"
    assert field.clipped < 1e-12
    values = field.field.reshape(300, 300)
    assert kstest(values[::15, ::15].ravel(), norm.cdf).pvalue > 0.01
    assert_allclose(np.var(np.diff(values, axis=0)), 2 * (1 - np.exp(-1 / 3)), rtol=0.03)
    assert_allclose(np.var(np.diff(values, axis=1)), 2 * (1 - np.exp(-1 / 3)), rtol=0.03)


def test_methods_chosen_by_size():
    cases = {
        (200, 2): "exact",
        (6000, 1): "circulant",
        (6000, 3): "circulant",
        (6000, 4): "fourier",
    }
    for (n, d), method in cases.items():
        field = make_spatial_field(n, d, random_state=0)
        assert field.method == method
        assert field.data.shape == (n, d)
        assert 0 <= field.data.min()
        assert field.data.max() <= 1
        assert len(np.unique(field.data, axis=0)) == n


def test_grid_runs_along_the_last_feature():
    data = make_spatial_field(9, layout="grid", random_state=0).data
    assert_allclose(data[:4], [[1 / 6, 1 / 6], [1 / 6, 0.5], [1 / 6, 5 / 6], [0.5, 1 / 6]])
    both = [make_spatial_field(16, layout="grid", method=m, random_state=0).data
            for m in ("exact", "circulant")]  # fmt: skip
    assert_array_equal(*both)


def test_same_seed_same_field():
    first, again = (make_spatial_field(500, random_state=3) for _ in range(2))
    assert_array_equal(first.target, again.target)
    assert (first.target != make_spatial_field(500, random_state=4).target).all()


def test_observations_follow_the_likelihood():
    n = 6000  # drawn by Fourier transforms
    field = make_spatial_field(n, noise_variance=0.04, random_state=0)
    assert kstest((field.target - field.field) / 0.2, norm.cdf).pvalue > 0.01
    field = make_spatial_field(
        n, likelihood="student_t", noise_variance=0.04, df=2.5, random_state=0
    )
    assert kstest((field.target - field.field) / 0.2, student_t(2.5).cdf).pvalue > 0.01
    field = make_spatial_field(n, likelihood="bernoulli", mean=0.5, random_state=0)
    p = expit(field.field)
    assert_array_equal(np.unique(field.target), [0, 1])
    z = ((field.target - p) * field.field).sum() / np.sqrt((p * (1 - p) * field.field**2).sum())
    assert abs(z) < 4
    field = make_spatial_field(n, likelihood="poisson", mean=1.0, random_state=0)
    rate = np.exp(field.field)
    chi2 = ((field.target - rate) ** 2 / rate).sum()
    assert abs(chi2 - n) < 4 * np.sqrt(2 * n + (1 / rate).sum())
    assert field.target.dtype.kind == "i"


def test_mean_is_added_before_observation():
    low, high = (make_spatial_field(300, mean=m, random_state=1) for m in (0.0, 7.0))
    assert_allclose(high.field, low.field + 7, rtol=1e-12)
    assert_allclose(high.target, low.target + 7, rtol=1e-12)


def test_long_lengthscales_report_what_was_clipped():
    field = make_spatial_field(900, kernel=RBF(2.0), method="circulant", random_state=0)
    assert 1e-3 < field.clipped < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_samples": 0}, "n_samples must be an integer of at least 1, got 0"),
        ({"n_features": 1.5}, "n_features must be an integer of at least 1, got 1.5"),
        ({"likelihood": "gamma"}, "likelihood must be one of .*'poisson'.*, got 'gamma'"),
        ({"layout": "hex"}, "layout must be one of"),
        ({"method": "spectral"}, "method must be one of"),
        ({"noise_variance": -1.0}, "noise_variance must not be negative, got -1.0"),
        ({"noise_variance": np.nan}, "noise_variance must not be negative, got nan"),
        ({"df": 0}, "df must be positive, got 0"),
        ({"layout": "grid", "n_samples": 99}, "needs a power of 2 .* got 99; 100 is near"),
        ({"method": "exact", "n_samples": 6000}, "'exact' draws up to 5000 points, got n_samples="),
        ({"method": "circulant", "n_features": 4}, "up to 3 features, got n_features=4"),
        ({"method": "fourier", "kernel": ExpSineSquared()}, "'fourier' needs ConstantKernel times"),
        ({"method": "fourier", "kernel": RBF() * RBF()}, "'fourier' needs ConstantKernel times"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_spatial_field(**{"n_samples": 100, "random_state": 0} | options)
