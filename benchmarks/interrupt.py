"""Measure how soon a fit ends after a Ctrl-C, at moments spread over reading and training.

    fastmf synth ml-20m.parquet --like ml-20m
    fastmf warmup
    python benchmarks/interrupt.py ml-20m.parquet

Linux and macOS. tests/runtime/test_launch.py tests what bounds it: how much a thread takes at a time.
"""

import signal
import statistics
import subprocess
import sys
import time

import click

from fastmf.cli.console import show_table


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n", 1))
@click.argument("ratings", type=click.Path(exists=True))
@click.option("--times", type=click.IntRange(1), default=10, show_default=True, help="Interruptions of each solver.")
@click.option("--first", default=1.0, show_default=True, help="Seconds until the first interruption.")
@click.option("--last", default=8.0, show_default=True, help="Seconds until the last one.")
def main(ratings: str, times: int, first: float, last: float) -> None:
    """Interrupt fits, and show the seconds until their processes end with exit code 130."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else a child in the background would ignore it
    rows = []
    for solver in ("als", "sgd"):
        seconds = [interrupted(ratings, solver, first + (last - first) * n / max(times - 1, 1)) for n in range(times)]
        rows.append((solver, times, statistics.median(seconds), max(seconds)))
    show_table(("solver", "times", "median s", "max s"), rows)


def interrupted(ratings: str, solver: str, after: float) -> float:
    """Start a fit, interrupt it, and return the seconds until it ended."""
    command = [sys.executable, "-m", "fastmf", "fit", ratings, "--solver", solver, "--epochs", "1000"]
    command += ["-o", f"{ratings}.interrupted.fastmf"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(after)
    began = time.perf_counter()
    process.send_signal(signal.SIGINT)
    code = process.wait()
    if code != 130:
        raise click.ClickException(f"{solver}, interrupted after {after:.1f} s: exit code {code}, not 130")
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
