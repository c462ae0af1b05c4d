"""``fastmf tune``: ratings in, the settings to fit them with out."""

import contextlib
import shlex
from collections.abc import Iterator
from typing import Any

import click

from fastmf.cli.options import (
    as_fraction,
    json_option,
    machine_options,
    overwrite_option,
    reading_options,
    weight_option,
)
from fastmf.cli.solver_options import lazy_command, tune_options

SHOWN = 10  # trials in the table, and the defaults'

LEFT_OUT = ("epochs", "seed", "positive_from")  # in the table: it has a column of its own, or is the same everywhere

# Options that go on to the command that fits, where they are not what they are without.
FIT_DEFAULTS: dict[str, Any] = {
    "user": None,
    "item": None,
    "rating": None,
    "weight": None,
    "duplicates": "error",
    "bad_rows": "error",
    "memory_limit": None,
    "device": "cpu",
    "threads": None,
}


@click.command(cls=lazy_command(tune_options))
@click.argument("ratings")
@click.option("--solver", "solvers", multiple=True, metavar="NAME",
              help="Solver to try; may be given several times.  [default: als and its variants]")  # fmt: skip
@click.option("--trials", type=int, default=40, show_default=True, help="Settings to try, of all solvers together.")
@click.option("--validation", metavar="FILE|FRACTION", default="0.1", show_default=True,
              help="Ratings to measure on, or a fraction to hold out for it.")  # fmt: skip
@click.option("--k", type=int, help="Take this number of factors, instead of looking for one.")
@click.option("--max-k", type=int, default=128, show_default=True, help="The most factors to try.")
@weight_option
@click.option("--timeout", type=float, metavar="SECONDS", help="Begin no trial after this time.")
@machine_options
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the split, the search and the solvers.")
@reading_options
@click.option("-o", "--output", metavar="FILE", help="Write everything as JSON to FILE, too.")
@overwrite_option
@json_option
def tune(
    ratings: str,
    solvers: tuple[str, ...],
    validation: str,
    output: str | None,
    overwrite: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Look for the k, reg and reg0 (implicit: alpha0) that fit RATINGS best.

    Every trial is measured on the same held-out ratings, by RMSE or for implicit by nDCG@10. The first has the
    defaults; most of the others end early, as soon as better ones are known (successive halving). stdout gets the best
    trials, and last the command to fit with.

    \b
    Examples:
      fastmf tune ratings.parquet
      fastmf tune ratings.parquet --solver als --solver sgd --trials 60 --max-k 64 -o tune.json
      fastmf tune ratings.parquet --solver implicit --positive-from 4
    """
    from fastmf.cli import console
    from fastmf.data.atomic import write_json
    from fastmf.training.tune import plan_tuning, run_trials

    options = {**given}
    fixed = {name: given.pop(name) for name in ("k", "epochs", "positive_from")}
    given |= {"validation": as_fraction(validation), "outputs": [output] if output else [], "overwrite": overwrite}
    plan = plan_tuning(ratings, solvers or None, fixed, **given)
    console.say_device(plan.fit.device)
    data, done = plan.fit.read(console.remark), list[Any]()
    with best_kept(done, ratings, options), console.trials_shown(plan.trials, done, as_json) as callback:
        found = run_trials(plan, data, callback)
    report = {"command": fit_command(ratings, found.settings, options), **found.as_dict()}
    if output:
        write_json(report, output, overwrite)
        console.remark(f"the results are in {output}")
    if as_json:
        console.show_json(report)
    else:
        publish(found, plan.trials, report["command"])


@contextlib.contextmanager
def best_kept(done: list[Any], ratings: str, options: dict[str, Any]) -> Iterator[None]:
    """Say what the best of the trials done is when a signal ends the block."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        from fastmf.cli import console
        from fastmf.training import tune

        complete = [trial for trial in tune.ranked(done) if trial.state == "complete"]
        if complete:
            command = fit_command(ratings, tune.settings_for(complete[0]), options)
            best = console.figure(complete[0])
            console.remark(f"the best of {len(done)} trials so far, {best}: {command}")
        raise


def fit_command(ratings: str, settings: dict[str, Any], options: dict[str, Any]) -> str:
    """Write the command that fits with these settings, and reads as the options of this one say."""
    from fastmf.cli.console import short

    words = ["fastmf", "fit", f"./{ratings}" if ratings.startswith("-") else ratings]
    usual = {"solver": "als", **FIT_DEFAULTS}
    for name, value in {**settings, **{name: options[name] for name in FIT_DEFAULTS}}.items():
        if value != usual.get(name):
            option, text = f"--{name.replace('_', '-')}", short(value)
            words += [f"{option}={text}"] if text.startswith("-") else [option, text]
    return shlex.join(words)


def publish(found: Any, asked: int, command: str) -> None:
    """Print the best trials and the defaults', and the command; say beside them what they mean."""
    from fastmf.cli.console import figure, remark, short, show_table
    from fastmf.training.tune import ranked

    in_order, best, defaults = ranked(found.trials), found.best, list(found.defaults.values())
    measure = best.measure
    shown = in_order[:SHOWN] + [trial for trial in in_order[SHOWN:] if trial in defaults]
    names = list(dict.fromkeys(name for trial in found.trials for name in trial.settings if name not in LEFT_OUT))
    rows = [
        {"trial": trial.number, "solver": trial.solver}
        | {name: short(trial.settings.get(name)) for name in names}
        | {"epochs": trial.epochs, "best": short(trial.best_epoch)}
        | {f"validation {measure.name}": short(measure.of(trial), ".4f"), "seconds": short(trial.seconds, ".1f")}
        | {"state": trial.state + (", defaults" if trial in defaults else "")}
        for trial in shown
    ]
    show_table(list(rows[0]), [list(row.values()) for row in rows])
    failed = [trial for trial in found.trials if trial.state == "failed"]
    if failed:
        first = f"the first, trial {failed[0].number}: {failed[0].error}"
        remark(f"note: {len(failed)} of {len(found.trials)} trials failed, {first}")
    if len(found.trials) < asked:
        why = "the time was up, or there was nothing else to try"
        remark(f"note: {len(found.trials)} of {asked} trials were run: {why}")
    reached = f"{figure(best)} on {found.validation:,} held-out ratings"
    if best is found.trials[0]:
        remark(f"nothing tried beats the defaults, {reached}; the command is:")
    else:
        theirs = (f"{trial.solver} {short(measure.of(trial), '.4f')}" for trial in defaults)
        remark(
            f"trial {best.number} is best, {reached} (defaults: {', '.join(theirs)});"
            f" as it was chosen by this {measure.name}, expect a little worse of other ratings; the command is:"
        )
    click.echo(command)
