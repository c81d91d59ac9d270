"""Regression over joins that are never made."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_join import priority_sample, raised_weights, ridge
from scipy import sparse
from sklearn.linear_model import LinearRegression, Ridge

from sparseprob import datasets
from sparseprob._arrays import to_numpy
from sparseprob.sketch import (
    CountSketcher,
    MatrixSketch,
    PrioritySketcher,
    SketchedRidge,
    sketch_table,
)
from sparseprob.sketch._keys import as_keys, units


def tables(n=1500, d=4, noise=1.0, overlap=0.5, seed=0):
    """A table and a target of n rows each, their keys, and the rows of the join."""
    rng = np.random.default_rng(seed)
    everyone = 2 * n - int(overlap * n)
    X = rng.normal(size=(everyone, d)) * (1 + rng.pareto(2.5, size=(everyone, 1))) + 1
    y = X @ rng.normal(size=d) + noise * rng.normal(size=everyone) + 3
    keys = rng.permutation(10 * everyone)[:everyone]
    join = slice(everyone - n, n)
    return X[:n], keys[:n], y[everyone - n :], keys[everyone - n :], (X[join], y[join])


def shuffled(*arrays, seed=1):
    order = np.random.default_rng(seed).permutation(len(arrays[0]))
    return [a[order] for a in arrays]


# ---------------------------------------------------------------- closed form, oracle
@pytest.mark.parametrize(("alpha", "fit_intercept"), [(0.0, True), (0.0, False), (20.0, True)])
def test_tables_that_fit_in_give_the_fit_of_the_join(alpha, fit_intercept):
    X, x_keys, y, y_keys, (A, b) = tables()
    model = SketchedRidge(alpha, fit_intercept=fit_intercept, n_samples=5000)
    model.fit(X, *shuffled(y), x_keys, *shuffled(y_keys))
    peer = Ridge(alpha, solver="svd") if alpha else LinearRegression()
    peer.set_params(fit_intercept=fit_intercept).fit(A, b)
    assert_allclose(model.coef_, peer.coef_, rtol=1e-10)
    assert_allclose(model.intercept_, peer.intercept_, rtol=1e-10, atol=1e-10)
    assert model.n_common_ == model.n_join_estimated_ == len(A)
    assert_array_equal(model.coef_std_, 0)
    assert_allclose(model.score(A, b), peer.score(A, b), rtol=1e-10)
    assert_allclose(model.predict(X), peer.predict(X), rtol=1e-9)


@pytest.mark.parametrize("k", [40, 150])
@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_fits_are_those_of_the_samples_by_definition(k, alpha):
    X, x_keys, y, y_keys, _ = tables(n=200)
    samples = []
    for table, keys in ((X, x_keys), (y, y_keys)):
        u = units(as_keys(keys, len(keys), seed=5).hashes)
        weights = raised_weights(table)
        rows, tau = priority_sample(weights, u, k)
        samples.append({keys[i]: (table[i], min(1, tau * weights[i])) for i in rows})
        assert len(rows) == k
    left, right = samples
    common = [key for key in left if key in right]
    A, b = np.array([left[c][0] for c in common]), np.array([right[c][0] for c in common])
    p = np.array([min(left[c][1], right[c][1]) for c in common])
    coef, intercept = ridge(A, b, p, alpha, True)
    model = SketchedRidge(alpha, n_samples=k, seed=5)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The sketches have only")
        model.fit(X, y, x_keys, y_keys)
    assert model.n_common_ == len(common)
    assert_allclose(model.n_join_estimated_, (1 / p).sum(), rtol=1e-12)
    assert_allclose(model.coef_, coef, rtol=1e-9)
    assert_allclose(model.intercept_, intercept, rtol=1e-9)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_linear_targets_are_recovered_from_any_sample(fit_intercept):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 6)) * (1 + rng.pareto(2.5, size=(5000, 1)))
    coef = rng.normal(size=6)
    y = X @ coef + 2 * fit_intercept
    keys = np.arange(5000)
    model = SketchedRidge(n_samples=100, fit_intercept=fit_intercept)
    model.fit(X[:3000], y[1500:], keys[:3000], keys[1500:])
    assert model.n_common_ < 100
    assert_allclose(model.coef_, coef, rtol=1e-11)
    assert_allclose(model.intercept_, 2.0 * fit_intercept, atol=1e-11)
    assert_allclose(model.coef_std_, 0, atol=1e-11)


def test_standard_deviations_are_those_of_the_coefficients():
    X, x_keys, y, y_keys, (A, b) = tables()
    true = LinearRegression().fit(A, b).coef_
    models = [
        SketchedRidge(n_samples=400, seed=seed).fit(X, y, x_keys, y_keys) for seed in range(200)
    ]
    errors = np.sqrt(np.mean([(m.coef_ - true) ** 2 for m in models], axis=0))
    estimated = np.sqrt(np.mean([m.coef_std_**2 for m in models], axis=0))
    # 200 fits fix a spread to 5 %, three of which are allowed
    assert ((0.85 < estimated / errors) & (estimated / errors < 1.2)).all()
    sizes = [m.n_join_estimated_ for m in models]
    assert abs(np.mean(sizes) - len(A)) < 4 * np.std(sizes) / np.sqrt(200)


def test_raised_weights_beat_squared_lengths_and_even_ones():
    X, x_keys, y, y_keys, (A, b) = tables(n=4000)
    full = LinearRegression().fit(A, b).coef_
    errors = []
    for seed in range(40):
        ours = SketchedRidge(n_samples=200, seed=seed).fit(X, y, x_keys, y_keys)
        others = []
        for weighting in ("l2", "uniform"):
            sketcher = PrioritySketcher(200, weighting=weighting, seed=seed)
            sketches = sketcher.sketch(X, x_keys), sketcher.sketch(y, y_keys)
            others.append(SketchedRidge().fit_sketches(*sketches))
        errors.append([np.sum((m.coef_ - full) ** 2) for m in (ours, *others)])
    raised, plain, even = np.mean(errors, axis=0)
    assert raised < 0.7 * plain
    assert raised < 0.9 * even


def test_left_out_r2_is_what_the_join_says():
    X, x_keys, y, y_keys, (A, b) = tables(noise=10.0)
    model = SketchedRidge(n_samples=800).fit(X, y, x_keys, y_keys)
    assert abs(model.left_out_r2_ - LinearRegression().fit(A, b).score(A, b)) < 0.1
    assert 0.1 < model.left_out_r2_ < 0.95


# ---------------------------------------------------------------- sketches apart, ranks, kinds
def test_sketches_travel_as_bytes():
    X, x_keys, y, y_keys, _ = tables()
    model = SketchedRidge(n_samples=300)
    expected = SketchedRidge(n_samples=300).fit(X, y, x_keys, y_keys)
    contents = [model.sketch(*shuffled(X, x_keys)).to_bytes(), model.sketch(y, y_keys).to_bytes()]
    model.fit_sketches(*map(MatrixSketch.from_bytes, contents))
    assert_array_equal(model.coef_, expected.coef_)
    assert model.intercept_ == expected.intercept_
    assert model.n_features_in_ == 4


@pytest.mark.parametrize("kind", [np.int64, str])
@pytest.mark.parametrize("k", [5, 300, 5000])
def test_batches_give_the_bytes_of_the_whole(kind, k):
    X, keys, *_ = tables(seed=3)
    X[::7] = 0
    keys = keys.astype(kind)
    model = SketchedRidge(n_samples=k)
    whole = model.sketch(X, keys)
    pieces = np.array_split(np.random.default_rng(0).permutation(1500), 7)
    streamed = model.sketch_batches((X[rows], keys[rows]) for rows in pieces)
    assert streamed.to_bytes() == whole.to_bytes()
    assert whole.n_rows_ == whole.n_weighted_ == 1500
    total = sum(raised_weights(X)) / np.mean(np.sum(X**2, axis=1))
    assert_allclose(whole.total_weight_, total, rtol=1e-12 if k > 1500 else 6 / np.sqrt(k))


def test_parquet_files_are_read_in_one_pass(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    X, keys, *_ = tables()
    columns = {"id": keys} | {f"x{j}": X[:, j] for j in range(4)}
    parquet.write_table(pyarrow.table(columns), tmp_path / "x.parquet")
    model = SketchedRidge(n_samples=200)
    sketch = sketch_table(model, tmp_path / "x.parquet", key="id")
    assert sketch.to_bytes() == model.sketch(X, keys).to_bytes()


def test_rows_from_files(tmp_path):
    X, keys, y, y_keys, _ = tables()
    np.save(tmp_path / "X.npy", X)
    rows = datasets.open_rows(tmp_path / "X.npy")
    model = SketchedRidge(n_samples=200).fit(rows, y, keys, y_keys)
    expected = SketchedRidge(n_samples=200).fit(X, y, keys, y_keys)
    assert_array_equal(model.coef_, expected.coef_)
    assert_allclose(model.predict(rows), expected.predict(X), rtol=1e-14)


def test_datasets_of_h5py(tmp_path):
    h5py = pytest.importorskip("h5py")
    X, keys, y, y_keys, _ = tables()
    with h5py.File(tmp_path / "X.h5", "w") as file:
        rows = file.create_dataset("X", data=X)
        model = SketchedRidge(n_samples=200).fit(rows, y, keys, y_keys)
        expected = SketchedRidge(n_samples=200).fit(X, y, keys, y_keys)
        assert_array_equal(model.coef_, expected.coef_)
        assert_allclose(model.predict(rows), expected.predict(X), rtol=1e-14)


def test_sparse_tables_and_columns_that_do_not_occur():
    rng = np.random.default_rng(0)
    X = sparse.random_array((3000, 40), density=0.05, rng=rng, format="csr")
    X = sparse.csr_array(X @ sparse.diags_array((np.arange(40) != 7) * 1.0))
    X.eliminate_zeros()
    y = X @ rng.normal(size=40) + 0.01 * rng.normal(size=3000)
    dense = SketchedRidge(1e-3, n_samples=500).fit(X.toarray(), y)
    model = SketchedRidge(1e-3, n_samples=500).fit(X, y)
    assert_allclose(model.coef_, dense.coef_, rtol=1e-9, atol=1e-12)
    assert model.coef_[7] == model.coef_std_[7] == 0
    assert_allclose(model.predict(X), dense.predict(X.toarray()), rtol=1e-9, atol=1e-12)
    assert_allclose(model.predict(sparse.csc_array(X)), model.predict(X), atol=1e-14)


def test_several_targets():
    X, x_keys, y, y_keys, _ = tables()
    model = SketchedRidge(n_samples=5000).fit(X, np.column_stack([y, -2 * y]), x_keys, y_keys)
    single = SketchedRidge(n_samples=5000).fit(X, y, x_keys, y_keys)
    assert model.coef_.shape == model.coef_std_.shape == (2, 4)
    assert_allclose(model.coef_, [single.coef_, -2 * single.coef_], rtol=1e-12)
    assert_allclose(model.intercept_, [single.intercept_, -2 * single.intercept_], rtol=1e-12)
    assert_allclose(model.left_out_r2_, [single.left_out_r2_] * 2, rtol=1e-12)
    assert model.predict(X).shape == (1500, 2)


def test_every_array_library_gives_the_same_fit(xp):
    X, x_keys, y, y_keys, _ = tables()
    expected = SketchedRidge(n_samples=200).fit(X, y, x_keys, y_keys)
    arrays = [xp.asarray(a) for a in (X, y)]
    model = SketchedRidge(n_samples=200).fit(*arrays, x_keys, y_keys)
    assert type(model.coef_) is type(arrays[0])
    assert_allclose(to_numpy(model.coef_), expected.coef_, rtol=1e-12)
    predicted = model.predict(arrays[0])
    assert type(predicted) is type(arrays[0])
    assert_allclose(to_numpy(predicted), expected.predict(X), rtol=1e-12)


@pytest.mark.gpu
def test_sketches_of_arrays_on_the_gpu():
    import cupy

    X, x_keys, y, y_keys, _ = tables()
    model = SketchedRidge(n_samples=200)
    sketches = model.sketch(cupy.asarray(X), x_keys), model.sketch(cupy.asarray(y), y_keys)
    model.fit_sketches(*sketches)
    expected = SketchedRidge(n_samples=200).fit(X, y, x_keys, y_keys)
    assert_allclose(model.coef_.get(), expected.coef_, rtol=1e-10)
    sketches = model.sketch(cupy.asarray(X), x_keys), model.sketch(y, y_keys)
    assert_allclose(model.fit_sketches(*sketches).coef_.get(), expected.coef_, rtol=1e-10)


def test_single_precision_stays():
    X, x_keys, y, y_keys, _ = tables()
    model = SketchedRidge(n_samples=200).fit(X.astype("f4"), y.astype("f4"), x_keys, y_keys)
    expected = SketchedRidge(n_samples=200).fit(X, y, x_keys, y_keys)
    assert model.coef_.dtype == model.coef_std_.dtype == model.predict(X.astype("f4")).dtype == "f4"
    assert_allclose(model.coef_, expected.coef_, rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-170, 1e170])
def test_very_large_and_small_entries(scale):
    X, x_keys, y, y_keys, _ = tables()
    expected = SketchedRidge(n_samples=200).fit(X, y, x_keys, y_keys)
    model = SketchedRidge(n_samples=200).fit(scale * X, y, x_keys, y_keys)
    assert model.n_common_ == expected.n_common_
    assert_allclose(model.coef_ * scale, expected.coef_, rtol=1e-9)


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [2, 3])
def test_ranks_end_with_the_model_of_one_process(mpiexec, n_ranks):
    program = """
