"""``fastmf split``: rows to train on, and rows to test on."""

from typing import Any

import click

import fastmf
from fastmf.cli.console import remark, show_json
from fastmf.cli.options import json_option, overwrite_option, reading, reading_options
from fastmf.cli.output import check_tables
from fastmf.errors import counted


@click.command()
@click.argument("ratings")
@click.argument("train")
@click.argument("test")
@click.option("--how", type=click.Choice(["random", "leave-one-out", "temporal"]), default="random", show_default=True,
              help="What is held out.")  # fmt: skip
@click.option("--fraction", type=float, help="Share of all rows, or (temporal) of each user's.  [default: 0.2]")
@click.option("--timestamp", metavar="COLUMN", help="Column of timestamps.  [default: timestamp, if it is there]")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random choices.")
@reading_options("user", "item")
@overwrite_option
@json_option
def split(ratings: str, train: str, test: str, overwrite: bool, as_json: bool, **given: Any) -> None:
    """Split RATINGS into TRAIN and TEST, Parquet or CSV files with all columns.

    random holds out a share of all rows; leave-one-out one row of each user who has two or more (the latest, if there
    are timestamps); temporal the latest share of each user's rows.

    \b
    Examples:
      fastmf split ratings.parquet train.parquet test.parquet
      fastmf split ratings.parquet train.parquet test.parquet --how temporal --fraction 0.1
    """
    from fastmf.data.write import write_table

    outputs = check_tables([train, test], overwrite, inputs=[ratings])
    parts = fastmf.split(ratings, **reading(given), **given)
    for part, path in zip(parts, outputs, strict=True):
        write_table(part, path, overwrite)
    if as_json:
        show_json({"train": train, "train_rows": len(parts[0]), "test": test, "test_rows": len(parts[1])})
    else:
        remark(f"{counted(len(parts[0]), 'row')} to train on and {len(parts[1]):,} to test on are in:")
        click.echo(train)
        click.echo(test)
