"""The options that depend on the solvers: which of them, and their settings.

They are made from the fields of the solvers' dataclasses, and only when a command needs them, so that the others do
not import the solvers.
"""

import functools
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fastmf.solvers.declare import Setting

Sections = dict[str, list[click.Option]]  # title in the help to options


def lazy_command(make_options: Callable[[], Sections]) -> type[click.Command]:
    """Return a class of commands whose further options are made when they are first needed."""

    class LazyCommand(click.Command):
        def get_params(self, ctx: click.Context) -> list[click.Parameter]:
            further = [option for options in make_options().values() for option in options]
            return [*self.params, *further, *super().get_params(ctx)[len(self.params) :]]  # --help comes last

        def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
            own = [option for option in super().get_params(ctx) if isinstance(option, click.Option)]
            sections = make_options()
            for title, options in {**sections, "Options": [*sections.get("Options", []), *own]}.items():
                records = [record for option in options if (record := option.get_help_record(ctx)) is not None]
                with formatter.section(title):
                    formatter.write_dl(records)

    return LazyCommand


@functools.cache
def fit_options() -> Sections:
    """Return --solver, and an option for each setting, grouped by the solvers that have it."""
    from fastmf.solvers import SOLVERS

    solver = click.Option(["--solver"], type=click.Choice(list(SOLVERS)), default="als", show_default=True,
                          help="How to fit.")  # fmt: skip
    return {"Options": [solver], **_settings()}


@functools.cache
def tune_options() -> Sections:
    """Return the options for settings that every trial may share."""
    shared = ("epochs", "positive_from")
    return {"Options": [o for options in _settings().values() for o in options if o.name in shared]}


@functools.cache
def bench_options() -> Sections:
    """Return --solver, for what the benchmark calls the solvers and their variants."""
    from fastmf.solvers import SOLVERS

    labels = [label for solver in SOLVERS.values() if not solver.implicit for label in solver.variants]
    solver = click.Option(["--solver", "solvers"], multiple=True, type=click.Choice(labels),
                          help="Solver to measure, once or more.  [default: als and sgd]")  # fmt: skip
    return {"Options": [solver]}


def setting_names() -> set[str]:
    """Return the names of all settings."""
    return {str(option.name) for options in _settings().values() for option in options}


@functools.cache
def _settings() -> Sections:
    from fastmf.solvers import SOLVERS
    from fastmf.solvers.declare import settings_of

    holders: dict[str, dict[str, Setting]] = defaultdict(dict)
    for solver, kind in SOLVERS.items():
        for name, found in settings_of(kind).items():
            holders[name][solver] = found
    groups: dict[tuple[str, ...], list[click.Option]] = defaultdict(list)
    for name, by_solver in holders.items():
        groups[tuple(by_solver)].append(_option(name, by_solver))
    largest_first = sorted(groups.items(), key=lambda group: -len(group[0]))
    return {f"Settings of {', '.join(solvers)}": options for solvers, options in largest_first}


def _option(name: str, by_solver: "dict[str, Setting]") -> click.Option:
    """Return the option for a setting, which has the same kind and help in all solvers that have it."""
    setting = next(iter(by_solver.values()))
    dashed, text = name.replace("_", "-"), f"{setting.help}{_defaults(by_solver)}"
    if setting.kind is bool:
        flag = f"--no-{dashed}" if setting.default else f"--{dashed}"
        verb = f"Do not {text[0].lower()}{text[1:]}" if setting.default else text
        return click.Option([flag, name], is_flag=True, flag_value=not setting.default, default=None, help=verb)
    kind: Any = click.Choice(setting.choices) if setting.choices else setting.kind
    return click.Option([f"--{dashed}", name], type=kind, help=text)


def _defaults(by_solver: "dict[str, Setting]") -> str:
    """Describe the default of a setting, by solver if they differ; nothing for flags and for None."""
    texts = {
        solver: f"{each.default:g}" if isinstance(each.default, float) else str(each.default)
        for solver, each in by_solver.items()
        if each.default is not None and each.kind is not bool
    }
    if not texts:
        return ""
    usual, times = Counter(texts.values()).most_common(1)[0]
    if times == 1 < len(texts):
        return f"  [default: {', '.join(f'{solver} {text}' for solver, text in texts.items())}]"
    others = [f"{solver} {text}" for solver, text in texts.items() if text != usual]
    return f"  [default: {', '.join([usual, *others])}]"
