import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from fastmf.bench import run as bench
from fastmf.data.write import write_parquet
from fastmf.datasets import movielens as datasets
from fastmf.errors import DataError, DeviceUnavailableError, ParameterError, ResourceError

CASES = [("als", "numpy"), ("als", "cpu"), ("sgd", "numpy"), ("sgd", "cpu")]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """800 ratings, of planted rank 1."""
    rng = np.random.default_rng(3)
    users, items = np.divmod(rng.permutation(40 * 50)[:800], 50)
    ratings = 3 + rng.standard_normal(40)[users] * rng.standard_normal(50)[items]
    path = tmp_path_factory.mktemp("bench") / "some.parquet"
    write_parquet({"user": users, "item": items, "rating": ratings.astype(np.float32)}, path)
    return str(path)


@pytest.fixture(scope="module")
def lines():
    return []


@pytest.fixture(scope="module")
def report(file, lines):
    return bench.run([file], k=4, threads=1, epochs=2, progress=lines.append)


@pytest.fixture
def uncompiled(monkeypatch):
    """Let child processes do without the compiler, where speed is not the question; this one must keep it."""
    popen = subprocess.Popen

    def run(command, *, env, **rest):
        return popen(command, env={**env, "NUMBA_DISABLE_JIT": "1"}, **rest)

    monkeypatch.setattr(subprocess, "Popen", run)


def request(file, solver, device, epochs=None):
    """What a child is asked, for a case measured in this process."""
    return {"file": file, "solver": solver, "device": device, "threads": 1, "epochs": epochs, "target_rmse": None}


def test_every_solver_runs_on_every_device(report, file):
    results = report["results"]
    assert [(result["solver"], result["device"]) for result in results] == CASES
    for result in results:
        assert (result["dataset"], result["data"], result["threads"]) == (file, "file", 1)
        assert (result["users"], result["items"], result["ratings"]) == (40, 50, 800)
        assert result["training_ratings"] == 720
        assert result["load_seconds"] > 0
        assert 0 < result["share_of_peak"] < 1
        assert result["share_of_bandwidth"] > 0
        assert result["flops_per_second"] == pytest.approx(
            result["share_of_peak"] * result["limits"]["flops_per_second"]
        )
        assert result["seconds_to_rmse"] is None
        assert result["compile_seconds"] >= 0
        assert result["sampled_ratings"] is None
        assert result["epochs"] == result["full_epochs"] == len(result["epoch_seconds"]) == 2
        assert 0 < result["epoch_seconds_min"] == min(result["epoch_seconds"]) <= result["epoch_seconds_median"]
        assert result["ratings_per_second"] == pytest.approx(720 / result["epoch_seconds_median"])


def test_speedup_is_the_ratio_to_numpy(report):
    for plain, fast in (report["results"][:2], report["results"][2:]):
        assert plain["speedup_over_numpy"] is None
        ratio = plain["epoch_seconds_median"] / fast["epoch_seconds_median"]
        assert fast["speedup_over_numpy"] == pytest.approx(ratio)


def test_devices_agree_on_the_rmse(report):
    for plain, fast in (report["results"][:2], report["results"][2:]):
        assert math.isfinite(plain["rmse"])
        assert fast["rmse"] == pytest.approx(plain["rmse"], rel=1e-4)


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing is compiled")
def test_compile_time_is_measured_from_an_empty_cache(report):
    assert all(result["compile_seconds"] > 0.05 for result in report["results"] if result["device"] == "cpu")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell the peak memory")
def test_peak_memory_is_that_of_a_python_with_numba(report):
    for result in report["results"]:
        assert 2**26 < result["peak_memory_bytes"] < 2**31


