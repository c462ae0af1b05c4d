"""The number of threads a launch may use."""

import functools
import math
import os

from fastmf.runtime.cgroups import core_limits


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
