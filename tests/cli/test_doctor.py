"""``fastmf doctor``."""

import fastmf
from fastmf.bench import machine
from fastmf.cli.doctor import advice


def test_doctor_reports_versions_and_devices(run, run_json, cells):
    found = run_json("doctor")
    assert found["fastmf"] == fastmf.__version__
    assert found["devices"]["cpu"] == f"cpu, {found['threads']} threads"
    assert found["devices"]["cuda"]
    assert found["threads"] >= 1
    assert {"cpu_quota", "memory_available_bytes", "kernel_cache", "threading", "advice"} <= found.keys()
    assert dict(cells(run("doctor").stdout))["fastmf"] == fastmf.__version__


def test_doctor_names_what_could_be_better(run, monkeypatch):
    monkeypatch.setattr(machine, "ENABLED", True)
    monkeypatch.setattr(machine, "cache_folder", lambda: None)
    assert "set NUMBA_CACHE_DIR to a folder of your own" in run("doctor").stderr
    monkeypatch.setattr(machine, "ENABLED", False)
    assert "unset NUMBA_DISABLE_JIT" in run("doctor").stderr


def test_advice_is_given_for_what_is_wrong_only():
    fine = {"cpu_quota": None, "jit": True, "kernel_cache": "here", "vector_width": 16, "cores": 4}
    assert advice(fine) == advice(fine | {"cpu_quota": 4.0}) == []
    (line,) = advice(fine | {"vector_width": 0})
    assert "the processor is unknown" in line
    (line,) = advice(fine | {"cpu_quota": 1.5})
    assert "may use 1.5 of 4 cores" in line
