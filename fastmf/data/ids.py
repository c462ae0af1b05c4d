"""Raw ids as dense indices: the sorted distinct keys, as an Arrow array, and for each row the index of its key.

Keys are integers, strings, binaries, UUIDs, booleans, dates, times, timestamps and durations. All strings become
large_string and all binaries large_binary; every other key keeps its Arrow type and so comes back as given.
"""

import datetime
import json
import uuid
import warnings
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import types

from fastmf.data.arrow import are_whole, as_array, decoded, filled, from_numpy, is_text, large, to_arrow, to_numpy
from fastmf.data.bad_rows import require_no_nulls
from fastmf.errors import DataError, UnknownIdError
from fastmf.kernels.encode import LOOK_UP, MARK_KEYS
from fastmf.kernels.tasks import even
from fastmf.runtime.device import resolve
from fastmf.runtime.launch import launch
from fastmf.runtime.threads import spread

if TYPE_CHECKING:
    import pandas as pd

# Integers are encoded by a table if their range is below CLOSE times the number of rows, or below CLOSE_AT_LEAST.
CLOSE, CLOSE_AT_LEAST = 2, 1 << 16

ROWS_PER_TASK = 1 << 16  # enough to outweigh the cost of starting a task

# One search among the sorted ids takes as long as hashing this many of them.
FEW = 16


def encode(column: pa.ChunkedArray, name: str) -> tuple[np.ndarray, pa.Array]:
    """Replace keys by their place among the sorted distinct keys.

    Returns the places (n,) int32 and the sorted distinct keys. Errors call the column ``name``.

    Raises
    ------
    DataError
        If there are nulls, or the keys are of a type that ids cannot have (floats, decimals, nested types).
    """
    encoded = _coded_text(_hashed(column) if is_text(column.type) and len(column) else column)
    column = keys(column, name) if encoded is None else encoded
    if len(column) == 0:
        return np.empty(0, np.int32), pa.array([], column.type)
    if types.is_integer(column.type):
        low, high = _limits(column)
        if high - low < max(CLOSE * len(column), CLOSE_AT_LEAST):
            return _encode_close(column, low, high)
    kind = column.type
    if encoded is None:
        encoded = _hashed(_storage(column)).unify_dictionaries()
    del column  # its memory is needed for the indices
    indices, found = _encode_dictionary(encoded)
    found = _restored(large(found), kind)
    if types.is_temporal(kind):
        _require_python(found, name)
    return indices, found


def _require_python(ids: pa.Array, name: str) -> None:
    """Raise a DataError for dates and times that only Arrow can hold: before the year 1, or past 24:00."""
    try:
        to_pandas(ids.take(pa.array([0, len(ids) - 1])))
    except (ValueError, OverflowError, pa.ArrowException) as error:
        raise DataError(
            f"column {name!r} has ids out of the range of {ids.type} ({error}): correct them, or cast them to int64"
        ) from None


def _limits(column: pa.ChunkedArray) -> tuple[int, int]:
    """Return the lowest and the highest of a column of integers."""
    chunks = [to_numpy(chunk) for chunk in column.chunks if len(chunk)]
    return min(int(chunk.min()) for chunk in chunks), max(int(chunk.max()) for chunk in chunks)


def _encode_close(column: pa.ChunkedArray, low: int, high: int) -> tuple[np.ndarray, pa.Array]:
    """Encode integers from low to high with a table that has a place for each."""
    dtype = column.type.to_pandas_dtype()
    numbers = as_array(column, np.int32 if column.type == pa.int32() else np.int64)
    start = np.array([low], dtype).astype(np.int64)[0]  # large unsigned ones turn negative, as in ``numbers``
    present = _marked(numbers, start, high - low + 1)
    indices = _looked_up(numbers, start, np.cumsum(present, dtype=np.int32) - np.int32(1))
    return indices, from_numpy((np.flatnonzero(present) + start).astype(dtype), column.type)


