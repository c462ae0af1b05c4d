"""Measure how fastmf's time grows with the ratings, k and the threads, on synthetic twins of ml-20m.

    python benchmarks/scaling.py                                        # 1 to 20 million ratings, k of 8 to 256
    python benchmarks/scaling.py --max-ratings 100000000 -o scaling.json --plot scaling.png
    python benchmarks/scaling.py --sweep k --k 32 --k 64 --max-ratings 2000000

Every point has its own process, which first runs everything once on 600 ratings, to compile it. README.md explains the
figures.
"""

import importlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from common import README, Table, few_ratings, number, reporting

import fastmf
from fastmf import Ratings
from fastmf.bench.machine import BLAS_VARIABLES, describe, peak_memory
from fastmf.cli.console import remark
from fastmf.data.atomic import check_output, replacing
from fastmf.data.write import write_parquet
from fastmf.datasets.twins import TWINS, write_twin
from fastmf.errors import FastMFError

SWEEPS = ("ratings", "k", "threads")
RATINGS = tuple(millions * 1_000_000 for millions in (1, 2, 5, 10, 20, 50, 100))
FACTORS = (8, 16, 32, 64, 128, 256)
USUAL_RATINGS, USUAL_K = 20_000_000, 32  # fixed in the other sweeps, if that size is measured at all
FEW_RATINGS = 500_000  # below this, ml-20m's twin would be too dense: ml-latest-small's is drawn
SEED, TOP = 0, 10
THREADS = (*BLAS_VARIABLES, "NUMBA_NUM_THREADS")

# The figures of a point: heading in the table, and name in the report.
FIGURES = {
    "ingest s": "ingest_seconds",
    "ALS s/epoch": "als_epoch_seconds",
    "SGD s/epoch": "sgd_epoch_seconds",
    "top-10 users/s": "users_per_second",
    "peak MiB": "peak_memory_mib",
}


class Point(NamedTuple):
    """What to measure: number of ratings of the twin, factors, threads."""

    ratings: int
    k: int
    threads: int


class Effort(NamedTuple):
    """How thoroughly to measure: epochs of each solver, repetitions of the rest, users to recommend to."""

    epochs: int
    repeat: int
    users: int


@click.command(epilog=README)
@click.option("--sweep", "sweeps", multiple=True, type=click.Choice(SWEEPS), help="What to vary.  [default: all]")
@click.option("--ratings", type=click.IntRange(1), multiple=True, default=RATINGS, show_default=True, metavar="N")
@click.option("--max-ratings", default=20_000_000, show_default=True, help="Leave out larger twins.")
@click.option("--k", type=click.IntRange(1), multiple=True, default=FACTORS, show_default=True, metavar="N")
@click.option("--threads", type=click.IntRange(1), multiple=True, metavar="N",
              help="[default: 1, 2, 4, ... and all cores]")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), default=3, show_default=True, help="Epochs of each solver.")
@click.option(
    "--repeat", type=click.IntRange(1), default=3, show_default=True, help="Repetitions of ingest and top-10."
)
@click.option("--users", type=click.IntRange(1), default=20_000, show_default=True, help="Most users to recommend to.")
@click.option("--plot", metavar="FILE.png", help="Plot the figures; needs matplotlib.")
@reporting("scaling.py")
def main(sweeps: tuple[str, ...], plot: str | None, max_ratings: int, **options: Any) -> Table:
    """Measure how fastmf's time grows with the ratings, with k and with the threads."""
    values = {sweep: sorted(set(options.pop(sweep))) for sweep in SWEEPS}
    values["ratings"] = [n for n in values["ratings"] if n <= max_ratings]
    values["threads"] = values["threads"] or usual_threads()
    if not values["ratings"]:
        raise click.BadParameter(f"no --ratings is at most --max-ratings, {max_ratings:,}")
    overwrite = click.get_current_context().params["overwrite"]
    if plot:
        check_output(plot, overwrite)
    pyplot = plot and import_pyplot()
    report = measure_all(list(points_of(dict.fromkeys(sweeps or SWEEPS), values)), Effort(**options))
    if plot:
        with replacing(plot, overwrite) as temporary:
            plotted(report["points"], pyplot).savefig(temporary, format=Path(plot).suffix[1:] or "png", dpi=150)
    return report, ("sweep", *Point._fields, *FIGURES), [row_of(point) for point in report["points"]]


def usual_threads() -> list[int]:
    """Return 1, 2, 4, ... and all cores."""
    cores = describe()["cores"]
    return [*(2**n for n in range(cores.bit_length()) if 2**n < cores), cores]


def points_of(sweeps: Iterable[str], values: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, Point]]:
    """Vary one thing at a time; the others stay at 20 million ratings (or the next fewer), k = 32, the most threads."""
    ratings = [n for n in values["ratings"] if n <= USUAL_RATINGS] or values["ratings"][:1]
    k = USUAL_K if USUAL_K in values["k"] else values["k"][0]
    usual = Point(ratings[-1], k, values["threads"][-1])
    for sweep in sweeps:
        for value in values[sweep]:
            yield sweep, usual._replace(**{sweep: value})


