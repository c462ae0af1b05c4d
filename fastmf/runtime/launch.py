"""The one way to run a kernel: choose the device's version, and share its tasks among threads.

The threads are Python's, and kernels run without the interpreter's lock. Each thread takes a few tasks, runs them, and
takes the next few. So no thread waits while there is work, a Ctrl-C is handled between two takes, and any thread or
forked child may launch a kernel. Numba's own threading layers add hazards: workqueue aborts the process when two
threads launch at once; omp kills a forked child and lets threads spin at barriers. They also add a second or two of
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

from fastmf.runtime.device import Device
from fastmf.runtime.threads import max_threads

Kernel = Mapping[str, Callable[..., Any]]

MOST_TASKS = 8  # most tasks that a thread takes at a time; signals wait until they are done

LAST_TAKE = 2.0  # seconds that other threads get to finish their tasks when a signal or an error ends a launch


def launch(kernel: Kernel, device: Device, tasks: np.ndarray, *args: Any) -> Any:
    """Run a kernel over all its tasks on the device's threads, and add up the tasks' results.

    Parameters
    ----------
    kernel : a kernel table, device name to function; see :mod:`fastmf.kernels`.
    tasks : (n_tasks + 1,) int64 bounds of the tasks. Results do not depend on which thread runs which task.
    args : the kernel's arguments after ``tasks``.

    Returns
    -------
    The sum of the kernel's results, one per task, added in task order: a scalar or an array. 0 if they are None.
    """
    run, threads = kernel[device.name], device.threads if device.name == "cpu" else 1
    if not device.on_host:  # a GPU schedules the tasks itself
        with device.active():
            found = run(tasks, *args)
            return 0 if found is None else found.sum(axis=0)
    parts = [tasks[start : stop + 1] for start, stop in _parts(len(tasks) - 1, threads)]
    lines = spread(lambda part: run(part, *args), parts, threads)
    return 0 if not lines or lines[0] is None else np.concatenate(lines).sum(axis=0)


def spread(do: Callable[[Any], Any], parts: Iterable[Any], threads: int) -> list[Any]:
    """Call ``do`` on every part, on this thread and up to ``threads`` - 1 helpers; return the results in order.

    Helpers take parts as soon as they are free. Nothing waits for a helper that has not started: if none does, this
    thread does all the work.
    """
    found: dict[int, Any] = {}
    left = deque(enumerate(parts))

    def work() -> None:
        try:
            while left:
                try:
                    place, part = left.popleft()
                except IndexError:  # another thread took the last part
                    return
                found[place] = do(part)
        except BaseException:  # a Ctrl-C, say: the other threads must not start another part
            left.clear()
            raise

    helpers: list[Future[None]] = []
    try:
        with contextlib.suppress(RuntimeError):  # no thread can be started while the process exits
            for _ in range(min(threads, len(left)) - 1):
                helpers.append(_helpers().submit(work))
        work()
        wait([helper for helper in helpers if not helper.cancel()])
    except BaseException:  # a signal may have left a lock of the pool held: never wait forever
        left.clear()
        wait([helper for helper in helpers if not helper.cancel()], timeout=LAST_TAKE)
        raise
    for helper in helpers:
        if not helper.cancelled():
            helper.result()
    return [found[place] for place in sorted(found)]


def _parts(n_tasks: int, threads: int) -> Iterator[tuple[int, int]]:
    """Group tasks into takes: several tasks each at first, one each at the end."""
    start = 0
    while start < n_tasks:
        stop = start + min(max((n_tasks - start) // (4 * threads), 1), MOST_TASKS)
        yield start, stop
        start = stop


@functools.cache
def _helpers() -> ThreadPoolExecutor:
    """Return the pool of helper threads, which start when first needed."""
    return ThreadPoolExecutor(max_threads(), thread_name_prefix="fastmf")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # the parent's threads do not exist in the child
