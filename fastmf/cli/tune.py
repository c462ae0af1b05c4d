"""``fastmf tune``: ratings in, the best settings out."""

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import click

from fastmf.cli.console import progress_shown, remark, say_device, short, show_json, show_table
from fastmf.cli.options import (
    TEXT,
    as_fraction,
    fitting_options,
    json_option,
    model_option,
    one_or_more,
    output_option,
    overwrite_option,
    plot_option,
    training_option,
)
from fastmf.cli.output import check_plot, save_plot
from fastmf.cli.solver_options import SolverCommand, tune_options
from fastmf.errors import counted

SHOWN = 10  # best trials in the table, besides those of the defaults

# Settings left out of the table: epochs has a column of its own, and all trials share the others.
LEFT_OUT = ("epochs", "seed", "positive_from", "negative_to")

# Options that the fit command repeats if they differ from the defaults.
FIT_DEFAULTS: dict[str, Any] = dict.fromkeys(
    ("user", "item", "rating", "item_features", "user_features", "weight", "half_life", "timestamp", "time_unit")
)
FIT_DEFAULTS |= {"duplicates": "error", "bad_rows": "error", "memory_limit": None, "device": "cpu", "threads": None}
FIT_DEFAULTS |= dict.fromkeys(TEXT) | {"wide": False}
FIT_DEFAULTS |= {"min_user_ratings": None, "min_item_ratings": None}


@click.command(cls=SolverCommand, make_options=tune_options)
@click.argument("ratings", nargs=-1, required=True)
@model_option("--solver", "solvers", multiple=True, metavar="NAME",
              help="Solver to try; may be given several times.  [default: als and its variants]")  # fmt: skip
@training_option(
    "--trials", type=int, default=40, show_default=True, help="Number of trials, over all solvers together."
)
@training_option("--validation", type=as_fraction, metavar="FILE|FRACTION", default="0.1", show_default=True,
              help="Validation ratings, or a fraction to hold out.")  # fmt: skip
@model_option("--k", type=int, help="Fix the number of factors instead of searching for it.")
@model_option("--max-k", type=int, default=128, show_default=True, help="The most factors to try.")
@training_option("--timeout", type=float, metavar="SECONDS", help="Begin no new trial after this time.")
@training_option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the split, the search and the solvers."
)
@fitting_options
@output_option("-o", "--output", metavar="FILE", help="Also write everything to FILE, as JSON.")
@plot_option
@overwrite_option
@json_option
def tune(ratings: tuple[str, ...], solvers: tuple[str, ...], output: str | None, plot: str | None, overwrite: bool,
         as_json: bool, **given: Any) -> None:  # fmt: skip
    """Search for the k, reg and reg0 (implicit: zeros) that fit RATINGS best; with features, for feature_reg too.

    Every trial is measured on the same held-out ratings, by RMSE, or by nDCG@10 for implicit. The first trial
    has the defaults; most other trials stop early, once better ones are known (successive halving). stdout gets the
    best trials, and then the command to fit with.

    \b
    Examples:
      fastmf tune ratings.parquet
      fastmf tune ratings.parquet --solver als --solver sgd --trials 60 --max-k 64 -o tune.json --plot tune.svg
      fastmf tune ratings.parquet --solver implicit --positive-from 4
    """
    from fastmf.data.atomic import write_json
    from fastmf.reporting import pictures
    from fastmf.training.tune import plan_tuning, run_trials

    check_plot(plot, overwrite, [*ratings, output])
    passed_on = {name: given[name] for name in FIT_DEFAULTS}
    fixed = {name: given.pop(name) for name in ("k", "epochs", "positive_from", "negative_to")}
    outputs, done = [output] if output else [], list[Any]()
    plan = plan_tuning(one_or_more(ratings), solvers or None, fixed, outputs=outputs, overwrite=overwrite, **given)
    say_device(plan.fit.device)
    data = plan.fit.read(remark)
    shown = progress_shown("trial", plan.trials, as_json, _line, lambda _: _best(done))
    with best_kept(done, ratings, passed_on), shown as show:

        def callback(trial: Any) -> None:
            done.append(trial)
            show(trial)

        found = run_trials(plan, data, callback)
    report = {"command": fit_command(ratings, found.settings, passed_on), **found.as_dict()}
    if output:
        write_json(report, output, overwrite)
        remark(f"the results are in {output}")
    if as_json:
        show_json(report)
    else:
        publish(found, plan.trials, report["command"])
    save_plot(plot, lambda: pictures.tuning(found), overwrite)


