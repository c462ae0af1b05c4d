"""The number of threads a launch may use, and a pool of Python's threads."""

import contextlib
import functools
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from fastmf.runtime.cgroups import core_limits

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

LAST_PART = 2.0  # seconds that other threads get to finish their parts when a signal or an error ends the work

_own: set[threading.Thread] = set()  # threads of the pool


def cpu_quota() -> float | None:
    """Return the CPU time that the container grants, in cores, or None if there is no limit."""
    return min(core_limits(), default=None)


@functools.cache
def max_threads() -> int:
    """Return NUMBA_NUM_THREADS if it is set, else the number of cores this process may use, within its CPU quota."""
    from numba import config

    cores = int(config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]  # set at import
    quota = None if "NUMBA_NUM_THREADS" in os.environ else cpu_quota()
    return cores if quota is None else min(cores, math.ceil(quota))


def alone() -> bool:
    """Whether no thread of Python's runs but this one and those of the pool, which wait for work."""
    return all(thread is threading.current_thread() or thread in _own for thread in threading.enumerate())


def spread(do: Callable[[Any], Any], parts: Iterable[Any], threads: int) -> list[Any]:
    """Call ``do`` on every part, on this thread and up to ``threads`` - 1 helpers; return the results in order.

    Helpers take parts as soon as they are free. Nothing waits for a helper that has not started: if none does, this
    thread does all the work.
    """
    from concurrent.futures import wait

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
        wait([helper for helper in helpers if not helper.cancel()], timeout=LAST_PART)
        raise
    for helper in helpers:
        if not helper.cancelled():
            helper.result()
    return [found[place] for place in sorted(found)]


@functools.cache
def _helpers() -> "ThreadPoolExecutor":
    """Return the pool of helper threads, which start when first needed."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(
        max_threads(), thread_name_prefix="fastmf", initializer=lambda: _own.add(threading.current_thread())
    )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # the parent's threads do not exist in the child
