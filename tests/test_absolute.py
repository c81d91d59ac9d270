"""Least absolute deviations: weighted medians, rules of selection, fits, pursuits."""

import numpy as np
import pytest
import reference_absolute as reference
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning

from sparseprob._arrays import to_numpy
from sparseprob._kernels import _weighted_median_numba as medians
from sparseprob.recovery import WeightedOMP, _least_absolute
from sparseprob.recovery._absolute import (
    absolute_alpha_max,
    absolute_pursuit,
    l0_decreases,
    l1_decreases,
)
from sparseprob.recovery._least_absolute import LeastAbsoluteFit, least_absolute_program

SOLVERS = ("descent", "highs", "irls")


def gaussian(rng, M, N):
    A = rng.normal(size=(M, N))
    return A / np.linalg.norm(A, axis=0)


def measurements(seed, M=60, N=120, s=4, *, noise=1e-3, corrupted=0):
    """A, y and the sparse truth; some rows of y are far off."""
    rng = np.random.default_rng(seed)
    A, x = gaussian(rng, M, N), np.zeros(N)
    x[rng.choice(N, s, replace=False)] = rng.choice([-1, 1], s) * rng.uniform(0.5, 2, s)
    y = A @ x + noise / np.sqrt(M) * rng.normal(size=M)
    y[rng.choice(M, corrupted, replace=False)] += 100 * rng.normal(size=corrupted)
    return A, y, x


def dense(result, N):
    x = np.zeros(N)
    x[result.support] = result.coef_on_support
    return x


def tables(kind, rng, M, N):
    """Columns and a residual: in general position, with zeros, or full of ties."""
    A, r = rng.normal(size=(M, N)), rng.normal(size=M)
    if kind == "zeros":
        A[rng.random(A.shape) < 0.3] = 0
        r[rng.random(M) < 0.4] = 0
    if kind == "ties":
        A, r = np.sign(A), np.round(2 * r)
    return A, r


# ---------------------------------------------------------------- weighted medians
def test_the_weighted_median_has_half_of_the_weight_below():
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 10, 501):
        values, weights = np.round(rng.normal(size=n), 1), rng.integers(1, 5, n).astype(float)
        order = np.argsort(values, kind="stable")
        first = np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)
        assert medians.weighted_median(values, weights) == values[order][first]


def test_the_weighted_median_of_equal_weights_is_the_lower_median():
    assert medians.weighted_median(np.array([4.0, 1.0, 3.0, 2.0]), np.ones(4)) == 2.0


@pytest.mark.parametrize("kind", ["general", "zeros", "ties"])
def test_decreases_along_columns_are_those_of_the_best_knot(kind):
    rng = np.random.default_rng(1)
    for _ in range(60):
        A, r = tables(kind, rng, int(rng.integers(1, 30)), 20)
        x = rng.normal(size=20) * (rng.random(20) < 0.5)
        price = rng.uniform(0, 3, 20) * (rng.random(20) < 0.8)
        gains, steps = medians.absolute_decreases(np.ascontiguousarray(A.T), r, x, price)
        for j, t in enumerate(steps):
            now = np.abs(r).sum() + price[j] * abs(x[j])
            assert_allclose(
                gains[j], now - reference.line_minimum(r, A[:, j], x[j], price[j]), atol=1e-11
            )
            after = np.abs(r - t * A[:, j]).sum() + price[j] * abs(x[j] + t)
            assert_allclose(now - after, gains[j], atol=1e-11)


def test_many_columns_by_threads_are_as_by_one():
    rng = np.random.default_rng(2)
    At, r = rng.normal(size=(600, 500)), rng.normal(size=500)
    assert At.size > medians._SMALL
    nothing = np.zeros(600)
    gains = medians.absolute_decreases(At, r, nothing, nothing)[0]
    parts = [
        medians.absolute_decreases(a, r, nothing[:300], nothing[:300])[0]
        for a in (At[:300], At[300:])
    ]
    assert_array_equal(gains, np.concatenate(parts))


# ---------------------------------------------------------------- rules of selection
@pytest.mark.parametrize("penalty", ["l1", "l0"])
@pytest.mark.parametrize("kind", ["general", "zeros", "ties"])
def test_decreases_of_the_objective_are_those_of_brute_force(penalty, kind):
    rng = np.random.default_rng(3)
    gains_of, at_work = {"l1": l1_decreases, "l0": l0_decreases}[penalty], 0
    for _ in range(25):
        A, y = tables(kind, rng, 14, 20)
        A /= np.maximum(np.linalg.norm(A, axis=0), 1e-12)
        weights, alpha = rng.uniform(0, 2, 20), rng.uniform(0, 1.5)
        fit = LeastAbsoluteFit(np.ascontiguousarray(A.T), y, 14)
        for j in rng.choice(20, 3, replace=False):
            fit.add(j)
        prices = alpha * (weights if penalty == "l1" else weights**2)
        x = np.zeros(20)
        x[fit.support] = fit.coef
        expected = reference.absolute_gains(A, y, x, alpha, weights, penalty)
        assert_allclose(gains_of(fit, prices), expected, atol=1e-11)
        at_work += (expected[fit.support] > 1e-6).any()
    assert at_work > 5  # coefficients of the support were among those worth moving


