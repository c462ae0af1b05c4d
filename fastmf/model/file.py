"""The model file: one safetensors file of named arrays and JSON metadata, checked before anything in it is used.

Arrays: ``user_factors``, ``item_factors``, ``user_bias``, ``item_bias`` (float32), ``user_counts``, ``item_counts``
(int32), and, if seen items are kept, ``seen_indptr`` (int64) and ``seen_indices`` (int32). Each array of a group of
:mod:`fastmf.model.learned` is named ``<group>_<field>``. Integer ids are the arrays ``user_ids`` and ``item_ids``;
string, binary and UUID ids are ``user_ids.bytes`` and ``user_ids.offsets``, likewise for items. Side features are the
arrays ``item_features.indptr``, ``.indices``, ``.values`` and the names of the features, and in the JSON their columns.
The JSON holds the other fields of :class:`fastmf.model.state.State`, the format number and the Arrow types of the ids.
"""

import json
import os
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import fastmf
from fastmf.data.arrays import load_arrays, save_arrays
from fastmf.data.atomic import replacing
from fastmf.data.encoding import Encoding
from fastmf.data.features import Features
from fastmf.data.packed_ids import pack_ids, unpack_ids
from fastmf.data.times import HalfLife
from fastmf.errors import ModelFormatError
from fastmf.kernels.types import Compressed
from fastmf.model.check_file import check_arrays, check_ids, check_metadata, finite, refuse_constant
from fastmf.model.fold_in_rule import FoldInRule
from fastmf.model.history import Epoch
from fastmf.model.learned import KINDS, flat, grouped
from fastmf.model.state import State

FORMAT = 2  # format 1 is read, too; see _upgraded

ARRAYS = ("user_factors", "item_factors", "user_bias", "item_bias", "user_counts", "item_counts")
IDS = ("user_ids", "item_ids")
RULES = ("user_rule", "item_rule")
FEATURES = ("user_features", "item_features")
PLAIN = [field.name for field in fields(State) if field.name not in (*ARRAYS, *IDS, *KINDS, *FEATURES, "seen")]


def write_model(state: State, path: str | os.PathLike[str], overwrite: bool) -> None:
    """Write a model; see :meth:`fastmf.Model.save`."""
    arrays = {name: getattr(state, name) for name in ARRAYS} | flat(state.learned)
    if state.seen is not None:
        arrays |= {"seen_indptr": state.seen[0], "seen_indices": state.seen[1]}
    for name in IDS:
        arrays |= pack_ids(name, getattr(state, name))
    metadata = {name: getattr(state, name) for name in PLAIN} | {"format": FORMAT, "version": fastmf.__version__}
    metadata["history"] = [asdict(epoch) for epoch in state.history]
    metadata |= {name: None if metadata[name] is None else asdict(metadata[name]) for name in (*RULES, "half_life")}
    for name in FEATURES:
        features = getattr(state, name)
        metadata[name] = None if features is None else features.encoding.plain()
        arrays |= {} if features is None else pack_features(name, features)
    metadata["id_types"] = {name: str(getattr(state, name).type) for name in IDS}
    with replacing(path, overwrite) as temporary:
        save_arrays(arrays, temporary, json.dumps(metadata, allow_nan=False))


def read_model(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read and check a model; return the fields of its State. See :meth:`fastmf.Model.load`."""
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist: fit a model and give its file")
    if not Path(path).is_file():
        raise ModelFormatError(f"{path} is a directory or device, not a model file")
    Path(path).open("rb").close()  # an unreadable file is an OSError, not a bad format
    try:
        arrays, text, sound = load_arrays(path)
        if text is None:
            raise ModelFormatError(f"{path} is a safetensors file, but not a fastmf model: it has no 'fastmf' metadata")
        metadata = json.loads(text, parse_constant=refuse_constant, parse_float=finite)
        if metadata["format"] not in (1, FORMAT):
            other = f"has format {metadata['format']!r}, this version reads 1 and {FORMAT}"
            raise ModelFormatError(f"{path} {other}: use the fastmf that wrote it, or fit and save it again")
        if not sound:
            raise ValueError("a digest does not match: the file has changed")
        if metadata["format"] == 1:
            arrays, metadata = _upgraded(arrays, metadata)
        metadata.setdefault("columns", list(State.columns))
        return _checked_fields(arrays, metadata)
    except (ModelFormatError, OSError, MemoryError):
        raise
    except Exception as error:  # damage can raise more kinds of errors than can be listed
        raise ModelFormatError(f"{path} is not an intact fastmf model file: {error!r}; fit and save it again") from None


def pack_features(name: str, features: Features) -> dict[str, np.ndarray]:
    """Convert side features to arrays: ``<name>.indptr``, ``.indices``, ``.values``, and the names of features."""
    indptr, indices, values, _ = features.rows
    parts = {f"{name}.indptr": indptr, f"{name}.indices": indices, f"{name}.values": values}
    return parts | pack_ids(f"{name}.names", features.encoding.names)


def unpack_features(name: str, arrays: dict[str, np.ndarray], described: Any, row_ids: pa.Array) -> Features | None:
    """Take the arrays of side features out of ``arrays`` and return the features; None if there are none."""
    if described is None and f"{name}.indptr" not in arrays:
        return None
    names = unpack_ids(f"{name}.names", arrays, "large_string")
    rows = Compressed(*(arrays.pop(f"{name}.{part}") for part in ("indptr", "indices", "values")))
    return Features(ids=row_ids, rows=rows, encoding=Encoding.from_plain(described, names))


def _upgraded(arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the content of a file of format 1 as format 2 has it.

    Format 1 knows how to solve for users only. Fields that it lacks get their defaults, and the users' links are zero.
    """
    defaults = {field.name: field.default for field in fields(State) if field.default is not MISSING}
    defaults = {name: value for name, value in defaults.items() if name in (*PLAIN, *FEATURES)}
    metadata = defaults | metadata | {"user_rule": metadata["fold_in_rule"], "item_rule": None}
    renamed = {"prior_items": "user_prior_others"} | {
        f"prior_{name}": f"user_prior_{name}" for name in ("precision", "mean", "numbers", "origin")
    }
    arrays = {renamed.get(name, name): array for name, array in arrays.items()}
    if "links_items" in arrays:
        arrays["links_users"] = np.zeros_like(arrays["user_factors"])
    return arrays, metadata


def _checked_fields(arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> dict[str, Any]:
    """Check arrays and metadata, and make the fields of a State from them."""
    check_metadata(metadata)
    ids: dict[str, pa.Array] = {name: unpack_ids(name, arrays, metadata["id_types"][name]) for name in IDS}
    check_ids(ids)
    check_arrays(arrays, ids)
    seen = (arrays.pop("seen_indptr"), arrays.pop("seen_indices")) if "seen_indptr" in arrays else None
    described = zip(FEATURES, IDS, strict=True)
    features = {name: unpack_features(name, arrays, metadata[name], ids[own]) for name, own in described}
    groups = grouped(arrays)
    plain = {name: metadata[name] for name in PLAIN}
    low, high = metadata["rating_range"]
    plain |= {"rating_range": (float(low), float(high)), "mean": float(plain["mean"]), "scale": float(plain["scale"])}
    plain["columns"] = tuple(plain["columns"])
    plain["history"] = [Epoch(**epoch) for epoch in plain["history"]]
    plain |= {name: None if plain[name] is None else FoldInRule(**plain[name]) for name in RULES}
    plain["half_life"] = None if plain["half_life"] is None else HalfLife(**plain["half_life"])
    return {**arrays, **ids, **groups, **features, **plain, "seen": seen}
