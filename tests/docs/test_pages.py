"""The Python examples on the pages of docs/ run. One that needs a package which is not installed is skipped.

An example that begins with the name of a file, "# name.py", is written to that file.
"""

import ast
import csv
import gzip
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf.cli import cli
from fastmf.data.write import write_parquet

PAGES = Path(__file__).parents[2] / "docs"
METHODS = {"report": "matplotlib", "tune": "optuna"}  # what calls of fastmf need beside fastmf's own packages
ALWAYS_THERE = {"fastmf", "numpy", "pandas", "pyarrow", *sys.stdlib_module_names}


class Example(NamedTuple):
    """A fenced block of Python: where it stands, its source, and the packages it needs beside those of fastmf."""

    page: str
    line: int
    source: str
    needs: frozenset


def examples_of(page):
    """Yield the Python blocks of a page, in order; each needs the packages of those whose names it uses, too."""
    text, makers = (PAGES / page).read_text(encoding="utf-8"), {}
    for found in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        made, used, packages = names_in(found[1])
        needs = packages.union(*(makers[name] for name in used - made if name in makers))
        makers |= {name: needs for name in made if name not in makers or needs < makers[name]}
        yield Example(page, text[: found.start(1)].count("\n"), found[1], frozenset(needs))


def names_in(source):
    """Return the names that a source makes, those that it uses, and the packages it imports beside fastmf's own."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    aliases = [alias for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
    made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    made |= {(alias.asname or alias.name).split(".")[0] for alias in aliases}
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    packages = {"sklearn" if name == "fastmf.sklearn" else name.split(".")[0] for name in modules}
    packages |= {METHODS[node.attr] for node in nodes if isinstance(node, ast.Attribute) and node.attr in METHODS}
    return made, {node.id for node in names if isinstance(node.ctx, ast.Load)}, packages - ALWAYS_THERE


EXAMPLES = {page.name: list(examples_of(page.name)) for page in sorted(PAGES.glob("*.md"))}


def runs():
    """Yield what to run together: a page's examples with the same needs, after those that need less."""
    for page, examples in EXAMPLES.items():
        for needs in dict.fromkeys(example.needs for example in examples):
            last = max(place for place, example in enumerate(examples) if example.needs == needs)
            before = [example for example in examples[: last + 1] if example.needs <= needs]
            marks = [pytest.mark.filterwarnings("default")] if needs else []  # other packages may warn
            yield pytest.param(before, id="-".join([page, *sorted(needs)]), marks=marks)


@pytest.fixture
def files(tmp_path):
    """A folder with ratings of 30 items by 60 users, 42 among them, in ratings.parquet, and titles.parquet.

    The same ratings, of movies 1 to 30, are in the files that MovieLens ships, Last.fm's plays, and a zip archive.
    """
    rng = np.random.default_rng(0)
    users, items = np.divmod(rng.permutation(60 * 30)[:900], 30)
    values = 3 + np.sin(users) * np.cos(items) + np.sin(3 * items) + 0.2 * rng.standard_normal(900)
    ratings = {"user_id": users + 1, "item_id": items + 301, "rating": np.round(values.clip(1, 5) * 2) / 2}
    write_parquet(ratings, tmp_path / "ratings.parquet")
    titles = [f"Item {i}" for i in range(30)]
    write_parquet({"item_id": np.arange(301, 331), "title": titles}, tmp_path / "titles.parquet")
    write_movielens(users + 1, items + 1, ratings["rating"], tmp_path)
    return tmp_path


def write_movielens(users, items, values, folder):
    """Write ratings and titles as MovieLens ships them: ml-latest-small, ml-100k and ml-1m."""
    frame = pd.DataFrame(
        {"userId": users, "movieId": items, "rating": values, "timestamp": 964_000_000 + users * items}
    )
    frame.to_csv(folder / "ratings.csv", index=False)
    frame.assign(userId=users + 100).to_csv(folder / "ratings-2.csv", index=False)
    frame.to_csv(folder / "u.data", sep="\t", index=False, header=False)
    films = pd.DataFrame({"movieId": range(1, 31), "title": [f"Film {n} ({1990 + n})" for n in range(1, 31)]})
    films["genres"] = np.resize(["Comedy", "Drama", "Comedy|Drama", "Action"], 30)
    films.to_csv(folder / "movies.csv", index=False)
    rest = "|01-Jan-1995||http://us.imdb.com/M/|" + "|".join("0" * 19)
    lines = [f"{n}|{title.replace('Film 3', 'Misérables, Les')}{rest}\n" for n, title in films.iloc[:, :2].to_numpy()]
    (folder / "u.item").write_text("".join(lines), encoding="latin-1")
    plays = frame.assign(name="An artist", plays=(2 * values).astype(int))[["userId", "movieId", "name", "plays"]]
    plays.to_csv(folder / "usersha1-artmbid-artname-plays.tsv", sep="\t", index=False, header=False)
    with zipfile.ZipFile(folder / "ml-latest-small.zip", "w") as archive:
        archive.write(folder / "ratings.csv", "ml-latest-small/ratings.csv")