@pytest.mark.parametrize("penalty", ["l1", "l0"])
def test_alpha_max_is_where_the_first_column_is_chosen(penalty):
    A, y, _ = measurements(0)
    weights = np.random.default_rng(0).uniform(0.5, 2, A.shape[1])
    largest = absolute_alpha_max(A, y, penalty, weights)
    sizes = [
        len(
            absolute_pursuit(
                A, y, alpha=factor * largest, weights=weights, penalty=penalty, max_iter=3
            ).support
        )
        for factor in (1 + 1e-9, 1 - 1e-6)
    ]
    assert sizes[0] == 0
    assert sizes[1] > 0
    none = np.where(np.arange(len(weights)) == 3, 1.0, 0.0)  # zero weights are left out
    only = absolute_alpha_max(A[:, 3:4], y, penalty, None)
    assert absolute_alpha_max(A, y, penalty, none) == pytest.approx(only, rel=1e-12)


# ---------------------------------------------------------------- fits
def fits(kind, solver, n_problems=12):
    """Growing fits of small problems of a kind."""
    rng = np.random.default_rng(4)
    for _ in range(n_problems):
        A, y = tables(kind, rng, int(rng.integers(8, 40)), 7)
        if kind == "noiseless":
            y = A[:, :3] @ rng.normal(size=3)
            y[:4] += 10 * rng.normal(size=4)
        A /= np.maximum(np.linalg.norm(A, axis=0), 1e-12)
        fit = LeastAbsoluteFit(np.ascontiguousarray(A.T), y, 7, solver)
        for j in range(7):
            if fit.add(j):
                yield A[:, fit.support], y, fit


