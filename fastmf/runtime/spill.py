"""Spilled arrays: what memory cannot hold lies in a folder, mapped into memory.

The system reads pages when they are used and drops them when memory is short, so these arrays are used like any
others, by the same code. They are fast where they are read from one end to the other, and slow where they are read here
and there. A file has no name: its space is free as soon as nothing refers to the array, however the process ends.
"""

import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastmf.runtime.memory import available_memory, size

BYTES_AT_ONCE = 256  # that a row takes while it is read, checked, encoded or sorted, at most
FEWEST, MOST = 1 << 12, 1 << 22  # rows at once
PART = 1 << 16  # entries of a part


class Spill:
    """A folder for arrays.

    Parameters
    ----------
    folder : exists, and can be written to.
    limit : the bytes of memory for the work on spilled arrays; half of the available memory if None.

    Attributes
    ----------
    at_once : the number of rows that are worked on at once, in memory.
    """

    def __init__(self, folder: str | os.PathLike[str], limit: int | None) -> None:
        self.folder = Path(folder)
        room = (available_memory() or 2**30) // 2 if limit is None else limit
        self.at_once = int(min(max(room // BYTES_AT_ONCE, FEWEST), MOST))

    def empty(self, n: int, dtype: Any) -> np.ndarray:
        """Return an array (n,) in the folder, all zero; raise an OSError if there is no space for it."""
        n_bytes = int(n) * np.dtype(dtype).itemsize
        if not n_bytes:
            return np.empty(0, dtype)
        try:
            with tempfile.TemporaryFile(dir=self.folder) as file:
                _reserve(file.fileno(), n_bytes)
                mapped = mmap.mmap(file.fileno(), n_bytes)
        except OSError as error:
            raise type(error)(
                error.errno,
                f"{size(n_bytes)} cannot be spilled to {self.folder} ({error.strerror}): make space, or give another"
                " folder with --spill (spill=)",
            ) from None
        return np.frombuffer(mapped, dtype)


def _reserve(file: int, n_bytes: int) -> None:
    """Reserve space for a file: without it, a full disk would end the process at a write to the mapping."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, n_bytes)
        return
    zeros = memoryview(bytes(min(n_bytes, 1 << 24)))
    while n_bytes > 0:
        n_bytes -= os.write(file, zeros[:n_bytes])


def empty(spill: Spill | None, n: int, dtype: Any) -> np.ndarray:
    """Return an array (n,): in the folder, or in memory if there is none."""
    return np.empty(n, dtype) if spill is None else spill.empty(n, dtype)


def filled(spill: Spill | None, n: int, dtype: Any, make: Callable[[slice], Any]) -> np.ndarray:
    """Return an array (n,), made part by part, so that temporary arrays are small; see :func:`empty`."""
    out = empty(spill, n, dtype)
    for part in parts_of(n):
        out[part] = make(part)
    return out


def parts_of(n: int) -> Iterator[slice]:
    """Yield slices of n entries, small next to the arrays of a fit."""
    return (slice(start, min(start + PART, n)) for start in range(0, n, PART))
