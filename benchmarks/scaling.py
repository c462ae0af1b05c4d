"""Measure how fastmf's time and memory grow with the ratings, k and the threads, on synthetic twins of ml-20m.

    python benchmarks/scaling.py                                        # 1 to 20 million ratings, k of 8 to 256
    python benchmarks/scaling.py --max-ratings 100000000 -o scaling.json --plot scaling.png
    python benchmarks/scaling.py --sweep k --k 32 --k 64 --max-ratings 2000000

Every point has its own process, which first runs everything once on 600 ratings, to compile it. A model of the growth
is fitted (growth.py). README.md explains the figures.
"""

import contextlib
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
import growth
import numpy as np
import scaling_plot
from common import README, Table, few_ratings, number, reporting

import fastmf
from fastmf import Ratings
from fastmf.bench.machine import BLAS_VARIABLES, describe, peak_memory
from fastmf.cli.console import remark
from fastmf.data.write import write_parquet
from fastmf.datasets.twins import TWINS, write_twin
from fastmf.errors import FastMFError

SWEEPS = ("ratings", "k", "threads", "caches")
RATINGS = tuple(millions * 1_000_000 for millions in (1, 2, 5, 10, 20, 50, 100))
FACTORS = (8, 16, 32, 64, 128, 256)
USUAL_RATINGS, USUAL_K = 20_000_000, 32  # fixed in the other sweeps, if that size is measured at all
FEW_RATINGS = 500_000  # below this, ml-20m's twin would be too dense: ml-latest-small's is drawn
SEED, TOP = 0, 10
THREADS = (*BLAS_VARIABLES, "NUMBA_NUM_THREADS")

VISITS = 100_000_000 * USUAL_K  # ratings times factors that the epochs of a point visit, if their number allows it
MOST_EPOCHS = 4  # times the least

# The figures of a point: heading in the table, name in the report, and unit of the table.
FIGURES = {
    "ingest s": ("ingest_seconds", 1),
    "ALS s/epoch": ("als_epoch_seconds", 1),
    "SGD s/epoch": ("sgd_epoch_seconds", 1),
    "top-10 us/user": ("user_seconds", 1e-6),
    "ingest MiB": ("ingest_peak_bytes", 2**20),
    "ALS MiB": ("als_peak_bytes", 2**20),
    "SGD MiB": ("sgd_peak_bytes", 2**20),
}
START = "start_bytes"  # what the process holds before it reads


class Point(NamedTuple):
    """What to measure: number of ratings of the twin, factors, threads."""

    ratings: int
    k: int
    threads: int


class Effort(NamedTuple):
    """How thoroughly to measure: least epochs of each solver, repetitions of the rest, users to recommend to."""

    epochs: int
    repeat: int
    users: int

    def epochs_at(self, point: Point) -> int:
        """Return more epochs for small points, whose epochs are short and vary more."""
        return min(max(self.epochs, VISITS // (point.ratings * point.k)), MOST_EPOCHS * self.epochs)


@click.command(epilog=README)
@click.option("--sweep", "sweeps", multiple=True, type=click.Choice(SWEEPS), help="What to vary.  [default: all]")
@click.option("--ratings", type=click.IntRange(1), multiple=True, default=RATINGS, show_default=True, metavar="N")
@click.option("--max-ratings", default=20_000_000, show_default=True, help="Leave out larger twins.")
@click.option("--k", type=click.IntRange(1), multiple=True, default=FACTORS, show_default=True, metavar="N")
@click.option("--threads", type=click.IntRange(1), multiple=True, metavar="N",
              help="[default: 1, 2, 4, ... and all cores]")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), default=3, show_default=True, help="Least epochs of each solver.")
@click.option(
    "--repeat", type=click.IntRange(1), default=3, show_default=True, help="Repetitions of ingest and top-10."
)
@click.option("--users", type=click.IntRange(1), default=20_000, show_default=True, help="Most users to recommend to.")
@click.option("--fit-to", type=click.IntRange(1), default=growth.FITTED_TO, show_default=True, metavar="N",
              help="Fit the model to points of at most N ratings.")  # fmt: skip
@reporting("scaling.py", drawn=scaling_plot.plotted)
def main(sweeps: tuple[str, ...], max_ratings: int, fit_to: int, **options: Any) -> Table:
    """Measure how fastmf's time and memory grow with the ratings, with k and with the threads."""
    values = {setting: sorted(set(options.pop(setting))) for setting in Point._fields}
    values["ratings"] = [n for n in values["ratings"] if n <= max_ratings]
    values["threads"] = values["threads"] or usual_threads()
    if not values["ratings"]:
        raise click.BadParameter(f"no --ratings is at most --max-ratings, {max_ratings:,}")
    usual = usual_point(values)
    report = measure_all(list(points_of(dict.fromkeys(sweeps or SWEEPS), values, usual)), Effort(**options))
    report |= growth.report_of(report["points"], usual.k, fit_to)
    return report, ("", *Point._fields, *FIGURES), list(rows_of(report))


def usual_threads() -> list[int]:
    """Return 1, 2, 4, ... and all cores."""
    cores = describe()["cores"]
    return [*(2**n for n in range(cores.bit_length()) if 2**n < cores), cores]


