"""Measure a fit whose ratings are on disk beside one in memory: seconds an epoch, memory, bytes read.

    fastmf synth ml-100m.parquet --like ml-20m --scale 5
    python benchmarks/spill.py ml-100m.parquet --limit 1GiB --group 1.7GiB

The fits run in turn, each in a process of its own. --group puts the spilled ones into a control group of Linux whose
memory is limited, pages of files included; that needs root. benchmarks/README.md explains the figures.
"""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import Table, few_ratings, reporting

import fastmf
from fastmf.cli.console import remark
from fastmf.runtime.memory import parse_size

MIB = 2**20
GROUPS = {"memory.limit_in_bytes": Path("/sys/fs/cgroup/memory"), "memory.max": Path("/sys/fs/cgroup")}
EVERY = 0.05  # seconds between looks at the memory


@contextlib.contextmanager
def limited(n_bytes: int | None) -> Iterator[None]:
    """Run the block in a control group of so many bytes, if a number is given, and leave it after."""
    if n_bytes is None:
        yield
        return
    name, root = next((name, root) for name, root in GROUPS.items() if (root / "cgroup.procs").exists())
    group = root / f"fastmf-{os.getpid()}"
    group.mkdir()
    try:
        (group / name).write_text(str(n_bytes))
        (group / "cgroup.procs").write_text(str(os.getpid()))
        yield
    finally:
        (root / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


@contextlib.contextmanager
def watched() -> Iterator[dict[str, int]]:
    """Keep the most anonymous memory that the block takes, in bytes; pages of mapped files are not anonymous."""
    found, over = {"anonymous": 0}, threading.Event()

    def watch() -> None:
        while not over.wait(EVERY):
            found["anonymous"] = max(found["anonymous"], status("status", "RssAnon") * 1024)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def status(file: str, name: str) -> int:
    """Return a number that Linux tells of this process."""
    lines = Path("/proc/self", file).read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def measure(path: str, folder: str | None, limit: str, group: int | None, how: dict[str, Any]) -> dict[str, Any]:
    """Fit; return the seconds of everything and of each epoch, the memory taken, the bytes read, and the hash."""
    fastmf.fit(few_ratings(), choice=False, **how)
    spilling = {} if folder is None else {"spill": folder, "memory_limit": limit}
    reads = [status("io", "read_bytes")]
    with limited(group if folder else None), watched() as memory:
        before, began = status("status", "RssAnon") * 1024, time.perf_counter()
        model = fastmf.fit(
            path, choice=False, callback=lambda _: reads.append(status("io", "read_bytes")), **how, **spilling
        )
        seconds = time.perf_counter() - began
    later = [epoch.seconds for epoch in model.history[1:]]
    tables = sum(getattr(model, f"{side}_{part}").nbytes for side in ("user", "item") for part in ("factors", "bias"))
    return {
        "seconds": seconds,
        "first epoch": model.history[0].seconds,
        "epoch": float(np.median(later)),
        "read MiB": float(np.median(np.diff(reads)[1:])) / MIB,
        "anonymous MiB": (memory["anonymous"] - before) / MIB,
        "tables MiB": tables / MIB,
        "hash": model.content_hash,
    }


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n", 1))
@click.argument("ratings", type=click.Path(exists=True))
@click.option("--k", default=32, show_default=True)
@click.option("--solver", default="als", show_default=True)
@click.option("--epochs", type=click.IntRange(3), default=5, show_default=True)
@click.option("--limit", default="1GiB", show_default=True, help="Memory limit of the spilled fit.")
@click.option("--group", help="Memory of the control group.  [default: none is made]")
@click.option("--folder", type=click.Path(), help="Where to spill.  [default: a temporary folder]")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Pairs of fits.")
@reporting("spill.py", "ratings")
def main(
    ratings: str, k: int, solver: str, epochs: int, limit: str, group: str | None, folder: str | None, runs: int
) -> Table:
    """Fit in memory and spilled, in turn."""
    found: dict[str, list[dict[str, Any]]] = {"in memory": [], "spilled": []}
    how, room = {"k": k, "solver": solver, "epochs": epochs}, parse_size(group)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        for _ in range(runs):
            for name, kept in found.items():
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    given = ratings, place if name == "spilled" else None, limit, room, how
                    kept.append(pool.submit(measure, *given).result())
                    remark(f"{name}: {kept[-1]['epoch']:.3f} s an epoch")
    same = len({run.pop("hash") for kept in found.values() for run in kept}) == 1
    ratio = float(np.median([b["epoch"] / a["epoch"] for a, b in zip(*found.values(), strict=True)]))
    are = "the same, bit for bit" if same else "NOT the same"
    notes = [f"The models are {are}. A spilled epoch takes {ratio:.2f} times as long."]
    medians = {
        name: {key: float(np.median([run[key] for run in kept])) for key in kept[0]} for name, kept in found.items()
    }
    rows = [(name, *(f"{value:.3g}" for value in of.values())) for name, of in medians.items()]
    report = {"ratings": Path(ratings).name, **how, "limit": limit, "group": group, "runs": found, "medians": medians}
    return {**report, "ratio": ratio, "same": same, "notes": notes}, ["", *medians["spilled"]], rows


if __name__ == "__main__":
    main()
