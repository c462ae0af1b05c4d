"""The one way to run a kernel: choose the device's version, and share its tasks among threads.

On the CPU, a launch is a parallel region of Numba's (:mod:`fastmf.kernels.region`). Where that is not safe, Python's
threads run the same compiled worker: :func:`engine` decides. Either way a launch is cut into slices of SLICE seconds.
Between two of them, Python handles signals, such as a Ctrl-C.
"""

import functools
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fastmf.runtime.device import Device
from fastmf.runtime.threads import alone, spread

Kernel = Mapping[str, Callable[..., Any]]

SLICE = 0.25  # seconds that a launch runs without a look at the signals
FIRST = 32  # tasks of each thread in the first slice, which shows how long a task takes
WORTH = 5e-4  # seconds of work that are worth starting several threads for


def launch(kernel: Kernel, device: Device, tasks: np.ndarray, *args: Any) -> Any:
    """Run a kernel over all its tasks on the device's threads, and add up the tasks' results.

    Parameters
    ----------
    kernel : a kernel table, device name to function; see :mod:`fastmf.kernels`.
    tasks : (n_tasks + 1,) int64 bounds of the tasks. Results do not depend on which thread runs which task.
    args : the kernel's arguments after ``tasks``.

    Returns
    -------
    The sum of the kernel's results, one per task, added in task order: a scalar or an array. 0 if there are none.
    """
    found = results(kernel, device, tasks, *args)
    return 0 if found is None else found.sum(axis=0)


def results(kernel: Kernel, device: Device, tasks: np.ndarray, *args: Any) -> np.ndarray | None:
    """Run a kernel like :func:`launch`; return a row of results for each task, or None if there are none.

    A GPU may return any number of rows with the same sum.
    """
    run = kernel[device.name]
    if device.name == "cpu":
        work = run(tasks, *args)
        _run_slices(work, device.threads)
        return work.found if len(work.found) else None
    if device.on_host:
        lines = [run(tasks[task : task + 2], *args) for task in range(len(tasks) - 1)]
        return None if not lines or lines[0] is None else np.concatenate(lines)
    with device.active():  # a GPU schedules the tasks itself
        return run(tasks, *args)


def _run_slices(work: Any, threads: int) -> None:
    """Run all tasks of a launch, a slice at a time."""
    from fastmf.kernels.region import LIMIT, TAKEN, new_share

    share, done, n_tasks, size = new_share(work.tasks, work.found), 0, len(work.tasks) - 1, FIRST * threads
    while done < n_tasks:
        stop, began = min(done + size, n_tasks), time.perf_counter()
        used = min(threads, stop - done) if work.region.pace * (n_tasks - done) > WORTH else 1
        share.counters[TAKEN], share.counters[LIMIT] = done, stop
        _run_slice(work, share, used)
        spent = max(time.perf_counter() - began, 1e-9)
        work.region.pace = spent * used / (stop - done)
        size, done = max(threads, int(SLICE * (stop - done) / spent)), stop


def _run_slice(work: Any, share: Any, threads: int) -> None:
    """Take tasks on so many threads until none may be taken."""
    run, how = work.region.run, engine().name if threads > 1 else "serial"
    if how == "serial":
        run(share, 0, 1, *work.args)
    elif how == "region":
        _run_region(run, share, threads, work.args)
    else:
        spread(lambda _: run(share, 0, 1, *work.args), range(threads), threads)


def _run_region(run: Callable[..., int], share: Any, threads: int, args: tuple[Any, ...]) -> None:
    """Run a slice as a parallel region, and leave Numba's number of threads as it was."""
    import numba

    from fastmf.kernels.region import in_parallel

    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    try:
        if run(share, in_parallel(), threads, *args):
            raise MemoryError("there is not enough memory for the threads of a parallel region")
    finally:
        numba.set_num_threads(before)


class Engine(NamedTuple):
    """How launches share their tasks among threads here, and why: "region", "threads" (Python's) or "serial"."""

    name: str
    reason: str


def engine() -> Engine:
    """Choose how to run a launch of several threads."""
    from fastmf.kernels.compile import ENABLED

    if not ENABLED:
        return Engine("serial", "NUMBA_DISABLE_JIT is set")
    found = _engine()
    if found.name == "region" and _layer() == "workqueue" and not alone():
        return Engine("threads", "Numba's workqueue layer aborts if two threads launch at once, and others run here")
    return found


@functools.cache
def _engine() -> Engine:
    """Choose once a process: the threading layer cannot change any more."""
    from fastmf.kernels.region import in_parallel

    if _forked:
        return Engine("threads", "Numba's threads were started before, perhaps by a parent of this process")
    try:
        in_parallel()
        return Engine("region", f"Numba's threading layer is {_layer()}")
    except ValueError as error:  # the layer that the user chose is not installed
        return Engine("threads", " ".join(str(error).split()))


def _layer() -> str:
    """Return the name of the threading layer that Numba has started."""
    import numba

    return str(numba.threading_layer())  # type: ignore[attr-defined]


def _numba_has_started() -> bool:
    parallel = sys.modules.get("numba.np.ufunc.parallel")
    return parallel is not None and getattr(parallel, "_is_initialized", True)


# Whether a parent of this process may have started Numba's threads: they would not exist here. Nobody can tell who
# started those that were there before this module.
_forked = _numba_has_started()


def _after_fork() -> None:
    global _forked
    _forked = _forked or _numba_has_started()
    _engine.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
