"""Tables that go into a model and come out of it: pairs of ids to read, and the names of the columns of results."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fastmf.data.layout import layout_of
from fastmf.data.ratings import Ratings
from fastmf.data.read import like_of, read_roles
from fastmf.errors import ParameterError, require_choice
from fastmf.model.state import State

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("ours", "given")


def read_pairs(
    state: State, source: Any, user: str | None = None, item: str | None = None, **layout: Any
) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Read the columns of users and items from anything :meth:`Ratings.read` takes; ``layout`` is that of text."""
    if isinstance(source, Ratings):
        users, items = source.user_ids.take(pa.array(source.users)), source.item_ids.take(pa.array(source.items))
        return pa.chunked_array([users]), pa.chunked_array([items])
    found = read_roles(source, {"user": user, "item": item}, said=layout_of(**layout), like=like_of(state))
    return found["user"].values, found["item"].values


def read_ids(state: State, source: Any, side: str, name: str | None = None, **layout: Any) -> pa.ChunkedArray:
    """Read a column of "user" or "item" ids, as :func:`read_pairs` does."""
    return read_roles(source, {side: name}, said=layout_of(**layout), like=like_of(state))[side].values


def named(frame: "pd.DataFrame", state: State, columns: str) -> "pd.DataFrame":
    """Return a frame of results with "ours", user_id and item_id, or the "given" names of the training ratings.

    Raises a ParameterError for another choice, or if a given name is that of another column.
    """
    require_choice("columns", columns, COLUMNS)
    if columns == "ours":
        return frame
    names = dict(zip(("user_id", "item_id"), state.columns, strict=False))
    names |= {f"similar_{own}": f"similar_{given}" for own, given in names.items()}
    taken = sorted(set(names.values()) & (set(frame.columns) - set(names)))
    if taken:
        raise ParameterError(f"columns cannot be 'given': the result has a column {taken[0]!r} of its own")
    renamed = frame.rename(columns=names)
    renamed.attrs = frame.attrs
    return renamed
