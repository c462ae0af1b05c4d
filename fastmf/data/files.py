"""Find files by path, directory, pattern or URI, and find out what they hold from their first bytes."""

import codecs
import contextlib
import fnmatch
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import fs

from fastmf.data.columns import listed
from fastmf.errors import DataError, counted

STDIN, STDIN_NAME = "-", "the standard input"
HEAD = 1 << 16  # bytes to look at

# Formats that are read here, and what their files start with. Any other file is taken for text.
MAGIC = {"parquet": b"PAR1", "arrow": b"ARROW1", "arrow-stream": b"\xff\xff\xff\xff", "orc": b"ORC"}
COMPRESSED = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd", "bz2": b"BZh", "lz4": b"\x04\x22\x4d\x18"}

# Other formats: what files of them start with, what they are, and how to get at what they hold.
_PANDAS = "python -c \"import pandas; pandas.{}('{{path}}').to_parquet('ratings.parquet')\""
_SQLITE = (
    "python -c \"import sqlite3, pandas; pandas.read_sql('select * from ratings', sqlite3.connect('{path}'))"
    ".to_parquet('ratings.parquet')\""
)
_PICKLE = "a Python pickle", "load it in Python, and save a frame with to_parquet"
FOREIGN: dict[bytes, tuple[str, str]] = {
    b"SQLite format 3\0": ("a SQLite database", _SQLITE),
    b"PK\x03\x04\x14\x00\x06\x00": ("an Excel workbook", _PANDAS.format("read_excel")),
    b"PK\x03\x04": (
        "a zip archive or an Excel workbook",
        f"unzip -p {{path}} ratings.csv | fastmf fit - -o ratings.fastmf, or {_PANDAS.format('read_excel')}",
    ),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", _PANDAS.format("read_excel")),
    b"\x93NUMPY": ("a NumPy array", "in Python, fastmf.fit(numpy.load('{path}'))"),
    b"\x89HDF": ("an HDF5 file", _PANDAS.format("read_hdf")),
    b"FEA1": ("a Feather file of version 1", _PANDAS.format("read_feather")),
    b"Obj\x01": ("an Avro file", "duckdb -c \"copy (from read_avro('{path}')) to 'ratings.parquet'\""),
    b"\xfd7zXZ": ("an xz archive", "xz -dc {path} | fastmf fit - -o ratings.fastmf"),
    b"7z\xbc\xaf": ("a 7-Zip archive", "unpack it first"),
    **{bytes([0x80, version]): _PICKLE for version in range(2, 6)},
    b"version https://git-lfs": ("a pointer of Git LFS", "get the file itself with git lfs pull"),
    b"%PDF": ("a PDF document", "export its table as CSV"),
    b"%%MatrixMarket": ("a Matrix Market file", "in Python, fastmf.fit(scipy.io.mmread('{path}'))"),
    b"<": ("HTML or XML", "was it a download that needs a login? Export its table as CSV"),
    b"{'": ("Python's dicts, not JSON", "in Python, fastmf.fit([ast.literal_eval(line) for line in open('{path}')])"),
    b"[": ("a JSON array", f"{_PANDAS.format('read_json')}, or write one object a line"),
}

# The formats by the ends of names: a directory may hold other files, and those are refused.
ENDINGS = {
    "parquet": (".parquet", ".parq", ".pq"),
    "text": (".csv", ".tsv", ".txt", ".dat", ".data", ".jsonl", ".ndjson", ".json"),
    "arrow": (".arrow", ".feather", ".ipc", ".orc"),
}
ENDS = tuple(end for ends in ENDINGS.values() for end in ends)
PACKED = (".gz", ".zst", ".bz2", ".lz4")


class File(NamedTuple):
    """A file that exists; or, without a file system, a pipe, which can be read once: the standard input or another."""

    system: fs.FileSystem | None
    path: str

    def open(self) -> Any:
        """Open the file, for random access if it is no pipe; raise an OSError that names it."""
        if self.system is None:
            if self.path == STDIN_NAME and sys.stdin is None:
                raise OSError("the standard input is closed: give a file")
            return sys.stdin.buffer if self.path == STDIN_NAME else Path(self.path).open("rb")
        try:
            return self.system.open_input_file(self.path)
        except pa.ArrowException as error:
            raise OSError(f"{self.path} cannot be opened: {error}") from None


class Opened(NamedTuple):
    """An open file and its format: "parquet", "arrow", "arrow-stream", "orc" or "text".

    stream : at the first byte; for text without its compression. head : the first bytes of the text.
    """

    file: File
    format: str
    stream: Any
    head: bytes


