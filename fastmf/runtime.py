"""The one way to run a kernel: pick the device's version and share its tasks out among threads.

The threads are Python's, and kernels run without the interpreter's lock: each thread takes a few tasks, runs them, and
takes the next, so that none waits while there is work, and a Ctrl-C is heard between two takes. Numba's own threading
layers would each add a hazard (workqueue aborts the process when two threads launch at once, omp kills a forked child
and lets threads spin at barriers) and a second or two of compilation to every kernel.

What has no tasks yet (sorts) does use them, under one lock and a guard against forks.
"""

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numba
import numpy as np
from llvmlite import binding

from fastmf.device import Device, max_threads, resolve, unavailable
from fastmf.errors import DeviceUnavailableError
from fastmf.kernels import compress

Kernel = Mapping[str, Callable[..., Any]]

# Tasks that a thread takes at a time, at most: it looks at nothing else before they are done.
MOST_TASKS = 8

_lock = threading.RLock()
_launched_in_parent = False
_has_launched = False


def launch(kernel: Kernel, device: Device, tasks: np.ndarray, *args: Any) -> Any:
    """Run a kernel over all its tasks, on the device's threads, and add up what the tasks return.

    Parameters
    ----------
    kernel : a kernel table, device name to function; see :mod:`fastmf.kernels`.
    tasks : (n_tasks + 1,) int64 bounds of the tasks. What is computed does not depend on who runs which.
    args : what the kernel takes after ``tasks``.

    Returns
    -------
    The sum, over the tasks in order, of the lines the kernel returns for them: a scalar or an array.
    """
    run = kernel[device.name]
    threads = device.threads if device.name == "cpu" else 1
    parts = deque(_parts(len(tasks) - 1, threads))
    lines: dict[int, Any] = {}

    def work() -> None:
        try:
            while parts:
                try:
                    start, stop = parts.popleft()
                except IndexError:  # another thread was quicker
                    return
                lines[start] = run(tasks[start : stop + 1], *args)
        except BaseException:  # a Ctrl-C: the others must not begin anything new
            parts.clear()
            raise

    helpers = [_helpers().submit(work) for _ in range(min(threads, len(parts)) - 1)]
    try:
        work()
    finally:
        wait(helpers)
    for helper in helpers:
        helper.result()
    return np.concatenate([lines[start] for start in sorted(lines)]).sum(axis=0) if lines else 0


def _parts(n_tasks: int, threads: int) -> Iterator[tuple[int, int]]:
    """Cut tasks into runs to be taken one after another: of several at first, one by one at the end."""
    start = 0
    while start < n_tasks:
        stop = start + min(max((n_tasks - start) // (4 * threads), 1), MOST_TASKS)
        yield start, stop
        start = stop


@functools.cache
def _helpers() -> ThreadPoolExecutor:
    """Threads that wait for launches; started when first needed."""
    return ThreadPoolExecutor(max_threads(), thread_name_prefix="fastmf")


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
    _helpers.cache_clear()  # the parent's threads do not exist here
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
