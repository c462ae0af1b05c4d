"""Files written whole or not at all: write beside the target, flush to the disk, then rename over it."""

import contextlib
import functools
import hashlib
import json
import os
import platform
import re
import secrets
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fastmf.errors import ParameterError

ABANDONED = 86_400  # seconds without a write, after which nobody writes to an unfinished file
_PART = re.compile(r"\..*\.(?P<own>(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{12})\.part", re.DOTALL)


def check_output(path: str | os.PathLike[str], overwrite: bool = False, *, inputs: Iterable[Any] = ()) -> Path:
    """Check, before the work begins, that its result can be written to ``path``.

    Raises
    ------
    FileExistsError
        If the file exists and overwrite is False, or the path is one of the inputs or lies in one.
    FileNotFoundError, IsADirectoryError, PermissionError
        If the directory is missing, the path is a directory, or no file can be created there.
    """
    real = _allowed(path, overwrite, inputs)
    try:
        _create_beside(real).unlink()
    except OSError as error:  # PermissionError, or whatever a read-only or full disk raises
        raise type(error)(
            f"{real.parent} cannot be written to ({error.strerror}): make it writable, or write elsewhere"
        ) from None
    return Path(path)


def check_outputs(
    paths: Iterable[str | os.PathLike[str]], overwrite: bool = False, *, inputs: Sequence[Any] = ()
) -> list[Path]:
    """Check that files can be written, like :func:`check_output`; raise a ParameterError if two are the same."""
    outputs = [check_output(path, overwrite, inputs=inputs) for path in paths]
    if len({output.resolve() for output in outputs}) < len(outputs):
        raise ParameterError(f"one file is named for two outputs ({', '.join(map(str, outputs))}): name another")
    return outputs


def _allowed(path: str | os.PathLike[str], overwrite: bool, inputs: Iterable[Any] = ()) -> Path:
    """Check all that :func:`check_output` does except write access; return the path with links resolved."""
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a directory: give the name of a file")
    if target.exists() and not target.is_file():
        raise FileExistsError(f"{target} is a device, not a file: give the name of a file")
    real = Path(os.path.realpath(target))
    for given in inputs:
        if given and real.is_relative_to(os.path.realpath(str(given).removeprefix("file://"))):
            raise FileExistsError(f"{target} is an input, or lies in one: give another name for the output")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists: give another name, or overwrite it with --overwrite (overwrite=True)")
    if not real.parent.is_dir():
        raise FileNotFoundError(f"{real.parent} is not a directory: make it first, or write elsewhere")
    return real


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to; when the block succeeds, rename it to ``path`` in one step.

    A failure leaves what was there before, and nothing else. A symbolic link stays, and its target is replaced.

    Raises
    ------
    OSError
        As :func:`check_output`, and whatever writing, flushing or renaming raises.
    """
    target = _allowed(path, overwrite)
    temporary = _create_beside(target)
    mode = (target if target.exists() else temporary).stat().st_mode & 0o777
    try:
        yield temporary
        _sync(temporary, os.O_RDWR)
        temporary.chmod(mode)  # a writer may have replaced the file with its own
        if overwrite:
            temporary.replace(target)
        else:
            _rename_new(temporary, target)
        _sync_folder(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(report: Any, path: str | os.PathLike[str], overwrite: bool) -> None:
    """Write plain data as JSON, whole or not at all; see :func:`replacing` for errors."""
    with replacing(path, overwrite) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _create_beside(target: Path) -> Path:
    """Create an empty hidden file in the folder of the target, named after this process; see :func:`_remove_stale`."""
    _remove_stale(target)
    own = f"{_machine()}-{os.getpid()}-{secrets.token_hex(6)}"
    path = target.with_name(f".{target.name[:50]}.{own}.part")  # cut to stay valid
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))  # the umask applies
    return path


def _remove_stale(target: Path) -> None:
    """Remove the unfinished files of this target whose writers were killed.

    Those are files of processes that no longer run here. Of files from other machines and containers, nobody can tell
    here: they go when nothing has been written to them for a day.
    """
    with contextlib.suppress(OSError):  # a folder that cannot be listed, or a file that another process removed first
        start = f".{target.name[:50]}."
        names = [each.name for each in os.scandir(target.parent) if each.name.startswith(start)]
        for match in filter(None, map(_PART.fullmatch, names)):
            path = target.with_name(match[0])
            if match[0].startswith(f"{start}{match['own']}") and not _is_written(match, path):
                path.unlink(missing_ok=True)


def _is_written(match: re.Match[str], path: Path) -> bool:
    """Check whether a process may still write to an unfinished file."""
    if match["machine"] == _machine() and os.name == "posix":  # elsewhere, asking for a process would end it
        try:
            os.kill(int(match["process"]), 0)
        except (ProcessLookupError, OverflowError):
            return False
        except OSError:  # it runs, but for another user
            return True
        return True
    return time.time() - path.stat().st_mtime < ABANDONED


@functools.cache
def _machine() -> str:
    """Return a digest of this machine's or container's name and processes."""
    name = [platform.node()]
    with contextlib.suppress(OSError):
        name.append(str(Path("/proc/self/ns/pid").readlink()))
        name.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    return hashlib.sha256(" ".join(name).encode()).hexdigest()[:8]


def _rename_new(temporary: Path, target: Path) -> None:
    """Rename, and raise an error if the new name is taken; file systems without hard links cannot check that."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise FileExistsError(f"another process has made {target}: nothing was replaced") from None
    except OSError:
        temporary.replace(target)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(target: Path) -> None:
    """Make a rename survive a power failure; warn if the file system cannot ensure that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        _sync(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        warnings.warn(f"{target} is written, but a power failure may yet undo it: {error}", stacklevel=4)
