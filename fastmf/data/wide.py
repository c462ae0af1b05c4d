"""Pivots: tables with a row for each user and a column for each item, empty or NaN where there is no rating."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import types

from fastmf.data.arrow import as_array, is_of_pandas, to_arrow
from fastmf.data.columns import distinct, is_usual, plain
from fastmf.data.source import Wanted
from fastmf.data.values import as_key
from fastmf.errors import DataError

NAMES = ("user", "item", "rating")


class Wide:
    """The (user, item, rating) rows of a pivot.

    The users are the column that the caller names or that has a usual name, or else the first. Of a pandas frame, they
    are its index, unless that only counts the rows. Rows and columns of an array are numbered from 0.
    """

    positions: Sequence[str] = ()

    def __init__(self, source: Any, asked: Mapping[str, str | None]) -> None:
        self.source = source
        self.where = "the array" if isinstance(source, np.ndarray) else source.where
        self.names = [asked.get(role) or role for role in NAMES]
        self.user = asked.get("user")
        self.dropped: Mapping[str, int] = {}

    def read(self, wanted: Wanted) -> pa.Table:
        """Return the rows; raise a DataError if a column does not hold numbers."""
        if isinstance(self.source, np.ndarray):
            n_users, n_items = self.source.shape
            users, items = pa.array(np.arange(n_users)), pa.array(np.arange(n_items))
            columns = [self.source[:, place] for place in range(n_items)]
        else:
            users, items, columns = self._of_table(wanted)
        rows, places, values = [], [], []
        for place, column in enumerate(columns):
            numbers = self._numbers(column, items[place].as_py())
            rated = np.flatnonzero(~np.isnan(numbers))
            rows.append(rated)
            places.append(np.full(len(rated), place))
            values.append(numbers[rated])
        chosen = pa.array(np.concatenate(rows)), pa.array(np.concatenate(places))
        found = [users.take(chosen[0]), items.take(chosen[1]), pa.array(np.concatenate(values))]
        return pa.table(dict(zip(self.names, found, strict=True))).select(list(wanted.names))

    def _of_table(self, wanted: Wanted) -> tuple[Any, pa.Array, list[Any]]:
        """Return the users, the items, and for each item a column of ratings."""
        source, names = self.source, self.source.names
        frame = getattr(source, "frame", None)
        if frame is not None and not is_of_pandas(frame.index, "RangeIndex") and self.user is None:
            users, items = to_arrow(frame.index.to_numpy(), "user"), list(frame.columns)
            self._require_items(items)
            return users, to_arrow(items, "the columns"), [frame[name] for name in items]
        user = self._user_column(names)
        others = [name for name in names if name != user]
        self._require_items(others)
        kinds = {user: "id"} | dict.fromkeys(others, "number")
        table = source.read(wanted._replace(names=[user, *others], kinds=kinds, codes=False))
        self.dropped = source.dropped
        items = to_arrow(others, "the columns").combine_chunks()
        return table.column(0), as_key(items) if types.is_string(items.type) else items, table.columns[1:]

    def _require_items(self, names: Sequence[Any]) -> None:
        """Raise a DataError unless columns can be items: there are some, with names of their own."""
        distinct(names, self.where)
        roles = "user", "item", "rating", "timestamp", "weight", "title"
        odd = [name for name in names if name == "" or any(is_usual(name, role) for role in roles)]
        if odd or not names:
            what = f"a column {odd[0]!r}, which looks like no item" if odd else "no column of an item"
            raise DataError(
                f"{self.where} has {what}: a pivot has one column of users, and one for each item; leave out --wide"
                " (wide=) if it has a row for each rating, or drop that column"
            )

    def _user_column(self, names: Sequence[Any]) -> Any:
        asked = [name for name in names if self.user is not None and plain(name) == plain(self.user)]
        if self.user is not None and not asked:
            raise DataError(f"{self.where} has no column {self.user!r} for the users")
        usual = [name for name in names if is_usual(name, "user")]
        return (asked or usual or names)[0]

    def _numbers(self, column: Any, item: Any) -> np.ndarray:
        found = to_arrow(column, str(item))
        kind = found.type
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind)):
            raise DataError(f"{self.where}: the column of item {item!r} holds {kind}, not ratings: is this a pivot?")
        return as_array(found.cast(pa.float64()), np.float64)


def is_pivot(array: np.ndarray) -> bool:
    """Check whether an array can only be a pivot: it has NaN where there is no rating, and not three columns."""
    return array.dtype.kind == "f" and array.shape[1] != 3 and bool(np.isnan(array).any())
