"""Completion in shells, by click: what names a file completes to file names. docs/cli.md says how to turn it on."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# Text that does not name a file: arguments by name, options by metavar (None: such as --device).
NO_FILES = {"user", "item"}
OTHER_TEXT = {None, "COLUMN", "DEVICE", "ID", "NAME", "SIZE", "WORDS"}
TEXT = click.types.StringParamType, click.types.FuncParamType


def completing_files(command: click.Command) -> click.Command:
    """Let a command's arguments and options that name files complete to file names; return the command."""
    for parameter in command.params:
        is_argument = isinstance(parameter, click.Argument)
        other = parameter.name in NO_FILES if is_argument else parameter.metavar in OTHER_TEXT
        if isinstance(parameter.type, TEXT) and not other:
            setattr(parameter, "shell_complete", _file_names)  # noqa: B010  a method of click's
    return command


def _file_names(ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
    """Leave it to the shell to list files."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]
