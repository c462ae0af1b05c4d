"""Measure lists from implicit feedback: fastmf, the library implicit (Frederickson) and EASE, in turn on one split.

    python benchmarks/ranking.py                                            # ml-latest-small, by time and at random
    python benchmarks/ranking.py --dataset ml-20m --split random --grid none -o topn.json

Pairs rated --positive-from or more are observed; all pairs, if there are no ratings. The settings in GRIDS are tried on
a tenth of the training ratings, held out like the test; the best by nDCG@10 are measured on the test, beside fastmf's
defaults. Items that a user has rated in training, well or badly, are not recommended. implicit runs in the same virtual
environment as in peers.py, under --venvs. benchmarks/README.md explains the figures.
"""

import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from accuracy import Data, find, parted, read
from common import README, Table, reporting
from peers import Failure, environment, last_lines, variables

import fastmf
from fastmf import ImplicitALS, Ratings
from fastmf.cli.console import remark
from fastmf.data import split
from fastmf.data.ratings import reading
from fastmf.data.weights import WeightScale
from fastmf.datasets.movielens import cache_directory
from fastmf.evaluation.hits import Rank, ranked_hits, wanted_of
from fastmf.evaluation.metrics import RANKING, novelty, reach
from fastmf.kernels.types import Compressed
from fastmf.model.recommend import Ranker
from fastmf.model.topn import most_rated, rows_of
from fastmf.runtime.threads import max_threads

N = 10
MODELS = Path(__file__).with_name("ranking_models.py")
PEER = "implicit-cg"
SPLITS = ("temporal", "random")
HELD_OUT, INNER, SEED = 0.2, 0.1, 0
DEFAULTS = "fastmf, defaults"
# Settings in each library's terms: alpha is the weight of an observed pair, relative to one that is not.
GRIDS: dict[str, list[dict[str, float]]] = {
    "fastmf": [
        {"zeros": z, "reg": r} for z, r in itertools.product((7, 15, 30, 60, 120), (0.4, 0.6, 0.8, 1, 1.3, 1.7))
    ],
    "implicit": [{"alpha": a, "reg": r} for a, r in itertools.product((11.0, 4.3, 2.0), (1.0, 10.0, 30.0))],
    "ease": [{"reg": reg} for reg in (20, 50, 100, 200, 400)],
}
USUAL = {"fastmf": {}, DEFAULTS: {}, "implicit": {"alpha": 2.0, "reg": 10.0}, "ease": {"reg": 200}}
MOST_ITEMS = 20_000  # that EASE can invert a matrix of, in a few minutes and GiB
HEADER = ("split", "library", "settings", "nDCG@10", "recall@10", "reach", "novelty", "s/epoch", "users/s")


class Job(NamedTuple):
    """Pairs to train on, items not to recommend, and pairs to find, by dense indices."""

    train: Ratings
    seen: Compressed
    test: Ratings


def jobs(data: Data, how: str, positive_from: float) -> Iterator[Job]:
    """Yield a job to measure, then one to choose settings with, split from the first one's training ratings."""
    ratings, times = data.ratings, data.times
    for share in (HELD_OUT, INNER):
        mask = split.held_out(ratings.users, how, share, SEED, times)
        ratings, test = parted(ratings, mask)
        times = None if times is None else times[~mask]
        yield Job(ratings.observed(positive_from), ratings.by_user, test.observed(positive_from))


def in_order(lists: np.ndarray) -> Rank:
    """Return what ranks users as lists that are there already."""
    scores = np.broadcast_to(-np.arange(lists.shape[1], dtype=np.float32), lists.shape)
    return lambda chosen, n: (lists[chosen, :n], scores[chosen, :n])


def measured(job: Job, rank: Rank, users: np.ndarray) -> dict[str, float]:
    """Measure lists for users with pairs to find; ties count against them."""
    own = np.arange(job.test.n_users), np.arange(job.test.n_items)
    wanted = wanted_of((job.test.users, job.test.items), users, *own)
    lists, hits = ranked_hits(rank, wanted, job.test.n_items, N)
    counts = job.train.item_counts
    found = {name: float(metric(hits, wanted.counts).mean()) for name, metric in RANKING.items()}
    n_users = int(np.count_nonzero(job.train.user_counts))
    return found | {"reach": reach(lists, counts), "novelty": novelty(lists, counts, n_users)}


