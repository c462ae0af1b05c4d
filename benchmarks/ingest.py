"""Measure Parquet -> ids -> CSR + CSC: seconds and peak memory, by the order of the rows and the type of the ids.

    fastmf synth ml-20m.parquet --like ml-20m
    python benchmarks/ingest.py ml-20m.parquet

Each layout is written from the file given, and read in a process of its own. Compiling comes first and is not counted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fastmf import Ratings
from fastmf.bench import peak_memory

LAYOUTS = [f"{kind} {order}" for kind in ("int32", "int64", "wide", "text") for order in ("sorted", "shuffled")]
MB = 2**20


def relabelled(indices: np.ndarray, kind: str) -> pa.Array:
    """Give dense indices (n,) int32 ids of a kind: integers of 32 or 64 bits, far apart (wide), or text."""
    if kind in ("int32", "int64"):
        return pa.array(indices.astype(kind))
    n = int(indices.max()) + 1
    far_apart = np.sort(np.random.default_rng(0).integers(0, 2**62, n))
    return pa.array(far_apart if kind == "wide" else [f"id-{key:08d}" for key in range(n)]).take(pa.array(indices))


def write(ratings: Ratings, layout: str, path: Path) -> None:
    """Write the ratings in one of the layouts."""
    kind, order = layout.split()
    rows = np.random.default_rng(0).permutation(len(ratings)) if order == "shuffled" else slice(None)
    users, items = (relabelled(side[rows], kind) for side in (ratings.users, ratings.items))
    table = pa.table({"user": users, "item": items, "rating": ratings.values[rows]})
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def ingest(path: str) -> tuple[float, float, float]:
    """Read a file and build both views. Returns the seconds of reading, of by_user and of by_item."""
    times = [time.perf_counter()]
    ratings = Ratings.from_parquet(path)
    times.append(time.perf_counter())
    _ = ratings.by_user
    times.append(time.perf_counter())
    _ = ratings.by_item
    times.append(time.perf_counter())
    return tuple(np.diff(times).tolist())


def measure(path: str, small: str, runs: int) -> dict[str, float]:
    """Ingest a file several times, after a small one to compile. Returns seconds, and the peak above that of before."""
    ingest(small)
    before = peak_memory() or 0
    found = np.array([ingest(path) for _ in range(runs)])
    totals = found.sum(axis=1)
    parts = dict(zip(("read", "by_user", "by_item"), np.median(found, axis=0).tolist(), strict=True))
    peak = ((peak_memory() or 0) - before) / MB
    return {"total": float(np.median(totals)), "best": float(totals.min()), **parts, "MiB": peak}


def main() -> None:
    """Write, measure and print every layout."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("ratings", help="a Parquet file of ratings")
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--small", help=argparse.SUPPRESS)  # given to the processes this one starts
    given = arguments.parse_args()
    if given.small:
        print(json.dumps(measure(given.ratings, given.small, given.runs)))
        return
    ratings = Ratings.from_parquet(given.ratings)
    some = ratings.take(np.arange(len(ratings)) < 1000)
    print(
        f"{len(ratings):,} ratings; CSR + CSC hold {16 * len(ratings) / MB:,.0f} MiB; seconds, medians of {given.runs}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for layout in LAYOUTS:
            path, small = Path(folder) / "ratings.parquet", Path(folder) / "small.parquet"
            write(ratings, layout, path)
            write(some, layout, small)
            command = [sys.executable, __file__, str(path), "--small", str(small), "--runs", str(given.runs)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(f"{layout:15}", *(f"{name} {value:.{0 if name == 'MiB' else 2}f}" for name, value in found.items()))


if __name__ == "__main__":
    main()
