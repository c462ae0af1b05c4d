"""Arrow columns: made from any container of values, and returned as NumPy arrays."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import types

from fastmf.errors import DataError


def to_arrow(values: Any, name: str, kind: pa.DataType | None = None) -> pa.ChunkedArray:
    """Convert an array, list, iterator, series or Arrow array to an Arrow column.

    Raises a DataError if the values are not one-dimensional or mix types.
    """
    if isinstance(values, pa.ChunkedArray):
        return values
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise DataError(f"{name} has {values.ndim} dimensions: give one value for each row")
    if isinstance(values, str | bytes):
        raise DataError(f"{name} is one value, {values!r}: give one value for each row")
    try:
        array = values if isinstance(values, pa.Array) else _array(values, kind)
    except (pa.ArrowException, TypeError, OverflowError, ValueError) as error:
        raise DataError(f"{name} cannot be read as one column of one type: {error}") from None
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


def _array(values: Any, kind: pa.DataType | None) -> pa.Array | pa.ChunkedArray:
    if not hasattr(values, "__len__"):
        values = list(values)
    if isinstance(values, list | tuple) and values and isinstance(values[0], pd.Timestamp | pd.Timedelta):
        values = pd.Series(list(values))  # Arrow would cut them to microseconds
    masked = isinstance(values, np.ma.MaskedArray)  # Arrow reads the mask
    if isinstance(values, np.ndarray) and not masked and values.dtype.kind not in "OUS":
        values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    try:
        return pa.array(values, type=kind)
    except OverflowError:  # Arrow reads Python integers as int64, and these are larger
        return pa.array(values, type=pa.uint64())


def as_array(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of numbers as one read-only array, like Arrow's own: kernels are compiled for read-only ones."""
    array = column.to_numpy().view()
    array.flags.writeable = False
    return array


def is_text(kind: pa.DataType) -> bool:
    """Check whether a type is text or bytes of any length, stored as offsets and data."""
    return kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def large(column: Any) -> Any:
    """Convert text and bytes, in an array or in chunks, to large_string and large_binary."""
    if types.is_string(column.type) or types.is_string_view(column.type):
        return column.cast(pa.large_string())
    if types.is_binary(column.type) or types.is_binary_view(column.type):
        return column.cast(pa.large_binary())
    return column


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Replace the codes of a dictionary-encoded column with their values."""
    kind = column.type.value_type
    if types.is_string_view(kind) or types.is_binary_view(kind):  # Polars makes these, and Arrow cannot decode them
        kind = pa.large_string() if types.is_string_view(kind) else pa.large_binary()
        column = column.cast(pa.dictionary(column.type.index_type, kind))
    return column.cast(kind)