def by_fastmf(job: Job, users: np.ndarray, k: int, epochs: int, threads: int, settings: dict[str, Any]) -> Any:
    """Fit and recommend with fastmf; return the lists and the seconds."""
    model = fastmf.fit(job.train, solver=ImplicitALS(k=k, epochs=epochs, **settings), threads=threads, keep_seen=False)
    ranker = Ranker(dataclasses.replace(model, seen=(job.seen.indptr, job.seen.indices)))
    began = time.perf_counter()
    lists, _ = ranker.top(users, N)
    seconds = [epoch.seconds for epoch in model.history]
    return lists, {"epoch_seconds": seconds, "recommend_seconds": time.perf_counter() - began}


def by_implicit(job: Job, users: np.ndarray, k: int, epochs: int, threads: int, settings: dict[str, Any], python: Path,
                scratch: Path) -> Any:  # fmt: skip
    """Fit and recommend with implicit, in its own process; return the lists and the seconds."""
    arrays = {
        "indptr": job.train.by_user.indptr,
        "indices": job.train.by_user.indices,
        "weights": weights_of(job.train),
        "seen_indptr": job.seen.indptr,
        "seen_indices": job.seen.indices,
        "users": users,
    }
    np.savez(scratch / "job.npz", **arrays, n_items=job.train.n_items)
    given = {"k": k, "epochs": epochs, "threads": threads, "n": N, **settings}
    words = [python, MODELS, scratch, json.dumps(given)]
    done = subprocess.run(words, env=os.environ | variables(PEER, threads), capture_output=True)
    if done.returncode:
        raise Failure(PEER, last_lines(done.stderr))
    return np.load(scratch / "lists.npy"), json.loads(done.stdout)


def weights_of(train: Ratings) -> np.ndarray:
    """Return the weights of observed pairs as fastmf scales them: ones, if there are none."""
    if train.weights is None:
        return np.ones(len(train), np.float32)
    return WeightScale.of_training("log", train.weights).scaled(train.weights)


