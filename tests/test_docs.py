"""The documents say what the code does: commands, examples, variables, files and the order of the packages."""

import ast
import importlib.util
import re
import shlex
import sys
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import fastmf
from fastmf.cli import cli, solver_options
from fastmf.cli.fit import fit
from fastmf.data.write import write_parquet
from fastmf.solvers import SOLVERS

ROOT = Path(__file__).parents[1]
README, CONTRIBUTING, SECURITY, BENCHMARKS = DOCUMENTS = [
    ROOT / name for name in ("README.md", ".github/CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md")
]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))  # tests/docs runs their examples
MAX_README = 150

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


def text_of(path):
    return path.read_text(encoding="utf-8")


def blocks(path, language):
    """List the fenced blocks of a language ("" for those without one)."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text_of(path), re.MULTILINE | re.DOTALL)
    return [body for name, body in found if name == language]


def prose_of(path):
    """Return a document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text_of(path), flags=re.MULTILINE | re.DOTALL)


def lines_of(path):
    """Yield the words of every shell command in the fenced blocks of a document, without prompts and comments."""
    for body in [block for language in ("bash", "console", "") for block in blocks(path, language)]:
        for line in body.splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            ends = [-1, *(n for n, word in enumerate(words) if word in ("&&", "2>")), len(words)]
            for before, end in pairwise(ends):
                yield words[before + 1 : end]


def commands_in(path):
    """Yield the arguments of every call of fastmf in the fenced blocks of a document."""
    for words in lines_of(path):
        calls = [n for n, word in enumerate(words) if word in ("fastmf", ".venv/bin/fastmf")]
        if calls:
            yield words[calls[-1] + 1 :]


def context_of(command, words=(), **how):
    """Return the context of a command of fastmf; click keeps the command's --help as it is in the first one."""
    return command.make_context(command.name, [*words], parent=click.Context(cli, **cli.context_settings), **how)


def options_of(command):
    parameters = command.get_params(context_of(command, resilient_parsing=True))
    return {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)}


@documents
def test_commands_have_real_options(document):
    for name, *words in commands_in(document):
        if "--help" not in words:
            context_of(cli.commands[name], words)  # raises a UsageError for what the command does not know


@pytest.mark.parametrize("document", [README, CONTRIBUTING, SECURITY], ids=lambda path: path.name)
def test_options_named_in_the_text_exist(document):
    known = set().union(*map(options_of, cli.commands.values()))
    named = {word for code in re.findall(r"`([^`]+)`", prose_of(document)) for word in re.findall(r"--[a-z-]+", code)}
    assert named
    assert named - known == set()


def test_scripts_of_the_benchmarks_have_the_options_shown():
    shown = [words for words in lines_of(BENCHMARKS) if words[:1] == ["python"]]
    assert len(shown) > 15
    common = text_of(ROOT / "fastmf" / "cli" / "options.py") + text_of(ROOT / "benchmarks" / "common.py")
    for _, script, *words in shown:
        source = text_of(ROOT / script) + common
        options = [word for word in words if word.startswith("-")]
        assert [word for word in options if not re.search(f'"(--)?{word.lstrip("-")}"|"{word}"', source)] == [], script


