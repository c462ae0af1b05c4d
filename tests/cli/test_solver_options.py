"""Every setting of every solver is an option of fit, with its default in the help."""

import re
from dataclasses import fields

import click
import pytest

from fastmf.cli import cli
from fastmf.cli.bench import bench
from fastmf.cli.fit import fit
from fastmf.cli.solver_options import setting_names
from fastmf.cli.tune import tune
from fastmf.solvers import SOLVERS
from fastmf.solvers.declare import settings_of


def context(command):
    """The context of a command of fastmf; click keeps the command's --help as it is in the first one."""
    return click.Context(command, parent=click.Context(cli, **cli.context_settings))


def options_of(command):
    return {option.name: option for option in command.get_params(context(command))}


def sections(run):
    """Split the help of fit: title of a section to its text, in one line."""
    parts = re.split(r"^(\S.*):\n", run("fit", "--help").stdout, flags=re.MULTILINE)
    return {title: " ".join(text.split()) for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def default_in(text, solver):
    """Read the default of a setting from its help; None if there is none."""
    found = re.search(r"\[default: (.*)\]$", text)
    if found is None:
        return None
    first, *others = found[1].split(", ")
    return dict(each.rsplit(" ", 1) for each in others).get(solver, first)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_setting_is_an_option_of_fit_with_its_default_in_the_help(solver):
    options, given = options_of(fit), fit.make_context("fit", ["r.parquet"]).params
    settings = settings_of(SOLVERS[solver])
    assert list(settings) == [field.name for field in fields(SOLVERS[solver])]
    assert set(settings) <= setting_names()
    for name, setting in settings.items():
        option, dashed = options[name], name.replace("_", "-")
        assert given[name] is None, "only an option that is given changes the solver's own default"
        if setting.kind is bool:
            assert (option.is_flag, option.flag_value) == (True, not setting.default)
            assert option.opts == [f"--no-{dashed}" if setting.default else f"--{dashed}"]
            assert option.help == (f"Do not {uncapitalised(setting.help)}" if setting.default else setting.help)
            continue
        assert option.opts == [f"--{dashed}"]
        assert tuple(getattr(option.type, "choices", ())) == setting.choices
        default = f"{setting.default:g}" if isinstance(setting.default, float) else setting.usual or setting.default
        assert default_in(option.help, solver) == (None if default is None else str(default)), name
        first = next(settings_of(kind)[name] for kind in SOLVERS.values() if name in settings_of(kind))
        assert (first.kind, first.choices) == (setting.kind, setting.choices), name
        assert option.help.startswith(first.help)


def uncapitalised(text):
    return text[0].lower() + text[1:]


def test_settings_stand_in_the_section_of_the_solvers_that_have_them(run):
    found = sections(run)
    assert "--solver [als|als-links|sgd|gibbs|implicit]" in found["Model"]
    assert not any("RATINGS" in text.split() for text in found.values())
    sizes = [title.count(",") for title in found if title.startswith("Settings of ")]
    assert sizes == sorted(sizes, reverse=True)
    for name in setting_names():
        holders = [solver for solver, kind in SOLVERS.items() if name in settings_of(kind)]
        (word,) = options_of(fit)[name].opts
        where = [title for title, text in found.items() if f" {word} " in f" {text} "]
        assert where == [f"Settings of {', '.join(holders)}"]


def test_options_stand_under_headings(run):
    found = sections(run)
    titles = list(found)
    settings = [title for title in titles if title.startswith("Settings of ")]
    assert titles == ["Input", "Model", *settings, "Training", "Output", "Options"]
    assert found["Options"] == "-h, --help Show this message and exit."  # no option is left without a heading
    for title, words in {
        "Input": ["--user COLUMN", "--min-item-ratings N", "--bad-rows"],
        "Model": ["--blend", "--init MODEL"],
        "Training": ["--validation", "--resume", "--threads", "--memory-limit"],
        "Output": ["--output MODEL", "--overwrite", "--json"],
    }.items():
        assert all(word in found[title] for word in words)


@pytest.mark.parametrize("command", [fit, tune, bench], ids=["fit", "tune", "bench"])
def test_the_help_shows_every_option_once(command, run):
    text = run(command.name, "--help").stdout
    shown = re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, flags=re.MULTILINE)
    options = [option for option in command.get_params(context(command)) if isinstance(option, click.Option)]
    assert sorted(shown) == sorted(
        {f"--{word.strip('-')}" for option in options for word in option.opts if len(word) > 2}
    )


@pytest.mark.parametrize("command", [fit, tune, bench], ids=["fit", "tune", "bench"])
def test_no_option_is_there_twice(command):
    words = [word for option in command.get_params(context(command)) for word in option.opts]
    assert len(words) == len(set(words))


def test_fit_and_bench_offer_every_solver_by_name():
    assert list(options_of(fit)["solver"].type.choices) == list(SOLVERS)
    measured = [label for kind in SOLVERS.values() if not kind.implicit for label in kind.variants]
    assert list(options_of(bench)["solvers"].type.choices) == measured
    assert {name for name, kind in SOLVERS.items() if not kind.implicit} <= set(measured)


def test_tune_offers_the_settings_that_all_trials_share():
    assert {"epochs", "positive_from", "k", "max_k", "weight"} <= set(options_of(tune))
    assert "lr" not in options_of(tune)