def measure_all(points: Sequence[tuple[str, Point]], effort: Effort) -> dict[str, Any]:
    """Measure every point once, even if it is in several sweeps; return the report."""
    results: dict[Point, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="fastmf-scaling-") as scratch:
        folder = Path(scratch)
        columns = zip(("userId", "movieId", "rating"), few_ratings(), strict=True)
        write_parquet(dict(columns), folder / "warm-up.parquet")
        for _, point in sorted(points, key=lambda each: each[1].ratings):  # one twin at a time
            if point not in results:
                results[point] = in_process(point, twin_of(point.ratings, folder), folder / "warm-up.parquet", effort)
                failed = results[point]["failed"]
                remark(f"{point}: {'FAILED, ' + failed if failed else 'measured'}")
    return {
        "settings": {**effort._asdict(), "top": TOP, "seed": SEED},
        "points": [{"sweep": sweep, **point._asdict(), **results[point]} for sweep, point in points],
    }


def twin_of(ratings: int, folder: Path) -> Path:
    """Draw the twin with this number of ratings, and delete the one before."""
    path = folder / f"twin-{ratings}.parquet"
    if not path.exists():
        for old in folder.glob("twin-*.parquet"):
            old.unlink()
        like = "ml-20m" if ratings >= FEW_RATINGS else "ml-latest-small"
        write_twin(path, like, scale=ratings / TWINS[like].ratings, seed=SEED)
    return path


def in_process(point: Point, file: Path, warm_up: Path, effort: Effort) -> dict[str, Any]:
    """Measure a point in a new process, which starts with all threads pinned."""
    os.environ.update(dict.fromkeys(THREADS, str(point.threads)))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return {"failed": None, **pool.submit(measure, point, file, warm_up, effort).result()}
        except (BrokenProcessPool, FastMFError, MemoryError) as error:  # broken: killed, most often for lack of memory
            return {"failed": f"{type(error).__name__}: {error}", **dict.fromkeys(FIGURES.values())}


def measure(point: Point, file: Path, warm_up: Path, effort: Effort) -> dict[str, Any]:
    """Do everything once on the small twin, then on the point's own; return medians and raw figures."""
    run(point, warm_up, Effort(1, 1, 1))
    raw = run(point, file, effort)
    figures = {figure: statistics.median(raw[figure]) for figure in FIGURES.values() if figure in raw}
    peak = peak_memory()
    return {**figures, "peak_memory_mib": peak and peak / 2**20, "raw": raw}


def run(point: Point, file: Path, effort: Effort) -> dict[str, list[float]]:
    """Read, fit with both solvers, and recommend; return all measurements of each figure."""
    ingest, ratings = repeated(effort.repeat, lambda: ingested(file))
    seconds = {}
    for solver in ("als", "sgd"):
        model = fastmf.fit(ratings, k=point.k, solver=solver, epochs=effort.epochs, threads=point.threads)
        seconds[f"{solver}_epoch_seconds"] = [epoch.seconds for epoch in model.history]
    users = model.user_ids.take(np.random.default_rng(SEED).permutation(ratings.n_users)[: effort.users])
    recommending, _ = repeated(effort.repeat, lambda: model.recommend(users, n=TOP))
    return {"ingest_seconds": ingest, **seconds, "users_per_second": [len(users) / taken for taken in recommending]}


def ingested(file: Path) -> Ratings:
    """Read Parquet into ratings with both compressed views."""
    ratings = Ratings.from_parquet(file)
    _ = ratings.by_user, ratings.by_item  # built on first use
    return ratings


def repeated(times: int, call: Callable[[], Any]) -> tuple[list[float], Any]:
    """Call a function several times; return the seconds of each call, and the last result."""
    seconds, result = [], None
    for _ in range(times):
        result = None  # memory may not hold two of them
        began = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - began)
    return seconds, result


def row_of(point: Mapping[str, Any]) -> list[str]:
    """Format a point as a row of the table."""
    figures = (number(point[figure]) for figure in FIGURES.values())
    return [point["sweep"], f"{point['ratings']:,}", str(point["k"]), str(point["threads"]), *figures]


def import_pyplot() -> Any:
    """Import matplotlib, or raise an error that says how to install it."""
    try:
        importlib.import_module("matplotlib").use("agg")
    except ImportError:
        raise click.ClickException("--plot needs matplotlib, which is not installed: pip install matplotlib") from None
    return importlib.import_module("matplotlib.pyplot")


def plotted(points: Sequence[Mapping[str, Any]], pyplot: Any) -> Any:
    """Plot seconds against each varied setting, on logarithmic scales."""
    sweeps = list(dict.fromkeys(point["sweep"] for point in points))
    figure, panels = pyplot.subplots(1, len(sweeps), figsize=(5 * len(sweeps), 4), squeeze=False, layout="constrained")
    for sweep, panel in zip(sweeps, panels[0], strict=True):
        own = [point for point in points if point["sweep"] == sweep and not point["failed"]]
        values = [point[sweep] for point in own]
        for label, name in FIGURES.items():
            if name.endswith("seconds"):
                panel.loglog(values, [point[name] for point in own], marker="o", label=label)
        panel.loglog(
            values, [1e4 / point["users_per_second"] for point in own], marker="o", label="top-10, 10,000 users"
        )
        panel.set_xticks(values, labels=[f"{value / 1e6:g} M" if value >= 1e6 else f"{value:,}" for value in values])
        panel.set_xticks([], minor=True)
        fixed = (f"{name} {own[0][name]:,}" for name in Point._fields if name != sweep and own)
        panel.set(xlabel=sweep, ylabel="seconds", title=", ".join(fixed))
        panel.grid(alpha=0.3)
        panel.legend()
    return figure


if __name__ == "__main__":
    main()
