"""Arrow columns: made from any container of values, and returned as NumPy arrays.

pandas takes a quarter of a second to import, and Arrow imports it in ``pa.array(…)`` and ``array.to_numpy()``. So the
arrays of a fit go through :func:`from_numpy` and :func:`to_numpy`; pandas and pyarrow.compute are imported in the
functions that need them.
"""

import sys
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import types

from fastmf.errors import DataError, counted


def to_arrow(values: Any, name: str, kind: pa.DataType | None = None) -> pa.ChunkedArray:
    """Convert an array, list, iterator, series or Arrow array to an Arrow column.

    Raises a DataError if the values are not one-dimensional or mix types.
    """
    if isinstance(values, pa.ChunkedArray):
        return values
    if getattr(values, "ndim", 1) != 1:  # of arrays and frames
        raise DataError(f"{name} has {counted(values.ndim, 'dimension')}: give one value for each row")
    if isinstance(values, str | bytes):
        raise DataError(f"{name} is one value, {values!r}: give one value for each row")
    try:
        array = values if isinstance(values, pa.Array) else _array(values, kind)
    except (pa.ArrowException, TypeError, OverflowError, ValueError, LookupError, AttributeError) as error:
        raise DataError(f"{name} cannot be read as one column of one type: {error}") from None
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


def _array(values: Any, kind: pa.DataType | None) -> pa.Array | pa.ChunkedArray:
    if not hasattr(values, "__len__"):
        values = list(values)
    if isinstance(values, list | tuple) and values and is_of_pandas(values[0], "Timestamp", "Timedelta"):
        values = sys.modules["pandas"].Series(list(values))  # Arrow would cut them to microseconds
    masked = isinstance(values, np.ma.MaskedArray)  # Arrow reads the mask
    if isinstance(values, np.ndarray) and not masked and values.dtype.kind not in "OUS":
        values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    try:
        return pa.array(values, type=kind)
    except OverflowError:  # Arrow reads Python integers as int64, and these are larger
        return pa.array(values, type=pa.uint64())


def is_of_pandas(value: Any, *names: str) -> bool:
    """Check whether a value is of one of pandas' classes. Imports nothing: whoever made such a value did."""
    pandas = sys.modules.get("pandas")
    return any(isinstance(value, getattr(pandas, name, ())) for name in names)


def to_numpy(array: pa.Array) -> np.ndarray:
    """View integers or floats without nulls as a read-only NumPy array."""
    return np.from_dlpack(array)


def from_numpy(values: np.ndarray, kind: pa.DataType | None = None, valid: np.ndarray | None = None) -> pa.Array:
    """View integers or floats (n,) as an Arrow array: of the same type, or of another that is as wide.

    Values are null where ``valid`` (n,) bool is False.
    """
    given = pa.from_numpy_dtype(values.dtype) if kind is None else kind
    bits = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(given, len(values), [bits, pa.py_buffer(np.ascontiguousarray(values))])


def filled(array: pa.Array, missing: int) -> np.ndarray:
    """Return an array of integers as NumPy's, with ``missing`` in place of nulls."""
    if array.null_count == 0:
        return to_numpy(array)
    bits, data = array.buffers()
    there = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")[array.offset :][: len(array)]
    values = pa.Array.from_buffers(array.type, len(array), [None, data], offset=array.offset)
    return np.where(there, to_numpy(values), missing)


def as_array(column: pa.ChunkedArray, dtype: Any = None) -> np.ndarray:
    """Return a column of numbers as one read-only array, like Arrow's own: kernels are compiled for read-only ones.

    Nulls become NaN. Integers that do not fit into the ``dtype`` wrap around.
    """
    if column.null_count or column.num_chunks == 0:
        array = column.to_numpy()
    elif column.num_chunks == 1:
        array = to_numpy(column.chunk(0))
    else:
        array = np.concatenate([to_numpy(chunk) for chunk in column.chunks])
    array = array.astype(dtype or array.dtype, copy=False).view()
    array.flags.writeable = False
    return array


def are_whole(values: np.ndarray) -> bool:
    """Check whether floats are all whole numbers, small enough that each has a float of its own."""
    exact = 2.0 ** (np.finfo(values.dtype).nmant + 1)
    return bool(np.array_equal(values, np.rint(values)) and np.abs(values).max(initial=0) < exact)


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
