"""``fastmf fit``: ratings in, a model file out."""

from pathlib import Path
from typing import Any

import click

import fastmf
from fastmf.cli.inspect import summary
from fastmf.cli.options import json_option, machine_options, overwrite_option, reading_options, weight_option


@click.command()
@click.argument("ratings")
@click.option("--solver", type=click.Choice(["als", "als-links", "sgd", "gibbs", "implicit"]), default="als",
              show_default=True, help="How to fit.")  # fmt: skip
@click.option("--k", type=int, help="Number of factors.  [default: 32, implicit 64]")
@click.option("--epochs", type=int, help="Passes over the ratings.  [default: als 12, als-links 12, sgd 40,"
              " implicit 12; gibbs has --burn and --samples]")  # fmt: skip
@click.option(
    "--reg", type=float, help="Weight of a row's squared factors, per rating.  [default: 0.03, implicit 0.01]"
)
@click.option(
    "--reg0", type=float, help="Weight of a row's squared factors, per row.  [default: als 8, als-links 10, sgd 6]"
)
@click.option("--bias-reg", type=float, help="Weight of the squared biases.  [default: 3]")
@click.option("--method", type=click.Choice(["exact", "cg"]), help="als, implicit: how rows are solved; cg is"
              " fast for k from 64.  [default: exact]")  # fmt: skip
@click.option("--steps", type=int, help="als, implicit: steps of cg in a half-sweep.  [default: als 2, implicit 3]")
@click.option("--alpha0", type=float, help="implicit: weight of a pair that is not there.  [default: 0.3]")
@click.option("--positive-from", type=float, help="implicit: take ratings from here on only.  [default: all]")
@weight_option
@click.option("--burn", type=int, help="gibbs: sweeps that are thrown away.  [default: 16]")
@click.option("--samples", type=int, help="gibbs: sweeps after these, which are averaged.  [default: 84]")
@click.option("--kept", type=int, help="gibbs: of these, how many the model keeps, for predict --std.  [default: 16]")
@click.option("--links", is_flag=True, default=None, help="gibbs: let what is rated pull the factors, too.")
@click.option("--momentum", type=float, help="als, als-links: momentum of the item side.  [default: 0.3]")
@click.option("--link-reg", type=float, help="als-links: weight of the squared links.  [default: 4]")
@click.option("--link-steps", type=int, help="als-links: steps towards the links in an epoch.  [default: 1]")
@click.option("--fade", type=float, help="als-links, gibbs: ratings of a user at which links have half their force."
              "  [default: 20]")  # fmt: skip
@click.option("--lr", type=float, help="sgd: step of the first epoch.  [default: 0.05]")
@click.option("--decay", type=float, help="sgd: factor of the step from epoch to epoch.  [default: 0.93]")
@click.option("--loss", type=click.Choice(["squared", "absolute"]), help="sgd: the loss.  [default: squared]")
@click.option("--schedule", type=click.Choice(["blocked", "hogwild"]), help="sgd: the schedule.  [default: blocked]")
@click.option("--adaptive", is_flag=True, default=None, help="sgd: a step for each row, by its gradients so far.")
@click.option("--no-biases", is_flag=True, help="Fit factors only, without user and item biases.")
@click.option("--blend", is_flag=True, help="Learn what popularity is worth, for recommend --rank-by blend.")
@click.option("--validation", metavar="FILE|FRACTION", help="Ratings to watch, or a fraction to hold out for it.")
@click.option("--patience", type=int, help="Stop after this many epochs without a better validation.")
@machine_options
@click.option("--seed", type=int, help="Seed of everything random.  [default: 0]")
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
    no_biases: bool,
    blend: bool,
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
    from fastmf.data.atomic import check_output
    from fastmf.runtime.memory import parse_size
    from fastmf.solvers import SOLVERS, make
    from fastmf.training import fit as training
    from fastmf.training.checkpoint import NAME as CHECKPOINT

    how = {role: given.pop(f"{role}_column") for role in ("user", "item", "rating")}
    how |= {name: given.pop(name) for name in ("duplicates", "bad_rows", "memory_limit")}
    run = {name: given.pop(name) for name in ("patience", "checkpoint", "every", "resume")}
    device, threads, weight = (given.pop(name) for name in ("device", "threads", "weight"))
    chosen = make(SOLVERS, solver, **given, biases=False if no_biases else None)
    where = console.say_device(training.place_for(chosen, device, threads))
    watched: Any = as_fraction(validation)
    training.require_consistent(ratings, watched, **run)
    training.require_blend(chosen, blend)
    training.require_weight(chosen, weight)
    kept = run["checkpoint"] and Path(run["checkpoint"]) / CHECKPOINT
    training.require_memory_for(chosen, where, parse_size(how.get("memory_limit")))
    target = check_output(output or default_output(ratings), overwrite, inputs=[ratings, validation, kept])
    how = training.reading_for(chosen) | {name: value for name, value in how.items() if value is not None}
    data = read(ratings, {**how, "weight": weight})
    watched = read(watched, how) if isinstance(watched, str) else watched
    run |= {"device": where, "memory_limit": how.get("memory_limit"), "blend": blend}
    with console.epochs_shown(chosen.epochs, quiet=as_json) as callback:
        model = fastmf.fit(data, solver=chosen, validation=watched, callback=callback, **run)
    model.save(target, overwrite=overwrite)
    tell(model, target, as_json)


def tell(model: Any, target: Path, as_json: bool) -> None:
    """Say what has been fitted and where it is."""
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


def read(ratings: str, how: dict[str, Any]) -> Any:
    """Read ratings, and say what they are and what was left out."""
    from fastmf.cli import console
    from fastmf.data.ratings import Ratings

    data = Ratings.read(ratings, **how)
    size = f"{len(data):,} ratings of {data.n_items:,} items by {data.n_users:,} users"
    console.remark(f"{ratings}: {size} (columns {', '.join(dict.fromkeys(filter(None, data.columns)))})")
    say_dropped(data)
    return data


def say_dropped(data: Any) -> None:
    """Say how many rows were read that are not there."""
    from fastmf.cli import console

    dropped = {**data.dropped}
    again = dropped.pop("duplicates", 0)
    if again:
        console.remark(f"note: {again:,} rows of repeated pairs were merged (--duplicates {data.duplicates})")
    if dropped:
        counts = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in dropped.items())
        console.remark(f"note: {sum(dropped.values()):,} bad rows were dropped (--bad-rows drop): {counts}")


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


def as_fraction(text: str | None) -> Any:
    """Read a validation fraction; what is not a number is a path, or None."""
    try:
        return text if text is None else float(text)
    except ValueError:
        return text