def is_location(source: Any) -> bool:
    """Check whether a source names files: a path, a URI, or a list of these."""
    if isinstance(source, list):
        return bool(source) and all(map(is_location, source))
    return isinstance(source, str | os.PathLike)


def locations(source: Any) -> list[str]:
    """Return the paths and URIs that a source names; none if it names no files."""
    if not is_location(source):
        return []
    return list(map(str, source)) if isinstance(source, list) else [str(source)]


def called(source: Any, otherwise: str = "") -> str:
    """Name a source for a message: its first file, and how many more there are; ``otherwise`` if it names no files.

    >>> called("a.csv"), called(["a.csv", "b.csv", "c.csv"]), called("-"), called(None, "the table")
    ('a.csv', 'a.csv and 2 more', 'the standard input', 'the table')
    """
    paths = [STDIN_NAME if path == STDIN else path for path in locations(source)]
    if not paths:
        return otherwise
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1:,} more"


def find(source: Any) -> list[File]:
    """Find the files of a location or of a list of them.

    A directory stands for its files, sorted, without files and folders named ``.…`` or ``_…``. A path with ``*``, ``?``
    or ``[`` is a pattern, unless it exists.

    Raises
    ------
    OSError
        If there are none.
    DataError
        If a directory holds files of other formats.
    """
    return [file for location in locations(source) for file in _find(location)]


def _find(location: str) -> list[File]:
    if location == STDIN:
        return [File(None, STDIN_NAME)]
    kind = "URI" if "://" in location else "path"
    try:
        system, path = fs.FileSystem.from_uri(location) if kind == "URI" else (fs.LocalFileSystem(), location)
        info = system.get_file_info(path)
    except pa.ArrowException as error:
        raise OSError(f"{location} is not a {kind} that can be opened: {error}") from None
    if info.type == fs.FileType.NotFound:
        return _matching(system, path, location)
    if info.type == fs.FileType.Unknown:
        return [File(None, path)]
    if info.type == fs.FileType.File:
        return [File(system, path)]
    files = _below(system, path)
    if not files:
        raise FileNotFoundError(f"{location} is a directory without data files")
    _require_data(location, files)
    return [File(system, file) for file in _without_empty(system, location, files)]


def _below(system: fs.FileSystem, path: str) -> list[str]:
    """List the files below a directory, sorted; files and folders named ``.…`` or ``_…`` are left out."""
    found = [f.path for f in system.get_file_info(fs.FileSelector(path, recursive=True)) if f.is_file]
    return sorted(f for f in found if not any(part[0] in "._" for part in Path(f).relative_to(path).parts))


def _matching(system: fs.FileSystem, path: str, location: str) -> list[File]:
    """Return the files that match a pattern; raise a FileNotFoundError if there are none."""
    parts = Path(path).parts
    plain = next((place for place, part in enumerate(parts) if is_pattern(part)), None)
    if plain is None:
        raise FileNotFoundError(f"{location} does not exist")
    folder = str(Path(*parts[:plain])) if plain else "."
    there = system.get_file_info(folder).type == fs.FileType.Directory
    names = [str(Path(file).relative_to(folder)) for file in _below(system, folder)] if there else []
    pattern = parts[plain:]
    found = [name for name in names if _matches(Path(name).parts, pattern)]
    if not found:
        raise FileNotFoundError(f"no file matches {location}")
    return [File(system, str(Path(folder) / name)) for name in found]


def is_pattern(path: str) -> bool:
    """Check whether a path has marks of a pattern."""
    return any(mark in path for mark in "*?[")


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    return len(parts) == len(pattern) and all(map(fnmatch.fnmatchcase, parts, pattern))


def _require_data(location: str, files: Sequence[str]) -> None:
    """Raise a DataError if files of a directory are of formats that are not read, or of several."""
    formats: dict[str, list[str]] = {}
    for file in files:
        name = file.lower()
        stem = name.rsplit(".", 1)[0] if name.endswith(PACKED) else name
        formats.setdefault(next((_kind(end) for end in ENDS if stem.endswith(end)), ""), []).append(file)
    other = formats.pop("", [])
    likely = next((file for file in files if Path(file).name.startswith(("ratings.", "u.data"))), None)
    such = f", such as {likely}" if likely else ""
    if other:
        raise DataError(
            f"{location} holds {counted(len(other), 'file')} of other kinds, the first {other[0]}: move them out, or"
            f" give one file{such}"
        )
    if len(formats) > 1:
        one, two, *_ = sorted(formats.values())
        raise DataError(
            f"{location} holds files of several formats, {one[0]} and {two[0]}: give one{such}, or a pattern"
        )


