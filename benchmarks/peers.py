"""Measure other libraries beside fastmf: same machine, same split, same k and threads, in turn.

    python benchmarks/peers.py                                       # all peers, on ml-latest-small or its twin
    python benchmarks/peers.py --dataset ml-20m --peer libmf --peer lenskit -o results.json
    python benchmarks/peers.py --dataset ratings.parquet --k 64 --threads 1 --epochs surprise=5
    python benchmarks/peers.py --peer none                           # fastmf alone

Run it with a Python that has fastmf. Each peer has its own virtual environment under --venvs, which is made
on the first run. peer_models.py holds the calls to each library; README.md explains the figures.
"""

import itertools
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from accuracy import find
from common import README, Table, few_ratings, number, reporting
from peer_models import FASTMF, PEERS, Peer

from fastmf import Ratings
from fastmf.bench.machine import BLAS_VARIABLES, describe
from fastmf.cli.console import remark
from fastmf.data.write import write_parquet
from fastmf.datasets.movielens import cache_directory
from fastmf.solvers import SOLVERS

ALL: dict[str, Peer] = PEERS | FASTMF
HELD_OUT, SEED = 0.1, 0
FEW_RATINGS = 1_000_000  # more training ratings than this: peers get their settings for large data
MODELS = Path(__file__).with_name("peer_models.py")
THREADS = ("NUMBA_NUM_THREADS", "RAYON_NUM_THREADS", "LK_NUM_THREADS", "LK_NUM_BACKEND_THREADS", "OMP_NUM_THREADS")
LINES = 3  # of a failed process's output to report as the reason

IDLE = 0.5  # highest load average of an idle machine
BUSY = "the machine was BUSY before this began (load average {:.2g}): do not quote the figures"

# The figures of a run, and whether higher is better: a ratio says how many times better fastmf's figure is.
FIGURES = {
    "epoch_seconds": False,
    "training_seconds": False,
    "load_seconds": False,
    "peak_memory_bytes": False,
    "users_per_second": True,
}
HEADER = ("", "version", "epochs", "s/epoch", "training s", "RMSE", "load s", "peak MiB", "top-10 users/s")


