"""Measure what side features of items do: RMSE and seconds per epoch, with them and without them in turn.

    python benchmarks/features.py ratings.parquet movies.parquet --solver als --solver als-links
    python benchmarks/features.py ratings.parquet movies.parquet --protocol items --noise 30 -o features.json
    python benchmarks/features.py ml-20m.parquet --tags 100000 --protocol random --epochs 4

A protocol holds out a fifth: of the ratings at random, of the items, or of the users but for 0, 1 or 5 ratings each.
benchmarks/README.md explains the figures.
"""

import statistics
from typing import Any

import click
import numpy as np
import pyarrow as pa
from common import README, Table, reporting

import fastmf
from fastmf import Features, Ratings
from fastmf.cli.console import remark
from fastmf.data.read import read_table
from fastmf.evaluation.evaluate import measure_errors
from fastmf.solvers import SOLVERS, make

KEPT = {"users-0": 0, "users-1": 1, "users-5": 5}  # ratings that each held-out user keeps
PROTOCOLS = ("random", "items", *KEPT)
TAGS = 10  # of an item
SHARE = 0.2
GROUPS = ("with ratings", "with features alone")
HEADER = ("protocol", "solver", "RMSE", "with features", "of warm items", "of cold items", "s/epoch", "with features")


@click.command(epilog=README)
@click.argument("ratings")
@click.argument("item_features", required=False)
@click.option("--solver", "solvers", multiple=True, default=["als"], show_default=True,
              type=click.Choice([name for name, solver in SOLVERS.items() if not solver.implicit]))  # fmt: skip
@click.option("--protocol", "protocols", multiple=True, type=click.Choice(PROTOCOLS), default=PROTOCOLS[:2])
@click.option("--seed", "seeds", multiple=True, type=int, default=[0, 1, 2], show_default=True)
@click.option("--k", default=32, show_default=True)
@click.option("--epochs", type=int, help="Epochs of a fit.  [default: the solver's]")
@click.option("--noise", default=0, show_default=True, help="Add this many columns of random numbers.")
@click.option("--tags", default=0, show_default=True, help="Add 10 random tags an item, of this many.")
@reporting("features.py", "ratings", "item_features")
def main(
    ratings: str,
    item_features: str | None,
    solvers: tuple[str, ...],
    protocols: tuple[str, ...],
    seeds: tuple[int, ...],
    noise: int,
    tags: int,
    **settings: Any,
) -> Table:
    """Compare fits with and without the features of items."""
    given = Ratings.read(ratings)
    features = features_of(given, item_features, noise, tags)
    for line in features.remarks:
        remark(line)
    results = []
    for protocol in protocols:
        for name in solvers:
            solver = make(name, k=settings["k"], epochs=settings["epochs"])
            runs = []
            for seed in seeds:
                seeded = type(solver)(**solver.settings | {"seed": seed})
                runs.append(both(seeded, *held_out(given, protocol, seed), features))
            results.append({"protocol": protocol, "solver": name, "runs": runs})
            remark(f"{protocol}, {name}: {len(runs)} runs")
    report = {"n_features": features.encoding.n_features, "results": results}
    return report, HEADER, [row(result) for result in results]


def features_of(ratings: Ratings, source: str | None, noise: int, tags: int) -> Features:
    """Read the features of the rated items, and add random ones."""
    rng, n = np.random.default_rng(0), ratings.n_items
    columns = {f"noise {place}": pa.array(rng.standard_normal(n)) for place in range(noise)}
    if tags:
        columns["tags"] = pa.array(rng.integers(0, tags, (n, TAGS)).astype(str).tolist())
    if source is None:
        return Features.read(pa.table({"item": ratings.item_ids, **columns}), "item", like=ratings.item_ids)
    table = read_table(source)
    found = Features.read(table, "item", like=ratings.item_ids)
    if not columns:
        return found
    own = [name for name in table.column_names if name in found.encoding.needed]
    id_column = next(name for name in table.column_names if name not in own)
    extra = pa.table({id_column: ratings.item_ids.cast(table.schema.field(id_column).type), **columns})
    joined = table.select([id_column, *own]).join(extra, id_column, join_type="inner")
    return Features.read(joined, "item", id_column=id_column, like=ratings.item_ids)


def held_out(ratings: Ratings, protocol: str, seed: int) -> tuple[Ratings, Ratings]:
    """Return training and held-out ratings; users' held-out ratings are the same however many they keep."""
    rng = np.random.default_rng(seed)
    if protocol == "random":
        return ratings.split(SHARE, seed=seed)
    if protocol == "items":
        out = (rng.permutation(ratings.n_items) < SHARE * ratings.n_items)[ratings.items]
        return ratings.take(~out), ratings.take(out)
    of_chosen = (rng.permutation(ratings.n_users) < SHARE * ratings.n_users)[ratings.users]
    place = np.empty(len(ratings), np.int64)  # of each rating among its user's, in random order
    order = np.lexsort((rng.random(len(ratings)), ratings.users))
    place[order] = np.arange(len(ratings)) - ratings.by_user.indptr[ratings.users]
    train = ratings.take(~(of_chosen & (place >= KEPT[protocol])))
    return train, ratings.take(of_chosen & (place >= max(KEPT.values())))


def both(solver: Any, train: Ratings, test: Ratings, features: Features) -> dict[str, Any]:
    """Fit without and with the features; return both errors and the median seconds of an epoch."""
    found: dict[str, Any] = {}
    for name, given in (("without", None), ("with", features)):
        model = fastmf.fit(train, solver=solver, item_features=given)
        errors = measure_errors(model, test)
        seconds = statistics.median(epoch.seconds for epoch in model.history[1:] or model.history)
        groups = errors.get("by_item", {})
        found[name] = {"rmse": errors["rmse"], "seconds": seconds, "by_item": groups}
    return found


def row(result: dict[str, Any]) -> tuple[str, ...]:
    """Return means over the runs; the seconds are those without, and the median ratio of both."""
    runs = result["runs"]
    rmse = [f"{statistics.mean(run[name]['rmse'] for run in runs):.4f}" for name in ("without", "with")]
    for group in GROUPS:
        found = [run["with"]["by_item"][group]["rmse"] for run in runs if group in run["with"]["by_item"]]
        rmse.append(f"{statistics.mean(found):.4f}" if found else "-")
    seconds = statistics.median(run["without"]["seconds"] for run in runs)
    ratio = statistics.median(run["with"]["seconds"] / run["without"]["seconds"] for run in runs)
    return result["protocol"], result["solver"], *rmse, f"{seconds:.3g}", f"{ratio:.2f} x"


if __name__ == "__main__":
    main()
