"""``fastmf predict``: ratings of given pairs."""

from typing import Any

import click

import fastmf
from fastmf.cli.console import remark, show_json
from fastmf.cli.options import column_options, feature_options, json_option, overwrite_option, with_features


@click.command()
@click.argument("model")
@click.argument("pairs")
@click.option("-o", "--output", metavar="OUT", required=True, help="Parquet or CSV file to write.")
@click.option("--on-unknown", type=click.Choice(["mean", "nan", "raise"]), default="mean", show_default=True,
              help="For an id without ratings and features: mean plus known bias, NaN, or an error.")  # fmt: skip
@feature_options("Parquet with features of further {}s, which have no ratings.")
@click.option("--std", is_flag=True, help="Add the standard deviation of ratings around their predictions (gibbs).")
@column_options("user", "item")
@overwrite_option
@json_option
def predict(model: str, pairs: str, output: str, overwrite: bool, as_json: bool, **given: Any) -> None:
    """Predict the ratings of pairs.

    PAIRS is a Parquet file with a column of users and one of items.

    \b
    Example:
      fastmf predict ratings.fastmf pairs.parquet -o predictions.parquet
    """
    from fastmf.data.atomic import check_output
    from fastmf.data.read import read_columns
    from fastmf.data.write import write_frame

    check_output(output, overwrite, inputs=[model, pairs, given["item_features"], given["user_features"]])
    tables = {name: given.pop(name) for name in ("item_features", "user_features")}
    loaded = with_features(fastmf.load(model), given, **tables)
    users, items = read_columns(pairs, {role: given.pop(role) for role in ("user", "item")}).columns
    frame = loaded.predict(users, items, **given)
    write_frame(frame, output, overwrite)
    report = {"output": output, "pairs": len(frame), **frame.attrs}
    if as_json:
        show_json(report)
    else:
        unknown = f"{report['unknown_users']:,} with an unknown user, {report['unknown_items']:,} with an unknown item"
        remark(f"{len(frame):,} pairs predicted, {unknown}; they are in:")
        click.echo(output)