@contextlib.contextmanager
def best_kept(done: list[Any], ratings: Sequence[str], passed_on: dict[str, Any]) -> Iterator[None]:
    """Report the best trial so far if a signal ends the block."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        from fastmf.training.tune import ranked, settings_for

        complete = [trial for trial in ranked(done) if trial.state == "complete"]
        if complete:
            command = fit_command(ratings, settings_for(complete[0]), passed_on)
            remark(f"the best of {counted(len(done), 'trial')} so far, {figure(complete[0])}: {command}")
        raise


def _line(trial: Any) -> str:
    what = " ".join([trial.solver, *(f"{name} {short(value)}" for name, value in trial.settings.items())])
    if trial.state == "failed":
        return f"{what}  failed: {trial.error}  {trial.seconds:.1f} s"
    return f"{what}  validation {figure(trial)}  {trial.state}, {counted(trial.epochs, 'epoch')}  {trial.seconds:.1f} s"


def _best(trials: list[Any]) -> str:
    from fastmf.training.tune import ranked

    best = ranked(trials)[0]
    return f"best: {figure(best)} of trial {best.number}" if best.state == "complete" else ""


def figure(trial: Any) -> str:
    """Format the validation figure of a trial, with the name of its measure."""
    return f"{trial.measure.name} {trial.measure.of(trial):.4f}"


def fit_command(ratings: Sequence[str], settings: dict[str, Any], passed_on: dict[str, Any]) -> str:
    """Return the command that fits with these settings and reads ratings in the same way."""
    from fastmf.solvers import DEFAULT

    words = ["fastmf", "fit", *(f"./{path}" if path.startswith("-") and path != "-" else path for path in ratings)]
    usual = {"solver": DEFAULT, **FIT_DEFAULTS}
    for name, value in {**settings, **passed_on}.items():
        if value != usual.get(name):
            option, text = f"--{name.replace('_', '-')}", short(value)
            words += [option] if value is True else [f"{option}={text}"] if text.startswith("-") else [option, text]
    return shlex.join(words)


def publish(found: Any, asked: int, command: str) -> None:
    """Print the best trials, those of the defaults, and the command to fit with; explain them on stderr."""
    table = _rows(found)
    show_table(list(table[0]), [list(row.values()) for row in table])
    failed = [trial for trial in found.trials if trial.state == "failed"]
    if failed:
        first = f"the first was trial {failed[0].number}: {failed[0].error}"
        remark(f"note: {len(failed)} of {counted(len(found.trials), 'trial')} failed; {first}")
    if len(found.trials) < asked:
        why = "the time was up, or there was nothing else to try"
        remark(f"note: {len(found.trials)} of {asked} trials were run: {why}")
    remark(_verdict(found))
    click.echo(command)


def _rows(found: Any) -> list[dict[str, Any]]:
    """Return the rows of the table, each a dict of column to cell."""
    from fastmf.training.tune import ranked

    in_order, defaults, measure = ranked(found.trials), list(found.defaults.values()), found.best.measure
    names = list(dict.fromkeys(name for trial in found.trials for name in trial.settings if name not in LEFT_OUT))
    return [
        {"trial": trial.number, "solver": trial.solver}
        | {name: short(trial.settings.get(name)) for name in names}
        | {"epochs": trial.epochs, "best": short(trial.best_epoch)}
        | {f"validation {measure.name}": short(measure.of(trial), ".4f"), "seconds": short(trial.seconds, ".1f")}
        | {"state": trial.state + (", defaults" if trial in defaults else "")}
        for trial in in_order[:SHOWN] + [trial for trial in in_order[SHOWN:] if trial in defaults]
    ]


def _verdict(found: Any) -> str:
    """Compare the best trial with the defaults."""
    best, measure = found.best, found.best.measure
    reached = f"{figure(best)} on {counted(found.validation, 'held-out rating')}"
    if best is found.trials[0]:
        return f"nothing tried beats the defaults, {reached}; the command is:"
    theirs = (f"{trial.solver} {short(measure.of(trial), '.4f')}" for trial in found.defaults.values())
    return (
        f"trial {best.number} is best, {reached} (defaults: {', '.join(theirs)});"
        f" it was chosen by this {measure.name}, so expect slightly worse on other ratings; the command is:"
    )
