"""Where arrays live and which version of the kernels runs on them: ``cpu``, ``cuda``, ``numpy`` (the definitions).

CUDA is not imported until a GPU is asked for, by name or by ``auto``.
"""

import contextlib
import importlib.util
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastmf.errors import DeviceUnavailableError, ParameterError, ResourceError, brief
from fastmf.runtime.memory import size
from fastmf.runtime.threads import max_threads

NAMES = ("cpu", "numpy", "cuda", "cuda:<number>", "auto")

MOST_K = 1024  # factors of a row that one block of GPU threads can work on
ROOM = "use fewer factors (--k), a GPU with more memory, or --device cpu"
INSTALL = "pip install 'numba-cuda[cu13]', or 'numba-cuda[cu12]' for a driver below 580"
FORKED = "this process was forked from one that used a GPU: start it with multiprocessing's 'spawn' or 'forkserver'"


@dataclass(frozen=True, kw_only=True)
class Device:
    """A place to compute: which entry of the kernel tables runs, and how many threads a launch may use.

    ``put``, ``get`` and ``copy`` take an array, None, or nested (named) tuples of them.

    Attributes
    ----------
    name : "cpu" runs the parallel Numba kernels, "numpy" their NumPy definitions, "cuda" the GPU kernels.
    threads : threads of a launch on the host; the numpy device leaves threading to NumPy's BLAS.
    """

    name: str
    threads: int

    @property
    def label(self) -> str:
        """The name by which :func:`resolve` finds this device."""
        return self.name

    def describe(self) -> str:
        """Describe the device for people to read."""
        return f"{self.name}, {self.threads} threads"

    @property
    def host(self) -> "Device":
        """The device that prepares this one's data: the CPU for a GPU, itself otherwise."""
        return self

    @property
    def on_host(self) -> bool:
        """Whether the device's memory is the host's."""
        return self.host is self

    def put(self, arrays: Any) -> Any:
        """Bring host arrays to the device; on the host they stay as they are."""
        return arrays

    def get(self, arrays: Any) -> Any:
        """Bring device arrays to the host once all launched work is done."""
        return arrays

    def copy(self, arrays: Any) -> Any:
        """Copy arrays within the device."""
        return _each(lambda array: array.copy(), arrays)

    def active(self) -> contextlib.AbstractContextManager[None]:
        """Return a context manager; kernels run on this device within its block."""
        return contextlib.nullcontext()

    def wait(self) -> None:
        """Wait for all launched work; on the host it is done already."""

    def require(self, k: int, need: float, what: str) -> None:
        """Raise a ParameterError or ResourceError if a GPU cannot take k factors or ``need`` bytes."""