def by_ease(job: Job, users: np.ndarray, settings: dict[str, Any]) -> Any:
    """Fit and recommend with EASE (Steck 2019, "Embarrassingly shallow autoencoders for sparse data")."""
    began = time.perf_counter()
    warm, (indptr, columns, *_) = np.flatnonzero(job.train.item_counts), job.train.by_user
    if len(warm) > MOST_ITEMS:
        raise Failure("ease", f"{len(warm):,} items are more than {MOST_ITEMS:,}")
    place = np.zeros(job.train.n_items, np.int64)
    place[warm] = np.arange(len(warm))

    def rows(chosen: np.ndarray) -> np.ndarray:
        found = np.zeros((len(chosen), len(warm)), np.float32)
        for line, user in enumerate(chosen):
            found[line, place[columns[indptr[user] : indptr[user + 1]]]] = 1
        return found

    every = np.array_split(np.arange(job.train.n_users), max(job.train.n_users // 1000, 1))
    gram = sum((batch.T @ batch for batch in map(rows, every)), np.zeros((len(warm), len(warm)), np.float32))
    gram[np.diag_indices_from(gram)] += settings["reg"]
    inverse = np.linalg.inv(gram)
    weights = inverse / -inverse.diagonal()
    np.fill_diagonal(weights, 0)
    middle = time.perf_counter()
    lists = np.full((len(users), N), -1, np.int32)
    for part in np.array_split(np.arange(len(users)), max(len(users) // 1000, 1)):
        scores = np.full((len(part), job.train.n_items), -np.inf, np.float32)
        scores[:, warm] = rows(users[part]) @ weights
        for line, user in enumerate(users[part]):
            scores[line, job.seen.indices[job.seen.indptr[user] : job.seen.indptr[user + 1]]] = -np.inf
        best = np.argpartition(-scores, N, axis=1)[:, :N]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
        best = np.take_along_axis(best, order, 1)
        lists[part] = np.where(np.take_along_axis(scores, best, 1) > -np.inf, best, -1)
    return lists, {"epoch_seconds": [middle - began], "recommend_seconds": time.perf_counter() - middle}


def tried(name: str, part: Job, users: np.ndarray, fit: Callable[..., Any], grid: str) -> list[tuple[Any, float]]:
    """Return settings and the nDCG of their lists on the pairs held out of the training ratings."""
    if grid == "none" or name not in GRIDS:
        return [(USUAL[name], float("nan"))]
    found = []
    for settings in GRIDS[name]:
        found.append((settings, measured(part, in_order(fit(part, users, settings)[0]), users)["ndcg"]))
    return found


def compare(name: str, data: Data, python: Path, scratch: Path, options: dict[str, Any]) -> list[Any]:
    """Measure the libraries on one split, in turn, and lists of the most rated items."""
    whole, part = jobs(data, name, options["positive_from"])
    run = options["k"], options["epochs"], options["threads"]
    fits: dict[str, Callable[..., Any]] = {
        DEFAULTS: lambda job, users, settings: by_fastmf(job, users, *run, settings),
        "fastmf": lambda job, users, settings: by_fastmf(job, users, *run, settings),
        "implicit": lambda job, users, settings: by_implicit(job, users, *run, settings, python, scratch),
        "ease": by_ease,
    }
    if options["grid"] == "none":
        del fits["fastmf"]
    fits = {library: fit for library, fit in fits.items() if library.partition(",")[0] in options["libraries"]}
    users, few = (np.flatnonzero((job.test.user_counts > 0) & (job.train.user_counts > 0)) for job in (whole, part))
    grids = {library: tried(library, part, few, fit, options["grid"]) for library, fit in fits.items()}
    settings = {library: max(grid, key=lambda each: each[1])[0] for library, grid in grids.items()}

    def popular(chosen: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        return most_rated(whole.train.item_counts, n, rows_of(users[chosen], [whole.seen]))

    found = [{"split": name, "library": "popularity", "settings": {}, **measured(whole, popular, users)}]
    runs: dict[str, list[Any]] = {library: [] for library in fits}
    for _ in range(options["rounds"]):
        for library, fit in fits.items():
            runs[library].append(fit(whole, users, settings[library]))
            remark(f"{name}  {library}: {min(runs[library][-1][1]['epoch_seconds']):.3f} s an epoch")
    for library, results in runs.items():
        seconds = [times["epoch_seconds"] for _, times in results]
        found.append(
            {
                "split": name,
                "library": library,
                "settings": settings[library],
                "tried": [[each, score] for each, score in grids[library] if score == score],
                **measured(whole, in_order(results[-1][0]), users),
                "epoch_seconds": statistics.median(statistics.median(each[1:] or each) for each in seconds),
                "users_per_second": statistics.median(len(users) / times["recommend_seconds"] for _, times in results),
                "runs": [times for _, times in results],
                "users": len(users),
                "pairs": {"training": len(whole.train), "test": len(whole.test)},
            }
        )
    return found


@click.command(epilog=README)
@click.option(
    "--dataset", default="ml-latest-small", show_default=True, metavar="NAME|FILE", help="Data to measure on."
)
@click.option("--split", "names", multiple=True, type=click.Choice(SPLITS), help="What is held out.  [default: both]")
@click.option("--positive-from", default=4.0, show_default=True, help="Lowest rating of an observed pair.")
@click.option("--library", "libraries", multiple=True, type=click.Choice([*GRIDS]), default=[*GRIDS],
              help="What to measure.  [default: all]")  # fmt: skip
@click.option("--k", type=click.IntRange(1), default=ImplicitALS.k, show_default=True, help="Number of factors.")
@click.option("--epochs", type=click.IntRange(1), default=12, show_default=True, help="Epochs of both libraries.")
@click.option("--grid", type=click.Choice(["small", "none"]), default="small", show_default=True,
              help="Settings to try; none: fastmf's defaults and usual ones of the others.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), default=max_threads(), help="Threads of both.  [default: all]")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Measurements of each, in turn.")
@click.option("--venvs", type=click.Path(path_type=Path), default=cache_directory() / "peers", metavar="DIR",
              help="Folder of implicit's virtual environment.  [default: the user's cache]")  # fmt: skip
@reporting("ranking.py", "dataset")
def main(dataset: str, names: tuple[str, ...], venvs: Path, **options: Any) -> Table:
    """Compare fastmf's lists from implicit feedback with those of implicit and of EASE."""
    python, names = environment(PEER, venvs) if "implicit" in options["libraries"] else Path(), names or SPLITS
    with tempfile.TemporaryDirectory(prefix="fastmf-ranking-") as folder:
        path, facts = find(dataset, Path(folder))
        data, _ = read(path, {}, required="temporal" in names, **reading(True, options["positive_from"]))
        found = [line for name in names for line in compare(name, data, python, Path(folder), options)]
    notes = [f"{facts['dataset']}, {facts['data']}. {facts['note']}".rstrip()]
    report = {"data": facts, "options": options, "results": found, "notes": notes}
    return report, HEADER, [row(line) for line in found]


def row(line: dict[str, Any]) -> list[str]:
    """Format a result as a row of the table."""
    settings = ", ".join(f"{name} {value:g}" for name, value in line["settings"].items())
    shown = [f"{line[name]:.4f}" for name in ("ndcg", "recall")]
    shown += [f"{line['reach']:.3f}", f"{line['novelty']:.2f}"]
    timed = [f"{line['epoch_seconds']:.3f}", f"{line['users_per_second']:,.0f}"] if "runs" in line else ["-", "-"]
    return [line["split"], line["library"], settings or "-", *shown, *timed]


if __name__ == "__main__":
    main()