def test_the_documents_hold_commands():
    assert {name for name, *_ in commands_in(README)} >= {"synth", "fit", "recommend", "predict", "evaluate", "tune"}
    assert {name for name, *_ in commands_in(BENCHMARKS)} >= {"bench", "synth", "warmup"}
    assert {name for name, *_ in commands_in(CONTRIBUTING)} >= {"bench", "fit"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that the README's examples need: 60 users, 42 among them, and 30 items, 1 and 318 among them."""
    folder = tmp_path_factory.mktemp("readme")
    rng = np.random.default_rng(0)
    users, items = np.divmod(rng.permutation(60 * 30)[:900], 30)
    ids = np.append(np.arange(1, 30), 318)
    ratings = {"user_id": users + 1, "item_id": ids[items], "rating": rng.integers(1, 11, 900).astype(np.float32) / 2}
    write_parquet(ratings, folder / "ratings.parquet")
    new = {"user_id": np.array([900, 900]), "item_id": np.array([318, 1]), "rating": np.array([5.0, 2.5])}
    write_parquet(new, folder / "new.parquet")
    write_parquet({"user_id": np.array([42, 7]), "item_id": np.array([318, 2])}, folder / "pairs.parquet")
    write_parquet({"item_id": ids, "title": [f"Item {i}" for i in ids]}, folder / "titles.parquet")
    genres = ["Drama|War", "Comedy", "Drama"] * 10
    write_parquet({"item_id": ids, "genres": genres, "year": 1990 + ids % 7}, folder / "movies.parquet")
    write_parquet({"item_id": [901], "genres": ["War"], "year": [1995]}, folder / "new-movies.parquet")
    write_parquet({"user_id": np.arange(1, 61), "age": rng.integers(10, 90, 60)}, folder / "users.parquet")
    today = {"user_id": np.array([42, 900]), "item_id": np.array([2, 318]), "rating": np.array([4.0, 5.0])}
    write_parquet(today, folder / "today.parquet")
    write_parquet(ratings, folder / "all.parquet")
    named = pd.DataFrame(ratings).set_axis(["customer", "product", "stars"], axis=1)
    named.to_csv(folder / "reviews.csv.gz", index=False)
    return folder


SLOW = {"synth", "tune", "bench", "warmup"}  # tune is run by the Python example; tests/cli runs the others


@pytest.mark.big
def test_console_examples_of_the_readme_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (console,) = blocks(README, "console")
    ran = [words for words in commands_in(README) if shlex.join(words) in console and words[0] not in SLOW]
    assert len(ran) >= 10
    for words in ran:
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0, (words, result.output, result.exception)


@pytest.mark.big
def test_python_examples_of_the_readme_run(folder, monkeypatch, capsys):
    pytest.importorskip("optuna")
    monkeypatch.chdir(folder)
    tune, calls = fastmf.tune, []

    def tune_briefly(ratings, **arguments):
        calls.append(arguments)
        return tune(ratings, **{**arguments, "trials": 3, "k": 8})

    monkeypatch.setattr(fastmf, "tune", tune_briefly, raising=False)
    (example,) = blocks(README, "python")
    names = {"frame": pd.read_parquet("ratings.parquet"), "today": pd.read_parquet("today.parquet")}
    names["first_ratings"] = pd.DataFrame({"user_id": [42, 7], "item_id": [902, 902], "rating": [4.0, 5.0]})
    exec(compile(example, "README.md", "exec"), names)
    assert calls == [{"trials": 40}]
    assert len(capsys.readouterr().out.splitlines()) == 11  # an RMSE a fold and solver, and what pandas adds
    assert names["model"].k == 8  # of tune_briefly
    assert (len(names["ids"]), len(names["scores"])) == (10, 10)
    assert list(names["new"].user_ids) == ["ann"]


def test_the_readme_is_short():
    assert len(text_of(README).splitlines()) <= MAX_README


def test_the_first_two_bash_blocks_of_the_readme_are_what_ci_runs():
    start, test = blocks(README, "bash")[:2]
    assert "fastmf synth" in start
    assert "fastmf recommend" in start
    assert "pytest" in test


def test_the_order_of_the_packages_is_the_one_that_is_checked():
    source = text_of(ROOT / "tests" / "test_architecture.py")
    (order,) = re.findall(r"^ORDER = (\[.*?\])", source, re.MULTILINE | re.DOTALL)
    (line,) = [line for line in text_of(CONTRIBUTING).splitlines() if line.count(" < ") > 5]
    assert line.split() == " < ".join(ast.literal_eval(order)).split()


def section(path, title):
    """Return the text below a heading of the second level."""
    return text_of(path).split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_all_environment_variables_are_in_the_table_and_no_others():
    rows = [line for line in section(CONTRIBUTING, "Environment variables").splitlines() if line.startswith("| `")]
    table = {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row.split("|")[1])}
    files = [path for name in ("fastmf", "benchmarks", "tests") for path in (ROOT / name).rglob("*.py")]
    files += [ROOT / ".ci" / "run", ROOT / "pyproject.toml", ROOT / "benchmarks" / "gpu.sh"]
    used = set()
    for path in files:
        source = text_of(path)
        if path != Path(__file__):
            used |= set(re.findall(r"\b(?:FASTMF|NUMBA)_[A-Z_]+\b", source))
        if ROOT / "fastmf" in path.parents:
            used |= set(re.findall(r"""environ(?:\.get\(|\[)"(\w+)""", source))
    assert table == used


