"""The machine: its description, its limits, and the peak memory of a process."""

import os
import platform
import shlex
import sys
import time
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

TRIES = 5  # the fastest try counts
ITERATIONS = 400  # of multiply-adds per try: about ten milliseconds per core
ARRAY = 1 << 26  # floats to read: more than a cache holds


def limits(device: Device) -> dict[str, float]:
    """Measure the peak rates of a device's threads, or of a GPU: float32 operations and bytes read per second."""
    array = device.put(np.ones(ARRAY, np.float32))
    work, pieces = even(ITERATIONS * device.threads, 8), even(ARRAY, 1 << 20)
    operations = max(_rate(lambda: launch(MULTIPLY_ADD, device, work)) for _ in range(TRIES))
    read = max(_rate(lambda: launch(READ, device, pieces, array)[0]) for _ in range(TRIES))
    return {"flops_per_second": operations, "bytes_per_second": read}


def _rate(run: Any) -> float:
    began = time.perf_counter()
    done = float(run())
    return done / (time.perf_counter() - began)


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
