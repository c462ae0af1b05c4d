"""Tables in memory: frames, Arrow streams and data sets, dicts, arrays, sparse matrices, lists of rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fastmf.data.arrow import are_whole, is_of_pandas, to_arrow
from fastmf.data.columns import POSITIONS, listed
from fastmf.data.layout import SKIPPED, Layout
from fastmf.data.source import Wanted, require_room
from fastmf.errors import DataError

GIVE = (
    "give a path (or a list of paths), a table (pandas, Polars, Arrow, DuckDB, a dict of columns, a list of dicts), a"
    " tuple of arrays, a sparse matrix, or a two-dimensional array"
)
# What to do with other things that hold tables, by the module they come from.
ELSEWHERE = {
    "pyspark": "call toPandas() or toArrow() on it, or write it with write.parquet and give the folder",
    "dask": "call compute() on it, or write it with to_parquet and give the folder",
    "fastmf": "give the table that these ratings were read from; Ratings themselves have .split() and .folds()",
    "surprise": "give the frame or the file it was made of",
    "torch": "call numpy() on it",
}


class Table:
    """A table in memory: its columns by name."""

    positions: Sequence[str] = ()
    dropped: Mapping[str, int] = {}

    def __init__(self, where: str, columns: Mapping[Any, Any]) -> None:
        self.where, self.columns, self.names = where, columns, list(columns)

    def read(self, wanted: Wanted) -> pa.Table:
        """Convert columns to Arrow. NaN stays NaN in weights and times, for messages to show what was there.

        In other columns of pandas, Arrow makes null of NaN.
        """
        found = []
        for name in wanted.names:
            values = self.columns[name]
            if wanted.kinds.get(name) in ("weight", "time"):
                values = _as_numpy(values)
            found.append(to_arrow(values, str(name)))
        _require_one_length(wanted.names, found)
        return pa.Table.from_arrays(found, names=list(map(str, wanted.names)))


class Frame(Table):
    """A pandas frame. Levels of its index that have names are columns, too."""

    def __init__(self, frame: Any) -> None:
        if frame.columns.nlevels > 1:
            levels = frame.columns.nlevels
            raise DataError(f"the frame has columns of {levels} levels: join their names, or reset_index() it first")
        named = [name for name in frame.index.names if name is not None and name not in frame.columns]
        self.where, self.frame = "the frame", frame
        self.levels = named
        self.names = [*frame.columns, *named]

    @property
    def columns(self) -> Mapping[Any, Any]:  # type: ignore[override]
        """The columns, and the named levels of the index."""
        return _Columns(self.frame, self.levels)


class _Columns(dict[Any, Any]):
    """The columns of a frame, looked up one by one: Arrow may not know the types of the others."""

    def __init__(self, frame: Any, levels: Sequence[Any]) -> None:
        self.frame, self.levels = frame, levels

    def __getitem__(self, name: Any) -> Any:
        if name in self.levels:
            return self.frame.index.get_level_values(name).to_series(index=range(len(self.frame)))
        return self.frame[name]


class Stream(Table):
    """Anything with the Arrow PyCapsule stream interface."""

    def __init__(self, source: Any) -> None:
        try:
            self.table = pa.table(source)
        except pa.ArrowException as error:  # a stream of a single column, say
            raise DataError(f"{type(source).__name__} holds no table ({error}): {GIVE}") from None
        self.where = "the table"
        self.names = self.table.column_names

    def read(self, wanted: Wanted) -> pa.Table:
        """Select columns."""
        return self.table.select(list(wanted.names))


class DataSet(Table):
    """A data set that is read when it is asked for: of pyarrow, of Hugging Face, or a lazy frame of Polars."""

    def __init__(self, source: Any, names: Sequence[str]) -> None:
        self.where, self.source, self.names = "the data set", source, list(names)

    def read(self, wanted: Wanted) -> pa.Table:
        """Read columns."""
        names, source = list(dict.fromkeys(wanted.names)), self.source
        if hasattr(source, "collect_schema"):
            table = pa.table(source.select(names).collect())
        elif hasattr(source, "select_columns"):
            table = source.select_columns(names).with_format("arrow")[:]
        else:
            require_room(source.count_rows(), 8 * len(names), self.where, wanted)
            table = source.to_table(columns=names)
        return table.select(list(wanted.names))


def contained(source: Any, said: Layout) -> Table:
    """Return the table that an object holds.

    Raises
    ------
    DataError
        If it holds none.
    """
    if is_of_pandas(source, "DataFrame"):
        return _of_frame(source, said)
    if is_of_pandas(source, "Series") and source.index.nlevels > 1:
        return Frame(source.reset_index(name=source.name or "rating"))
    if type(source).__name__ == "LazyFrame" and hasattr(source, "collect_schema"):
        return DataSet(source, source.collect_schema().names())
    if hasattr(source, "select_columns") and hasattr(source, "with_format"):
        return DataSet(source, source.column_names)
    if hasattr(source, "__arrow_c_stream__"):
        return Stream(source)
    if hasattr(source, "to_reader") and not hasattr(source, "schema"):  # a scanner of pyarrow
        return Stream(source.to_reader())
    if hasattr(source, "count_rows") and hasattr(source, "to_table"):
        return DataSet(source, source.schema.names)
    if hasattr(source, "tocoo"):
        return Table("the matrix", dict(zip(POSITIONS, entries_of(source), strict=False)))
    if isinstance(source, np.ndarray) and source.dtype.names:
        return Table("the array", {name: source[name] for name in source.dtype.names})
    if isinstance(source, np.ndarray) and source.ndim == 2:
        return _of_rows(source, said)
    if isinstance(source, Mapping):
        return _of_mapping(source)
    if isinstance(source, list) and source:
        return _of_list(source, said)
    raise refusal(source)


def _of_frame(frame: Any, said: Layout) -> Table:
    """Return the table of a pandas frame. Columns that are only numbered are taken by position, as those of text."""
    n = frame.shape[1]
    numbered = list(frame.columns) == list(range(n)) and is_of_pandas(frame.index, "RangeIndex")
    names = said.columns or POSITIONS[: n if n in (3, 4) else 0]
    if said.wide or not numbered or (said.columns is None and not names):
        return Frame(frame)
    if len(names) != n:
        raise DataError(f"the frame has {n} columns, but {len(names)} are named by columns=")
    columns = {name: frame[place] for place, name in enumerate(names) if name != SKIPPED}
    table = Table("the frame", columns)
    table.positions = () if said.columns else names
    return table


def refusal(source: Any) -> DataError:
    """Return the error for an object that holds no table."""
    kind = type(source)
    if hasattr(source, "__next__"):
        return DataError(
            f"cannot read a table from {kind.__name__}, which can be read once: make a list of it, list(...)"
        )
    where = next((how for module, how in ELSEWHERE.items() if kind.__module__.split(".")[0] == module), GIVE)
    return DataError(f"cannot read a table from {kind.__name__}: {where}")


def _of_mapping(source: Mapping[Any, Any]) -> Table:
    """Return the table of a dict of columns."""
    parts = [name for name, value in source.items() if hasattr(value, "column_names") or isinstance(value, str)]
    if parts:
        raise DataError(f"this holds several tables, {listed(parts)}: give one of them")
    if source and all(isinstance(rated, Mapping) for rated in source.values()):
        raise DataError(
            "cannot read a table from a dict of dicts: for ratings by user and item, give"
            " [(user, item, rating) for user, rated in ratings.items() for item, rating in rated.items()]"
        )
    if not source or any(not hasattr(values, "__len__") for values in source.values()):
        raise refusal(source)
    return Table("the dict", source)


def entries_of(matrix: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows, the columns and the values of a sparse matrix of SciPy."""
    if not hasattr(matrix, "tocoo") or len(matrix.shape) != 2:
        raise DataError(f"{type(matrix).__name__} is no sparse matrix of two dimensions: give one of users by items")
    entries = matrix.tocoo()
    return entries.row, entries.col, entries.data


