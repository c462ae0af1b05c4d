"""``fastmf synth``: synthetic ratings from a known model."""

from typing import Any

import click

from fastmf.cli.console import remark
from fastmf.cli.options import overwrite_option


@click.command()
@click.argument("out")
@click.option("--like", type=click.Choice(["ml-latest-small", "ml-20m"]), default="ml-latest-small",
              show_default=True, help="The MovieLens set to resemble.")  # fmt: skip
@click.option("--scale", type=float, default=1.0, show_default=True, help="Multiply the size of the set by this.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed; the same seed gives the same file.")
@click.option("--titles", metavar="FILE", help="Also write titles of the items to FILE.")
@overwrite_option
def synth(out: str, like: str, **given: Any) -> None:
    """Write synthetic ratings to OUT.

    They are drawn from a known model and have the size and skew of a MovieLens set.

    \b
    Examples:
      fastmf synth ratings.parquet --titles titles.parquet
      fastmf synth big.parquet --like ml-20m --scale 2
    """
    from fastmf.datasets.twins import write_twin

    made = write_twin(out, like, **given)
    remark(f"{made.note}; the ratings are in:")
    click.echo(out)
