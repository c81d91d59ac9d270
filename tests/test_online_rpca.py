"""Online robust PCA: split invariance, missing entries, subspaces under gross errors."""

import math
import pickle

import numpy as np
import pytest
import reference_online_rpca as reference
from numpy.testing import assert_allclose, assert_array_equal
from reference_online_rpca import basis, problem, with_holes
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from sparseprob import move_estimator_to
from sparseprob._arrays import to_numpy
from sparseprob.callbacks import History
from sparseprob.datasets import open_rows
from sparseprob.rpca import OnlineRobustPCA, RobustPCA, _orpca
from sparseprob.rpca._orpca import StochasticDictionary

SOLVERS = pytest.mark.parametrize("solver", ["orpca", "grasta"])
BATCHES = pytest.mark.parametrize("edges", [(100, 300), (120, 121, 122, 250), range(100, 300)])


def angle(first, second):
    """Sine of the largest angle between the spans of orthonormal rows."""
    return np.linalg.norm(second - second @ first.T @ first, 2)


# ---------------------------------------------------------------- the subspace
@SOLVERS
@pytest.mark.parametrize(("size", "pca"), [(1.0, 0.99), (1000.0, 0.1)])
def test_subspace_under_gross_errors(solver, size, pca):
    L, X = problem(1000, 400, 10, size)
    assert reference.explained(PCA(10).fit(X).components_, L) < pca
    model = OnlineRobustPCA(10, solver=solver, random_state=0).fit(X)
    assert reference.explained(model.components_, L) >= 0.999
    low_rank, rest = model.decompose(X[-50:])
    assert np.linalg.norm(low_rank - L[-50:]) < 0.05 * np.linalg.norm(L[-50:])
    assert_allclose(low_rank + rest, X[-50:], atol=1e-12 * size)


@SOLVERS
@pytest.mark.parametrize("size", [1.0, 1000.0])
def test_online_finds_the_subspace_of_the_batch(solver, size):
    X = problem(size=size)[1]
    batch = RobustPCA(random_state=0).fit(X)
    online = OnlineRobustPCA(3, solver=solver, max_iter=5, random_state=0).fit(X)
    assert batch.rank_ == 3
    assert angle(batch.components_, online.components_) < 0.03  # 0.999 of the variance
    assert_allclose(online.singular_values_, batch.singular_values_ * math.sqrt(5), rtol=0.1)


@SOLVERS
def test_noise(solver):
    L, X = problem(1000, 100, 5, 1000.0, noise=0.02)
    model = OnlineRobustPCA(5, solver=solver, random_state=0).fit(X)
    clean = PCA(5).fit(X - (X - L) * (abs(X - L) > 0.1)).components_
    loss = 1 - reference.explained(model.components_, L)
    assert loss < 10 * (1 - reference.explained(clean, L))  # of one who knows the gross errors


@SOLVERS
def test_missing_entries(solver):
    L, X = problem(1000, 100, 5, 1000.0)
    model = OnlineRobustPCA(5, solver=solver, max_iter=3, missing="nan", random_state=0)
    model.fit(with_holes(X, 0.3))
    assert reference.explained(model.components_, L) >= 0.999
    coordinates = model.transform(with_holes(X[:20], 0.3, seed=7))
    assert_allclose(coordinates @ model.components_, L[:20], atol=0.05 * abs(L).max())


@SOLVERS
def test_missing_without_holes_is_the_same(solver):
    X = problem()[1]
    plain = OnlineRobustPCA(3, solver=solver, random_state=0).fit(X)
    told = OnlineRobustPCA(3, solver=solver, missing="nan", random_state=0).fit(X)
    assert_array_equal(plain.components_, told.components_)


@SOLVERS
def test_a_moving_subspace_is_followed_by_those_who_forget(solver):
    first, second = problem(600, seed=1), problem(600, seed=2)
    X = np.r_[first[1], second[1]]
    forgetful = OnlineRobustPCA(3, solver=solver, forgetting=0.97, random_state=0).fit(X)
    keeping = OnlineRobustPCA(3, solver=solver, random_state=0).fit(X)
    assert reference.explained(forgetful.components_, second[0]) > 0.99
    assert reference.explained(forgetful.components_, second[0]) > 0.01 + reference.explained(
        keeping.components_, second[0]
    )


