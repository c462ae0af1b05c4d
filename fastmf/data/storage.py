"""Named sets of arrays in a folder that several processes see: each is written whole or not at all."""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fastmf.data.arrays import ArrayFile, save_arrays
from fastmf.data.packed_ids import pack_ids, unpack_ids

LAST_WRITE = 5.0  # seconds that others get to end what they write


class Storage:
    """A folder; the object can be sent to other processes.

    Writing a name again replaces it. Whoever writes it, at whatever time, a name stands for the same arrays.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def save(self, name: str, **arrays: np.ndarray) -> None:
        """Write arrays; raise an OSError if that fails."""
        part = self.folder / f".{name}.{os.getpid()}-{os.urandom(4).hex()}"
        try:
            save_arrays(arrays, part, "")
            part.replace(self.folder / name)
        finally:
            part.unlink(missing_ok=True)

    def load(self, name: str) -> dict[str, np.ndarray]:
        """Return arrays, mapped; raise an OSError if they are not there or damaged."""
        try:
            return ArrayFile(self.folder / name).arrays
        except ValueError as error:
            raise OSError(f"{self.folder / name} is damaged: {error}") from None

    def has(self, name: str) -> bool:
        """Check whether arrays of a name are there."""
        return (self.folder / name).exists()

    def save_ids(self, name: str, row_ids: pa.Array) -> None:
        """Write ids."""
        kind = np.frombuffer(str(row_ids.type).encode(), np.uint8)
        self.save(name, kind=kind, **pack_ids("ids", row_ids))

    def load_ids(self, name: str) -> pa.Array:
        """Return ids."""
        arrays: dict[str, Any] = {key: np.array(array) for key, array in self.load(name).items()}
        return unpack_ids("ids", arrays, bytes(arrays.pop("kind")).decode())

    def remove(self, *names: str) -> None:
        """Remove what is there under names."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def clear(self, stays: Callable[[str], bool]) -> None:
        """Remove all but names that are to stay; if none does, the folder, too.

        What runs in other processes cannot be stopped, and may still write: for a while, it is removed again.
        """
        until = time.monotonic() + LAST_WRITE
        while time.monotonic() < until:
            there = [path for path in self.folder.iterdir() if not stays(path.name)]
            for path in there:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            if there:
                continue
            try:
                self.folder.rmdir()
            except FileNotFoundError:
                pass
            except OSError:  # something stays, or was written just now
                if all(stays(path.name) for path in self.folder.iterdir()):
                    return
                continue
            return


def as_mapping(arrays: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray]:
    """Leave out arrays that are None."""
    return {name: array for name, array in arrays.items() if array is not None}
