"""Models that grow: further ids, new rows solved from their ratings, and what has been rated since.

Nothing here changes a model in place.
"""

import warnings
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from fastmf.data import csr, ids
from fastmf.data.features import Features
from fastmf.data.ratings import Ratings
from fastmf.errors import DataError
from fastmf.kernels.types import Compressed, Side
from fastmf.model.baseline import fold_bias
from fastmf.model.choice import choosing
from fastmf.model.fold_in import (
    expected_rows,
    features_like,
    half_of,
    interests,
    known_entries,
    read_like_training,
    require_finite,
    solve_rows,
)
from fastmf.model.learned import SHAPES, is_precision
from fastmf.model.state import State
from fastmf.runtime.device import Device, resolve

S = TypeVar("S", bound=State)


def fold_items(state: S, ratings: Any, features: Any, device: str | Device, reading: dict[str, Any]) -> S:
    """Solve for the items of new ratings; see :meth:`fastmf.Model.fold_in_items`."""
    where, given = resolve(device), read_like_training(state, ratings, **reading)
    half_of(state, "item")  # is there a rule?
    _require_new_items(state, given)
    rated = observed = known_entries(state, given, "item")
    if state.implicit:
        observed = known_entries(state, given.observed(state.positive_from, state.negative_to), "item")
    liked, n_observed = interests(state, observed) > 0, len(observed.values)
    if not liked.all():  # items with dislikes alone stay cold
        observed = csr.take(observed, np.where(liked, np.arange(len(liked)), -1))
    there = given.item_counts > 0
    if features is not None:
        state, _ = add_new_rows(state, "item", features)
    wide, places = widened(state, "item", given.item_ids.filter(pa.array(there)))
    rated, observed = (csr.select(entries, there) for entries in (rated, observed))
    found = solved_into(wide, "item", places, observed, where)
    counted = observed.indices if state.negative_to is None else observed.indices[observed.values > 0]
    user_counts = wide.user_counts + np.bincount(counted, minlength=len(wide.user_ids))
    item_counts = wide.item_counts.copy()
    item_counts[places] = interests(state, observed)
    pairs = np.repeat(places, np.diff(rated.indptr)), rated.indices
    seen = csr.compress(pairs[1], pairs[0], rated.values, (len(wide.user_ids), len(wide.item_ids)), resolve("cpu"))
    found = with_pairs(found, seen, user_counts, item_counts)
    counts = {**given.rows, "used": len(rated.values), "unknown_users": len(given) - len(rated.values)}
    if state.implicit:
        counts["observed"] = len(counted)
    if state.negative_to is not None:
        counts["disliked"] = len(observed.values) - len(counted)
        counts["disliked_cold"] = n_observed - len(observed.values)
    return with_counts(found, given, counts)


def add_rows(state: S, side: str, features: Any) -> S:
    """Add "user" or "item" rows that are known by their features alone; see :meth:`fastmf.Model.add_items`."""
    found = features_like(state, side, features)
    again = np.flatnonzero(state.present_rows(side, found.ids) >= 0)
    if len(again):
        first = found.ids[int(again[0])].as_py()
        raise DataError(
            f"{len(again):,} of {len(found):,} {side}s are in the model already, the first {first!r}: give new ones"
        )
    return _added(state, side, found)


def add_new_rows(state: S, side: str, features: Any, id_column: str | None = None, **layout: Any) -> tuple[S, int]:
    """Add the rows of a table of features that the model does not know; also return how many of them it knows."""
    found = features_like(state, side, features, id_column, **layout)
    new = state.present_rows(side, found.ids) < 0
    n_known = int(np.count_nonzero(~new))
    return (_added(state, side, found.of(found.ids.filter(pa.array(new)))) if new.any() else state), n_known


def _added(state: S, side: str, found: Features) -> S:
    """Add rows to the model that are solved without ratings, so that they are what their features say."""
    n_blank = int(np.count_nonzero(np.diff(found.rows.indptr) == 0))
    if n_blank:
        warnings.warn(
            f"the table says nothing of {n_blank:,} of {len(found):,} {side}s: they stay unknown", stacklevel=4
        )
    wide, places = widened(state, side, found.ids)
    features = getattr(wide, f"{side}_features").updated(found.of(wide.arrow_ids(side)))
    changes: dict[str, Any] = {f"{side}_features": features}
    nothing = np.empty(0, np.float32)
    entries = Compressed(np.zeros(len(places) + 1, np.int64), np.empty(0, np.int32), nothing, None)
    return solved_into(replace(wide, **changes), side, places, entries, resolve("cpu"))


def _require_new_items(state: State, given: Ratings) -> None:
    known = np.flatnonzero((state.known_items(given.item_ids) >= 0) & (given.item_counts > 0))
    if len(known):
        first = given.item_ids[int(known[0])].as_py()
        raise DataError(
            f"{len(known):,} of {np.count_nonzero(given.item_counts):,} items have been fitted already, the first"
            f" {first!r}: give ratings of new items alone, or call update"
        )