@dataclass(frozen=True, kw_only=True)
class CudaDevice(Device):
    """An NVIDIA GPU; ``index`` is its number, from 0."""

    index: int = 0

    @property
    def label(self) -> str:
        """The name by which :func:`resolve` finds this GPU."""
        return f"{self.name}:{self.index}" if self.index else self.name

    def describe(self) -> str:
        """Describe the GPU by its product name."""
        name = getattr(_cuda().gpus[self.index], "name", "simulated")
        return f"{self.name}:{self.index}, {name.decode() if isinstance(name, bytes) else name}"

    @property
    def host(self) -> Device:
        """The CPU of the same machine."""
        return Device(name="cpu", threads=self.threads)

    def put(self, arrays: Any) -> Any:
        """Bring host arrays to the GPU."""
        with self.active():
            return _each(lambda array: _cuda().to_device(np.ascontiguousarray(array)), arrays)

    def get(self, arrays: Any) -> Any:
        """Bring arrays to the host once all launched work is done."""
        with self.active():
            return _each(lambda array: array.copy_to_host(), arrays)

    def copy(self, arrays: Any) -> Any:
        """Copy arrays within the GPU."""

        def copied(array: Any) -> Any:
            other = _cuda().device_array(array.shape, array.dtype)
            other.copy_to_device(array)
            return other

        with self.active():
            return _each(copied, arrays)

    def wait(self) -> None:
        """Wait for all launched work."""
        with self.active():
            _cuda().synchronize()

    def require(self, k: int, need: float, what: str) -> None:
        """Raise an error for more factors than GPU kernels take, or more bytes than the GPU has free."""
        if k > MOST_K:
            raise ParameterError(f"k is {k:,}: a GPU takes at most {MOST_K:,} factors here; use --device cpu")
        with self.active():
            context = _cuda().current_context()
            if hasattr(context, "deallocations"):  # numba puts off freeing memory
                context.deallocations.clear()
            free = context.get_memory_info()[0]
        if need > free:
            raise ResourceError(
                f"{what} takes at least {size(need)} of the GPU's memory, of which {size(free)} are free: {ROOM}"
            )

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Run kernels on this GPU within the block.

        Raises
        ------
        DeviceUnavailableError
            In a process forked from one that has used a GPU: the driver does not survive a fork.
        ResourceError
            If the GPU runs out of memory.
        """
        global _used
        if _forked:
            raise DeviceUnavailableError(f"the GPU cannot be used: {FORKED}")
        _used = True
        gpu = _cuda().gpus[self.index]
        if not hasattr(_thread, "entered"):  # never left: arrays may be freed any time, and freeing needs a context
            gpu.__enter__()
            _thread.entered = True
        try:
            with gpu:
                yield
        except Exception as error:
            from fastmf.kernels.groups_cuda import is_out_of_memory

            if not is_out_of_memory(error):
                raise
            raise ResourceError(f"the GPU is out of memory: {ROOM}") from None


def _each(do: Callable[[Any], Any], arrays: Any) -> Any:
    """Apply a function to every array in nested (named) tuples."""
    if not isinstance(arrays, tuple):
        return None if arrays is None else do(arrays)
    done = [_each(do, array) for array in arrays]
    return type(arrays)(*done) if hasattr(arrays, "_fields") else tuple(done)


def _cuda() -> Any:
    from numba import cuda

    return cuda


def resolve(name: str | Device = "cpu", threads: int | None = None) -> Device:
    """Find a device by name; "auto" is the first GPU, or the CPU if there is none.

    Parameters
    ----------
    name : "cpu", "numpy", "cuda" (the first GPU), "cuda:1" and so on, "auto", or a Device, which is returned as it is.
    threads : the most threads to use. If fewer are available, all of them are used, with a warning.

    Raises
    ------
    ParameterError
        For an unknown name or fewer than one thread.
    DeviceUnavailableError
        For a GPU that is not there or cannot be used, with the reason.
    """
    if isinstance(name, Device):
        return name
    kind, index = _parsed(name)
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int | np.integer) or threads < 1):
        raise ParameterError(
            f"threads is {brief(threads)}: give at least 1, or leave it out to use all {max_threads()}"
        )
    reason = unavailable(name)
    if reason:
        raise DeviceUnavailableError(f"device {name!r} cannot be used: {reason}; or use --device cpu")
    if threads is not None and threads > max_threads():
        warnings.warn(f"threads is {threads}, more than are available: using {max_threads()}", stacklevel=2)
    if kind == "auto":
        kind = "cpu" if unavailable("cuda") else "cuda"
    count = min(int(threads or max_threads()), max_threads())
    return CudaDevice(name=kind, threads=count, index=index) if kind == "cuda" else Device(name=kind, threads=count)


def _parsed(name: Any) -> tuple[str, int]:
    """Split a device's name into its kind and its number."""
    kind, colon, number = str(name).partition(":")
    if kind not in NAMES or (colon and (kind != "cuda" or not number.isdecimal())):
        raise ParameterError(f"unknown device {brief(name)}: choose one of {', '.join(NAMES)}")
    return kind, int(number or 0)


def unavailable(name: str) -> str | None:
    """Return why a device cannot be used here, and what to do; None if it can be used."""
    global _used
    kind, index = _parsed(name)
    if kind != "cuda":
        return None
    if importlib.util.find_spec("numba_cuda") is None:
        return f"the package numba-cuda is not installed: {INSTALL}"
    if _forked:
        return FORKED
    try:
        cuda = _cuda()
        if not cuda.is_available():
            error = getattr(cuda, "cuda_error", lambda: None)()
            return f"there is no GPU that CUDA can use ({_first_line(error)}): see nvidia-smi; {INSTALL}"
        _used = True
        n_gpus = len(list(cuda.gpus))
    except Exception as error:  # a broken installation may raise anything
        return f"CUDA does not start ({_first_line(error)}): {INSTALL}"
    return None if index < n_gpus else f"GPUs here: {n_gpus}, numbered from 0"


def _first_line(error: object) -> str:
    """Return the first informative line of an error."""
    lines = [line.strip().rstrip(".:") for line in str(error or "no driver found").splitlines() if line.strip()]
    return next((line for line in lines if not line.endswith("init")), lines[0])[:120]


_used = _forked = False
_thread = threading.local()


def _after_fork() -> None:
    global _forked
    _forked = _used


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
