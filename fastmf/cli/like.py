"""An item named by its id or by words of its title, for the commands that take one item."""

from typing import Any

import click
import numpy as np

from fastmf.cli.console import remark
from fastmf.errors import DataError, UnknownIdError, counted, verb

SHOWN = 10  # items to choose from

like_option = click.option(
    "--like", metavar="WORDS", help="Words of the item's title, in place of its id; with --titles."
)


def item_of(loaded: Any, item: str | None, like: str | None, source: str | None, **layout: Any) -> tuple[Any, Any]:
    """Return the id of an item in an array, and the titles in the file ``source`` if they had to be read.

    ``layout`` is that of text.

    Raises
    ------
    UsageError
        Unless there is either an id, or words and titles.
    UnknownIdError
        If the model does not know the id, or no item with such a title.
    DataError
        If several items have such a title; lists them on stderr, the most rated first.
    """
    from fastmf.data import ids
    from fastmf.model.titles import titles_of

    if (item is None) == (like is None):
        raise click.UsageError("for which item? Give either ITEM, its id, or --like and words of its title")
    if like is None:
        return ids.parse(loaded.arrow_ids("item"), [str(item)], "item"), None
    if source is None:
        raise click.UsageError("--like looks for words in titles: give --titles, too")
    titles = titles_of(source, loaded, **layout)
    return _found(loaded, like, titles, source), titles


def _found(loaded: Any, like: str, titles: Any, source: str) -> list[Any]:
    """Return the one item of the model whose title is like these words."""
    from fastmf.model.titles import ids_like

    matching = ids_like(titles, like)
    if not matching:
        raise UnknownIdError(f"no title in {source} has all words of {like!r}: try fewer, or give the item's id")
    places = loaded.present_rows("item", matching)
    counts = np.append(loaded.item_counts, -1)[places]  # -1 for items that the model does not know
    order = [place for place in np.argsort(-counts, kind="stable") if places[place] >= 0]
    if not order:
        others = f"{len(matching):,} {verb(len(matching), 'has', 'have')}, the first {titles[matching[0]]!r}"
        raise UnknownIdError(f"no item of the model has a title like {like!r}; of others, {others}: try other words")
    for place in order[:SHOWN]:
        rated = counted(counts[place], "rating")
        remark(f"{matching[place]}  {titles[matching[place]]}  ({rated})")
    if len(order) > 1:
        more = f", of which {SHOWN} are shown" if len(order) > SHOWN else ""
        raise DataError(f"{len(order):,} items have a title like {like!r}{more}: give more words, or the item's id")
    return [matching[order[0]]]
