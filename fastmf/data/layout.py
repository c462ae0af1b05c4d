"""How a text file is laid out: its separator, its header, its encoding. Given by the caller, or found by looking."""

import codecs
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from fastmf.data.columns import POSITIONS, is_usual, listed, plain
from fastmf.data.first_lines import hint_of, refuse_other_tables, require_usual, top_of
from fastmf.errors import DataError, ParameterError, brief, require_choice, require_truth

SEPARATORS = (",", "\t", ";", "|", "::", " ")  # in the order of trial
NAMED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "blank": " ", "space": " "}
BLANK = " "  # any number of blanks and tabs
LINES = 200  # to look at
REGULAR = 0.9  # share of the lines that have as many fields as the others, at least
MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
SKIPPED = "-"  # the name of a column that is not read


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the caller says of text files, and of tables without names; None is found by looking.

    Attributes
    ----------
    columns : names of the columns of files without a header, and of arrays; "-" for one to leave out.
    sep : the separator; " " is any number of blanks.
    decimal : the decimal mark, "." or ",".
    encoding : the name of the encoding; UTF-8 or what the byte-order mark says, if left out.
    wide : whether a row is a user, and every column but the first an item.
    """

    columns: tuple[str, ...] | None = None
    sep: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    wide: bool = False


def layout_of(
    columns: Any = None, sep: Any = None, decimal: Any = None, encoding: Any = None, wide: bool = False
) -> Layout:
    """Check what a caller says; see :meth:`fastmf.Ratings.read`. Raises a ParameterError for what cannot be."""
    require_truth("wide", wide)
    if decimal is not None:
        require_choice("decimal", decimal, (".", ","))
    if sep is not None:
        sep = NAMED.get(sep, sep)
        if not isinstance(sep, str) or not sep or "\n" in sep or '"' in sep or not sep.isascii():
            raise ParameterError(f"sep is {sep!r}: give what stands between columns, such as ; or tab")
    if encoding is not None:
        try:
            "".encode(encoding)  # a LookupError for what encodes no text, too
        except (LookupError, TypeError):
            raise ParameterError(f"encoding is {encoding!r}: give one such as latin-1, cp1252 or utf-16") from None
    if columns is not None:
        if not isinstance(columns, str | list | tuple):
            raise ParameterError(f"columns is {brief(columns)}: give names in order, such as user,item,rating")
        columns = tuple(columns.split(",") if isinstance(columns, str) else columns)
        columns = tuple(name.strip() if isinstance(name, str) else name for name in columns)
        named = [name for name in columns if name != SKIPPED]
        if not named or not all(isinstance(name, str) and name for name in columns) or len(set(named)) < len(named):
            raise ParameterError(f"columns are {list(columns)!r}: give distinct names in order, - for one to leave out")
    return Layout(columns=columns, sep=sep, decimal=decimal, encoding=encoding, wide=wide)


@dataclass(frozen=True, kw_only=True)
class Found:
    """The layout of one file: its separator, encoding, names, and what else its first lines show.

    quoted : whether fields may be quoted. header : whether the first line holds the names. by_position : whether the
    names stand for what columns without names usually are. skip : lines before the rows: the header and those above.
    guessed : whether the header is one only because it holds no number.
    """

    sep: str
    encoding: str
    names: tuple[str, ...]
    quoted: bool
    header: bool
    by_position: bool = False
    skip: int = 0
    guessed: bool = False


def look(head: bytes, whole: bool, where: str, said: Layout, roles: Sequence[str], asked: Sequence[str]) -> Found:
    """Find the layout of a file from its first bytes.

    Parameters
    ----------
    head : the first bytes; ``whole`` says whether they are all.
    where : the file, for messages.
    said : what the caller says of the layout.
    roles, asked : the roles that columns are wanted for, and the names that the caller asks for.

    Raises
    ------
    DataError
        If the bytes are not text in the encoding, or the separator or the names are not certain.
    """
    encoding = said.encoding or next((name for mark, name in MARKS.items() if head.startswith(mark)), "utf-8")
    every = _lines(head, whole, where, encoding)
    refuse_other_tables(every, where)
    seps = [said.sep] if said.sep else SEPARATORS

    def is_head(line: str) -> bool:
        return any(_n_known(fields, roles, asked) >= 2 for sep in seps for fields in split_lines([line], sep))

    top = top_of(every, is_head)
    skip = top.above + next(place for place, line in enumerate(top.lines) if line)
    lines = [line for line in top.lines if line][:LINES]
    said = replace(said, sep=said.sep or top.sep)
    tables = {sep: split_lines(lines, sep) for sep in ([said.sep] if said.sep else SEPARATORS)}
    sep = said.sep or _separator(tables, where, said, roles, asked)
    rows = tables[sep]
    found = Found(sep=sep, encoding=encoding, names=(), quoted=is_quoted(sep), header=False, skip=skip)
    first, width = rows[0], max((len(row) for row in rows[:10]), default=0)
    header = said.wide or is_header(first, roles, asked)
    if said.columns is not None:
        if header:
            raise DataError(f"{where} has a header, {listed(first)}: leave out --columns (columns=), or drop that line")
        if len(said.columns) > width:
            raise DataError(f"{where} has {width} columns, but {len(said.columns)} are named by --columns (columns=)")
        return replace(found, names=_padded(said.columns, width))
    is_list = len(roles) == width == 1  # of ids, a line each
    if header or not (is_list or any(map(_is_number, first))):
        if roles and not asked and _n_known(first, roles, asked) < 2:
            require_usual(first, roles, where, hint_of(every, is_head))
        names = _padded(first, len(first) + (1 if _has_empty_ends(rows) else 0))
        return replace(found, names=names, header=True, skip=skip + 1, guessed=not header)
    positions = ("item", "title") if "title" in roles else POSITIONS if len(roles) > 1 else tuple(roles)
    if width > len(positions) and "title" not in roles:
        raise DataError(
            f"{where} has no header and {width} columns, the first line is {listed(first)}: name them, - for one to"
            " leave out, such as --columns user,item,-,rating (columns=)"
        )
    _require_times(positions, [row[3] for row in rows if len(row) > 3], where)
    return replace(found, names=_padded(positions[:width], width), by_position=True)


def _require_times(positions: Sequence[str], fourth: Sequence[str], where: str) -> None:
    """Raise a DataError if the fourth column is taken for times, but holds small numbers: of decimal commas, say."""
    small = [text for text in fourth if _is_number(text) and len(re.sub(r"\D.*", "", text)) < 7]
    if positions == POSITIONS and fourth and len(small) == len(fourth):
        raise DataError(
            f"{where} has no header, and its fourth column holds no times, such as {fourth[0]!r}: name the columns with"
            " --columns (columns=), or the separator with --sep (sep=)"
        )


def is_header(first: Sequence[str], roles: Sequence[str], asked: Sequence[str]) -> bool:
    """Check whether a line holds names that are usual for the roles, or asked for."""
    return _n_known(first, roles, asked) > 0


def _n_known(first: Sequence[str], roles: Sequence[str], asked: Sequence[str]) -> int:
    """Count the fields that are usual names for the roles, or asked for."""
    wanted = {plain(name) for name in asked}
    return sum(plain(name) in wanted or any(is_usual(name, role) for role in roles) for name in first)


def _has_empty_ends(rows: Sequence[Sequence[str]]) -> bool:
    """Check whether most rows end in a separator that the header, the first of them, does not end in."""
    longer = [row for row in rows[1:] if len(row) == len(rows[0]) + 1]
    return len(longer) >= max(REGULAR * (len(rows) - 1), 1) and not any(row[-1].strip() for row in longer)


def is_quoted(sep: str) -> bool:
    """Check whether fields between these separators may be quoted."""
    return len(sep) == 1 and sep != BLANK


def _padded(names: Sequence[str], width: int) -> tuple[str, ...]:
    """Name the columns that are not read, and those past the last name, by their places."""
    given = [f"column {place + 1}" if name == SKIPPED else name for place, name in enumerate(names)]
    return *given, *(f"column {place + 1}" for place in range(len(names), width))


def _lines(head: bytes, whole: bool, where: str, encoding: str) -> list[str]:
    """Return the first lines, from the first that is not empty on; above it, empty ones stay.

    The last line of ``head`` counts only if there are no more bytes.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        text = decoder.decode(head, whole)
    except UnicodeDecodeError as error:
        raise not_text(where, encoding, error) from None
    lines = re.split(r"\r\n|\n|\r", text.removeprefix("\ufeff"))
    lines = lines if whole or len(lines) == 1 else lines[:-1]
    if not any(lines):
        raise DataError(f"{where} holds only empty lines: there are no rows")
    return lines


