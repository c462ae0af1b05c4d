"""``fastmf bench``: what it asks of the benchmark, and where the report goes."""

import json

import pytest

from fastmf.bench import run as benchmark

RESULT = {
    "dataset": "some", "data": "file", "solver": "als", "device": "cpu", "load_seconds": 0.1, "compile_seconds": 1.0,
    "epochs": 2, "full_epochs": 2, "sampled_ratings": None, "epoch_seconds_median": 2.0, "epoch_seconds_min": 1.0,
    "ratings_per_second": 360.0, "share_of_peak": 0.1, "speedup_over_numpy": None, "speedup_over_cpu": None,
    "rmse": 0.9, "seconds_to_rmse": None, "peak_memory_bytes": None,
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    """The arguments that the benchmark was called with; it returns a report at once."""
    calls = []

    def run(names, *, progress, **given):
        calls.append({"names": names, **given})
        progress("measuring")
        return {"results": [RESULT], "notes": ["as it is"]}

    monkeypatch.setattr(benchmark, "run", run)
    return calls


def test_a_table_goes_to_stdout_and_the_notes_to_stderr(run, asked, cells):
    done = run("bench")
    assert asked == [{"names": benchmark.DATASETS, "k": 32, "download": False}]
    header, row = cells(done.stdout)
    assert header[:3] == ["data set", "solver", "device"]
    assert row[:3] == ["some file", "als", "cpu"]
    assert done.stderr == "measuring\nas it is\n"


def test_options_are_passed_on_and_the_report_is_written(run, asked, tmp_path):
    words = ["--dataset", "some", "--solver", "als-cg", "--solver", "gibbs", "--device", "cpu", "--threads", 0]
    out = tmp_path / "r.json"
    done = run("bench", *words, "--k", 4, "--epochs", 2, "--target-rmse", 0.9, "--download", "--json", "-o", out)
    expected = {"names": ("some",), "solvers": ("als-cg", "gibbs"), "devices": ("cpu",), "threads": 0}
    assert asked == [expected | {"k": 4, "epochs": 2, "target_rmse": 0.9, "download": True}]
    assert json.loads(done.stdout) == json.loads(out.read_text(encoding="utf-8"))
    assert done.stderr == f"measuring\nthe results are in {out}\n"
    assert "exists" in run("bench", "-o", out, code=4).stderr
