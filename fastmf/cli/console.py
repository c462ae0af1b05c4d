"""What the command line shows: data on stdout as tables or JSON, progress and remarks on stderr.

rich is imported by the functions that draw with it: ``--help`` needs none of it.
"""

import contextlib
import io
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from fastmf.data.escape import printable

# Line length if stdout is not a terminal: lines are not wrapped.
_UNLIMITED = 100_000


def plain(value: Any) -> str:
    """Format a value for a terminal: floats to 4 places, control characters escaped."""
    return f"{value:.4f}" if isinstance(value, float) else printable(str(value))


def short(value: Any, how: str = "g") -> str:
    """Format a setting as a user would type it; "-" for None."""
    return "-" if value is None else format(value, how) if isinstance(value, float) else str(value)


def remark(text: str) -> None:
    """Print a line on stderr; ignore a closed pipe or a full disk."""
    with contextlib.suppress(OSError):
        print(plain(text), file=sys.stderr, flush=True)  # noqa: T201


def say_device(device: Any) -> Any:
    """Report the device if it is a GPU; return it."""
    if not device.on_host:
        remark(f"device: {device.describe()}")
    return device


def show_json(data: Any) -> None:
    """Print data as JSON on stdout; ids that JSON has no type for (dates, UUIDs) as text, infinity and NaN as null."""
    print(json.dumps(_finite(data), indent=2, default=str, allow_nan=False))  # noqa: T201


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _finite(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def show_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table on stdout; numbers are right-aligned."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(header):
        numeric = all(isinstance(row[place], int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))  # rich would read markup and emoji in a str
    if sys.stdout.isatty():
        Console().print(table)
        return
    lines = io.StringIO()
    Console(file=lines, width=_UNLIMITED, force_terminal=False).print(table)
    print("\n".join(line.rstrip() for line in lines.getvalue().splitlines()))  # noqa: T201


@contextlib.contextmanager
def progress_shown(
    what: str, total: int, quiet: bool, line: Callable[[Any], str], beside: Callable[[Any], str]
) -> Iterator[Callable[[Any], None]]:
    """Yield a callback that shows each epoch or trial on stderr, unless ``quiet``.

    A terminal gets a live bar with the text of ``beside``, anything else one ``line`` per epoch or trial.
    """
    if quiet:
        yield lambda each: None
    elif not sys.stderr.isatty():
        yield lambda each: remark(f"{what} {each.number}/{total}  {line(each)}")
    else:
        with _bar(what, total) as update:
            yield lambda each: update(each.number, beside(each))


def rows_shown(frames: Iterable[Any], total: int, quiet: bool) -> Iterator[Any]:
    """Yield the frames; on a terminal, show a bar of the users whose lists are done."""
    if quiet or not sys.stderr.isatty():
        yield from frames
        return
    with _bar("users", total) as update:
        done = 0
        for frame in frames:
            yield frame
            done += frame["user_id"].nunique()
            update(done, "")


@contextlib.contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Show a live bar on stderr; yield a callback for the number done and a text beside the bar."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    of, elapsed, text = MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    with Progress(TextColumn(what), of, BarColumn(), elapsed, text, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=total)
        yield lambda done, text: progress.update(bar, completed=done, description=text)
