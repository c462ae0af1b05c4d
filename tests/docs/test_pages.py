"""The Python examples on the pages of docs/ run. One that needs a package which is not installed is skipped.

An example that begins with the name of a file, "# name.py", is written to that file.
"""

import ast
import csv
import re
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from fastmf.data.write import write_parquet

PAGES = Path(__file__).parents[2] / "docs"
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
    """A folder with ratings of 30 items by 60 users, 42 among them, in ratings.parquet, and titles.parquet."""
    rng = np.random.default_rng(0)
    users, items = np.divmod(rng.permutation(60 * 30)[:900], 30)
    values = 3 + np.sin(users) * np.cos(items) + np.sin(3 * items) + 0.2 * rng.standard_normal(900)
    ratings = {"user_id": users + 1, "item_id": items + 301, "rating": np.round(values.clip(1, 5) * 2) / 2}
    write_parquet(ratings, tmp_path / "ratings.parquet")
    titles = [f"Item {i}" for i in range(30)]
    write_parquet({"item_id": np.arange(301, 331), "title": titles}, tmp_path / "titles.parquet")
    return tmp_path


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
    if Path("items.csv").exists():
        with Path("items.csv").open(newline="", encoding="utf-8") as file:
            rows = [(int(item), np.array(text[1:-1].split(","), np.float32)) for item, text in csv.reader(file)]
        assert [item for item, _ in rows] == vectors.item_ids.to_pylist()
        np.testing.assert_array_equal([vector for _, vector in rows], vectors.items)


def check_mlflow(names):
    """The served model must give the lists of the model that it was made of."""
    expected = names["fastmf"].load("ratings.fastmf").recommend([42, 7], n=5)
    assert names["lists"].to_dict("list") == expected.to_dict("list")


CHECKS = {"vectors.md": check_vectors, "mlflow.md": check_mlflow}


def test_the_pages_hold_examples():
    assert {package for example in EXAMPLES["vectors.md"] for package in example.needs} >= {"faiss", "hnswlib"}
