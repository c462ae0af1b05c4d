"""Columns of ratings and of weights as float32: checked, and the rows that hold none left out."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from fastmf.data import ids
from fastmf.data.read import as_array
from fastmf.errors import DataError
from fastmf.kernels.encode import TO_FLOAT32
from fastmf.kernels.tasks import even
from fastmf.runtime.device import resolve
from fastmf.runtime.launch import launch

# What can be wrong with a rating: how rows are counted by it, and how it is said.
FAULTS = {"null_ratings": "null", "nan_ratings": "NaN", "infinite_ratings": "infinite or beyond float32"}


def as_values(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """Turn a column of ratings into float32.

    Raises
    ------
    DataError
        If it does not hold numbers, or some are null, NaN, infinite or beyond float32.
    """
    values, faults = _checked(column, name)
    if faults:
        bad = ~np.isfinite(values)
        counts = ", ".join(f"{np.count_nonzero(rows):,} {FAULTS[fault]}" for fault, rows in faults.items())
        raise _refused(column, name, bad, f"ratings that are not finite numbers ({counts})")
    return values


def as_weights(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """Turn a column of weights into float32.

    Raises
    ------
    DataError
        If they are not finite numbers above 0.
    """
    weights, _ = _checked(column, name)
    bad = _no_weight(weights)
    if bad.any():
        raise _refused(column, name, bad, "weights that are no numbers above 0 in float32")
    return weights


def _refused(column: pa.ChunkedArray, name: str, bad: np.ndarray, what: str) -> DataError:
    first = int(np.flatnonzero(bad)[0])
    return DataError(
        f"column {name!r} has {int(bad.sum()):,} of {len(bad):,} {what}, the first in row {first:,} (from 0):"
        f" {column[first].as_py()}; correct or drop those rows (in a fit: --bad-rows drop, bad_rows=)"
    )


def _no_weight(weights: np.ndarray) -> np.ndarray:
    return ~(np.isfinite(weights) & (weights > 0))


def _checked(column: pa.ChunkedArray, name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Turn a column of numbers into float32, and find those that are not finite then: by fault, (n,) bool.

    Raises
    ------
    DataError
        If it does not hold numbers.
    """
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    numeric = types.is_integer(column.type) or types.is_floating(column.type) or types.is_decimal(column.type)
    if not numeric:
        raise DataError(
            f"column {name!r} holds {column.type}, not numbers ({len(column):,} rows, the first"
            f" {column[0].as_py()!r}): cast it to float first"
        )
    floats = types.is_float32(column.type) or types.is_float64(column.type)
    wide = as_array(column if floats else column.cast(pa.float64(), safe=False))  # nulls become NaN
    values = np.empty(len(wide), np.float32)
    if not launch(TO_FLOAT32, resolve("cpu"), even(len(wide), ids.ROWS_PER_TASK), wide, values):
        if not values.any() and wide.any():
            raise DataError(f"column {name!r} holds numbers too small for float32, which are all 0 there: rescale them")
        return values, {}
    nulls, nans = pc.is_null(column).to_numpy(), np.isnan(wide)
    found = zip(FAULTS, (nulls, nans & ~nulls, ~np.isfinite(values) & ~nans), strict=True)
    return values, {fault: rows for fault, rows in found if rows.any()}


def drop_bad(columns: list[pa.ChunkedArray], names: tuple[str, ...]) -> dict[str, int]:
    """Leave out rows of null ids, of ratings that are not finite, and of no weight; count each by its first fault."""
    columns[:2] = map(ids.large, columns[:2])
    good, dropped = np.ones(len(columns[0]), bool), {}
    faults = {"null_users": ids.nulls(columns[0]), "null_items": ids.nulls(columns[1])}
    faults |= _checked(columns[2], names[0])[1]
    if len(columns) > 3:
        faults["bad_weights"] = _no_weight(_checked(columns[3], names[1])[0])
    for fault, rows in faults.items():
        n = int(np.count_nonzero(rows & good))
        if n:
            dropped[fault] = n
        good &= ~rows
    try:
        columns[:] = [column.filter(pa.array(good)) for column in columns] if dropped else columns
    except pa.ArrowNotImplementedError:  # what cannot be filtered is no key either, which is found next
        return {}
    return dropped
