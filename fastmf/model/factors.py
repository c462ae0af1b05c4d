"""What factors mean: the items, the users and the categories of items at both ends of each axis of a model.

Axis 0 is that of the biases: which items are rated higher or lower than expected for their popularity. What a straight
line in log(number of ratings) predicts is taken off first: popular items are usually rated higher.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fastmf.data import ids
from fastmf.data.features import Features
from fastmf.data.write import frame_of
from fastmf.errors import ParameterError, require_choice, require_integer
from fastmf.model.axes import Axes, axes_of
from fastmf.model.enrichment import Groups, enriched, groups_of
from fastmf.model.state import State

if TYPE_CHECKING:
    import pandas as pd

OF = "items", "users", "categories"
ENOUGH = 20  # training ratings of a row at an end, if as many rows have them


def ends_of(state: State, n: int, *, of: str, axes: int, min_count: int | None, item_features: Any) -> "pd.DataFrame":
    """Return the frame of :meth:`fastmf.Model.factors`, without titles."""
    require_choice("of", of, OF)
    require_integer("n", n, 1)
    require_integer("axes", axes, 0)
    if min_count is not None:
        require_integer("min_count", min_count, 0)
    found = axes_of(state)
    if of == "categories":
        return _categories(state, found, axes, min_count, item_features)
    if item_features is not None:
        raise ParameterError(f"item_features are for of='categories', not for of={of!r}: leave them out")
    return _ends(state, found, of.removesuffix("s"), n, axes, min_count)


def features_of(state: State, source: Any, **layout: Any) -> Features:
    """Read side features of the model's items; ``layout`` is that of text."""
    return Features.read(source, "item", id_column=state.columns[1], like=state.arrow_ids("item"), **layout)


def groups_among(state: State, features: Features, items: np.ndarray) -> Groups:
    """Return the groups that features make of some items, given as indices."""
    places = ids.lookup(features.ids, state.arrow_ids("item").take(pa.array(items)), "item")
    return groups_of(features, places)


def table_of(state: State, axes: Axes, side: str, n_axes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the numbers of the first axes, their shares, and the coordinates (n_rows, n) of "user" or "item" rows.

    Axis 0, of biases beyond popularity, comes first; there is none without biases.
    """
    counts = getattr(state, f"{side}_counts")
    bias = {"user": axes.user_bias, "item": axes.item_bias}[side]
    coordinates = {"user": axes.users, "item": axes.items}[side][:, :n_axes]
    numbers, shares = np.arange(1, coordinates.shape[1] + 1), axes.share[:n_axes]
    if not getattr(state, f"{side}_bias").any():
        return numbers, shares, coordinates
    beyond = bias - _by_popularity(bias, counts) if side == "item" else bias
    share = axes.bias_shares[("user", "item").index(side)]
    return np.append(0, numbers), np.append(share, shares), np.column_stack([beyond, coordinates])


def enough(counts: np.ndarray, min_count: int | None) -> np.ndarray:
    """Return the rows with enough training ratings to be shown: ``min_count``, by default ENOUGH, or else any."""
    least = max(1, ENOUGH if min_count is None else min_count)
    if min_count is None and np.count_nonzero(counts >= least) < ENOUGH:
        least = 1
    return np.flatnonzero(counts >= least)


def both_ends(shown: np.ndarray, values: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows among ``shown`` with the lowest and with the highest values, outermost first.

    Each end has at most n rows, and no row is at both.
    """
    order = shown[np.argsort(values[shown], kind="stable")]
    n_low = min(n, len(order) // 2)
    return order[:n_low], order[::-1][: min(n, len(order) - n_low)]


def _by_popularity(bias: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return what a straight line in log(counts) predicts of biases (n,), fitted to the rows with enough ratings."""
    rows = enough(counts, None)
    logs = np.log(np.maximum(counts, 1))
    away = logs - logs[rows].mean() if len(rows) else logs
    squares = np.einsum("n,n->", away[rows], away[rows])
    slope = np.einsum("n,n->", away[rows], bias[rows]) / squares if squares > 0 else 0.0
    return (bias[rows].mean() if len(rows) else 0.0) + slope * away


def _ends(state: State, axes: Axes, side: str, n: int, n_axes: int, min_count: int | None) -> "pd.DataFrame":
    import pandas as pd

    counts, known = getattr(state, f"{side}_counts"), state.arrow_ids(side)
    numbers, shares, coordinates = table_of(state, axes, side, n_axes)
    shown = enough(counts, min_count)
    parts = []
    for place, (number, share) in enumerate(zip(numbers, shares, strict=True)):
        for end, rows in zip(("low", "high"), both_ends(shown, coordinates[:, place], n), strict=True):
            parts.append((number, share, end, rows, coordinates[rows, place]))
    rows = np.concatenate([part[3] for part in parts]) if parts else np.empty(0, np.int64)
    sizes = [len(part[3]) for part in parts]
    return pd.DataFrame(
        {
            "axis": np.repeat(np.array([part[0] for part in parts], np.int32), sizes),
            "share": np.repeat(np.array([part[1] for part in parts], np.float64), sizes),
            "end": np.repeat(np.array([part[2] for part in parts], object), sizes).astype("str"),
            "rank": np.concatenate([np.arange(1, size + 1, dtype=np.int32) for size in [0, *sizes]]),
            f"{side}_id": ids.to_pandas(known.take(pa.array(rows))),
            "coordinate": np.concatenate([np.empty(0), *(part[4] for part in parts)]),
            "count": counts[rows],
        }
    )


def _categories(state: State, axes: Axes, n_axes: int, min_count: int | None, source: Any) -> "pd.DataFrame":
    features = state.item_features if source is None else features_of(state, source)
    if features is None:
        raise ParameterError("categories need side features of items: give item_features= (--item-features)")
    shown = enough(state.item_counts, min_count)
    numbers, _, coordinates = table_of(state, axes, "item", n_axes)
    found = enriched(groups_among(state, features, shown), coordinates[shown], state.item_counts[shown])
    kinds = {"axis": "int32", "end": "str", "category": "str", "items": "int64", "expected": "float64",
             "p_value": "float64"}  # fmt: skip
    frame = frame_of({**row, "axis": numbers[row["axis"]]} for row in found)
    return frame.reindex(columns=list(kinds)).astype(kinds)
