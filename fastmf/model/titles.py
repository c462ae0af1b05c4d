"""Titles of items: read from a table or a dict, and added to a frame of results."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastmf.data.arrow import is_of_pandas
from fastmf.data.read import read_titles

if TYPE_CHECKING:
    import pandas as pd


def titles_of(titles: Any) -> dict[Any, Any] | None:
    """Return a dict of item id to title; None for None.

    ``titles`` is a dict, a pandas series by id, or a table with a column of ids and a column "title": a path or a
    frame. Raises a DataError if the table lacks one of them.
    """
    if titles is None or isinstance(titles, dict):
        return titles
    if isinstance(titles, Mapping) or is_of_pandas(titles, "Series"):
        return dict(titles.items())
    return read_titles(titles)


def titled(frame: "pd.DataFrame", column: str, titles: dict[Any, Any] | None) -> "pd.DataFrame":
    """Add a column "title" with the titles of the ids in ``column``, unless ``titles`` is None.

    Ids without a title get "", and ``.attrs["without_title"]`` counts them.
    """
    if titles is None:
        return frame
    found = frame[column].map(titles)
    missing = found.isna()
    named = frame.assign(title=found.astype(object).where(~missing, "").astype("str"))
    named.attrs = {**frame.attrs, "without_title": int(missing.sum())}
    return named
