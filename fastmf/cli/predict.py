"""``fastmf predict``: ratings of given pairs."""

import click

import fastmf
from fastmf.cli.options import column_options, json_option, overwrite_option


@click.command()
@click.argument("model")
@click.argument("pairs")
@click.option("-o", "--output", metavar="OUT", required=True, help="Parquet or CSV file to write.")
@click.option("--on-unknown", type=click.Choice(["mean", "nan", "raise"]), default="mean", show_default=True,
              help="For an id without training ratings: mean plus known bias, NaN, or an error.")  # fmt: skip
@click.option("--std", is_flag=True, help="Add the standard deviation of ratings around their predictions (gibbs).")
@column_options("user", "item")
@overwrite_option
@json_option
def predict(
    model: str,
    pairs: str,
    output: str,
    on_unknown: str,
    std: bool,
    user: str | None,
    item: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Predict the ratings of pairs.

    PAIRS is Parquet with a column of users and one of items.

    \b
    Example:
      fastmf predict ratings.fastmf pairs.parquet -o predictions.parquet
    """
    from fastmf.cli import console
    from fastmf.data.atomic import check_output
    from fastmf.data.read import read_columns
    from fastmf.data.write import write_frame

    check_output(output, overwrite, inputs=[model, pairs])
    loaded = fastmf.load(model)
    table = read_columns(pairs, {"user": user, "item": item})
    frame = loaded.predict(table.column(0), table.column(1), on_unknown=on_unknown, std=std)
    write_frame(frame, output, overwrite)
    report = {"output": output, "pairs": len(frame), **frame.attrs}
    if as_json:
        console.show_json(report)
    else:
        unknown = f"{report['unknown_users']:,} with an unknown user, {report['unknown_items']:,} with an unknown item"
        console.remark(f"{len(frame):,} pairs predicted, {unknown}; they are in:")
        click.echo(output)
