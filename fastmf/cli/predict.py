"""``fastmf predict``: ratings of given pairs."""

from typing import Any

import click

import fastmf
from fastmf.cli.console import remark, show_json
from fastmf.cli.options import (
    columns_out_option,
    feature_options,
    json_option,
    overwrite_option,
    reading,
    reading_options,
    with_features,
)
from fastmf.cli.output import check_tables
from fastmf.errors import counted


@click.command()
@click.argument("model")
@click.argument("pairs")
@click.option("-o", "--output", metavar="OUT", required=True, help="Parquet or CSV file to write.")
@click.option("--on-unknown", type=click.Choice(["mean", "nan", "raise"]), default="mean", show_default=True,
              help="For an id without ratings and features: mean plus known bias, NaN, or an error.")  # fmt: skip
@feature_options("Table with features of further {}s, which have no ratings.")
@click.option("--std", is_flag=True, help="Add the standard deviation of ratings around their predictions (gibbs).")
@columns_out_option
@reading_options("user", "item")
@overwrite_option
@json_option
def predict(model: str, pairs: str, output: str, overwrite: bool, as_json: bool, **given: Any) -> None:
    """Predict the ratings of pairs.

    PAIRS is a table with a column of users and one of items, in any format that fit reads.

    \b
    Example:
      fastmf predict ratings.fastmf pairs.parquet -o predictions.parquet
    """
    from fastmf.data.write import write_frame
    from fastmf.model.tables import read_pairs

    check_tables([output], overwrite, inputs=[model, pairs, given["item_features"], given["user_features"]])
    tables = {name: given.pop(name) for name in ("item_features", "user_features")}
    how, columns = reading(given), given.pop("columns_out")
    loaded = with_features(fastmf.load(model), how, **tables)
    frame = loaded.predict(*read_pairs(loaded, pairs, **how), columns=columns, **given)
    write_frame(frame, output, overwrite)
    report = {"output": output, "pairs": len(frame), **frame.attrs}
    if as_json:
        show_json(report)
    else:
        unknown = f"{report['unknown_users']:,} with an unknown user, {report['unknown_items']:,} with an unknown item"
        remark(f"{counted(len(frame), 'pair')} predicted, {unknown}; they are in:")
        click.echo(output)
