"""Covariance functions: scikit-learn's kernels read, evaluated, differentiated, written back."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.gaussian_process.kernels import (
    RBF,
    ConstantKernel,
    ExpSineSquared,
    Matern,
    RationalQuadratic,
    WhiteKernel,
)

from sparseprob._covariance import Covariance
from sparseprob._kernels._covariance_numba import cross_row, derivative_products, fill_lower
from sparseprob.gp._covariance import default_kernel

KERNELS = [
    ConstantKernel(2.0) * Matern([0.1, 0.2, 0.3], nu=1.5),
    Matern(0.3, nu=0.5),
    2 * RationalQuadratic(0.4, alpha=1.3) + Matern([0.2, 0.4, 0.1], nu=2.5),
    RationalQuadratic(0.4, alpha=1.3, alpha_bounds="fixed"),
    RBF(0.5) * ConstantKernel(0.3, "fixed") * ConstantKernel(2.0) + Matern(0.2, nu=np.inf),
    RBF([1.0, 2.0, 3.0], "fixed"),
]


@pytest.fixture
def X():
    return np.random.default_rng(0).random((8, 3))


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_values_and_derivatives_are_those_of_scikit_learn(kernel, X):
    K, gradient = kernel(X, eval_gradient=True)
    covariance = Covariance.from_kernel(kernel, 3)
    assert_allclose(covariance(X), K, rtol=1e-12)
    terms, points = covariance.terms(X), np.arange(8)
    lower = np.zeros((8, 8))
    fill_lower(*terms, points, 0.1, lower)
    assert_allclose(lower, np.tril(K + 0.1 * np.eye(8)), rtol=1e-12)
    row = np.zeros(8)
    cross_row(*terms[:3], terms.scaled[:, 3].copy(), terms.scaled, points, row)
    assert_allclose(row, K[3], rtol=1e-12)
    u = np.random.default_rng(1).standard_normal(8)
    products = np.zeros((len(terms.kinds) * (covariance.n_lengthscales + 2), 8))
    derivative_products(*terms, points, u, covariance.n_lengthscales, products)
    expected = np.einsum("abk,b->ka", gradient, u)
    assert_allclose(covariance.chain(products), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_free_parameters_go_back_into_a_kernel(kernel, X):
    covariance = pickle.loads(pickle.dumps(Covariance.from_kernel(kernel, 3)))
    moved = covariance.with_theta(covariance.theta + np.linspace(0.1, 0.3, len(kernel.theta)))
    assert len(moved.names) == len(moved.theta) == len(moved.bounds)
    assert_allclose(moved.kernel()(X), moved(X), rtol=1e-11)
    assert_allclose(covariance(X), kernel(X), rtol=1e-12)  # neither has changed


def test_the_default_kernel_follows_the_ranges_of_the_features(X):
    X = X * [1.0, 100.0, 0.0]
    kernel = default_kernel(X, variance=4.0)
    lengthscales = kernel.k2.length_scale
    assert kernel.k1.constant_value == 4.0
    assert_allclose(lengthscales[1] / lengthscales[0], np.ptp(X[:, 1]) / np.ptp(X[:, 0]))
    assert lengthscales[2] > 0


@pytest.mark.parametrize(
    ("kernel", "error", "match"),
    [
        (RBF() + WhiteKernel(), TypeError, "noise_variance"),
        (ExpSineSquared(), TypeError, "ExpSineSquared is not supported; supported are Constant"),
        (RBF() + 1.0, TypeError, "normalize_y"),
        (RBF() * RBF(), TypeError, "two factors that vary"),
        (ConstantKernel(2.0), TypeError, "constant alone"),
        (Matern(nu=1.0), ValueError, "nu = 0.5, 1.5, 2.5"),
        (RBF([1.0, 2.0]), ValueError, "2 length-scales, but X has 3 features"),
    ],
)
def test_other_kernels_are_refused_in_one_sentence(kernel, error, match):
    with pytest.raises(error, match=match):
        Covariance.from_kernel(kernel, 3)