def _of_rows(array: np.ndarray, said: Layout) -> Table:
    """Return the rows of an array (n, 3) of users, items and ratings, or of as many columns as are named."""
    names = said.columns or POSITIONS[: 3 if array.shape[1] == 3 else 0]
    if len(names) != array.shape[1]:
        raise DataError(
            f"the array has shape {array.shape}: for rows of (user, item, rating), give three columns, or name them"
            " with columns=; for rows that are users and columns that are items, with NaN where there is no rating,"
            " give wide=True"
        )
    if array.dtype.kind == "f" and np.isnan(array[:, :2]).any():
        raise DataError(
            "the array has NaN among the ids, its first two columns: if its rows are users and its columns items, give"
            " wide=True"
        )
    columns = {name: _typed(array[:, place]) for place, name in enumerate(names) if name != SKIPPED}
    return Table("the array", columns)


def _typed(values: np.ndarray) -> Any:
    """Return a column of an array whose columns share a type: integers, if all of its floats are whole."""
    if values.dtype.kind == "f" and are_whole(values):
        return values.astype(np.int64)
    return values.tolist() if values.dtype.kind == "O" else values


def _of_list(rows: list[Any], said: Layout) -> Table:
    """Return the table of a list of rows: dicts, or tuples with a value for each column."""
    if all(isinstance(row, Mapping) for row in rows):
        keys = dict.fromkeys(name for row in rows for name in row)
        return Table("the list", {name: [row.get(name) for row in rows] for name in keys})
    if not all(isinstance(row, Sequence) and not isinstance(row, str | bytes) for row in rows):
        odd = next(row for row in rows if isinstance(row, str | bytes) or not isinstance(row, Sequence))
        raise DataError(f"cannot read a table from a list of {type(odd).__name__}: {GIVE}")
    widths = sorted({len(row) for row in rows})
    if len(widths) > 1:
        place = next(place for place, row in enumerate(rows) if len(row) != len(rows[0]))
        raise DataError(f"the list has rows of {widths[0]} to {widths[-1]} values, the first other is row {place:,}")
    own = getattr(rows[0], "_fields", None)
    names = said.columns or own or POSITIONS[: widths[0]]
    if len(names) != widths[0]:
        raise DataError(f"the list has rows of {widths[0]} values: name them with columns=, such as user,item,rating")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names) if name != SKIPPED}
    return Table("the list", columns)


