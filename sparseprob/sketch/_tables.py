"""Sketches of Arrow tables and Parquet files, by the names of columns and of the key."""

from os import PathLike

import numpy as np

_BATCH = 1 << 16  # rows read at a time


def sketch_table(sketcher, table, *, key, columns=None):
    """Sketch columns of a table, batch by batch.

    Parameters
    ----------
    sketcher : PrioritySketcher or other sketcher
    table : str, path or table
        A Parquet file, or a table that speaks Arrow: of pyarrow, pandas, polars, DuckDB ...
    key : str
        Name of the column that has the keys: integers, strings or binary.
    columns : list of str, default=None
        Names of columns of numbers, in the order wanted; None takes all but the key.

    Returns
    -------
    sketch : MatrixSketch
        Its columns are those of the table in the order of `columns`.

    Raises
    ------
    ImportError
        If pyarrow is missing.
    ValueError
        If a column is missing, is no column of numbers, or has empty places.

    Examples
    --------
    >>> import pyarrow as pa  # doctest: +SKIP
    >>> from sparseprob.sketch import PrioritySketcher, sketch_table  # doctest: +SKIP
    >>> table = pa.table({"id": ["a", "b"], "price": [1.5, 2.0]})  # doctest: +SKIP
    >>> sketch_table(PrioritySketcher(100), table, key="id")  # doctest: +SKIP
    SampledSketch(priority, 2 rows, 1 columns, str keys, n_samples=100, seed=0)
    """
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError("sketch_table needs pyarrow: pip install pyarrow.") from error
    if isinstance(table, str | PathLike):
        names, batches = _open_parquet(table)
    else:
        names, batches = _open_arrow(table, pyarrow)
    columns = [name for name in names if name != key] if columns is None else list(columns)
    for name in (key, *columns):
        if name not in names:
            raise ValueError(f"The table has no column {name!r}; it has {', '.join(names)}.")
    if not columns:
        raise ValueError(f"The table has no column but the key {key!r}.")
    return sketcher.sketch_batches(_numbered(batches([key, *columns]), key, columns))


def _open_parquet(path):
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(path)
    except ArrowInvalid as error:
        raise ValueError(f"{path} is not a Parquet file: {error}") from error

    def batches(columns):
        with file:
            yield from file.iter_batches(batch_size=_BATCH, columns=columns)

    return file.schema_arrow.names, batches


def _open_arrow(table, pyarrow):
    if not hasattr(table, "__arrow_c_stream__"):
        raise TypeError(
            f"Expected a path or a table that speaks Arrow, got {type(table).__name__}."
        )
    table = pyarrow.table(table)
    return (
        table.column_names,
        lambda columns: (
            table.select(columns).to_batches(_BATCH)
            or ([pyarrow.RecordBatch.from_pylist([], schema=table.select(columns).schema)])
        ),
    )


def _numbered(batches, key, columns):
    """Yield rows and keys of batches."""
    first = 0
    for batch in batches:
        keys = _keys(batch.column(key), key, first)
        values = [_numbers(batch.column(name), name, first) for name in columns]
        yield np.stack(values, axis=1), keys
        first += batch.num_rows


def _numbers(column, name, first):
    _check_full(column, f"Column {name!r}", first)
    from pyarrow import types

    kind = column.type
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        raise ValueError(f"Column {name!r} is of type {kind}; expected numbers.")
    return column.to_numpy(zero_copy_only=False)


def _keys(column, name, first):
    _check_full(column, f"The key {name!r}", first)
    from pyarrow import types

    kind = column.type
    if types.is_dictionary(kind):
        return _keys(column.dictionary_decode(), name, first)
    if types.is_integer(kind):
        return column.to_numpy(zero_copy_only=False)
    texts = (types.is_string, types.is_large_string, types.is_string_view)
    binaries = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
    if any(is_kind(kind) for is_kind in (*texts, *binaries)):
        keys = np.empty(len(column), dtype=object)
        keys[:] = column.to_pylist()
        return keys
    raise TypeError(f"The key {name!r} is of type {kind}; expected integers, strings or binary.")


def _check_full(column, what, first):
    if column.null_count:
        row = first + int(np.argmin(column.is_valid().to_numpy(zero_copy_only=False)))
        raise ValueError(f"{what} is empty in row {row}; fill it or leave such rows out.")
