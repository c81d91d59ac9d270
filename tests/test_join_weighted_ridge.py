"""Regression of rows that stand for several."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from reference_join import left_out_residuals, ridge

from sparseprob.sketch._weighted_ridge import WeightedRidge

CASES = [(0.0, True), (0.0, False), (2.5, True), (2.5, False)]


def sample(n=25, d=4, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, d)) + 3
    p = rng.uniform(0.05, 1, size=n)
    return A, A @ rng.normal(size=(d, 2)) + rng.normal(size=(n, 2)) + 5, p


@pytest.mark.parametrize(("alpha", "fit_intercept"), CASES)
def test_coefficients_are_those_of_the_stacked_system(alpha, fit_intercept):
    A, Y, p = sample()
    fit = WeightedRidge(A, Y, p, alpha, fit_intercept)
    for t in range(2):
        coef, intercept = ridge(A, Y[:, t], p, alpha, fit_intercept)
        assert_allclose(fit.coef[:, t], coef, rtol=1e-11)
        assert_allclose(fit.intercept[t], intercept, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("alpha", "fit_intercept"), CASES)
def test_left_out_residuals_are_those_of_the_other_rows(alpha, fit_intercept):
    A, Y, p = sample()
    fit = WeightedRidge(A, Y, p, alpha, fit_intercept)
    for t in range(2):
        expected = left_out_residuals(A, Y[:, t], p, alpha, fit_intercept)
        assert_allclose(fit.left_out_residuals[:, t], expected, rtol=1e-9, atol=1e-11)


def test_left_out_r2_compares_with_the_mean_of_the_other_rows():
    A, Y, p = sample()
    fit = WeightedRidge(A, Y, p)
    y, residuals = Y[:, 0], left_out_residuals(A, Y[:, 0], p, 0.0, True)
    means = [np.average(np.delete(y, i), weights=1 / np.delete(p, i)) for i in range(len(y))]
    expected = 1 - (residuals**2 / p).sum() / ((y - means) ** 2 / p).sum()
    assert_allclose(fit.left_out_r2[0], expected, rtol=1e-11)


def test_left_out_r2_of_noise_is_not_positive_on_average():
    scores = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        fit = WeightedRidge(rng.normal(size=(30, 8)), rng.normal(size=(30, 1)), np.ones(30))
        scores.append(fit.left_out_r2[0])
    assert np.mean(scores) < -0.2  # an R^2 of the fitted rows themselves would be about 8 / 29


def test_rank_deficient_rows_take_the_shortest_coefficients():
    A, Y, p = sample()
    A = np.column_stack([A, A[:, 0]])
    fit = WeightedRidge(A, Y, p)
    assert fit.rank == 4
    assert_allclose(fit.coef[0], fit.coef[4], rtol=1e-10)
    coef = ridge(A[:, :4], Y[:, 0], p, 0.0, True)[0]
    assert_allclose(fit.coef[[0, 1], 0] * [2, 1], coef[:2], rtol=1e-9)


def test_certain_rows_leave_no_doubt():
    A, Y, _ = sample()
    assert_allclose(WeightedRidge(A, Y, np.ones(25)).coef_std, 0)


def test_a_row_that_alone_speaks_for_a_column_leaves_its_deviation_open():
    A = np.vstack([np.eye(3), np.eye(3)[:2], np.eye(3)[:2]])
    fit = WeightedRidge(A, np.arange(7.0)[:, None], np.full(7, 0.5), fit_intercept=False)
    assert np.isnan(fit.left_out_residuals[2, 0])
    others = np.delete(fit.left_out_residuals[:, 0], 2)
    assert np.isfinite(others).all()
    assert np.isnan(fit.coef_std[2, 0])
    assert_allclose(fit.left_out_r2[0], 1 - (others @ others + 4) / np.sum(np.arange(7) ** 2))
