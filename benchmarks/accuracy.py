"""Measure the accuracy of the solvers over folds of any ratings file, beside biases alone and the mean alone.

    python benchmarks/accuracy.py                                           # ml-latest-small, or its twin
    python benchmarks/accuracy.py ratings.parquet --protocol temporal --hold-out 0.1
    python benchmarks/accuracy.py --seed 0 --seed 1 --seed 2 -o accuracy.json
    python benchmarks/accuracy.py --solver als --solver sgd --k 64 --set als.epochs=20 --set sgd.decay=0.95

benchmarks/README.md explains the protocols and the figures.
"""

import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from common import README, Table, few_ratings, reporting

import fastmf
from fastmf import Model, Ratings
from fastmf.bench.sources import find_source
from fastmf.cli.console import remark
from fastmf.cli.options import column_options
from fastmf.data import ids, split
from fastmf.data.read import read_columns
from fastmf.data.standardise import deviation_of, mean_of, standardised
from fastmf.errors import DataError, ParameterError
from fastmf.kernels.compile import ENABLED
from fastmf.solvers import SOLVERS, make

# Solvers to compare, by label: every solver that predicts ratings, and settings that make it a different model.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name, solver in SOLVERS.items() if not solver.implicit},
    "gibbs-links": ("gibbs", {"links": True}),
}

BESIDE = "als"  # the solver that the others' RMSE is compared with, fold by fold
BIAS_REG = 3.0  # weight of the squared biases, the default of the solvers
CONVERGED = 1e-6  # largest change of a bias in the last sweep, in standard deviations
TIMESTAMP = "timestamp"
HEADER = ("protocol", "solver", "runs", "RMSE", "MAE", f"RMSE - {BESIDE}", "fit s", "s/epoch")


class Data(NamedTuple):
    """Ratings, their rows in the file, and their ranks by time (None without timestamps)."""

    ratings: Ratings
    rows: np.ndarray
    times: np.ndarray | None


class How(NamedTuple):
    """How to hold out: number of folds, seeds of random folds, share of each user's latest ratings."""

    folds: int
    seeds: Sequence[int]
    hold_out: float


class Split(NamedTuple):
    """Training and test ratings of one fit, with their fold and seed (None if nothing is drawn)."""

    seed: int | None
    fold: int
    train: Ratings
    test: Ratings


class Trainer(NamedTuple):
    """A solver or baseline: its settings, and the function that fits it."""

    settings: dict[str, Any]
    fit: Callable[[Ratings], Model]


def random_folds(data: Data, how: How) -> Iterator[Split]:
    """Hold out every rating once per seed, in random folds."""
    for seed in how.seeds:
        for fold, (train, test) in enumerate(data.ratings.folds(how.folds, seed)):
            yield Split(seed, fold, train, test)


def modulo_folds(data: Data, how: How) -> Iterator[Split]:
    """Hold out every rating once: fold f has rows f, f + n, f + 2n, ... of the file, counted from 0."""
    if how.folds > len(data.rows):
        raise ParameterError(f"{how.folds} folds of {len(data.rows):,} ratings: give 2 to {len(data.rows):,}")
    masks = (data.rows % how.folds == fold for fold in range(how.folds))
    return (Split(None, fold, *parted(data.ratings, held_out)) for fold, held_out in enumerate(masks))


def temporal_split(data: Data, how: How) -> Iterator[Split]:
    """Hold out the latest share of each user's ratings, as :func:`fastmf.split` does."""
    held_out = split.held_out(data.ratings.users, "temporal", how.hold_out, 0, data.times)
    if not held_out.any():
        raise ParameterError(f"{how.hold_out:g} of any user's ratings rounds to 0 ratings: hold out more")
    return (Split(None, 0, *parted(data.ratings, mask)) for mask in [held_out])


def parted(ratings: Ratings, held_out: np.ndarray) -> tuple[Ratings, Ratings]:
    """Return training ratings and held-out ratings; both keep all ids."""
    return ratings.take(~held_out), ratings.take(held_out)


PROTOCOLS: dict[str, Callable[[Data, How], Iterator[Split]]] = {
    "random": random_folds,
    "modulo": modulo_folds,
    "temporal": temporal_split,
}