import numpy as np
from sparseprob import distributed, row_slice
from sparseprob.sketch import SketchedRidge

rng = np.random.default_rng(0)
X = rng.normal(size=(901, 3))
y = X @ [1.0, 2, 3] + rng.normal(size=901)
keys = rng.permutation(5000)[:901].astype(str)
model = SketchedRidge(n_samples=80)
alone = model.sketch(X, keys).to_bytes()
fits = [SketchedRidge(n_samples=80).fit(X, y[::-1], keys, keys[::-1]).coef_,
        SketchedRidge(n_samples=80).fit(X, y).coef_]
with distributed() as comm:
    mine = row_slice(901)
    if comm.size == 3:  # the last rank has nothing
        mine = (slice(0, 500), slice(500, 901), slice(901, 901))[comm.rank]
    back = slice(901 - mine.stop, 901 - mine.start)  # other rows of y than of X
    same = [model.sketch(X[mine], keys[mine]).to_bytes() == alone]
    same.append(model.sketch_batches([(X[mine], keys[mine])]).to_bytes() == alone)
    fit = SketchedRidge(n_samples=80).fit(X[mine], y[::-1][mine], keys[mine], keys[::-1][mine])
    same.append(np.array_equal(fit.coef_, fits[0]))
    same.append(np.array_equal(SketchedRidge(n_samples=80).fit(X[mine], y[mine]).coef_, fits[1]))
    same = comm.gather(same)
