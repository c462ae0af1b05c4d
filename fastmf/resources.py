"""What this process may use: the cores and the memory that the machine, its cgroups, and the user leave it.

A container's limits are those of its cgroup and of all cgroups above (Linux: cgroups(7)); neither Numba nor NumPy looks
at them.
"""

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from fastmf.errors import ParameterError, ResourceError

CGROUPS, PROC = Path("/sys/fs/cgroup"), Path("/proc")

# A controller, and the file of its limit in version 2 and in version 1.
_CPU, _MEMORY = ("cpu", "cpu.max", "cpu.cfs_quota_us"), ("memory", "memory.max", "memory.limit_in_bytes")

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def cpu_quota() -> float | None:
    """Tell how many cores' time the cgroups grant; None where they set no limit."""
    return min(_known(_quota, *_CPU), default=None)


def total_memory() -> int | None:
    """Tell how many bytes of memory the machine, or the cgroup, has; None where the system does not say (Windows)."""
    limits = list(_known(_number, *_MEMORY))
    with contextlib.suppress(AttributeError, ValueError, OSError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return int(min(limits)) if limits else None


def available_memory() -> int | None:
    """Tell how many bytes could be had now; None where the system does not say.

    What caches of files hold counts as free, as the kernel gives it up when memory is short.
    """
    free = list(_known(_room, *_MEMORY))
    for line in _lines(PROC / "meminfo"):
        if line.startswith("MemAvailable:"):
            free.append(int(line.split()[1]) * 1024)
    return max(int(min(free)), 0) if free else total_memory()


def require_memory(need: float, what: str, limit: int | None, remedy: str) -> None:
    """Refuse work that takes more memory than there is.

    Parameters
    ----------
    need : bytes that the work takes at least.
    what : the work, with its numbers; the subject of "takes".
    limit : the bytes to stay below; None for what is available.
    remedy : what else to do.

    Raises
    ------
    ResourceError
        With the numbers.
    """
    there = available_memory() if limit is None else limit
    if there is not None and need > there:
        source = "are available" if limit is None else "are allowed (memory limit)"
        raise ResourceError(f"{what} takes at least {size(need)} of memory, {size(there)} {source}: {remedy}")


def size(n_bytes: float) -> str:
    """Write a number of bytes to be read.

    >>> size(3 * 2**29)
    '1.50 GiB'
    """
    if n_bytes < 2**19:
        return f"{n_bytes:,.0f} bytes"
    return f"{n_bytes / 2**30:,.2f} GiB" if n_bytes >= 2**29 else f"{n_bytes / 2**20:,.1f} MiB"


def parse_size(text: str | float | None) -> int | None:
    """Read a number of bytes: a number, or one with K, M, G, T (powers of 1024), with or without iB or B.

    >>> parse_size("1.5 GiB")
    1610612736

    Raises
    ------
    ParameterError
        If it is not one, or not above 0.
    """
    if text is None:
        return None
    plain = f"{text:.0f}" if isinstance(text, int | float) and not isinstance(text, bool) else str(text)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", plain, re.IGNORECASE)
    number = float(match[1]) * _UNITS[match[2].upper()] if match else 0
    if not 1 <= number < 2**63:
        raise ParameterError(f"memory limit is {text!r}: give bytes, or a number with a unit such as 4GiB")
    return int(number)


def _known(read: Callable[[Path], float | None], controller: str, *names: str) -> Iterator[float]:
    """Read files of the cgroups this process is in and of those above, and yield what is a limit."""
    for folder in _cgroups(controller):
        yield from (found for name in names if (found := read(folder / name)) is not None)


def _cgroups(controller: str) -> Iterator[Path]:
    """List the folders of this process's cgroups, and of all above them: of version 2, and of a controller of 1."""
    for line in _lines(PROC / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUPS / controller if controllers else CGROUPS
        own = root / path.strip("/")
        yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(root))


def _quota(file: Path) -> float | None:
    """Read the share of cores' time from cpu.max ("200000 100000", "max 100000") or cpu.cfs_quota_us (-1: no limit)."""
    words = " ".join(_lines(file)).split()
    if file.name == "cpu.cfs_quota_us":
        words += " ".join(_lines(file.with_name("cpu.cfs_period_us"))).split()
    try:
        quota, period = map(float, words)
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None


def _number(file: Path) -> float | None:
    """Read a limit of memory; "max" and the largest number there is mean none."""
    try:
        limit = float("".join(_lines(file)))
    except ValueError:
        return None
    return limit if math.isfinite(limit) and limit < 2**60 else None


def _room(file: Path) -> float | None:
    """Tell what a cgroup's limit of memory leaves: limit - (usage - files that can be dropped)."""
    limit = _number(file)
    if limit is None:
        return None
    second = file.name == "memory.max"
    used = _number(file.with_name("memory.current" if second else "memory.usage_in_bytes")) or 0
    prefix = "" if second else "total_"
    droppable = (f"{prefix}inactive_file", f"{prefix}active_file")
    for line in _lines(file.with_name("memory.stat")):
        if line.split()[0] in droppable:
            used -= float(line.split()[1])
    return limit - max(used, 0)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
