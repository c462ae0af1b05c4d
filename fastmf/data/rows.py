"""From the columns that were read to the rows of Ratings: checked, encoded, sorted, and merged where pairs repeat."""

import warnings
from typing import Any

import numpy as np
import pyarrow as pa

from fastmf.data import csr, ids
from fastmf.data.arrow import from_numpy
from fastmf.data.bad_rows import as_days, as_values, as_weights, drop_bad_rows, is_number
from fastmf.data.columns import require_name
from fastmf.data.duplicates import merged, refusal, repeated
from fastmf.data.read import Column, read_roles
from fastmf.data.source import KINDS
from fastmf.data.times import Aging, HalfLife
from fastmf.errors import DataError
from fastmf.kernels.csr import ROW_BOUNDS
from fastmf.kernels.tasks import even
from fastmf.runtime.device import resolve
from fastmf.runtime.launch import launch

ROWS_PER_TASK = 1 << 16


def gathered(
    source: Any,
    roles: dict[str, str | None],
    unrated: bool,
    counted: bool,
    aging: Aging | None,
    keep_values: bool,
    **how: Any,
) -> dict[str, Column]:
    """Read the columns of ratings by role, with row counts as weights if they are to be ``counted``.

    ``roles`` holds the names asked for, as for :meth:`fastmf.Ratings.read`; ``how`` are arguments of ``read_roles``.
    """
    for role, name in roles.items():
        require_name(role, name)
    rating, weight = roles["rating"], roles["weight"]
    wanted: dict[str, str | None] = {role: name for role, name in roles.items() if role != "weight" and name != ""}
    optional = ["rating"] if unrated else []
    if weight:
        wanted["weight"] = weight
    elif weight is None and unrated and not isinstance(source, tuple):
        wanted["weight"] = None
        optional.append("weight")
    if rating == "" and isinstance(source, tuple):  # the third array is the ratings
        wanted["rating"], optional = None, ["rating"]
    wanted |= {} if aging is None else {"timestamp": aging.timestamp}
    kinds = KINDS if keep_values else KINDS | {"rating": "any"}
    found = read_roles(source, wanted, codes=True, optional=optional, kinds=kinds, **how)
    if rating == "" or (rating is None and not keep_values and "rating" in found and not _is_rated(found["rating"])):
        found.pop("rating", None)
    if "weight" not in found and unrated and counted:
        found["weight"] = Column("", _ones(len(found["user"].values)))
    elif "weight" in found and not weight:
        name = found["weight"].name
        warnings.warn(
            f"column {name!r} is taken as the weights of rows; --weight '' (weight='') takes none", stacklevel=4
        )
    return found


def _is_rated(column: Column) -> bool:
    """Check whether a column holds numbers at all."""
    return is_number(column.values.type) and column.values.null_count < len(column.values)


def assembled(
    found: dict[str, Column],
    keep_values: bool,
    duplicates: str,
    dropped: dict[str, int] | None,
    aging: Aging | None,
    counting: float | None,
) -> dict[str, Any]:
    """Make the fields of :class:`fastmf.Ratings` of columns by role; see :meth:`fastmf.Ratings.read`.

    Empties the dict, so that each column is freed once it is used. Without ``keep_values``, every value becomes 1.
    ``dropped`` counts the rows left out so far; with None, bad rows are errors. ``counting`` is that of
    :func:`fastmf.data.duplicates.merged`.
    """
    names, columns = _in_order(found)
    if dropped is not None:
        dropped |= drop_bad_rows(columns, names, None if aging is None else aging.time_unit)
    _release()
    names, weights, half_life = _weights_of(names, columns, aging)
    values, names = _values_of(names, columns.pop(), keep_values)
    users, user_ids = ids.encode(columns.pop(0), names[0])
    items, item_ids = ids.encode(columns.pop(0), names[1])
    _release()
    numbers: tuple[np.ndarray, ...] = (values,) if weights is None else (values, weights)
    users, items, numbers, n_again = _sorted(users, items, numbers, (len(user_ids), len(item_ids)))
    counts = {} if dropped is None else dropped
    if n_again:
        again = repeated(users, items)
        if duplicates == "error":
            first = int(np.flatnonzero(again)[0])
            raise refusal(n_again, len(users), user_ids[users[first]].as_py(), item_ids[items[first]].as_py())
        users, items, numbers = merged(users, items, numbers, again, duplicates, counting)
        counts = counts | {"duplicates": n_again}
    return {
        "users": users,
        "items": items,
        "values": numbers[0] if names[2] else np.ones(len(users), np.float32),
        "weights": None if len(numbers) == 1 else numbers[1],
        "user_ids": user_ids,
        "item_ids": item_ids,
        "columns": names,
        "duplicates": duplicates,
        "dropped": counts,
        "half_life": half_life,
    }


