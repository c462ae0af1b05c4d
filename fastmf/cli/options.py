"""Options that several commands share."""

from collections.abc import Callable
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
n_option = click.option("-n", default=10, show_default=True, help="Length of each list.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
titles_option = click.option("--titles", metavar="FILE", help="Parquet with the items' ids and a column 'title'.")


def column_options(*roles: str) -> Callable[[Any], Any]:
    """Add --user, --item, --rating: the names of the columns to read."""

    def decorate(command: Any) -> Any:
        for role in reversed(roles):
            text = f"Column of the {role}s, where it has none of the usual names."
            command = click.option(f"--{role}", f"{role}_column", metavar="COLUMN", help=text)(command)
        return command

    return decorate
