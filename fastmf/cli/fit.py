"""``fastmf fit``: ratings in, a model file out."""

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from fastmf.cli.console import progress_shown, remark, say_device, show_json
from fastmf.cli.inspect import summary
from fastmf.cli.options import (
    as_fraction,
    fitting_options,
    json_option,
    model_option,
    one_or_more,
    output_option,
    overwrite_option,
    training_option,
)
from fastmf.cli.solver_options import SolverCommand, fit_options, setting_names
from fastmf.errors import counted, verb


@click.command(cls=SolverCommand, make_options=fit_options)
@click.argument("ratings", nargs=-1, required=True)
@model_option("--blend", is_flag=True, help="Learn the weight of popularity, for recommend --rank-by blend.")
@model_option("--no-choice", "choice", flag_value=False, default=True,
              help="Do not learn what users choose; lists are by rating.")  # fmt: skip
@training_option("--validation", type=as_fraction, metavar="FILE|FRACTION",
              help="Validation ratings, or a fraction to hold out.")  # fmt: skip
@training_option("--patience", type=int, help="Stop after this many epochs without a better validation figure.")
@model_option("--init", metavar="MODEL", help="Start from this model, of the same k; new rows are folded in.")
@fitting_options
@output_option("-o", "--output", metavar="MODEL", help="Model file.  [default: the input's name with .fastmf]")
@overwrite_option
@training_option("--checkpoint", metavar="DIR", help="Keep the state of training in DIR.")
@training_option("--every", type=int, default=1, show_default=True, help="Epochs between checkpoints.")
@training_option("--spill", metavar="DIR", help="Keep ratings on disk, in DIR, not in memory.")
@training_option("--keep-spill", is_flag=True, help="Leave spilled ratings there for the next fit of the same files.")
@training_option("--cluster", metavar="ADDRESS",
                 help="Fit on Dask workers: tcp://… of a scheduler, or local:N for N workers here.")  # fmt: skip
@training_option("--storage", metavar="DIR|URI", help="Folder that all workers of a cluster see.")
@training_option("--resume", is_flag=True, help="Continue from the checkpoint, if there is one.")
@json_option
def fit(
    ratings: tuple[str, ...],
    solver: str,
    output: str | None,
    overwrite: bool,
    as_json: bool,
    cluster: str | None,
    storage: str | None,
    **given: Any,
) -> None:
    """Fit a model to RATINGS.

    RATINGS are files, directories, patterns or URIs, or - for the standard input: Parquet, CSV and other delimited
    text, JSON lines, Arrow or ORC. A setting means the same in every solver that has it and for every rating scale; the
    defaults are meant to need no tuning.

    \b
    Examples:
      fastmf fit ratings.parquet --k 32 --solver als
      fastmf fit ratings.parquet --solver sgd --validation 0.1 --patience 3
      fastmf fit ratings.csv.gz --user customer --item product --rating stars
      fastmf fit plays.parquet --solver implicit --weight plays
      fastmf fit today.parquet --init yesterday.fastmf --epochs 2 -o today.fastmf
      fastmf fit s3://bucket/ratings/ --user userId --item movieId --duplicates last -o movies.fastmf
    """
    from fastmf.solvers import make
    from fastmf.training.fit import train, train_on
    from fastmf.training.plan import make_plan

    chosen = make(solver, **{name: given.pop(name) for name in setting_names()})
    target = output or default_output(ratings[0])
    plan = make_plan(
        one_or_more(ratings), chosen, outputs=[target], overwrite=overwrite, cluster=cluster, storage=storage, **given
    )
    if cluster is None:
        say_device(plan.device)
        data = plan.read(remark)
    errors = partial(_errors, chosen.implicit)
    shown = progress_shown(
        "epoch", chosen.epochs, as_json, lambda epoch: f"{errors(epoch)}  {epoch.seconds:.3f} s", errors
    )
    with _checkpoint_named(given["checkpoint"]), shown as callback:
        model = train(plan, data, callback) if cluster is None else train_on(cluster, storage, plan, callback, remark)
    model.save(target, overwrite=overwrite)
    if as_json:
        show_json({"model": str(target), **summary(model)})
        return
    for line in (*_on_start(model, plan.init is not None), *_on_observed(model), *_on_implicit(model)):
        remark(line)
    kept = "" if model.best_epoch is None else f", factors of epoch {model.best_epoch}"
    remark(f"{solver}, k = {model.k}, epochs run: {len(model.history)}{kept}; the model is in:")
    click.echo(str(target))


