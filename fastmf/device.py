"""Where arrays live and which version of the kernels runs on them: ``cpu``, ``numpy`` (the definitions), ``auto``."""

import functools
import math
import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import config

from fastmf.errors import DeviceUnavailableError, ParameterError
from fastmf.resources import cpu_quota

NAMES = ("cpu", "numpy", "cuda", "auto")


@dataclass(frozen=True, kw_only=True)
class Device:
    """A place to compute: the column of the kernel tables, and the number of threads a launch may use.

    Attributes
    ----------
    name : "cpu" runs the parallel Numba kernels, "numpy" their plain NumPy definitions.
    threads : threads of a launch; the numpy device leaves threading to NumPy's BLAS.
    """

    name: str
    threads: int

    def put(self, arrays: Any) -> Any:
        """Bring host arrays (or nested tuples of them) to the device; on the host itself they stay as they are."""
        return arrays

    def get(self, arrays: Any) -> Any:
        """Bring device arrays (or nested tuples of them) back to the host."""
        return arrays


@functools.cache
def max_threads() -> int:
    """Count the threads a launch can use: NUMBA_NUM_THREADS, or the cores this process may run on and has time of."""
    cores = int(config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]  # set at import
    quota = None if "NUMBA_NUM_THREADS" in os.environ else cpu_quota()
    return cores if quota is None else min(cores, math.ceil(quota))


def resolve(name: str | Device = "cpu", threads: int | None = None) -> Device:
    """Find the device of that name; ``auto`` takes the fastest that is there.

    Parameters
    ----------
    name : "cpu", "numpy", "cuda", "auto", or a Device, which is returned as it is.
    threads : at most this many; more than there are is cut down to what there is, with a warning.

    Raises
    ------
    ParameterError
        For an unknown name or fewer than one thread.
    DeviceUnavailableError
        For "cuda": this version has no GPU path.
    """
    if isinstance(name, Device):
        return name
    if name not in NAMES:
        raise ParameterError(f"unknown device {name!r}: choose one of {', '.join(NAMES)}")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int | np.integer) or threads < 1):
        raise ParameterError(f"threads is {threads}: give at least 1, or leave it out to use all {max_threads()}")
    reason = unavailable(name)
    if reason:
        raise DeviceUnavailableError(f"device {name!r} cannot be used: {reason}; use --device cpu")
    if threads is not None and threads > max_threads():
        warnings.warn(f"threads is {threads}, more than there are: using {max_threads()}", stacklevel=2)
    return Device(name="cpu" if name == "auto" else name, threads=min(int(threads or max_threads()), max_threads()))


def unavailable(name: str) -> str | None:
    """Say why a device cannot be used here, or None if it can."""
    return "this version of fastmf has no GPU kernels" if name == "cuda" else None
