"""Checks of a model file: everything that kernels and lookups rely on, since a file may come from anywhere.

Each check raises a ValueError, or whatever else a malformed value makes Python raise.
"""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
from pyarrow import types

from fastmf.data.arrow import to_numpy
from fastmf.data.ids import is_uuid
from fastmf.data.packed_ids import require_offsets
from fastmf.data.times import UNITS, HalfLife
from fastmf.data.weights import SCALES, WeightScale
from fastmf.model.fold_in_rule import FoldInRule
from fastmf.model.learned import KINDS, SHAPES, Choice, Prior, Samples, is_precision

Number = int | float
LARGEST = float(np.finfo(np.float32).max)
FEATURE_PARTS = ("indptr", "indices", "values", "names.bytes", "names.offsets")
HUGE = 1e12  # no fit of standardised ratings comes near it, and float32 products of such values stay finite

TYPES: dict[str, Any] = {
    "version": str,
    "rating_range": list,
    "solver": dict,
    "history": list,
    "rows": dict,
    "id_types": dict,
    "implicit": bool,
    "duplicates": str,
    "columns": list,
    "weight": str | None,
}


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python's JSON parser accepts."""
    raise ValueError(f"its metadata contains {name}")


def finite(text: str) -> float:
    """Parse a JSON number and refuse it if it overflows."""
    return float(text) if math.isfinite(float(text)) else refuse_constant(text)


def check_metadata(metadata: Any) -> None:
    """Check the types of the metadata, and that numbers fit into float32."""
    for name, kind in TYPES.items():
        _require(isinstance(metadata[name], kind), f"{name} is {metadata[name]!r}")
    best, (low, high) = metadata["best_epoch"], metadata["rating_range"]
    known = best is None or (isinstance(best, int) and 1 <= best <= len(metadata["history"]))
    _require(known, f"best_epoch is {best!r}")
    _require(isinstance(metadata["solver"].get("name"), str), f"solver is {metadata['solver']!r}")
    for name, value in {"mean": metadata["mean"], "scale": metadata["scale"], "low": low, "high": high}.items():
        _require_number(name, value, -LARGEST)
    _require(bool(np.float32(metadata["scale"]) > 0), f"scale is {metadata['scale']!r}")
    named = len(metadata["columns"]) == 3 and all(isinstance(name, str) for name in metadata["columns"])
    _require(named, f"columns are {metadata['columns']!r}")
    _require(low <= high, f"rating_range is {metadata['rating_range']!r}")
    for name, least in {"blend": 0, "positive_from": -LARGEST, "negative_to": -LARGEST}.items():
        if metadata[name] is not None:
            _require_number(name, metadata[name], least)
    for name in ("user_rule", "item_rule"):
        if metadata[name] is not None:
            _check_rule(name, metadata[name])
    if metadata["half_life"] is not None:
        _check_half_life(metadata["half_life"])
    if metadata["weight_scale"] is not None:
        _check_weight_scale(metadata["weight_scale"])
    counted = [*metadata["rows"].values(), *(value for epoch in metadata["history"] for value in epoch.values())]
    _require(all(isinstance(value, Number | None) for value in counted), "history or rows hold a non-number")


def _check_rule(name: str, rule: Any) -> None:
    """Check the numbers of :class:`FoldInRule`."""
    _require(set(rule) == {field.name for field in fields(FoldInRule)}, f"{name} is {rule!r}")
    seed = rule["seed"]
    _require(isinstance(seed, int) and 0 <= seed < 2**63, f"seed is {seed!r}")
    for name, value in rule.items():
        if name != "seed" and not (name == "bias_reg" and value is None):
            _require_number(name, value, 0)


def _check_half_life(found: Any) -> None:
    """Check the values of :class:`HalfLife`."""
    _require(set(found) == {field.name for field in fields(HalfLife)}, f"half_life is {found!r}")
    for name in ("days", "newest"):
        _require_number(name, found[name], -LARGEST)
    _require(found["days"] > 0, f"half_life is {found!r}")
    _require(isinstance(found["timestamp"], str) and found["time_unit"] in list(UNITS), f"half_life is {found!r}")


def _check_weight_scale(found: Any) -> None:
    """Check the values of :class:`WeightScale`."""
    _require(set(found) == {field.name for field in fields(WeightScale)}, f"weight_scale is {found!r}")
    _require(found["kind"] in list(SCALES), f"weight_scale is {found!r}")
    _require_number("mean", found["mean"], 0)
    _require(found["mean"] > 0, f"weight_scale is {found!r}")


