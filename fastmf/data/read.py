"""Read a table from whatever holds it: files of many formats, frames, Arrow streams, arrays, matrices, lists."""

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import types

from fastmf.data import ids
from fastmf.data.arrow import decoded
from fastmf.data.arrow_files import ArrowFiles
from fastmf.data.columns import choose, distinct
from fastmf.data.containers import contained, from_arrays
from fastmf.data.files import File, called, find, is_location, is_stream, opened
from fastmf.data.json_lines import JsonFiles, is_json
from fastmf.data.layout import SKIPPED, Layout
from fastmf.data.parquet import Chunk, ParquetFiles
from fastmf.data.source import KINDS, Source, Wanted
from fastmf.data.text import TextFiles
from fastmf.data.wide import Wide, is_pivot
from fastmf.errors import DataError, UnknownIdError


class Like(NamedTuple):
    """What is known of ids and columns from a model or from other ratings.

    kinds : Arrow types of ids by role; ids that were text get them. names : names of columns by role; they are tried
    before the usual ones.
    """

    kinds: Mapping[str, pa.DataType]
    names: Mapping[str, str]


UNLIKE = Like({}, {})


def like_of(known: Any) -> Like:
    """Return what Ratings or a model know of ids and columns; nothing for None."""
    if known is None:
        return UNLIKE
    kinds = {"user": known.user_ids.type, "item": known.item_ids.type}
    names = zip(("user", "item", "rating"), known.columns, strict=False)
    return Like(kinds, {role: name for role, name in names if name})


class Column(NamedTuple):
    """A column that was read: its name and its values."""

    name: str
    values: pa.ChunkedArray


def read_roles(
    source: Any,
    roles: Mapping[str, str | None],
    *,
    codes: bool = False,
    memory_limit: int | None = None,
    optional: Collection[str] = (),
    said: Layout | None = None,
    like: Like = UNLIKE,
    kinds: Mapping[str, str] = KINDS,
    dropped: dict[str, int] | None = None,
) -> dict[str, Column]:
    """Read the columns for the given roles.

    Parameters
    ----------
    source : a path, a URI, a directory, a pattern with ``*``, a list of these, "-" for the standard input, or an open
        binary file: Parquet, delimited text, JSON lines, Arrow (IPC, Feather) or ORC, text also compressed (gzip, zstd,
        bz2, lz4). Or a table in memory: anything with the Arrow PyCapsule stream interface (pandas, Polars, DuckDB,
        pyarrow), a lazy frame of Polars, a data set of pyarrow or Hugging Face, a dict of columns, a list of dicts or
        of tuples, a sparse matrix of SciPy, an array (n, 3), or a tuple of arrays, one for each role.
    roles : maps "user", "item" and "rating" to a column's name, or to None to try the usual names. "weight" comes next;
        it may be the ratings' column. "timestamp" comes last.
    codes : return text as dictionary and codes where that is quick; for Parquet, reading then takes a quarter of the
        time.
    memory_limit : the most bytes to use for reading a file and sorting its rows; None for the available memory.
    optional : roles whose column may be missing, unless it is named.
    said : the layout of text files and arrays, as far as it is not to be found by looking.
    like : what is known of ids and columns from elsewhere.
    kinds : what to make of text, by role; see :class:`fastmf.data.source.Wanted`.
    dropped : a dict that gets the number of rows that cannot be read, by reason; None raises an error for such rows.

    Returns
    -------
    The columns by role, in the order of the roles, without optional ones that are missing.

    Raises
    ------
    DataError
        If a column is missing, or several match a role, or rows cannot be read.
    OSError
        If a file is missing, is of a format that is not read here, or is damaged.
    ResourceError
        If a file's rows take more memory than there is; raised before any are read, if their number is known.
    """
    if _is_arrays(source):
        return _of_arrays(source, roles, said, len(optional))
    how: dict[str, Any] = {"codes": codes, "memory_limit": memory_limit, "optional": optional, "kinds": kinds}
    table, chosen, wanted = _chosen(source, roles, said=said, like=like, dropped=dropped, **how)
    found = table.read(wanted)
    if dropped is not None:
        dropped |= table.dropped
    _warn_of_places(table, roles)
    return _by_role(table, chosen, wanted, found, like)


