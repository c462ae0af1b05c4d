"""Ids as plain arrays, for files: integers as one array, text and bytes as their bytes and offsets."""

from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import types

from fastmf.data.arrow import from_numpy, to_numpy
from fastmf.data.ids import is_key, is_uuid

_BYTES_TYPES = {
    "large_string": pa.large_string(),
    "large_binary": pa.large_binary(),
    "extension<arrow.uuid>": pa.uuid(),
}


def pack_ids(name: str, column: pa.Array) -> dict[str, np.ndarray]:
    """Convert ids to arrays: ``<name>``, or ``<name>.bytes`` and ``<name>.offsets``."""
    if str(column.type) in _BYTES_TYPES or types.is_fixed_size_binary(column.type):
        import pyarrow.compute as pc

        plain = (column.storage if is_uuid(column.type) else column).cast(pa.large_binary())
        lengths = to_numpy(pc.binary_length(plain))
        data = b"".join(plain.to_pylist())
        offsets = np.append(0, np.cumsum(lengths, dtype=np.int64))
        return {f"{name}.bytes": np.frombuffer(data, np.uint8), f"{name}.offsets": offsets}
    if types.is_boolean(column.type):
        return {name: to_numpy(column.cast(pa.uint8()))}
    return {name: to_numpy(column.view(_stored_type(column.type)))}


def unpack_ids(name: str, arrays: dict[str, np.ndarray], type_name: str) -> pa.Array:
    """Take the arrays of ids out of ``arrays`` and return the ids; ``type_name`` is the name of their Arrow type.

    Raises a ValueError, KeyError or pyarrow.ArrowException if the arrays do not hold ids of that type.
    """
    if type_name in _BYTES_TYPES or type_name.startswith("fixed_size_binary["):
        return _unpack_bytes(arrays.pop(f"{name}.bytes"), arrays.pop(f"{name}.offsets"), name, type_name)
    name_only, _, zone = type_name.rstrip("]").partition(", tz=")
    target = pa.type_for_alias(name_only + "]" if "[" in name_only else name_only)
    if zone:
        target = pa.timestamp(target.unit, zone)
        pa.scalar(0, target).as_py()  # raises if there is no such zone
    _require(is_key(target), f"{name} are {target}")
    plain = arrays.pop(name)
    _require(plain.ndim == 1, f"{name} have {plain.ndim} dimensions")
    stored = from_numpy(plain)
    _require(stored.type == _stored_type(target), f"{name} are {stored.type}, not {_stored_type(target)}")
    return stored.cast(pa.bool_()) if types.is_boolean(target) else stored.view(target)


def require_offsets(offsets: np.ndarray, end: int, name: str) -> None:
    """Raise a ValueError unless offsets (n,) int64 rise from 0 to ``end``."""
    _require(offsets.dtype == np.int64 and offsets.ndim == 1 and len(offsets) > 0, f"{name} are {offsets.dtype}")
    rising = offsets[0] == 0 and offsets[-1] == end and bool(np.all(offsets[1:] >= offsets[:-1]))  # np.diff wraps
    _require(bool(rising), f"{name} do not rise from 0 to {end}")


def _unpack_bytes(data: np.ndarray, offsets: np.ndarray, name: str, type_name: str) -> pa.Array:
    _require(data.dtype == np.uint8 and data.ndim == 1, f"{name}.bytes are not bytes")
    require_offsets(offsets, len(data), f"{name}.offsets")
    target = _BYTES_TYPES.get(type_name, pa.large_binary())
    layout = pa.large_string() if target == pa.large_string() else pa.large_binary()
    column = pa.Array.from_buffers(layout, len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    column.validate(full=True)
    if is_uuid(target):
        return pa.ExtensionArray.from_storage(target, column.cast(pa.binary(16)))
    column = column.cast(pa.binary(int(type_name[18:-1]))) if type_name.startswith("fixed") else column
    _require(is_key(column.type), f"{name} are {column.type}")
    return column


def _stored_type(kind: pa.DataType) -> Any:
    if types.is_integer(kind):
        return kind
    return pa.uint8() if types.is_boolean(kind) else {32: pa.int32(), 64: pa.int64()}[kind.bit_width]


def _require(true: bool, message: str) -> None:
    if not true:
        raise ValueError(message)
