"""The loops over ratings: arrays in, arrays out. Kernels import numba, numpy and our own errors only.

Each algorithm is a file with one function per device, all with the same signature, and a table of them at its end:
``NAME = {"numpy": the definition, "cpu": compiled by Numba, "cuda": compiled for a GPU}``. Only
:func:`fastmf.runtime.launch.launch` reads these tables. Where it pays, the CPU version has two bodies: one plain, and
one in vectors (:mod:`fastmf.kernels.simd`), used if the JIT is on and the machine's vectors are known. Long bodies have
files of their own, ``<name>_plain.py`` and ``<name>_simd.py``. The CUDA version is in ``<name>_cuda.py``, which is
imported at its first launch.

A kernel's first argument ``tasks`` is an (n_tasks + 1,) int64 array of bounds: task t covers the rows (or ratings, or
users) ``tasks[t]`` to ``tasks[t + 1]``. A NumPy kernel runs them and returns a row of results per task, or None. A CUDA
kernel may return any number of rows with the same sum. A CPU kernel is called once a launch, and says what its parallel
region runs (:mod:`fastmf.kernels.region`).

Tasks are independent, and their bounds never depend on the number of threads: sums are the same bit for bit however
many threads share the tasks. Kernels assume valid input and never raise: failures come back as counts.
"""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """Import a kernel file when it is first named, as in ``kernels.als.HALF_SWEEP``: numba takes a second to load."""
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
