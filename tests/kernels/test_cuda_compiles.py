"""Compile every GPU kernel, without a GPU, if CUDA's compiler is installed (the extras cu12 and cu13 bring it).

The simulator runs kernels as Python, which accepts types and calls that a compiler does not. Nor does a result show
whether sums stay in registers: an array that is not unrolled goes to the slow memory of a thread.
"""

import importlib.util
import re
import types

import pytest

from fastmf.runtime.device import unavailable


def compiler_missing():
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed"
    from numba.cuda.core import config

    if config.ENABLE_CUDASIM:
        return "the simulator is on"
    from cuda.pathfinder import load_nvidia_dynamic_lib

    try:
        for library in ("nvvm", "nvrtc"):
            load_nvidia_dynamic_lib(library)
    except Exception as error:
        return f"no compiler for CUDA: {error!r:.80}"
    return None


MISSING = compiler_missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=str(MISSING))


def kernels():
    """Yield every kernel as (name, kernel, types of its arguments)."""
    from numba import boolean as flag
    from numba import float32 as f
    from numba import float64 as d
    from numba import int32 as i
    from numba import int64 as n
    from numba import types as kinds
    from numba import uint64 as u

    from fastmf.kernels import (
        als_cuda,
        cg_cuda,
        features_cuda,
        gram_cuda,
        links_cuda,
        peak_cuda,
        residual_cuda,
        sgd_cuda,
        topn_cuda,
    )

    row, side, ints, lots = f[::1], (f[:, ::1], f[::1]), i[::1], n[::1]
    entries = ints, row, row, d[::1]
    table = f[:, ::1]
    for k, wide in (*((k, False) for k in (8, 32, 64, 128, 256, 1024)), (32, True), (128, True)):
        scratch = (d if wide else f)[:, ::1]
        given = n[:, ::1], *entries, *side, *side, table, table, row, d[::1], scratch, flag, scratch, lots
        yield f"als, k = {k}, wide {wide}", als_cuda.compiled(als_cuda.layout(k, wide)), given
    yield "weights", als_cuda._add_weights, (lots, row, d[::1])
    yield "extrapolate", als_cuda._extrapolate, (row, row, table, f, n)
    for each in (1, 4, 8):
        given = lots, *entries, *side, *side, d[::1], n, table, table, row
        yield f"cg, {each} a lane", cg_cuda.compiled(each), given
    for group in (1, 8, 32):
        yield f"estimate by {group}", residual_cuda.estimates(group), (n, n, ints, ints, *side, *side, d, d, d, row)
        given = lots, ints, ints, row, *side, *side, d, d, d, d[:, ::1]
        yield f"errors by {group}", residual_cuda.error_sums(group), given
    for group, each in ((1, 1), (16, 1), (32, 1), (32, 8)):
        columns, arrays, tail = (ints, ints, row, row), (row,) * 4, (n, f, kinds.UniTuple(flag, 3), f)
        given = lots, u[:, ::1], flag, n, n, *columns, *arrays, *tail
        for pulled in ((False, False), (False, True), (True, True)):
            yield f"sgd, {group} lanes of {each}, {pulled}", sgd_cuda.compiled(group, each, pulled), given
    yield "collect", sgd_cuda._collect, (ints, table, *side, row)
    yield "deal rows", sgd_cuda._deal_rows, (ints, *side, table, table, table, f)
    yield "topn", topn_cuda._rank, (*side, *side, ints, lots, ints, i[:, ::1], table)
    yield "gram", gram_cuda._gram, (table, d[:, :, ::1])
    yield "gather", links_cuda._gather, (lots, ints, row, row, row, table, table)
    yield "respond", links_cuda._respond, (lots, ints, row, row, table, table, table, row, table)
    yield "sums", links_cuda._sums, (table, flag, row, table, d[:, ::1])
    yield "combine", links_cuda._combine, (table, row, table, table)
    yield "attract", links_cuda._attract, (table, row, row, table)
    yield "centre", links_cuda._centre, (row, table, row, table)
    yield "absorb", links_cuda._absorb, (table, row, row, row)
    yield "leave", features_cuda._leave, (*side, table, table, table)
    yield "weigh", features_cuda._weigh, (row, table, row, table)
    yield "square", features_cuda._square, (table, table)
    yield "pull", features_cuda._pull, (table, table, row, row, *side, row, row)
    yield "join", features_cuda._join, (table, table, table)
    yield "multiply-add", peak_cuda._multiply_add, (n, f, row)
    yield "read", peak_cuda._read, (n, n, n, row, row)


def test_every_kernel_compiles_and_keeps_its_sums_in_registers(monkeypatch):
    from numba import cuda, void

    if unavailable("cuda"):  # the compiler asks which processor it compiles for
        hopper = types.SimpleNamespace(compute_capability=(9, 0))
        monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: hopper)
    for name, kernel, given in kernels():
        ptx, _ = cuda.compile(kernel.py_func, void(*given), cc=(9, 0), device=False, abi="numba", output="ptx")
        assert ".visible .entry" in ptx, name
        assert not re.search(r"\b(ld|st)\.local", ptx), name
