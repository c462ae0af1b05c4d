"""Measure the held-out RMSE around the default settings, one setting at a time, on several data sets.

    python benchmarks/defaults.py                      # ml-latest-small from $FASTMF_DATA_DIR, and two twins
    python benchmarks/defaults.py --solver als -o defaults.json

benchmarks/README.md explains the figures.
"""

from collections.abc import Iterator
from typing import Any

import click
import numpy as np
import pyarrow as pa
from common import Table, reporting

import fastmf
from fastmf import Ratings
from fastmf.cli.console import remark
from fastmf.datasets.movielens import find
from fastmf.datasets.twins import synthesize
from fastmf.solvers import SOLVERS, als, sgd

# The values tried for each setting, the default among them. "init" is the deviation of the starting factors.
TRIED: dict[str, dict[str, tuple[Any, ...]]] = {
    "als": {
        "reg": (0.01, 0.02, 0.03, 0.05, 0.1),
        "reg0": (2.0, 4.0, 8.0, 16.0),
        "bias_reg": (1.0, 3.0, 10.0),
        "momentum": (0.0, 0.3, 0.6),
        "epochs": (5, 8, 12, 20),
        "init": (0.01, 0.1, 0.3),
        "k": (8, 16, 32, 64),
    },
    "sgd": {
        "reg": (0.01, 0.02, 0.03, 0.05, 0.1),
        "reg0": (1.5, 3.0, 6.0, 12.0),
        "bias_reg": (1.0, 3.0, 10.0),
        "lr": (0.02, 0.03, 0.05, 0.08),
        "decay": (0.85, 0.9, 0.93, 0.96),
        "epochs": (20, 30, 40, 60),
        "init": (0.001, 0.01, 0.1),
        "k": (8, 16, 32, 64),
    },
}
MODULES = {"als": als, "sgd": sgd}
FOLDS, SEED = 5, 0
SHAPES = {"ml-latest-small twin": ("ml-latest-small", 1.0), "ml-20m twin, a twentieth": ("ml-20m", 0.05)}


def splits() -> Iterator[tuple[str, list[tuple[Ratings, Ratings]]]]:
    """Yield the name and the folds of each data set; the larger twin has one split."""
    try:
        yield "ml-latest-small", list(Ratings.read(find("ml-latest-small").path).folds(FOLDS, SEED))
    except FileNotFoundError as error:
        remark(f"the real set is left out: {error}")
    for name, (like, scale) in SHAPES.items():
        twin = synthesize(like, scale=scale)
        ratings = Ratings.from_arrays(pa.array(twin.users), pa.array(twin.items), pa.array(twin.ratings))
        yield name, list(ratings.folds(FOLDS, SEED)) if scale == 1 else [ratings.split(0.1, SEED)]


def rmse(solver: str, settings: dict[str, Any], folds: list[tuple[Ratings, Ratings]]) -> float:
    """Fit with the given settings; return the mean RMSE over the folds."""
    module, given = MODULES[solver], dict(settings)
    usual = module.INIT_SIGMA
    module.INIT_SIGMA = given.pop("init", usual)
    try:
        found = [fastmf.evaluate(fastmf.fit(train, solver=solver, **given), test)["rmse"] for train, test in folds]
    finally:
        module.INIT_SIGMA = usual
    return float(np.mean(found))


def default_of(solver: str, setting: str) -> Any:
    """Return the default of a setting."""
    return MODULES[solver].INIT_SIGMA if setting == "init" else getattr(SOLVERS[solver](), setting)


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n", 1))
@click.option("--solver", "solvers", multiple=True, type=click.Choice(list(TRIED)), help="[default: both]")
@reporting("defaults.py")
def main(solvers: tuple[str, ...]) -> Table:
    """Measure every value of every setting on every data set."""
    found: dict[str, dict[tuple[str, str, Any], float]] = {}
    for data, folds in splits():
        found[data] = {}
        for solver in solvers or tuple(TRIED):
            remark(f"{data}, {solver}")
            usual = rmse(solver, {}, folds)
            for setting, values in TRIED[solver].items():
                for value in values:
                    is_default = value == default_of(solver, setting)
                    found[data][solver, setting, value] = usual if is_default else rmse(solver, {setting: value}, folds)
    rows = []
    for solver, setting, value in next(iter(found.values())):
        mark = " *" if value == default_of(solver, setting) else ""
        figures = (f"{of[solver, setting, value]:.4f}" for of in found.values())
        rows.append((solver, setting, f"{value:g}{mark}", *figures))
    results = [
        {"data": data, "solver": solver, "setting": setting, "value": value, "rmse": error}
        for data, of in found.items()
        for (solver, setting, value), error in of.items()
    ]
    return {"folds": FOLDS, "results": results}, ("solver", "setting", "value (* default)", *found), rows


if __name__ == "__main__":
    main()
