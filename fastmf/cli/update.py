"""``fastmf update``: a model with a day's ratings added, without fitting it again."""

from typing import Any

import click

import fastmf
from fastmf.cli.console import remark, say_device, show_json
from fastmf.cli.inspect import summary
from fastmf.cli.options import (
    bad_rows_option,
    feature_options,
    json_option,
    overwrite_option,
    reading,
    reading_options,
    with_features,
)
from fastmf.errors import counted


@click.command()
@click.argument("model")
@click.argument("new")
@click.option("--ratings", metavar="OLD", help="The ratings fitted before: known users and items with new ratings are"
              " then solved again.")  # fmt: skip
@click.option("-o", "--output", metavar="MODEL2", required=True, help="Model file to write.")
@overwrite_option
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda (cuda:1 …), or auto.")
@reading_options("user", "item", "rating")
@bad_rows_option
@feature_options("Table with features of new {}s, with or without ratings in NEW.")
@json_option
def update(
    model: str,
    new: str,
    ratings: str | None,
    output: str,
    overwrite: bool,
    device: str,
    item_features: str | None,
    user_features: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Add the ratings in NEW to a model.

    New users and items are solved for from their ratings. Known ones keep their factors, unless --ratings gives the old
    ratings, too. The mean and the scale stay, so fit anew from time to time, with fit --init.

    If the model was fitted with features, tables may hold those of new users and items. These are added to the model
    even if NEW has no ratings of them.

    \b
    Example:
      fastmf update ratings.fastmf today.parquet --ratings ratings.parquet -o today.fastmf
    """
    from fastmf.data.atomic import check_outputs
    from fastmf.model.fold_in import read_like_training
    from fastmf.runtime.device import resolve
    from fastmf.training.plan import notes_on

    check_outputs([output], overwrite, inputs=[new, ratings, item_features, user_features])
    where, loaded = say_device(resolve(device)), fastmf.load(model)
    how = reading(options)
    loaded = with_features(loaded, how, item_features=item_features, user_features=user_features)
    given = read_like_training(loaded, new, **how)
    old = None if ratings is None else read_like_training(loaded, ratings, **how)
    for each in (given, old):
        for line in [] if each is None else notes_on(each):
            remark(line)
    found = loaded.update(given, old, device=where)
    found.save(output, overwrite=overwrite)
    counts = {name: n - loaded.rows.get(name, 0) for name, n in found.rows.items()}
    if as_json:
        show_json({"model": output, "added": counts, **summary(found)})
        return
    for line in _lines(counts, len(given)):
        remark(line)
    click.echo(output)


def _lines(counts: dict[str, int], n_new: int) -> list[str]:
    """Describe what was added, and which of ``n_new`` new ratings were left out."""
    n_used = n_new - counts["unsolved"]
    lines = [
        f"{n_used:,} of {counted(counts['read'], 'new rating')} used, {counts['replaced']:,} of pairs rated before"
    ]
    if counts["unsolved"]:
        lines.append(f"note: left out: {counted(counts['unsolved'], 'new rating')} without a known user or item")
    if counts["unknown"]:
        lines.append(f"note: left out: {counted(counts['unknown'], 'old rating')} whose user or item the model lacks")
    if counts.get("disliked_cold", 0) > 0:
        cold = counted(counts["disliked_cold"], "dislike")
        lines.append(f"note: left out: {cold} whose user or item has no observed ratings")
    names = ("new_users", "new user"), ("new_items", "new item"), ("touched_users", "user"), ("touched_items", "item")
    users, items, again_users, again_items = (counted(counts[name], text) for name, text in names)
    lines.append(f"{users} and {items}, {again_users} and {again_items} solved again; the model is in:")
    return lines
