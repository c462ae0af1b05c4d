"""The options that depend on the solvers: their names and their settings.

They are made from the fields of the solvers' dataclasses, and only when they are needed: other commands do not import
the solvers.
"""

import functools
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from fastmf.cli.options import INPUT, MODEL, OUTPUT, TRAINING

if TYPE_CHECKING:
    from fastmf.solvers.declare import Setting

OPTIONS = "Options"  # the section of options without a heading
Sections = dict[str, list[click.Parameter]]  # title in the help to options


class SolverCommand(click.Command):
    """A command with further options, which ``make_options`` makes when they are first needed."""

    def __init__(self, *args: Any, make_options: Callable[[], Sections], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections: Callable[[], Sections] = functools.cache(make_options)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the options of all sections, and the command's own parameters with --help at the end."""
        further = [option for options in self.sections().values() for option in options]
        return [*further, *super().get_params(ctx)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options section by section: input, model and its settings, training, output, the rest."""
        further = self.sections()
        sections: Sections = {INPUT: [], MODEL: [], **{title: [] for title in further if title != OPTIONS}}
        sections |= {TRAINING: [], OUTPUT: [], OPTIONS: []}
        for title, options in further.items():
            sections[title] += options
        for option in super().get_params(ctx):
            sections[getattr(option, "heading", OPTIONS)].append(option)
        for title, options in sections.items():
            records = [option.get_help_record(ctx) for option in options if isinstance(option, click.Option)]
            if records:
                with formatter.section(title):
                    formatter.write_dl([record for record in records if record is not None])


def fit_options() -> Sections:
    """Return --solver, and an option for each setting, grouped by the solvers that have it."""
    from fastmf.solvers import DEFAULT, SOLVERS

    solver = click.Option(["--solver"], type=click.Choice(list(SOLVERS)), default=DEFAULT, show_default=True,
                          help="How to fit.")  # fmt: skip
    return {MODEL: [solver], **_settings()}


def tune_options() -> Sections:
    """Return the options for settings that every trial may share."""
    shared = ("epochs", "positive_from", "negative_to")
    return {MODEL: [o for options in _settings().values() for o in options if o.name in shared]}


def plan_options() -> Sections:
    """Return --solver, for those that solve rows exactly or by conjugate gradients, and what their costs depend on."""
    from fastmf.solvers import SOLVERS
    from fastmf.solvers.base import ExactOrCG

    names = [name for name, kind in SOLVERS.items() if issubclass(kind, ExactOrCG)]
    solver = click.Option(["--solver"], type=click.Choice(names), default=names[0], show_default=True,
                          help="How to fit.")  # fmt: skip
    shared = ("k", "method", "steps")
    return {MODEL: [solver, *(o for options in _settings().values() for o in options if o.name in shared)]}


def bench_options() -> Sections:
    """Return --solver: the variants of the solvers that the benchmark measures."""
    from fastmf.solvers import VARIANTS

    solver = click.Option(["--solver", "solvers"], multiple=True, type=click.Choice(list(VARIANTS)),
                          help="Solver to measure; may be repeated.  [default: als and sgd]")  # fmt: skip
    return {OPTIONS: [solver]}


def setting_names() -> set[str]:
    """Return the names of all settings of all solvers."""
    return {str(option.name) for options in _settings().values() for option in options}


@functools.cache
def _settings() -> Sections:
    """Return an option for each setting; a section for each group of solvers, the largest first."""
    from fastmf.solvers import SOLVERS
    from fastmf.solvers.declare import settings_of

    holders: dict[str, dict[str, Setting]] = defaultdict(dict)
    for solver, kind in SOLVERS.items():
        for name, setting in settings_of(kind).items():
            holders[name][solver] = setting
    groups: dict[tuple[str, ...], list[click.Parameter]] = defaultdict(list)
    for name, by_solver in holders.items():
        groups[tuple(by_solver)].append(_option(name, by_solver))
    largest_first = sorted(groups.items(), key=lambda group: -len(group[0]))
    return {f"Settings of {', '.join(solvers)}": options for solvers, options in largest_first}


def _option(name: str, by_solver: "dict[str, Setting]") -> click.Option:
    """Return the option for a setting, which has the same type and help in all solvers that have it."""
    setting = next(iter(by_solver.values()))
    dashed, text = name.replace("_", "-"), setting.help
    if setting.kind is bool and setting.default:
        text = f"Do not {text[0].lower()}{text[1:]}"
        return click.Option([f"--no-{dashed}", name], is_flag=True, flag_value=False, default=None, help=text)
    if setting.kind is bool:
        return click.Option([f"--{dashed}", name], is_flag=True, flag_value=True, default=None, help=text)
    kind: Any = click.Choice(setting.choices) if setting.choices else setting.kind
    return click.Option([f"--{dashed}", name], type=kind, help=text + _defaults(by_solver))


def _defaults(by_solver: "dict[str, Setting]") -> str:
    """Describe the default of a setting: the first solver's, then those of solvers that differ; nothing for None."""
    texts = {
        solver: f"{each.default:g}" if isinstance(each.default, float) else each.usual or str(each.default)
        for solver, each in by_solver.items()
        if each.default is not None or each.usual
    }
    if not texts:
        return ""
    usual = next(iter(texts.values()))
    others = [f"{solver} {text}" for solver, text in texts.items() if text != usual]
    return f"  [default: {', '.join([usual, *others])}]"