@pytest.mark.parametrize("examples", list(runs()))
def test_examples_run(examples, files, monkeypatch):
    monkeypatch.chdir(files)
    for package in sorted(set().union(*(example.needs for example in examples))):
        pytest.importorskip(package)
    names = {"__name__": "page"}
    for example in examples:
        file = re.match(r"# (\w+\.py)\n", example.source)
        if file:
            Path(file[1]).write_text(example.source, encoding="utf-8")
            continue
        padding = "\n" * example.line  # so that errors name the line of the page
        exec(compile(padding + example.source, str(PAGES / example.page), "exec"), names)
        if example.page in CHECKS:
            CHECKS[example.page](names)


def check_vectors(names):
    """Every index must give the list that recommend gives; text and Parquet must hold the vectors as they are."""
    model, vectors = names["model"], names["vectors"]
    assert names["best"] == model.recommend(42, include_seen=True)["item_id"].tolist()
    if "neighbours" in names:
        found = model.similar_items(307)  # some scores differ by less than float32's last digit
        assert sorted(names["neighbours"]) == sorted(found["similar_item_id"])
        np.testing.assert_allclose(np.sort(names["products"])[::-1][:10], found["score"], atol=1e-6)
    if Path("items.csv").exists():
        with Path("items.csv").open(newline="", encoding="utf-8") as file:
            rows = [(int(item), np.array(text[1:-1].split(","), np.float32)) for item, text in csv.reader(file)]
        assert [item for item, _ in rows] == vectors.item_ids.to_pylist()
        np.testing.assert_array_equal([vector for _, vector in rows], vectors.items)


def check_mlflow(names):
    """The served model must give the lists of the model that it was made of."""
    expected = names["fastmf"].load("ratings.fastmf").recommend([42, 7], n=5)
    assert names["lists"].to_dict("list") == expected.to_dict("list")


def check_movielens(names):
    """A file and a frame must give one model; old files, too, but for the titles of their items."""
    models = [names[name].content_hash for name in ("model", "same") if name in names]
    assert len(set(models)) == 1
    if "mine" in names:
        assert list(names["mine"])[:2] == ["userId", "movieId"]
    if "rmse" in names:
        assert names["rmse"] < names["baseline"] < 1
        assert 0 < names["ndcg"] < 1
    if "films" in names:
        assert names["films"].loc[2, "title"] == "Misérables, Les (1993)"
        assert (names["best"]["title"] != "").all()


def check_surprise(names):
    """Searches must find the setting with the lowest error, and every user must get ten items."""
    if "their_rmse" in names:
        assert names["rmse"] < names["their_rmse"] + 0.05
    if "grid" in names:
        assert names["best"] == names["grid"][min(names["scores"].items(), key=lambda pair: pair[1])[0]]
    if "of_42" in names:
        assert len(names["of_42"]) == 10
        assert names["top_n"].groupby("user_id").size().max() == 10


def check_lenskit(names):
    """Held-out rows must be those of the users sampled, five each."""
    if "their_best" in names:
        assert len(names["their_best"]) == 5
    if "found" in names:
        assert names["found"]["ranked_users"] == len(names["users"]) == 20
        assert len(names["test"]) == 100
    if "means" in names:
        assert np.isnan(names["means"].loc["implicit", "rmse"])
        assert 0 < names["means"].loc["implicit", "ndcg"] < 1


def check_fastai(names):
    """Biases and factors must belong to the titles; new users and movies must get finite answers."""
    if "their_loss" in names:
        assert 0 < names["their_loss"] < 10
    if "bias" in names:
        assert names["lowest"].iloc[0] == names["bias"].min()
        assert names["bias"].index.tolist() == sorted(f"Film {n} ({1990 + n})" for n in range(1, 31))
    if "plane" in names:
        assert names["plane"].shape == (30, 2)
    if "new" in names:
        assert np.isfinite(names["predicted"]["prediction"]).all()
        assert len(names["best"]) == 5


def check_implicit(names):
    """A matrix as it is, and its entries, must give one model."""
    if "entries" in names:
        assert names["model"].content_hash == names["entries"].content_hash
    if "new" in names:
        assert names["new"]["user_id"].tolist() == [1_000] * 5
    if "theirs" in names:
        assert len(names["their_ids"]) == len(names["item_ids"]) == 10
        assert names["their_similar"][0] == 3


