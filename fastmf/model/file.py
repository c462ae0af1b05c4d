"""The model file: one safetensors file of named arrays and JSON metadata, read back only after everything is checked.

Arrays: ``user_factors``, ``item_factors``, ``user_bias``, ``item_bias`` (float32), ``user_counts``, ``item_counts``
(int32), ``seen_indptr`` (int64) and ``seen_indices`` (int32) where kept, the groups of :mod:`fastmf.model.learned`
(each array named by its group and its part), and the ids: ``user_ids`` as integers, or for strings, binaries and UUIDs
``user_ids.bytes`` and ``user_ids.offsets``; items likewise. The metadata entry ``fastmf`` holds the JSON, with the
Arrow type of the ids, and ``digest`` a hash of all the rest, by which damage is found.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import safetensors
import safetensors.numpy
from pyarrow import types

from fastmf.data.atomic import replacing
from fastmf.data.ids import is_key, is_uuid
from fastmf.errors import ModelFormatError
from fastmf.model.learned import KINDS, SHAPES

FORMAT, READABLE = 3, (1, 2, 3)

Number = int | float
LARGEST = float(np.finfo(np.float32).max)
HUGE = 1e12  # beyond what ratings of deviation 1 lead to, with room to multiply in float32

_BYTES_TYPES = {
    "large_string": pa.large_string(),
    "large_binary": pa.large_binary(),
    "extension<arrow.uuid>": pa.uuid(),
}


def write(
    path: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray],
    ids: Mapping[str, pa.Array],
    metadata: Mapping[str, Any],
    overwrite: bool,
) -> None:
    """Write a model file, whole or not at all.

    Raises
    ------
    OSError
        As :func:`fastmf.data.atomic.replacing`.
    """
    tensors = dict(arrays)
    for name, column in ids.items():
        tensors |= _packed(name, column)
    described = {**metadata, "format": FORMAT, "id_types": {name: str(column.type) for name, column in ids.items()}}
    with replacing(path, overwrite) as temporary:
        tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        save_arrays(tensors, temporary, json.dumps(described, allow_nan=False))


def save_arrays(arrays: Mapping[str, np.ndarray], path: Path, text: str) -> None:
    """Write a safetensors file of arrays and JSON text; what goes wrong in writing (a full disk) is an OSError."""
    try:
        safetensors.numpy.save_file(dict(arrays), path, {"fastmf": text, "digest": digest_of(arrays, text)})
    except safetensors.SafetensorError as error:
        raise OSError(f"{path} could not be written: {error}") from None


def load_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], str | None, bool]:
    """Read a safetensors file. Returns its arrays, its JSON text, and whether they are what its digest says."""
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118  not a mapping
    text = metadata.get("fastmf")
    return arrays, text, text is not None and metadata.get("digest") == digest_of(arrays, text)


def digest_of(arrays: Mapping[str, np.ndarray], text: str) -> str:
    """Hash arrays, with their names, types and shapes, and the text beside them (BLAKE2b)."""
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, pa.Array], dict[str, Any]]:
    """Read a model file and check all that a kernel or a reader relies on. Returns (arrays, ids, metadata).

    Raises
    ------
    ModelFormatError
        If the file is not a model file, is damaged, contradicts itself, or has a newer format.
    OSError
        If there is no such file, or it cannot be read.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist: fit a model and give its file")
    if not Path(path).is_file():
        raise ModelFormatError(f"{path} is a directory or device, not a model file")
    Path(path).open("rb").close()  # an unreadable file is an OSError, not a bad format
    try:
        arrays, text, sound = load_arrays(path)
        metadata = _metadata(path, text)
        ids = {name: _unpacked(name, arrays, metadata["id_types"][name]) for name in ("user_ids", "item_ids")}
        _check(arrays, ids)
        _check_complete(metadata["solver"], arrays)
        _require(sound or metadata["format"] == 1, "its digest is another, so something in it has changed")
    except (ModelFormatError, OSError, MemoryError):
        raise
    except Exception as error:  # what damage makes of a file fails in more ways than can be listed
        raise ModelFormatError(f"{path} is not a whole fastmf model file: {error!r}; fit and save it again") from None
    return arrays, ids, metadata


