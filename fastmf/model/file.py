"""The model file: one safetensors file of named arrays and JSON metadata, checked before anything in it is used.

Arrays: ``user_factors``, ``item_factors``, ``user_bias``, ``item_bias`` (float32), ``user_counts``, ``item_counts``
(int32), and, if seen items are kept, ``seen_indptr`` (int64) and ``seen_indices`` (int32). Each array of a group of
:mod:`fastmf.model.learned` is named ``<group>_<field>``. Integer ids are the arrays ``user_ids`` and ``item_ids``;
string, binary and UUID ids are ``user_ids.bytes`` and ``user_ids.offsets``, likewise for items. Side features are the
arrays ``item_features.indptr``, ``.indices``, ``.values`` and the names of the features, and in the JSON their columns.
The JSON holds the other fields of :class:`fastmf.model.state.State`, the format number and the Arrow types of the ids.

A file is loaded whole, or mapped: then each field is read and checked when it is first used. What could not be loaded
again is not written.
"""

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import fastmf
from fastmf.data.arrays import ArrayFile, save_arrays
from fastmf.data.atomic import replacing
from fastmf.data.encoding import Encoding
from fastmf.data.features import Features
from fastmf.data.packed_ids import pack_ids, unpack_ids
from fastmf.data.times import HalfLife
from fastmf.data.weights import WeightScale
from fastmf.errors import DataError, FastMFError, ModelFormatError, require_path
from fastmf.kernels.types import Compressed
from fastmf.model.check_file import (
    check_group,
    check_ids,
    check_layout,
    check_metadata,
    check_seen,
    check_values,
    finite,
    refuse_constant,
)
from fastmf.model.fold_in_rule import FoldInRule
from fastmf.model.history import Epoch
from fastmf.model.learned import KINDS, flat
from fastmf.model.state import State

FORMAT = 2  # format 1 is read, too; see _upgraded

ARRAYS = ("user_factors", "item_factors", "user_bias", "item_bias", "user_counts", "item_counts")
IDS = ("user_ids", "item_ids")
RULES = ("user_rule", "item_rule")
FEATURES = ("user_features", "item_features")
LARGE = (*IDS, *ARRAYS, "seen", *KINDS, *FEATURES)  # fields that hold arrays
PLAIN_CLASSES = {"half_life": HalfLife, "weight_scale": WeightScale}
PLAIN = [field.name for field in fields(State) if field.name not in LARGE]


def write_model(state: State, path: str | os.PathLike[str], overwrite: bool) -> None:
    """Write a model; see :meth:`fastmf.Model.save`."""
    require_path("the model's file", path)
    arrays = {name: getattr(state, name) for name in ARRAYS} | flat(state.learned)
    if state.seen is not None:
        arrays |= {"seen_indptr": state.seen[0], "seen_indices": state.seen[1]}
    for name in IDS:
        arrays |= pack_ids(name, getattr(state, name).arrow)
    metadata = {name: getattr(state, name) for name in PLAIN} | {"format": FORMAT, "version": fastmf.__version__}
    metadata["history"] = [asdict(epoch) for epoch in state.history]
    metadata |= {name: None if metadata[name] is None else asdict(metadata[name]) for name in (*RULES, *PLAIN_CLASSES)}
    for name in FEATURES:
        features = getattr(state, name)
        metadata[name] = None if features is None else features.encoding.plain()
        arrays |= {} if features is None else pack_features(name, features)
    metadata["id_types"] = {name: str(getattr(state, name).arrow.type) for name in IDS}
    text = json.dumps(metadata, allow_nan=False)
    try:  # what could not be loaded is not written
        Contents(arrays, _parsed(text)).everything()
    except MemoryError:
        raise
    except Exception as error:  # as for a damaged file
        raise DataError(f"the model is not sound, {path} could not be loaded: {_said(error)}; correct it") from None
    with replacing(path, overwrite) as temporary:
        save_arrays(arrays, temporary, text)