def read_batches(source: Any, roles: Mapping[str, str | None], at_once: int, **how: Any) -> Iterator[dict[str, Column]]:
    """Read the columns for the given roles, at most ``at_once`` rows at a time; ``how`` as for :func:`read_roles`.

    Parquet and Arrow files are read batch by batch, anything else whole, and then cut.
    """
    if _is_arrays(source):
        yield from _cut(_of_arrays(source, roles, how.get("said"), len(how.get("optional", ()))), at_once)
        return
    table, chosen, wanted = _chosen(source, roles, **how)
    batches = table.batches(wanted, at_once) if isinstance(table, ParquetFiles | ArrowFiles) else [table.read(wanted)]
    for batch in batches:
        yield from _cut(_by_role(table, chosen, wanted, batch, how.get("like", UNLIKE)), at_once)
    _warn_of_places(table, roles)
    if how.get("dropped") is not None:
        how["dropped"].update(table.dropped)


def parquet_chunks(
    source: Any, roles: Mapping[str, str | None], at_once: int, **how: Any
) -> tuple[dict[str, str], list[Chunk]]:
    """Return the names of columns by role, and chunks of Parquet files that hold them; see :func:`read_batches`.

    Raises a DataError if the source is not Parquet.
    """
    if not is_location(source):
        raise DataError("the workers of a cluster read files: give the path of Parquet files that all of them see")
    table, chosen, wanted = _chosen(source, roles, **how)
    if not isinstance(table, ParquetFiles) or table.stream is not None:
        raise DataError(f"{table.where} is not Parquet, which the workers of a cluster read in parts: convert it first")
    return chosen, table.plan(wanted.names, wanted.codes).chunks(at_once)


def _is_arrays(source: Any) -> bool:
    return isinstance(source, tuple) and bool(source) and not isinstance(source[0], str)


def _of_arrays(
    source: tuple[Any, ...], roles: Mapping[str, str | None], said: Layout | None, n_optional: int
) -> dict[str, Column]:
    if said is not None and said.wide:
        raise DataError("wide is for a pivot, but a tuple of arrays holds a row for each rating: leave it out")
    return {role: Column(*found) for role, found in from_arrays(source, roles, n_optional).items()}


def _cut(columns: Mapping[str, Column], at_once: int) -> Iterator[dict[str, Column]]:
    """Yield columns in batches of at most so many rows, at least one batch."""
    n_rows = len(next(iter(columns.values())).values)
    for start in range(0, max(n_rows, 1), at_once):
        yield {role: Column(name, values.slice(start, at_once)) for role, (name, values) in columns.items()}


def _chosen(
    source: Any,
    roles: Mapping[str, str | None],
    *,
    codes: bool = False,
    memory_limit: int | None = None,
    optional: Collection[str] = (),
    said: Layout | None = None,
    like: Like = UNLIKE,
    kinds: Mapping[str, str] = KINDS,
    dropped: dict[str, int] | None = None,
) -> tuple[Source, dict[str, str], Wanted]:
    """Open a table, and choose the columns for the roles."""
    table = open_source(source, said or Layout(), roles, like)
    chosen = choose(table.names, roles, table.where, optional, like.names)
    wanted = {name: kinds.get(role, "any") for role, name in reversed(chosen.items())}
    names = list(dict.fromkeys(chosen.values()))
    return table, chosen, Wanted(names, wanted, dropped is not None, memory_limit, codes)


def _warn_of_places(table: Source, roles: Mapping[str, str | None]) -> None:
    """Warn of columns that were taken by their places."""
    if table.positions:
        certain = "title" in roles or len(roles) == 1
        remedy = "" if certain else "; name them with --columns (columns=) if they are others"
        warnings.warn(
            f"{table.where} has no header: its columns are taken as {', '.join(table.positions)}{remedy}", stacklevel=5
        )


def _by_role(
    table: Source, chosen: Mapping[str, str], wanted: Wanted, found: pa.Table, like: Like
) -> dict[str, Column]:
    """Return the columns that were read, by role; ids that were text get the types that are known of them."""
    names = list(wanted.names)
    columns = {role: Column(str(name), found.column(names.index(name))) for role, name in chosen.items()}
    if isinstance(table, TextFiles):
        for role, kind in like.kinds.items():
            if role in columns:
                columns[role] = Column(columns[role].name, as_kind(columns[role].values, kind))
    return columns