def _metadata(path: str | os.PathLike[str], text: str | None) -> dict[str, Any]:
    if text is None:
        raise ModelFormatError(f"{path} is a safetensors file, but not a fastmf model: it has no 'fastmf' metadata")
    metadata = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    version = metadata["format"]
    if version not in READABLE:
        raise ModelFormatError(f"{path} has format {version!r}, this version reads {FORMAT}: use a matching fastmf")
    _check_metadata(metadata)
    return dict(metadata)


def _refuse_constant(name: str) -> NoReturn:
    raise ModelFormatError(f"the model file is damaged: its metadata hold {name}; fit and save it again")


def _finite(text: str) -> float:
    return float(text) if math.isfinite(float(text)) else _refuse_constant(text)


def _check_metadata(metadata: Any) -> None:
    """Check types, and that numbers are what float32 arithmetic can go on with."""
    kinds = {"version": str, "rating_range": list, "solver": dict, "history": list, "rows": dict, "id_types": dict}
    for name, kind in kinds.items():
        _require(isinstance(metadata[name], kind), f"{name} is {metadata[name]!r}")
    best = metadata["best_epoch"]
    _require(
        best is None or (isinstance(best, int) and 1 <= best <= len(metadata["history"])), f"best_epoch is {best!r}"
    )
    _require(isinstance(metadata["solver"].get("name"), str), f"solver is {metadata['solver']!r}")
    low, high = metadata["rating_range"]
    for name, value in {"mean": metadata["mean"], "scale": metadata["scale"], "low": low, "high": high}.items():
        _require(isinstance(value, Number) and abs(value) <= LARGEST, f"{name} is {value!r}")
    _require(bool(np.float32(metadata["scale"]) > 0), f"scale is {metadata['scale']!r}")
    _require(low <= high, f"rating_range is {metadata['rating_range']!r}")
    for name in ("reg", "reg0", "bias_reg"):
        weight = metadata["solver"].get(name, 0)
        _require(isinstance(weight, Number) and 0 <= weight <= LARGEST, f"{name} is {weight!r}")
    fade, seed, biases = (
        metadata["solver"].get(name, usual) for name, usual in (("fade", 0), ("seed", 0), ("biases", True))
    )
    _require(isinstance(fade, Number) and 0 <= fade <= LARGEST, f"fade is {fade!r}")
    _require(isinstance(seed, int) and 0 <= seed < 2**63, f"seed is {seed!r}")
    _require(isinstance(biases, bool), f"biases is {biases!r}")
    blend = metadata.get("blend")
    _require(blend is None or (isinstance(blend, Number) and 0 <= blend <= LARGEST), f"blend is {blend!r}")
    counted = [*metadata["rows"].values(), *(value for epoch in metadata["history"] for value in epoch.values())]
    _require(all(isinstance(value, Number | None) for value in counted), "history or rows hold what is not a number")


def _packed(name: str, column: pa.Array) -> dict[str, np.ndarray]:
    """Store ids as one integer array, or as bytes and offsets."""
    if str(column.type) in _BYTES_TYPES or types.is_fixed_size_binary(column.type):
        plain = column.storage if is_uuid(column.type) else column
        plain = plain.cast(pa.large_binary())
        lengths = pc.binary_length(plain).to_numpy()
        data = b"".join(plain.to_pylist())
        offsets = np.append(0, np.cumsum(lengths, dtype=np.int64))
        return {f"{name}.bytes": np.frombuffer(data, np.uint8), f"{name}.offsets": offsets}
    if types.is_boolean(column.type):
        return {name: column.cast(pa.uint8()).to_numpy()}
    return {name: column.view(_stored_type(column.type)).to_numpy()}