def read_model(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read and check a model; return the fields of its State. See :meth:`fastmf.Model.load`."""
    with _damage_reported(path):
        file, metadata = _opened(path)
        arrays = {name: np.array(array) for name, array in file.arrays.items()}
        for name, array in arrays.items():
            _require_intact(file, name, array)
        if metadata["format"] == 1:
            arrays, metadata = _upgraded(arrays, metadata)
        return Contents(arrays, metadata).everything()


def map_model(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Callable[[str], Any]]:
    """Map a model: read the header; return the State's plain fields, and what reads and checks another by its name.

    Both raise a ModelFormatError, the second for damage of the arrays of the field. Indices and ids are copied when
    they are read, because kernels do not check indices again: a file that changes later can only change floats and
    counts. Files of format 1 are read whole.
    """
    with _damage_reported(path):
        file, metadata = _opened(path)
        if metadata["format"] == 1:
            whole = read_model(path)
            return whole, whole.__getitem__
        contents = Contents(file.arrays, metadata, functools.partial(_taken, file))
        plain = contents.plain() | dict.fromkeys(contents.absent())

    def read(name: str) -> Any:
        with _damage_reported(path):
            return contents.field(name)

    return plain, read


class Contents:
    """The arrays and the metadata of a model file of the current format, as the fields of a State.

    What kernels and lookups rely on is checked: the metadata and the shapes and types of all arrays at once, the values
    of an array when a field is made of it. ``take`` returns the array of a name, None for one of ``arrays`` as it is.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        metadata: dict[str, Any],
        take: Callable[[str], np.ndarray] | None = None,
    ) -> None:
        check_metadata(metadata)
        self._metadata, self._sizes = metadata, check_layout(arrays)
        self._arrays, self._take = arrays, take or arrays.__getitem__

    def everything(self) -> dict[str, Any]:
        """Make all fields."""
        return self.plain() | {name: self.field(name) for name in LARGE}

    def plain(self) -> dict[str, Any]:
        """Make the fields that hold no arrays."""
        plain = {name: self._metadata[name] for name in PLAIN}
        low, high = plain["rating_range"]
        plain |= {"rating_range": (float(low), float(high)), "mean": float(plain["mean"])}
        plain["columns"] = tuple(plain["columns"])
        plain |= {"scale": float(plain["scale"]), "history": [Epoch(**epoch) for epoch in plain["history"]]}
        for name, kind in {**dict.fromkeys(RULES, FoldInRule), **PLAIN_CLASSES}.items():
            plain[name] = None if plain[name] is None else kind(**plain[name])
        return plain

    def absent(self) -> list[str]:
        """Name the fields that are None."""
        firsts = {name: f"{name}_{kind._fields[0]}" for name, kind in KINDS.items()} | {"seen": "seen_indptr"}
        firsts |= {name: f"{name}.indptr" for name in FEATURES if self._metadata[name] is None}
        return [name for name, first in firsts.items() if first not in self._arrays]

    def field(self, name: str) -> Any:
        """Make a field of its arrays, and check their values."""
        if name in self.absent():
            return None
        if name in IDS:
            found = unpack_ids(name, self._own(name), self._metadata["id_types"][name])
            check_ids(name, found)
        elif name == "seen":
            found = self._take("seen_indptr"), self._take("seen_indices")
            check_seen(*found, self._sizes["items"])
        elif name in FEATURES:
            side = name.removesuffix("features")
            found = unpack_features(name, self._own(name), self._metadata[name], self.field(f"{side}ids"))
        elif name in KINDS:
            found = KINDS[name](*(self._take(f"{name}_{part}") for part in KINDS[name]._fields))
            check_group(name, found)
        else:
            found = self._take(name)
            check_values(name, found)
        return found

    def _own(self, name: str) -> dict[str, np.ndarray]:
        """Take the arrays called ``name`` or ``<name>.<part>``."""
        return {each: self._take(each) for each in self._arrays if each == name or each.startswith(f"{name}.")}


def _opened(path: str | os.PathLike[str]) -> tuple[ArrayFile, dict[str, Any]]:
    """Open a file and parse its metadata, of a format that this version reads."""
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist: fit a model and give its file")
    if not Path(path).is_file():
        raise ModelFormatError(f"{path} is a directory or device, not a model file")
    file = ArrayFile(path)
    if file.text is None:
        raise ModelFormatError(f"{path} is a safetensors file, but not a fastmf model: it has no 'fastmf' metadata")
    metadata = _parsed(file.text)
    if metadata["format"] not in (1, FORMAT):
        other = f"has format {metadata['format']!r}, this version reads 1 and {FORMAT}"
        raise ModelFormatError(f"{path} {other}: use the fastmf that wrote it, or fit and save it again")
    if not file.sound:
        raise ValueError("a digest does not match: the file has changed")
    for name, usual in {"columns": list(State.columns), "weight_scale": None}.items():
        metadata.setdefault(name, usual)  # files of earlier versions lack them
    for rule in map(metadata.get, RULES):
        if isinstance(rule, dict):
            rule.setdefault("root_reg", 0.0)
    return file, metadata


def _parsed(text: str) -> Any:
    return json.loads(text, parse_constant=refuse_constant, parse_float=finite)


def _taken(file: ArrayFile, name: str) -> np.ndarray:
    """Return an array of a mapped file, after a check of its digest; copy it unless it holds floats or counts."""
    array = file.arrays[name]
    harmless = (array.dtype == np.float32 or name.endswith("_counts")) and array.flags.aligned
    array = array if harmless else array.copy()
    _require_intact(file, name, array)
    return array


def _require_intact(file: ArrayFile, name: str, array: np.ndarray) -> None:
    if not file.intact(name, array):
        raise ValueError(f"a digest does not match: {name} has changed")


@contextlib.contextmanager
def _damage_reported(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn whatever damage raises into a ModelFormatError that names the file."""
    require_path("the model's file", path)
    try:
        yield
    except (ModelFormatError, OSError, MemoryError):
        raise
    except Exception as error:  # damage can raise more kinds of errors than can be listed
        what = f"{path} is not an intact fastmf model file: {_said(error)}"
        raise ModelFormatError(f"{what}; fit and save it again") from None


def _said(error: Exception) -> str:
    """Return the message of an error, with its type if that is one of Python's for malformed values."""
    return str(error) if type(error) is ValueError or isinstance(error, FastMFError) else repr(error)


def pack_features(name: str, features: Features) -> dict[str, np.ndarray]:
    """Convert side features to arrays: ``<name>.indptr``, ``.indices``, ``.values``, and the names of features."""
    indptr, indices, values, _ = features.rows
    parts = {f"{name}.indptr": indptr, f"{name}.indices": indices, f"{name}.values": values}
    return parts | pack_ids(f"{name}.names", features.encoding.names)


def unpack_features(name: str, arrays: dict[str, np.ndarray], described: Any, row_ids: pa.Array) -> Features:
    """Take the arrays of side features out of ``arrays`` and return the features."""
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