def usual_point(values: Mapping[str, Sequence[int]]) -> Point:
    """Return the fixed values: 20 million ratings (or the next fewer), k = 32, the most threads."""
    ratings = [n for n in values["ratings"] if n <= USUAL_RATINGS] or values["ratings"][:1]
    k = USUAL_K if USUAL_K in values["k"] else values["k"][0]
    return Point(ratings[-1], k, values["threads"][-1])


def points_of(sweeps: Iterable[str], values: Mapping[str, Sequence[int]], usual: Point) -> Iterator[tuple[str, Point]]:
    """Vary one thing at a time around the usual point.

    The sweep "caches" is for the model alone. It varies the ratings below the usual ones with four times the factors,
    whose rows reach as far beyond the caches as those of four times the ratings do.
    """
    for sweep in sweeps:
        if sweep == "caches":
            fewer = [n for n in values["ratings"] if n < usual.ratings]
            yield from ((sweep, usual._replace(ratings=n, k=4 * usual.k)) for n in fewer)
        else:
            yield from ((sweep, usual._replace(**{sweep: value})) for value in values[sweep])


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
        write_twin(path, like, scale=ratings / TWINS[like].ratings, seed=SEED, timestamps=False)
    return path


def in_process(point: Point, file: Path, warm_up: Path, effort: Effort) -> dict[str, Any]:
    """Measure a point in a new process, which starts with all threads pinned."""
    os.environ.update(dict.fromkeys(THREADS, str(point.threads)))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return {"failed": None, **pool.submit(measure, point, file, warm_up, effort).result()}
        except (BrokenProcessPool, FastMFError, MemoryError) as error:  # broken: killed, most often for lack of memory
            names = ("users", "items", START, *(name for name, _ in FIGURES.values()))
            return {"failed": f"{type(error).__name__}: {error}", **dict.fromkeys(names)}


def measure(point: Point, file: Path, warm_up: Path, effort: Effort) -> dict[str, Any]:
    """Do everything once on the small twin, then on the point's own; return its rows, medians and raw figures."""
    run(point, warm_up, 1, Effort(1, 1, 1))
    ratings, raw = run(point, file, effort.epochs_at(point), effort)
    return {"users": ratings.n_users, "items": ratings.n_items, **{name: middle(name, raw[name]) for name in raw},
            "raw": raw}  # fmt: skip


def middle(figure: str, values: Sequence[float | None]) -> float | None:
    """Return the median; a fit's first epoch does one-time work and counts only if it is alone."""
    if None in values:
        return None
    return statistics.median(values[1:] if "epoch" in figure and len(values) > 1 else values)


def run(point: Point, file: Path, epochs: int, effort: Effort) -> tuple[Ratings, dict[str, list[float | None]]]:
    """Read, fit with both solvers, and recommend; return the ratings and all measurements of each figure."""
    forget_peak()
    raw: dict[str, Any] = {START: [peak_memory()]}
    raw["ingest_seconds"], ratings = repeated(effort.repeat, lambda: ingested(file))
    raw["ingest_peak_bytes"] = [peak_memory()]
    for solver in ("als", "sgd"):
        model = None  # the other solver's
        forget_peak()
        model = fastmf.fit(ratings, k=point.k, solver=solver, epochs=epochs, threads=point.threads)
        raw[f"{solver}_epoch_seconds"] = [epoch.seconds for epoch in model.history]
        raw[f"{solver}_peak_bytes"] = [peak_memory()]
    users = model.user_ids.take(np.random.default_rng(SEED).permutation(ratings.n_users)[: effort.users])
    seconds, _ = repeated(effort.repeat, lambda: model.recommend(users, n=TOP))
    return ratings, {**raw, "user_seconds": [taken / len(users) for taken in seconds]}


def forget_peak() -> None:
    """Count the peak of memory from now on, where the system can (Linux); elsewhere it stays that of the process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


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


def rows_of(report: Mapping[str, Any]) -> Iterator[list[str]]:
    """Format the report as rows of the table: points, predictions with their errors, and estimates."""
    for point in report["points"]:
        yield row_of(point["sweep"], point, point)
    for found in report["predictions"]:
        figures = found["figures"]
        yield row_of("predicted", found, {name: of["predicted"] for name, of in figures.items()})
        errors = (figures[name]["error"] if name in figures else None for name, _ in FIGURES.values())
        yield ["error", "", "", "", *("-" if error is None else f"{round(100 * error):+d} %" for error in errors)]
    for found in report["estimates"]["points"]:
        yield row_of("ESTIMATE", found, found["figures"])
        if found["at_best"]:
            yield row_of("ESTIMATE at best", found, found["at_best"])


def row_of(label: str, size: Mapping[str, Any], figures: Mapping[str, float | None]) -> list[str]:
    """Format the figures of a size; those that are missing are "-"."""
    values = ((figures.get(name), unit) for name, unit in FIGURES.values())
    cells = (number(None if value is None else value / unit) for value, unit in values)
    return [label, *(f"{size[name]:,}" for name in Point._fields), *cells]


if __name__ == "__main__":
    main()