def _kind(end: str) -> str:
    """Return the format of an ending; each of text is one of its own."""
    return end if end in ENDINGS["text"] else next(kind for kind, ends in ENDINGS.items() if end in ends)


def _without_empty(system: fs.FileSystem, location: str, files: list[str]) -> list[str]:
    """Leave out files of text without a byte, with a warning: Spark writes them. If all are empty, keep them."""
    sizes = {info.path: info.size for info in system.get_file_info(files)}
    empty = [file for file in files if sizes[file] == 0 and file.lower().endswith(ENDINGS["text"])]
    if not empty or len(empty) == len(files):
        return files
    warnings.warn(
        f"{location}: {counted(len(empty), 'file')} of {len(files):,} without a byte left out, the first {empty[0]}",
        stacklevel=8,
    )
    return [file for file in files if file not in empty]


def is_stream(source: Any) -> bool:
    """Check whether a source is an open file, or another stream of bytes."""
    tabular = hasattr(source, "__arrow_c_stream__") or hasattr(source, "by_user")  # Ratings.read makes Ratings
    return hasattr(source, "read") and not tabular


def opened(file: File, raw: Any = None) -> Opened:
    """Open a file and look at its first bytes; ``raw`` is the file if it is open already.

    Raises
    ------
    OSError
        If the file is empty or cannot be opened, or is of a format that is not read here; the message then says which
        it looks like, and how to read it.
    """
    raw = file.open() if raw is None else raw
    if getattr(raw, "closed", False):
        raise OSError(f"{file.path} is closed: open it again")
    head = _head(raw)
    if not head:
        _Again(head, raw).close()
        raise OSError(f"{file.path} is empty (0 bytes): give another file")
    kind = _format_of(head, MAGIC)
    if kind is not None:
        return Opened(file, kind, _rewound(file, raw, head), head)
    stream = _Again(head, raw)
    packed = _format_of(head, COMPRESSED)
    if packed is not None:
        raw = pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), packed)
        try:
            head = _head(raw)
        except OSError as error:
            raise OSError(f"{file.path} is damaged: {error}") from None
        stream = _Again(head, raw)
        inside = _format_of(head, MAGIC | COMPRESSED)
        if inside is not None:
            raise OSError(f"{file.path} holds {inside} inside {packed}: unpack it first")
    _refuse_foreign(file, head)
    return Opened(file, "text", stream, head)


def _format_of(head: bytes, formats: Mapping[str, bytes]) -> str | None:
    """Return the format whose files start so; None if none do."""
    return next((name for name, magic in formats.items() if head.startswith(magic)), None)


def _head(raw: Any) -> bytes:
    """Read the first HEAD bytes; fewer only at the end of the file."""
    head = b""
    while len(head) < HEAD and (more := raw.read(HEAD - len(head))):
        if isinstance(more, str):
            raise DataError("the stream is one of text: open it in binary mode")
        head += more
    return head


def _rewound(file: File, raw: Any, head: bytes) -> pa.NativeFile:
    """Return the file at its first byte. Formats that need random access are read from a pipe into memory."""
    if file.system is None:
        with contextlib.nullcontext() if raw is sys.stdin.buffer else raw:
            return pa.BufferReader(head + raw.read())
    raw.seek(0)
    return raw


class _Again:
    """A stream whose first bytes have been read already."""

    closed = False

    def __init__(self, head: bytes, rest: Any) -> None:
        self.head, self.rest = head, rest

    def read(self, n: int = -1) -> bytes:
        if not self.head:
            return bytes(self.rest.read(n))
        start, self.head = (self.head, b"") if n < 0 else (self.head[:n], self.head[n:])
        return start

    def close(self) -> None:
        if self.rest is not sys.stdin.buffer:
            self.rest.close()


def _refuse_foreign(file: File, head: bytes) -> None:
    """Raise an OSError for a file that is no text, or text of another format."""
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    for magic, (what, how) in FOREIGN.items():
        if start.startswith(magic):
            raise OSError(f"{file.path} is {what}, which is not read here: {how.format(path=file.path)}")
    if b'{"' in head[8:16] and head[:8].endswith(b"\0\0"):
        raise OSError(f"{file.path} is a safetensors file, such as a model of fastmf: give ratings, or pairs of ids")
    unicode = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\0" in head and not unicode:
        raise OSError(
            f"{file.path} is a binary file, neither Parquet nor text: is it damaged? Formats that are read:"
            f" Parquet, Arrow, ORC, delimited text and JSON lines (also compressed: {listed(PACKED)})"
        )