def _on_start(model: Any, warm: bool) -> Iterator[str]:
    """Say what a warm start has started from."""
    if warm:
        names = "init_users", "init_items", "folded_in_users", "folded_in_items"
        users, items, new_users, new_items = (model.rows[name] for name in names)
        known = f"{counted(users, 'user')} and {counted(items, 'item')} of the model"
        yield f"started from {known}, {new_users:,} and {new_items:,} folded in"


def _on_observed(model: Any) -> Iterator[str]:
    """Say how many ratings count as observed, and how many as disliked."""
    if model.positive_from is not None:
        observed, used = model.rows["observed"], model.rows["used"]
        what, counts = f"{counted(used, 'rating')} {verb(used, 'is', 'are')}", verb(used, "counts", "count")
        yield f"{observed:,} of {what} at least {model.positive_from:g} and {counts} as observed"
    if model.negative_to is not None:
        disliked, cold = model.rows["disliked"], model.rows["disliked_cold"]
        rest = f"; {cold:,} more are left out, of users or items without observed ratings" if cold else ""
        yield f"{disliked:,} of {what} at most {model.negative_to:g} and {counts} as disliked{rest}"


def _on_implicit(model: Any) -> Iterator[str]:
    """Say how weights were scaled, and what unobserved pairs weigh."""
    if model.weight_scale is not None:
        faded = "" if model.half_life is None else ", after they have faded"
        scale = model.weight_scale.describe(model.weight)
        yield f"weights are {scale}{faded}, to a mean of 1 (--weight-scale none takes them as they are)"
    if model.implicit:
        alpha0, zeros = model.user_rule.all_pairs, model.solver["zeros"]
        why = "" if zeros is None else f": {zeros:g} times the share of pairs that are observed, or 1 (--zeros)"
        yield f"each pair also counts as a zero of weight {alpha0:.2g}{why}"


@contextlib.contextmanager
def _checkpoint_named(folder: str | None) -> Iterator[None]:
    """If a signal ends the block, tell what the checkpoint is good for."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        from fastmf.training.checkpoint import has_checkpoint

        if folder is not None and has_checkpoint(folder):
            remark(f"the last complete epoch is kept in {folder}: continue with --resume")
        raise


def _errors(implicit: bool, epoch: Any) -> str:
    from fastmf.model.history import train_name

    text = f"{train_name(implicit)} {epoch.train_rmse:.4f}"
    if epoch.validation_rmse is not None:
        text += f"  validation RMSE {epoch.validation_rmse:.4f} MAE {epoch.validation_mae:.4f}"
    if epoch.validation_ndcg is not None:
        text += f"  validation nDCG@10 {epoch.validation_ndcg:.4f}"
    return text


def default_output(ratings: str) -> Path:
    """Return the model's path: beside a file or directory of ratings, in the current directory for a URI."""
    from fastmf.data.files import PACKED, STDIN, is_pattern

    if "://" in ratings:
        return Path(ratings.rstrip("/").rsplit("/", 1)[-1]).with_suffix(".fastmf")
    source = Path(ratings)
    if ratings == STDIN or is_pattern(ratings):
        raise click.UsageError(f"how should the model of {ratings} be called? Give its file with -o")
    if not source.exists():
        raise FileNotFoundError(f"{ratings} does not exist")
    if not source.is_dir():
        return (source.with_suffix("") if source.suffix.lower() in PACKED else source).with_suffix(".fastmf")
    folder = source.resolve() if source.name in ("", "..") else source
    return folder.parent / f"{folder.name}.fastmf"