def _in_order(found: dict[str, Column]) -> tuple[tuple[str, ...], list[pa.ChunkedArray]]:
    """Take the columns out of a dict: users, items, ratings (1 if there are none), and any weights and times."""
    if len(found["user"].values) == 0:
        listed = ", ".join(repr(each.name) for each in found.values())
        raise DataError(f"there are no ratings: columns {listed} have 0 rows")
    if "rating" not in found:
        found["rating"] = Column("", _ones(len(found["user"].values)))
    taken = [found.pop(role) for role in ("user", "item", "rating", "weight", "timestamp") if role in found]
    return tuple(column.name for column in taken), [column.values for column in taken]


def _ones(n: int) -> pa.ChunkedArray:
    return pa.chunked_array([from_numpy(np.ones(n, np.float32))])


def _values_of(
    names: tuple[str, ...], column: pa.ChunkedArray, keep_values: bool
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the ratings, 1 if they are not kept, and the names. Warn if ratings not kept seem to hold dislikes."""
    values, name = as_values(column, names[2]), names[2]
    if keep_values or not name:
        return values, names
    n_low = int(np.count_nonzero(values <= 0))
    if n_low:
        warnings.warn(
            f"column {name!r} has {n_low:,} of {len(values):,} ratings of 0 or below, which count as observed like the"
            " others: leave these rows out, or say what counts with --positive-from (positive_from=)",
            stacklevel=4,
        )
    return np.ones(len(values), np.float32), (*names[:2], "", *names[3:])


def _weights_of(
    names: tuple[str, ...], columns: list[pa.ChunkedArray], aging: Aging | None
) -> tuple[tuple[str, ...], np.ndarray | None, HalfLife | None]:
    """Remove the columns of weights and times, if there are any.

    Returns the names without that of times, the weights by both, and what the weights by time are.
    """
    if aging is None:
        return names, as_weights(columns.pop(), names[3]) if len(names) > 3 else None, None
    *rest, name = names
    when = as_days(columns[-1], name, aging.time_unit)
    half_life = aging.of(columns.pop(), name, when)
    _, weights, _ = _weights_of(tuple(rest), columns, None)
    return tuple(rest), half_life.weigh(when, weights), half_life


def _release() -> None:
    """Return Arrow's unused memory to the system: the sort that follows needs it."""
    pa.default_memory_pool().release_unused()


def _sorted(
    users: np.ndarray, items: np.ndarray, numbers: tuple[np.ndarray, ...], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...], int]:
    """Sort rows by user and item, stably; count those that repeat the pair before them."""
    _, unordered, repeats = bounds_of(users, items, shape[0])
    if unordered:
        weights = numbers[1] if len(numbers) > 1 else None
        found = csr.compress(users, items, numbers[0], shape, resolve("cpu"), weights=weights, by_column=True)
        users, items = np.repeat(np.arange(shape[0], dtype=np.int32), np.diff(found.indptr)), found.indices
        numbers = (found.values,) if found.weights is None else (found.values, found.weights)
        _, _, repeats = bounds_of(users, items, shape[0])
    return users, items, numbers, repeats


def bounds_of(users: np.ndarray, items: np.ndarray, n_users: int) -> tuple[np.ndarray, int, int]:
    """Find the bounds of each user's rows, (n_users + 1,) int64; count tasks out of order, and repeated pairs."""
    indptr = np.zeros(n_users + 1, np.int64)
    if len(users) == 0:
        return indptr, 0, 0
    unordered, repeats = launch(ROW_BOUNDS, resolve("cpu"), even(len(users), ROWS_PER_TASK), users, items, indptr)
    return indptr, int(unordered), int(repeats)