@pytest.mark.parametrize("kind", ["general", "zeros", "ties", "noiseless"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_fits_reach_the_optimum_of_the_primal_program(kind, solver):
    n = 0
    for B, y, fit in fits(kind, solver):
        loss, n = np.abs(y - B @ fit.coef).sum(), n + 1
        assert_allclose(loss, reference.least_absolute_loss(B, y), rtol=1e-9, atol=1e-9)
        assert_allclose(fit.residual, y - B @ fit.coef, atol=1e-12)
        assert (fit.residual == 0).sum() >= B.shape[1]  # as many rows as columns are interpolated
    assert n > 60


def test_the_dual_program_gives_the_primal_solution():
    rng = np.random.default_rng(5)
    B, y = rng.normal(size=(30, 4)), rng.normal(size=30)
    loss = np.abs(y - B @ least_absolute_program(B, y)).sum()
    assert_allclose(loss, reference.least_absolute_loss(B, y), rtol=1e-9)


@pytest.mark.parametrize(("kind", "n_open"), [("general", 0), ("noiseless", 0), ("ties", 2)])
def test_descent_proves_its_fits_without_a_program(kind, n_open, monkeypatch):
    asked = []
    program = _least_absolute.least_absolute_program
    monkeypatch.setattr(
        _least_absolute, "least_absolute_program", lambda B, y: asked.append(1) or program(B, y)
    )
    assert len(list(fits(kind, "descent"))) > 60
    assert len(asked) <= n_open


def test_the_program_stands_in_where_descent_has_no_proof(monkeypatch):
    monkeypatch.setattr(LeastAbsoluteFit, "descend", lambda self: False)
    monkeypatch.setattr(LeastAbsoluteFit, "descend_without_ties", lambda self: False)
    for B, y, fit in fits("general", "descent", 3):
        loss = np.abs(y - B @ fit.coef).sum()
        assert_allclose(loss, reference.least_absolute_loss(B, y), rtol=1e-9)


def test_one_column_gives_the_median():
    y = np.array([3.0, -1.0, 10.0, 2.0, 2.5])
    fit = LeastAbsoluteFit(np.full((1, 5), 1 / np.sqrt(5)), y, 1)
    assert fit.add(0)
    assert_allclose(fit.coef / np.sqrt(5), [2.5], rtol=1e-14)


# ---------------------------------------------------------------- pursuits
@pytest.mark.parametrize(
    ("penalty", "alpha"), [("l1", 1.0), ("l1", 0.3), ("l0", 0.2), ("l0", 0.02)]
)
def test_pursuits_choose_as_brute_force_does(penalty, alpha):
    sizes = []
    for seed in range(4):
        A, y, _ = measurements(seed, M=24, N=30, s=3, noise=0.3, corrupted=2)
        weights = np.random.default_rng(seed).uniform(0.5, 1.5, 30)
        result = absolute_pursuit(A, y, alpha=alpha, weights=weights, penalty=penalty, max_iter=8)
        support, x = reference.absolute_pursuit(A, y, alpha, weights, penalty, 8)
        assert_array_equal(result.support, support)
        assert_allclose(dense(result, 30), x, atol=1e-8)
        sizes.append(len(support))
    assert max(sizes) > 2


@pytest.mark.parametrize("corrupted", [0, 0.05, 0.1, 0.2])
@pytest.mark.parametrize(("penalty", "alpha"), [("l1", 1.78), ("l0", 5.6e-4)])
def test_outliers_do_not_disturb(penalty, alpha, corrupted):
    """The paper's figure 1: median errors are 0.9e-4 to 1.5e-4 with up to 20 % of rows far off."""
    errors = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        A, x, noise = gaussian(rng, 150, 300), np.zeros(300), rng.normal(size=150)
        x[rng.choice(300, 10, replace=False)] = rng.normal(size=10)
        y = A @ x + 1e-3 * noise / np.linalg.norm(noise)
        n = int(150 * corrupted)
        y[rng.integers(0, 150, n)] += 100 * rng.normal(size=n)
        result = absolute_pursuit(A, y, alpha=alpha, weights=None, penalty=penalty, max_iter=30)
        errors.append(np.linalg.norm(dense(result, 300) - x) / np.linalg.norm(x))
        assert result.stop_reason in ("active_index", "no_decrease")
    assert 0.7e-4 <= np.median(errors) <= 2e-4


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_agree(solver):
    A, y, _ = measurements(7, corrupted=5)
    results = [
        absolute_pursuit(A, y, alpha=1.0, weights=None, penalty="l1", max_iter=10, lad_solver=name)
        for name in ("descent", solver)
    ]
    assert_array_equal(results[0].support, results[1].support)
    assert_allclose(results[0].coef_on_support, results[1].coef_on_support, atol=1e-9)


def test_scaling_the_measurements_leaves_the_l1_path():
    A, y, _ = measurements(8, corrupted=3)
    common = {"weights": None, "max_iter": 10}
    first, second = (
        absolute_pursuit(A, s * y, alpha=1.0, penalty="l1", **common) for s in (1, 1000.0)
    )
    assert_array_equal(first.support, second.support)
    assert_allclose(1000 * first.coef_on_support, second.coef_on_support, rtol=1e-9)
    third = absolute_pursuit(A, 1000 * y, alpha=20.0, penalty="l0", **common)
    assert_array_equal(
        absolute_pursuit(A, y, alpha=0.02, penalty="l0", **common).support, third.support
    )


def test_permuting_rows_and_columns_permutes_the_answer():
    A, y, _ = measurements(9, corrupted=3)
    rng = np.random.default_rng(0)
    rows, columns = rng.permutation(A.shape[0]), rng.permutation(A.shape[1])
    common = {"alpha": 0.5, "weights": None, "penalty": "l1", "max_iter": 10}
    first = absolute_pursuit(A, y, **common)
    second = absolute_pursuit(A[rows][:, columns], y[rows], **common)
    assert_array_equal(columns[second.support], first.support)
    assert_allclose(second.coef_on_support, first.coef_on_support, rtol=1e-9)


def test_the_path_holds_every_step():
    A, y, _ = measurements(10, corrupted=3)
    result = absolute_pursuit(A, y, alpha=0.0, weights=None, penalty="l1", max_iter=8)
    path = result.path
    assert result.stop_reason == "max_iter"
    assert len(path) == result.n_iter == 8
    assert_array_equal(path.coef_at(8), dense(result, A.shape[1]))
    for k in range(9):
        residual = y - A @ path.coef_at(k)
        assert_allclose(path.residual_norms[k], np.linalg.norm(residual), rtol=1e-12)
        if k:
            loss = reference.least_absolute_loss(A[:, path.support[:k]], y)
            assert_allclose(np.abs(residual).sum(), loss, rtol=1e-9)


def test_why_pursuits_end():
    A, y, _ = measurements(11, M=20, N=40, noise=0)
    common = {"weights": None, "penalty": "l1"}
    assert absolute_pursuit(A, y, alpha=0.0, max_iter=2, **common).stop_reason == "max_iter"
    exact = absolute_pursuit(A, y, alpha=1e-6, max_iter=20, **common)
    assert exact.stop_reason in ("no_decrease", "active_index")
    assert exact.residual_norm <= 1e-12
    coarse = absolute_pursuit(A, y, alpha=0.0, max_iter=20, tol=0.5, **common)
    assert coarse.stop_reason == "tol"
    assert coarse.residual_norm**2 <= 0.5
    zero = absolute_pursuit(A, 0 * y, alpha=0.0, max_iter=20, **common)
    assert zero.stop_reason == "zero_target"
    assert len(zero.support) == 0
    assert absolute_pursuit(0 * A, y, alpha=0.0, max_iter=3, **common).stop_reason == "no_decrease"


def test_a_column_in_the_span_of_others_is_left_out():
    """Rounding may make one promise a decrease: it must neither be taken nor end the pursuit."""
    A, y, _ = measurements(12, M=20, N=8)
    At = np.vstack([A.T, A[:, 0] + 1e-12 * A[:, 1]])
    fit = LeastAbsoluteFit(np.ascontiguousarray(At), y, 8)
    assert fit.add(0)
    before = fit.coef, fit.residual.copy()
    assert not fit.add(8)
    assert fit.support == [0]
    assert_array_equal(fit.coef, before[0])
    assert_array_equal(fit.residual, before[1])


def test_dependent_columns_are_named_in_a_warning(monkeypatch):
    A, y, _ = measurements(13, M=20, N=8, noise=0.5)
    add = LeastAbsoluteFit.add
    monkeypatch.setattr(LeastAbsoluteFit, "add", lambda self, j: j != first and add(self, j))
    first = -1
    common = {"alpha": 0.0, "weights": None, "penalty": "l1"}
    first = absolute_pursuit(A, y, max_iter=1, **common).support[0]
    with pytest.warns(
        ConvergenceWarning, match="at step 1 depends linearly on those chosen before"
    ):
        result = absolute_pursuit(A, y, max_iter=8, **common)
    assert first not in result.support
    assert result.stop_reason == "rank"
    assert len(result.support) > 1


# ---------------------------------------------------------------- as an estimator
@pytest.mark.parametrize("penalty", ["l1", "l0"])
def test_the_estimator_scales_columns_and_takes_many_targets(penalty, xp):
    A, y, _ = measurements(15, corrupted=3)
    lengths = np.random.default_rng(0).uniform(0.5, 2, A.shape[1])
    if xp.name == "cupy":
        with pytest.raises(TypeError, match="computed on the host; pass NumPy"):
            WeightedOMP("absolute", penalty, 0.5).fit(xp.asarray(A), xp.asarray(y))
        return
    X, Y = xp.asarray(A * lengths), xp.asarray(np.column_stack([y, -2 * y]))
    model = WeightedOMP("absolute", penalty, 0.5).fit(X, Y)
    assert type(model.coef_) is type(X)
    for t, scale in enumerate((1, -2)):
        single = absolute_pursuit(
            A, scale * y, alpha=0.5, weights=None, penalty=penalty, max_iter=60
        )
        assert_array_equal(model.support_[t], single.support)
        coef = to_numpy(model.coef_)[t]
        assert_allclose(coef * lengths, dense(single, A.shape[1]), atol=1e-10)
        assert model.stop_reason_[t] == single.stop_reason


def test_single_precision_stays():
    A, y, _ = measurements(16)
    X = A.astype(np.float32)
    model = WeightedOMP("absolute", "l1", 1.0, fit_intercept=True).fit(X, y.astype(np.float32) + 5)
    assert model.coef_.dtype == model.predict(X).dtype == np.float32
    double = WeightedOMP("absolute", "l1", 1.0, fit_intercept=True).fit(A, y + 5)
    assert_array_equal(model.support_, double.support_)
    assert_allclose(model.coef_, double.coef_, atol=1e-4)
    assert_allclose(model.intercept_, double.intercept_, atol=1e-4)


def test_a_constant_column_without_weight_is_an_intercept_that_outliers_do_not_move():
    A, y, x = measurements(17, M=100, N=60, corrupted=8)
    X, weights = np.column_stack([A, np.ones(100)]), np.append(np.ones(60), 0.0)
    model = WeightedOMP("absolute", "l1", 1.0, weights=weights).fit(X, y + 5)
    assert_allclose(model.coef_, np.append(x, 5.0), atol=1e-3)


def test_complex_data_and_other_devices_are_refused():
    A, y, _ = measurements(14, M=10, N=5)
    common = {"alpha": 0.0, "weights": None, "penalty": "l1", "max_iter": 2}
    for pair in ((A + 0j, y), (A, y + 0j)):
        with pytest.raises(ValueError, match="loss='absolute' is for real data; loss='squared'"):
            absolute_pursuit(*pair, **common)
        with pytest.raises(ValueError, match="loss='sqrt' take complex data"):
            absolute_alpha_max(*pair, "l1", None)


@pytest.mark.gpu
def test_data_on_a_gpu_are_refused():
    import cupy

    A, y, _ = measurements(14, M=10, N=5)
    with pytest.raises(TypeError, match="computed on the host; pass NumPy"):
        absolute_alpha_max(cupy.asarray(A), cupy.asarray(y), "l1", None)
