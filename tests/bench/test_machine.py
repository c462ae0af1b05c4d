import pytest

from fastmf.bench import machine
from fastmf.bench.machine import command_line, limits, useful_flops
from fastmf.runtime.device import Device


@pytest.mark.big
def test_limits_are_those_of_a_machine(monkeypatch):
    monkeypatch.setattr(machine, "ARRAY", 1 << 20)
    monkeypatch.setattr(machine, "ITERATIONS", 4)
    found = limits(Device(name="cpu", threads=1))
    assert 1e8 < found["flops_per_second"] < 1e13
    assert 1e7 < found["bytes_per_second"] < 1e13


def test_useful_operations_by_hand():
    # two ratings, k = 2: y y' has 3 different elements, of a product and a sum each, for both sides; 3 rows
    assert useful_flops("als", 2, 2, 3) == 2 * 2 * (3 * 2) + 3 * (8 / 3 + 8)
    assert useful_flops("als-links", 2, 2, 3) == useful_flops("als", 2, 2, 3) + 4 * 2 * 2
    assert useful_flops("als-cg", 2, 2, 3) == 2 * 2 * 3 * (4 * 2)
    assert useful_flops("sgd", 2, 2, 3) == 2 * 8 * 2


def test_a_command_line_names_no_folders_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["script.py", "--k", "3", str(tmp_path / "some data.parquet"), "here/x.json"])
    assert command_line("script.py") == "python script.py --k 3 'some data.parquet' here/x.json"
