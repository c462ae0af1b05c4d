"""From the columns that were read to the rows of Ratings: checked, encoded, sorted, and merged where pairs repeat."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fastmf.data import csr, ids
from fastmf.data.arrow import from_numpy
from fastmf.data.bad_rows import as_days, as_values, as_weights, drop_bad_rows, is_number
from fastmf.data.columns import require_name
from fastmf.data.duplicates import merged, refusal, repeated
from fastmf.data.parquet import Chunk
from fastmf.data.read import Column, parquet_chunks, read_batches, read_roles
from fastmf.data.source import KINDS
from fastmf.data.times import Aging
from fastmf.errors import DataError
from fastmf.kernels.csr import ROW_BOUNDS
from fastmf.kernels.tasks import even
from fastmf.runtime.device import resolve
from fastmf.runtime.launch import launch

ROWS_PER_TASK = 1 << 16


class Asked(NamedTuple):
    """What rows are to be made of, and how; see :meth:`fastmf.Ratings.read`.

    where : what to call the source in messages; "" for nothing. roles : names of columns by role, as they were asked
    for. unrated : whether feedback is implicit. counting : then the lowest rating that counts, if not all do. aging :
    the half-life, if there is one. keep_values : False to make every value 1.
    """

    where: str
    roles: Mapping[str, str | None]
    duplicates: str = "error"
    unrated: bool = False
    counting: float | None = None
    aging: Aging | None = None
    keep_values: bool = True

    @property
    def counted(self) -> bool:
        """Whether row counts are weights, if there are no others."""
        return self.unrated and self.duplicates == "sum"

    @property
    def time_unit(self) -> str | None:
        """The unit of times; None if there are none."""
        return None if self.aging is None else self.aging.time_unit

    @contextlib.contextmanager
    def placed(self) -> Iterator[None]:
        """Say in errors of the data where they are."""
        try:
            yield
        except DataError as error:
            raise DataError(f"{self.where}: {error}" if self.where else str(error)) from None


def gathered(source: Any, asked: Asked, **how: Any) -> dict[str, Column]:
    """Read the columns of ratings by role; ``how`` are arguments of ``read_roles``."""
    wanted, options = _wanted(source, asked)
    return _settled(read_roles(source, wanted, codes=True, **options, **how), asked, first=True)


def gathered_in_batches(source: Any, asked: Asked, at_once: int, **how: Any) -> Iterator[dict[str, Column]]:
    """Read the columns of ratings by role, at most so many rows at once."""
    wanted, options = _wanted(source, asked)
    for place, found in enumerate(read_batches(source, wanted, at_once, codes=True, **options, **how)):
        yield _settled(found, asked, first=place == 0)


def gathered_chunks(source: Any, asked: Asked, at_once: int, **how: Any) -> tuple[dict[str, str], list[Chunk]]:
    """Return the names of columns by role, and the chunks of Parquet files; :func:`gathered_chunk` reads one."""
    wanted, options = _wanted(source, asked)
    return parquet_chunks(source, wanted, at_once, codes=True, **options, **how)


def gathered_chunk(chunk: Chunk, chosen: Mapping[str, str], asked: Asked, first: bool) -> dict[str, Column]:
    """Read the columns of a chunk by role. Warn of weights in the ``first`` one."""
    table, names = chunk.read(), list(chunk.names)
    columns = {role: Column(name, table.column(names.index(name))) for role, name in chosen.items()}
    return _settled(columns, asked, first)


def _wanted(source: Any, asked: Asked) -> tuple[dict[str, str | None], dict[str, Any]]:
    """Return the columns to read, by role, and which of them are optional and of what kinds."""
    for role, name in asked.roles.items():
        require_name(role, name)
    rating, weight = asked.roles["rating"], asked.roles["weight"]
    wanted: dict[str, str | None] = {
        role: name for role, name in asked.roles.items() if role != "weight" and name != ""
    }
    optional = ["rating"] if asked.unrated else []
    if weight:
        wanted["weight"] = weight
    elif weight is None and asked.unrated and not isinstance(source, tuple):
        wanted["weight"] = None
        optional.append("weight")
    if rating == "" and isinstance(source, tuple):  # the third array is the ratings
        wanted["rating"], optional = None, ["rating"]
    wanted |= {} if asked.aging is None else {"timestamp": asked.aging.timestamp}
    return wanted, {"optional": optional, "kinds": KINDS if asked.keep_values else KINDS | {"rating": "any"}}


def _settled(found: dict[str, Column], asked: Asked, first: bool) -> dict[str, Column]:
    """Leave out ratings that are not wanted; add row counts as weights. Warn of weights in the ``first`` batch."""
    rating, weight = asked.roles["rating"], asked.roles["weight"]
    unused = rating is None and not asked.keep_values and "rating" in found and not _is_rated(found["rating"])
    if rating == "" or unused:
        found.pop("rating", None)
    if "weight" not in found and asked.counted:
        found["weight"] = Column("", _ones(len(found["user"].values)))
    elif "weight" in found and not weight and first:
        name = found["weight"].name
        warnings.warn(
            f"column {name!r} is taken as the weights of rows; --weight '' (weight='') takes none", stacklevel=5
        )
    return found


def _is_rated(column: Column) -> bool:
    """Check whether a column holds numbers at all."""
    return is_number(column.values.type) and column.values.null_count < len(column.values)


class Checked(NamedTuple):
    """Rows without faults: the places of their ids among the distinct ids, and their numbers.

    places : (n,) int32 of users and of items. ids : the sorted distinct ids of both. values (n,) float32; weights (n,)
    float32 and days since 1970 (n,) float64, or None. names : of the columns but that of times, which has a name and a
    type of its own. n_low : the number of ratings of 0 or below, if they are not kept.
    """

    places: tuple[np.ndarray, np.ndarray]
    ids: tuple[pa.Array, pa.Array]
    values: np.ndarray
    weights: np.ndarray | None
    days: np.ndarray | None
    names: tuple[str, ...]
    name_of_times: str
    kind_of_times: pa.DataType | None
    n_low: int


def checked(columns: list[pa.ChunkedArray], names: tuple[str, ...], asked: Asked) -> Checked:
    """Check the columns of users, items, ratings and any weights and times; raise a DataError for bad rows.

    Empties the list, so that each column is freed once it is used.
    """
    days, weights, when, kind = None, None, "", None
    if asked.time_unit is not None:
        names, when, kind = names[:-1], names[-1], columns[-1].type
        days = as_days(columns.pop(), when, asked.time_unit)
    if len(names) > 3:
        weights = as_weights(columns.pop(), names[3])
    values, n_low = as_values(columns.pop(), names[2]), 0
    if not asked.keep_values and names[2]:
        n_low = int(np.count_nonzero(values <= 0))
        values = np.ones(len(values), np.float32)
    users, user_ids = ids.encode(columns.pop(0), names[0])
    items, item_ids = ids.encode(columns.pop(0), names[1])
    return Checked((users, items), (user_ids, item_ids), values, weights, days, names, when, kind, n_low)


def named(names: tuple[str, ...], keep_values: bool) -> tuple[str, ...]:
    """Return the names of the columns that Ratings have: without that of ratings that are not kept."""
    return names if keep_values else (*names[:2], "", *names[3:])


def warn_of_low(name: str, n_low: int, n_rows: int) -> None:
    """Warn if ratings that are not kept seem to hold dislikes."""
    if n_low:
        warnings.warn(
            f"column {name!r} has {n_low:,} of {n_rows:,} ratings of 0 or below, which count as observed like the"
            " others: leave these rows out, or say what counts with --positive-from (positive_from=)",
            stacklevel=5,
        )


def assembled(found: dict[str, Column], asked: Asked, dropped: dict[str, int] | None) -> dict[str, Any]:
    """Make the fields of :class:`fastmf.Ratings` of columns by role; see :meth:`fastmf.Ratings.read`.

    Empties the dict, so that each column is freed once it is used. ``dropped`` counts the rows left out so far; with
    None, bad rows are errors.
    """
    names, columns = in_order(found)
    if dropped is not None:
        dropped |= drop_bad_rows(columns, names, asked.time_unit)
    _release()
    rows = checked(columns, names, asked)
    warn_of_low(names[2], rows.n_low, len(rows.values))
    weights, half_life = rows.weights, None
    if asked.aging is not None and rows.days is not None:
        half_life = asked.aging.of(rows.kind_of_times, rows.name_of_times, float(rows.days.max()))
        weights = half_life.weigh(rows.days, weights)
    (users, items), (user_ids, item_ids), names = rows.places, rows.ids, named(rows.names, asked.keep_values)
    numbers: tuple[np.ndarray, ...] = (rows.values,) if weights is None else (rows.values, weights)
    del rows, weights
    _release()
    users, items, numbers, n_again = in_pair_order(users, items, numbers, (len(user_ids), len(item_ids)))
    counts = {} if dropped is None else dropped
    if n_again:
        again = repeated(users, items)
        if asked.duplicates == "error":
            first = int(np.flatnonzero(again)[0])
            raise refusal(n_again, len(users), user_ids[users[first]].as_py(), item_ids[items[first]].as_py())
        users, items, numbers = merged(users, items, numbers, again, asked.duplicates, asked.counting)
        counts = counts | {"duplicates": n_again}
    values = numbers[0] if names[2] else np.ones(len(users), np.float32)
    weights = None if len(numbers) == 1 else numbers[1]
    about = {"columns": names, "duplicates": asked.duplicates, "dropped": counts, "half_life": half_life}
    arrays = {"users": users, "items": items, "values": values, "weights": weights}
    return {**arrays, "user_ids": user_ids, "item_ids": item_ids, **about}


def in_order(found: dict[str, Column]) -> tuple[tuple[str, ...], list[pa.ChunkedArray]]:
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


def _release() -> None:
    """Return Arrow's unused memory to the system: the sort that follows needs it."""
    pa.default_memory_pool().release_unused()


def in_pair_order(
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