def widened(state: S, side: str, more: pa.Array) -> tuple[S, np.ndarray]:
    """Return the model with further "user" or "item" ids, whose rows are cold, and the indices (n,) of these ids.

    Raises
    ------
    DataError
        If the ids are of another kind than the model's.
    """
    merged, old, places = ids.union(state.arrow_ids(side), more, side)
    if len(merged) == len(old):
        return state, places
    source = np.full(len(merged), -1)
    source[old] = np.arange(len(old))
    seen = state.seen
    if seen is not None and side == "user":
        seen = np.append(0, np.cumsum(np.append(np.diff(seen[0]), 0)[source])), seen[1]
    elif seen is not None:
        seen = seen[0], old[seen[1]]
    return replace(rearranged(state, side, merged, source), seen=seen), places


def rearranged(state: S, side: str, row_ids: pa.Array, source: np.ndarray) -> S:
    """Return the model with other rows of a side: row r is the old row ``source[r]``, or a cold one if that is -1.

    What users have seen stays as it is, and has to be rearranged by the caller.
    """

    def taken(array: np.ndarray, axis: int = 0, blank: int = 0) -> np.ndarray:
        out = array.take(source, axis)
        out[(slice(None),) * axis + (source < 0,)] = blank
        return out

    changes: dict[str, Any] = {f"{side}_ids": row_ids}
    for part in ("factors", "bias", "counts"):
        changes[f"{side}_{part}"] = taken(getattr(state, f"{side}_{part}"))
    for group, held in state.learned.items():
        if held is not None:
            fields = zip(held._fields, held, SHAPES[group], strict=True)
            changes[group] = type(held)(
                *(
                    taken(array, shape.index(f"{side}s"), int(is_precision(name))) if f"{side}s" in shape else array
                    for name, array, shape in fields
                )
            )
    features = getattr(state, f"{side}_features")
    changes[f"{side}_features"] = None if features is None else features.of(row_ids)
    return replace(state, **changes)


def solved_into(
    state: S, side: str, rows: np.ndarray, entries: Compressed, device: Device, before: Compressed | None = None
) -> S:
    """Solve rows of a side with the other side fixed, and return the model with them.

    ``entries`` holds the standardised ratings of the rows, one row each. With ``before``, the same without some of
    them, rows move by what these change in the solution. This keeps what rows that are means over sweeps know besides.

    Raises
    ------
    ParameterError
        If the model has no rule for these rows.
    DivergenceError
        If a row overflows float32.
    """
    other = "item" if side == "user" else "user"
    known, features = getattr(state, f"{other}_prior"), getattr(state, f"{side}_features")
    precisions = None if known is None else known.others[rows]  # 1 if the rows are new
    expected = None if features is None else expected_rows(state, side, csr.take(features.rows, rows))
    half, own = half_of(state, side), Side(getattr(state, f"{side}_factors"), getattr(state, f"{side}_bias"))
    found, draws = solve_rows(half, state.samples, entries, device, expected, precisions)
    if before is not None:
        then, _ = solve_rows(half, None, before, device, expected, precisions)
        found = Side(*(old[rows] + new - less for old, new, less in zip(own, found, then, strict=True)))
    require_finite(found, side, state.arrow_ids(side).take(pa.array(rows)))
    changes: dict[str, Any] = {
        f"{side}_factors": _placed(own.factors, rows, found.factors),
        f"{side}_bias": _placed(own.bias, rows, found.bias),
    }
    if state.baseline is not None:
        own, fixed = (getattr(state.baseline, f"{name}_bias") for name in (side, other))
        biases = _placed(own, rows, fold_bias(fixed, entries, state.scale))
        changes["baseline"] = state.baseline._replace(**{f"{side}_bias": biases})
    if state.choice is not None:
        own_features = None if features is None else csr.take(features.rows, rows)
        vectors = choosing(state, state.choice, side, entries, own_features, device)
        whole = _placed(getattr(state.choice, f"{side}s"), rows, vectors)
        changes["choice"] = state.choice._replace(**{f"{side}s": whole})
    if state.samples is not None:
        placed = {}
        for name, drawn in draws.items():
            placed[name] = getattr(state.samples, name).copy()
            placed[name][:, rows] = drawn
        changes["samples"] = state.samples._replace(**placed)
    return replace(state, **changes)


def _placed(array: np.ndarray, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    out = array.copy()
    out[rows] = values
    return out


def with_pairs(state: S, seen: Compressed, user_counts: np.ndarray, item_counts: np.ndarray) -> S:
    """Return the model that has seen further pairs, by user, and has these counts of training ratings.

    If the model does not hold what users have rated, it still does not.
    """
    changes: dict[str, Any] = {"user_counts": user_counts.astype(np.int32), "item_counts": item_counts.astype(np.int32)}
    if state.seen is not None:
        indptr, indices = state.seen
        both, _ = csr.insert(Compressed(indptr, indices, indices), seen._replace(values=seen.indices, weights=None))
        changes["seen"] = both.indptr, both.indices
    for rule, columns in (("user_rule", "item_counts"), ("item_rule", "user_counts")):
        held, before = getattr(state, rule), np.count_nonzero(getattr(state, columns))
        changes[rule] = held and held.for_columns(before, np.count_nonzero(changes[columns]))
    return replace(state, **changes)


def with_counts(state: S, given: Ratings, counts: dict[str, int]) -> S:
    """Return the model with counts of further rating rows added to its own, and with their range of ratings."""
    rows = {name: state.rows.get(name, 0) + counts.get(name, 0) for name in state.rows | counts}
    if state.implicit or not len(given):
        return replace(state, rows=rows)
    both = [*state.rating_range, float(given.values.min()), float(given.values.max())]
    return replace(state, rows=rows, rating_range=(min(both), max(both)))