@pytest.mark.skipif(sys.platform != "linux", reason="what /proc says")
def test_peak_memory_of_a_child_is_not_its_parents():
    code = "import numpy; a = numpy.ones(1 << 27); import subprocess, sys; subprocess.run([sys.executable, '-c', {!r}])"
    child = "from fastmf.bench import machine; print(machine.peak_memory() / 2**20)"
    found = subprocess.run([sys.executable, "-c", code.format(child)], capture_output=True, text=True, check=True)
    assert 20 < float(found.stdout) < 900  # the parent holds 1,024 MiB more


def test_report_names_machine_versions_and_settings(report):
    assert report["machine"]["cpu"]
    assert report["machine"]["cores"] >= 1
    assert set(report["versions"]) == {"python", "numba", "llvmlite", "numpy", "pyarrow", "fastmf"}
    assert report["settings"]["k"] == 4
    assert report["settings"]["solvers"]["als"]["epochs"] == 2
    assert json.loads(json.dumps(report)) == report


def test_blas_runs_on_as_many_threads(report):
    pytest.importorskip("threadpoolctl")
    for result in report["results"]:
        assert all(blas["threads"] == 1 for blas in result["blas"])


def test_progress_names_cases_and_stages(report, lines, file):
    assert lines[0] == f"{file}, als, numpy: compiling"
    assert lines[1] == f"{file}, als, numpy: measuring"
    assert len(lines) == 3 * len(CASES)


def test_table_has_a_row_for_each_case(report):
    header, rows = bench.table(report)
    assert [len(row) for row in rows] == [len(header)] * len(CASES)
    assert [row[header.index("vs NumPy")].endswith("x") for row in rows] == [False, True, False, True]
    assert all(isinstance(cell, str) for row in rows for cell in row)


def test_notes_say_what_the_figures_do_not(report):
    cut = [
        {**result, "blas": None, "epochs": 1, "sampled_ratings": 9 if result["solver"] == "sgd" else None, "rmse": 1.0}
        for result in report["results"][::2]
    ]
    text = "\n".join(bench._notes([bench.Source(cut[0]["dataset"], "", "twin (seed 0)", "not real")], cut))
    assert "twin (seed 0): 40 users, 50 items, 800 ratings, 720 of them trained on. not real" in text
    assert "als, numpy: RMSE after 1 of the solver's 2 epochs" in text
    assert "sgd, numpy: timed on a random sample of 9 of 720 training ratings" in text
    assert "threadpoolctl is not installed" in text
    assert bench.table({"results": cut})[1][0][bench.HEADER.index("RMSE")] == "1.0000 (epoch 1)"


def test_numpy_times_a_sample_of_sgd_on_many_ratings(file, monkeypatch):
    monkeypatch.setattr(bench, "FEW_RATINGS", 100)
    monkeypatch.setattr(bench, "SAMPLE", 72)
    sampled = bench._measure(file, bench.CLASSES["sgd"](k=4), request(file, "sgd", "numpy"))
    assert (sampled["epochs"], sampled["sampled_ratings"], sampled["rmse"]) == (1, 72, None)
    assert sampled["ratings_per_second"] * sampled["epoch_seconds_median"] == pytest.approx(720)
    whole = bench._measure(file, bench.CLASSES["als"](k=4), request(file, "als", "numpy"))
    assert (whole["epochs"], whole["sampled_ratings"]) == (1, None)
    assert math.isfinite(whole["rmse"])


def test_seconds_to_an_rmse_are_those_of_the_epochs_it_took(file):
    asked = {**request(file, "als", "cpu"), "target_rmse": 9.0}
    found = bench._measure(file, bench.CLASSES["als"](k=4, epochs=3), asked)
    assert found["seconds_to_rmse"] == found["epoch_seconds"][0]
    never = bench._measure(file, bench.CLASSES["als"](k=4, epochs=3), asked | {"target_rmse": 0.0})
    assert never["seconds_to_rmse"] is None


def test_numpy_runs_a_few_epochs_on_few_ratings():
    solver = bench.CLASSES["als"](epochs=5)
    assert bench._share(solver, request("", "als", "numpy"), 720) == (3, None)
    assert bench._share(solver, request("", "als", "numpy", epochs=5), 720) == (5, None)
    assert bench._share(solver, request("", "als", "cpu"), 720) == (5, None)


