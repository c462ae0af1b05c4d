"""``fastmf evaluate``: a model against held-out ratings."""

from typing import Any

import click

import fastmf
from fastmf.cli.options import column_options, json_option, n_option, rank_by_option


@click.command()
@click.argument("model")
@click.argument("ratings")
@n_option
@click.option("--relevant-from", type=float, help="Rank for items rated at least this.  [default: all rated items]")
@rank_by_option
@column_options("user", "item", "rating")
@json_option
def evaluate(
    model: str,
    ratings: str,
    n: int,
    relevant_from: float | None,
    rank_by: str,
    user: str | None,
    item: str | None,
    rating: str | None,
    as_json: bool,
) -> None:
    """Measure a model on held-out ratings.

    Errors of the predictions over all pairs, beside those of biases alone, and by how many ratings users have in
    training; the quality of the top-n lists, beside that of lists of what has most ratings; and for models of solver
    gibbs how many ratings are in the intervals that they predict. Ids without training ratings are counted, not
    dropped.

    \b
    Example:
      fastmf evaluate ratings.fastmf heldout.parquet --relevant-from 4
    """
    from fastmf.cli import console
    from fastmf.data.ratings import Ratings
    from fastmf.evaluation.evaluate import reading_for
    from fastmf.training.plan import notes_on

    loaded = fastmf.load(model)
    columns: dict[str, Any] = {"user": user, "item": item, "rating": rating}
    how = reading_for(loaded, relevant_from) | {role: name for role, name in columns.items() if name is not None}
    data = Ratings.read(ratings, **how)
    for line in notes_on(data):
        console.remark(line)
    result = fastmf.evaluate(loaded, data, n=n, relevant_from=relevant_from, rank_by=rank_by)
    if result["trained_pairs"]:
        console.remark(f"note: {result['trained_pairs']:,} of {len(data):,} pairs were trained on: the figures mislead")
    if as_json:
        console.show_json(result)
    else:
        bands, coverage = result.pop("by_activity", {}), result.pop("coverage", {})
        popular = result.pop("popularity") or {}
        rows = [(name, plain_number(value), plain_number(popular.get(name), "")) for name, value in result.items()]
        console.show_table(("measure", "value", "by popularity"), rows)
        if bands:
            header = ("ratings of the user", "pairs", "rmse", "rmse_of_biases")
            console.show_table(header, [(name, *map(plain_number, band.values())) for name, band in bands.items()])
        if coverage:
            shares = [(f"{level} %", f"{100 * share:.1f} %") for level, share in coverage.items()]
            console.show_table(("interval", "ratings in it"), shares)


def plain_number(value: Any, none: str = "-") -> str:
    """Write a measure: errors to 4 places, counts with commas."""
    return none if value is None else f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
