"""Measure fits on a Dask cluster of this machine: the same bits, seconds an epoch, bytes sent, and dying workers.

    fastmf synth ml-20m.parquet --like ml-20m
    python benchmarks/cluster.py ml-20m.parquet --k 64
    python benchmarks/cluster.py ml-latest-small.parquet --k 16 --kills 20

A scheduler and workers of one thread each are started as `dask scheduler` and `dask worker` start them, and talk over
TCP. Fits in memory, with as many threads as there are workers, and fits on the cluster run in turn, each in a process
of its own. With --kills, fits on the cluster lose a worker (SIGKILL) at a random moment instead, and a new one joins.
An epoch lasts from one callback to the next, so it includes sending and measuring. benchmarks/README.md explains the
figures.
"""

import contextlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import distributed
import numpy as np
from common import Table, few_ratings, reporting
from spill import MIB, status, watched

import fastmf
from fastmf.cli.console import remark
from fastmf.cluster.fit import Fit
from fastmf.cluster.workers import connected
from fastmf.data.storage import Storage
from fastmf.solvers import make
from fastmf.training.plan import make_plan

START = 60.0  # seconds that workers get to join


class Processes:
    """A scheduler and its workers, each a process."""

    def __init__(self, folder: str) -> None:
        self.folder, self.file, self.workers = folder, Path(folder, "scheduler.json"), []
        self.scheduler = self._start("scheduler", "--port", "0", "--no-dashboard")

    def _start(self, kind: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", kind, "--scheduler-file", str(self.file), *options]
        environment = os.environ | {"NUMBA_NUM_THREADS": "1"}
        silent = subprocess.DEVNULL
        return subprocess.Popen(command, stdout=silent, stderr=silent, env=environment, cwd=self.folder)

    def add(self) -> None:
        """Start a worker."""
        options = "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0"
        self.workers.append(self._start("worker", *options))

    def kill_one(self) -> None:
        """Kill the worker that has been there longest."""
        first = self.workers.pop(0)
        first.kill()
        first.wait()

    def address(self) -> str:
        """Wait for all workers, and return the address of the scheduler."""
        until = time.monotonic() + START
        while not (self.file.exists() and self.file.read_text(encoding="utf-8")):
            if time.monotonic() > until:
                raise click.ClickException(f"the scheduler has not started in {START:.0f} s")
            time.sleep(0.1)
        with distributed.Client(scheduler_file=str(self.file), set_as_default=False) as client:
            client.wait_for_workers(len(self.workers), timeout=START)
            return str(client.scheduler.address)


@contextlib.contextmanager
def started(n: int) -> Iterator[Processes]:
    """Yield a scheduler with n workers, and end them all."""
    with tempfile.TemporaryDirectory() as folder:
        found = Processes(folder)
        try:
            for _ in range(n):
                found.add()
            yield found
        finally:
            for process in (*found.workers, found.scheduler):
                process.kill()
                process.wait()


def measure(path: str, address: str | None, how: dict[str, Any]) -> dict[str, Any]:
    """Fit on a cluster, or in memory without an address; return seconds, bytes, memory and the hash."""
    fastmf.fit(few_ratings(), choice=False, **{**how, "epochs": 1})
    ends: list[float] = []
    sent: list[int] = []
    planned = 0.0
    with contextlib.ExitStack() as stack:
        if address is None:
            began, base = time.perf_counter(), status("status", "RssAnon") * 1024
            memory = stack.enter_context(watched())
            model = fastmf.fit(path, choice=False, callback=lambda _: ends.append(time.perf_counter()), **how)
        else:
            client = stack.enter_context(distributed.Client(address, set_as_default=False))
            base, began = status("status", "RssAnon") * 1024, time.perf_counter()
            memory = stack.enter_context(watched())

            def note(_: Any) -> None:
                ends.append(time.perf_counter())
                sent.append(
                    sum(client.run(lambda dask_worker: int(dask_worker.transfer_outgoing_bytes_total)).values())
                )

            model, planned = fit_and_plan(path, client, how, note)
        seconds = time.perf_counter() - began
    size = model_bytes(model)
    return {
        "seconds": seconds,
        "epoch": float(np.median(np.diff(ends)[1:])),
        "solving": float(np.median([epoch.seconds for epoch in model.history[2:]])),
        "sent MiB": float(np.median(np.diff(sent)[1:])) / MIB if sent else 0.0,
        "planned MiB": planned / MIB,
        "client / model": (memory["anonymous"] - base) / size,
        "hash": model.content_hash,
    }


def fit_and_plan(path: str, client: Any, how: dict[str, Any], note: Callable[[Any], None]) -> tuple[Any, float]:
    """Fit on the workers of a client; return the model, and the bytes that the plan expects of an epoch."""
    settings = dict(how)
    solver = make(settings.pop("solver"), **settings)
    with connected(client) as workers, tempfile.TemporaryDirectory() as folder:
        fit = Fit(make_plan(path, solver, choice=False), workers, Storage(folder))
        return fit.model(note), float(fit.remote.bytes_an_epoch())


def model_bytes(model: Any) -> int:
    """Return the bytes of the arrays of a model."""
    sides = (getattr(model, f"{side}_{part}").nbytes for side in ("user", "item") for part in ("factors", "bias"))
    return sum(sides) + sum(array.nbytes for array in model.seen)


def kills(path: str, n_workers: int, n: int, how: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """Fit n times on a cluster that loses a worker at a random moment; return how many models are the same."""
    rng, expected = random.Random(seed), fastmf.fit(path, **how).content_hash
    same, moments = 0, []
    with started(n_workers) as cluster:
        address = cluster.address()
        for _ in range(2):  # the second has its kernels compiled, and shows how long a fit takes
            began = time.perf_counter()
            fastmf.fit(path, cluster=address, **how)
            length = time.perf_counter() - began
        for number in range(n):
            address, moment = cluster.address(), rng.uniform(0, length)
            killer = threading.Timer(moment, cluster.kill_one)
            began = time.perf_counter()
            killer.start()
            found = fastmf.fit(path, cluster=address, **how).content_hash
            seconds = time.perf_counter() - began
            killer.join()
            same += found == expected
            moments.append({"killed after": moment, "seconds": seconds, "same": found == expected})
            remark(f"{number + 1}: killed after {moment:.2f} s of {seconds:.2f} s, same: {found == expected}")
            length = min(length, seconds)
            cluster.add()
    return {"fits": n, "same": same, "moments": moments}


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n", 1))
@click.argument("ratings", type=click.Path(exists=True))
@click.option("--k", default=64, show_default=True)
@click.option("--solver", default="als", show_default=True)
@click.option("--method", type=click.Choice(["exact", "cg"]), help="How rows are solved.  [default: the solver's]")
@click.option("--epochs", type=click.IntRange(4), default=6, show_default=True)
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Workers, of one thread each.")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Pairs of fits.")
@click.option("--kills", "n_kills", type=click.IntRange(0), default=0, help="Fits that lose a worker, instead.")
@reporting("cluster.py", "ratings")
def main(
    ratings: str, k: int, solver: str, method: str | None, epochs: int, workers: int, runs: int, n_kills: int
) -> Table:
    """Fit in memory and on a cluster, in turn; or on a cluster whose workers die."""
    how = {"k": k, "solver": solver, "epochs": epochs} | ({} if method is None else {"method": method})
    about = {"ratings": Path(ratings).name, **how, "workers": workers}
    path = str(Path(ratings).absolute())
    if n_kills:
        found = kills(path, workers, n_kills, how)
        notes = [f"{found['same']} of {n_kills} models are that of the fit in memory, bit for bit."]
        return {**about, **found, "notes": notes}, ["fits", "same"], [(str(n_kills), str(found["same"]))]
    runs_of: dict[str, list[dict[str, Any]]] = {"in memory": [], "on the cluster": []}
    with started(workers) as cluster:
        for _ in range(runs):
            for name, kept in runs_of.items():
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    given = (None, how | {"threads": workers}) if name == "in memory" else (cluster.address(), how)
                    kept.append(pool.submit(measure, path, *given).result())
                    remark(f"{name}: {kept[-1]['epoch']:.3f} s an epoch")
    return summary(about, runs_of)


def summary(about: dict[str, Any], runs_of: dict[str, list[dict[str, Any]]]) -> Table:
    """Return the report of fits in turn."""
    same = len({run.pop("hash") for kept in runs_of.values() for run in kept}) == 1
    ratio = float(np.median([b["epoch"] / a["epoch"] for a, b in zip(*runs_of.values(), strict=True)]))
    are = "the same, bit for bit" if same else "NOT the same"
    notes = [f"The models are {are}. An epoch on the cluster takes {ratio:.2f} times as long."]
    medians = {
        name: {key: float(np.median([run[key] for run in kept])) for key in kept[0]} for name, kept in runs_of.items()
    }
    rows = [(name, *(f"{value:.3g}" for value in of.values())) for name, of in medians.items()]
    report = {**about, "runs": runs_of, "medians": medians, "ratio": ratio, "same": same, "notes": notes}
    return report, ["", *medians["in memory"]], rows


if __name__ == "__main__":
    main()
