"""Read a table from whatever holds it: Parquet, a frame, an Arrow stream, a tuple of arrays."""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import types

from fastmf.data.arrow import is_of_pandas, to_arrow
from fastmf.data.columns import choose, distinct
from fastmf.data.parquet import open_parquet
from fastmf.errors import DataError
from fastmf.runtime.memory import require_memory

WORK = 16  # bytes per row, besides the columns themselves, for both compressed views and for sorting


def read_columns(
    source: Any,
    roles: Mapping[str, str | None],
    codes: bool = False,
    memory_limit: int | None = None,
    optional: Collection[str] = (),
) -> pa.Table:
    """Read the columns for the given roles, in the order of the roles; the columns keep their names.

    Parameters
    ----------
    source : path or URI of a Parquet file or of a directory of them; anything with the Arrow PyCapsule stream
        interface (pandas, Polars, DuckDB, pyarrow); or a tuple of arrays, one for each role.
    roles : maps "user", "item" and "rating" to a column's name, or to None to try the usual names. "weight" comes next
        and its column must be named; it may be the ratings' column. "timestamp" comes last.
    codes : return text as dictionary and codes if Parquet stores it that way; reading then takes a quarter of the time.
    memory_limit : the most bytes to use for reading a file and sorting its rows; None for the available memory.
    optional : roles whose column may be missing, unless it is named.

    Raises
    ------
    DataError
        If a column is missing, or several match a role.
    OSError
        If a file is missing, is not Parquet, or is damaged.
    ResourceError
        If a file's rows take more memory than there is; raised before any are read.
    """
    if isinstance(source, str | os.PathLike):
        files = open_parquet(str(source), lambda names, file: choose(names, roles, file, optional), codes)
        remedy = "read fewer rows, or set another limit with --memory-limit (memory_limit=)"
        what, need = f"{source}: reading {files.n_rows:,} rows", files.n_rows * (files.row_bytes + WORK)
        require_memory(need, what, memory_limit, remedy)
        return files.read()
    if isinstance(source, tuple):
        return _from_arrays(source, roles, len(optional))
    if is_of_pandas(source, "DataFrame"):
        return _from_frame(source, choose(list(source.columns), roles, "the frame", optional), _n_numbers(roles))
    if hasattr(source, "__arrow_c_stream__"):
        table = pa.table(source)
        return table.select(choose(table.column_names, roles, "the table", optional))
    raise DataError(
        f"cannot read ratings from {type(source).__name__}: give a path, a pandas/Polars/Arrow table,"
        " or a tuple of three arrays"
    )


def read_table(source: Any) -> pa.Table:
    """Read all columns of Parquet (a path or a URI), of a frame or an Arrow stream; see read_columns for errors."""
    if isinstance(source, str | os.PathLike):
        files = open_parquet(str(source), distinct)
        what, need = f"{source}: reading {files.n_rows:,} rows", files.n_rows * 2 * files.row_bytes
        require_memory(need, what, None, "read fewer rows")
        return files.read()
    if is_of_pandas(source, "DataFrame"):
        return _from_frame(source, distinct(list(source.columns), "the frame"))
    if hasattr(source, "__arrow_c_stream__"):
        return pa.table(source)
    raise DataError(f"cannot read a table from {type(source).__name__}: give a path or a pandas/Polars/Arrow table")


def read_titles(path: str) -> dict[Any, str]:
    """Read a mapping of item id to title from Parquet with a column "title"; see read_columns for errors."""
    table = read_columns(path, {"item": None, "title": "title"})
    items, titles = table.columns
    if types.is_nested(items.type):
        raise DataError(f"{path}: column {table.column_names[0]!r} holds {items.type}, which cannot be an id")
    return dict(zip(items.to_pylist(), titles.to_pylist(), strict=True))


def _from_frame(frame: Any, names: Sequence[str], n_numbers: int = 0) -> pa.Table:
    """Convert only these columns: Arrow may not know the types of the others."""
    columns = _to_columns(names, [frame[name] for name in names], n_numbers)
    return pa.Table.from_arrays(columns, names=list(map(str, names)))


def _n_numbers(roles: Mapping[str, str | None]) -> int:
    """Count the columns of weights and times, which come last."""
    return len({"weight", "timestamp"} & roles.keys())


def _to_columns(names: Sequence[str], arrays: Sequence[Any], n_numbers: int) -> list[pa.ChunkedArray]:
    """Convert arrays to Arrow columns. NaN stays NaN in the last ``n_numbers``, for messages to show what was there.

    In other columns of pandas, Arrow makes null of NaN.
    """
    first = len(arrays) - n_numbers
    exact = (_as_numpy(array) if place >= first else array for place, array in enumerate(arrays))
    return [to_arrow(array, name) for name, array in zip(names, exact, strict=False)]


def _as_numpy(values: Any) -> Any:
    """Return a pandas series of NumPy's floats as a NumPy array, and anything else as it is."""
    floats = is_of_pandas(values, "Series") and isinstance(values.dtype, np.dtype) and values.dtype.kind == "f"
    return values.to_numpy() if floats else values


def _from_arrays(arrays: tuple[Any, ...], roles: Mapping[str, str | None], n_optional: int) -> pa.Table:
    names, weight, times = [role for role in roles if role != "timestamp"], roles.get("weight"), list[str]()
    if "timestamp" in roles:
        times, arrays, when = [roles["timestamp"] or "timestamp"], arrays[:-1], arrays[-1:]
    if weight is not None:
        names[-1] = weight
        if len(arrays) == 3 and weight == "rating":  # one array for both
            arrays = *arrays, arrays[2]
        elif len(arrays) == 3 and n_optional:
            del names[2]
    if not len(names) - n_optional <= len(arrays) <= len(names):
        needed = [*names, *times]
        n_given = len(arrays) + len(times)
        raise DataError(f"{n_given} arrays given where {len(needed)} are needed: {', '.join(needed)}")
    if times:
        names, arrays = [*names[: len(arrays)], *times], (*arrays, *when)
    columns = _to_columns(names, arrays, _n_numbers(roles))
    if len(set(map(len, columns))) > 1:
        lengths = ", ".join(f"{name} has {len(column)}" for name, column in zip(names, columns, strict=False))
        raise DataError(f"the arrays differ in length: {lengths}")
    return pa.Table.from_arrays(columns, names[: len(columns)])
