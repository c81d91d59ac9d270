"""What every estimator owes its user, over the table of instances."""

import pickle

import numpy as np
import pytest
from instances import INSTANCES, ITERATIVE
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from sparseprob.callbacks import History

TRANSFORMERS = [estimator for estimator in INSTANCES if hasattr(estimator, "transform")]
EXPECTED_FAILURES: dict = {
    name: {"check_complex_data": "Complex measurements are what these estimators are for."}
    for name in (type(e).__name__ for e in INSTANCES if ".recovery." in type(e).__module__)
}
# The rows of the checks are of both signs, which positive causes are right to complain of.
# Some have repeated rows or constant features, which Gaussian processes are right to report.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.* of the mass of X is negative"),
    pytest.mark.filterwarnings("ignore:X has .* rows that repeat another row"),
    pytest.mark.filterwarnings("ignore:Features .* of X are constant"),
    pytest.mark.filterwarnings("ignore:The .*parameters .* ended at a bound"),
]


def rows(estimator, n=60, dtype=np.float64):
    X = np.random.default_rng(0).normal(size=(n, 5)).astype(dtype) ** 3
    counts = estimator.__sklearn_tags__().input_tags.positive_only
    return np.round(np.abs(X)) if counts else X


def targets(estimator, X):
    """Measurements that two columns of X explain, and some noise; labels or counts of these."""
    noise = np.random.default_rng(1).normal(size=len(X), scale=0.1)
    y = (X[:, 0] - 2 * X[:, 3] + noise).astype(X.dtype)
    if is_classifier(estimator):
        return (y > 0).astype(int)
    last = estimator[-1] if hasattr(estimator, "steps") else estimator
    return np.round(np.abs(y)) if last.__sklearn_tags__().target_tags.positive_only else y


def fitted(estimator, X):
    """The estimator, fitted; predictors get targets."""
    predicts = is_regressor(estimator) or is_classifier(estimator)
    return estimator.fit(X, targets(estimator, np.asarray(X)) if predicts else None)


def output(estimator, X):
    """What a fitted estimator makes of rows."""
    if is_classifier(estimator):
        return estimator.predict_proba(X)
    return estimator.predict(X) if is_regressor(estimator) else estimator.transform(X)


def name(estimator):
    return type(estimator).__name__


@parametrize_with_checks(
    INSTANCES, expected_failed_checks=lambda estimator: EXPECTED_FAILURES.get(name(estimator), {})
)
@pytest.mark.filterwarnings("ignore:n_components=3 exceeds n_samples")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", ITERATIVE, ids=name)
def test_array_api_checks_are_among_them(estimator):
    """Without SCIPY_ARRAY_API they would be skipped in silence."""
    checks = [check for _, check in estimator_checks_generator(clone(estimator))]
    names = [getattr(check, "func", check).__name__ for check in checks]
    assert any("array_api" in check for check in names)
    from sklearn.utils._array_api import _check_array_api_dispatch

    _check_array_api_dispatch(True)  # raises unless the libraries are ready for it


@pytest.mark.parametrize("estimator", INSTANCES, ids=name)
def test_pickled_estimators_are_equal(estimator):
    X = rows(estimator)
    model = fitted(clone(estimator), X)
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(output(again, X), output(model, X))


@pytest.mark.parametrize("estimator", TRANSFORMERS, ids=name)
def test_names_of_outputs_and_pandas(estimator):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(rows(estimator), columns=list("abcde"))
    model = clone(estimator).set_output(transform="pandas").fit(X)
    table = model.transform(X)
    assert list(table.columns) == list(model.get_feature_names_out())
    expected = clone(estimator).fit(rows(estimator)).transform(rows(estimator))
    assert_allclose(table.to_numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("estimator", INSTANCES, ids=name)
def test_single_precision_stays(estimator):
    X = rows(estimator, dtype=np.float32)
    model = fitted(clone(estimator), X)
    arrays = {k: v for k, v in vars(model).items() if k.endswith("_") and isinstance(v, np.ndarray)}
    assert {v.dtype for v in arrays.values() if v.dtype.kind == "f"} == {np.dtype(np.float32)}
    assert output(model, X).dtype == np.float32


@pytest.mark.parametrize("estimator", INSTANCES, ids=name)
def test_pipelines_and_grid_search(estimator):
    X = rows(estimator)
    pipeline = fitted(make_pipeline(MaxAbsScaler(), clone(estimator)), X)
    assert output(pipeline, X).shape[0] == 60
    if hasattr(estimator, "score") and hasattr(estimator, "n_components"):
        search = GridSearchCV(clone(estimator), {"n_components": [3, 4]}, cv=2).fit(rows(estimator))
        assert search.best_score_ == max(search.cv_results_["mean_test_score"])


@pytest.mark.parametrize("estimator", ITERATIVE, ids=name)
def test_callbacks_see_every_iteration(estimator):
    history = History(("n_iter_",))
    model = fitted(clone(estimator).set_callbacks(history), rows(estimator))
    assert history.records["n_iter_"] == list(range(1, model.n_iter_ + 1))
    assert len(history.records["seconds"]) == model.n_iter_


@pytest.mark.parametrize("estimator", ITERATIVE, ids=name)
def test_the_same_seed_gives_the_same_model(estimator):
    X = rows(estimator)
    first, second = (output(fitted(clone(estimator), X), X) for _ in range(2))
    assert_array_equal(first, second)


@pytest.mark.parametrize("estimator", ITERATIVE, ids=name)
def test_the_user_s_progress_bar_runs(estimator, capsys):
    pytest.importorskip("rich")
    from sparseprob.callbacks import ProgressBar

    model = fitted(clone(estimator).set_callbacks(ProgressBar()), rows(estimator))
    assert model.n_iter_ > 0
    assert name(estimator) in capsys.readouterr().out