def fit_biases(ratings: Ratings) -> Model:
    """Minimise sum (r - b_u - c_i)^2 + BIAS_REG (sum b^2 + sum c^2) over standardised ratings, users and items in turn.

    Returns a model without factors, which is evaluated like all others.
    """
    mean, scale = moments(ratings.values)
    values = standardised(ratings.values, mean, scale).astype(np.float64)
    users, items = np.zeros(ratings.n_users), np.zeros(ratings.n_items)
    change = np.inf
    while change > CONVERGED:
        before = users, items
        left = np.bincount(ratings.users, values - items[ratings.items], ratings.n_users)
        users = left / (ratings.user_counts + BIAS_REG)
        left = np.bincount(ratings.items, values - users[ratings.users], ratings.n_items)
        items = left / (ratings.item_counts + BIAS_REG)
        change = max(np.abs(users - before[0]).max(), np.abs(items - before[1]).max())
    return without_factors(ratings, mean, scale, users * scale, items * scale)


def fit_mean(ratings: Ratings) -> Model:
    """Fit a model that predicts the mean rating for every pair."""
    return without_factors(ratings, *moments(ratings.values), np.zeros(ratings.n_users), np.zeros(ratings.n_items))


def moments(values: np.ndarray) -> tuple[float, float]:
    """Return the mean and the standard deviation (1 if that is 0), by which the solvers standardise too."""
    mean = mean_of(values)
    return mean, deviation_of(values, mean) or 1.0


def without_factors(ratings: Ratings, mean: float, scale: float, users: np.ndarray, items: np.ndarray) -> Model:
    """Make a model of biases on the rating scale; its one factor is zero."""
    return Model(
        user_ids=ratings.user_ids,
        item_ids=ratings.item_ids,
        user_factors=np.zeros((ratings.n_users, 1), np.float32),
        item_factors=np.zeros((ratings.n_items, 1), np.float32),
        user_bias=users.astype(np.float32),
        item_bias=items.astype(np.float32),
        user_counts=ratings.user_counts.astype(np.int32),
        item_counts=ratings.item_counts.astype(np.int32),
        mean=mean,
        scale=scale,
        rating_range=(float(ratings.values.min()), float(ratings.values.max())),
        seen=None,
        solver={"name": "biases"},
    )


BASELINES = {"biases": Trainer({"bias_reg": BIAS_REG}, fit_biases), "mean": Trainer({}, fit_mean)}


@click.command(epilog=README)
@click.argument("dataset", default="ml-latest-small", metavar="[NAME|FILE]")
@click.option("--protocol", "protocols", multiple=True, type=click.Choice(list(PROTOCOLS)),
              help="What is held out.  [default: all; temporal only with timestamps]")  # fmt: skip
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True, help="Folds of random and modulo.")
@click.option("--seed", "seeds", type=click.IntRange(0), multiple=True, default=[0], show_default=True,
              help="Seed of random folds; may be repeated.")  # fmt: skip
@click.option("--hold-out", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.2, show_default=True,
              help="Share of each user's ratings held out by temporal.")  # fmt: skip
@click.option("--solver", "names", multiple=True, type=click.Choice([*VARIANTS, *BASELINES]), help="[default: all]")
@click.option("--k", type=click.IntRange(1), help="Number of factors.  [default: the solvers' own]")
@click.option(
    "--set", "given", multiple=True, metavar="SOLVER.SETTING=VALUE", help="Replace a default; may be repeated."
)
@click.option("--threads", type=click.IntRange(1), help="[default: all cores]")
@column_options("user", "item", "rating", TIMESTAMP)
@reporting("accuracy.py", "dataset")
def main(
    dataset: str, names: tuple[str, ...], k: int | None, given: tuple[str, ...], threads: int | None,
    protocols: tuple[str, ...], folds: int, seeds: tuple[int, ...], hold_out: float, **columns: str | None,
) -> Table:  # fmt: skip
    """Fit every solver to the same folds, in turn, and predict the held-out ratings.

    NAME is a MovieLens set (default: ml-latest-small), FILE a ratings file.
    """
    columns = {role.removesuffix("_column"): name for role, name in columns.items()}
    trainers = trainers_of(dict.fromkeys(names or [*VARIANTS, *BASELINES]), k, settings_given(given), threads)
    how = How(folds, list(dict.fromkeys(seeds)), hold_out)
    report = compare(dataset, columns, list(dict.fromkeys(protocols)), how, trainers)
    return report, HEADER, [row_of(line) for line in report["summary"]]


