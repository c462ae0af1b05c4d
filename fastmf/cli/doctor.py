"""``fastmf doctor``: what fastmf finds on this machine."""

import click

import fastmf
from fastmf.cli.options import json_option


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Show versions, threads, devices and the kernel cache.

    \b
    Example:
      fastmf doctor --json
    """
    from fastmf import machine, runtime
    from fastmf.cli import console

    report = {"fastmf": fastmf.__version__, **machine.describe(), **machine.versions(), **runtime.describe()}
    if as_json:
        console.show_json(report)
    else:
        console.show_table(("property", "value"), [(name, as_text(value)) for name, value in report.items()])


def as_text(value: object) -> str:
    """Write a list or dict without its brackets."""
    if isinstance(value, dict):
        return ", ".join(f"{name}: {reason}" for name, reason in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
