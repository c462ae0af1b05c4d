"""Weights by age: a row that is ``age`` days older than the newest training row weighs 2^(-age / half-life)."""

import contextlib
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import types

from fastmf.data.arrow import as_array, decoded, large
from fastmf.errors import DataError, ParameterError, require_choice, require_number

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # ticks per second
DAY = 86_400  # seconds
PLAUSIBLE = 3_652, 47_482  # days from 1970 to 1980 and to 2100: where the newest rating should be
NUMBER, DATE = r"^[+-]?\d+(\.\d*)?$", r"^[+-]?\d{4,}-\d{2}-\d{2}([T ]\d{2}.*)?$"
ISO = tuple(pa.timestamp(unit, zone) for unit in ("us", "ns") for zone in (None, "UTC"))
LEAST = np.finfo(np.float32).tiny  # the smallest weight: below it, float32 loses digits, and then becomes 0


@dataclass(frozen=True, kw_only=True)
class HalfLife:
    """How ratings lose weight with age, as plain data.

    Attributes
    ----------
    days : the age at which a rating weighs half.
    timestamp : name of the column of times.
    time_unit : unit of times that are numbers: "s", "ms", "us" or "ns".
    newest : the time of the newest training row, in days since 1970.
    """

    days: float
    timestamp: str
    time_unit: str
    newest: float

    def describe(self) -> str:
        """Return the days and the newest row's date, for messages."""
        return f"{self.days:g} days before {_date(self.newest)}"

    def weigh(self, when: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """Return the weights (n,) float32 of rows at times ``when`` (n,) in days, times their own weights, if any.

        Rows newer than ``newest`` weigh as much as it. Weights below float32 are raised to the smallest it has, with a
        warning.
        """
        ages = np.maximum(self.newest - when, 0)
        with np.errstate(over="ignore", under="ignore"):
            found = np.exp2(-ages / self.days) * (1 if weights is None else weights)
        faint = found < LEAST
        if faint.any():
            warnings.warn(
                f"{np.count_nonzero(faint):,} of {len(found):,} rows are so old that their weights are below float32"
                f" (up to {ages.max():,.0f} days, at a half-life of {self.days:g}): they get the smallest, {LEAST:.2g}",
                stacklevel=6,
            )
        return np.maximum(found, LEAST).astype(np.float32)


class Aging(NamedTuple):
    """A half-life that is asked for: its days, and the column, unit and newest time of :class:`HalfLife`.

    Without ``timestamp`` the usual name is tried; without ``newest`` it is the time of the newest row that is read.
    """

    days: float
    timestamp: str | None
    time_unit: str
    newest: float | None

    def of(self, kind: pa.DataType, name: str, newest: float) -> HalfLife:
        """Return the half-life of rows whose newest time is known, in days; warn of a wrong unit of their column."""
        _warn_of_unit(kind, name, self.time_unit, newest)
        since = newest if self.newest is None else self.newest
        return HalfLife(days=self.days, timestamp=name, time_unit=self.time_unit, newest=since)


def aging_of(half_life: float | HalfLife | None, timestamp: str | None, time_unit: str | None) -> Aging | None:
    """Return the half-life that is asked for; None without one.

    Raises a ParameterError unless it is a number of days above 0, or if the other arguments come without one.
    """
    if isinstance(half_life, HalfLife):
        return Aging(half_life.days, half_life.timestamp, half_life.time_unit, half_life.newest)
    if half_life is None:
        for name, value in {"timestamp": timestamp, "time_unit": time_unit}.items():
            if value is not None:
                raise ParameterError(f"{name} is {value!r}, but there is no half_life: give one, or leave it out")
        return None
    require_number("half_life", half_life, low=0, above=True)
    unit = "s" if time_unit is None else time_unit
    require_choice("time_unit", unit, UNITS)
    return Aging(float(half_life), timestamp, unit, None)


def to_days(column: pa.ChunkedArray, name: str, time_unit: str) -> np.ndarray:
    """Return times in days since 1970, (n,) float64; NaN for times that are null or not finite.

    Raises a DataError unless they are timestamps, dates or numbers, or text that holds either.
    """
    column = of_text(column, name)
    kind = column.type
    if types.is_timestamp(kind) or types.is_date(kind):
        per_day = 1 if types.is_date32(kind) else DAY * UNITS["ms" if types.is_date64(kind) else kind.unit]
        column = column.cast(pa.int32() if types.is_date32(kind) else pa.int64())
    elif types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        per_day = DAY * UNITS[time_unit]
        column = column.cast(pa.float64(), safe=False) if types.is_decimal(kind) else column
    else:
        raise DataError(
            f"column {name!r} holds {kind}, not times ({len(column):,} rows, the first {column[0].as_py()!r}): cast it"
            " to timestamp, or to numbers and name their unit (--time-unit, time_unit=)"
        )
    days = as_array(column, np.float64) / per_day
    return np.where(np.isfinite(days), days, np.nan)


def of_text(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Parse a column of text as numbers or as ISO 8601 dates; return columns of other types as they are, decoded.

    As text, "999999999" would sort after "1000000001". Raises a DataError if a row is neither, or if they are mixed.
    """
    import pyarrow.compute as pc

    column = large(decoded(column) if types.is_dictionary(column.type) else column)
    if not types.is_large_string(column.type):
        return column
    text = pc.utf8_trim_whitespace(column)
    numeric = pc.fill_null(pc.match_substring_regex(text, NUMBER), True)
    for kind in (pa.int64(), pa.float64()) if pc.all(numeric).as_py() else ISO:
        with contextlib.suppress(pa.ArrowInvalid):
            return text.cast(kind)
    dated = pc.fill_null(pc.match_substring_regex(text, DATE), True)
    wrong = pc.invert(pc.if_else(pc.any(dated), dated, numeric))  # of the rows that are like most
    place = pc.index(wrong, True).as_py()
    which = "some have a time zone and others have none, or are dates that do not exist"
    if place >= 0:
        which = f"{pc.sum(wrong).as_py():,} of {len(text):,} rows, the first {text[place].as_py()!r} in row {place:,}"
    raise DataError(
        f"column {name!r} holds text that is not all numbers, nor all ISO dates such as 2026-01-31 ({which}): cast it"
        " to timestamp or to numbers"
    )


def _warn_of_unit(kind: pa.DataType, name: str, time_unit: str, newest: float) -> None:
    """Warn if times that are numbers look like another unit; ``newest`` is the newest of them in days."""
    low, high = PLAUSIBLE
    if types.is_temporal(kind) or low <= newest < high:
        return
    for unit, ticks in UNITS.items():
        days = newest * UNITS[time_unit] / ticks
        if low <= days < high:
            warnings.warn(
                f"the times in column {name!r} look like {unit}, not {time_unit}: the newest would be of {_date(days)}"
                f" instead of {_date(newest)}; give --time-unit {unit} (time_unit=)",
                stacklevel=7,
            )


def _date(days: float) -> str:
    """Format days since 1970 as a date, or far from today as a year."""
    return str(np.datetime64(int(days), "D")) if abs(days) < 10**6 else f"the year {1970 + days / 365.2425:,.0f}"
