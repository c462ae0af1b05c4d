"""Rows that cannot be used: null ids, ratings that are not finite, weights that are not above 0, times that are null.

An error states their count and the first of them; with ``bad_rows="drop"`` they are dropped and counted by reason.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from pyarrow import types

from fastmf.data.arrow import as_array, large
from fastmf.data.times import to_days
from fastmf.errors import DataError, counted
from fastmf.kernels.encode import TO_FLOAT32
from fastmf.kernels.tasks import even
from fastmf.runtime.device import resolve
from fastmf.runtime.launch import launch

ROWS_PER_TASK = 1 << 16

# What can be wrong with a rating: the reason it is counted under, and its name in messages.
FAULTS = {"null_ratings": "null", "nan_ratings": "NaN", "infinite_ratings": "infinite or beyond float32"}


def require_no_nulls(column: pa.ChunkedArray, name: str) -> None:
    """Raise a DataError if some ids are null."""
    nulls = _is_null(column) if column.null_count or types.is_floating(column.type) else np.empty(0, bool)
    if nulls.any():
        raise DataError(
            f"column {name!r} has {counted(int(np.count_nonzero(nulls)), 'null id')}, the first in row"
            f" {int(np.argmax(nulls)):,} (from 0): fill them in or drop those rows"
            " (in a fit: --bad-rows drop, bad_rows=)"
        )


def as_values(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """Return a column of ratings as float32; raise a DataError unless all are numbers, finite in float32."""
    values, faults = _to_float32(column, name)
    if faults:
        bad = ~np.isfinite(values)
        counts = ", ".join(f"{np.count_nonzero(rows):,} {FAULTS[fault]}" for fault, rows in faults.items())
        raise _refusal(column, name, bad, f"ratings that are not finite numbers ({counts})")
    return values


def as_weights(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """Return a column of weights as float32; raise a DataError unless all are finite numbers above 0."""
    weights, _ = _to_float32(column, name)
    bad = _is_no_weight(weights)
    if bad.any():
        raise _refusal(column, name, bad, "weights that are not finite numbers above 0 in float32")
    return weights


def as_days(column: pa.ChunkedArray, name: str, time_unit: str) -> np.ndarray:
    """Return a column of times as days since 1970, float64; raise a DataError if some are null or not finite."""
    days = to_days(column, name, time_unit)
    bad = np.isnan(days)
    if bad.any():
        raise _refusal(column, name, bad, "timestamps that are null or not finite")
    return days


def drop_bad_rows(columns: list[pa.ChunkedArray], names: Sequence[str], time_unit: str | None = None) -> dict[str, int]:
    """Drop bad rows, in place, from the columns of users, items, ratings and, if there are any, weights and times.

    There are times if there is a ``time_unit``. Returns the number of rows dropped for each reason; a row with several
    faults counts under the first. Raises a DataError if no row is left.
    """
    good, dropped = good_rows(columns, names, time_unit)
    require_any_good(len(good), dropped)
    if dropped:
        keep_good(columns, good)
    return dropped


def good_rows(
    columns: list[pa.ChunkedArray], names: Sequence[str], time_unit: str | None
) -> tuple[np.ndarray, dict[str, int]]:
    """Return which rows :func:`drop_bad_rows` keeps, (n,) bool, and how many are bad, by reason."""
    columns[:2] = map(large, columns[:2])
    good, dropped = np.ones(len(columns[0]), bool), {}
    faults = {"null_users": _is_null(columns[0]), "null_items": _is_null(columns[1])}
    faults |= _to_float32(columns[2], names[2])[1]
    if len(columns) > 3 + (time_unit is not None):
        faults["bad_weights"] = _is_no_weight(_to_float32(columns[3], names[3])[0])
    if time_unit is not None:
        faults["bad_timestamps"] = np.isnan(to_days(columns[-1], names[-1], time_unit))
    for fault, rows in faults.items():
        n = int(np.count_nonzero(rows & good))
        if n:
            dropped[fault] = n
        good &= ~rows
    return good, dropped


def require_any_good(n_rows: int, dropped: Mapping[str, int]) -> None:
    """Raise a DataError if all rows are bad."""
    if n_rows == sum(dropped.values()):
        raise DataError(f"there are no ratings left: all {n_rows:,} rows are bad ({listed_faults(dropped)})")


def keep_good(columns: list[pa.ChunkedArray], good: np.ndarray) -> None:
    """Keep the rows of columns, in place, that are good, (n,) bool."""
    try:
        columns[:] = [column.filter(pa.array(good)) for column in columns]
    except pa.ArrowNotImplementedError as error:
        raise DataError(f"bad rows of these columns cannot be dropped ({error}): cast ids to int64 or string") from None


def listed_faults(dropped: Mapping[str, int]) -> str:
    """List how many rows are bad, by reason."""
    return ", ".join(f"{name} {n:,}" for name, n in dropped.items())


def _is_null(ids: pa.ChunkedArray) -> np.ndarray:
    """Mark the rows, (n,) bool, whose id is null or points to a null in the dictionary."""
    if types.is_dictionary(ids.type):
        found = [chunk.dictionary.is_null().take(chunk.indices).fill_null(True) for chunk in ids.chunks]
    else:
        found = [chunk.is_null(nan_is_null=types.is_floating(ids.type)) for chunk in ids.chunks]
    return np.asarray(pa.chunked_array(found, pa.bool_()).to_numpy())


def is_number(kind: pa.DataType) -> bool:
    """Check whether a column of this type can hold ratings."""
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)


def _is_no_weight(weights: np.ndarray) -> np.ndarray:
    return ~(np.isfinite(weights) & (weights > 0))


def _to_float32(column: pa.ChunkedArray, name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return a column of numbers as float32, and for each fault a mask (n,) bool of the rows that have it.

    Raises a DataError if the column does not hold numbers, or if float32 rounds all of them to 0.
    """
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not is_number(column.type):
        raise DataError(
            f"column {name!r} holds {column.type}, not numbers ({len(column):,} rows, the first"
            f" {column[0].as_py()!r}): cast it to float first"
        )
    floats = types.is_float32(column.type) or types.is_float64(column.type)
    decimal = types.is_decimal(column.type)
    wide = as_array(column.cast(pa.float64(), safe=False) if decimal else column, None if floats else np.float64)
    values = np.empty(len(wide), np.float32)
    if not launch(TO_FLOAT32, resolve("cpu"), even(len(wide), ROWS_PER_TASK), wide, values):
        if not values.any() and wide.any():
            raise DataError(f"column {name!r} holds numbers too small for float32, where all become 0: rescale them")
        return values, {}
    nulls, nans = column.is_null().to_numpy(), np.isnan(wide)
    found = zip(FAULTS, (nulls, nans & ~nulls, ~np.isfinite(values) & ~nans), strict=True)
    return values, {fault: rows for fault, rows in found if rows.any()}


def _refusal(column: pa.ChunkedArray, name: str, bad: np.ndarray, what: str) -> DataError:
    first = int(np.flatnonzero(bad)[0])
    return DataError(
        f"column {name!r} has {int(bad.sum()):,} of {len(bad):,} {what}, the first in row {first:,} (from 0):"
        f" {column[first].as_py()}; correct or drop those rows (in a fit: --bad-rows drop, bad_rows=)"
    )