def as_kind(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return ids of a text file as the type of other ids, if all of them can be; else as they are."""
    if types.is_integer(kind) or column.type == kind:
        return column
    text = decoded(column) if types.is_dictionary(column.type) else column
    text = text.cast(pa.large_string())
    if types.is_large_string(kind):
        return text
    coded = text.combine_chunks().dictionary_encode()
    try:
        found = ids.parse(pa.array([], kind), coded.dictionary.to_pylist(), "these")
    except UnknownIdError:
        return column
    return pa.chunked_array([found.take(coded.indices)])


def read_columns(source: Any, roles: Mapping[str, str | None], **how: Any) -> pa.Table:
    """Return what :func:`read_roles` reads as a table; the columns keep their names."""
    found = read_roles(source, roles, **how).values()
    return pa.Table.from_arrays([column.values for column in found], names=[column.name for column in found])


def read_table(
    source: Any,
    roles: Mapping[str, str | None] | None = None,
    said: Layout | None = None,
    like: Like = UNLIKE,
    optional: Collection[str] = (),
) -> pa.Table:
    """Read all columns of a source; see read_columns for what it may be and for errors.

    ``roles`` says which columns hold ids, which text must not make numbers of unless they are written as integers;
    those of ``optional`` roles may be missing.
    """
    if isinstance(source, tuple):
        raise DataError("cannot read a table from a tuple: give a path or a table, such as a dict of columns")
    table = open_source(source, said or Layout(), roles or {}, like)
    names = distinct(table.names, table.where)
    chosen = choose(names, roles or {}, table.where, optional, like.names)
    kinds = {name: KINDS.get(role, "any") for role, name in chosen.items()}
    return table.read(Wanted(names, kinds))


def read_titles(source: Any, said: Layout | None = None, like: Like = UNLIKE) -> dict[Any, str]:
    """Read a mapping of item id to title from a table with a column of titles; see read_columns for errors."""
    table = read_columns(source, {"item": None, "title": None}, said=said, like=like)
    items, titles = table.columns
    if types.is_nested(items.type):
        where, name = called(source, "the table of titles"), table.column_names[0]
        raise DataError(f"{where}: column {name!r} holds {items.type}, which cannot be an id")
    return dict(zip(items.to_pylist(), titles.to_pylist(), strict=True))


def open_source(source: Any, said: Layout, roles: Mapping[str, str | None], like: Like = UNLIKE) -> Source:
    """Open a table for reading. ``roles`` are those that columns are wanted for, to tell a header from a row.

    Raises
    ------
    DataError, OSError
        As :func:`read_columns`.
    """
    asked = [name for name in (*roles.values(), *like.names.values()) if name is not None]
    if isinstance(source, np.ndarray) and source.ndim == 2 and (said.wide or is_pivot(source)):
        return Wide(source, roles)
    if said.wide:
        return Wide(_opened(source, said, roles, asked), roles)
    table = _opened(source, said, roles, asked)
    named = {name for name in said.columns or () if name != SKIPPED}
    if said.sep is not None and not isinstance(table, TextFiles):
        raise DataError(f"{table.where} is no delimited text: leave out --sep (sep=)")
    if not isinstance(table, TextFiles) and named and named != set(table.names):
        raise DataError(f"{table.where} has names of its own: leave out --columns (columns=)")
    return table


def _opened(source: Any, said: Layout, roles: Mapping[str, str | None], asked: Sequence[str]) -> Source:
    if is_stream(source):
        name = getattr(source, "name", "")
        files = [File(None, name if isinstance(name, str) and name else "the stream")]
        first = opened(files[0], source)
    elif is_location(source):
        files = find(source)
        first = opened(files[0])
    else:
        return contained(source, said)
    if first.format == "parquet":
        return ParquetFiles(files, first)
    if first.format != "text":
        return ArrowFiles(files, first)
    if is_json(first.head):
        return JsonFiles(files, first, said.decimal)
    return TextFiles(files, first, said, list(roles), asked)
