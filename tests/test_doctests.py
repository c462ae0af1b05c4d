"""The examples in the docstrings do what they show."""

import doctest
import importlib
import pkgutil

import pytest

import fastmf

BIG = {"fastmf.datasets.twins.synthesize"}  # draws thousands of ratings


def examples():
    names = ["fastmf", *(m.name for m in pkgutil.walk_packages(fastmf.__path__, "fastmf."))]
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
