"""``fastmf similar``: the items nearest to an item."""

import click

import fastmf
from fastmf.cli.like import item_of, like_option
from fastmf.cli.options import columns_out_option, encoding_option, json_option, n_option, titles_option
from fastmf.cli.output import publish, titled


@click.command(context_settings={"ignore_unknown_options": True})  # -3 is an id
@click.argument("model")
@click.argument("item", required=False)
@like_option
@n_option
@titles_option
@columns_out_option
@encoding_option
@json_option
def similar(model: str, item: str | None, like: str | None, n: int, titles: str | None, columns_out: str,
            encoding: str | None, as_json: bool) -> None:  # fmt: skip
    """List the items nearest to ITEM, or to the one whose title is --like some words.

    Nearness is the cosine of their factors.

    \b
    Examples:
      fastmf similar ratings.fastmf 318 --titles movies.parquet
      fastmf similar ratings.fastmf --like "toy story 1995" --titles movies.parquet
    """
    from fastmf.model.tables import named

    loaded = fastmf.load(model, mmap=True)  # reads only the factors of items
    item_ids, names = item_of(loaded, item, like, titles, encoding=encoding)
    found = loaded.similar_items(item_ids, n)
    (shown,) = titled(loaded, [found], "similar_item_id", titles, names, encoding=encoding)
    publish(named(shown, loaded, columns_out), as_json)
