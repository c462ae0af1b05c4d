"""Hold out rows of a table for evaluation, whole rows with all their columns."""

from numbers import Real
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastmf.data import ids
from fastmf.data.columns import choose
from fastmf.data.files import called
from fastmf.data.layout import layout_of
from fastmf.data.read import read_table
from fastmf.data.times import of_text
from fastmf.errors import DataError, ParameterError, brief, require_choice, require_integer

WAYS = ("random", "leave-one-out", "temporal")


def split(
    source: Any,
    how: str = "random",
    *,
    fraction: float | None = None,
    seed: int = 0,
    user: str | None = None,
    item: str | None = None,
    timestamp: str | None = None,
    **layout: Any,
) -> tuple[pa.Table, pa.Table]:
    """Split the rows of a table or of Parquet into a training and a test table; both keep all columns and the order.

    Parameters
    ----------
    source : a path or URI, or a table in memory; see :meth:`fastmf.Ratings.read`.
    how : "random" holds out a fraction of all rows; "leave-one-out" one row of each user with two or more, the latest
        if there is a column of timestamps, else a random one; "temporal" the latest fraction of each user's rows,
        rounded, but never all. Of rows with the same time, the one furthest down counts as the latest.
    fraction : the share to hold out, 0.2 if left out; not for "leave-one-out".
    seed : seed of the random choices.
    user, timestamp : names of the columns; the usual names are tried if left out. Timestamps are dates, numbers of
        any unit, or text that holds either.
    item : name of the column of items, so that text does not take their ids for anything else.
    layout : columns, sep, decimal, encoding and wide: the layout of text; see :meth:`fastmf.Ratings.read`.

    Raises
    ------
    DataError
        If a column is missing, a timestamp is null, or text is not all numbers and not all ISO dates.
    ParameterError
        If how or fraction is out of range, or one of the tables would be empty.
    """
    require_choice("how", how, WAYS)
    if how == "leave-one-out" and fraction is not None:
        raise ParameterError(f"fraction is {fraction}, but leave-one-out takes one row of each user: leave it out")
    share = 0.2 if fraction is None else fraction
    if not isinstance(share, Real) or not 0 < share < 1:
        raise ParameterError(f"fraction is {brief(share)}: give one above 0 and below 1")
    require_integer("seed", seed, 0)
    table = read_table(source, {"user": user, "item": item}, layout_of(**layout), optional=("item",))
    timed = how != "random" or timestamp is not None
    roles = {"user": user, **({"timestamp": timestamp} if timed else {})}
    where = called(source, "the table")
    name, *times = choose(table.column_names, roles, where, () if how == "temporal" else ("timestamp",)).values()
    if not len(table):
        raise DataError(f"{where} has no rows to split")
    users, _ = ids.encode(table.column(name), name)
    when = order_of(table.column(times[0]), times[0]) if times else None
    mask = held_out(users, how, share, seed, when)
    if mask.all() or not mask.any():
        raise ParameterError(
            f"{int(mask.sum()):,} of {len(mask):,} rows would be held out, which leaves one side empty: give"
            " another fraction, or more rows"
        )
    return table.filter(pa.array(~mask)), table.filter(pa.array(mask))


def order_of(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """Rank the rows, (n,) int64, by a column of times: numbers, dates, or text that holds either.

    Raises a DataError if there are nulls, or the type has no order.
    """
    column = of_text(column, name)
    nulls = int(np.count_nonzero(pc.is_null(column, nan_is_null=True)))
    if nulls:
        raise DataError(f"{nulls:,} of {len(column):,} timestamps are null: fill them in or drop those rows")
    try:
        return pc.rank(column, tiebreaker="first").to_numpy().astype(np.int64)
    except pa.ArrowNotImplementedError:
        raise DataError(f"timestamps of type {column.type} have no order: give numbers, dates or text") from None


def held_out(users: np.ndarray, how: str, fraction: float, seed: int, when: np.ndarray | None) -> np.ndarray:
    """Mark the rows to hold out, (n,) bool. users (n,) are dense indices; when (n,) ranks rows by time, or is None."""
    n, rng = len(users), np.random.default_rng(seed)
    chosen = np.zeros(n, bool)
    if how == "random":
        chosen[rng.permutation(n)[: round(n * fraction)]] = True
        return chosen
    order = np.lexsort((rng.permutation(n) if when is None else when, users))
    counts = np.bincount(users)
    kept = counts - np.rint(counts * fraction).astype(np.int64) if how == "temporal" else counts - 1
    kept = np.maximum(kept, np.minimum(counts, 1))
    place = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen[order] = place >= np.repeat(kept, counts)
    return chosen