def settings_given(given: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Parse SOLVER.SETTING=VALUE; a value that is not JSON (a number, true, false) is text."""
    wanted: dict[str, dict[str, Any]] = {}
    for text in given:
        where, equals, value = text.partition("=")
        solver, dot, setting = where.rpartition(".")
        if not (equals and dot) or solver not in VARIANTS:
            raise click.BadParameter(f"{text!r} is not SOLVER.SETTING=VALUE with a solver of {', '.join(VARIANTS)}")
        try:
            wanted.setdefault(solver, {})[setting] = json.loads(value)
        except json.JSONDecodeError:
            wanted.setdefault(solver, {})[setting] = value
    return wanted


def trainers_of(
    names: Iterable[str], k: int | None, given: Mapping[str, dict[str, Any]], threads: int | None
) -> dict[str, Trainer]:
    """Make the trainers; raise BadParameter for settings of a solver that is not run."""
    trainers = {name: BASELINES[name] for name in names if name in BASELINES}
    left = [name for name in given if name not in names]
    if left:
        raise click.BadParameter(f"--set names {', '.join(left)}, which is not run: add it with --solver")
    for name in names:
        if name in VARIANTS:
            solver, settings = VARIANTS[name]
            made = make(solver, **{"k": k, **settings, **given.get(name, {})})
            trainers[name] = Trainer(made.settings, functools.partial(fastmf.fit, solver=made, threads=threads))
    return {name: trainers[name] for name in names}


def compare(
    dataset: str, columns: Mapping[str, str | None], protocols: Sequence[str], how: How, trainers: dict[str, Trainer]
) -> dict[str, Any]:
    """Fit everything to every fold, in turn; return the report that benchmarks/README.md describes."""
    with tempfile.TemporaryDirectory(prefix="fastmf-accuracy-") as scratch:
        path, facts = find(dataset, Path(scratch))
        data, missing = read(path, columns, required="temporal" in protocols)
    ratings = data.ratings
    facts |= {"users": ratings.n_users, "items": ratings.n_items, "ratings": len(ratings)}
    notes = [
        f"{facts['dataset']}, {facts['data']}: {len(ratings):,} ratings of {ratings.n_items:,} items by"
        f" {ratings.n_users:,} users. {facts['note']}".rstrip()
    ]
    if not protocols:
        protocols = [name for name in PROTOCOLS if name != "temporal" or data.times is not None]
        notes += [f"temporal is left out: {missing}"] if missing else []
    splits = {name: PROTOCOLS[name](data, how) for name in protocols}
    warm_up(trainers)
    runs = [run for name in protocols for run in runs_of(name, splits[name], trainers)]
    return {
        "data": facts,
        "protocols": {name: described(name, how, columns) for name in protocols},
        "solvers": {name: trainer.settings for name, trainer in trainers.items()},
        "summary": [summarised(protocol, name, runs) for protocol in protocols for name in trainers],
        "notes": notes,
        "runs": runs,
    }


def find(dataset: str, folder: Path, data_dir: str | None = None) -> tuple[str, dict[str, Any]]:
    """Find a ratings file or MovieLens set, or draw its twin into the folder; return its path and facts about it."""
    source = find_source(dataset, data_dir, False, folder, remark)
    return source.path, {"dataset": Path(source.name).name, "data": source.data, "note": source.note}


def read(path: str, columns: Mapping[str, str | None], required: bool, **how: Any) -> tuple[Data, str]:
    """Read ratings with their rows in the file and timestamps; also return why there are no timestamps, or "".

    ``how`` are further arguments of :meth:`Ratings.read`.

    Raises
    ------
    DataError
        As :meth:`Ratings.read`, and for missing timestamps that are required or whose column was named.
    """
    roles = {role: columns.get(role) for role in ("user", "item", "rating")}
    ratings = Ratings.read(path, **roles, **how)
    pairs = read_columns(path, dict(zip(("user", "item"), ratings.columns[:2], strict=True)))
    users, items = (ids.encode(pairs.column(name), name)[0] for name in ratings.columns[:2])
    rows = np.lexsort((items, users))  # pairs are unique, so this is the order of the ratings
    try:
        column = read_columns(path, {TIMESTAMP: columns.get(TIMESTAMP)}).column(0)
        return Data(ratings, rows, split.order_of(column, columns.get(TIMESTAMP) or TIMESTAMP)[rows]), ""
    except DataError as error:
        if required or columns.get(TIMESTAMP):
            raise
        return Data(ratings, rows, None), str(error).replace(path, Path(path).name)


def warm_up(trainers: Mapping[str, Trainer]) -> None:
    """Fit everything to a few made-up ratings, so that no figure includes compilation."""
    if not ENABLED:
        return
    train, test = Ratings.from_arrays(*few_ratings()).split(0.1)
    for trainer in trainers.values():
        fastmf.evaluate(trainer.fit(train), test)


def runs_of(protocol: str, splits: Iterable[Split], trainers: Mapping[str, Trainer]) -> Iterator[dict[str, Any]]:
    """Fit everything to each split, in turn, and measure it."""
    for part in splits:
        for name, trainer in trainers.items():
            began = time.perf_counter()
            model = trainer.fit(part.train)
            seconds = time.perf_counter() - began
            measures = fastmf.evaluate(model, part.test)
            drawn = "" if part.seed is None else f" seed {part.seed}"
            remark(f"{protocol}{drawn} fold {part.fold}  {name}: RMSE {measures['rmse']:.4f} in {seconds:.3g} s")
            epochs = [epoch.seconds for epoch in model.history]
            yield {
                "protocol": protocol,
                "seed": part.seed,
                "fold": part.fold,
                "solver": name,
                "training_ratings": len(part.train),
                "fit_seconds": seconds,
                "epochs": len(epochs),
                "epoch_seconds_median": statistics.median(epochs) if epochs else None,
                "measures": measures,
            }


def described(protocol: str, how: How, columns: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the settings of a protocol."""
    if protocol == "temporal":
        return {"hold_out": how.hold_out, "timestamp": columns.get(TIMESTAMP) or TIMESTAMP}
    return {"folds": how.folds, **({"seeds": how.seeds} if protocol == "random" else {})}


def summarised(protocol: str, name: str, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Summarise a solver's runs of one protocol: mean and deviation of errors over the folds, medians of seconds."""
    own, beside = (
        {(run["seed"], run["fold"]): run for run in runs if run["protocol"] == protocol and run["solver"] == solver}
        for solver in (name, BESIDE)
    )
    differences = [run["measures"]["rmse"] - beside[at]["measures"]["rmse"] for at, run in own.items() if at in beside]
    epochs = [run["epoch_seconds_median"] for run in own.values() if run["epochs"]]
    return {
        "protocol": protocol,
        "solver": name,
        "runs": len(own),
        "rmse": spread([run["measures"]["rmse"] for run in own.values()]),
        "mae": spread([run["measures"]["mae"] for run in own.values()]),
        f"rmse_minus_{BESIDE}": spread(differences) if differences and name != BESIDE else None,
        "fit_seconds": statistics.median(run["fit_seconds"] for run in own.values()),
        "epoch_seconds": statistics.median(epochs) if epochs else None,
    }


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Return the mean and the sample standard deviation (None for a single value)."""
    return {"mean": statistics.fmean(values), "sd": statistics.stdev(values) if len(values) > 1 else None}


def row_of(line: Mapping[str, Any]) -> list[str]:
    """Format a line of the summary as a row of the table."""
    errors = written(line["rmse"]), written(line["mae"]), written(line[f"rmse_minus_{BESIDE}"], "+.4f")
    seconds = (f"{line[name]:.3g}" if line[name] is not None else "-" for name in ("fit_seconds", "epoch_seconds"))
    return [line["protocol"], line["solver"], str(line["runs"]), *errors, *seconds]


def written(figure: Mapping[str, float | None] | None, form: str = ".4f") -> str:
    """Format mean ± deviation, or what is known of it."""
    if figure is None:
        return "-"
    return f"{figure['mean']:{form}}" + ("" if figure["sd"] is None else f" ± {figure['sd']:.4f}")


if __name__ == "__main__":
    main()
