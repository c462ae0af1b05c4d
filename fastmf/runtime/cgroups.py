"""The limits that control groups set for this process (Linux: cgroups(7), versions 1 and 2).

A container's limits are those of its own cgroup and of every cgroup above it. Numba and NumPy ignore them.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

CGROUPS, PROC = Path("/sys/fs/cgroup"), Path("/proc")

# A controller, and the files that hold its limit: in version 2, then in version 1.
_CPU, _MEMORY = ("cpu", "cpu.max", "cpu.cfs_quota_us"), ("memory", "memory.max", "memory.limit_in_bytes")


def core_limits() -> list[float]:
    """Return the CPU time that each limited cgroup grants, in cores."""
    return list(_limits(_quota, *_CPU))


def memory_limits() -> list[float]:
    """Return the memory limit of each limited cgroup, in bytes."""
    return list(_limits(_number, *_MEMORY))


def memory_left() -> list[float]:
    """Return the bytes that each limited cgroup has left; file caches count as free."""
    return list(_limits(_room, *_MEMORY))


def lines_of(file: Path) -> list[str]:
    """Read the lines of a file in /proc or /sys; return no lines if it cannot be read."""
    try:
        return file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []


def _limits(read: Callable[[Path], float | None], controller: str, *names: str) -> Iterator[float]:
    for folder in _folders(controller):
        yield from (found for name in names if (found := read(folder / name)) is not None)


def _folders(controller: str) -> Iterator[Path]:
    """List the folders of this process's cgroups and of all above them: version 2, and one controller of version 1."""
    for line in lines_of(PROC / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUPS / controller if controllers else CGROUPS
        own = root / path.strip("/")
        yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(root))


def _quota(file: Path) -> float | None:
    """Read the cores granted by cpu.max ("200000 100000", "max 100000") or cpu.cfs_quota_us (-1: no limit)."""
    words = " ".join(lines_of(file)).split()
    if file.name == "cpu.cfs_quota_us":
        words += " ".join(lines_of(file.with_name("cpu.cfs_period_us"))).split()
    try:
        quota, period = map(float, words)
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None


def _number(file: Path) -> float | None:
    """Read a memory limit; "max" and numbers from 2**60 on mean no limit."""
    try:
        limit = float("".join(lines_of(file)))
    except ValueError:
        return None
    return limit if limit < 2**60 else None


def _room(file: Path) -> float | None:
    """Return limit - (usage - file caches); the kernel drops these caches when memory is short."""
    limit = _number(file)
    if limit is None:
        return None
    usage, prefix = ("memory.current", "") if file.name == "memory.max" else ("memory.usage_in_bytes", "total_")
    used = _number(file.with_name(usage)) or 0
    for line in lines_of(file.with_name("memory.stat")):
        if line.split()[0] in (f"{prefix}inactive_file", f"{prefix}active_file"):
            used -= float(line.split()[1])
    return limit - max(used, 0)
