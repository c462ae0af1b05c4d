"""What the command line shows: data on stdout as tables or JSON, progress and remarks on stderr."""

import contextlib
import io
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from fastmf.data.escape import printable

# Where nothing is a terminal, lines are as long as they have to be.
_UNLIMITED = 100_000


def plain(value: Any) -> str:
    """Write a value so that a terminal shows it and does nothing else: control characters are escaped."""
    if isinstance(value, float):
        return f"{value:.4f}"
    return printable(str(value))


def short(value: Any, how: str = "g") -> str:
    """Write a setting as it is typed; "-" where there is none."""
    return "-" if value is None else format(value, how) if isinstance(value, float) else str(value)


def figure(trial: Any) -> str:
    """Write what a trial of tuning has come to, with the name of the measure."""
    return f"{trial.measure.name} {trial.measure.of(trial):.4f}"


def remark(text: str) -> None:
    """Say something beside the data, on stderr; the work goes on when nobody listens, or the log's disk is full."""
    with contextlib.suppress(OSError):
        print(plain(text), file=sys.stderr, flush=True)  # noqa: T201


def say_device(device: Any) -> Any:
    """Say which device was found, if it is a GPU; return it."""
    if not device.on_host:
        remark(f"device: {device.describe()}")
    return device


def show_json(data: Any) -> None:
    """Print data as JSON on stdout; what JSON does not know (ids such as dates and UUIDs) as text, infinity as null."""
    print(json.dumps(_finite(data), indent=2, default=str, allow_nan=False))  # noqa: T201


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _finite(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def show_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table on stdout; numbers stand to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(header):
        numeric = all(isinstance(row[place], int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))  # not str, in which rich sees markup and emoji
    if sys.stdout.isatty():
        Console().print(table)
        return
    lines = io.StringIO()
    Console(file=lines, width=_UNLIMITED, force_terminal=False).print(table)
    print("\n".join(line.rstrip() for line in lines.getvalue().splitlines()))  # noqa: T201


@contextlib.contextmanager
def epochs_shown(total: int, quiet: bool) -> Iterator[Callable[[Any], None]]:
    """Give a callback for epochs: a live bar on a terminal, else one line an epoch on stderr."""
    if quiet:
        yield lambda epoch: None
    elif not sys.stderr.isatty():
        yield lambda epoch: remark(f"epoch {epoch.number}/{total}  {_described(epoch)}  {epoch.seconds:.3f} s")
    else:
        with _bar("epoch", total) as update:
            yield lambda epoch: update(epoch.number, _described(epoch))


@contextlib.contextmanager
def trials_shown(total: int, done: list[Any], quiet: bool) -> Iterator[Callable[[Any], None]]:
    """Give a callback for the trials of tuning, which adds them to those done.

    It shows a bar with the best so far on a terminal, else one line a trial on stderr.
    """
    from fastmf.training.tune import ranked

    if quiet:
        yield done.append
    elif not sys.stderr.isatty():

        def tell(trial: Any) -> None:
            done.append(trial)
            remark(f"trial {trial.number}/{total}  {_tried(trial)}  {trial.seconds:.1f} s")

        yield tell
    else:

        def show(trial: Any) -> None:
            done.append(trial)
            best = ranked(done)[0]
            update(trial.number, f"best: {figure(best)} of trial {best.number}" if best.state == "complete" else "")

        with _bar("trial", total) as update:
            yield show


def rows_shown(frames: Iterable[Any], total: int, quiet: bool) -> Iterator[Any]:
    """Pass frames on, with a bar of how many of the users in all are done, on a terminal."""
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
    """Show a live bar on stderr; give a callback for how many are done, and what to say beside it."""
    columns = (
        TextColumn(what),
        MofNCompleteColumn(),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=total)
        yield lambda done, text: progress.update(bar, completed=done, description=text)


def _described(epoch: Any) -> str:
    text = f"train RMSE {epoch.train_rmse:.4f}"
    if epoch.validation_rmse is not None:
        text += f"  validation RMSE {epoch.validation_rmse:.4f} MAE {epoch.validation_mae:.4f}"
    if epoch.validation_ndcg is not None:
        text += f"  validation nDCG@10 {epoch.validation_ndcg:.4f}"
    return text


def _tried(trial: Any) -> str:
    what = " ".join([trial.solver, *(f"{name} {short(value)}" for name, value in trial.settings.items())])
    if trial.state == "failed":
        return f"{what}  failed: {trial.error}"
    return f"{what}  validation {figure(trial)}  {trial.state}, {trial.epochs} epochs"