def _encode_dictionary(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Encode a column whose chunks share one dictionary. It may hold unused keys, or a key twice."""
    import pyarrow.compute as pc

    codes = as_array(pa.chunked_array([chunk.indices for chunk in column.chunks]).cast(pa.int32()))
    dictionary = column.chunk(0).dictionary
    start = np.int64(0)
    used = np.flatnonzero(_marked(codes, start, len(dictionary)))
    once = dictionary.take(from_numpy(used)).dictionary_encode()
    order = pc.array_sort_indices(once.dictionary)
    rank = np.empty(len(order), np.int32)
    rank[to_numpy(order)] = np.arange(len(order), dtype=np.int32)
    table = np.zeros(len(dictionary), np.int32)
    table[used] = rank[to_numpy(once.indices)]
    return _looked_up(codes, start, table), once.dictionary.take(order)


def _marked(numbers: np.ndarray, start: np.int64, size: int) -> np.ndarray:
    present = np.zeros(size, np.uint8)
    launch(MARK_KEYS, resolve("cpu"), even(len(numbers), ROWS_PER_TASK), numbers, start, present)
    return present


def _looked_up(numbers: np.ndarray, start: np.int64, table: np.ndarray) -> np.ndarray:
    indices = np.empty(len(numbers), np.int32)
    launch(LOOK_UP, resolve("cpu"), even(len(numbers), ROWS_PER_TASK), numbers, start, table, indices)
    return indices


def _hashed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Encode keys with Arrow's hash table, one run of rows per core; each run has its own dictionary."""
    n, n_parts = len(column), max(1, min(resolve("cpu").threads, len(column) // ROWS_PER_TASK))
    bounds = [n * part // n_parts for part in range(n_parts + 1)]
    slices = [column.slice(start, stop - start) for start, stop in pairwise(bounds)]
    parts = spread(lambda part: part.dictionary_encode().chunks, slices, n_parts)
    return pa.chunked_array([chunk for part in parts for chunk in part])


def _coded_text(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Unify the dictionaries of a column of valid text or bytes without nulls; return None for any other."""
    if not types.is_dictionary(column.type) or not is_text(column.type.value_type):
        return None
    if len(column) == 0 or column.null_count:
        return None
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return None
    unified = column.unify_dictionaries()
    return None if unified.chunk(0).dictionary.null_count else unified


def keys(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Convert keys to the one layout used for their type; see :func:`encode` for errors."""
    if types.is_dictionary(column.type):
        column = decoded(column)
    column = large(column)
    if types.is_null(column.type) and len(column) == 0:
        column = column.cast(pa.int64())
    require_no_nulls(column, name)
    if types.is_floating(column.type):
        column = _whole(column, name)
    if not is_key(column.type):
        number = types.is_floating(column.type) or types.is_decimal(column.type)
        first = f", the first {column[0]}" if len(column) else ""
        raise DataError(
            f"column {name!r} holds {column.type}, which cannot be an id ({len(column):,} rows{first}):"
            f" cast it to {'int64 or ' if number else ''}string first"
        )
    if types.is_large_string(column.type):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            problem = f"holds text that is not UTF-8 ({error}): cast it to binary first"
            raise DataError(f"column {name!r} {problem}") from None
    return column


def _whole(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Return floats that are all whole numbers as the integers they were before pandas had nulls to hold."""
    values = as_array(column)
    if not len(values) or not are_whole(values):
        return column
    warnings.warn(f"column {name!r} holds integers as {column.type}: its ids are taken as int64", stacklevel=5)
    return pa.chunked_array([from_numpy(values.astype(np.int64))])


def is_key(kind: pa.DataType) -> bool:
    """Check whether keys can be of this type, in the layout of :func:`keys`."""
    temporal = types.is_temporal(kind) and not types.is_interval(kind) and kind != pa.time64("ns")  # no Python value
    plain = types.is_integer(kind) or types.is_boolean(kind) or temporal
    text = types.is_large_string(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    return plain or text or is_uuid(kind)


def is_uuid(kind: pa.DataType) -> bool:
    """Check whether an Arrow type is the UUID extension type."""
    return isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.uuid"


def _storage(column: Any) -> Any:
    """Return the 16-byte binaries of UUIDs, and any other column as it is."""
    if not is_uuid(column.type):
        return column
    if isinstance(column, pa.ChunkedArray):
        return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    return column.storage


def _restored(array: pa.Array, key_type: pa.DataType) -> pa.Array:
    return pa.ExtensionArray.from_storage(key_type, array) if is_uuid(key_type) else array


def lookup(ids: pa.Array, wanted: Any, name: str) -> np.ndarray:
    """Find the index of each key among the ids, (n,) int32; -1 for unknown keys.

    Parameters
    ----------
    ids : distinct keys, as :func:`encode` returns them.
    wanted : keys of the same kind in any container; they match by value, whatever their width, sign or unit.
    name : what to call them in an error.

    Raises
    ------
    DataError
        If there are nulls, or the keys are of a different kind from the ids.
    """
    column = as_column(ids, wanted, name)
    if len(column) == 0:
        return np.empty(0, np.int32)
    given = keys(column, name)
    different = f"{name} ids of type {given.type} cannot be found among ids of type {ids.type}: cast them first"
    if _kind(given.type) != _kind(ids.type):
        raise DataError(different)
    if types.is_integer(ids.type):
        given = _as_integers(given, ids.type)
    elif _kind(ids.type) == "binary":
        given, ids = given.cast(pa.large_binary()), ids.cast(pa.large_binary())
    elif given.type != ids.type:
        try:
            given = given.cast(ids.type)
        except pa.ArrowException:
            raise DataError(different) from None
    found = _found(_storage(ids), _storage(given).combine_chunks())
    return np.ascontiguousarray(filled(found, -1), np.int32)


def _found(ids: pa.Array, wanted: pa.Array) -> pa.Array:
    """Find the places of keys among sorted ids, null for unknown keys. Many keys go through a hash table."""
    import pyarrow.compute as pc

    if len(wanted) * FEW > len(ids) or types.is_fixed_size_binary(ids.type):  # Arrow does not search these
        return pc.index_in(wanted, value_set=ids)
    places = pc.search_sorted(ids, wanted).cast(pa.int64())
    places = pc.min_element_wise(places, pa.scalar(len(ids) - 1), skip_nulls=False)
    return pc.if_else(pc.equal(ids.take(places), wanted), places, None)


def union(ids: pa.Array, more: pa.Array, name: str) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """Merge two arrays of sorted distinct keys, as :func:`encode` returns them.

    Returns all keys, sorted, in the type of ``ids``, and the places of ``ids`` and of ``more`` among them, int32.

    Raises
    ------
    DataError
        If the keys are of different kinds, or one of ``more`` does not fit the type of ``ids``.
    """
    places, old = lookup(ids, more, name), np.arange(len(ids), dtype=np.int32)
    new = np.flatnonzero(places < 0)
    if not len(new):
        return ids, old, places
    try:
        further = _storage(more.take(from_numpy(new))).cast(_storage(ids).type)
    except pa.ArrowException:
        raise DataError(f"{name} ids of type {more.type} do not all fit into {ids.type}: cast them first") from None
    found, merged = encode(pa.chunked_array([ids, _restored(further, ids.type)]), name)
    old = found[: len(ids)]
    places = np.append(old, np.int32(-1))[places]
    places[new] = found[len(ids) :]
    return merged, old, places


def as_column(ids: pa.Array, wanted: Any, name: str) -> pa.ChunkedArray:
    """Convert keys to an Arrow column. For Python objects, the type of the ids settles which key type is meant."""
    if not isinstance(wanted, list | tuple):
        return to_arrow(wanted, name)
    if is_uuid(ids.type) or not wanted:
        return to_arrow(wanted, name, ids.type)
    column = to_arrow(wanted, name)
    nanoseconds = column.type.id == ids.type.id and getattr(ids.type, "unit", None) == "ns"  # Arrow infers µs
    return to_arrow(wanted, name, ids.type) if nanoseconds and _kind(column.type) == _kind(ids.type) else column


def _kind(kind: pa.DataType) -> str:
    """Name the kind of a type's keys, whatever their width, layout or unit: only keys of one kind can be equal."""
    if types.is_integer(kind):
        return "integer"
    if types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return "binary"
    if types.is_date(kind) or types.is_timestamp(kind):
        return "instant" if getattr(kind, "tz", None) else "date"
    return "time" if types.is_time(kind) else "duration" if types.is_duration(kind) else str(kind)


def _as_integers(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Cast to the ids' integer type; numbers that do not fit become null, which no id equals."""
    values = as_array(column)
    limits = np.iinfo(kind.to_pandas_dtype())
    fits = (values >= limits.min) & (values <= limits.max)
    return pa.chunked_array([from_numpy(values.astype(kind.to_pandas_dtype()), kind, valid=fits)])


def require(ids: pa.Array, wanted: Any, name: str) -> np.ndarray:
    """Find the index of each key, like :func:`lookup`; raise an UnknownIdError if some are not among the ids."""
    wanted = as_column(ids, wanted, name)
    found = lookup(ids, wanted, name)
    unknown = np.flatnonzero(found < 0)
    if len(unknown):
        first = wanted[int(unknown[0])].as_py()
        remedy = "; new users are folded in from their ratings" if name == "user" else ""
        raise UnknownIdError(
            f"{len(unknown):,} of {len(found):,} {name} ids are not in the model, the first {first!r}:"
            f" only ids from training are known{remedy}"
        )
    return found


def parse(ids: pa.Array, texts: Iterable[str], name: str) -> pa.Array:
    """Parse texts as keys of the ids' type; raise an UnknownIdError if one cannot be parsed."""
    typed = []
    for text in texts:
        try:
            typed.append(_parsed(text, ids.type))
        except (pa.ArrowException, ValueError, OverflowError):
            raise UnknownIdError(f"{text!r} is not valid: the model's {name} ids are of type {ids.type}") from None
    return _restored(pa.array([t.as_py() for t in typed], _storage(ids).type), ids.type)


def _parsed(text: str, kind: pa.DataType) -> pa.Scalar:
    if is_uuid(kind):
        return pa.scalar(uuid.UUID(text).bytes, kind.storage_type)
    if types.is_integer(kind) and str(int(text)) != text:
        raise ValueError(f"{text} is not how an integer is written")
    if types.is_time(kind):
        return pa.scalar(datetime.time.fromisoformat(text)).cast(kind)
    if types.is_duration(kind):
        import pandas as pd

        return pa.scalar(pd.Timedelta(text), pa.duration("ns")).cast(kind)
    if types.is_timestamp(kind):  # pandas prints more digits than Arrow parses in a coarse unit
        return pa.scalar(text).cast(pa.timestamp("ns" if kind.unit == "ns" else "us", kind.tz)).cast(kind)
    return pa.scalar(text).cast(kind)


def content(ids: pa.Array) -> bytes:
    """Serialize ids for hashing: their kind and their values, whatever the width of integers."""
    kind = ids.type
    if types.is_large_binary(kind) or types.is_fixed_size_binary(kind) or is_uuid(kind):
        texts = [key.hex() for key in _storage(ids).to_pylist()]
    else:
        texts = ids.cast(pa.large_string()).to_pylist()
    return json.dumps([_kind(kind), *texts]).encode()


def to_pandas(column: pa.Array | pa.ChunkedArray) -> "pd.Series[Any]":
    """Return raw ids as a pandas column that holds each exactly."""
    import pandas as pd

    if is_uuid(column.type):
        return pd.Series(column.to_pylist(), dtype=object)
    try:
        return column.to_pandas()
    except ValueError:
        if not types.is_dictionary(column.type):
            raise
        return decoded(column).to_pandas()  # the dictionary holds a key twice, which pandas' categories cannot


def many(keys: Any) -> Any:
    """Wrap a single id in a list; return several as they are."""
    if isinstance(keys, np.ndarray) and keys.ndim == 0:
        return keys.reshape(1)
    one = isinstance(keys, str | bytes) or not (hasattr(keys, "__len__") or hasattr(keys, "__iter__"))
    if not one:
        return keys
    return np.asarray([keys]) if isinstance(keys, np.datetime64 | np.timedelta64) else [keys]
