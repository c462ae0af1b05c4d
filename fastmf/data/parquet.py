"""Parquet files: their footers are checked and their memory is planned first, then they are read as one table.

pyarrow.dataset would read each row group as a separate chunk; joining the chunks takes 200 MiB more for 20 M rows.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from fastmf.data.arrow import is_text
from fastmf.data.columns import listed
from fastmf.data.files import File, Opened, called
from fastmf.data.source import Wanted, require_room
from fastmf.errors import DataError

BUFFER = 1 << 20  # bytes of a column chunk that are read ahead, if not all of it is read at once


class ParquetFiles:
    """Parquet files; so far only the footer of the first has been read, and ``names`` are its columns."""

    positions: Sequence[str] = ()
    dropped: Mapping[str, int] = {}

    def __init__(self, files: Sequence[File], first: Opened) -> None:
        self.files, self.where = files, first.file.path
        self.stream = first.stream if first.file.system is None else None
        with _opened(files[0], self.stream) as file:
            self.names = list(file.schema_arrow.names)

    def read(self, wanted: Wanted) -> pa.Table:
        """Read columns of all files, one file after another.

        Raises
        ------
        DataError
            If a file lacks a column, or has it in another type.
        OSError
            If a file is damaged.
        ResourceError
            If the rows take more memory than there is; raised before any are read.
        """
        files = self.plan(wanted.names, wanted.codes)
        require_room(files.n_rows, files.row_bytes, called([file.path for file in self.files]), wanted)
        return files.read()

    def batches(self, wanted: Wanted, at_once: int) -> Iterator[pa.Table]:
        """Read columns of all files, at most so many rows at once; raises as :meth:`read`, but needs less memory."""
        return self.plan(wanted.names, wanted.codes).batches(at_once)

    def plan(self, names: Sequence[str], codes: bool = False) -> "Parquet":
        """Read the footers of all files, and check their columns.

        With ``codes``, text columns that the first file stores as dictionary and codes are read that way from every
        file, since all files must agree on the types.
        """
        footers: list[tuple[File, pq.FileMetaData]] = []
        schemas: list[pa.Schema] = []
        for file in self.files:
            with _opened(file, self.stream) as opened:
                missing = [name for name in names if name not in opened.schema_arrow.names]
                if missing:
                    there = listed(opened.schema_arrow.names)
                    raise DataError(
                        f"{file.path} has no column {missing[0]!r}, but {self.where} has: there are {there}"
                    )
                schemas.append(pa.schema([(name, opened.schema_arrow.field(name).type) for name in names]))
                footers.append((file, opened.metadata))
            if schemas[-1] != schemas[0]:
                raise DataError(
                    f"{self.where} has {_described(schemas[0])} but {file.path} has {_described(schemas[-1])}:"
                    " write all files with one schema"
                )
        texts = [field.name for field in schemas[0] if codes and is_text(field.type)]
        coded = [name for name in texts if _is_coded(footers[0][1], name)]
        return Parquet(footers, schemas[0], coded, self.stream)


@dataclass(frozen=True)
class Parquet:
    """Parquet files that agree on the columns to read; so far only their footers have been read."""

    footers: Sequence[tuple[File, pq.FileMetaData]]
    schema: pa.Schema  # of the columns to read
    coded: Sequence[str]  # the names of columns to read as dictionary and codes
    stream: Any = None  # of a pipe, in memory

    @property
    def n_rows(self) -> int:
        """The number of rows, summed over row groups: the total in a footer may be wrong."""
        return sum(f.row_group(group).num_rows for _, f in self.footers for group in range(f.num_row_groups))

    @property
    def row_bytes(self) -> int:
        """A lower bound on the bytes that a row takes in memory."""
        return sum(4 if field.name in self.coded else _width(field.type) for field in self.schema)

    def read(self) -> pa.Table:
        """Read the rows, file after file."""
        tables: list[pa.Table] = []
        for file, footer in self.footers:
            with _opened(file, self.stream, metadata=footer, read_dictionary=self.coded) as opened:
                tables.append(opened.read(columns=list(dict.fromkeys(self.schema.names))))
                for name in self.coded:
                    _check_codes(tables[-1].column(name))
        # "default" joins a column that holds no nulls to one that may
        return pa.concat_tables(tables, promote_options="default").select(self.schema.names)

    def batches(self, at_once: int) -> Iterator[pa.Table]:
        """Read at most so many rows at once, file after file; a row group is decoded page by page."""
        names = list(dict.fromkeys(self.schema.names))
        for file, footer in self.footers:
            how = {"metadata": footer, "read_dictionary": self.coded, "buffer_size": BUFFER}
            with _opened(file, self.stream, **how) as opened:
                for batch in opened.iter_batches(at_once, columns=names):
                    for name in self.coded:
                        _check_codes(pa.chunked_array([batch.column(name)]))
                    yield pa.table(batch).select(self.schema.names)

    def chunks(self, at_once: int) -> "list[Chunk]":
        """Cut the files into chunks of whole row groups, of at most so many rows each if groups are small enough."""
        found: list[Chunk] = []
        for file, footer in self.footers:
            groups: list[int] = []
            for group in range(footer.num_row_groups):
                if groups and sum(footer.row_group(g).num_rows for g in (*groups, group)) > at_once:
                    found.append(Chunk(file, tuple(groups), self.schema.names, tuple(self.coded)))
                    groups = []
                groups.append(group)
            found += [Chunk(file, tuple(groups), self.schema.names, tuple(self.coded))] if groups else []
        return found


class Chunk(NamedTuple):
    """Some row groups of a file, and the columns to read of them; it can be sent to another process."""

    file: File
    groups: tuple[int, ...]
    names: Sequence[str]
    coded: Sequence[str]

    def read(self) -> pa.Table:
        """Read the rows."""
        with _opened(self.file, None, read_dictionary=self.coded) as opened:
            table = opened.read_row_groups(self.groups, columns=list(dict.fromkeys(self.names)))
            for name in self.coded:
                _check_codes(table.column(name))
            return table.select(list(self.names))


@contextlib.contextmanager
def _opened(file: File, stream: Any, **options: Any) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file, or a stream that is in memory; raise an OSError that names it, whatever is wrong with it."""
    try:
        with contextlib.nullcontext(stream) if file.system is None else file.open() as handle:
            yield pq.ParquetFile(handle, page_checksum_verification=True, **options)
    except (FileNotFoundError, PermissionError):
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise OSError(f"{file.path} cannot be read as Parquet (is it damaged?): {error}") from None


def _width(kind: pa.DataType) -> int:
    try:
        return max(kind.bit_width // 8, 1)
    except ValueError:  # text, bytes, nested types: a 4-byte and an 8-byte offset
        return 12


def _is_coded(footer: pq.FileMetaData, name: str) -> bool:
    """Check whether a text column is stored as dictionary and codes: plain text takes at least 4 bytes a value."""
    if footer.num_row_groups == 0:
        return False
    group = footer.row_group(0)
    columns = [group.column(n) for n in range(group.num_columns)]
    return any(c.path_in_schema == name and c.total_uncompressed_size < 4 * c.num_values for c in columns)


def _check_codes(column: pa.ChunkedArray) -> None:
    """Check that all codes point into their dictionary: in a damaged file they may not, and Arrow does not check."""
    import pyarrow.compute as pc

    for chunk in column.chunks:
        limits = pc.min_max(chunk.indices).as_py()
        if chunk.null_count < len(chunk) and not 0 <= limits["min"] <= limits["max"] < len(chunk.dictionary):
            raise pa.ArrowInvalid("a text column has codes outside its dictionary")


def _described(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
