"""Measure whole commands from a cold start: the first ever, which compiles, and the next, which find all compiled.

    fastmf synth small.parquet --like ml-latest-small
    python benchmarks/startup.py small.parquet -o startup.json

Wall seconds of processes: what else the machine does counts too. One user must be called 1. What the figures mean is in
benchmarks/README.md.
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

from fastmf.bench.machine import describe, versions
from fastmf.cli.console import show_table
from fastmf.cli.options import overwrite_option
from fastmf.data.atomic import check_output, write_json

# Each command runs right after the one before it, and finds in the cache what that one compiled.
COMMANDS: dict[str, Sequence[str]] = {
    "fit (als)": ("fit", "{ratings}", "--solver", "als", "-o", "{folder}/m.fastmf", "--overwrite"),
    "fit (sgd)": ("fit", "{ratings}", "--solver", "sgd", "-o", "{folder}/m.fastmf", "--overwrite"),
    "recommend": ("recommend", "{folder}/m.fastmf", "--user", "1"),
    "evaluate": ("evaluate", "{folder}/m.fastmf", "{ratings}"),
    "--help": ("--help",),
}


def seconds_of(command: Sequence[str], cache: Path) -> float:
    """Run a command of fastmf's with its kernels cached in a folder; return its wall seconds."""
    began = time.perf_counter()
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    process = [sys.executable, "-m", "fastmf", *command]
    done = subprocess.run(process, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"fastmf {' '.join(command)} exited with {done.returncode}: {done.stderr}")
    return time.perf_counter() - began


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n", 1))
@click.argument("ratings", type=click.Path(exists=True))
@click.option("--runs", type=click.IntRange(1), default=5, show_default=True, help="Runs of each command, once cached.")
@click.option("-o", "--output", metavar="FILE", help="Write the figures here as JSON.")
@overwrite_option
def main(ratings: str, runs: int, output: str | None, overwrite: bool) -> None:
    """Time the first run of each command, one command after another from an empty cache, and its runs after that."""
    if output:
        check_output(output, overwrite)
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
    show_table(("command", "first s", "later s (median)"), rows)
    if output:
        about = {"machine": describe(), "versions": versions(), "ratings": Path(ratings).name}
        write_json({**about, "results": found}, output, overwrite)


if __name__ == "__main__":
    main()
