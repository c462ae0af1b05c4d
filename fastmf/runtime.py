"""The one way to run a kernel: pick the device's version, take the lock, set the threads, cut the work into slices.

Numba's threading layers do not all bear two Python threads launching at once (workqueue aborts the process), nor a
forked child launching after its parent has (omp is killed by a signal): one lock and one guard here keep both from
happening. Python sees a Ctrl-C only between two calls into compiled code: hence the slices.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numba
import numpy as np
from llvmlite import binding

from fastmf.device import Device, max_threads, resolve, unavailable
from fastmf.errors import DeviceUnavailableError
from fastmf.kernels import compress

Kernel = Mapping[str, Callable[..., Any]]

# Seconds of work between two looks at signals. A slice is never less than one task for each thread.
SLICE_SECONDS = 0.25

_lock = threading.RLock()
_launched_in_parent = False
_has_launched = False


def launch(kernel: Kernel, device: Device, tasks: np.ndarray, *args: Any) -> Any:
    """Run a kernel over all its tasks, and add up what the tasks return.

    Parameters
    ----------
    kernel : a kernel table, device name to function; see :mod:`fastmf.kernels`.
    tasks : (n_tasks + 1,) int64 bounds of the tasks. What is computed does not depend on how they are sliced.
    args : what the kernel takes after ``tasks``.

    Returns
    -------
    The sum, over the tasks in order, of the lines the kernel returns for them: a scalar or an array.

    Raises
    ------
    DeviceUnavailableError
        In a forked child whose parent has run a parallel kernel before the fork.
    """
    run = kernel[device.name]
    results = []
    n_tasks = len(tasks) - 1
    step = max(1, 2 * device.threads)
    start = 0
    with Guard(device):
        while start < n_tasks:
            stop = min(start + step, n_tasks)
            began = time.perf_counter()
            results.append(run(tasks[start : stop + 1], *args))
            seconds = time.perf_counter() - began
            step = max(device.threads, int((stop - start) * min(SLICE_SECONDS / max(seconds, 1e-6), 64)))
            start = stop
    return np.concatenate(results).sum(axis=0) if results else 0


def call(kernel: Kernel, device: Device, *args: Any) -> Any:
    """Run a kernel that has no tasks (a sort) in one go, and return what it returns."""
    with Guard(device):
        return kernel[device.name](*args)


class Guard:
    """Hold the process-wide lock with the device's number of threads set, and give the caller's number back after."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._threads_before = 0

    def __enter__(self) -> None:
        global _has_launched
        if self._device.name != "cpu":
            return
        if _launched_in_parent:
            raise DeviceUnavailableError(
                "this process was forked from one that had already run fastmf's parallel kernels, which cannot run here"
                " again; start workers with multiprocessing.get_context('spawn'), or fork before the first fit"
            )
        _lock.acquire()
        _has_launched = True
        try:
            self._threads_before = numba.get_num_threads()
            numba.set_num_threads(self._device.threads)
        except BaseException:  # threads that do not exist, or a Ctrl-C: then __exit__ is not called
            _lock.release()
            raise

    def __exit__(self, *exc: object) -> None:
        if self._device.name != "cpu":
            return
        numba.set_num_threads(self._threads_before)
        _lock.release()


def _after_fork_in_child() -> None:
    global _lock, _launched_in_parent
    _lock = threading.RLock()  # the parent's may be held by a thread that does not exist here
    _launched_in_parent = _has_launched


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def describe() -> dict[str, Any]:
    """Tell what launches run on: threads and their layer, vectors, kernel cache, devices and why not."""
    with Guard(resolve("cpu")):
        layer = numba.threading_layer()  # type: ignore[attr-defined]  # not in its __all__
    features = binding.get_host_cpu_features()
    stats = getattr(compress._sort_rows, "stats", None)
    return {
        "threads": max_threads(),
        "threading_layer": layer,
        "cpu_name": binding.get_host_cpu_name(),
        "vectors": [name for name in ("avx512f", "avx2", "fma", "sse4.2", "neon") if features.get(name)],
        "jit": stats is not None,
        "kernel_cache": stats and stats.cache_path,
        "devices": {name: unavailable(name) or "available" for name in ("cpu", "numpy", "cuda")},
    }
