"""Measure the lists of every solver with its default settings, in its default order and by predicted rating.

    python benchmarks/lists.py                             # ml-latest-small; its twin has no times: --split random
    python benchmarks/lists.py ratings.parquet --solver als --solver implicit -o lists.json

A fifth of the ratings is held out: the latest of each user, or at random. benchmarks/README.md explains the figures.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from accuracy import Data, find, parted, read
from common import README, Table, reporting

import fastmf
from fastmf import Model, Ratings
from fastmf.cli.console import remark
from fastmf.data import split
from fastmf.evaluation.evaluate import measure_lists
from fastmf.model.recommend import Ranker
from fastmf.solvers import SOLVERS, make

N = 10
HELD_OUT = 0.2
RARE = 20  # an item with fewer training ratings is rare
PAIRS = 10_000  # random pairs of users whose lists are compared
FIGURES = ("ndcg", "common", "rare", "reach", "novelty")
HEADER = ("split", "solver", "lists by", "runs", "nDCG@10", "in common", "of rare items", "reach", "novelty")

Lists = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


@click.command(epilog=README)
@click.argument("dataset", default="ml-latest-small", metavar="[NAME|FILE]")
@click.option("--split", "names", multiple=True, type=click.Choice(["temporal", "random"]),
              default=["temporal", "random"], show_default=True, help="What is held out.")  # fmt: skip
@click.option("--solver", "solvers", multiple=True, type=click.Choice(list(SOLVERS)), default=list(SOLVERS),
              show_default=True)  # fmt: skip
@click.option("--seed", "seeds", multiple=True, type=int, default=[0, 1, 2], show_default=True,
              help="Seed of a random split.")  # fmt: skip
@click.option("--relevant-from", default=4.0, show_default=True, help="Lowest rating of a relevant item.")
@click.option("--k", type=int, help="Number of factors.  [default: the solver's]")
@reporting("lists.py", "dataset")
def main(dataset: str, names: tuple[str, ...], solvers: tuple[str, ...], seeds: tuple[int, ...],
         relevant_from: float, k: int | None) -> Table:  # fmt: skip
    """Compare the lists of solvers with each other and with lists of the most rated items."""
    with tempfile.TemporaryDirectory(prefix="fastmf-lists-") as folder:
        path, facts = find(dataset, Path(folder))
        data, _ = read(path, {}, required="temporal" in names)
    runs = [
        {"split": name, "seed": seed, **line}
        for name in names
        for seed in (seeds if name == "random" else seeds[:1])
        for line in measured(*held_out(data, name, seed), solvers, relevant_from, k)
    ]
    report = {"data": facts, "relevant_from": relevant_from, "rare": RARE, "runs": runs}
    notes = [f"{facts['dataset']}, {facts['data']}. {facts['note']}".rstrip()]
    return {**report, "notes": notes}, HEADER, rows_of(runs)


def held_out(data: Data, name: str, seed: int) -> tuple[Ratings, Ratings]:
    """Return training and test ratings."""
    return parted(data.ratings, split.held_out(data.ratings.users, name, HELD_OUT, seed, data.times))


def measured(
    train: Ratings, test: Ratings, solvers: tuple[str, ...], relevant_from: float, k: int | None
) -> Iterator[dict[str, Any]]:
    """Fit the solvers in turn, and yield measures of their lists; first come those of the most rated items."""
    for place, name in enumerate(solvers):
        implicit = SOLVERS[name].implicit
        settings: dict[str, Any] = {"positive_from": relevant_from} if implicit else {}
        model = fastmf.fit(train, solver=make(name, k=k, **settings))
        ways = ("rating",) if implicit else ("choice", "rating")
        for way in ways:
            ranker = Ranker(model, rank_by=way)
            found = measure_lists(model, test, N, relevant_from, way)
            popular = found.pop("popularity")
            if (place, way) == (0, ways[0]):
                yield {"solver": "-", "by": "popularity", **popular, **compared(model, ranker.most_popular)}
            yield {"solver": name, "by": "score" if implicit else way, **found, **compared(model, ranker.top)}
        remark(f"{name}: measured")


def compared(model: Model, lists: Lists) -> dict[str, float]:
    """Return how many items two users' lists have in common, and the share of entries that are rare items."""
    users = np.flatnonzero(model.user_counts)
    found, _ = lists(users, N)
    pairs = np.random.default_rng(0).integers(0, len(users), (PAIRS, 2))
    one, two = (found[side] for side in pairs[pairs[:, 0] != pairs[:, 1]].T)
    common = ((one[:, :, None] == two[:, None, :]) & (one[:, :, None] >= 0)).sum(axis=(1, 2))
    return {"common": float(common.mean()), "rare": float(np.mean(model.item_counts[found[found >= 0]] < RARE))}


def rows_of(runs: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return a row for each split, solver and order: means over the seeds."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["split"], run["solver"], run["by"]), []).append(run)
    return [
        (*group, str(len(found)), *(f"{statistics.mean(run[name] for run in found):.3f}" for name in FIGURES))
        for group, found in groups.items()
    ]


if __name__ == "__main__":
    main()
