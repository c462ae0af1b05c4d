"""The values of a text column: ids, numbers, and what else text can stand for.

An id must come back as it was written. So integers are made of text only if they are written as Python writes them:
007, +7 and 7.0 stay text. All conversions can be undone, so that a long column may be converted piece by piece.
"""

import re
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import types

from fastmf.errors import DataError

MISSING = ("", "na", "n/a", "nan", "null", "none", "\\n")  # what a number may say, in any case, where it is missing
TRUTH = {"true": True, "false": False}


class Numbers(NamedTuple):
    """Numbers read from text: float64 values, null where one is missing or unreadable.

    unreadable (n,) bool marks texts that are no numbers; None if there are none. marks : the first number that is
    written with each decimal mark, as far as they were looked at: "." or "," or, if it may also be an integer with its
    thousands apart, ",000".
    """

    values: pa.Array
    unreadable: np.ndarray | None
    marks: dict[str, str]

    def broken(self) -> list[float]:
        """Return the values that are not whole, and so were written with a decimal mark."""
        values = self.values.to_numpy(zero_copy_only=False)
        return values[np.isfinite(values) & (values != np.rint(values))].tolist()


def as_key(text: pa.Array) -> pa.Array:
    """Return texts as int64 or uint64 if all of them are integers as Python writes them, else as they are."""
    for kind in (pa.int64(), pa.uint64()):
        try:
            numbers = text.cast(kind)
        except pa.ArrowInvalid:
            continue
        if numbers.cast(text.type).equals(text):
            return numbers
    return text


def joined_keys(chunks: list[pa.Array]) -> pa.ChunkedArray:
    """Join arrays of :func:`as_key` to a column of one type: text if one of them is text."""
    kinds = {chunk.type for chunk in chunks if chunk.null_count < len(chunk)}
    if len(kinds) > 1:
        kind = pa.uint64() if kinds == {pa.int64(), pa.uint64()} and _none_below_0(chunks) else pa.string()
    else:
        kind = kinds.pop() if kinds else pa.int64()
    column = pa.chunked_array([chunk.cast(kind) for chunk in chunks], kind)
    return _as_floats(column) if types.is_string(kind) else column


def _none_below_0(chunks: list[pa.Array]) -> bool:
    import pyarrow.compute as pc

    return all((pc.min(chunk).as_py() or 0) >= 0 for chunk in chunks)


def _as_floats(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return texts as float64 if all are integers written with .0, as pandas writes ids among nulls."""
    import pyarrow.compute as pc

    first = next((chunk[0].as_py() for chunk in column.drop_null().chunks if len(chunk)), "")
    if not first.endswith(".0"):
        return column
    whole = pc.all(pc.match_substring_regex(column, r"^(0|-?[1-9]\d{0,15})\.0$")).as_py()
    return column.cast(pa.float64()) if whole else column


def as_numbers(text: pa.Array, decimal: str | None) -> Numbers:
    """Return texts as float64. ``decimal`` is the decimal mark, "." or ","; None accepts either."""
    try:
        if decimal != ",":
            return Numbers(text.cast(pa.float64()), None, {})
    except pa.ArrowInvalid:
        pass
    coded = text.dictionary_encode()
    found, bad = [], []
    marks: dict[str, str] = {}
    for each in coded.dictionary.to_pylist():
        number, mark = _number(each.strip(), decimal)
        found.append(number)
        bad.append(number is None and each.strip().casefold() not in MISSING)
        if number is not None and mark:
            marks.setdefault(mark, each)
    values = pa.array(found, pa.float64()).take(coded.indices)
    unreadable = None
    if any(bad):
        unreadable = np.asarray(pa.array(bad).take(coded.indices).fill_null(False).to_numpy(zero_copy_only=False))
    return Numbers(values, unreadable, marks)


def _number(text: str, decimal: str | None) -> tuple[float | None, str]:
    """Parse a number, None if it is none; also return the decimal mark that it has, if any."""
    marks = [mark for mark in ".," if mark in text]
    if len(marks) > 1 or (decimal and marks not in ([], [decimal])) or "_" in text or text.casefold() in MISSING:
        return None, ""
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        return None, ""
    thousands = marks == [","] and re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", text)
    return number, ",000" if thousands else "".join(marks)


def inferred(column: pa.ChunkedArray, decimal: str | None) -> pa.ChunkedArray:
    """Return a column of text as what all of its texts stand for.

    These are, in this order: integers, numbers, booleans, dates, times, times with a zone; else text.
    """
    text = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if text.null_count == len(text):
        return column
    kinds = pa.date32(), pa.timestamp("us"), pa.timestamp("us", "UTC")
    found = as_key(text)
    if types.is_string(found.type):
        found = _as_measures(text, decimal)
    if found is None:
        found = _as_truth(text)
    for kind in kinds:
        if found is None:
            try:
                found = text.cast(kind)
            except pa.ArrowInvalid:
                continue
    return pa.chunked_array([text if found is None else found])


def _as_measures(text: pa.Array, decimal: str | None) -> pa.Array | None:
    """Return texts as float64, or None if they are not all numbers. Zeros in front, as in a postcode, make text."""
    import pyarrow.compute as pc

    if pc.any(pc.match_substring_regex(text, r"^[+-]?0\d")).as_py():
        return None
    numbers = as_numbers(text, decimal or ".")
    return None if numbers.unreadable is not None or numbers.values.null_count == len(text) else numbers.values


def _as_truth(text: pa.Array) -> pa.Array | None:
    coded = text.dictionary_encode()
    found = [TRUTH.get(each.casefold()) for each in coded.dictionary.to_pylist()]
    return None if None in found else pa.array(found, pa.bool_()).take(coded.indices)


def require_one_mark(marks: dict[str, str], what: str) -> bool:
    """Return whether the decimal mark of numbers is the comma; raise a DataError if that is not certain.

    ``marks`` is that of :class:`Numbers`; ``what`` names the column.
    """
    comma = marks.get(",") or marks.get(",000")
    if comma and "." in marks:
        raise DataError(f"{what} holds {comma!r} and {marks['.']!r}: write all numbers with one decimal mark")
    if comma and "," not in marks:
        raise DataError(
            f"{what} holds {comma!r}: is that {comma.replace(',', '.')} or {comma.replace(',', '')}? Name the decimal"
            " mark with --decimal , (decimal=), or write it without the comma"
        )
    return comma is not None