if comm.rank == 0:
    print(np.array(same).all())
"""
    assert mpiexec(n_ranks, program).stdout.strip() == "True"


# ---------------------------------------------------------------- bad input
def test_too_few_common_keys():
    X, x_keys, y, y_keys, _ = tables(n=200)
    with pytest.raises(ValueError, match="no key in common"):
        SketchedRidge().fit(X, y, x_keys, -1 - y_keys)
    with pytest.raises(ValueError, match=r"3 samples in common, too few for 5 coefficients"):
        SketchedRidge().fit(X[-3:], y, x_keys[-3:], y_keys)
    with pytest.warns(UserWarning, match="only .* samples in common for 5 coefficients"):
        SketchedRidge(1.0, n_samples=12, seed=1).fit(X, y, x_keys, y_keys)


def test_keys_are_given_for_both_or_none():
    X, x_keys, y, _, _ = tables()
    with pytest.raises(ValueError, match="keys_X and keys_y, or neither"):
        SketchedRidge().fit(X, y, x_keys)
    with pytest.raises(ValueError, match="inconsistent numbers of samples, 1500 and 1499"):
        SketchedRidge().fit(X, y[1:])
    with pytest.raises(ValueError, match="one key for each of the 1500 rows"):
        SketchedRidge().fit(X, y, x_keys[1:], x_keys)


def test_sketches_that_do_not_belong_together():
    X, x_keys, y, y_keys, _ = tables()
    model = SketchedRidge(n_samples=50)
    table, target = model.sketch(X, x_keys), model.sketch(y, y_keys)
    with pytest.raises(ValueError, match="differ in seed: 0 and 1"):
        model.fit_sketches(table, SketchedRidge(n_samples=50, seed=1).sketch(y, y_keys))
    with pytest.raises(ValueError, match="differ in key_kind: 'int64' and 'str'"):
        model.fit_sketches(table, model.sketch(y, y_keys.astype(str)))
    with pytest.raises(ValueError, match="differ in weighting: 'given' and 'l2'"):
        model.fit_sketches(table, PrioritySketcher(50).sketch(y, y_keys))
    with pytest.raises(TypeError, match="sketches that hold rows.*got LinearSketch"):
        model.fit_sketches(table, CountSketcher(50).sketch(y, y_keys))
    with pytest.raises(TypeError, match="got ndarray"):
        model.fit_sketches(X, target)


@pytest.mark.parametrize("side", [0, 1])
def test_sums_of_rows_are_refused(side):
    A, keys = np.ones((3, 2)), [1, 1, 2]
    summed = PrioritySketcher(10, duplicates="sum").sketch(A, keys)
    single = PrioritySketcher(10).sketch(A[:2], keys[1:])
    pair = [single, MatrixSketch.from_bytes(summed.to_bytes())]
    with pytest.raises(ValueError, match="hold sums of rows"):
        SketchedRidge(n_samples=10).fit_sketches(*pair[:: 1 if side else -1])


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([[1.0], [np.inf]], [1.0, 2.0], "X contains infinity"),
        ([[1.0], [2.0]], [1.0, np.nan], "y contains NaN"),
        ([[1.0], [2.0]], ["a", "b"], "y must be numeric"),
        ([[1.0], [2.0]], np.ones((2, 1, 1)), "y must be of shape"),
        ([[1.0], [2.0]], None, "requires y to be passed"),
        ([[1.0], [2.0]], [1j, 2.0], "Complex data not supported"),
    ],
)
def test_bad_tables(X, y, message):
    with pytest.raises(ValueError, match=message):
        SketchedRidge().fit(X, y)


def test_other_columns_are_refused():
    X, x_keys, y, y_keys, _ = tables()
    model = SketchedRidge().fit(X, y, x_keys, y_keys)
    with pytest.raises(ValueError, match="X has 3 features, but SketchedRidge is expecting 4"):
        model.predict(X[:, :3])
    with pytest.raises(ValueError, match="X contains NaN"):
        model.predict(np.full((1, 4), np.nan))