def not_text(where: str, encoding: str, error: object) -> DataError:
    """Return the error for bytes that are not text in an encoding."""
    return DataError(
        f"{where} is not text in {encoding} ({error}): name its encoding with --encoding, such as latin-1 (encoding=)"
    )


def split_lines(lines: Sequence[str], sep: str) -> list[list[str]]:
    """Split lines into fields."""
    if sep == BLANK:
        return [line.split() for line in lines]
    if not is_quoted(sep):
        return [line.split(sep) for line in lines]
    return list(islice(csv.reader((line + "\n" for line in lines), delimiter=sep), len(lines)))


def _separator(
    tables: dict[str, list[list[str]]], where: str, said: Layout, roles: Sequence[str], asked: Sequence[str]
) -> str:
    """Return the separator with which the lines are a table; raise a DataError if there are several."""
    regular = [sep for sep, rows in tables.items() if _is_regular(rows)]
    regular = [sep for sep in regular if sep != BLANK] or regular  # blanks stand in many fields
    named = [sep for sep in regular if is_header(tables[sep][0], roles, asked)]
    found = named or regular
    if len(found) > 1:
        clean = [sep for sep in found if _is_clean(tables[sep], found)]
        found = clean or found
    if len(found) > 1:
        seps = " or ".join(map(repr, found))
        raise DataError(f"{where} may have columns between {seps}: say which with --sep (sep=)")
    if found:
        return found[0]
    by_header = [sep for sep, rows in tables.items() if len(rows[0]) > 1 and is_header(rows[0], roles, asked)]
    return by_header[0] if len(by_header) == 1 else ","


def _is_regular(rows: Sequence[Sequence[str]]) -> bool:
    """Check whether most rows have as many fields as the first, and more than one."""
    width = len(rows[0]) if rows else 0
    return width > 1 and sum(len(row) == width for row in rows) >= REGULAR * len(rows)


def _is_clean(rows: Sequence[Sequence[str]], seps: Sequence[str]) -> bool:
    """Check whether no field holds another of the separators, but for a comma in a number."""
    fields = {field for row in rows for field in row}
    return not any(sep in field.strip() and not _is_number(field) for field in fields for sep in seps)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?\s*", text) is not None
