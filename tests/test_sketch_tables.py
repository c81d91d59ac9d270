"""Sketches of Arrow tables and Parquet files by names of columns."""

import numpy as np
import pytest

from sparseprob.sketch import CountSketcher, PrioritySketcher, sketch_table

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
N = 500
X = np.random.default_rng(0).normal(size=(N, 3))
KEYS = [f"customer {i}" for i in np.random.default_rng(1).permutation(N)]


def table(keys=KEYS):
    columns = {"id": keys, "a": X[:, 0], "b": X[:, 1], "c": X[:, 2]}
    return pa.table(columns)


@pytest.fixture
def expected():
    return PrioritySketcher(40).sketch(X[:, [2, 0]], KEYS).to_bytes()


def test_tables_and_files_give_the_sketch_of_the_matrix(tmp_path, expected):
    sketcher, chosen = PrioritySketcher(40), {"key": "id", "columns": ["c", "a"]}
    assert sketch_table(sketcher, table(), **chosen).to_bytes() == expected
    path = tmp_path / "rows.parquet"
    parquet.write_table(table(), path, row_group_size=70)
    assert sketch_table(sketcher, path, **chosen).to_bytes() == expected
    assert sketch_table(sketcher, str(path), **chosen).to_bytes() == expected
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abc")).assign(id=KEYS)
    assert sketch_table(sketcher, frame, **chosen).to_bytes() == expected


def test_all_columns_but_the_key_are_taken():
    sketch = sketch_table(PrioritySketcher(600), table(), key="id")
    assert sketch.n_features_ == 3
    np.testing.assert_allclose(sketch.product(sketch), X.T @ X)
    assert sketch_table(CountSketcher(8), table(), key="id").n_features_ == 3


@pytest.mark.parametrize(
    "type_",
    ["int8", "uint32", "int64", "uint64", "string", "large_string", "binary", "dictionary"],
)
def test_types_of_keys(type_):
    numbers = np.arange(100, dtype=type_ if "int" in type_ else np.int64)
    keys = pa.array(numbers) if "int" in type_ else pa.array([f"k{i}" for i in numbers])
    if type_ == "dictionary":
        keys = keys.dictionary_encode()
    elif "int" not in type_:
        keys = keys.cast(getattr(pa, type_)())
    plain = numbers if "int" in type_ else [f"k{i}" for i in numbers]
    plain = [k.encode() for k in plain] if type_ == "binary" else plain
    sketch = sketch_table(PrioritySketcher(9), pa.table({"k": keys, "x": X[:100, 0]}), key="k")
    assert sketch.to_bytes() == PrioritySketcher(9).sketch(X[:100, 0], plain).to_bytes()


def test_whole_numbers_and_flags_are_numbers():
    columns = pa.table(
        {"k": np.arange(3), "n": pa.array([1, 2, 3], pa.int16()), "f": [True, False, True]}
    )
    sketch = sketch_table(PrioritySketcher(9), columns, key="k")
    np.testing.assert_array_equal(sketch.product(sketch), [[14, 4], [4, 2]])


def test_empty_tables():
    assert sketch_table(PrioritySketcher(9), table()[:0], key="id").n_rows_ == 0


def test_what_is_missing_or_wrong_is_named(tmp_path):
    sketcher = PrioritySketcher(9)
    path = tmp_path / "rows.parquet"
    parquet.write_table(table().drop_columns(["id"]), path)
    with pytest.raises(ValueError, match="no column 'id'; it has a, b, c"):
        sketch_table(sketcher, path, key="id")
    with pytest.raises(ValueError, match="no column 'z'"):
        sketch_table(sketcher, table(), key="id", columns=["z"])
    with pytest.raises(ValueError, match="no column but the key"):
        sketch_table(sketcher, table().select(["id"]), key="id")
    with pytest.raises(ValueError, match="Column 'id' is of type string; expected numbers"):
        sketch_table(sketcher, table().append_column("k", [np.arange(N)]), key="k", columns=["id"])
    with pytest.raises(TypeError, match="The key 'a' is of type double"):
        sketch_table(sketcher, table(), key="a", columns=["b"])
    holes = pa.table({"k": [1, None, 3], "x": [1.0, 2.0, None]})
    with pytest.raises(ValueError, match="The key 'k' is empty in row 1"):
        sketch_table(sketcher, holes, key="k")
    with pytest.raises(ValueError, match="Column 'x' is empty in row 2"):
        sketch_table(sketcher, holes.set_column(0, "k", [[1, 2, 3]]), key="k")
    with pytest.raises(ValueError, match="must be unique"):
        sketch_table(sketcher, table(["same"] * N), key="id")
    with pytest.raises(TypeError, match="speaks Arrow, got ndarray"):
        sketch_table(sketcher, X, key="id")
    with pytest.raises(FileNotFoundError):
        sketch_table(sketcher, tmp_path / "none.parquet", key="id")
    (tmp_path / "text.parquet").write_text("not a table")
    with pytest.raises(ValueError, match="is not a Parquet file"):
        sketch_table(sketcher, tmp_path / "text.parquet", key="id")
