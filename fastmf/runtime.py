"""The one way to run a kernel: pick the device's version and share its tasks out among threads.

The threads are Python's, and kernels run without the interpreter's lock: each thread takes a few tasks, runs them, and
takes the next, so that none waits while there is work, a Ctrl-C is heard between two takes, any threads may launch at
once, and a forked child may. Numba's own threading layers would each add a hazard (workqueue aborts the process when
two threads launch at once, omp kills a forked child and lets threads spin at barriers) and a second or two of
compilation to every kernel.
"""

import contextlib
import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
from llvmlite import binding

from fastmf.device import Device, max_threads, resolve, unavailable
from fastmf.kernels.compile import ENABLED, cache_folder
from fastmf.kernels.vectors import WIDTH
from fastmf.resources import available_memory, cpu_quota

Kernel = Mapping[str, Callable[..., Any]]

# Tasks that a thread takes at a time, at most: it looks at nothing else before they are done.
MOST_TASKS = 8

LAST_TAKE = 2.0  # seconds that other threads are given to end what they do, when a signal or an error ends a launch


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
    run, threads = kernel[device.name], device.threads if device.name == "cpu" else 1
    if not device.on_host:  # it shares the tasks out itself
        with device.active():
            return run(tasks, *args).sum(axis=0)
    parts = [tasks[start : stop + 1] for start, stop in _parts(len(tasks) - 1, threads)]
    lines = spread(lambda part: run(part, *args), parts, threads)
    return np.concatenate(lines).sum(axis=0) if lines else 0


def spread(do: Callable[[Any], Any], parts: Iterable[Any], threads: int) -> list[Any]:
    """Do something with every part, on this thread and at most ``threads`` - 1 others; return the results in order.

    Others help as they are free: nothing waits for a thread that has not begun, and without any this one does it all.
    """
    found: dict[int, Any] = {}
    left = deque(enumerate(parts))

    def work() -> None:
        try:
            while left:
                try:
                    place, part = left.popleft()
                except IndexError:  # another thread was quicker
                    return
                found[place] = do(part)
        except BaseException:  # a Ctrl-C: the others must not begin anything new
            left.clear()
            raise

    helpers: list[Future[None]] = []
    try:
        with contextlib.suppress(RuntimeError):  # no thread can be started: at the end of the process, or for want
            for _ in range(min(threads, len(left)) - 1):
                helpers.append(_helpers().submit(work))
        work()
        wait([helper for helper in helpers if not helper.cancel()])
    except BaseException:  # a signal's may have left a lock of the pool behind: nothing may wait for that for ever
        left.clear()
        wait([helper for helper in helpers if not helper.cancel()], timeout=LAST_TAKE)
        raise
    for helper in helpers:
        if not helper.cancelled():
            helper.result()
    return [found[place] for place in sorted(found)]


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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # the parent's threads do not exist in the child


def describe() -> dict[str, Any]:
    """Tell what launches run on: threads, vectors, kernel cache, devices and why not."""
    features = binding.get_host_cpu_features()
    return {
        "threads": max_threads(),
        "threading": "Python threads, kernels without the interpreter's lock",
        "cpu_quota": cpu_quota(),
        "memory_available_bytes": available_memory(),
        "cpu_name": binding.get_host_cpu_name(),
        "vectors": [name for name in ("avx512f", "avx2", "fma", "sse4.2", "neon") if features.get(name)],
        "vector_width": WIDTH,
        "jit": ENABLED,
        "kernel_cache": cache_folder() if ENABLED else None,
        "devices": {name: unavailable(name) or resolve(name).describe() for name in ("cpu", "numpy", "cuda")},
    }