def paths_in(document):
    """List what a document names as a file or folder of the repository, in backticks or as the target of a link."""
    prose = prose_of(document)
    links = [target.split("#")[0] for target in re.findall(r"\]\(([^)]+)\)", prose) if "://" not in target]
    folders = {path.name for root in (ROOT, ROOT / "fastmf") for path in root.iterdir() if path.is_dir()}
    for name in re.findall(r"`([\w./-]+)`", prose):
        in_folder = "/" in name and name.split("/")[0] in folders | {"results"}
        if in_folder or name.endswith((".py", ".md", ".sh", ".toml", ".yml")):
            yield name
    yield from filter(None, links)


@documents
def test_files_named_exist(document):
    places = [document.parent, ROOT, ROOT / "fastmf", ROOT / "benchmarks"]
    named = list(paths_in(document))
    assert named or document.parent.name == "docs"
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


@documents
def test_links_lead_to_headings(document):
    for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", text_of(document)):
        there = document.parent / target if target else document
        headings = re.findall(r"^#+ (.*)$", text_of(there), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture
def example_solver(tmp_path, monkeypatch):
    """The class that CONTRIBUTING's diff adds, entered in SOLVERS as the diff does."""
    (diff,) = blocks(CONTRIBUTING, "diff")
    table, added = diff.split("--- /dev/null\n")
    there = text_of(ROOT / "fastmf" / "solvers" / "__init__.py").splitlines()
    lines = [line for line in table.splitlines() if not line.startswith(("---", "+++", "@@"))]
    assert [line for line in lines if line[:1] in (" ", "-") and line[1:] not in there] == []
    lines = [line[1:] for line in added.splitlines() if line.startswith("+") and not line.startswith("+++")]
    path = tmp_path / "plain.py"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    spec = importlib.util.spec_from_file_location("plain", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "plain", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    monkeypatch.setitem(SOLVERS, "als-plain", module.PlainALS)
    # the command keeps its options once they are made
    monkeypatch.setattr(fit, "sections", solver_options.fit_options)
    solver_options._settings.cache_clear()
    yield module.PlainALS
    solver_options._settings.cache_clear()


@pytest.mark.big
def test_the_example_solver_does_what_contributing_says(example_solver, folder, monkeypatch):
    pytest.importorskip("optuna")
    monkeypatch.chdir(folder)
    words = shlex.split("fit ratings.parquet --solver als-plain --k 4 -o plain.fastmf --checkpoint state")
    assert CliRunner().invoke(cli, words).exit_code == 0
    model, plain = fastmf.load("plain.fastmf"), fastmf.fit("ratings.parquet", 4, "als", momentum=0.0)
    np.testing.assert_array_equal(model.user_factors, plain.user_factors)
    np.testing.assert_array_equal(model.item_factors, plain.item_factors)
    assert model.fold_in("new.parquet").recommend(900, n=3)["rank"].tolist() == [1, 2, 3]
    assert re.search(r"Settings of .*\bals-plain\b", CliRunner().invoke(cli, ["fit", "--help"]).output)
    assert fastmf.tune("ratings.parquet", solver="als-plain", trials=2, k=4).best.solver == "als-plain"


def test_messages_advise_what_a_clone_can_install():
    """fastmf may not be on PyPI: messages name the packages of an extra, which pip finds from anywhere."""
    package = README.parent / "fastmf"
    for path in sorted(package.rglob("*.py")):
        assert not re.search(r"pip install .{0,3}fastmf", path.read_text(encoding="utf-8")), path