def _stored_type(kind: pa.DataType) -> pa.DataType:
    if types.is_integer(kind):
        return kind
    return pa.uint8() if types.is_boolean(kind) else {32: pa.int32(), 64: pa.int64()}[kind.bit_width]


def _unpacked(name: str, arrays: dict[str, np.ndarray], type_name: str) -> pa.Array:
    """Take the ids' arrays out of ``arrays`` and make the Arrow array they stand for."""
    if type_name in _BYTES_TYPES or type_name.startswith("fixed_size_binary["):
        data, offsets = arrays.pop(f"{name}.bytes"), arrays.pop(f"{name}.offsets")
        _require(data.dtype == np.uint8 and data.ndim == 1, f"{name}.bytes are not bytes")
        _check_offsets(offsets, len(data), f"{name}.offsets")
        target = _BYTES_TYPES.get(type_name, pa.large_binary())
        layout = pa.large_string() if target == pa.large_string() else pa.large_binary()
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        column = pa.Array.from_buffers(layout, len(offsets) - 1, buffers)
        column.validate(full=True)
        if is_uuid(target):
            return pa.ExtensionArray.from_storage(target, column.cast(pa.binary(16)))
        column = column.cast(pa.binary(int(type_name[18:-1]))) if type_name.startswith("fixed") else column
        _require(is_key(column.type), f"{name} are {column.type}")
        return column
    name_only, _, zone = type_name.rstrip("]").partition(", tz=")
    target = pa.type_for_alias(name_only + "]" if "[" in name_only else name_only)
    if zone:
        target = pa.timestamp(target.unit, zone)
        pa.scalar(0, target).as_py()  # raises if there is no such zone
    _require(is_key(target), f"{name} are {target}")
    stored = pa.array(arrays.pop(name))
    _require(stored.type == _stored_type(target), f"{name} are {stored.type}, not {_stored_type(target)}")
    return stored.cast(pa.bool_()) if types.is_boolean(target) else stored.view(target)


def _check(arrays: dict[str, np.ndarray], ids: dict[str, pa.Array]) -> None:
    """Check shapes, types and ranges of everything."""
    n_users, n_items = len(ids["user_ids"]), len(ids["item_ids"])
    _require(n_users > 0 and n_items > 0, f"there are {n_users} users and {n_items} items")
    for name, column in ids.items():
        in_order = pc.array_sort_indices(column.storage if is_uuid(column.type) else column).to_numpy()
        _require(bool(np.all(in_order == np.arange(len(column)))), f"{name} are not sorted")
        plain = column.storage if is_uuid(column.type) else column
        _require(pc.count_distinct(plain).as_py() == len(column), f"{name} are not distinct")
    k = arrays["user_factors"].shape[-1]
    shapes = {"user_factors": (n_users, k), "item_factors": (n_items, k), "user_bias": (n_users,)}
    shapes |= {"item_bias": (n_items,), "user_counts": (n_users,), "item_counts": (n_items,)}
    for name, shape in shapes.items():
        array, dtype = arrays[name], np.int32 if name.endswith("counts") else np.float32
        _require(array.shape == shape, f"{name} has shape {array.shape}, not {shape}")
        _require(array.dtype == dtype, f"{name} is {array.dtype}, not {np.dtype(dtype)}")
        _require(bool(np.isfinite(array).all()), f"{name} holds values that are not finite")
    _check_kept(arrays, {"users": n_users, "items": n_items, "k": k, "numbers": 3})
    _require(min(arrays["user_counts"].min(initial=0), arrays["item_counts"].min(initial=0)) >= 0, "counts below 0")
    if "seen_indptr" in arrays:
        indptr, indices = arrays["seen_indptr"], arrays["seen_indices"]
        _require(indices.dtype == np.int32 and indices.ndim == 1, f"seen_indices are {indices.dtype}")
        _require(len(indptr) == n_users + 1, f"seen_indptr has {len(indptr)} entries for {n_users} users")
        _check_offsets(indptr, len(indices), "seen_indptr")
        inside = len(indices) == 0 or (indices.min() >= 0 and indices.max() < n_items)
        _require(bool(inside), f"seen_indices reach outside the {n_items} items")


