"""JSON lines: one object a line, whose keys are the columns. Read in pieces, like delimited text."""

import codecs
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import json as arrow_json
from pyarrow import types

from fastmf.data.files import File, Opened, opened
from fastmf.data.source import NUMBERS, PIECE, Faults, Room, Wanted, require_short, shown
from fastmf.data.values import as_numbers, require_one_mark
from fastmf.errors import DataError, brief

LARGEST = 2**63 - 1


class JsonFiles:
    """JSON lines in one or several files; the first one has been opened. Names are the keys of its first objects."""

    positions: Sequence[str] = ()

    def __init__(self, files: Sequence[File], first: Opened, decimal: str | None = None) -> None:
        self.files, self.first, self.where, self.decimal = files, first, first.file.path, decimal
        self.dropped: dict[str, int] = {}
        self.samples = _objects(first.head)
        self.names = list(dict.fromkeys(key for sample in self.samples for key in sample))
        if len(self.samples) == 1 and all(isinstance(value, dict | list) for value in self.samples[0].values()):
            raise DataError(
                f"{self.where} holds one object of columns, not one a line: in Python,"
                f" fastmf.fit(pandas.read_json({self.where!r}))"
            )
        if not self.names:
            raise DataError(f"{self.where} starts with {{ but its first line is no JSON object: write one a line")

    def read(self, wanted: Wanted) -> pa.Table:
        """Read columns of all files, one file after another; raises as :meth:`fastmf.data.text.TextFiles.read`."""
        faults, room, tables = Faults(), Room(wanted), list[pa.Table]()
        names = list(dict.fromkeys(wanted.names))
        schema = pa.schema([(name, kind) for name in names if (kind := self._kind(name, wanted)) is not None])
        for place, file in enumerate(self.files):
            each = self.first if place == 0 else opened(file)
            for lines, first_line in _pieces(each):
                found = _parsed(lines, first_line, schema, names, faults, file.path)
                if not wanted.drop:
                    faults.raise_if_any(file.path)
                schema = found.schema if len(found) and not tables else schema
                tables.append(found)
                room.take(len(found), found.nbytes, file.path)
        table = pa.concat_tables(tables, promote_options="default").select(names)
        for place, name in enumerate(names):
            if wanted.kinds.get(name) in NUMBERS and types.is_string(table.column(place).type):
                table = self._with_numbers(table, place, faults)
        if not wanted.drop:
            faults.raise_if_any(self.where)
        self.dropped = faults.counts
        return table.select(list(wanted.names))

    def _with_numbers(self, table: pa.Table, place: int, faults: Faults) -> pa.Table:
        """Make numbers of a column of text; leave out and count the rows where it is none."""
        name, column = table.column_names[place], table.column(place)
        numbers = as_numbers(column.combine_chunks(), self.decimal)
        if self.decimal is None:
            require_one_mark(numbers.marks, f"{self.where}: {name!r}")
        table = table.set_column(place, name, numbers.values)
        bad = numbers.unreadable
        if bad is None:
            return table
        first = int(bad.argmax())
        what = f"row {first:,} (from 0): {name!r} holds {brief(column[first].as_py())}, which is no number"
        faults.add("unreadable_numbers", int(bad.sum()), what)
        return table.filter(pa.array(~bad))

    def _kind(self, name: str, wanted: Wanted) -> pa.DataType | None:
        """Return the Arrow type to read a column as; None to let Arrow find it."""
        values = [sample[name] for sample in self.samples if sample.get(name) is not None]
        role = wanted.kinds.get(name, "any")
        if role in ("any", "time"):
            return None
        if role == "text" or any(isinstance(value, str) for value in values):
            return pa.string()
        if role == "id" and values and all(isinstance(value, int) and not isinstance(value, bool) for value in values):
            return pa.uint64() if max(values) > LARGEST else pa.int64()
        return pa.float64() if role in NUMBERS else None


def _objects(head: bytes) -> list[dict[str, Any]]:
    """Return the objects of the whole lines among the first bytes."""
    found = map(_object, head.removeprefix(codecs.BOM_UTF8).split(b"\n"))
    return [value for value in found if value is not None]


def _object(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object that a line holds, None if it holds none."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _pieces(file: Opened) -> Iterator[tuple[bytes, int]]:
    """Yield whole lines, and the number of the first of them, from 1."""
    rest, number = b"", 1
    while True:
        more = file.stream.read(PIECE)
        rest += more
        end = rest.rfind(b"\n") + 1 if more else len(rest)
        if end:
            yield rest[:end], number
            number += rest.count(b"\n", 0, end)
        rest = rest[end:]
        require_short(rest, file.file.path)
        if not more:
            file.stream.close()
            return


def _parsed(
    lines: bytes, first_line: int, schema: pa.Schema, names: Sequence[str], faults: Faults, where: str
) -> pa.Table:
    """Parse lines; leave out and count those that are no JSON objects."""
    lines = lines.removeprefix(codecs.BOM_UTF8)
    parse = arrow_json.ParseOptions(explicit_schema=schema)
    try:
        found = _table(lines, parse)
    except pa.ArrowInvalid:
        try:
            found = _table(_good_lines(lines, first_line, faults), parse)
        except pa.ArrowInvalid as error:
            problem = f"cannot be read as JSON lines, past line {first_line:,} ({error})"
            raise DataError(f"{where} {problem}: write all values of a column in one type") from None
    kinds = {field.name: field.type for field in schema}
    for name in names:
        if name not in found.column_names:
            found = found.append_column(name, pa.nulls(len(found), kinds.get(name, pa.null())))
    return found.select(names)


def _good_lines(lines: bytes, first_line: int, faults: Faults) -> bytes:
    """Return the lines that are JSON objects; count the others."""
    good = []
    for number, line in enumerate(lines.split(b"\n"), first_line):
        if not line.strip():
            continue
        if _object(line) is not None:
            good.append(line)
        else:
            faults.add("ragged_rows", 1, f"line {number:,} (no JSON object): {shown(line)}")
    return b"\n".join(good)


def _table(lines: bytes, parse: arrow_json.ParseOptions) -> pa.Table:
    if not lines.strip():
        return parse.explicit_schema.empty_table()
    return arrow_json.read_json(pa.BufferReader(lines), arrow_json.ReadOptions(block_size=len(lines) + 1), parse)


def is_json(head: bytes) -> bool:
    """Check whether text starts as JSON lines do."""
    return head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{")