@SOLVERS
def test_a_basis_to_start_from(solver):
    L, X = problem(size=1000.0)
    start = RobustPCA(random_state=0).fit(X[:100]).components_
    model = OnlineRobustPCA(3, solver=solver, init=start).partial_fit(X[100:101])
    assert 0.999 < reference.explained(model.components_, L) < 1 - 1e-9


# ---------------------------------------------------------------- invariance
@SOLVERS
@BATCHES
def test_batches_do_not_matter(solver, edges):
    X = with_holes(problem(size=10.0)[1], 0.05)
    model = OnlineRobustPCA(3, solver=solver, missing="nan", random_state=0)
    whole = OnlineRobustPCA(3, solver=solver, missing="nan", random_state=0).fit(X)
    for start, stop in zip([0, *edges], [*edges, 300], strict=True):
        if stop > start:
            model.partial_fit(X[start:stop])
    assert_array_equal(model.components_, whole.components_)
    assert_array_equal(model.singular_values_, whole.singular_values_)
    assert model.n_samples_seen_ == whole.n_samples_seen_ == 300


@SOLVERS
def test_single_rows_from_a_fixed_basis(solver):
    X = problem()[1]
    options = {"solver": solver, "lam": 0.1, "init": basis(60, 3)}
    whole = OnlineRobustPCA(3, **options).partial_fit(X)
    rows = OnlineRobustPCA(3, **options)
    for z in X:
        rows.partial_fit(z[None])
    assert_array_equal(rows.components_, whole.components_)


@SOLVERS
def test_single_rows_from_nothing(solver):
    L, X = problem(1000)
    model = OnlineRobustPCA(3, solver=solver, random_state=0)
    for z in X:
        model.partial_fit(z[None])
    assert reference.explained(model.components_, L) > 0.98


@SOLVERS
@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])
def test_units_do_not_matter(solver, scale):
    X = problem()[1]
    model = OnlineRobustPCA(3, solver=solver, random_state=0).fit(X)
    scaled = OnlineRobustPCA(3, solver=solver, random_state=0).fit(scale * X)
    # Powers of four go through all roots exactly, but bits of 1e-16 grow from row to row.
    assert_allclose(scaled.components_, model.components_, atol=1e-8)
    assert_allclose(scaled.singular_values_, scale * model.singular_values_, rtol=1e-8)
    assert scaled.lam_ == scale * model.lam_


@SOLVERS
def test_columns_in_another_order(solver):
    X = problem()[1]
    order = np.random.default_rng(1).permutation(60)
    model = OnlineRobustPCA(3, solver=solver, random_state=0).fit(X[:40])
    other = OnlineRobustPCA(3, solver=solver, random_state=0).fit(X[:40, order])
    assert angle(model.components_[:, order], other.components_) < 1e-5


@SOLVERS
def test_single_precision(solver):
    L, X = problem(600, size=1000.0)
    model = OnlineRobustPCA(3, solver=solver, random_state=0).fit(X.astype(np.float32))
    assert model.components_.dtype == np.float32
    assert reference.explained(model.components_.astype(float), L) >= 0.999
    model.partial_fit(X[:5])
    assert model.components_.dtype == np.float32


def test_half_precision_and_integers():
    X = np.round(100 * problem()[1])
    for dtype, expected in ((np.float16, np.float32), (int, np.float64)):
        model = OnlineRobustPCA(3, random_state=0).fit(X.astype(dtype))
        assert model.components_.dtype == expected


@SOLVERS
def test_pickled_in_the_middle(solver):
    X = problem()[1]
    model = OnlineRobustPCA(3, solver=solver, random_state=0).partial_fit(X[:150])
    again = pickle.loads(pickle.dumps(model)).partial_fit(X[150:])
    assert_array_equal(again.components_, model.partial_fit(X[150:]).components_)


