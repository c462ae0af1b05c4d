"""What the scripts share: the options of a report, a few ratings to warm up on, and the format of figures."""

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from fastmf.bench.machine import command_line, describe, versions
from fastmf.cli.console import show_table
from fastmf.cli.options import overwrite_option
from fastmf.cli.output import check_plot, save_plot
from fastmf.data.atomic import check_output, write_json
from fastmf.data.write import write_parquet
from fastmf.datasets.twins import Shape, draw
from fastmf.errors import FastMFError
from fastmf.reporting import pictures
from fastmf.reporting.draw import Picture

README = "benchmarks/README.md explains the figures."
Table = tuple[dict[str, Any], Sequence[str], Sequence[Sequence[Any]]]  # report, header, rows


def reporting(
    script: str, *inputs: str, drawn: Callable[[dict[str, Any]], Picture] | None = None
) -> Callable[[Callable[..., Table]], Callable[..., None]]:
    """Add -o, --plot and --overwrite to a command that returns its report and the header and rows of its table.

    Machine and versions are added to the report; its "notes" follow the table. ``inputs`` names the arguments that are
    input files, which the report must not replace. ``drawn`` draws the report; without it, the table's first figures
    are drawn.
    """

    def decorate(main: Callable[..., Table]) -> Callable[..., None]:
        @click.option("-o", "--output", metavar="FILE", help="Write the report to FILE as JSON.")
        @click.option("--plot", metavar="FILE", help="Draw the table: .svg, .png or .pdf.")
        @overwrite_option
        @functools.wraps(main)
        def command(*, output: str | None, plot: str | None, overwrite: bool, **given: Any) -> None:
            read = [given[name] for name in inputs]
            try:
                if output:
                    check_output(output, overwrite, inputs=read)
                check_plot(plot, overwrite, [*read, output])
                report, header, rows = main(**given)
                about = {"command": command_line(f"benchmarks/{script}"), "machine": describe(), "versions": versions()}
                if output:
                    write_json(about | report, output, overwrite)
                show_table(header, rows)
                if "notes" in report:
                    click.echo("\n" + "\n".join(report["notes"]))
                save_plot(plot, lambda: (drawn or pictures.table)(*((report,) if drawn else (header, rows))), overwrite)
            except (FastMFError, OSError) as error:
                raise click.ClickException(str(error)) from error

        return command

    return decorate


def write_sets(names: Iterable[str], draw: Callable[[str], dict[str, np.ndarray]], folder: Path) -> None:
    """Draw each set by its name and write it to the folder as Parquet; print the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        write_parquet(draw(name), folder / f"{name}.parquet")
        click.echo(folder / f"{name}.parquet")


def few_ratings() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw users, items and ratings of 600 pairs: running everything on them first keeps compilation out of figures."""
    twin = draw(Shape(users=30, items=60, ratings=600, cap=40), np.uint64(0), name="warm-up")
    return twin.users, twin.items, twin.ratings


def number(value: float | None) -> str:
    """Format a figure with three digits, "-" if it was not measured."""
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
