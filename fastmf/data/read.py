"""Tables in: Parquet files, directories and URIs, Arrow streams, frames and arrays.

Everything is read with pyarrow, never through pandas (which would turn an integer column with one null into floats and
merge neighbouring ids), and only the columns asked for.
"""

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv, fs, types

from fastmf.errors import DataError
from fastmf.runtime.memory import require_memory

# The names a column goes by when none is given, most usual first.
USUAL = {
    "user": ("user_id", "user", "userId", "userid"),
    "item": ("item_id", "item", "movieId", "itemId", "itemid"),
    "rating": ("rating", "value", "score"),
    "timestamp": ("timestamp",),
}

# Bytes a row, beside the columns themselves, of both compressed views and of what sorting takes.
WORK = 16


def read_columns(
    source: Any,
    roles: Mapping[str, str | None],
    coded: Collection[str] = (),
    memory_limit: int | None = None,
    optional: Collection[str] = (),
) -> pa.Table:
    """Read the columns that play the given roles.

    Parameters
    ----------
    source : path or URI of a Parquet file or of a directory of them; anything with the Arrow PyCapsule stream
        interface (pandas, Polars, DuckDB, pyarrow); or a tuple of arrays, one for each role.
    roles : "user", "item", "rating" to the name of the column, or to None for the first usual name that is there; and
        "weight" as the last to a name, which may be that of the ratings again.
    coded : the roles whose text is wanted as dictionary and codes from a Parquet file: a quarter of the time.
    memory_limit : bytes that reading a file and sorting its rows may take; None for what is available.
    optional : roles whose column need not be there, unless it is named: it is then left out.

    Returns
    -------
    A table with one column per role, in that order; the columns keep the names they have in the source.

    Raises
    ------
    DataError
        If a column is missing, or two could be meant.
    OSError
        If a file is missing, is not Parquet, or is damaged.
    ResourceError
        If a file's rows take more memory than there is; nothing has been read then.
    """
    if isinstance(source, str | os.PathLike):
        return _read_parquet(str(source), roles, coded, memory_limit, optional)
    if isinstance(source, tuple):
        return _from_arrays(source, roles, len(optional))
    if isinstance(source, pd.DataFrame):  # convert three columns, not all
        names = choose(list(source.columns), roles, "the frame", optional)
        return pa.Table.from_arrays([to_arrow(source[name], name) for name in names], names=names)
    if hasattr(source, "__arrow_c_stream__"):
        table = source if isinstance(source, pa.Table) else pa.table(source)
        return table.select(choose(table.column_names, roles, "the table", optional))
    raise DataError(
        f"cannot read ratings from {type(source).__name__}: give a path, a pandas/Polars/Arrow table,"
        " or a tuple of three arrays"
    )


def read_table(source: Any) -> pa.Table:
    """Read all columns of Parquet (a path or a URI), of a frame or of an Arrow stream, as they are.

    Raises
    ------
    DataError, OSError, ResourceError
        As :func:`read_columns`.
    """
    if isinstance(source, str | os.PathLike):
        system, path = _located(str(source))
        footers, schema = _footers(system, path, str(source), _different)
        n_rows = sum(_count_rows(footer) for footer in footers.values())
        width = sum(_width(field.type, False) for field in schema)
        require_memory(n_rows * 2 * width, f"{source}: reading {n_rows:,} rows", None, "read fewer rows")
        parts = []
        for file, footer in footers.items():
            with _opened(system, file, metadata=footer) as parquet:
                parts.append(parquet.read())
        return pa.concat_tables(parts)
    if isinstance(source, pd.DataFrame):
        names = _different(list(source.columns), "the frame")
        return pa.Table.from_arrays([to_arrow(source[name], name) for name in names], names=list(map(str, names)))
    if hasattr(source, "__arrow_c_stream__"):
        return source if isinstance(source, pa.Table) else pa.table(source)
    raise DataError(f"cannot read a table from {type(source).__name__}: give a path or a pandas/Polars/Arrow table")


