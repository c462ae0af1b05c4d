"""Measure seconds and peak memory of Parquet -> ids -> CSR + CSC, by row order and type of the ids.

    fastmf synth ml-20m.parquet --like ml-20m
    python benchmarks/ingest.py ml-20m.parquet

Each layout is written from the given file and read in its own process. Compilation comes first and is not counted.
benchmarks/README.md explains the figures.
"""

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import Table, reporting

from fastmf import Ratings
from fastmf.bench.machine import peak_memory
from fastmf.cli.console import remark

LAYOUTS = [f"{kind} {order}" for kind in ("int32", "int64", "wide", "text") for order in ("sorted", "shuffled")]
MB = 2**20


def relabelled(indices: np.ndarray, kind: str) -> pa.Array:
    """Replace dense indices (n,) int32 with ids: integers of 32 or 64 bits, far apart (wide), or text."""
    if kind in ("int32", "int64"):
        return pa.array(indices.astype(kind))
    n = int(indices.max()) + 1
    far_apart = np.sort(np.random.default_rng(0).integers(0, 2**62, n))
    return pa.array(far_apart if kind == "wide" else [f"id-{key:08d}" for key in range(n)]).take(pa.array(indices))


def write(ratings: Ratings, layout: str, path: Path) -> None:
    """Write the ratings in a layout."""
    kind, order = layout.split()
    rows = np.random.default_rng(0).permutation(len(ratings)) if order == "shuffled" else slice(None)
    users, items = (relabelled(side[rows], kind) for side in (ratings.users, ratings.items))
    table = pa.table({"user": users, "item": items, "rating": ratings.values[rows]})
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def ingest(path: str) -> tuple[float, float, float]:
    """Read a file and build both views; return the seconds of reading, of by_user and of by_item."""
    times = [time.perf_counter()]
    ratings = Ratings.from_parquet(path)
    times.append(time.perf_counter())
    _ = ratings.by_user
    times.append(time.perf_counter())
    _ = ratings.by_item
    times.append(time.perf_counter())
    return tuple(np.diff(times).tolist())


def measure(path: str, small: str, runs: int) -> dict[str, float]:
    """Ingest a small file to compile, then the file several times; return seconds, and the rise in peak memory."""
    ingest(small)
    before = peak_memory() or 0
    found = np.array([ingest(path) for _ in range(runs)])
    totals = found.sum(axis=1)
    parts = dict(zip(("read", "by_user", "by_item"), np.median(found, axis=0).tolist(), strict=True))
    peak = ((peak_memory() or 0) - before) / MB
    return {"total": float(np.median(totals)), "best": float(totals.min()), **parts, "MiB": peak}


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n", 1))
@click.argument("ratings", type=click.Path(exists=True))
@click.option("--runs", type=click.IntRange(1), default=5, show_default=True, help="Reads of each layout.")
@click.option("--layout", "layouts", multiple=True, type=click.Choice(LAYOUTS), help="[default: all]")
@reporting("ingest.py", "ratings")
def main(ratings: str, runs: int, layouts: tuple[str, ...]) -> Table:
    """Measure every layout."""
    data = Ratings.from_parquet(ratings)
    some = data.take(np.arange(len(data)) < 1000)
    remark(f"{len(data):,} ratings; CSR + CSC hold {16 * len(data) / MB:,.0f} MiB; seconds, medians of {runs}")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for layout in layouts or LAYOUTS:
            path, compiled = Path(folder) / "ratings.parquet", Path(folder) / "small.parquet"
            write(data, layout, path)
            write(some, layout, compiled)
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                found[layout] = pool.submit(measure, str(path), str(compiled), runs).result()
    rows = [(layout, *(f"{value:.3g}" for value in of.values())) for layout, of in found.items()]
    return {"ratings": len(data), "results": found}, ["layout", *next(iter(found.values()))], rows


if __name__ == "__main__":
    main()
