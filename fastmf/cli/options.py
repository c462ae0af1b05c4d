"""Options that several commands share."""

from collections.abc import Callable
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
n_option = click.option("-n", default=10, show_default=True, help="Length of each list.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
titles_option = click.option("--titles", metavar="FILE", help="Parquet with the items' ids and a column 'title'.")

weight_option = click.option("--weight", metavar="COLUMN",
                             help="implicit: how much rows count; the ratings' column or another.")  # fmt: skip
rank_by_option = click.option("--rank-by", type=click.Choice(["rating", "blend"]), default="rating", show_default=True,
                              help="By predictions, or with what popularity is worth (fit --blend).")  # fmt: skip


def column_options(*roles: str) -> Callable[[Any], Any]:
    """Add --user, --item, --rating: the names of the columns to read."""

    def decorate(command: Any) -> Any:
        for role in reversed(roles):
            text = f"Column of the {role}s, if it has none of the usual names."
            command = click.option(f"--{role}", metavar="COLUMN", help=text)(command)
        return command

    return decorate


def reading_options(command: Any) -> Any:
    """Add the options on how ratings are read: columns, duplicates, bad rows, and the memory it may take."""
    for option in (
        click.option("--memory-limit", metavar="SIZE",
                     help="Refuse what takes more, such as 4GiB.  [default: what is free]"),
        click.option("--bad-rows", type=click.Choice(["error", "drop"]), default="error", show_default=True,
                     help="What to do with rows of null ids, of ratings that are not finite, or of no weight."),
        click.option("--duplicates", type=click.Choice(["error", "last", "mean", "sum"]), default="error",
                     show_default=True, help="What to do with rows of the same user and item."),
        column_options("user", "item", "rating"),
    ):  # fmt: skip
        command = option(command)
    return command


def machine_options(command: Any) -> Any:
    """Add --device and --threads."""
    text = "cpu, cuda (cuda:1 …), numpy (slow), or auto."
    threads = click.option("--threads", type=int, help="Use at most this many threads.  [default: all]")
    return click.option("--device", default="cpu", show_default=True, help=text)(threads(command))


def as_fraction(text: str | None) -> Any:
    """Read a validation fraction; text that is no number is a path."""
    try:
        return text if text is None else float(text)
    except ValueError:
        return text
