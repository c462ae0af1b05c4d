"""Measure other libraries beside fastmf: same machine, same split, same k and threads, in turn.

    python benchmarks/peers.py                                       # all peers, on ml-latest-small or its twin
    python benchmarks/peers.py --dataset ml-20m --peer libmf --peer lenskit -o results.json
    python benchmarks/peers.py --dataset ratings.parquet --k 64 --threads 1 --epochs surprise=5
    python benchmarks/peers.py --peer none                           # fastmf alone

It runs where fastmf is installed. Every peer gets a virtual environment of its own under --venvs, made with pip when it
is not there yet. How each library is asked to fit and predict is in peer_models.py, what the figures mean in README.md.
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
from peer_models import FASTMF, PEERS, Peer

from fastmf import Ratings
from fastmf.bench import run as bench
from fastmf.bench.machine import command_line, describe, versions
from fastmf.cli.console import remark, show_table
from fastmf.cli.options import overwrite_option
from fastmf.data.atomic import check_output, write_json
from fastmf.data.write import write_parquet
from fastmf.datasets import movielens as datasets
from fastmf.errors import FastMFError
from fastmf.solvers import SOLVERS

ALL: dict[str, Peer] = PEERS | FASTMF
HELD_OUT, SEED = 0.1, 0
FEW_RATINGS = 1_000_000  # training on more, peers have their settings for large data
MODELS = Path(__file__).with_name("peer_models.py")
THREADS = ("NUMBA_NUM_THREADS", "RAYON_NUM_THREADS", "LK_NUM_THREADS", "LK_NUM_BACKEND_THREADS", "OMP_NUM_THREADS")
WARM_UP = datasets.Shape(users=30, items=60, ratings=600, cap=40)  # on it every library first does everything once
LINES = 3  # of what a process said last, in the reason why it failed

IDLE = 0.5  # the load average of a machine that can be measured on
BUSY = "the machine was BUSY before this began (load average {:.2g}): the figures are not to be quoted"

# What a run is measured by, and whether more of it is better: a ratio says how many times better fastmf's figure is.
FIGURES = {
    "epoch_seconds": False,
    "training_seconds": False,
    "load_seconds": False,
    "peak_memory_bytes": False,
    "users_per_second": True,
}
HEADER = ("", "version", "epochs", "s/epoch", "training s", "RMSE", "load s", "peak MiB", "top-10 users/s")


class Failure(click.ClickException):
    """A library that cannot be installed, or did not run to its end."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason


@click.command(epilog="What the figures mean and how to read them: benchmarks/README.md")
@click.option("--dataset", default="ml-latest-small", show_default=True, metavar="NAME|FILE",
              help="MovieLens set, its twin where it is not at hand, or a ratings file.")  # fmt: skip
@click.option("--data-dir", metavar="DIR", help="Where NAME.parquet is; FASTMF_DATA_DIR is looked in too.")
@click.option("--peer", "names", multiple=True, type=click.Choice([*PEERS, "none"]),
              help="Measure this one, once or more; none: fastmf alone.  [default: all]")  # fmt: skip
@click.option("--k", type=click.IntRange(1), default=32, show_default=True, help="Number of factors.")
@click.option("--threads", type=click.IntRange(1), help="Threads of every library.  [default: all cores]")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Runs of each peer.")
@click.option("--epochs", multiple=True, metavar="NAME=N",
              help="Epochs of a peer, of fastmf-als or fastmf-sgd.  [default: the table tells]")  # fmt: skip
@click.option("--venvs", type=click.Path(path_type=Path), default=datasets.cache_directory() / "peers", metavar="DIR",
              help="Where the peers' virtual environments are, or will be.  [default: the user's cache]")  # fmt: skip
@click.option("--timeout", default=3600, show_default=True, help="Seconds after which a run is given up.")
@click.option("-o", "--output", metavar="FILE", help="Write everything as JSON to FILE, too.")
@overwrite_option
def main(names: tuple[str, ...], dataset: str, output: str | None, overwrite: bool, **options: Any) -> None:
    """Measure other libraries beside fastmf: same machine, same split, same k and threads, in turn."""
    chosen = [name for name in dict.fromkeys(names or PEERS) if name != "none"]
    try:
        if output:
            check_output(output, overwrite, inputs=[dataset])
        report = compare(chosen, dataset, **options)
        if output:
            write_json(report, output, overwrite)
    except (FastMFError, OSError) as error:
        raise click.ClickException(str(error)) from error
    show_table(HEADER, [row for line in report["summary"] for row in rows_of(line)])
    click.echo("\n" + "\n".join(report["notes"]))


