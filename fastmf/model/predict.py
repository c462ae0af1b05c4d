"""Predictions: mean + user_bias[u] + item_bias[i] + user_factors[u] . item_factors[i], clipped to the rating range."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fastmf.data import ids
from fastmf.errors import ParameterError, UnknownIdError, require_choice
from fastmf.kernels.residual import ERRORS, ESTIMATE, PAIRS_PER_TASK
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Pairs, Scale, Side
from fastmf.model.frozen import thawed
from fastmf.model.state import State
from fastmf.model.uncertainty import deviations, require_samples
from fastmf.runtime.device import resolve
from fastmf.runtime.launch import launch

if TYPE_CHECKING:
    import pandas as pd


def predict_pairs(state: State, user_ids: Any, item_ids: Any, on_unknown: str, std: bool) -> "pd.DataFrame":
    """Predict the ratings of pairs of raw ids; see :meth:`fastmf.Model.predict`."""
    import pandas as pd

    require_choice("on_unknown", on_unknown, ("mean", "nan", "raise"))
    if std:
        require_samples(state)
    users = ids.as_column(state.arrow_ids("user"), ids.many(user_ids), "user")
    items = ids.as_column(state.arrow_ids("item"), ids.many(item_ids), "item")
    users, items = _repeated(users, items), _repeated(items, users)
    if len(users) != len(items):
        raise ParameterError(
            f"{len(users):,} user ids and {len(items):,} item ids: give one of each per pair, or one for all"
        )
    pairs = Pairs(state.present_rows("user", users), state.present_rows("item", items))
    unknown = (pairs.users < 0) | (pairs.items < 0)
    if on_unknown == "raise" and unknown.any():
        first = int(np.flatnonzero(unknown)[0])
        raise UnknownIdError(
            f"{int(unknown.sum()):,} of {len(unknown):,} pairs have an id without training ratings or features, the"
            f" first with user {users[first].as_py()!r} and item {items[first].as_py()!r}: leave them out, or set"
            " on_unknown to mean or nan"
        )
    out = estimates(state, pairs)
    if on_unknown == "nan":
        out[unknown] = np.nan
    frame = pd.DataFrame({"user_id": ids.to_pandas(users), "item_id": ids.to_pandas(items), "prediction": out})
    if std:
        frame["std"] = np.where(np.isnan(out), np.float32(np.nan), deviations(state, pairs))
    frame.attrs = {"unknown_users": int(np.sum(pairs.users < 0)), "unknown_items": int(np.sum(pairs.items < 0))}
    return frame


def _repeated(column: pa.ChunkedArray, other: pa.ChunkedArray) -> pa.ChunkedArray:
    """Repeat a single id as often as there are others."""
    return column.take(pa.array(np.zeros(len(other), np.int64))) if len(column) == 1 else column


def estimates(state: State, pairs: Pairs, sides: tuple[Side, Side] | None = None) -> np.ndarray:
    """Predict the ratings (n,) float32 of pairs by dense index (-1: unknown), clipped to the rating range.

    ``sides`` are those of users and items if they are not the model's own.
    """
    out, scale = np.empty(len(pairs.users), np.float32), Scale(state.mean, *state.rating_range)
    tasks, own = even(len(out), PAIRS_PER_TASK), thawed(sides) if sides else (state.user_side, state.item_side)
    launch(ESTIMATE, resolve("cpu"), tasks, pairs, *own, scale, out)
    return out


def error_sums(state: State, pairs: Pairs, values: np.ndarray, sides: tuple[Side, Side]) -> tuple[float, float]:
    """Sum the squared and the absolute errors of clipped predictions from the sides of users and items."""
    tasks, scale = even(len(values), PAIRS_PER_TASK), Scale(state.mean, *state.rating_range)
    squares, absolute = launch(ERRORS, resolve("cpu"), tasks, pairs, values, *thawed(sides), scale)
    return float(squares), float(absolute)
