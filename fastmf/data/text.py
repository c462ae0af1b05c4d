"""Delimited text, read in pieces: each is parsed, and its columns converted, before the next is read.

The number of rows is not known ahead. So memory is checked piece by piece, and reading stops at the limit.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv, types

from fastmf.data.columns import POSITIONS, listed
from fastmf.data.files import HEAD, File, Opened, opened
from fastmf.data.layout import Found, Layout, look, not_text
from fastmf.data.source import NUMBERS, PIECE, Faults, Room, Wanted, shown
from fastmf.data.utf8 import UNIT, Utf8
from fastmf.data.values import Numbers, as_key, as_numbers, inferred, joined_keys, require_one_mark
from fastmf.errors import DataError, brief, counted

# Inputs of readers that failed. Arrow's thread may drop them last, and must not need the interpreter for it: if that is
# about to exit, the process aborts.
_outlived: list[pa.NativeFile] = []


class TextFiles:
    """Delimited text in one or several files with the same columns; the first one has been opened."""

    def __init__(
        self, files: Sequence[File], first: Opened, said: Layout, roles: Sequence[str], asked: Sequence[str]
    ) -> None:
        self.files, self.first, self.said, self.roles, self.asked = files, first, said, roles, asked
        self.layout = self._look(first)
        guess = " (its first line is taken as the header; without one, name the columns with --columns, columns=)"
        self.where, self.names = first.file.path + guess * self.layout.guessed, list(self.layout.names)
        self.dropped: dict[str, int] = {}

    @property
    def positions(self) -> list[str]:
        """The names that were given to columns by their places; none if there is a header."""
        return [name for name in self.names if name in POSITIONS or name == "title"] if self.layout.by_position else []

    def read(self, wanted: Wanted) -> pa.Table:
        """Read columns of all files, one file after another.

        Raises
        ------
        DataError
            If a file has other columns, is not text in its encoding, or has rows that cannot be read (unless they are
            dropped).
        ResourceError
            As soon as there is not enough memory for what was read.
        """
        pieces: list[list[Any]] = []
        faults, room = Faults(), Room(wanted)
        for place, file in enumerate(self.files):
            each = self.first if place == 0 else opened(file)
            layout = self.layout if place == 0 else self._look(each)
            self._require_same(layout, file, wanted)
            pieces += _Reader(each, layout, wanted, self.said, faults).pieces(room)
            if not wanted.drop:
                names = f"; if its columns are not {', '.join(self.positions)}, name them with --columns (columns=)"
                faults.raise_if_any(file.path, names if self.positions else "")
        self.dropped = faults.counts
        return self._joined(pieces, wanted)

    def _look(self, each: Opened) -> Found:
        whole = len(each.head) < HEAD
        return look(each.head, whole, each.file.path, self.said, self.roles, self.asked)

    def _require_same(self, layout: Found, file: File, wanted: Wanted) -> None:
        """Raise a DataError unless a file has the columns that are read, by name, or in the same places."""
        named = layout.header and self.layout.header and set(wanted.names) <= set(layout.names)
        if layout.names != self.layout.names and not named:
            raise DataError(
                f"{self.where} has the columns {listed(self.names)} but {file.path} has {listed(layout.names)}:"
                " give files with the same columns, or one of them"
            )

    def _joined(self, pieces: list[list[Any]], wanted: Wanted) -> pa.Table:
        """Make each column of its pieces."""
        columns = []
        by_column = zip(*pieces, strict=True) if pieces else [()] * len(wanted.names)
        for name, chunks in zip(wanted.names, by_column, strict=True):
            kind = wanted.kinds.get(name, "any")
            if kind in NUMBERS:
                marks: dict[str, str] = {}
                for chunk in chunks:
                    marks = chunk.marks | marks
                if marks:  # pieces without any were not looked at
                    plain = [str(value) for chunk in chunks if not chunk.marks for value in chunk.broken()[:1]]
                    marks |= dict(zip(".", plain, strict=False))
                if self.said.decimal is None:
                    require_one_mark(marks, f"{self.where}: column {name!r}")
                columns.append(pa.chunked_array([chunk.values for chunk in chunks], pa.float64()))
            elif kind == "id":
                found = joined_keys(list(chunks))
                self._warn_of_blanks(name, found)
                columns.append(found.dictionary_encode() if wanted.codes and types.is_string(found.type) else found)
            else:
                found = pa.chunked_array(chunks, pa.string())
                columns.append(inferred(found, self.said.decimal) if kind in ("any", "time") else found)
        return pa.Table.from_arrays(columns, names=list(wanted.names))

    def _warn_of_blanks(self, name: str, column: pa.ChunkedArray) -> None:
        """Warn if the first id has blanks around it: they are part of the ids."""
        first = column[0].as_py() if len(column) and types.is_string(column.type) else None
        if first and first != first.strip():
            warnings.warn(
                f"{self.where}: column {name!r} holds ids with blanks around them, the first {first!r}: they are kept;"
                " if they are part of the separator, give it with --sep (sep=)",
                stacklevel=5,
            )


class _Reader:
    """The pieces of one file."""

    def __init__(self, file: Opened, layout: Found, wanted: Wanted, said: Layout, faults: Faults) -> None:
        self.where, self.layout, self.wanted, self.said, self.faults = file.file.path, layout, wanted, said, faults
        self.stream = Utf8(file.stream, layout, self.where, faults)
        self.places = [layout.names.index(name) for name in wanted.names]

    def pieces(self, room: Room) -> Iterator[list[Any]]:
        """Yield the converted columns of each piece; a second thread converts one while the next is parsed."""
        under_way: Future[list[Any]] | None = None
        n_rows = 0
        with contextlib.closing(self.stream), ThreadPoolExecutor(1) as thread:
            for batch in self._batches():
                if under_way is not None:
                    yield under_way.result()
                room.take(len(batch), 8 * len(batch) * len(self.wanted.names), self.where)
                under_way = thread.submit(self._converted, batch, n_rows)
                n_rows += len(batch)
            if under_way is not None:
                yield under_way.result()

    def _batches(self) -> Iterator[pa.RecordBatch]:
        layout = self.layout
        names = [str(place) for place in range(len(layout.names))]
        read = csv.ReadOptions(
            use_threads=False, block_size=PIECE, column_names=names, skip_rows=layout.skip
        )  # one thread: only then are the numbers of bad lines known
        parse = csv.ParseOptions(
            delimiter=layout.sep if layout.quoted else UNIT.decode(),
            quote_char='"' if layout.quoted else False,
            newlines_in_values=layout.quoted,
            invalid_row_handler=self._ragged,
        )
        chosen = [str(place) for place in self.places]
        convert = csv.ConvertOptions(
            column_types=dict.fromkeys(chosen, pa.string()),
            include_columns=chosen,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        file = pa.PythonFile(self.stream, mode="r")
        _outlived.append(file)
        try:
            yield from csv.open_csv(
                pa.BufferedInputStream(file, PIECE), read, parse, convert
            )  # copies what Python owns
            self._raise_failure()
        except pa.ArrowInvalid as error:
            self._raise_failure()
            if "Could not skip" not in str(error):  # there is a header, and no row
                raise self._refusal(str(error)) from None
        _outlived.remove(file)

    def _raise_failure(self) -> None:
        """Raise what went wrong in the thread that reads."""
        if isinstance(self.stream.failure, UnicodeDecodeError):
            raise not_text(self.where, self.layout.encoding, self.stream.failure) from None
        if self.stream.failure is not None:
            raise self.stream.failure

    def _refusal(self, problem: str) -> Exception:
        if "invalid UTF8" in problem:
            return not_text(self.where, self.layout.encoding, problem)
        if "straddling" in problem:
            limit = f"a row is longer than {PIECE:,} bytes, or a quote is not closed"
            return DataError(f"{self.where} cannot be read as text with columns: {limit}")
        return DataError(f"{self.where} cannot be read as text with columns: {problem}")

    def _ragged(self, row: csv.InvalidRow) -> str:
        width = f"{counted(row.actual_columns, 'column')} instead of {row.expected_columns}"
        self.faults.add("ragged_rows", 1, f"line {row.number:,} ({width}): {shown(row.text)}")
        return "skip"

    def _converted(self, batch: pa.RecordBatch, first_row: int) -> list[Any]:
        """Convert the columns of a piece whose rows start at ``first_row``."""
        found: list[Any] = []
        good = np.ones(len(batch), bool)
        for name, text in zip(self.wanted.names, batch.columns, strict=True):
            kind = self.wanted.kinds.get(name, "any")
            if kind in NUMBERS:
                numbers = as_numbers(text, self.said.decimal)
                if numbers.unreadable is not None:
                    self._count(name, text, numbers.unreadable & good, first_row)
                    good &= ~numbers.unreadable
                found.append(numbers)
            elif kind == "id":
                found.append(as_key(text))
                if types.is_string(found[-1].type):
                    self._require_one_line(name, text)
            else:
                found.append(text)
        return found if good.all() else [_kept(each, good) for each in found]

    def _count(self, name: str, text: pa.Array, bad: np.ndarray, first_row: int) -> None:
        first = int(np.flatnonzero(bad)[0]) if bad.any() else 0
        held = brief(text[first].as_py())
        what = f"row {first_row + first:,} (from 0): column {name!r} holds {held}, which is no number"
        self.faults.add("unreadable_numbers", int(bad.sum()), what)

    def _require_one_line(self, name: str, text: pa.Array) -> None:
        """Raise a DataError if an id goes over several lines: then a quote is not closed, and rows are lost in it."""
        import pyarrow.compute as pc

        broken = pc.match_substring(text, "\n")
        if pc.any(broken).as_py():
            first = text.filter(broken)[0].as_py()
            raise DataError(f"{self.where}: column {name!r} holds {shown(first)}: is a quote in it not closed?")


def _kept(each: Any, good: np.ndarray) -> Any:
    if isinstance(each, Numbers):
        return each._replace(values=each.values.filter(pa.array(good)))
    return each.filter(pa.array(good))
