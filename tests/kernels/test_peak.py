"""The yardsticks count their work, and their loops keep all sums in registers: read from the assembly, not timed."""

import os
import platform
import re
import subprocess
import sys

import numpy as np
import pytest

from fastmf.kernels.compile import ENABLED
from fastmf.kernels.peak import CHAINS, DEPTH, MULTIPLY_ADD, READ, READS, SUMS, multiply_adds
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch


@pytest.mark.big
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_multiply_adds_are_counted(device):
    where = Device(name=device, threads=2)
    once = launch(MULTIPLY_ADD, where, np.array([0, 1]))
    assert once > 1e5
    assert launch(MULTIPLY_ADD, where, np.array([0, 1, 3])) == 3 * once


def test_every_sum_gets_every_multiply_add():
    sums = np.random.default_rng(0).uniform(-0.9, -0.1, SUMS).astype(np.float32)
    expected = sums.astype(np.float64)
    for _ in range(2 * DEPTH):
        expected += expected**2
    assert multiply_adds(2 * DEPTH, sums) == pytest.approx(np.sum(expected**2), rel=1e-4)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("n", [100, 999])
def test_everything_is_read(device, n):
    array = np.arange(n, dtype=np.float32)
    read = launch(READ, Device(name=device, threads=2), np.array([0, 7, n]), array)
    assert read.tolist() == [4 * n, n * (n - 1) // 2]


# Other machines are those that the compiler is told of: nothing runs on them.
HOSTS = {"this machine": {}}
for name, features, width in [
    ("skylake-avx512", "+avx512f,+avx512vl,+avx2,+fma", 16),
    ("haswell", "+avx2,+fma", 8),
    ("x86-64", "+sse2", 4),
    ("generic", "", 0),
]:
    HOSTS[name] = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "FASTMF_VECTOR_WIDTH": str(width)}

COMPILE = """
import numba
from fastmf.kernels import compile, peak, vectors

integer, array = numba.int64, numba.float32[::1]
print(vectors.WIDTH)
for function, takes in (peak.multiply_adds, (integer, array)), (peak.add_up, (integer, integer, array)):
    fresh = numba.njit(function.py_func, error_model="numpy", fastmath=compile.FASTMATH)  # cached code has no assembly
    fresh.compile(takes)
    print("=====", *fresh.inspect_asm().values())
"""


@pytest.fixture(scope="module")
def assemblies():
    """The compilers of all hosts, begun at once."""
    started = {
        host: subprocess.Popen([sys.executable, "-c", COMPILE], env=os.environ | settings, stdout=-1, text=True)
        for host, settings in HOSTS.items()
    }
    yield started
    for compiler in started.values():
        compiler.kill()
        compiler.communicate()


@pytest.mark.skipif(not ENABLED, reason="nothing is compiled")
@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="reads the assembly of x86")
@pytest.mark.parametrize("host", HOSTS)
def test_sums_stay_in_registers(host, assemblies):
    told, _ = assemblies[host].communicate(timeout=120)
    width, multiply, add = told.split("=====")
    loop, adds = hot_loop(multiply)
    if int(width):
        assert adds
        assert adds % CHAINS == 0
        assert not in_memory(loop)
    else:  # a load and a store for DEPTH multiply-adds
        assert adds % DEPTH == 0
        assert len(in_memory(loop)) == 2 * adds // DEPTH
    loop, adds = hot_loop(add)
    assert adds >= (READS if int(width) else 2)
    assert len(in_memory(loop)) == adds
    assert not [line for line in in_memory(loop) if line.endswith(")")]  # the last operand is written


def hot_loop(assembly):
    """Return the loop of one block that has the most vector additions, fused or not, and their number."""
    parts = re.split(r"^(\.L\w+):", assembly, flags=re.MULTILINE)
    loops = []
    for label, block in zip(parts[1::2], parts[2::2], strict=True):
        back = re.search(rf"^\s+j\w+\s+{re.escape(label)}$", block, re.MULTILINE)
        if back:
            loops.append(block[: back.end()].strip().splitlines())
    loop = max(loops, key=additions)
    assert not [line for line in loop if "%rsp" in line]
    return loop, additions(loop)


def additions(loop):
    return sum(bool(re.match(r"\s*v?(addps|fmadd\d+ps)\s", line)) for line in loop)


def in_memory(loop):
    """List the instructions that have an operand in memory."""
    return [line for line in loop if "(" in line]
