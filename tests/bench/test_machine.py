import sys

import pytest

from fastmf.bench import machine
from fastmf.bench.machine import command_line, describe, limits, peak_memory, runtime, versions
from fastmf.runtime.device import Device


@pytest.fixture
def little_work(monkeypatch):
    for name, size in (("ARRAY", 1 << 20), ("ITERATIONS", 4), ("SIDE", 64), ("TRIES", 2)):
        monkeypatch.setattr(machine, name, size)


@pytest.mark.big
@pytest.mark.usefixtures("little_work")
def test_limits_are_those_of_a_machine(monkeypatch):
    monkeypatch.setattr(machine, "blas", lambda: [{"library": "some", "threads": 1}])
    found = limits(Device(name="cpu", threads=1))
    assert 1e8 < found["flops_per_second"] < 1e13
    assert 1e7 < found["bytes_per_second"] < 1e13
    assert 1e7 < found["blas_flops_per_second"] < 1e13


@pytest.mark.parametrize(
    ("pools", "variables", "comparable"),
    [
        ([2], "1", True),
        ([2, 2], None, True),
        ([2, 1], "2", False),
        ([], "2", False),
        (None, "2", True),
        (None, "1", False),
        (None, None, False),
    ],
)
@pytest.mark.usefixtures("little_work")
def test_blas_is_measured_only_with_as_many_threads(monkeypatch, pools, variables, comparable):
    monkeypatch.setattr(machine, "blas", lambda: None if pools is None else [{"threads": threads} for threads in pools])
    for name in machine.BLAS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        if variables:
            monkeypatch.setenv(name, variables)
    found = limits(Device(name="numpy", threads=2))
    assert (found["blas_flops_per_second"] is not None) == comparable


@pytest.mark.skipif(sys.platform != "linux", reason="what /proc holds")
def test_peak_memory_is_not_what_a_parent_once_held(monkeypatch):
    import resource

    monkeypatch.setattr(resource, "getrusage", lambda _: pytest.fail("on Linux it starts at the parent's peak"))
    assert 2**24 < peak_memory() < 2**36


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not report it")
@pytest.mark.parametrize(("platform", "unit"), [("darwin", 1), ("sunos", 1024)])
def test_peak_memory_without_proc_is_in_the_units_of_the_system(monkeypatch, platform, unit):
    import resource

    monkeypatch.setattr(machine.Path, "exists", lambda _: False)
    monkeypatch.setattr(sys, "platform", platform)
    peak = peak_memory()
    assert peak == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, rel=0.1)


def test_peak_memory_is_unknown_where_python_lacks_the_module(monkeypatch):
    monkeypatch.setattr(machine.Path, "exists", lambda _: False)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory() is None


def test_a_machine_is_described_by_its_parts():
    assert describe()["cpu"]
    assert describe()["cores"] >= 1
    assert describe()["memory_bytes"] > 2**24
    assert runtime()["devices"]["numpy"]
    assert set(versions()) == {"python", "numba", "llvmlite", "numpy", "pyarrow", "fastmf"}


def test_a_command_line_names_no_folders_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["script.py", "--k", "3", str(tmp_path / "some data.parquet"), "here/x.json"])
    assert command_line("script.py") == "python script.py --k 3 'some data.parquet' here/x.json"
