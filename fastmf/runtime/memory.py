"""Memory: how much there is, and an error for work that needs more."""

import contextlib
import os
import re

from fastmf.errors import ParameterError, ResourceError
from fastmf.runtime import cgroups

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def total_memory() -> int | None:
    """Return the bytes of memory of the machine or its container, or None if the system does not say (Windows)."""
    limits = cgroups.memory_limits()
    with contextlib.suppress(AttributeError, ValueError, OSError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return int(min(limits)) if limits else None


def available_memory() -> int | None:
    """Return the bytes that can be allocated now, or None if the system does not say; file caches count as free."""
    free = cgroups.memory_left()
    for line in cgroups.lines_of(cgroups.PROC / "meminfo"):
        if line.startswith("MemAvailable:"):
            free.append(int(line.split()[1]) * 1024)
    return max(int(min(free)), 0) if free else total_memory()


def require_memory(need: float, what: str, limit: int | None, remedy: str) -> None:
    """Raise a ResourceError if work takes more memory than there is.

    Parameters
    ----------
    need : a lower bound on the bytes that the work takes.
    what : the work and its size, worded as the subject of "takes" in the message.
    limit : the most bytes it may take; None for the available memory.
    remedy : what the caller can do instead.
    """
    most = available_memory() if limit is None else limit
    if most is not None and need > most:
        source = "are available" if limit is None else "are allowed (memory limit)"
        raise ResourceError(f"{what} takes at least {size(need)} of memory, but {size(most)} {source}: {remedy}")


def size(n_bytes: float) -> str:
    """Format a number of bytes for people to read.

    >>> size(3 * 2**29)
    '1.50 GiB'
    """
    if n_bytes < 2**19:
        return f"{n_bytes:,.0f} bytes"
    return f"{n_bytes / 2**30:,.2f} GiB" if n_bytes >= 2**29 else f"{n_bytes / 2**20:,.1f} MiB"


def parse_size(text: str | float | None) -> int | None:
    """Read a memory limit in bytes: a number, optionally followed by K, M, G or T (powers of 1024) and B or iB.

    >>> parse_size("1.5 GiB")
    1610612736

    Raises
    ------
    ParameterError
        If it is not a number of bytes above 0.
    """
    if text is None:
        return None
    plain = f"{text:.0f}" if isinstance(text, int | float) and not isinstance(text, bool) else str(text)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", plain, re.IGNORECASE)
    number = float(match[1]) * _UNITS[match[2].upper()] if match else 0
    if not 1 <= number < 2**63:
        raise ParameterError(f"memory limit is {text!r}: give bytes, or a number with a unit such as 4GiB")
    return int(number)