def test_blas_may_be_unpinned(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert bench._pin_blas(1) is None


def test_a_set_that_is_not_at_hand_is_replaced_by_its_twin(monkeypatch, tmp_path, uncompiled):
    monkeypatch.setitem(datasets.TWINS, "ml-latest-small", datasets.Shape(users=15, items=120, ratings=600, cap=90))
    monkeypatch.setattr(datasets, "cache_directory", lambda: tmp_path)
    monkeypatch.delenv("FASTMF_DATA_DIR", raising=False)
    report = bench.run(["ml-latest-small"], k=2, solvers=["sgd-hogwild"], devices=["cpu"], epochs=1)
    (result,) = report["results"]
    assert (result["data"], result["ratings"], result["speedup_over_numpy"]) == ("twin (seed 0)", 600, None)
    assert bench.table(report)[1][0][0] == "ml-latest-small twin (seed 0)"
    assert "not the real data: synthetic ml-latest-small twin" in report["notes"][0]


def test_a_set_at_hand_is_taken_and_its_terms_are_named(tmp_path):
    (tmp_path / "ml-1m.parquet").touch()
    source = bench._find("ml-1m", tmp_path, False, tmp_path, print)
    assert (source.data, source.path) == ("real", str(tmp_path / "ml-1m.parquet"))
    assert "GroupLens" in source.note


def test_bad_ratings_end_the_run_with_the_case_named(tmp_path, uncompiled):
    path = str(tmp_path / "bad.parquet")
    write_parquet({"user": [1, 2], "item": [1, 2], "rating": [1.0, math.nan]}, path)
    with pytest.raises(DataError, match=r"bench of .*, als, numpy: .*bad\.parquet: column 'rating' has 1 of 2"):
        bench.run([path], k=2)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(OSError, match=r"bench of .*cannot be read as Parquet"):
        bench.run([path], k=2)


def test_a_child_that_breaks_shows_its_stderr(file, monkeypatch):
    monkeypatch.setattr(bench, "CHILD", "import sys; sys.exit('no luck')")
    with pytest.raises(RuntimeError, match=r"some\.parquet, als, numpy: the process ended with status 1\nno luck"):
        bench.run([file])


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_child_that_is_killed_is_told_from_one_that_fails(file, monkeypatch):
    monkeypatch.setattr(bench, "CHILD", f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")
    with pytest.raises(ResourceError, match="ended by signal 9, most likely for want of memory"):
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
    with pytest.raises(KeyboardInterrupt):
        bench.run([file], progress=interrupt)
    assert [process.returncode is not None for process in started] == [True]


@pytest.mark.parametrize(
    ("names", "settings", "error", "match"),
    [
        (["some.parquet"], {}, FileNotFoundError, "some.parquet is neither a file nor a data set"),
        (["ml-1m"], {}, FileNotFoundError, "ml-1m is not here"),
        (["ml-20m"], {"data_dir": "nowhere"}, FileNotFoundError, "there is no folder nowhere"),
        (["ml-20m"], {"solvers": ["svd"]}, ParameterError, "unknown solver 'svd': choose from als, als-cg"),
        (["ml-20m"], {"devices": ["gpu"]}, ParameterError, "unknown device 'gpu'"),
        (["ml-20m"], {"devices": ["cuda:77"]}, DeviceUnavailableError, "cuda:77"),
        (["ml-20m"], {"threads": 0}, ParameterError, "threads is 0"),
        (["ml-20m"], {"k": 0}, ParameterError, "k is 0"),
    ],
)
def test_mistakes_are_found_before_anything_runs(names, settings, error, match, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "cache_directory", lambda: tmp_path)
    monkeypatch.delenv("FASTMF_DATA_DIR", raising=False)
    with pytest.raises(error, match=match):
        bench.run(names, **settings)