def check_layout(arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Check the names, shapes and types of all arrays, but no values; return the sizes that the shapes tell.

    A group of :mod:`fastmf.model.learned` is complete or absent.
    """
    sizes = {"k": arrays["user_factors"].shape[-1], "numbers": 3, "one": 1}
    sizes["samples"] = len(arrays.get("samples_user_bias", ()))
    known = {"seen_indptr", "seen_indices"}
    for side in ("user", "item"):
        n = sizes[f"{side}s"] = _n_ids(arrays, f"{side}_ids")
        _require(n > 0, f"there are no {side}_ids")
        _check_array(arrays, f"{side}_factors", (n, sizes["k"]))
        _check_array(arrays, f"{side}_bias", (n,))
        _check_array(arrays, f"{side}_counts", (n,), np.int32)
        known |= {f"{side}_{part}" for part in ("factors", "bias", "counts", "ids", "ids.bytes", "ids.offsets")}
    for name in ("user_features", "item_features"):
        sizes[name] = len(arrays.get(f"{name}.names.offsets", (0,))) - 1
        known |= _all_or_none(arrays, [f"{name}.{part}" for part in FEATURE_PARTS])
        weighed = f"{name.removesuffix('features')}expected_weights" in arrays
        _require(weighed == (f"{name}.indptr" in arrays), f"it has only half of the {name}")
    for group, shapes in SHAPES.items():
        parts = {f"{group}_{part}": shape for part, shape in zip(KINDS[group]._fields, shapes, strict=True)}
        known |= _all_or_none(arrays, list(parts))
        for name, shape in parts.items():
            if name in arrays:
                _check_array(arrays, name, tuple(sizes[dimension] for dimension in shape))
    unknown = sorted(set(arrays) - known)
    _require(not unknown, f"it holds unknown arrays: {', '.join(unknown)}")
    if "samples_user_bias" in arrays:
        _require("user_prior_mean" in arrays, "it has samples, but no prior")
        _require(sizes["samples"] > 0, "it has 0 samples")
    _check_seen_layout(arrays, sizes["users"])
    return sizes


def _n_ids(arrays: Mapping[str, np.ndarray], name: str) -> int:
    """Return the number of ids."""
    offsets = arrays.get(f"{name}.offsets")
    _all_or_none(arrays, [f"{name}.bytes", f"{name}.offsets"])
    _require((offsets is None) == (name in arrays), f"{name} are not there, or twice")
    return len(arrays[name]) if offsets is None else len(offsets) - 1


def _all_or_none(arrays: Mapping[str, np.ndarray], names: list[str]) -> set[str]:
    """Check that all of some arrays are there, or none; return their names."""
    there = [name for name in names if name in arrays]
    _require(there in ([], names), f"only {', '.join(there)} of {', '.join(names)} are present")
    return set(names)


def _check_array(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], dtype: type = np.float32) -> None:
    array = arrays[name]
    _require(array.shape == shape, f"{name} has shape {array.shape}, not {shape}")
    _require(array.dtype == dtype, f"{name} is {array.dtype}, not {np.dtype(dtype)}")


def _check_seen_layout(arrays: Mapping[str, np.ndarray], n_users: int) -> None:
    if "seen_indptr" in arrays or "seen_indices" in arrays:
        indptr, indices = arrays["seen_indptr"], arrays["seen_indices"]
        _require(indices.dtype == np.int32 and indices.ndim == 1, f"seen_indices are {indices.dtype}")
        _require(len(indptr) == n_users + 1, f"seen_indptr has {len(indptr)} entries for {n_users} users")


def check_ids(name: str, column: pa.Array) -> None:
    """Check that ids are sorted and distinct, as lookups require."""
    if types.is_integer(column.type):
        numbers = to_numpy(column)
        _require(bool(np.all(numbers[1:] > numbers[:-1])), f"{name} are not sorted, or not distinct")
        return
    import pyarrow.compute as pc

    plain = column.storage if is_uuid(column.type) else column
    in_order = to_numpy(pc.array_sort_indices(plain))
    _require(bool(np.all(in_order == np.arange(len(column)))), f"{name} are not sorted")
    _require(pc.count_distinct(plain).as_py() == len(column), f"{name} are not distinct")


def check_values(name: str, array: np.ndarray) -> None:
    """Check that an array is finite, and that counts are not negative."""
    _require(bool(np.isfinite(array).all()), f"{name} holds values that are not finite")
    _require(not name.endswith("_counts") or bool((array >= 0).all()), f"{name} holds counts below 0")


def check_seen(indptr: np.ndarray, indices: np.ndarray, n_items: int) -> None:
    """Check that the items each user has rated are items."""
    require_offsets(indptr, len(indices), "seen_indptr")
    inside = len(indices) == 0 or (indices.min() >= 0 and indices.max() < n_items)
    _require(bool(inside), f"seen_indices reach outside the {n_items} items")


def check_group(name: str, group: Any) -> None:
    """Check the values of a group of :mod:`fastmf.model.learned`."""
    for part, array in group._asdict().items():
        check_values(f"{name}_{part}", array)
        if is_precision(part):
            sound = bool(np.all((array > 1 / HUGE) & (array < HUGE)))
            _require(sound, f"{name}_{part} holds values that cannot be precisions")
        if isinstance(group, Prior | Samples | Choice):
            _require(bool(np.all(np.abs(array) < HUGE)), f"{name}_{part} holds values of {HUGE:g} or more")
    if isinstance(group, Choice):
        reg, reg0, all_pairs = group.numbers
        sound = reg >= 0 and reg0 > 0 and all_pairs >= 0
        _require(bool(sound), f"{name}_numbers are {group.numbers.tolist()}")
    if isinstance(group, Prior):
        _check_prior(name, group)


def _check_prior(name: str, prior: Prior) -> None:
    """Check the numbers that fold-in and :mod:`fastmf.model.uncertainty` divide by or invert."""
    alpha, bias_precision, bias_pull = prior.numbers
    sound = alpha > 1 / HUGE and (bias_precision > 1 / HUGE or bias_precision == bias_pull == 0)
    _require(bool(sound), f"{name}_numbers are {[alpha, bias_precision, bias_pull]}")
    precision = prior.precision.astype(np.float64)
    _require(bool(np.allclose(precision, precision.T, rtol=1e-4)), f"{name}_precision is not symmetric")
    smallest = np.linalg.eigvalsh(precision)[0]
    _require(bool(smallest > 1 / HUGE), f"{name}_precision has an eigenvalue of {smallest:.3g}")


def _require(true: bool, message: str) -> None:
    if not true:
        raise ValueError(message)


def _require_number(name: str, value: Any, least: float) -> None:
    _require(isinstance(value, Number) and least <= value <= LARGEST, f"{name} is {value!r}")
