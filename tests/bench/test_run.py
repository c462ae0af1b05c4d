import json
import math
import signal
import subprocess
import sys

import numpy as np
import pytest

from fastmf.bench import run as bench
from fastmf.bench.report import table
from fastmf.data.write import write_parquet
from fastmf.datasets import movielens, twins
from fastmf.errors import DataError, DeviceUnavailableError, ParameterError, ResourceError
from fastmf.kernels.compile import ENABLED
from fastmf.solvers import SOLVERS, VARIANTS

CASES = [("als", "numpy"), ("als", "cpu"), ("sgd", "numpy"), ("sgd", "cpu")]


@pytest.fixture(scope="module")
def lines():
    return []


@pytest.fixture(scope="module")
def report(file, lines, cases_here):
    with cases_here():
        return bench.run([file], k=4, threads=1, epochs=2, progress=lines.append)


@pytest.fixture(scope="module")
def result_of_child(file):
    """The result of a case that had a process of its own."""
    report = bench.run([file], k=4, threads=1, epochs=2, solvers=["als"], devices=["cpu"])
    (result,) = report["results"]
    return result


def test_every_solver_runs_on_every_device(report, file):
    results = report["results"]
    assert [(result["solver"], result["device"]) for result in results] == CASES
    for result in results:
        assert (result["dataset"], result["data"], result["threads"]) == (file, "file", 1)
        assert (result["users"], result["items"], result["ratings"]) == (40, 50, 800)
        assert result["training_ratings"] == 720
        assert result["load_seconds"] > 0
        assert result["share_of_peak"] > 0
        assert result["share_of_bandwidth"] > 0
        peak = result["limits"]["flops_per_second"]
        assert result["flops_per_second"] == pytest.approx(result["share_of_peak"] * peak)
        assert result["seconds_to_rmse"] is None
        assert result["compile_seconds"] >= 0
        assert result["sampled_ratings"] is None
        assert result["epochs"] == result["full_epochs"] == len(result["epoch_seconds"]) == 2
        assert 0 < result["epoch_seconds_min"] == min(result["epoch_seconds"]) <= result["epoch_seconds_median"]
        assert result["ratings_per_second"] == pytest.approx(720 / result["epoch_seconds_median"])


def test_devices_agree_on_the_rmse(report):
    for plain, fast in (report["results"][:2], report["results"][2:]):
        assert math.isfinite(plain["rmse"])
        assert fast["rmse"] == pytest.approx(plain["rmse"], rel=1e-4)
        ratio = plain["epoch_seconds_median"] / fast["epoch_seconds_median"]
        assert fast["speedup_over_numpy"] == pytest.approx(ratio)


def test_a_process_of_its_own_measures_the_same(report, result_of_child):
    assert result_of_child.keys() == report["results"][1].keys()
    assert result_of_child["rmse"] == report["results"][1]["rmse"]
    assert result_of_child["epochs"] == 2
    assert 0 < result_of_child["share_of_peak"] < 1


@pytest.mark.skipif(not ENABLED, reason="nothing is compiled")
def test_compile_time_is_measured_from_an_empty_cache(result_of_child):
    assert result_of_child["compile_seconds"] > 0.05


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not report the peak memory")
def test_peak_memory_is_that_of_a_python_with_numba(result_of_child):
    assert 2**26 < result_of_child["peak_memory_bytes"] < 2**31


def test_blas_runs_on_as_many_threads(result_of_child):
    pytest.importorskip("threadpoolctl")
    assert result_of_child["blas"]
    assert all(blas["threads"] == 1 for blas in result_of_child["blas"])


def test_report_names_machine_versions_and_settings(report):
    assert report["machine"]["cpu"]
    assert report["machine"]["cores"] >= 1
    assert set(report["versions"]) == {"python", "numba", "llvmlite", "numpy", "pyarrow", "fastmf"}
    assert report["settings"]["k"] == 4
    assert report["settings"]["solvers"]["als"]["epochs"] == 2
    assert json.loads(json.dumps(report)) == report


