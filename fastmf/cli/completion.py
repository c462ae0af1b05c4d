"""Completion in shells, by click: what names a file completes to file names. docs/cli.md says how to turn it on."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# Options name files if their metavar is one of these, or has one of them between bars; arguments, unless they are ids.
FILES = {"DIR", "FILE", "MODEL", "MODEL2", "OLD", "OUT", "RATINGS"}
IDS = {"item", "user"}


def completing_files(command: click.Command) -> click.Command:
    """Let a command's arguments and options that name files complete to file names; return the command."""
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            named = parameter.name not in IDS
        else:
            named = bool(FILES & set((parameter.metavar or "").split("|")))
        if named:
            setattr(parameter, "shell_complete", _file_names)  # noqa: B010  a method of click's
    return command


def _file_names(ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
    """Leave it to the shell to list files."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]