class Failure(click.ClickException):
    """A library that cannot be installed, or whose run failed."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason


@click.command(epilog=README)
@click.option("--dataset", default="ml-latest-small", show_default=True, metavar="NAME|FILE",
              help="MovieLens set (its twin if the set is not found) or ratings file.")  # fmt: skip
@click.option("--data-dir", metavar="DIR", help="Folder of NAME.parquet; FASTMF_DATA_DIR is searched, too.")
@click.option("--peer", "names", multiple=True, type=click.Choice([*PEERS, "none"]),
              help="Library to measure; may be repeated. none: fastmf alone.  [default: all]")  # fmt: skip
@click.option("--k", type=click.IntRange(1), default=32, show_default=True, help="Number of factors.")
@click.option("--threads", type=click.IntRange(1), help="Threads of every library.  [default: all cores]")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Runs of each peer.")
@click.option("--epochs", multiple=True, metavar="NAME=N",
              help="Epochs of a peer, fastmf-als or fastmf-sgd.  [default: see the table]")  # fmt: skip
@click.option("--venvs", type=click.Path(path_type=Path), default=cache_directory() / "peers", metavar="DIR",
              help="Folder of the peers' virtual environments.  [default: the user's cache]")  # fmt: skip
@click.option("--timeout", default=3600, show_default=True, help="Give up a run after this many seconds.")
@reporting("peers.py", "dataset")
def main(names: tuple[str, ...], dataset: str, **options: Any) -> Table:
    """Measure other libraries beside fastmf: same machine, same split, same k and threads, in turn."""
    chosen = [name for name in dict.fromkeys(names or PEERS) if name != "none"]
    report = compare(chosen, dataset, **options)
    return report, HEADER, [row for line in report["summary"] for row in rows_of(line)]


def compare(
    names: Sequence[str], dataset: str, *, data_dir: str | None, k: int, threads: int | None, rounds: int,
    epochs: Iterable[str], venvs: Path, timeout: int,
) -> dict[str, Any]:  # fmt: skip
    """Run every peer and fastmf, in turn; return the report that benchmarks/README.md describes."""
    wanted, threads = asked_epochs(epochs), threads or describe()["cores"]
    pairs, busy = pairs_of(names), os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with tempfile.TemporaryDirectory(prefix="fastmf-peers-") as scratch:
        facts = prepare(dataset, data_dir, Path(scratch))
        everyone = dict.fromkeys(name for pair in pairs for name in pair)
        settings = {name: settings_of(name, facts["training_ratings"], wanted) for name in everyone}
        interpreters, failures = install(names, venvs)
        runs: list[dict[str, Any]] = []
        for turn, pair in itertools.product(range(1, rounds + 1), pairs):
            if pair[0] in failures:
                continue
            asked = {"folder": scratch, "k": k, "threads": threads, "recommend": ALL[pair[0]].recommends}
            try:
                both = [run(name, {**asked, "settings": settings[name]}, interpreters[name], timeout) for name in pair]
                runs += [{"round": turn, "beside": pair[0], **result} for result in both]
            except Failure as failure:
                if failure.name in FASTMF:
                    raise
                failures[failure.name] = f"round {turn}: {failure.reason}"
                remark(f"{failure.name} is left out from here on, {failures[failure.name]}")
    return {
        "machine": {**describe(), "load_average_before": busy},
        "data": facts,
        "settings": {"k": k, "threads": threads, "rounds": rounds, "held_out": HELD_OUT, "seed": SEED},
        "peers": {name: described(name, settings[name], threads, failures.get(name)) for name in everyone},
        "summary": [summarised(pair[0], runs) for pair in pairs if any(run["name"] == pair[0] for run in runs)],
        "runs": runs,
        "notes": [*notes(facts, settings, failures), *([BUSY.format(busy)] if busy and busy > IDLE else [])],
    }


def asked_epochs(given: Iterable[str]) -> dict[str, int]:
    """Parse NAME=N; N is at least 2, because an epoch's seconds may be the difference of N epochs and one."""
    wanted = {}
    for text in given:
        name, _, number = text.partition("=")
        if name not in ALL or not number.isdecimal() or int(number) < 2:
            raise click.BadParameter(f"{text!r} is not NAME=N with N at least 2 and NAME one of {', '.join(ALL)}")
        wanted[name] = int(number)
    return wanted


def settings_of(name: str, n_ratings: int, epochs: Mapping[str, int]) -> dict[str, Any]:
    """Return a library's settings for a number of training ratings, with the epochs from the command line."""
    peer = ALL[name]
    usual = SOLVERS[peer.against]().settings if name in FASTMF else peer.settings
    asked = {peer.epochs_setting: epochs[name]} if name in epochs else {}
    chosen = {**usual, **(peer.large if n_ratings > FEW_RATINGS else {}), **asked}
    return {key: value for key, value in chosen.items() if key != "k"}


def prepare(dataset: str, data_dir: str | None, folder: Path) -> dict[str, Any]:
    """Write the split to folder/data and a small one to folder/warm-up; return facts about the data."""
    write_split(Ratings.from_arrays(*few_ratings()), folder / "warm-up")
    path, facts = find(dataset, folder, data_dir)
    return {**facts, **write_split(Ratings.read(path), folder / "data")}


