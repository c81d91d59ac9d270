"""Hyper-parameter search by bandits: spaces, proposals, and the search class beside its kin."""

import pickle

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import loguniform, norm, randint, uniform
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_iris, make_classification, make_regression
from sklearn.exceptions import FitFailedWarning
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.model_selection import RandomizedSearchCV, ShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from sparseprob.bandits import GPBUCB, GPUCB, BanditSearchCV, RandomPolicy
from sparseprob.bandits._proposals import Proposals, fit_kernel, normal_scores
from sparseprob.bandits._search_space import SearchSpace

RANGES = {"C": loguniform(1e-3, 1e3), "gamma": loguniform(1e-4, 1e2)}


def space(spaces, n=256, seed=0):
    return SearchSpace(spaces, n, np.random.RandomState(seed))  # noqa: NPY002 - as the search does


def test_quantiles_of_distributions_are_coordinates():
    found = space({"a": loguniform(1e-3, 1e3), "b": norm(2, 3)})
    assert found.points.shape == (256, 2)
    a = np.array([setting["a"] for setting in found.settings])
    b = np.array([setting["b"] for setting in found.settings])
    assert_allclose(found.points, np.c_[(np.log10(a) + 3) / 6, norm(2, 3).cdf(b)], atol=1e-12)


def test_candidates_cover_the_cube_from_the_beginning():
    points = space({name: uniform() for name in "abc"}).points
    for n in (8, 64, 256):  # of the first 2^k Sobol points each half of a side holds one half
        assert_array_equal((points[:n] < 0.5).sum(axis=0), [n // 2] * 3)


def test_numbers_are_ranked_and_categories_are_one_apart():
    found = space({"depth": [1, 10, 100], "kind": ["x", "y", None], "only": ["z"]})
    assert found.is_whole
    assert len(found.settings) == 9
    for setting, point in zip(found.settings, found.points, strict=True):
        assert point[0] == [1, 10, 100].index(setting["depth"]) / 2
        kind = ["x", "y", None].index(setting["kind"])
        assert_allclose(point[1:], np.sqrt(0.5) * (np.arange(3) == kind))
        assert setting["only"] == "z"
    assert np.linalg.norm(np.sqrt(0.5) * np.array([1, -1])) == pytest.approx(1)


def test_discrete_distributions_give_integers_at_their_quantiles():
    found = space({"depth": randint(1, 5), "rate": uniform()})
    depth = np.array([setting["depth"] for setting in found.settings])
    assert {type(setting["depth"]) for setting in found.settings} == {int}
    assert_array_equal(np.bincount(depth), [0, 64, 64, 64, 64])
    assert_allclose(found.points[:, 0], (depth - 0.5) / 4)


def test_equal_settings_come_once():
    found = space({"depth": randint(1, 4)}, n=100)
    assert sorted(setting["depth"] for setting in found.settings) == [1, 2, 3]


def test_lists_of_spaces_are_told_apart_and_lack_each_others_parameters():
    found = space([{"kernel": ["rbf"], "gamma": uniform()}, {"C": uniform(), "degree": [2, 3]}])
    n_first = sum("gamma" in setting for setting in found.settings)
    assert n_first == 128 == len(found.settings) - n_first
    for setting, point in zip(found.settings, found.points, strict=True):
        first = "gamma" in setting
        assert set(setting) == ({"kernel", "gamma"} if first else {"C", "degree"})
        assert_allclose(point[-2:], np.sqrt(0.5) * np.array([first, not first]))
        assert_array_equal(point[1:3] if first else point[:1], 0.5)
    assert 2 < sum("gamma" in setting for setting in found.settings[:10]) < 8


@pytest.mark.parametrize("values", ["rbf", [], 3, None])
def test_other_spaces_are_refused(values):
    with pytest.raises(ValueError, match="'a' must have a non-empty list of values or a distrib"):
        space({"a": values})


def test_normal_scores_are_quantiles_of_ranks():
    scores = normal_scores([0.3, np.nan, 0.9, 0.3, -1e9])
    assert_allclose(scores, norm.ppf([0.6, 0.1, 0.9, 0.6, 0.3]))
    assert_array_equal(scores, normal_scores(np.exp([0.3, np.nan, 0.9, 0.3, -1e9])))
    assert np.isfinite(normal_scores([np.nan, np.nan])).all()


def test_the_kernel_fit_finds_what_the_points_were_drawn_from():
    rng = np.random.default_rng(0)
    X = rng.random((200, 2))
    K = RBF([0.15, 0.8])(X) + 1e-9 * np.eye(200)
    y = np.linalg.cholesky(K) @ rng.normal(size=200) + 0.1 * rng.normal(size=200)
    kernel, noise = fit_kernel(ConstantKernel(1.0) * RBF([0.5, 0.5]), X, y)
    assert_allclose(kernel.k2.length_scale, [0.15, 0.8], rtol=0.35)
    assert_allclose(noise, 0.01, rtol=0.35)


def test_three_points_leave_the_kernel_near_its_start():
    kernel, noise = fit_kernel(ConstantKernel(1.0) * Matern([0.5] * 4), np.eye(3, 4), np.zeros(3))
    assert np.abs(kernel.theta - np.log([1.0] + [0.5] * 4)).max() < 2
    assert 1e-4 <= noise < 0.1


def quadratic(points):
    return -((points - 0.62) ** 2).sum(axis=1)


@pytest.mark.parametrize(
    "policy", [None, GPUCB(beta_scale=0.1), GPBUCB(batch_size=3, beta_scale=0.1)]
)
def test_proposals_find_the_top_and_repeat_nothing(policy):
    points = space({"a": uniform(), "b": uniform(), "c": ["x"]}, n=512).points
    policy = BanditSearchCV(Ridge(), {})._policy() if policy is None else policy
    search = Proposals(points, policy, n_initial=6, seed=0)
    rows = search.next(4)
    assert rows == list(range(6))
    while len(search.rows) < 30:
        search.take(rows, quadratic(points[rows]).tolist())
        rows = search.next(4)
        assert 1 <= len(rows) <= 4
        assert not set(rows) & set(search.rows)
        assert len(set(rows)) == len(rows)
    best = np.argsort(-quadratic(points))
    assert set(best[:2]) & set(search.rows)


def test_proposals_go_on_when_all_failed_and_until_nothing_is_left():
    points = space({"a": list(range(10))}).points
    search = Proposals(points, GPUCB(), n_initial=3, seed=0)
    search.take(search.next(3), [np.nan] * 3)
    assert search.next(3) == [3, 4, 5]
    search.take([3, 4, 5], [0.0, 1.0, np.nan])
    while len(search.rows) < 10:
        rows = search.next(min(4, 10 - len(search.rows)))
        search.take(rows, [0.5] * len(rows))
    assert sorted(search.rows) == list(range(10))


def test_the_search_beats_random_search_on_a_smooth_problem():
    class Score(BaseEstimator, ClassifierMixin):
        """Whose score is a function of its parameters."""

        def __init__(self, a=0.0, b=0.0):
            self.a, self.b = a, b

        def fit(self, X, y):
            self.classes_ = np.unique(y)
            return self

        def score(self, X, y):
            return -((self.a - 0.3) ** 2) - (self.b - 0.7) ** 2

    X, y = load_iris(return_X_y=True)
    ranges = {"a": uniform(), "b": uniform()}
    best = {BanditSearchCV: [], RandomizedSearchCV: []}
    for seed in range(3):
        for kind, scores in best.items():
            search = kind(Score(), ranges, n_iter=25, random_state=seed, cv=2, refit=False)
            scores.append(search.fit(X, y).best_score_)
    assert max(np.negative(best[BanditSearchCV])) < 0.3 * np.mean(
        np.negative(best[RandomizedSearchCV])
    )


@pytest.fixture(scope="module")
def searched():
    X, y = load_iris(return_X_y=True)
    search = BanditSearchCV(
        SVC(), RANGES, n_iter=14, batch_size=3, cv=3, random_state=0, return_train_score=True
    )
    return search.fit(X, y)


def test_results_are_those_of_scikit_learn_s_searches(searched):
    X, y = load_iris(return_X_y=True)
    results = searched.cv_results_
    random = RandomizedSearchCV(SVC(), RANGES, n_iter=14, cv=3, return_train_score=True).fit(X, y)
    assert set(results) == set(random.cv_results_) | {"batch"}
    for name, column in results.items():
        assert len(column) == 14, name
    assert_array_equal(results["batch"], [0] * 4 + [1] * 3 + [2] * 3 + [3] * 3 + [4])
    for row in (0, 5, 13):
        scores = cross_val_score(SVC(**results["params"][row]), X, y, cv=3)
        assert_allclose(scores, [results[f"split{k}_test_score"][row] for k in range(3)])
    best = searched.best_index_
    assert searched.best_params_ == results["params"][best]
    assert searched.best_score_ == results["mean_test_score"].max()
    assert results["rank_test_score"][best] == 1
    assert searched.best_estimator_.get_params()["C"] == searched.best_params_["C"]
    assert_array_equal(searched.predict(X), searched.best_estimator_.predict(X))
    assert searched.score(X, y) > 0.9


def test_results_are_read_by_pandas(searched):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(searched.cv_results_)
    assert table.shape[0] == 14
    assert table.loc[searched.best_index_, "param_C"] == searched.best_params_["C"]


def test_fitted_searches_are_pickled_and_cloned(searched):
    X, y = load_iris(return_X_y=True)
    again = pickle.loads(pickle.dumps(searched))
    assert_array_equal(again.predict(X), searched.predict(X))
    fresh = clone(searched).fit(X, y)
    for name in ("mean_test_score", "batch"):
        assert_array_equal(fresh.cv_results_[name], searched.cv_results_[name])


def test_workers_change_nothing(searched):
    X, y = load_iris(return_X_y=True)
    with joblib.parallel_config(backend="threading"):
        fresh = clone(searched).set_params(n_jobs=2).fit(X, y)
    assert fresh.cv_results_["params"] == searched.cv_results_["params"]
    assert_array_equal(
        fresh.cv_results_["mean_test_score"], searched.cv_results_["mean_test_score"]
    )


def test_all_batches_see_the_same_folds():
    X, y = load_iris(return_X_y=True)
    search = BanditSearchCV(
        SVC(), {"C": [1.0, 1.0 + 1e-12, 1.0 + 2e-12, 1.0 + 3e-12]}, n_iter=4, batch_size=1,
        n_initial=1, cv=ShuffleSplit(2, test_size=0.2), policy=GPUCB(),
    ).fit(X, y)  # fmt: skip
    for split in range(2):
        assert len(set(search.cv_results_[f"split{split}_test_score"])) == 1
    assert_array_equal(search.cv_results_["batch"], range(4))


def test_several_metrics():
    X, y = load_iris(return_X_y=True)
    options = {"n_iter": 6, "n_initial": 3, "cv": 2, "random_state": 0, "policy": GPUCB()}
    metrics = ["accuracy", "f1_macro"]
    model, ranges = SVC(), RANGES
    search = BanditSearchCV(model, ranges, scoring=metrics, refit="f1_macro", **options)
    search.fit(X, y)
    assert search.multimetric_
    assert search.best_score_ == search.cv_results_["mean_test_f1_macro"].max()
    alone = BanditSearchCV(model, ranges, scoring="f1_macro", **options).fit(X, y)
    assert alone.best_params_ == search.best_params_  # the metric of refit decides
    without = BanditSearchCV(model, ranges, scoring=metrics, refit=False, **options).fit(X, y)
    assert not hasattr(without, "best_score_")
    with pytest.raises(ValueError, match="multi-metric scoring, the parameter refit must be set"):
        BanditSearchCV(model, ranges, scoring=metrics, **options).fit(X, y)


def test_functions_as_metrics_and_choices():
    X, y = load_iris(return_X_y=True)
    search = BanditSearchCV(
        SVC(), RANGES, n_iter=6, cv=2, random_state=0, policy=GPUCB(),
        scoring=lambda model, X, y: {"a": model.score(X, y), "b": -model.C},
        refit=lambda results: int(results["mean_test_b"].argmax()),
    ).fit(X, y)  # fmt: skip
    assert search.best_params_["C"] == min(p["C"] for p in search.cv_results_["params"])


def failing(**options):
    """Small C cannot be fitted, and one in four C of a batch is small."""

    class Fails(SVC):
        def fit(self, X, y):
            if self.C < bound:
                raise ValueError("C is too small")
            return super().fit(X, y)

    bound = options.pop("bound")
    return BanditSearchCV(Fails(), RANGES, cv=2, random_state=0, **options), bound


def test_settings_that_fail_rank_last_and_the_search_goes_on():
    X, y = load_iris(return_X_y=True)
    search, bound = failing(bound=0.05, n_iter=20, batch_size=3)
    with pytest.warns((FitFailedWarning, UserWarning)):
        search.fit(X, y)
    results = search.cv_results_
    small = np.array([setting["C"] < bound for setting in results["params"]])
    assert 0 < small.sum() < 12  # they are avoided: a third of the range is small
    assert_array_equal(np.isnan(results["mean_test_score"]), small)
    assert search.best_score_ > 0.9
    assert set(results["rank_test_score"][small]) == {(~small).sum() + 1}


def test_a_batch_that_fails_wholly_is_reported_and_the_search_goes_on():
    X, y = load_iris(return_X_y=True)

    class Fails(SVC):
        def fit(self, X, y):
            if self.C in bad:
                raise ValueError("this one not")
            return super().fit(X, y)

    values = [2.0**k for k in range(8)]
    search = BanditSearchCV(
        Fails(), {"C": values}, n_iter=8, batch_size=1, n_initial=2, cv=2, random_state=0,
        policy=RandomPolicy(), scoring=["accuracy", "balanced_accuracy"], refit="accuracy",
    )  # fmt: skip
    order = [
        p["C"] for p in clone(search).set_params(estimator=SVC()).fit(X, y).cv_results_["params"]
    ]
    for bad in ({order[3]}, {order[7]}, {order[3], order[4], order[7]}):
        with pytest.warns((FitFailedWarning, UserWarning), match="The search goes on|non-finite"):
            results = clone(search).fit(X, y).cv_results_
        failed = np.isnan(results["mean_test_accuracy"])
        assert {p["C"] for p, lost in zip(results["params"], failed, strict=True) if lost} == bad
        assert_array_equal(np.isnan(results["split1_test_balanced_accuracy"]), failed)
        assert_array_equal(np.diff(results["batch"]) >= 0, True)
        assert len(results["params"]) == len(results["param_C"]) == 8
        assert sorted(p["C"] for p in results["params"]) == values


def test_errors_are_raised_when_asked_for_and_when_nothing_works():
    X, y = load_iris(return_X_y=True)
    search, _ = failing(bound=0.05, n_iter=20, error_score="raise")
    with pytest.raises(ValueError, match="C is too small"):
        search.fit(X, y)
    search, _ = failing(bound=np.inf, n_iter=20)
    with pytest.raises(ValueError, match="All the .* fits failed"):
        search.fit(X, y)


def test_a_number_for_failures_counts_as_a_score():
    X, y = load_iris(return_X_y=True)
    search, bound = failing(bound=0.05, n_iter=12, error_score=-1e9)
    with pytest.warns(FitFailedWarning):
        search.fit(X, y)
    worst = np.array([p["C"] < bound for p in search.cv_results_["params"]])
    assert set(search.cv_results_["mean_test_score"][worst]) == {-1e9}
    assert search.best_score_ > 0.9


def test_small_spaces_are_tried_wholly_with_a_warning():
    X, y = load_iris(return_X_y=True)
    search = BanditSearchCV(SVC(), {"C": [1, 2, 3]}, n_iter=10, cv=2, policy=GPUCB())
    with pytest.warns(UserWarning, match="only 3 settings, fewer than n_iter=10"):
        search.fit(X, y)
    assert sorted(search.cv_results_["param_C"]) == [1, 2, 3]


def test_pipelines_lists_of_spaces_and_estimators_as_values():
    X, y = make_classification(80, random_state=0)
    pipeline = make_pipeline(StandardScaler(), SVC())
    ranges = [
        {"svc": [SVC()], "svc__C": loguniform(1e-2, 1e2)},
        {"svc": [RidgeClassifier()], "svc__alpha": loguniform(1e-2, 1e2)},
    ]
    search = BanditSearchCV(pipeline, ranges, n_iter=10, cv=2, random_state=0, policy=GPUCB())
    kinds = {type(p["svc"]) for p in search.fit(X, y).cv_results_["params"]}
    assert kinds == {SVC, RidgeClassifier}


def test_groups_and_weights_reach_folds_and_fits():
    from sklearn.model_selection import GroupKFold

    X, y = make_regression(40, 3, random_state=0)
    ranges = {"alpha": loguniform(1e-3, 1e3)}
    search = BanditSearchCV(Ridge(), ranges, n_iter=5, cv=GroupKFold(2), policy=GPUCB())
    search.fit(X, y, groups=np.arange(40) % 4, sample_weight=np.ones(40))
    assert search.n_splits_ == 2


@pytest.mark.filterwarnings("ignore:The estimator SVC does not support callbacks")
def test_progress_is_announced():
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    X, y = load_iris(return_X_y=True)
    search = BanditSearchCV(SVC(), RANGES, n_iter=6, cv=2, random_state=0, policy=GPUCB())
    search.set_callbacks(ProgressBar()).fit(X, y)
    assert len(search.cv_results_["params"]) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_iter": 0}, "'n_iter' parameter of BanditSearchCV must be"),
        ({"policy": "bbkb"}, "'policy' parameter of BanditSearchCV must be"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"n_candidates": 0}, "'n_candidates' parameter"),
        ({"n_initial": -1}, "'n_initial' parameter"),
    ],
)
def test_bad_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        BanditSearchCV(SVC(), RANGES, **options).fit(*load_iris(return_X_y=True))


@parametrize_with_checks(
    [
        BanditSearchCV(
            RidgeClassifier(solver="svd"), {"alpha": [0.1, 0.5, 1.0]}, n_iter=3, n_initial=2,
            policy=GPUCB(), random_state=0, cv=2, error_score="raise",
        )
    ]
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # by check_cv, of inf
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_the_benchmark_measures_its_claims(tmp_path):
    import json
    import subprocess
    import sys
    from pathlib import Path

    program = Path(__file__).parents[1] / "benchmarks/bandits_search.py"
    only, output = "BanditSearchCV,HalvingRandomSearchCV,RandomizedSearchCV", tmp_path / "out.json"
    command = [sys.executable, program, "--quick", "--only", only, "--output", output]
    subprocess.run(command, capture_output=True, check=True, timeout=300)
    rows = json.loads(output.read_text())["rows"]
    assert [row["what"].rpartition(": ")[2] for row in rows] == [
        *only.split(","),
        "BanditSearchCV over RandomizedSearchCV",
    ]
    assert all(0.9 < row["measured"] <= 1 for row in rows[:3])
    assert rows[3]["measured"] == pytest.approx(rows[0]["measured"] - rows[2]["measured"])