def test_array_libraries(xp):
    X = problem(60, size=5.0)[1]
    expected = OnlineRobustPCA(3, random_state=0).fit(X)
    model = OnlineRobustPCA(3, random_state=0).fit(xp.asarray(X))
    model.partial_fit(xp.asarray(X))
    expected.partial_fit(X)
    assert type(model.components_) is type(xp.asarray(X))
    assert_allclose(to_numpy(model.components_), expected.components_, atol=1e-7)
    scores = model.transform(xp.asarray(X))
    assert_allclose(to_numpy(scores), expected.transform(X), atol=1e-4)


@pytest.mark.gpu
@SOLVERS
def test_a_stream_moves_from_gpu_to_host(solver):
    import cupy

    L, X = problem(300, 100)
    model = OnlineRobustPCA(3, solver=solver, random_state=0).fit(cupy.asarray(X[:200]))
    with pytest.raises(ValueError, match="same namespace"):
        model.partial_fit(X[200:])
    moved = move_estimator_to(model, X).partial_fit(X[200:])
    assert isinstance(moved.components_, np.ndarray)
    assert reference.explained(moved.components_, L) > 0.99


def test_a_moved_copy_learns_alone():
    X = problem()[1]
    model = OnlineRobustPCA(3, random_state=0).fit(X[:200])
    expected = OnlineRobustPCA(3, random_state=0).fit(X[:200]).partial_fit(X[200:])
    move_estimator_to(model, np.empty(0)).partial_fit(X[100:])
    assert_array_equal(model.partial_fit(X[200:]).components_, expected.components_)


def test_rows_from_a_file(tmp_path):
    X = problem()[1]
    np.save(tmp_path / "rows.npy", X)
    expected = OnlineRobustPCA(3, random_state=0).fit(X)
    model = OnlineRobustPCA(3, random_state=0).fit(open_rows(tmp_path / "rows.npy"))
    assert_array_equal(model.components_, expected.components_)


# ---------------------------------------------------------------- passes
def test_passes_end_when_nothing_turns():
    X = problem()[1]
    history = History(("n_iter_", "n_samples_seen_"))
    model = OnlineRobustPCA(3, max_iter=50, tol=0.01, random_state=0).set_callbacks(history)
    model.fit(X)
    assert 1 < model.n_iter_ < 50
    assert history.records["n_samples_seen_"] == [300 * (i + 1) for i in range(model.n_iter_)]
    with pytest.warns(ConvergenceWarning, match="Pass 1 still turned the subspace by .* tol=1e-12"):
        OnlineRobustPCA(3, tol=1e-12, random_state=0).fit(X)


def test_fit_starts_anew_and_partial_fit_goes_on():
    X = problem()[1]
    model = OnlineRobustPCA(3, random_state=0).fit(X)
    first = model.components_
    assert_array_equal(model.fit(X).components_, first)
    assert model.n_samples_seen_ == 300
    assert model.partial_fit(X[:7]).n_samples_seen_ == 307
    assert model.n_iter_ == 1
    assert angle(model.components_, first) > 0


