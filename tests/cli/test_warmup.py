"""``fastmf warmup``: no command compiles anything afterwards."""

import json
import subprocess
import sys

import pytest

from fastmf.kernels.compile import ENABLED

# Runs commands, and prints for how many more types each kernel was then compiled, or loaded from the cache.
SCRIPT = """
import contextlib, gc, io, json, sys
from collections import Counter
from numba.core.dispatcher import Dispatcher
from fastmf.cli import cli

def compiled():
    found = [each for each in gc.get_objects() if issubclass(type(each), Dispatcher)]
    return Counter({f"{each.__module__}.{each.__qualname__}": len(each.signatures) for each in found})

commands = json.loads(sys.argv[1])
for place, words in enumerate(commands):
    with contextlib.redirect_stdout(io.StringIO()) as stdout:
        cli.main(words, standalone_mode=False)
    if place == 0:
        before = compiled()
print(json.dumps([stdout.getvalue(), len(before), dict(compiled() - before)]))
"""


@pytest.mark.skipif(not ENABLED, reason="nothing is compiled without the JIT")
def test_after_a_warmup_nothing_is_compiled(tmp_path):
    how = ["--k", "5", "--epochs", "1", "--validation", "0.1", "--overwrite"]
    solvers = ["als", "als --method cg", "sgd --schedule hogwild", "sgd --adaptive", "sgd"]
    commands = [
        ["warmup", "--k", "5"],
        ["synth", "r.parquet", "--scale", "0.05"],
        *(["fit", "r.parquet", "--solver", *solver.split(), *how] for solver in solvers),
        ["recommend", "r.fastmf", "--user", "1"],
        ["recommend", "r.fastmf", "--new-users", "r.parquet"],
        ["similar", "r.fastmf", "1"],
        ["evaluate", "r.fastmf", "r.parquet"],
        ["predict", "r.fastmf", "r.parquet", "-o", "p.parquet"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands)], cwd=tmp_path, capture_output=True, encoding="utf-8",
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    last, kernels, more = json.loads(done.stdout)
    assert last == "p.parquet\n"
    assert kernels > 30
    assert more == {}


def test_warmup_names_the_folder_of_the_cache(run, monkeypatch):
    monkeypatch.setattr("fastmf.training.warmup.warmup", lambda k: 1.0)
    monkeypatch.setattr("fastmf.kernels.compile.ENABLED", True)
    monkeypatch.setattr("fastmf.kernels.compile.cache_folder", lambda: "somewhere")
    done = run("warmup", "--k", 5)
    assert (done.stdout, done.stderr) == ("somewhere\n", "all kernels are ready (1.0 s), kept in:\n")
    monkeypatch.setattr("fastmf.kernels.compile.cache_folder", lambda: None)
    done = run("warmup")
    assert done.stdout == ""
    assert "nothing was kept" in done.stderr