def compare(
    names: Sequence[str], dataset: str, *, data_dir: str | None, k: int, threads: int | None, rounds: int,
    epochs: Iterable[str], venvs: Path, timeout: int,
) -> dict[str, Any]:  # fmt: skip
    """Run every peer and fastmf in turn. Returns a report of plain data; README.md says what its fields mean."""
    wanted, threads = asked_epochs(epochs), threads or describe()["cores"]
    pairs, busy = pairs_of(names), os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with tempfile.TemporaryDirectory(prefix="fastmf-peers-") as scratch:
        facts = prepare(dataset, data_dir, Path(scratch))
        everyone = dict.fromkeys(name for pair in pairs for name in pair)
        settings = {name: settings_of(name, facts["training_ratings"], wanted) for name in everyone}
        interpreters, failures = install(names, venvs)
        runs: list[dict[str, Any]] = []
        for number, pair in itertools.product(range(1, rounds + 1), pairs):
            if pair[0] in failures:
                continue
            asked = {"folder": scratch, "k": k, "threads": threads, "recommend": ALL[pair[0]].recommends}
            try:
                both = [run(name, {**asked, "settings": settings[name]}, interpreters[name], timeout) for name in pair]
                runs += [{"round": number, "beside": pair[0], **result} for result in both]
            except Failure as failure:
                if failure.name in FASTMF:
                    raise
                failures[failure.name] = f"round {number}: {failure.reason}"
                remark(f"{failure.name} is left out from here, {failures[failure.name]}")
    return {
        "command": command_line("benchmarks/peers.py"),
        "machine": {**describe(), "load_average_before": busy},
        "versions": versions(),
        "data": facts,
        "settings": {"k": k, "threads": threads, "rounds": rounds, "held_out": HELD_OUT, "seed": SEED},
        "peers": {name: described(name, settings[name], threads, failures.get(name)) for name in everyone},
        "summary": [summarised(pair[0], runs) for pair in pairs if any(run["name"] == pair[0] for run in runs)],
        "runs": runs,
        "notes": [*notes(facts, settings, failures), *([BUSY.format(busy)] if busy and busy > IDLE else [])],
    }


def asked_epochs(given: Iterable[str]) -> dict[str, int]:
    """Read NAME=N. An epoch's seconds may come from the difference of N epochs and one: so at least two."""
    wanted = {}
    for text in given:
        name, _, number = text.partition("=")
        if name not in ALL or not number.isdecimal() or int(number) < 2:
            raise click.BadParameter(f"{text!r} is not NAME=N with N of 2 or more and a name of {', '.join(ALL)}")
        wanted[name] = int(number)
    return wanted


def settings_of(name: str, n_ratings: int, epochs: Mapping[str, int]) -> dict[str, Any]:
    """Give a library's settings for so many training ratings, with the epochs that were asked for."""
    peer = ALL[name]
    usual = SOLVERS[peer.against]().settings if name in FASTMF else peer.settings
    asked = {peer.epochs_setting: epochs[name]} if name in epochs else {}
    chosen = {**usual, **(peer.large if n_ratings > FEW_RATINGS else {}), **asked}
    return {key: value for key, value in chosen.items() if key != "k"}


def prepare(dataset: str, data_dir: str | None, folder: Path) -> dict[str, Any]:
    """Write the split into folder/data and a small one into folder/warm-up. Returns what there is to say about it."""
    small = datasets.draw(WARM_UP, np.uint64(SEED), name="warm-up")
    write_split(Ratings.from_arrays(small.users, small.items, small.ratings), folder / "warm-up")
    label, note = "file", ""
    path = Path(dataset)
    if dataset in datasets.MOVIELENS:
        try:
            found = datasets.find(dataset, data_dir)
            label = "real"
        except FileNotFoundError:
            if dataset not in datasets.TWINS:
                raise
            remark(f"{dataset} is not at hand: drawing its synthetic twin")
            found = datasets.write_twin(folder / "twin.parquet", dataset, seed=SEED)
            label = f"twin (seed {SEED})"
        path, note = found.path, found.note
    return {"dataset": dataset, "data": label, "note": note, **write_split(Ratings.read(path), folder / "data")}