# ---------------------------------------------------------------- bad input
def test_zeros():
    model = OnlineRobustPCA(2, random_state=0).fit(np.zeros((20, 5)))
    assert_allclose(model.components_ @ model.components_.T, np.eye(2), atol=1e-12)
    assert_array_equal(model.decompose(np.zeros((3, 5)))[0], 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 0}, "n_components"),
        ({"n_components": 61}, "must not exceed n_features=60, got 61"),
        ({"n_components": 40}, "must not exceed n_samples=30 in fit, got 40"),
        ({"lam": 0}, "'lam' parameter"),
        ({"lam": -1.0}, "'lam' parameter"),
        ({"tol": -1.0}, "'tol' parameter"),
        ({"max_iter": 0}, "'max_iter' parameter"),
        ({"solver": "pca"}, "'solver' parameter"),
        ({"missing": "none"}, "'missing' parameter"),
        ({"forgetting": 1.5}, "'forgetting' parameter"),
        ({"forgetting": 0.5}, r"forgetting=0.5 remembers fewer rows than n_components=3; .* 0.66"),
        ({"init": np.ones((2, 60))}, r"init must have the shape .* \(3, 60\), got \(2, 60\)"),
        ({"init": np.ones((3, 60))}, "rows of init are linearly dependent"),
        ({"init": np.full((3, 60), np.nan)}, "init contains NaN"),
    ],
)
def test_parameters_that_do_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        OnlineRobustPCA(**({"n_components": 3} | options)).fit(problem(30)[1])


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("value", "missing", "message"),
    [
        (np.nan, None, r"NaN or infinity \(row 25\)"),
        (np.inf, None, r"NaN or infinity \(row 25\)"),
        (np.inf, "nan", "contains infinity"),
    ],
)
def test_bad_entries_lose_nothing(first, value, missing, message):
    X = problem(200)[1]
    model = OnlineRobustPCA(3, missing=missing, random_state=0)
    if not first:
        model.partial_fit(X)
    before = pickle.dumps(vars(model))
    bad = X[:50].copy()
    bad[25, 7] = value
    with pytest.raises(ValueError, match=message):
        model.partial_fit(bad)
    assert first or pickle.dumps(vars(model)) == before
    assert hasattr(model, "components_") != first
    expected = OnlineRobustPCA(3, missing=missing, random_state=0)
    if not first:
        expected.partial_fit(X)
    assert_array_equal(
        model.partial_fit(X[:50]).components_, expected.partial_fit(X[:50]).components_
    )


def test_rows_and_columns_without_entries():
    X = problem(200)[1]
    model = OnlineRobustPCA(3, missing="nan", random_state=0)
    X[150] = np.nan
    with pytest.raises(ValueError, match="Row 150 of X has only missing entries"):
        model.fit(X)
    X[150] = 0
    X[:, 5] = np.nan
    with pytest.raises(ValueError, match="Column 5 of X has only missing entries"):
        model.fit(X)


def test_shapes_and_libraries():
    X = problem()[1]
    model = OnlineRobustPCA(3, random_state=0).fit(X)
    with pytest.raises(ValueError, match="60 features"):
        model.partial_fit(X[:, :50])
    with pytest.raises(ValueError, match="Expected 2D array"):
        model.partial_fit(X[0])
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="same namespace"):
        model.partial_fit(torch.from_numpy(X))


def test_overflow_is_named():
    X = problem()[1]
    with pytest.raises(FloatingPointError, match="squares of X overflow"):
        OnlineRobustPCA(3, random_state=0).fit(1e160 * X)
    X[250, 3] = 1e200
    with pytest.raises(FloatingPointError, match="squares of X overflow"):
        OnlineRobustPCA(3, random_state=0).fit(X)


def test_no_nan_leaves_a_fit(monkeypatch):
    def update(state, Z):
        state.D[0, 0] = np.nan
        return 0

    X = problem()[1]
    model = OnlineRobustPCA(3, random_state=0).fit(X)
    before = model.components_
    monkeypatch.setattr(StochasticDictionary, "update", update)
    with pytest.raises(FloatingPointError, match="basis is not finite"):
        model.partial_fit(X)
    assert_array_equal(model.components_, before)
    monkeypatch.undo()
    assert np.isfinite(model.partial_fit(X).components_).all()


def test_codes_without_tolerance_are_told(monkeypatch):
    monkeypatch.setattr(_orpca, "MAX_STEPS", 1)
    with pytest.warns(ConvergenceWarning, match="of 300 rows were not found to tolerance"):
        OnlineRobustPCA(3, random_state=0).fit(problem(size=1000.0)[1])


@pytest.mark.mpi
def test_ranks_are_refused(mpiexec):
    program = """
import numpy as np
from sparseprob import distributed
from sparseprob.rpca import OnlineRobustPCA
X = np.random.default_rng(0).normal(size=(20, 5))
with distributed():
    try:
        OnlineRobustPCA(2).fit(X)
    except ValueError as error:
        print(error)
"""
    assert mpiexec(2, program).stdout.count("call fit outside distributed()") == 2
