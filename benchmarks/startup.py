"""Measure whole commands from a cold start: the first run, which compiles, and later runs from the kernel cache.

    fastmf synth small.parquet --like ml-latest-small
    python benchmarks/startup.py small.parquet -o startup.json

Figures are wall seconds of processes, so other work on the machine counts too. One user must have the id 1.
benchmarks/README.md explains the figures.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
from common import Table, reporting

# The commands run in this order, with one cache: each finds what those before it compiled.
COMMANDS: dict[str, Sequence[str]] = {
    "fit (als)": ("fit", "{ratings}", "--solver", "als", "-o", "{folder}/m.fastmf", "--overwrite"),
    "fit (sgd)": ("fit", "{ratings}", "--solver", "sgd", "-o", "{folder}/m.fastmf", "--overwrite"),
    "recommend": ("recommend", "{folder}/m.fastmf", "--user", "1"),
    "evaluate": ("evaluate", "{folder}/m.fastmf", "{ratings}"),
    "--help": ("--help",),
}


def seconds_of(command: Sequence[str], cache: Path) -> float:
    """Run a fastmf command with this kernel cache; return its wall seconds."""
    began = time.perf_counter()
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    process = [sys.executable, "-m", "fastmf", *command]
    done = subprocess.run(process, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"fastmf {' '.join(command)} exited with {done.returncode}: {done.stderr}")
    return time.perf_counter() - began


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n", 1))
@click.argument("ratings", type=click.Path(exists=True))
@click.option(
    "--runs", type=click.IntRange(1), default=5, show_default=True, help="Runs of each command after the first."
)
@reporting("startup.py", "ratings")
def main(ratings: str, runs: int) -> Table:
    """Time the first and later runs of each command, starting from an empty cache."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, words in COMMANDS.items():
            command = [word.format(ratings=ratings, folder=folder) for word in words]
            first, *later = (seconds_of(command, Path(folder) / "cache") for _ in range(1 + runs))
            found[name] = {"first_seconds": first, "later_seconds": later}
        warm = [seconds_of(["warmup"], Path(folder) / cache) for cache in ("other", "other")]
        found["warmup"] = {"first_seconds": warm[0], "later_seconds": warm[1:]}
    rows = [
        (name, f"{of['first_seconds']:.2f}", f"{statistics.median(of['later_seconds']):.2f}")
        for name, of in found.items()
    ]
    return {"ratings": Path(ratings).name, "results": found}, ("command", "first s", "later s (median)"), rows


if __name__ == "__main__":
    main()