def _check_kept(arrays: dict[str, np.ndarray], sizes: dict[str, int]) -> None:
    """Check what only some models have: each group is whole or not there."""
    if "samples_user_bias" in arrays:
        sizes = sizes | {"samples": len(arrays["samples_user_bias"])}
    for group, shapes in SHAPES.items():
        parts = [f"{group}_{part}" for part in KINDS[group]._fields]
        there = [name for name in parts if name in arrays]
        _require(not there or len(there) == len(parts), f"of {', '.join(parts)} only {', '.join(there)} are there")
        for name, dimensions in zip(there, shapes, strict=False):
            array, shape = arrays[name], tuple(sizes[dimension] for dimension in dimensions)
            _require(array.shape == shape, f"{name} has shape {array.shape}, not {shape}")
            _require(array.dtype == np.float32, f"{name} is {array.dtype}, not float32")
            _require(bool(np.isfinite(array).all()), f"{name} holds values that are not finite")
    _check_uncertainty(arrays)


def _check_complete(solver: Mapping[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Check that what the solver has learned is there: without it users would be folded in in another way."""
    linked = solver["name"] == "als-links" or (solver["name"] == "gibbs" and solver.get("links") is True)
    _require(not linked or "links_items" in arrays, "the links that its solver has learned are not there")
    _require(solver["name"] != "gibbs" or "prior_mean" in arrays, "what its solver draws users around is not there")


def _check_uncertainty(arrays: dict[str, np.ndarray]) -> None:
    """Check what is divided by, or inverted, to say how sure a prediction is."""
    if "samples_user_bias" in arrays:
        _require("prior_mean" in arrays, "it has samples, but not what users are drawn around")
        _require(len(arrays["samples_user_bias"]) > 0, "it has 0 samples")
    if "prior_mean" not in arrays:
        return
    for name in ("prior_items", "samples_user_precisions", "samples_item_precisions"):
        found = arrays.get(name, np.ones(1))
        _require(bool(np.all((found > 1 / HUGE) & (found < HUGE))), f"{name} holds values that are no precisions")
    for name in arrays:
        small = not name.startswith(("prior", "samples")) or bool(np.all(np.abs(arrays[name]) < HUGE))
        _require(small, f"{name} holds values of {HUGE:g} and more")
    alpha, bias_precision, bias_pull = arrays["prior_numbers"]
    sound = alpha > 1 / HUGE and (bias_precision > 1 / HUGE or bias_precision == bias_pull == 0)
    _require(bool(sound), f"prior_numbers are {arrays['prior_numbers'].tolist()}")
    precision = arrays["prior_precision"].astype(np.float64)
    _require(bool(np.allclose(precision, precision.T, rtol=1e-4)), "prior_precision is not symmetric")
    smallest = np.linalg.eigvalsh(precision)[0]
    _require(bool(smallest > 1 / HUGE), f"prior_precision has an eigenvalue of {smallest:.3g}")


def _check_offsets(offsets: np.ndarray, end: int, name: str) -> None:
    _require(offsets.dtype == np.int64 and offsets.ndim == 1 and len(offsets) > 0, f"{name} are {offsets.dtype}")
    rising = offsets[0] == 0 and offsets[-1] == end and bool(np.all(offsets[1:] >= offsets[:-1]))  # no diff: it wraps
    _require(bool(rising), f"{name} do not rise from 0 to {end}")


def _require(true: bool, message: str) -> None:
    if not true:
        raise ModelFormatError(f"the model file is damaged: {message}; fit and save it again")
