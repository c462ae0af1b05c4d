"""``fastmf similar``: the items nearest to an item."""

import click

import fastmf
from fastmf.cli.options import json_option, n_option, titles_option
from fastmf.cli.output import publish, titled


@click.command(context_settings={"ignore_unknown_options": True})  # -3 is an id
@click.argument("model")
@click.argument("item")
@n_option
@titles_option
@json_option
def similar(model: str, item: str, n: int, titles: str | None, as_json: bool) -> None:
    """List the items nearest to ITEM.

    Nearness is the cosine of their factors.

    \b
    Example:
      fastmf similar ratings.fastmf 318 --titles movies.parquet
    """
    from fastmf.data import ids

    loaded = fastmf.load(model)
    found = loaded.similar_items(ids.parse(loaded.item_ids, [item], "item"), n)
    (shown,) = titled([found], "similar_item_id", titles)
    publish(shown, as_json)
