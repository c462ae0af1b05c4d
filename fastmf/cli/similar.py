"""``fastmf similar``: the items most similar to an item, or the users most similar to a user."""

from typing import Any

import click

import fastmf
from fastmf.cli.console import remark
from fastmf.cli.like import item_of, like_option
from fastmf.cli.options import (
    column_options,
    columns_out_option,
    encoding_option,
    json_option,
    n_option,
    titles_option,
)
from fastmf.cli.output import note_unknown, publish, titled
from fastmf.errors import counted


@click.command(context_settings={"ignore_unknown_options": True})  # -3 is an id
@click.argument("model")
@click.argument("item", required=False)
@like_option
@click.option("--user", metavar="ID", help="List the users most similar to this one, instead of items.")
@n_option
@click.option("--min-count", type=int, metavar="N", help="List only those with at least N training ratings.")
@click.option("--items", metavar="FILE", help="Table with a column of item ids: list only these.")
@click.option("--cold", is_flag=True, help="Also list those that are known by their features alone.")
@titles_option
@columns_out_option
@column_options("item", suffix="-column")
@encoding_option
@json_option
def similar(model: str, item: str | None, like: str | None, user: str | None, n: int, titles: str | None,
            columns_out: str, encoding: str | None, as_json: bool, **how: Any) -> None:  # fmt: skip
    """List the items most similar to ITEM, or to the one whose title is --like some words.

    The score is the cosine of their factors, measured from the mean item, times a weight for each of the two:
    sqrt(n / (n + 20)) for n training ratings. Items of few ratings, about which little is known, rank low.

    \b
    Examples:
      fastmf similar ratings.fastmf 318 --titles movies.parquet
      fastmf similar ratings.fastmf --like "toy story 1995" --titles movies.parquet --min-count 50
      fastmf similar ratings.fastmf --user 42
    """
    from fastmf.data import ids
    from fastmf.model.tables import named, read_ids

    loaded, name = fastmf.load(model, mmap=True), how.pop("item_column")  # reads only the side that is asked for
    if user is None:
        wanted, names = item_of(loaded, item, like, titles, encoding=encoding)
        source = how["items"]
        how["items"] = None if source is None else read_ids(loaded, source, "item", name, encoding=encoding)
        found = loaded.similar_items(wanted, n, **how)
        unknown = found.attrs["unknown_items"]
        if unknown:
            note_unknown(unknown, how["items"], source)
        (shown,) = titled(loaded, [found], "similar_item_id", titles, names, encoding=encoding)
    else:
        others = {"ITEM": item, "--like": like, "--items": how.pop("items"), "--titles": titles}
        given = [option for option, value in others.items() if value is not None]
        if given:
            raise click.UsageError(f"--user lists users, but {given[0]} is about items: leave one of them out")
        shown = loaded.similar_users(ids.parse(loaded.arrow_ids("user"), [user], "user"), n, **how)
    publish(named(shown, loaded, columns_out), as_json)
    if not len(shown):
        enough = "" if how["min_count"] is None else f" with at least {counted(how['min_count'], 'training rating')}"
        remark(f"note: there is no other {'item' if user is None else 'user'}{enough} to list")