def _different(names: Sequence[str], where: str) -> list[str]:
    """Return names of columns, of which no two are the same."""
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice:
        raise DataError(f"{where} has several columns {twice[0]!r}: rename them")
    return list(names)


def choose(
    names: Sequence[str], roles: Mapping[str, str | None], where: str, optional: Collection[str] = ()
) -> list[str]:
    """Pick the column for each role; see :func:`read_columns`."""
    chosen = []
    for role, asked in roles.items():
        found = [name for name in ([asked] if asked is not None else USUAL[role]) if name in list(names)]
        if len(found) == 1 and list(names).count(found[0]) == 1:
            chosen.append(found[0])
            continue
        if not found and asked is None and role in optional:
            continue
        there = ", ".join(map(repr, names)) or "none"
        option = f", or name it where there is --{role} COLUMN ({role}=)" if role in USUAL else ""
        remedy = f"rename it{option}; there are {there}"
        if found:
            meant = " and ".join(map(repr, found if len(found) > 1 else found * 2))
            raise DataError(f"{where} has more than one column that could hold the {role}s, {meant}: {remedy}")
        if asked is not None:
            raise DataError(f"{where} has no column {asked!r} for the {role}s: {remedy}")
        looked = ", ".join(map(repr, USUAL[role]))
        raise DataError(f"{where} has no column for the {role}s, none of {looked}: {remedy}")
    if len(set(chosen)) < len(chosen) - (roles.get("weight") in chosen[2:-1]):  # ratings may be the weights, too
        named = ", ".join(f"{role} {name!r}" for role, name in zip(roles, chosen, strict=False))
        raise DataError(f"{where}: one column is named for two roles ({named}): name another")
    return chosen


def to_arrow(values: Any, name: str, kind: pa.DataType | None = None) -> pa.ChunkedArray:
    """Turn any column (array, list, series, Arrow array) into an Arrow column.

    Raises
    ------
    DataError
        If it is not one-dimensional or mixes types.
    """
    if isinstance(values, pa.ChunkedArray):
        return values
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise DataError(f"{name} has {values.ndim} dimensions: give one value for each row")
    plain = isinstance(values, np.ndarray) and not isinstance(values, np.ma.MaskedArray)  # Arrow reads the mask
    if plain and values.dtype.kind not in "OUS":
        values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    if isinstance(values, str | bytes):
        raise DataError(f"{name} is one value, {values!r}: give one value for each row")
    try:
        if not hasattr(values, "__len__"):
            values = list(values)
        if not isinstance(values, pa.Array):
            values = _array(values, kind)
    except (pa.ArrowException, TypeError, OverflowError, ValueError) as error:
        raise DataError(f"{name} cannot be read as one column of one type: {error}") from None
    return values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])


def _array(values: Any, kind: pa.DataType | None) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, list | tuple) and values and isinstance(values[0], pd.Timestamp | pd.Timedelta):
        values = pd.Series(list(values))  # Arrow would cut them to microseconds
    try:
        return pa.array(values, type=kind)
    except OverflowError:  # Python's integers are read as int64, and these are larger
        return pa.array(values, type=pa.uint64())


def _from_arrays(arrays: tuple[Any, ...], roles: Mapping[str, str | None], n_optional: int) -> pa.Table:
    names, weight = list(roles), roles.get("weight")
    if weight is not None:
        names[-1] = weight
        if len(arrays) == 3 and weight == "rating":  # one array for both
            arrays = *arrays, arrays[2]
        elif len(arrays) == 3 and n_optional:
            del names[2]
    if not len(names) - n_optional <= len(arrays) <= len(names):
        raise DataError(f"{len(arrays)} arrays given where {len(names)} are needed: {', '.join(names)}")
    columns = [to_arrow(array, name) for name, array in zip(names, arrays, strict=False)]
    if len(set(map(len, columns))) > 1:
        lengths = ", ".join(f"{name} has {len(column)}" for name, column in zip(names, columns, strict=False))
        raise DataError(f"the arrays differ in length: {lengths}")
    return pa.Table.from_arrays(columns, names[: len(columns)])


