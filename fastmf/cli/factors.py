"""``fastmf factors``: what the factors of a model mean."""

import itertools
from collections.abc import Iterator
from typing import Any

import click

import fastmf
from fastmf.cli.console import remark, show_json, show_table
from fastmf.cli.options import encoding_option, json_option, titles_option
from fastmf.errors import counted


@click.command()
@click.argument("model")
@click.option("-n", default=5, show_default=True, help="Rows at each end of an axis.")
@click.option("--axes", default=6, show_default=True, help="Number of axes, by falling share.")
@click.option("--min-count", type=int, metavar="N",
              help="Show only items and users with at least N training ratings.  [default: 20]")  # fmt: skip
@click.option("--users", is_flag=True, help="Show the users at the ends instead of the items.")
@titles_option
@click.option("--item-features", metavar="FILE",
              help="Table with item ids and columns such as genres: name the categories that are over-represented at"
              " the ends.  [default: those the model was fitted with]")  # fmt: skip
@encoding_option
@json_option
def factors(model: str, n: int, axes: int, min_count: int | None, users: bool, titles: str | None,
            item_features: str | None, encoding: str | None, as_json: bool) -> None:  # fmt: skip
    """Describe what the factors of MODEL mean: what is at both ends of each axis.

    Factors are turned to axes that explain most of the ratings, one after another. "share" is the share of the variance
    of ratings that an axis explains. A coordinate is what a user one standard deviation along the axis adds to the
    rating of the item (for implicit feedback, to its score). Categories are counted among the outermost tenth of the
    items at each end. Axis 0 is that of the biases: items rated higher or lower than others of their popularity.

    \b
    Examples:
      fastmf factors ratings.fastmf --titles movies.parquet
      fastmf factors ratings.fastmf --titles movies.parquet --item-features movies.parquet
    """
    from fastmf.model.factors import features_of
    from fastmf.model.titles import titles_of

    if users:
        given = [name for name, value in {"--titles": titles, "--item-features": item_features}.items() if value]
        if given:
            raise click.UsageError(f"--users shows users, but {given[0]} is about items: leave one of them out")
    loaded = fastmf.load(model)
    how: dict[str, Any] = {"axes": axes, "min_count": min_count}
    names = titles_of(titles, loaded, encoding=encoding)
    found = loaded.factors(n, of="users" if users else "items", titles=names, **how)
    named = not users and (item_features is not None or loaded.item_features is not None)
    table = None if item_features is None else features_of(loaded, item_features, encoding=encoding)
    categories = loaded.factors(of="categories", item_features=table, **how) if named else None
    if not len(found):
        remark(f"note: no {'user' if users else 'item'} has at least {counted(min_count or 1, 'training rating')}")
    if as_json:
        more = {} if categories is None else {"categories": categories.to_dict("records")}
        show_json({"ends": found.to_dict("records"), **more})
        return
    show_table(["axis", "share", "low end", "high end"], list(_lines(found, categories, names is not None)))


def _lines(found: Any, categories: Any, titled: bool) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table: one for each rank, with both ends side by side, then the categories."""
    shown = "title" if titled else next(name for name in found.columns if name.endswith("_id"))
    for (axis, share), rows in found.groupby(["axis", "share"]):
        first = ("biases" if axis == 0 else str(axis), f"{share:.1%}")
        ends = [
            [f"{row[shown]}  {row['coordinate']:+.2f}" for row in rows[rows["end"] == end].to_dict("records")]
            for end in ("low", "high")
        ]
        if categories is not None:
            for end, lines in zip(("low", "high"), ends, strict=True):
                own = categories[(categories["axis"] == axis) & (categories["end"] == end)]
                lines += [
                    f"  {row['category']}: {row['items']}, by chance {row['expected']:.0f}"
                    for row in own.to_dict("records")
                ]
        for low, high in itertools.zip_longest(*ends, fillvalue=""):
            yield *first, low, high
            first = ("", "")
        yield ("",) * 4