def test_progress_names_cases_and_stages(report, lines, file):
    assert lines[0] == f"{file}, als, numpy: compiling"
    assert lines[1] == f"{file}, als, numpy: measuring"
    assert len(lines) == 3 * len(CASES)


def test_every_variant_of_a_solver_of_ratings_can_be_measured():
    for name, kind in SOLVERS.items():
        for label, settings in {} if kind.implicit else kind.variants.items():
            assert VARIANTS[label] == (name, dict(settings))
            assert bench._solver(label, 4, 3).epochs == 3
    assert "implicit" not in VARIANTS


def test_a_set_that_is_not_at_hand_is_replaced_by_its_twin(tmp_path, cases_here):
    with cases_here() as patch:
        patch.setitem(twins.TWINS, "ml-latest-small", twins.Shape(users=15, items=120, ratings=600, cap=90))
        patch.setattr(movielens, "cache_directory", lambda: tmp_path)
        patch.delenv("FASTMF_DATA_DIR", raising=False)
        said = []
        how = {"k": 2, "solvers": ["sgd-hogwild"], "devices": ["cpu"], "epochs": 1, "progress": said.append}
        report = bench.run(["ml-latest-small"], **how)
    (result,) = report["results"]
    assert said[0] == "ml-latest-small is not found: drawing its synthetic twin"
    assert (result["data"], result["ratings"], result["speedup_over_numpy"]) == ("twin (seed 0)", 600, None)
    assert table(report)[1][0][0] == "ml-latest-small twin (seed 0)"
    assert "not the real data: synthetic ml-latest-small twin" in report["notes"][0]


@pytest.mark.parametrize(
    ("rating", "error", "words"),
    [
        (np.nan, DataError, r"bench of .*, als, numpy: .*bad\.parquet: column 'rating' has 1 of 2"),
        (None, OSError, r"bench of .*bad\.parquet.*cannot be read as Parquet"),
    ],
    ids=["a bad rating", "no Parquet"],
)
def test_bad_ratings_end_the_run_with_the_case_named(tmp_path, cases_here, rating, error, words):
    path = tmp_path / "bad.parquet"
    if rating is None:
        path.write_bytes(b"PAR1")
    else:
        write_parquet({"user": [1, 2], "item": [1, 2], "rating": [1.0, rating]}, path)
    with cases_here(), pytest.raises(error, match=words):
        bench.run([str(path)], k=2)


def test_a_child_that_breaks_shows_its_stderr(file, monkeypatch):
    monkeypatch.setattr(bench, "CHILD", "import sys; sys.exit('no luck')")
    with pytest.raises(RuntimeError, match=r"some\.parquet, als, numpy: the process ended with status 1\nno luck"):
        bench.run([file])


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_child_that_is_killed_is_told_from_one_that_fails(file, monkeypatch):
    monkeypatch.setattr(bench, "CHILD", f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")
    with pytest.raises(ResourceError, match="ended by signal 9, most likely for lack of memory"):
        bench.run([file])


def test_an_interrupt_ends_the_child(file, monkeypatch):
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)

    def interrupt(line):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Popen)
    monkeypatch.setattr(bench, "CHILD", "import time; print('compiling', flush=True); time.sleep(60)")
    with pytest.raises(KeyboardInterrupt):
        bench.run([file], progress=interrupt)
    assert [process.returncode is not None for process in started] == [True]


def test_mistakes_are_found_before_anything_runs(monkeypatch):
    monkeypatch.setattr(bench, "find_source", lambda *_: pytest.fail("looked for data"))
    mistakes = [
        ({"solvers": ["svd"]}, ParameterError, "unknown solver 'svd': choose from als, als-cg"),
        ({"devices": ["gpu"]}, ParameterError, "unknown device 'gpu'"),
        ({"devices": ["cuda:77"]}, DeviceUnavailableError, "cuda:77"),
        ({"threads": 0}, ParameterError, "threads is 0"),
        ({"k": 0}, ParameterError, "k is 0"),
    ]
    for settings, error, words in mistakes:
        with pytest.raises(error, match=words):
            bench.run(["ml-20m"], **settings)