def as_array(column: pa.ChunkedArray) -> np.ndarray:
    """Give a column of numbers as one array, read-only as Arrow's own are: kernels are compiled for that alone."""
    array = column.to_numpy().view()
    array.flags.writeable = False
    return array


def _read_parquet(
    location: str,
    roles: Mapping[str, str | None],
    coded: Collection[str],
    memory_limit: int | None,
    optional: Collection[str],
) -> pa.Table:
    """Read the footers of all files, see that they agree and that there is memory for their rows, and read these."""
    system, path = _located(location)
    footers, first = _footers(system, path, location, lambda names, file: choose(names, roles, file, optional))
    n_rows = sum(_count_rows(footer) for footer in footers.values())
    # one file decides for all, as tables of different types cannot be joined
    texts = [field.name for field, role in zip(first, roles, strict=False) if role in coded and is_text(field.type)]
    texts = [name for name in texts if _is_coded(next(iter(footers.values())), name)]
    require_memory(
        n_rows * (sum(_width(field.type, field.name in texts) for field in first) + WORK),
        f"{location}: reading {n_rows:,} rows",
        memory_limit,
        "read fewer rows, or set another limit with --memory-limit (memory_limit=)",
    )
    tables: list[pa.Table] = []
    for file, footer in footers.items():
        with _opened(system, file, metadata=footer, read_dictionary=texts) as parquet:
            columns = parquet.read(columns=list(dict.fromkeys(first.names)))
            for name in texts:
                _require_codes(columns.column(name))
            # rebuilt, so that it does not matter whether a column was declared to hold no nulls
            tables.append(pa.Table.from_arrays([columns.column(name) for name in first.names], names=first.names))
    return pa.concat_tables(tables)


def _footers(
    system: fs.FileSystem, path: str, location: str, chosen: Callable[[Sequence[str], str], list[str]]
) -> tuple[dict[str, pq.FileMetaData], pa.Schema]:
    """Read what all files say of themselves, and the types of the columns chosen, which must be the same in all."""
    footers: dict[str, pq.FileMetaData] = {}
    first: pa.Schema | None = None
    for file in _parquet_files(system, path, location):
        with _opened(system, file) as parquet:
            names = chosen(parquet.schema_arrow.names, file)
            schema = pa.schema([(name, parquet.schema_arrow.field(name).type) for name in names])
            if first is not None and schema != first:
                raise DataError(
                    f"{next(iter(footers))} has {_described(first)} but {file} has {_described(schema)}:"
                    " write all files of a directory with one schema"
                )
            first = first or schema
            footers[file] = parquet.metadata
    assert first is not None
    return footers, first


@contextlib.contextmanager
def _opened(system: fs.FileSystem, file: str, **options: Any) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file; whatever is wrong with it is an OSError that names it."""
    try:
        with system.open_input_file(file) as handle:
            yield pq.ParquetFile(handle, page_checksum_verification=True, **options)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise OSError(f"{file} cannot be read as Parquet (empty, damaged, or another format): {error}") from None


def _width(kind: pa.DataType, coded: bool) -> int:
    """Tell how many bytes a value takes at least when it has been read."""
    try:
        return max(kind.bit_width // 8, 1)
    except ValueError:  # text, bytes, nested types: a code, or an offset of each of two layouts beside what there is
        return 4 if coded else 12


def _count_rows(footer: pq.FileMetaData) -> int:
    """Count the rows by the groups they are read by: a footer's own sum need not be true, nor its sizes in bytes."""
    return sum(footer.row_group(group).num_rows for group in range(footer.num_row_groups))


def _is_coded(footer: pq.FileMetaData, name: str) -> bool:
    """Say whether a file holds text as dictionary and codes: written out it takes at least 4 bytes a value."""
    if footer.num_row_groups == 0:
        return False
    group = footer.row_group(0)
    columns = [group.column(n) for n in range(group.num_columns)]
    return any(c.path_in_schema == name and c.total_uncompressed_size < 4 * c.num_values for c in columns)


