"""Find Parquet files by path, directory or URI, check their footers, and read them as one table.

pyarrow.dataset would read each row group as a separate chunk; joining the chunks takes 200 MiB more for 20 M rows.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from fastmf.data.arrow import is_text
from fastmf.errors import DataError


@dataclass(frozen=True)
class Parquet:
    """Parquet files that agree on the columns to read; so far only their footers have been read."""

    system: fs.FileSystem
    footers: Mapping[str, pq.FileMetaData]  # by path
    schema: pa.Schema  # of the columns to read
    coded: Sequence[str]  # the names of columns to read as dictionary and codes

    @property
    def n_rows(self) -> int:
        """The number of rows, summed over row groups: the total in a footer may be wrong."""
        return sum(f.row_group(group).num_rows for f in self.footers.values() for group in range(f.num_row_groups))

    @property
    def row_bytes(self) -> int:
        """A lower bound on the bytes that a row takes in memory."""
        return sum(4 if field.name in self.coded else _width(field.type) for field in self.schema)

    def read(self) -> pa.Table:
        """Read the rows, file after file."""
        tables: list[pa.Table] = []
        for path, footer in self.footers.items():
            with _opened(self.system, path, metadata=footer, read_dictionary=self.coded) as file:
                tables.append(file.read(columns=list(dict.fromkeys(self.schema.names))))
                for name in self.coded:
                    _check_codes(tables[-1].column(name))
        # "default" joins a column that holds no nulls to one that may
        return pa.concat_tables(tables, promote_options="default").select(self.schema.names)


def open_parquet(location: str, pick: Callable[[Sequence[str], str], list[str]], codes: bool = False) -> Parquet:
    """Read the footers of a file, or of all files in a directory.

    ``pick`` gets a file's column names and the file's path, and returns the names of the columns to read. With
    ``codes``, text columns that the first file stores as dictionary and codes are read that way from every file,
    since all files must agree on the types.
    """
    system, paths = _find(location)
    footers: dict[str, pq.FileMetaData] = {}
    schemas: list[pa.Schema] = []
    for path in paths:
        with _opened(system, path) as file:
            names = pick(file.schema_arrow.names, path)
            schemas.append(pa.schema([(name, file.schema_arrow.field(name).type) for name in names]))
            footers[path] = file.metadata
        if schemas[-1] != schemas[0]:
            raise DataError(
                f"{paths[0]} has {_described(schemas[0])} but {path} has {_described(schemas[-1])}:"
                " write all files of a directory with one schema"
            )
    texts = [field.name for field in schemas[0] if codes and is_text(field.type)]
    return Parquet(system, footers, schemas[0], [name for name in texts if _is_coded(footers[paths[0]], name)])


def _find(location: str) -> tuple[fs.FileSystem, list[str]]:
    """Find the file at a path or URI, or a directory's files, sorted; skip files and folders named ``.…`` or ``_…``."""
    kind = "URI" if "://" in location else "path"
    try:
        system, path = fs.FileSystem.from_uri(location) if kind == "URI" else (fs.LocalFileSystem(), location)
        info = system.get_file_info(path)
    except pa.ArrowException as error:
        raise OSError(f"{location} is not a {kind} that can be opened: {error}") from None
    if info.type == fs.FileType.NotFound:
        raise FileNotFoundError(f"{location} does not exist")
    if info.type == fs.FileType.Unknown:
        raise OSError(f"{location} is neither a file nor a directory: Parquet needs random access, so give a file")
    if info.type == fs.FileType.File:
        return system, [path]
    found = [f.path for f in system.get_file_info(fs.FileSelector(path, recursive=True)) if f.is_file]
    files = sorted(f for f in found if not any(part[0] in "._" for part in Path(f).relative_to(path).parts))
    if not files:
        raise FileNotFoundError(f"{location} is a directory without Parquet files")
    other = [file for file in files if not file.endswith((".parquet", ".parq", ".pq"))]
    if other:
        raise DataError(
            f"{location} holds {len(other)} files that are not Parquet, the first {other[0]}: move them out"
        )
    return system, files


@contextlib.contextmanager
def _opened(system: fs.FileSystem, path: str, **options: Any) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file; raise an OSError that names it, whatever is wrong with it."""
    try:
        with system.open_input_file(path) as handle:
            yield pq.ParquetFile(handle, page_checksum_verification=True, **options)
    except (FileNotFoundError, PermissionError):
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise OSError(f"{path} cannot be read as Parquet (empty, damaged, or another format): {error}") from None


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
