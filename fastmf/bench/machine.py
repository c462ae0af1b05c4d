"""The machine: its description, its limits, and the peak memory of a process."""

import importlib
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import binding

import fastmf
from fastmf.kernels.compile import ENABLED, cache_folder
from fastmf.kernels.peak import MULTIPLY_ADD, READ
from fastmf.kernels.tasks import even
from fastmf.kernels.vectors import WIDTH
from fastmf.runtime.device import Device, resolve, unavailable
from fastmf.runtime.launch import engine, launch
from fastmf.runtime.memory import available_memory, total_memory
from fastmf.runtime.threads import cpu_quota, max_threads

ENGINES = {"region": "parallel regions", "threads": "Python's threads", "serial": "one thread"}

TRIES = 10  # the fastest try counts
ITERATIONS = 400  # of multiply-adds per try: about ten milliseconds per core
ARRAY = 1 << 26  # floats to read: more than a cache holds
SIDE = 2048  # rows and columns of the matrices that BLAS multiplies

BLAS_VARIABLES = (
    "BLIS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip


def limits(device: Device, with_blas: bool = True) -> dict[str, Any]:
    """Measure the peak rates of a device's threads, or of a GPU: float32 operations and bytes read per second.

    A large product by NumPy's BLAS checks the first: no program is faster than the peak. ``blas_flops_per_second`` is
    None for a GPU, if BLAS may have another number of threads than the device, and without ``with_blas``: the product
    takes most of the time.
    """
    array = device.put(np.ones(ARRAY, np.float32))
    work, pieces = even(ITERATIONS * device.threads, 8), even(ARRAY, 1 << 20)
    runs: dict[str, Callable[[], Any]] = {
        "flops_per_second": lambda: launch(MULTIPLY_ADD, device, work),
        "bytes_per_second": lambda: launch(READ, device, pieces, array)[0],
    }
    if with_blas and device.on_host and _blas_has(device.threads):
        left, out = np.ones((2, SIDE, SIDE), np.float32)
        runs["blas_flops_per_second"] = lambda: 2 * SIDE**3 * np.matmul(left, left, out)[0, 0] / SIDE
    # BLAS comes last: its threads go on spinning for a while.
    return {
        "blas_flops_per_second": None,
        **{name: max(_rate(run) for _ in range(TRIES)) for name, run in runs.items()},
    }


def _rate(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    done = float(run())
    return done / (time.perf_counter() - began)


def blas() -> list[dict[str, Any]] | None:
    """List the BLAS libraries in this process and their threads; None without threadpoolctl."""
    try:
        threadpoolctl = importlib.import_module("threadpoolctl")
    except ImportError:
        return None
    found = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return [{"library": f"{pool['internal_api']} {pool['version']}", "threads": pool["num_threads"]} for pool in found]


def _blas_has(threads: int) -> bool:
    """Check whether BLAS is known to use this many threads: from threadpoolctl, else from environment variables."""
    pools = blas()
    known = map(os.environ.get, BLAS_VARIABLES) if pools is None else (str(pool["threads"]) for pool in pools)
    return set(known) == {str(threads)}


def peak_memory() -> int | None:
    """Return the peak memory of this process in bytes, or None on Windows.

    On Linux, ``ru_maxrss`` of a child starts at what its parent held, so /proc is read instead.
    """
    status = Path("/proc/self/status")
    for line in status.read_text(encoding="ascii", errors="replace").splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def describe() -> dict[str, Any]:
    """Describe the machine: processor, cores that this process may use, memory, operating system."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": total_memory(),
        "os": platform.platform(),
    }


def runtime() -> dict[str, Any]:
    """Describe what kernels run on: threads, vectors, kernel cache, and each device or why it is missing."""
    features, how = binding.get_host_cpu_features(), engine()
    return {
        "threads": max_threads(),
        "threading": f"{ENGINES[how.name]}: {how.reason}",
        "cpu_quota": cpu_quota(),
        "memory_available_bytes": available_memory(),
        "cpu_name": binding.get_host_cpu_name(),
        "vectors": [name for name in ("avx512f", "avx2", "fma", "sse4.2", "neon") if features.get(name)],
        "vector_width": WIDTH,
        "jit": ENABLED,
        "kernel_cache": cache_folder() if ENABLED else None,
        "devices": {name: unavailable(name) or resolve(name).describe() for name in ("cpu", "numpy", "cuda")},
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that affect speed."""
    libraries = {name: metadata.version(name) for name in ("numba", "llvmlite", "numpy", "pyarrow")}
    return {"python": platform.python_version(), **libraries, "fastmf": fastmf.__version__}


def command_line(script: str) -> str:
    """Return the command that started this process, for a report; absolute paths are cut to their last part."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return shlex.join(["python", script, *words])
