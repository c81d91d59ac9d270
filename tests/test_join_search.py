"""Ranking tables by what they say about a target, from sketches."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse

from sparseprob.sketch import JoinSearch, MatrixSketch, PrioritySketcher, SketchedRidge


def tables(n=4000, seed=0):
    """Tables of different worth for a target, with keys of half of its rows and of others."""
    rng = np.random.default_rng(seed)
    keys = rng.permutation(10 * n)[: 2 * n]
    X = rng.normal(size=(2 * n, 6)) * (1 + rng.pareto(3, size=(2 * n, 1)))
    y = X[:, 0] - 2 * X[:, 1] + 0.5 * X[:, 3] + 3 * rng.normal(size=2 * n)
    half = slice(n // 2, n // 2 + n)
    pieces = {
        "two": (X[half, :2], keys[half]),
        "one": (X[half, 2:4], keys[half]),
        "none": (X[half, 4:], keys[half]),
        "elsewhere": (X[half, :2], -1 - keys[half]),
    }
    return pieces, y[:n], keys[:n], X[n // 2 : n], y[n // 2 : n]


def catalog(k, pieces, **options):
    search = JoinSearch(k, **options)
    for name, (table, keys) in pieces.items():
        search.add(name, table, keys)
    return search


@pytest.mark.parametrize("by", ["r2", "correlation"])
def test_the_order_is_that_of_the_joins(by):
    pieces, y, keys, *_ = tables()
    search = catalog(400, pieces)
    found = search.rank(search.sketch_target(y, keys), by=by)
    assert [c.name for c in found] == ["two", "one", "none", "elsewhere"]
    assert found[-1].n_common == found[-1].n_join == 0
    assert np.isnan(found[-1].score)
    assert abs(found[0].n_join - 2000) < 400
    assert found[0].column == 1
    assert found[0].correlation < 0


def test_whole_tables_give_the_figures_of_the_join():
    pieces, y, keys, X, joined = tables()
    search = catalog(10**4, pieces)
    two = search.rank(search.sketch_target(y, keys))[0]
    A = np.column_stack([X[:, :2], np.ones(len(X))])
    leverage = np.einsum("ij,ji->i", A, np.linalg.pinv(A))
    residuals = (joined - A @ np.linalg.lstsq(A, joined, rcond=None)[0]) / (1 - leverage)
    others = (joined - joined.mean()) * len(X) / (len(X) - 1)
    assert_allclose(two.r2, 1 - (residuals**2).sum() / (others**2).sum(), rtol=1e-10)
    assert_allclose(two.correlation, np.corrcoef(X[:, 1], joined)[0, 1], rtol=1e-10)
    assert two.n_common == two.n_join == 2000
    assert two.correlation_std == 0


def test_correlations_are_within_their_standard_deviations():
    pieces, y, keys, X, joined = tables()
    true, deviations = np.corrcoef(X[:, 1], joined)[0, 1], []
    for seed in range(100):
        search = catalog(300, {"two": pieces["two"]}, seed=seed)
        two = search.rank(search.sketch_target(y, keys))[0]
        deviations.append((two.correlation - true) / two.correlation_std)
    # 100 standard deviates: their root mean square is 1 within 0.07 or so, and heavy tails
    assert 0.75 < np.sqrt(np.mean(np.square(deviations))) < 1.35


def test_sketches_come_as_bytes_from_elsewhere():
    pieces, y, keys, *_ = tables()
    here = catalog(300, pieces)
    search = JoinSearch(300)
    for name, sketch in here.sketches_.items():
        search.add_sketch(name, MatrixSketch.from_bytes(sketch.to_bytes()))
    ridge = SketchedRidge(n_samples=300)
    search.add_sketch("more", ridge.sketch(pieces["two"][0] * 2, pieces["two"][1]), ["a", "b"])
    found = search.rank(ridge.sketch(y, keys))
    assert {found[0].name, found[1].name} == {"two", "more"}
    more = next(c for c in found if c.name == "more")
    assert more.column == "b"
    assert_allclose(found[2].score, here.rank(here.sketch_target(y, keys))[1].score)


def test_residuals_show_what_a_table_adds():
    pieces, y, keys, X, _ = tables()
    search = catalog(500, pieces)
    left = y.copy()
    left[2000:] -= X[:, 0] - 2 * X[:, 1]  # what the table "two" explains, where it has rows
    found = search.rank(search.sketch_target(left[2000:], keys[2000:]))
    assert found[0].name == "one"


def test_tables_of_any_kind():
    pieces, y, keys, *_ = tables()
    table, table_keys = pieces["two"]
    search = JoinSearch(300).add("dense", table, table_keys)
    search.add("csr", sparse.csr_array(table), table_keys)
    search.add("column", table[:, 0], table_keys)
    found = search.rank(search.sketch_target(y, keys))
    assert_allclose(found[0].score, found[1].score, rtol=1e-12)
    assert found[2].name == "column"


def test_data_frames_name_their_columns_and_keys():
    pandas = pytest.importorskip("pandas")
    pieces, y, keys, *_ = tables()
    table, table_keys = pieces["two"]
    frame = pandas.DataFrame(table, columns=["a", "b"]).assign(text="x", id=table_keys)
    search = JoinSearch(300).add("by column", frame, "id")
    search.add("apart", frame.drop(columns="id"), frame["id"])
    first, second = search.rank(search.sketch_target(pandas.Series(y), keys))
    assert first.column == "b"
    assert first._replace(name="") == second._replace(name="")
    assert search.columns_["apart"] == ["a", "b"]
    with pytest.raises(ValueError, match="has no column 'key'; it has a, b, text, id"):
        search.add("third", frame, "key")
    with pytest.raises(ValueError, match="'third' has no column of numbers"):
        search.add("third", frame[["text"]])


def test_every_array_library_ranks_the_same(xp):
    pieces, y, keys, *_ = tables(n=500)
    expected = catalog(100, pieces)
    search = catalog(100, {name: (xp.asarray(t), xp.asarray(k)) for name, (t, k) in pieces.items()})
    found = search.rank(search.sketch_target(xp.asarray(y), xp.asarray(keys)))
    assert found[:3] == expected.rank(expected.sketch_target(y, keys))[:3]


def test_few_common_keys_are_not_trusted():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    y = x[:, 0] + rng.normal(size=200)
    search = JoinSearch(200).add("many", x, np.arange(200)).add("few", x[:9] * 2, np.arange(9))
    search.add("wide", rng.normal(size=(15, 30)), np.arange(15))
    many, wide, few = search.rank(search.sketch_target(y, np.arange(200)))
    assert (many.name, wide.name, few.name) == ("many", "wide", "few")
    assert np.isnan([wide.r2, wide.score, few.score]).all()
    assert np.isfinite(few.r2)


def test_constant_columns_say_nothing():
    search = JoinSearch(50).add("constant", np.ones((50, 2))).add("zero", np.zeros((50, 1)))
    for found in search.rank(search.sketch_target(np.arange(50.0)), by="correlation"):
        assert found.column is None
        assert np.isnan(found.correlation)
        assert found.n_common == 50


def test_bad_input():
    search = JoinSearch(50)
    target = search.sketch_target(np.arange(50.0))
    with pytest.raises(ValueError, match="no table to rank"):
        search.rank(target)
    search.add("a", np.ones((50, 2)))
    with pytest.raises(ValueError, match="'a' already"):
        search.add("a", np.ones((50, 2)))
    with pytest.raises(TypeError, match="name of a table must be a string, got int"):
        search.add(1, np.ones((50, 2)))
    with pytest.raises(ValueError, match="Table 'b': Row 1 contains NaN"):
        search.add("b", np.array([[1.0], [np.nan]]))
    with pytest.raises(ValueError, match="Table 'b': Keys must be unique"):
        search.add("b", np.ones((2, 1)), ["x", "x"])
    with pytest.raises(TypeError, match="'b' must be a sketch that holds rows, got ndarray"):
        search.add_sketch("b", np.ones((2, 1)))
    with pytest.raises(ValueError, match="has 1 columns, got 2 names"):
        search.add_sketch("b", target, ["x", "y"])
    with pytest.raises(ValueError, match="single column, got a sketch of 2"):
        search.rank(search.sketches_["a"])
    with pytest.raises(ValueError, match="Table 'a'.*differ in seed: 0 and 1"):
        search.rank(JoinSearch(50, seed=1).sketch_target(np.arange(50.0)))
    with pytest.raises(ValueError, match="'by' parameter"):
        search.rank(target, by="size")
    with pytest.raises(ValueError, match="differ in weighting"):
        search.rank(PrioritySketcher(50).sketch(np.arange(50.0)))
