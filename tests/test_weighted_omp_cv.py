"""Cross-validation over alpha: one pursuit a fold equals one for each alpha and fold."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from sklearn.model_selection import KFold, ShuffleSplit

from sparseprob._arrays import to_numpy
from sparseprob.recovery import WeightedOMP, WeightedOMPCV
from sparseprob.recovery import _weighted_omp_cv as module

RULES = [(loss, penalty) for loss in ("squared", "sqrt") for penalty in ("l1", "l0")]


def problem(seed=0, M=60, N=80, s=4, *, noise=0.05, T=None, dtype=np.float64):
    """X with columns of different lengths, y and the sparse truth."""
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(M, N)) * rng.uniform(0.5, 2, N)).astype(dtype)
    coef = np.zeros((T or 1, N), dtype=dtype)
    for row in coef:
        row[rng.choice(N, s, replace=False)] = rng.choice([-1, 1], s) * rng.uniform(1, 2, s)
    y = X @ coef.T + noise * rng.normal(size=(M, T or 1)).astype(dtype)
    if np.dtype(dtype).kind == "c":
        X = X + 1j * rng.normal(size=X.shape)
        y = X @ coef.T + noise * rng.normal(size=y.shape)
    return (X, y, coef) if T else (X, y[:, 0], coef[0])


def errors_fold_by_fold(model, X, y, score):
    """What the folds say, by fitting WeightedOMP for each alpha and fold."""
    found = np.empty((len(model.alphas_), 5))
    for f, (train, test) in enumerate(KFold(5).split(X)):
        for a, alpha in enumerate(model.alphas_):
            single = WeightedOMP(
                model.loss, model.penalty, alpha, weights=model.weights,
                max_iter=model.max_iter or X.shape[1], fit_intercept=model.fit_intercept,
            ).fit(X[train], y[train])  # fmt: skip
            found[a, f] = score(y[test], single.predict(X[test]))
    return found


def squared_error(true, predicted):
    return np.mean(np.abs(true - predicted) ** 2)


# ---------------------------------------------------------------- oracle
@pytest.mark.parametrize("T", [None, 3])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize(("loss", "penalty"), RULES)
def test_one_pursuit_a_fold_serves_all_alphas(loss, penalty, fit_intercept, T):
    X, y, _ = problem(T=T)
    model = WeightedOMPCV(loss, penalty, fit_intercept=fit_intercept, max_iter=12).fit(X, y + 1)
    expected = errors_fold_by_fold(model, X, y + 1, squared_error)
    assert_allclose(model.mse_path_, expected, rtol=1e-9)
    assert len(np.unique(np.round(expected, 9))) > 20  # the alphas do differ
    assert_array_equal(model.score_path_, -model.mse_path_)
    assert model.alpha_ == model.alphas_[model.mse_path_.mean(axis=1).argmin()]


def test_equal_weights_need_no_refits_and_others_get_them(monkeypatch):
    X, y, _ = problem()
    fits, fit = [], WeightedOMP.fit
    monkeypatch.setattr(WeightedOMP, "fit", lambda *a: fits.append(1) or fit(*a))
    alphas = np.array([0.5, 0.2, 0.1])
    for weights, expected in ((None, 1), (np.full(80, 2.0), 1), (np.linspace(0.5, 2, 80), 16)):
        fits.clear()
        model = WeightedOMPCV(alphas=alphas, weights=weights).fit(X, y)
        assert len(fits) == expected  # three alphas on five folds, and once with all rows
        oracle = errors_fold_by_fold(model, X, y, squared_error)
        assert_allclose(model.mse_path_, oracle, rtol=1e-9)


@pytest.mark.parametrize("penalty", ["l1", "l0"])
def test_absolute_deviations_are_judged_by_absolute_errors(penalty):
    X, y, _ = problem(noise=0.5)
    y[::9] += 50
    model = WeightedOMPCV("absolute", penalty, alphas=np.logspace(-1, 1, 5), max_iter=6).fit(X, y)
    oracle = errors_fold_by_fold(model, X, y, mean_absolute_error)
    assert_allclose(-model.score_path_, oracle, rtol=1e-9)
    oracle = errors_fold_by_fold(model, X, y, mean_squared_error)
    assert_allclose(model.mse_path_, oracle, rtol=1e-9)


@pytest.mark.parametrize("scoring", ["r2", "neg_mean_absolute_error"])
def test_scores_are_those_asked_for(scoring):
    X, y, _ = problem()
    model = WeightedOMPCV("squared", scoring=scoring, alphas=[1.0, 0.1]).fit(X, y)
    score = {"r2": r2_score, "neg_mean_absolute_error": lambda a, b: -mean_absolute_error(a, b)}
    assert_allclose(model.score_path_, errors_fold_by_fold(model, X, y, score[scoring]), rtol=1e-9)


def test_targets_in_pieces_are_as_all_at_once(monkeypatch):
    X, y, _ = problem(T=5)
    whole = WeightedOMPCV().fit(X, y)
    monkeypatch.setattr(module, "_PACKED", 1)
    assert_allclose(WeightedOMPCV().fit(X, y).mse_path_, whole.mse_path_, rtol=1e-9)


# ---------------------------------------------------------------- the choice
@pytest.mark.parametrize(("loss", "penalty"), [*RULES, ("absolute", "l1"), ("absolute", "l0")])
def test_the_chosen_alpha_recovers_the_truth(loss, penalty):
    X, y, coef = problem(seed=3, M=100)
    if loss == "absolute":
        y[::20] += 100
    model = WeightedOMPCV(loss, penalty, max_iter=15).fit(X, y)
    assert set(np.flatnonzero(coef)) <= set(model.support_)
    oracle = np.linalg.lstsq(X[:, coef != 0], y, rcond=None)[0]
    if loss == "absolute":
        assert np.linalg.norm(model.coef_ - coef) < 0.05
    else:  # close to what least squares errs on the true columns
        error = np.linalg.norm(oracle - coef[coef != 0])
        assert np.linalg.norm(model.coef_ - coef) < 3 * error


@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2, 80)])
def test_the_model_is_that_of_the_chosen_alpha(weights):
    X, y, _ = problem(T=2)
    model = WeightedOMPCV("squared", weights=weights, fit_intercept=True).fit(X, y)
    single = WeightedOMP(
        "squared", "l1", model.alpha_, weights=weights, fit_intercept=True, max_iter=80
    ).fit(X, y)
    for name in ("coef_", "intercept_", "residual_norm_", "n_iter_"):
        assert_array_equal(getattr(model, name), getattr(single, name))
    assert model.stop_reason_ == single.stop_reason_
    assert_array_equal(model.predict(X), single.predict(X))
    assert model.score(X, y) > 0.9


def test_of_equal_scores_the_largest_alpha_is_taken():
    X, y, _ = problem(noise=1e-3)
    model = WeightedOMPCV("squared").fit(X, y)
    mean = model.score_path_.mean(axis=1)
    assert model.alpha_ == model.alphas_[mean == mean.max()].max()
    assert (mean == mean.max()).sum() > 1


@pytest.mark.parametrize(("loss", "penalty"), [*RULES, ("absolute", "l1"), ("absolute", "l0")])
def test_alphas_begin_where_nothing_is_chosen(loss, penalty):
    X, y, _ = problem()
    model = WeightedOMPCV(loss, penalty, max_iter=3, cv=2).fit(X, y)
    assert model.alphas_.shape == (41,)
    steps = np.diff(np.log10(model.alphas_))
    assert_allclose(steps, -0.2 if (loss, penalty) == ("squared", "l0") else -0.1)
    for factor, chosen in ((1 + 1e-9, False), (1 - 1e-6, True)):
        single = WeightedOMP(loss, penalty, factor * model.alphas_[0]).fit(X, y)
        assert (single.n_nonzero_coefs_ > 0) == chosen


def test_given_alphas_are_sorted_and_may_hold_zero():
    X, y, _ = problem()
    model = WeightedOMPCV("squared", alphas=[0.0, 0.5, 0.1, 0.5], max_iter=5).fit(X, y)
    assert_array_equal(model.alphas_, [0.5, 0.1, 0.0])
    assert_allclose(model.mse_path_, errors_fold_by_fold(model, X, y, squared_error), rtol=1e-9)


def test_splits_may_be_given():
    X, y, _ = problem()
    splits = ShuffleSplit(3, random_state=0)
    first, second = (WeightedOMPCV(cv=cv).fit(X, y) for cv in (splits, list(splits.split(X))))
    assert first.mse_path_.shape == (41, 3)
    assert_array_equal(first.mse_path_, second.mse_path_)


def test_targets_of_zeros_give_zeros():
    X, y, _ = problem()
    model = WeightedOMPCV().fit(X, 0 * y)
    assert not model.coef_.any()
    assert not model.mse_path_.any()
    assert model.stop_reason_ == "zero_target"


# ---------------------------------------------------------------- kinds of data
def test_sparse_matrices_are_as_dense_ones():
    X, y, _ = problem()
    X = X * (np.random.default_rng(0).random(X.shape) < 0.5)
    dense = WeightedOMPCV(fit_intercept=True).fit(X, y)
    for kind in (sparse.csc_array, sparse.csr_matrix):
        model = WeightedOMPCV(fit_intercept=True).fit(kind(X), y)
        assert_allclose(model.mse_path_, dense.mse_path_, rtol=1e-8)
        assert_allclose(model.coef_, dense.coef_, atol=1e-10)


def test_complex_data():
    X, y, coef = problem(dtype=np.complex128)
    model = WeightedOMPCV().fit(X, y)
    assert_allclose(model.mse_path_, errors_fold_by_fold(model, X, y, squared_error), rtol=1e-9)
    assert set(np.flatnonzero(coef)) <= set(model.support_)
    with pytest.raises(ValueError, match="loss='absolute' is for real data"):
        WeightedOMPCV("absolute").fit(X, y)


@pytest.mark.parametrize("T", [None, 3])
def test_other_libraries_give_the_same(xp, T):
    X, y, _ = problem(T=T)
    expected = WeightedOMPCV().fit(X, y)
    model = WeightedOMPCV().fit(xp.asarray(X), xp.asarray(y))
    assert type(model.coef_) is type(xp.asarray(X))
    assert_allclose(to_numpy(model.coef_), expected.coef_, atol=1e-10)
    assert type(model.alphas_) is type(model.mse_path_) is type(model.coef_)
    assert_allclose(to_numpy(model.mse_path_), expected.mse_path_, rtol=1e-8)


def test_single_precision_stays():
    X, y, _ = problem(dtype=np.float32)
    model, double = (
        WeightedOMPCV(max_iter=10).fit(X.astype(dtype), y.astype(dtype))
        for dtype in (np.float32, np.float64)
    )
    assert model.coef_.dtype == model.alphas_.dtype == model.score_path_.dtype == np.float32
    assert model.alpha_ in model.alphas_
    assert_allclose(model.mse_path_, double.mse_path_, rtol=1e-3)  # the supports are the same


# ---------------------------------------------------------------- bad input
def test_bad_input_is_refused_in_one_sentence():
    X, y, _ = problem()
    with pytest.raises(ValueError, match="cannot split a LinearOperator into rows"):
        WeightedOMPCV().fit(aslinearoperator(X), y)
    for alphas in ([-1.0], [np.nan], []):
        with pytest.raises(ValueError, match="alphas must be finite and non-negative"):
            WeightedOMPCV(alphas=alphas).fit(X, y)
    with pytest.raises(ValueError, match="weights must have one entry for each of the 80 columns"):
        WeightedOMPCV(weights=np.ones(3)).fit(X, y)
    with pytest.raises(ValueError, match="weights must be finite and non-negative"):
        WeightedOMPCV(weights=-np.ones(80)).fit(X, y)
    with pytest.raises(ValueError, match="n_splits=100 greater than the number of samples"):
        WeightedOMPCV(cv=100).fit(X, y)
    with pytest.raises(ValueError, match="The 'loss' parameter of WeightedOMPCV must be"):
        WeightedOMPCV("huber").fit(X, y)


# ---------------------------------------------------------------- ranks
PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import numpy as np
from test_weighted_omp_cv import problem
from sparseprob import distributed, mpi
from sparseprob.recovery import WeightedOMPCV

X, y, _ = problem(seed=5, T=2)
halves = [slice(0, 30), slice(30, 60)]
with distributed():
    mine = halves[mpi.rank()]
    model = WeightedOMPCV(cv=3, max_iter=4, fit_intercept=True).fit(X[mine], y[mine])
    try:
        WeightedOMPCV(cv=3, scoring="r2").fit(X[mine], y[mine])
    except ValueError as error:
        assert "scoring is not a sum over rows" in str(error)
    if mpi.rank() == 1:
        np.savez(sys.argv[1], coef=model.coef_, mse=model.mse_path_, alpha=model.alpha_)
"""


@pytest.mark.mpi
def test_ranks_share_out_the_rows_of_every_fold(tmp_path, mpiexec):
    mpiexec(2, PROGRAM.format(tests=str(Path(__file__).parent)), "two.npz")
    two = np.load(tmp_path / "two.npz")
    X, y, _ = problem(seed=5, T=2)
    halves = [list(KFold(3).split(X[:30])) for _ in range(2)]
    splits = [
        tuple(np.concatenate([a, 30 + b]) for a, b in zip(first, second, strict=True))
        for first, second in zip(*halves, strict=True)
    ]
    model = WeightedOMPCV(cv=splits, max_iter=4, fit_intercept=True).fit(X, y)
    assert_allclose(two["mse"], model.mse_path_, rtol=1e-9)
    assert_allclose(two["coef"], model.coef_, atol=1e-10)
    assert two["alpha"] == pytest.approx(model.alpha_, rel=1e-12)