def write_split(ratings: Ratings, folder: Path) -> dict[str, int]:
    """Hold out a random tenth, number the users and items that are left densely, and write the files of peer_models.

    Held-out pairs without training ratings of their user or item are dropped: each library has its own idea of them.
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
    """Make the virtual environments that are missing. Returns interpreters by name, and why others have none."""
    interpreters, failures = dict.fromkeys(FASTMF, sys.executable), {}
    for name in names:
        try:
            interpreters[name] = str(environment(name, venvs))
        except Failure as failure:
            failures[name] = f"not installed: {failure.reason}"
            remark(f"{name} is left out, {failures[name]}")
    return interpreters, failures


def environment(name: str, venvs: Path) -> Path:
    """Make a peer's virtual environment, unless it is there. Returns its interpreter; several peers may share one."""
    peer = PEERS[name]
    folder = venvs / peer.package
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    arguments = [*peer.pip, *peer.requires]
    complete = folder / "installed.json"
    if complete.exists() and json.loads(complete.read_text(encoding="utf-8")) == arguments:
        return python
    remark(f"{name}: pip install {shlex.join(arguments)}")
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | peer.build
    pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments]
    for command in ([sys.executable, "-m", "venv", "--clear", folder], pip):
        done = subprocess.run(command, env=variables, stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode:
            raise Failure(name, last_lines(done.stdout + done.stderr))
    complete.write_text(json.dumps(arguments), encoding="utf-8")
    return python


def pairs_of(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Put behind each peer the solver of fastmf that it stands beside; without peers, let fastmf's solvers be alone."""
    return [(name, f"fastmf-{PEERS[name].against}") for name in names] or [(name,) for name in FASTMF]


def run(name: str, asked: dict[str, Any], interpreter: str, timeout: int) -> dict[str, Any]:
    """Measure a library once, in a fresh process of its own interpreter."""
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
    """Pin the threads of everything a library may use, by environment variables."""
    blas = ALL[name].blas_threads or threads
    return {**dict.fromkeys(bench.BLAS_VARIABLES, str(blas)), **dict.fromkeys(THREADS, str(threads))}


def last_lines(output: bytes) -> str:
    """Put the end of what a process said on one line."""
    lines = [line.strip() for line in output.decode("utf-8", errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-LINES:])


def described(name: str, settings: Mapping[str, Any], threads: int, failure: str | None) -> dict[str, Any]:
    """Say what a name stands for: how it is installed, what is run with which settings, and why it has no figures."""
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
    """Take medians over the rounds: of a peer, of fastmf beside it, and of the ratios of the two in each round."""
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
    """Give the version and epochs of the same runs, and the median of each figure."""
    figures = {figure: median(run[figure] for run in runs) for figure in (*FIGURES, "rmse")}
    return {"version": runs[0]["version"], "epochs": runs[0]["epochs"], **figures}


def median(values: Iterable[float | None]) -> float | None:
    """Take the median of figures, None if one was not measured."""
    values = list(values)
    return None if None in values else statistics.median(values)


def ratio(above: float | None, below: float | None) -> float | None:
    """Divide, if both were measured."""
    return above / below if above is not None and below else None


def rows_of(line: dict[str, Any]) -> Iterator[list[str]]:
    """Write a summary as rows of the table: the peer, fastmf beside it, and how many times better fastmf is."""
    for who in filter(None, (line, line.get("fastmf"))):
        rmse, memory = who["rmse"], who["peak_memory_bytes"]
        seconds = number(who["epoch_seconds"]), number(who["training_seconds"])
        error = "-" if rmse is None else f"{rmse:.4f}"
        rest = number(who["load_seconds"]), number(memory and memory / 2**20), number(who["users_per_second"])
        yield [who["name"], who["version"], str(who["epochs"]), *seconds, error, *rest]
    if "fastmf" in line:
        epoch, training, *rest = ("-" if value is None else f"{number(value)}x" for value in line["ratios"].values())
        yield ["fastmf better by", "", "", epoch, training, "", *rest]


def number(value: float | None) -> str:
    """Write a figure to three digits."""
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def notes(facts: dict[str, Any], settings: Mapping[str, Mapping[str, Any]], failures: Mapping[str, str]) -> list[str]:
    """Say what the figures do not: the data, what each name runs with which settings, and what could not be run."""
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
