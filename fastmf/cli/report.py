"""``fastmf report``: one HTML file that shows a model to people."""

from typing import Any

import click

import fastmf
from fastmf.cli.console import remark, show_json
from fastmf.cli.options import (
    bad_rows_option,
    json_option,
    overwrite_option,
    reading,
    reading_options,
    titles_option,
)


@click.command()
@click.argument("model")
@click.option("--ratings", metavar="FILE", help="The ratings the model was fitted to, for histories and reasons.")
@click.option("--test", metavar="FILE", help="Held-out ratings, for errors and lists.")
@titles_option
@click.option("--item-features", metavar="FILE",
              help="Table with item ids and columns such as genres, to describe axes and colour the map."
              "  [default: those the model was fitted with]")  # fmt: skip
@click.option("-o", "--output", default="report.html", show_default=True, metavar="FILE", help="File to write.")
@reading_options("user", "item", "rating")
@bad_rows_option
@overwrite_option
@json_option
def report(model: str, ratings: str | None, test: str | None, titles: str | None, item_features: str | None,
           output: str, overwrite: bool, as_json: bool, **given: Any) -> None:  # fmt: skip
    """Write a report on MODEL: what it was fitted to, how good it is, what it has learned, and what to do.

    One HTML file with pictures, tables and a map of the items, which makes no request to anywhere. It needs matplotlib
    and Jinja2: pip install jinja2 matplotlib.

    \b
    Examples:
      fastmf report ratings.fastmf --titles movies.parquet
      fastmf report ratings.fastmf --ratings train.parquet --test heldout.parquet --titles movies.parquet -o report.html
    """
    from fastmf.data.atomic import check_output
    from fastmf.reporting.draw import require_report
    from fastmf.reporting.report import require_page

    require_report()
    require_page(output)
    tables = {"ratings": ratings, "test": test, "titles": titles, "item_features": item_features}
    check_output(output, overwrite, inputs=[model, *(path for path in tables.values() if path is not None)])
    how = reading(given)
    if ratings is None and test is None and how.pop("bad_rows", None) == "drop":
        raise click.UsageError("--bad-rows is for --ratings and --test: leave it out, or give one of them")
    fastmf.load(model).report(output, **tables, overwrite=overwrite, **how)
    if as_json:
        show_json({"output": output})
    else:
        remark("the report is in:")
        click.echo(output)