def check_start(names):
    """The factors must beat the biases; ends, lists and the report must be there."""
    if "rmse" in names:
        assert names["rmse"] < names["biases"]
    if "loved" in names:
        assert len(names["loved"]) == len(names["loathed"]) == 8
        assert names["loved"]["coordinate"].min() > names["loathed"]["coordinate"].max()
    if "new" in names:
        assert len(names["new"]) == len(names["best_of_42"]) == 5
    if Path("report.html").exists():
        assert "Film 7" in Path("report.html").read_text(encoding="utf-8")


def check_solvers(names):
    """Standard deviations must be those of a Bayesian model; rankings must differ."""
    if "predicted" in names:
        assert (names["predicted"]["std"] > 0).all()
    if "chosen" in names:
        assert names["chosen"]["item_id"].tolist() != names["rated"]["item_id"].tolist()


def check_recommend(names):
    """One list, whoever asks for it."""
    if "ids" in names:
        assert names["ids"].tolist() == names["one"]["item_id"].tolist()
        assert len(names["everybody"]) == 5 * 60
    if "rest" in names:
        assert names["rest"] + names["reasons"]["contribution"].sum() == pytest.approx(names["score"])


def check_new(names):
    """New users and items must be known afterwards, and only there."""
    if "known" in names:
        assert 900 in names["known"].user_ids
        assert 900 not in names["model"].user_ids
    if "guess" in names:
        assert np.isfinite(names["guess"]["prediction"]).all()
    if "again" in names:
        assert 901 in names["tomorrow"].user_ids
        assert len(names["again"].history) == 2


def check_how(names):
    """What the page computes by hand must be the error of the model's predictions."""
    if "left" in names:
        ratings, model, user = names["ratings"], names["model"], names["user"]
        items = ratings.item_ids.take(names["items"]).to_pylist()
        predicted = model.predict(ratings.user_ids[user].as_py(), items)["prediction"]
        low, high = model.rating_range
        np.testing.assert_allclose(np.clip(names["given"] - names["left"], low, high), predicted, atol=1e-5)


def check_spark(names):
    """Our model, with biases, must not be worse than theirs."""
    if "theirs_rmse" in names and "rmse" in names:
        assert names["rmse"] < names["theirs_rmse"] + 0.05
        assert len(names["theirs_lists"]) == names["lists"]["user_id"].nunique()


def check_inputs(names):
    """Whatever holds the ratings, the model is the same."""
    assert len({model.content_hash for model in names["models"]}) == 1
    if "listened" in names:
        assert names["listened"].weight == "plays"
    if "counts" in names:
        assert (names["counts"]["read"], names["counts"]["used"]) == (4, 2)


CHECKS = {
    "how.md": check_how,
    "new.md": check_new,
    "recommend.md": check_recommend,
    "solvers.md": check_solvers,
    "spark.md": check_spark,
    "start.md": check_start,
    "fastai.md": check_fastai,
    "implicit.md": check_implicit,
    "inputs.md": check_inputs,
    "lenskit.md": check_lenskit,
    "mlflow.md": check_mlflow,
    "movielens.md": check_movielens,
    "surprise.md": check_surprise,
    "vectors.md": check_vectors,
}


# Console blocks that cannot run here, and why.
LEFT_OUT = {"gpu.md": "needs an NVIDIA GPU, and installs packages"}
COMMANDS = [page.name for page in sorted(PAGES.glob("*.md")) if "```console" in page.read_text(encoding="utf-8")]


def test_every_block_is_run_or_accounted_for():
    """Blocks of other languages: what is printed, start-up files (tests/cli/test_completion.py), servers."""
    others = {"text": None, "bash": "cli.md", "zsh": "cli.md", "fish": "cli.md", "sh": "cli.md", "sql": "vectors.md"}
    for page in sorted(PAGES.glob("*.md")):
        for language in re.findall(r"^```(\w*)\n.*?^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            assert language in ("python", "console") or others[language] in (None, page.name), (
                f"{page.name}: {language}"
            )


