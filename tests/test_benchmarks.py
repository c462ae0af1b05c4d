"""The scripts in benchmarks/, each through a real subprocess; fastmf alone, so that nothing is installed."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastmf import Ratings, tables

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(script, *arguments, code=0):
    """Without the compiler: speed is not the question."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / script, *map(str, arguments)],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def file(tmp_path):
    users, items = np.divmod(np.random.default_rng(3).permutation(20 * 30)[:300], 30)
    rows = {"user": users, "item": items, "rating": np.float32(1 + (users * items) % 9 / 2)}
    tables.write_parquet(rows, tmp_path / "some.parquet")
    return tmp_path / "some.parquet"


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("peers")


@pytest.mark.parametrize("script", ["peers.py", "scaling.py", "startup.py", "defaults.py", "ingest.py"])
def test_scripts_have_help(script):
    assert "benchmarks/README.md" in run(script, "--help").stdout


@pytest.mark.skipif(os.name == "nt", reason="makes a virtual environment out of a symbolic link")
def test_fastmf_alone_and_a_peer_that_fails(file, peers, tmp_path):
    folder = tmp_path / "venvs" / "implicit"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "installed.json").write_text(json.dumps(peers.PEERS["implicit-cg"].requires))
    few = ("--k", 2, "--threads", 1, "--rounds", 1, "--epochs", "fastmf-als=2", "--epochs", "fastmf-sgd=2")
    options = ("--dataset", file, "--venvs", tmp_path / "venvs", *few)
    alone = run("peers.py", "--peer", "none", *options, "-o", tmp_path / "alone.json")
    report = json.loads((tmp_path / "alone.json").read_text())
    assert [line["name"] for line in report["summary"]] == ["fastmf-als", "fastmf-sgd"]
    assert report["data"] | {"data": "file", "ratings": 300, "training_ratings": 270} == report["data"]
    assert report["data"]["test_pairs"] + report["data"]["cold_pairs_left_out"] == 30
    for result in report["runs"]:
        assert result["epochs"] == len(result["seconds_of_epochs"]) == 2
        assert 0 < result["rmse"] < 5
        assert min(result[figure] for figure in peers.FIGURES) > 0
    assert [row.split()[0] for row in alone.stdout.splitlines()[1:3]] == ["fastmf-als", "fastmf-sgd"]
    run("peers.py", "--peer", "implicit-cg", *options, "-o", tmp_path / "failed.json")
    failed = json.loads((tmp_path / "failed.json").read_text())
    assert (failed["summary"], failed["runs"]) == ([], [])
    assert "No module named" in failed["peers"]["implicit-cg"]["failed"]
    assert "implicit-cg FAILED, round 1: ended with status 1" in "\n".join(failed["notes"])


def test_ratios_are_medians_of_rounds_and_above_one_where_fastmf_is_better(peers):
    def runs(name, seconds, speeds):
        others = {"version": "1", "epochs": 2, "load_seconds": None, "peak_memory_bytes": 4, "rmse": 0.9}
        for number, (second, speed) in enumerate(zip(seconds, speeds, strict=True)):
            figures = {"epoch_seconds": second, "training_seconds": second, "users_per_second": speed}
            yield {"round": number, "beside": "implicit-cg", "name": name, **figures, **others}

    line = peers.summarised(
        "implicit-cg", [*runs("implicit-cg", (2, 9, 40), (1, 1, 1)), *runs("fastmf-als", (1, 3, 10), (2, 3, 5))]
    )
    assert line["epoch_seconds"] == 9
    assert line["fastmf"]["epoch_seconds"] == 3
    assert line["ratios"] == {
        "epoch_seconds": 3, "training_seconds": 3, "load_seconds": None, "peak_memory_bytes": 1, "users_per_second": 3
    }  # fmt: skip
    assert [row[3:] for row in peers.rows_of(line)][2] == ["3x", "3x", "", "-", "1x", "3x"]


def test_mistakes_are_usage_errors(peers, file, tmp_path):
    with pytest.raises(peers.click.BadParameter, match="'libmf=1' is not NAME=N with N of 2 or more"):
        peers.asked_epochs(["libmf=1"])
    assert "is an input, or lies in one" in run("peers.py", "--dataset", file, "-o", file, code=1).stderr


def test_scaling_measures_each_point_once(tmp_path):
    few = ("--ratings", 2000, "--ratings", 9_000_000, "--max-ratings", 10_000, "--k", 2, "--threads", 1)
    effort = ("--epochs", 1, "--repeat", 1, "--users", 5)
    done = run("scaling.py", *few, *effort, "-o", tmp_path / "scaling.json")
    report = json.loads((tmp_path / "scaling.json").read_text())
    assert [point["sweep"] for point in report["points"]] == ["ratings", "k", "threads"]
    assert len({json.dumps(point["raw"]) for point in report["points"]}) == 1
    for point in report["points"]:
        assert (point["ratings"], point["k"], point["threads"], point["failed"]) == (2000, 2, 1, None)
        assert all(len(values) == 1 and values[0] > 0 for values in point["raw"].values())
    assert len(done.stdout.splitlines()) == 4


@pytest.mark.slow
def test_startup_times_every_command_first_and_later(file, tmp_path):
    told = run("startup.py", file, "--runs", 1, "-o", tmp_path / "startup.json")
    results = json.loads((tmp_path / "startup.json").read_text())["results"]
    assert list(results) == ["fit (als)", "fit (sgd)", "recommend", "evaluate", "--help", "warmup"]
    assert all(of["first_seconds"] > 0 and len(of["later_seconds"]) == 1 for of in results.values())
    assert all(name in told.stdout for name in results)


def test_the_defaults_are_among_what_is_tried(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    defaults = importlib.import_module("defaults")
    for solver, settings in defaults.TRIED.items():
        for setting, values in settings.items():
            assert defaults.default_of(solver, setting) in values


def test_settings_are_tried_and_put_back(monkeypatch, file):
    monkeypatch.syspath_prepend(BENCHMARKS)
    defaults = importlib.import_module("defaults")
    folds = list(Ratings.read(file).folds(2))
    quick = {"k": 2, "epochs": 2}
    usual = defaults.rmse("als", quick, folds)
    assert defaults.rmse("als", {**quick, "init": 1.0}, folds) != usual
    assert defaults.rmse("als", quick, folds) == usual


def test_ingest_reads_every_layout(file, tmp_path):
    layouts = ("--layout", "int32 sorted", "--layout", "text shuffled")
    shown = run("ingest.py", file, "--runs", 2, *layouts, "-o", tmp_path / "ingest.json").stdout
    assert [line.split()[:2] for line in shown.splitlines()[1:]] == [["int32", "sorted"], ["text", "shuffled"]]
    report = json.loads((tmp_path / "ingest.json").read_text())
    assert report["ratings"] == 300
    for found in report["results"].values():
        assert found["best"] <= found["total"]


def test_topn_measures_each_device_and_k(tmp_path):
    out = tmp_path / "topn.json"
    done = run("topn.py", "--device", "numpy", "--k", 2, "--k", 3, "--users", 20, "--items", 15, "--runs", 2, "-o", out)
    report = json.loads(out.read_text())
    assert [(result["device"], result["k"]) for result in report["results"]] == [("numpy", 2), ("numpy", 3)]
    assert all(result["users_per_second"] > 0 and len(result["seconds"]) == 2 for result in report["results"])
    assert len(done.stdout.splitlines()) == 3
