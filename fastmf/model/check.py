"""Checks of what a model file holds: everything that kernels and lookups rely on, since a file may come from anywhere.

Each check raises a ModelFormatError, or whatever else a malformed value makes Python raise.
"""

import math
from dataclasses import fields
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastmf.data.ids import is_uuid
from fastmf.data.packed_ids import require_offsets
from fastmf.errors import ModelFormatError
from fastmf.model.equations import RowEquations
from fastmf.model.learned import KINDS, SHAPES

Number = int | float
LARGEST = float(np.finfo(np.float32).max)
HUGE = 1e12  # beyond what ratings of deviation 1 lead to, with room to multiply in float32


def refuse_constant(name: str) -> NoReturn:
    """Refuse the NaN and infinity that JSON may hold."""
    raise ModelFormatError(f"the model file is damaged: its metadata hold {name}; fit and save it again")


def finite(text: str) -> float:
    """Read a number of JSON that is finite."""
    return float(text) if math.isfinite(float(text)) else refuse_constant(text)


def check_metadata(metadata: Any) -> None:
    """Check types, and that float32 arithmetic can use the numbers."""
    kinds = {"rating_range": list, "solver": dict, "history": list, "rows": dict, "id_types": dict, "implicit": bool}
    for name, kind in kinds.items():
        _require(isinstance(metadata[name], kind), f"{name} is {metadata[name]!r}")
    best, (low, high) = metadata["best_epoch"], metadata["rating_range"]
    known = best is None or (isinstance(best, int) and 1 <= best <= len(metadata["history"]))
    _require(known, f"best_epoch is {best!r}")
    _require(isinstance(metadata["solver"].get("name"), str), f"solver is {metadata['solver']!r}")
    for name, value in {"mean": metadata["mean"], "scale": metadata["scale"], "low": low, "high": high}.items():
        _require(isinstance(value, Number) and abs(value) <= LARGEST, f"{name} is {value!r}")
    _require(bool(np.float32(metadata["scale"]) > 0), f"scale is {metadata['scale']!r}")
    _require(low <= high, f"rating_range is {metadata['rating_range']!r}")
    _check_equations(metadata["equations"])
    for name in ("blend", "positive_from"):
        value, least = metadata[name], 0 if name == "blend" else -LARGEST
        _require(value is None or (isinstance(value, Number) and least <= value <= LARGEST), f"{name} is {value!r}")
    counted = [*metadata["rows"].values(), *(value for epoch in metadata["history"] for value in epoch.values())]
    _require(all(isinstance(value, Number | None) for value in counted), "history or rows hold what is not a number")


def _check_equations(equations: Any) -> None:
    """Check the numbers of a :class:`RowEquations`, or None."""
    if equations is None:
        return
    _require(set(equations) == {field.name for field in fields(RowEquations)}, f"equations are {equations!r}")
    for name, value in equations.items():
        if name == "seed":
            _require(isinstance(value, int) and 0 <= value < 2**63, f"seed is {value!r}")
        elif not (name == "bias_reg" and value is None):
            _require(isinstance(value, Number) and 0 <= value <= LARGEST, f"{name} is {value!r}")


def check_ids(ids: dict[str, pa.Array]) -> None:
    """Check that there are ids, sorted and distinct: lookups search them."""
    for name, column in ids.items():
        _require(len(column) > 0, f"there are no {name}")
        plain = column.storage if is_uuid(column.type) else column
        in_order = pc.array_sort_indices(plain).to_numpy()
        _require(bool(np.all(in_order == np.arange(len(column)))), f"{name} are not sorted")
        _require(pc.count_distinct(plain).as_py() == len(column), f"{name} are not distinct")


def check_arrays(arrays: dict[str, np.ndarray], ids: dict[str, pa.Array]) -> None:
    """Check shapes, types and ranges of everything."""
    n_users, n_items, k = len(ids["user_ids"]), len(ids["item_ids"]), arrays["user_factors"].shape[-1]
    for side, n in (("user", n_users), ("item", n_items)):
        _check_array(arrays, f"{side}_factors", (n, k), np.float32)
        _check_array(arrays, f"{side}_bias", (n,), np.float32)
        _check_array(arrays, f"{side}_counts", (n,), np.int32)
        _require(bool((arrays[f"{side}_counts"] >= 0).all()), "counts below 0")
    known = {f"{group}_{part}" for group, kind in KINDS.items() for part in kind._fields}
    known |= {f"{side}_{part}" for side in ("user", "item") for part in ("factors", "bias", "counts")}
    unknown = sorted(set(arrays) - known - {"seen_indptr", "seen_indices"})
    _require(not unknown, f"it holds arrays that no model has: {', '.join(unknown)}")
    _check_learned(arrays, {"users": n_users, "items": n_items, "k": k, "numbers": 3})
    if "seen_indptr" in arrays:
        indptr, indices = arrays["seen_indptr"], arrays["seen_indices"]
        _require(indices.dtype == np.int32 and indices.ndim == 1, f"seen_indices are {indices.dtype}")
        _require(len(indptr) == n_users + 1, f"seen_indptr has {len(indptr)} entries for {n_users} users")
        require_offsets(indptr, len(indices), "seen_indptr")
        inside = len(indices) == 0 or (indices.min() >= 0 and indices.max() < n_items)
        _require(bool(inside), f"seen_indices reach outside the {n_items} items")


def _check_array(arrays: dict[str, np.ndarray], name: str, shape: tuple[int, ...], dtype: type) -> None:
    array = arrays[name]
    _require(array.shape == shape, f"{name} has shape {array.shape}, not {shape}")
    _require(array.dtype == dtype, f"{name} is {array.dtype}, not {np.dtype(dtype)}")
    _require(bool(np.isfinite(array).all()), f"{name} holds values that are not finite")


def _check_learned(arrays: dict[str, np.ndarray], sizes: dict[str, int]) -> None:
    """Check the groups that only some solvers learn: each is whole or not there."""
    if "samples_user_bias" in arrays:
        sizes = sizes | {"samples": len(arrays["samples_user_bias"])}
    for group, shapes in SHAPES.items():
        parts = [f"{group}_{part}" for part in KINDS[group]._fields]
        there = [name for name in parts if name in arrays]
        _require(not there or len(there) == len(parts), f"of {', '.join(parts)} only {', '.join(there)} are there")
        for name, dimensions in zip(there, shapes, strict=False):
            _check_array(arrays, name, tuple(sizes[dimension] for dimension in dimensions), np.float32)
    if "samples_user_bias" in arrays:
        _require("prior_mean" in arrays, "it has samples, but no prior")
        _require(sizes["samples"] > 0, "it has 0 samples")
    if "prior_mean" in arrays:
        _check_prior(arrays)


def _check_prior(arrays: dict[str, np.ndarray]) -> None:
    """Check what is divided by, or inverted, to say how sure a prediction is."""
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


def _require(true: bool, message: str) -> None:
    if not true:
        raise ModelFormatError(f"the model file is damaged: {message}; fit and save it again")