@pytest.mark.parametrize("page", COMMANDS)
def test_commands_run(page, files, monkeypatch, capsys):
    if page in LEFT_OUT:
        pytest.skip(f"{page}: {LEFT_OUT[page]}")
    text = (PAGES / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    commands = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    if any("unzip" in command for command in commands) and not shutil.which("unzip"):
        pytest.skip("a command on the page needs unzip")
    (files / "ratings.csv.gz").write_bytes(gzip.compress((files / "ratings.csv").read_bytes()))
    monkeypatch.chdir(files)
    if page == "cli.md":  # it goes on from the README
        fastmf.fit("ratings.parquet", k=2).save("ratings.fastmf")
        write_parquet({"item_id": [301], "title": ["Toy Story (1995)"]}, Path("titles.parquet"), overwrite=True)
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        for command in commands:
            if "|" in command:
                run_in_shell(command)
            elif not command.startswith("fastmf report") or importlib.util.find_spec("matplotlib"):
                cli(shlex.split(command)[1:], standalone_mode=False)
    expected = ["u.item has no header: its columns are taken as item, title"]
    assert [str(remark.message) for remark in remarks] == (expected if page == "movielens.md" else [])
    if page == "movielens.md":
        assert capsys.readouterr().out.count("Film ") >= 15


def run_in_shell(command):
    """Run a pipeline with this Python's fastmf."""
    path = os.pathsep.join([str(PAGES.parent), os.environ.get("PYTHONPATH", "")])
    source = command.replace("| fastmf ", f"| {shlex.quote(sys.executable)} -m fastmf ")
    done = subprocess.run(source, shell=True, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr


@pytest.mark.skipif("FASTMF_DATA_DIR" not in os.environ, reason="set FASTMF_DATA_DIR to check figures of MovieLens")
def test_figures_of_ml_latest_small_are_those_of_the_pages():
    folder = Path(os.environ["FASTMF_DATA_DIR"])
    movies = folder / "ml-latest-small-movies.parquet"
    if not movies.exists():
        pytest.skip("ml-latest-small is not there")
    ratings = pd.read_parquet(folder / "ml-latest-small.parquet")
    lists = fastmf.fit(ratings, solver="implicit")
    shown = (PAGES / "movielens.md").read_text(encoding="utf-8")
    for title in lists.similar_items(318, 5, titles=movies)["title"]:
        assert title in shown
    train, test = fastmf.split(ratings, seed=0)
    found = fastmf.evaluate(fastmf.fit(train), test)
    ranked = fastmf.evaluate(fastmf.fit(train, solver="implicit"), test)
    figures = found["rmse"], found["rmse_of_biases"], ranked["ndcg"], ranked["popularity"]["ndcg"]
    place = shown.index("On `ml-latest-small` this gives")
    assert [float(each) for each in re.findall(r"0\.\d+", shown[place:])[:4]] == pytest.approx(figures, abs=2e-3)


def test_the_pages_hold_examples():
    assert {package for example in EXAMPLES["vectors.md"] for package in example.needs} >= {"faiss", "hnswlib"}


@pytest.mark.skipif("FASTMF_DATA_DIR" not in os.environ, reason="set FASTMF_DATA_DIR to check figures of MovieLens")
def test_the_tutorial_tells_what_ml_latest_small_shows(tmp_path, monkeypatch):
    folder = Path(os.environ["FASTMF_DATA_DIR"])
    movies = folder / "ml-latest-small-movies.parquet"
    if not movies.exists():
        pytest.skip("ml-latest-small is not there")
    page = (PAGES / "start.md").read_text(encoding="utf-8")
    pd.read_parquet(folder / "ml-latest-small.parquet").to_csv(tmp_path / "ratings.csv", index=False)
    pd.read_parquet(movies).to_csv(tmp_path / "movies.csv", index=False)
    monkeypatch.chdir(tmp_path)
    names = {}
    for example in EXAMPLES["start.md"]:
        if "matplotlib" not in example.needs:
            exec(example.source, names)
    said = [float(each) for each in re.findall(r"the two\s+are (0\.\d+) and (0\.\d+)", page)[0]]
    assert said == pytest.approx([names["rmse"], names["biases"]], abs=0.006)
    for side, films in (
        ("loved", ("Streetcar Named Desire", "Wallace")),
        ("loathed", ("Wild Wild West", "Godzilla", "Batman")),
    ):
        assert all(film in " ".join(names[side]["title"]) for film in films)
    ends, named = names["axes"], names["genres"]
    for axis, *cells in re.findall(r"^\| (\d) \| (.*) \| (.*) \| (.*) \| (.*) \|$", page, re.MULTILINE):
        of_axis, shown = ends[ends["axis"] == int(axis)], named[named["axis"] == int(axis)]
        sides = {end: " ".join(of_axis[of_axis["end"] == end]["title"]) for end in ("low", "high")}
        first = next(end for end, titles in sides.items() if cells[0].split(",")[0].removeprefix("The ") in titles)
        for end, titles, categories in ((first, *cells[:2]), ({"low": "high", "high": "low"}[first], *cells[2:])):
            assert all(title.removeprefix("The ") in sides[end] for title in titles.split(", "))
            there = set(shown[shown["end"] == end]["category"].str.removeprefix("genres="))
            assert set(categories.split(", ")) <= there
