"""``fastmf fit``: ratings in, a model file out."""

from pathlib import Path
from typing import Any

import click

from fastmf.cli.inspect import summary
from fastmf.cli.options import (
    as_fraction,
    json_option,
    machine_options,
    overwrite_option,
    reading_options,
    weight_option,
)
from fastmf.cli.solver_options import fit_options, lazy_command, setting_names


@click.command(cls=lazy_command(fit_options))
@click.argument("ratings")
@weight_option
@click.option("--blend", is_flag=True, help="Learn what popularity is worth, for recommend --rank-by blend.")
@click.option("--validation", metavar="FILE|FRACTION", help="Ratings to validate on, or a fraction to hold out for it.")
@click.option("--patience", type=int, help="Stop after this many epochs without a better validation.")
@machine_options
@reading_options
@click.option("-o", "--output", metavar="MODEL", help="Model file.  [default: the input's name with .fastmf]")
@overwrite_option
@click.option("--checkpoint", metavar="DIR", help="Keep the state of training in DIR.")
@click.option("--every", type=int, default=1, show_default=True, help="Epochs from one checkpoint to the next.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint, if there is one.")
@json_option
def fit(
    ratings: str,
    solver: str,
    validation: str | None,
    output: str | None,
    overwrite: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Fit a model to RATINGS.

    RATINGS is a Parquet file, a directory of them, or a URI of either. A setting means the same for all solvers
    that have it and for every rating scale; the defaults are meant to need no tuning.

    \b
    Examples:
      fastmf fit ratings.parquet --k 32 --solver als
      fastmf fit ratings.parquet --solver sgd --validation 0.1 --patience 3
      fastmf fit plays.parquet --solver implicit --weight plays
      fastmf fit s3://bucket/ratings/ --user userId --item movieId --duplicates last -o movies.fastmf
    """
    from fastmf.cli import console
    from fastmf.solvers import make
    from fastmf.training.fit import train
    from fastmf.training.plan import make_plan

    settings = {name: given.pop(name) for name in setting_names()}
    chosen, target = make(solver, **settings), output or default_output(ratings)
    given |= {"validation": as_fraction(validation), "outputs": [target], "overwrite": overwrite}
    plan = make_plan(ratings, chosen, **given)
    console.say_device(plan.device)
    data = plan.read(console.remark)
    with console.epochs_shown(plan.solver.epochs, quiet=as_json) as callback:
        model = train(plan, data, callback)
    model.save(target, overwrite=overwrite)
    show(model, target, as_json)


def show(model: Any, target: str | Path, as_json: bool) -> None:
    """Describe the model and print where it is."""
    from fastmf.cli import console

    if as_json:
        console.show_json({"model": str(target), **summary(model)})
        return
    kept = "" if model.best_epoch is None else f", factors of epoch {model.best_epoch}"
    solver = model.solver["name"]
    if model.positive_from is not None:
        observed, used = model.rows["observed"], model.rows["used"]
        console.remark(f"{observed:,} of {used:,} ratings are at least {model.positive_from:g} and count as observed")
    console.remark(f"{solver}, k = {model.k}, epochs run: {len(model.history)}{kept}; the model is in:")
    click.echo(str(target))


def default_output(ratings: str) -> Path:
    """Name the model after its ratings: beside a file or directory, here for a URI."""
    if "://" in ratings:
        return Path(ratings.rstrip("/").rsplit("/", 1)[-1]).with_suffix(".fastmf")
    stem = Path(ratings)
    if not stem.exists():
        raise FileNotFoundError(f"{ratings} does not exist")
    if not stem.is_dir():
        return stem.with_suffix(".fastmf")
    named = stem.resolve() if stem.name in ("", "..") else stem
    return named.parent / f"{named.name}.fastmf"
