"""The examples in the docstrings do what they show."""

import doctest
import importlib
import importlib.util
import pkgutil

import pytest

import fastmf

NEEDS = {"fastmf.sklearn": "sklearn"}  # packages whose modules need another, which may be missing
BIG = {"fastmf.datasets.twins.synthesize"}  # draws thousands of ratings


def examples():
    missing = tuple(name for name, needed in NEEDS.items() if importlib.util.find_spec(needed) is None)
    found = pkgutil.walk_packages(fastmf.__path__, "fastmf.")
    names = ["fastmf", *(each.name for each in found if not each.name.startswith(missing))]
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in names:
        if name == "fastmf.__main__":  # runs the command line
            continue
        for example in finder.find(importlib.import_module(name)):
            if example.examples:
                yield pytest.param(example, id=example.name, marks=[pytest.mark.big] if example.name in BIG else [])


@pytest.mark.parametrize("example", list(examples()))
def test_docstring_example(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(example, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


def test_there_are_examples():
    names = {example.id for example in examples()}
    assert names >= {"fastmf.training.fit.fit", "fastmf.data.ratings.Ratings", "fastmf.evaluation.metrics.rmse", *BIG}
