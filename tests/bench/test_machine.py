import sys

import pytest

from fastmf.bench import machine
from fastmf.bench.machine import command_line, describe, limits, peak_memory, runtime, versions
from fastmf.runtime.device import Device


@pytest.mark.big
def test_limits_are_those_of_a_machine(monkeypatch):
    monkeypatch.setattr(machine, "ARRAY", 1 << 20)
    monkeypatch.setattr(machine, "ITERATIONS", 4)
    found = limits(Device(name="cpu", threads=1))
    assert 1e8 < found["flops_per_second"] < 1e13
    assert 1e7 < found["bytes_per_second"] < 1e13


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