def write_split(ratings: Ratings, folder: Path) -> dict[str, int]:
    """Hold out a random tenth, number the training users and items densely, and write the files of peer_models.

    Held-out pairs whose user or item has no training ratings are dropped: libraries disagree on how to predict them.
    """
    train, test = ratings.split(HELD_OUT, seed=SEED)
    known = (train.user_counts[test.users] > 0) & (train.item_counts[test.items] > 0)
    users, items = (np.cumsum(counts > 0, dtype=np.int32) - 1 for counts in (train.user_counts, train.item_counts))
    folder.mkdir()
    for name, part in (("test", test.take(known)), ("train", train)):
        columns = {"users": users[part.users], "items": items[part.items], "ratings": part.values}
        np.savez(folder / f"{name}.npz", **columns)
    write_parquet(dict(zip(("user", "item", "rating"), columns.values(), strict=True)), folder / "train.parquet")
    return {
        "users": ratings.n_users,
        "items": ratings.n_items,
        "ratings": len(ratings),
        "training_ratings": len(train),
        "test_pairs": int(np.count_nonzero(known)),
        "cold_pairs_left_out": int(np.count_nonzero(~known)),
    }


def install(names: Iterable[str], venvs: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Make missing virtual environments; return the interpreters and the reasons of failures, by name."""
    interpreters, failures = dict.fromkeys(FASTMF, sys.executable), {}
    for name in names:
        try:
            interpreters[name] = str(environment(name, venvs))
        except Failure as failure:
            failures[name] = f"not installed: {failure.reason}"
            remark(f"{name} is left out, {failures[name]}")
    return interpreters, failures


def environment(name: str, venvs: Path) -> Path:
    """Make a peer's virtual environment, if it is missing, and return its interpreter. Peers may share one."""
    peer = PEERS[name]
    folder = venvs / peer.package
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    arguments = [*peer.pip, *peer.requires]
    wanted, complete = installation(peer), folder / "installed.json"
    if complete.exists() and json.loads(complete.read_text(encoding="utf-8")) == wanted:
        return python
    remark(f"{name}: pip install {shlex.join(arguments)}")
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | peer.build
    pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments]
    for command in ([sys.executable, "-m", "venv", "--clear", folder], pip):
        done = subprocess.run(command, env=variables, stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode:
            raise Failure(name, last_lines(done.stdout + done.stderr))
    complete.write_text(json.dumps(wanted), encoding="utf-8")
    return python


def installation(peer: Peer) -> dict[str, Any]:
    """Return what a virtual environment is made from; one made from anything else is made again."""
    return {"pip": [*peer.pip, *peer.requires], "build": peer.build}


def pairs_of(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Pair each peer with the solver of fastmf it is compared with; without peers, return fastmf's solvers alone."""
    return [(name, f"fastmf-{PEERS[name].against}") for name in names] or [(name,) for name in FASTMF]


def run(name: str, asked: dict[str, Any], interpreter: str, timeout: int) -> dict[str, Any]:
    """Measure a library once, in a new process of its interpreter."""
    folder = Path(asked["folder"])
    request, answer, said = (folder / file for file in ("request.json", "answer.json", "said.txt"))
    request.write_text(json.dumps({"peer": name, **asked}), encoding="utf-8")
    answer.unlink(missing_ok=True)
    inherited = {key: value for key, value in os.environ.items() if name in FASTMF or key != "PYTHONPATH"}
    with said.open("wb") as stream:
        try:
            status = subprocess.run(
                [interpreter, MODELS, request, answer], env=inherited | variables(name, asked["threads"]),
                stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, timeout=timeout,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Failure(name, f"given up after {timeout:,} s") from None
    if status or not answer.exists():
        how = f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
        raise Failure(name, f"{how}: {last_lines(said.read_bytes())}")
    result: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    remark(f"{name}: {result['epochs']} epochs in {result['training_seconds']:.3g} s")
    return {"name": name, **result}


def variables(name: str, threads: int) -> dict[str, str]:
    """Return environment variables that pin the threads of everything a library may use."""
    blas = ALL[name].blas_threads or threads
    return {**dict.fromkeys(BLAS_VARIABLES, str(blas)), **dict.fromkeys(THREADS, str(threads))}


def last_lines(output: bytes) -> str:
    """Return the end of a process's output as one line."""
    lines = [line.strip() for line in output.decode("utf-8", errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-LINES:])


def described(name: str, settings: Mapping[str, Any], threads: int, failure: str | None) -> dict[str, Any]:
    """Describe a library: how it is installed, the method and settings it runs, and why it failed."""
    peer = ALL[name]
    return {
        "package": peer.package,
        "pip": None if name in FASTMF else shlex.join(["pip", "install", *peer.pip, *peer.requires]),
        "build": peer.build,
        "method": peer.method,
        "settings": settings,
        "environment": variables(name, threads),
        "failed": failure,
    }


def summarised(name: str, runs: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return medians over the rounds: of a peer, of fastmf beside it, and of their ratios in each round."""
    runs = [run for run in runs if run["beside"] == name]
    own = [run for run in runs if run["name"] == name]
    line = {"name": name, **medians(own)}
    if name in FASTMF:
        return line
    fastmf = [run for run in runs if run["name"] != name]
    ratios: dict[str, float | None] = {}
    for figure, more_is_better in FIGURES.items():
        pairs = [(peer[figure], ours[figure]) for peer, ours in zip(own, fastmf, strict=True)]
        ratios[figure] = median(ratio(*(pair[::-1] if more_is_better else pair)) for pair in pairs)
    return {**line, "fastmf": {"name": fastmf[0]["name"], **medians(fastmf)}, "ratios": ratios}


def medians(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the version and epochs of runs of one library, and the median of each figure."""
    figures = {figure: median(run[figure] for run in runs) for figure in (*FIGURES, "rmse")}
    return {"version": runs[0]["version"], "epochs": runs[0]["epochs"], **figures}


def median(values: Iterable[float | None]) -> float | None:
    """Return the median, or None if a figure was not measured."""
    values = list(values)
    return None if None in values else statistics.median(values)


def ratio(above: float | None, below: float | None) -> float | None:
    """Return the quotient, or None if a figure was not measured."""
    return above / below if above is not None and below else None


def rows_of(line: dict[str, Any]) -> Iterator[list[str]]:
    """Yield rows of the table: the peer, fastmf beside it, and how many times better fastmf is."""
    for who in filter(None, (line, line.get("fastmf"))):
        rmse, memory = who["rmse"], who["peak_memory_bytes"]
        seconds = number(who["epoch_seconds"]), number(who["training_seconds"])
        error = "-" if rmse is None else f"{rmse:.4f}"
        rest = number(who["load_seconds"]), number(memory and memory / 2**20), number(who["users_per_second"])
        yield [who["name"], who["version"], str(who["epochs"]), *seconds, error, *rest]
    if "fastmf" in line:
        epoch, training, *rest = ("-" if value is None else f"{number(value)}x" for value in line["ratios"].values())
        yield ["fastmf better by", "", "", epoch, training, "", *rest]


def notes(facts: dict[str, Any], settings: Mapping[str, Mapping[str, Any]], failures: Mapping[str, str]) -> list[str]:
    """Describe what the figures do not show: the data, the settings of each library, and the failures."""
    lines = [
        f"{facts['dataset']}, {facts['data']}: {facts['users']:,} users, {facts['items']:,} items, {facts['ratings']:,}"
        f" ratings; {facts['training_ratings']:,} trained on, {facts['test_pairs']:,} predicted,"
        f" {facts['cold_pairs_left_out']:,} held-out pairs of unknown users or items left out. {facts['note']}".rstrip()
    ]
    for name, chosen in settings.items():
        described = ", ".join(f"{key} {value}" for key, value in chosen.items())
        lines.append(f"{name}: {ALL[name].method}; {described}")
    return lines + [f"{name} FAILED, {reason}" for name, reason in failures.items()]


if __name__ == "__main__":
    main()