def from_arrays(
    arrays: tuple[Any, ...], roles: Mapping[str, str | None], n_optional: int
) -> dict[str, tuple[str, pa.ChunkedArray]]:
    """Return the name and the column of each role from a tuple of arrays; see :func:`fastmf.data.read.read_roles`."""
    labels = {role: name if name and role in ("weight", "timestamp") else role for role, name in roles.items()}
    given, order = list(arrays), list(roles)
    if roles.get("weight") == "rating" and len(given) == len(order) - 1:  # one array for both
        given.insert(order.index("weight"), given[order.index("rating")])
    if len(given) == len(order) - 1 and n_optional:
        order.remove("rating")
    if len(given) != len(order):
        raise DataError(f"{len(arrays)} arrays given where {len(roles)} are needed: {', '.join(labels.values())}")
    names = [labels[role] for role in order]
    exact = (
        _as_numpy(each) if role in ("weight", "timestamp") else each for role, each in zip(order, given, strict=True)
    )
    columns = [to_arrow(array, name) for name, array in zip(names, exact, strict=True)]
    _require_one_length(names, columns, "arrays")
    return dict(zip(order, zip(names, columns, strict=True), strict=True))


def _require_one_length(names: Sequence[Any], columns: Sequence[pa.ChunkedArray], what: str = "columns") -> None:
    if len(set(map(len, columns))) > 1:
        lengths = ", ".join(f"{name} has {len(column)}" for name, column in zip(names, columns, strict=False))
        raise DataError(f"the {what} differ in length: {lengths}")


def _as_numpy(values: Any) -> Any:
    """Return a pandas series of NumPy's floats as a NumPy array, and anything else as it is."""
    floats = is_of_pandas(values, "Series") and isinstance(values.dtype, np.dtype) and values.dtype.kind == "f"
    return values.to_numpy() if floats else values
