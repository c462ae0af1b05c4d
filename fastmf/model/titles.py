"""Titles of items: read from a table or a dict, added to a frame of results, and searched."""

import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastmf.data.arrow import is_of_pandas
from fastmf.data.layout import layout_of
from fastmf.data.read import like_of, read_titles
from fastmf.model.state import State

if TYPE_CHECKING:
    import pandas as pd


def titles_of(titles: Any, state: State, **layout: Any) -> dict[Any, Any] | None:
    """Return a dict of item id to title; None for None.

    ``titles`` is a dict, a pandas series by id, or a table with a column of ids and a column "title": a path or a
    frame; ``layout`` is that of text. Ids that are text get the type of the model's items. Raises a DataError if the
    table lacks one of the columns.
    """
    if titles is None or isinstance(titles, dict):
        return titles
    if isinstance(titles, Mapping) or is_of_pandas(titles, "Series"):
        return dict(titles.items())
    return read_titles(titles, said=layout_of(**layout), like=like_of(state))


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


def ids_like(titles: dict[Any, Any], text: str) -> list[Any]:
    """Return the ids whose titles hold every word of a text, in any order.

    If some titles are just this text, or else begin with these words, they alone are returned. Upper and lower case,
    accents and blanks make no difference.

    >>> titles = {1: "Toy Story (1995)", 2: "Toy Story 2 (1999)", 3: "Amélie (2001)"}
    >>> ids_like(titles, "toy story"), ids_like(titles, "TOY 1999"), ids_like(titles, "amelie")
    ([1, 2], [2], [3])
    """
    words = _plain(text).split()
    plain = {row_id: _plain(title) for row_id, title in titles.items() if isinstance(title, str)}
    found = [row_id for row_id, title in plain.items() if words and all(word in title for word in words)]
    same = [row_id for row_id in found if plain[row_id].split() == words]
    first = [row_id for row_id in found if f"{' '.join(plain[row_id].split())} ".startswith(f"{' '.join(words)} ")]
    return same or first or found


def _plain(text: str) -> str:
    """Return a text in lower case, without accents."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(part for part in parts if not unicodedata.combining(part))