def _require_codes(column: pa.ChunkedArray) -> None:
    """Check that all codes stand for something: Arrow does not, when it reads a damaged file."""
    for chunk in column.chunks:
        limits = pc.min_max(chunk.indices).as_py()
        if chunk.null_count < len(chunk) and not 0 <= limits["min"] <= limits["max"] < len(chunk.dictionary):
            raise pa.ArrowInvalid("codes of text point outside its dictionary")


def is_text(kind: pa.DataType) -> bool:
    """Say whether a type is text or bytes of any length, in offsets and data."""
    text = types.is_string(kind) or types.is_large_string(kind)
    return text or types.is_binary(kind) or types.is_large_binary(kind)


def _located(location: str) -> tuple[fs.FileSystem, str]:
    try:
        return fs.FileSystem.from_uri(location) if "://" in location else (fs.LocalFileSystem(), location)
    except pa.ArrowException as error:
        raise OSError(f"{location} is not a URI that can be opened: {error}") from None


def _described(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def _parquet_files(system: fs.FileSystem, path: str, location: str) -> list[str]:
    """List the Parquet files at a path; hidden files and those named _… are nobody's data, anything else must be."""
    try:
        info = system.get_file_info(path)
    except pa.ArrowException as error:
        raise OSError(f"{location} is not a path that can be opened: {error}") from None
    if info.type == fs.FileType.NotFound:
        raise FileNotFoundError(f"{location} does not exist")
    if info.type == fs.FileType.File:
        return [path]
    if info.type == fs.FileType.Unknown:
        raise OSError(f"{location} is neither a file nor a directory: Parquet is not read in order, so give a file")
    found = system.get_file_info(fs.FileSelector(path, recursive=True))
    relative = {f.path: Path(f.path).relative_to(path).parts for f in found if f.type == fs.FileType.File}
    files = sorted(file for file, parts in relative.items() if not any(part[0] in "._" for part in parts))
    if not files:
        raise FileNotFoundError(f"{location} is a directory without Parquet files")
    other = [file for file in files if not file.endswith((".parquet", ".parq", ".pq"))]
    if other:
        raise DataError(f"{location} holds {len(other)} files that are not Parquet, the first {other[0]}: move it out")
    return files


def read_titles(path: str) -> dict[Any, str]:
    """Read the item ids and the column 'title' of a Parquet file. Returns id to title.

    Raises
    ------
    DataError, OSError
        As :func:`read_columns`.
    """
    table = read_columns(path, {"item": None, "title": "title"})
    if types.is_nested(table.column(0).type):
        raise DataError(f"{path}: column {table.column_names[0]!r} holds {table.column(0).type}, which cannot be an id")
    return dict(zip(table.column(0).to_pylist(), table.column(1).to_pylist(), strict=True))


def read_csv(
    binary_file: IO[bytes], *, names: Sequence[str] | None, delimiter: str, columns: Mapping[str, str]
) -> dict[str, np.ndarray | list[str]]:
    """Read some columns of UTF-8 delimited text.

    Parameters
    ----------
    binary_file
        An open file of bytes; it need not seek, and only the columns asked for are kept.
    names
        The columns in the file's order when it has no header line, else None.
    delimiter
        One character.
    columns
        Arrow type name ("int32", "float32", "string", …) of each column wanted.

    Returns
    -------
    dict
        Each wanted column, in that order: a list of str for strings, else an array.

    Raises
    ------
    DataError
        When a column is not there, or a value is missing or not of its type.
    """
    read = csv.ReadOptions(column_names=names, block_size=1 << 24)
    parse = csv.ParseOptions(delimiter=delimiter)
    convert = csv.ConvertOptions(
        column_types={name: pa.type_for_alias(kind) for name, kind in columns.items()},
        include_columns=list(columns),
    )
    try:
        table = csv.read_csv(binary_file, read_options=read, parse_options=parse, convert_options=convert)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise DataError(f"the text does not hold the columns {', '.join(columns)}: {error}") from error
    result: dict[str, np.ndarray | list[str]] = {}
    for name, kind in columns.items():
        column = table.column(name)
        if column.null_count:
            raise DataError(f"{column.null_count:,} of {len(column):,} values of {name} are missing")
        result[name] = column.to_pylist() if kind == "string" else column.to_numpy()
    return result
