"""Named sets of arrays in a folder that several processes see, or at a URI: each is written whole or not at all."""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import fs

from fastmf.data.arrays import ArrayFile, save_arrays
from fastmf.data.packed_ids import pack_ids, unpack_ids

LAST_WRITE = 5.0  # seconds that others get to end what they write


class Storage:
    """A folder, or the URI of one (s3://…, gs://…, hdfs://…); the object can be sent to other processes.

    Writing a name again replaces it. Whoever writes it, at whatever time, a name stands for the same arrays.

    Raises
    ------
    OSError
        If it is not a URI of a file system that can be reached, or a folder that can be made.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.place = str(place)
        system, path = self._found()
        system.create_dir(path, recursive=True)

    def save(self, name: str, **arrays: np.ndarray) -> None:
        """Write arrays; raise an OSError if that fails."""
        if self.is_remote:
            from safetensors.numpy import save

            system, path = self._found()
            with system.open_output_stream(f"{path}/{name}") as stream:  # stores of objects have it once it is closed
                stream.write(save({key: np.ascontiguousarray(array) for key, array in arrays.items()}))
            return
        part = Path(self.place, f".{name}.{os.getpid()}-{os.urandom(4).hex()}")
        try:
            save_arrays(arrays, part, "")
            part.replace(Path(self.place, name))
        finally:
            part.unlink(missing_ok=True)

    def load(self, name: str) -> dict[str, np.ndarray]:
        """Return arrays, mapped if they are in a folder; raise an OSError if they are not there or damaged."""
        try:
            if self.is_remote:
                from safetensors.numpy import load

                system, path = self._found()
                with system.open_input_stream(f"{path}/{name}") as stream:
                    return dict(load(stream.read()))
            return ArrayFile(Path(self.place, name)).arrays
        except ValueError as error:
            raise OSError(f"{self.place}/{name} is damaged: {error}") from None

    def has(self, name: str) -> bool:
        """Check whether arrays of a name are there."""
        system, path = self._found()
        return bool(system.get_file_info(f"{path}/{name}").is_file)

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
        system, path = self._found()
        for name in names:
            if self.has(name):
                system.delete_file(f"{path}/{name}")

    def clear(self, stays: Callable[[str], bool]) -> None:
        """Remove all but names that are to stay; if none does, the folder, too.

        What runs in other processes cannot be stopped, and may still write: for a while, it is removed again.
        """
        until = time.monotonic() + LAST_WRITE
        while time.monotonic() < until:
            names = self._names()
            stale = [name for name in names if not stays(name)]
            for name in stale:
                self._remove(name)
            if not stale:
                if not names and not self.is_remote:
                    shutil.rmtree(self.place, ignore_errors=True)
                return

    @property
    def is_remote(self) -> bool:
        """Whether the place is a URI."""
        return "://" in self.place

    def _names(self) -> list[str]:
        """List what is there, files and folders."""
        system, path = self._found()
        return [info.base_name for info in system.get_file_info(fs.FileSelector(path, allow_not_found=True))]

    def _remove(self, name: str) -> None:
        system, path = self._found()
        info = system.get_file_info(f"{path}/{name}")
        if info.type == fs.FileType.Directory:
            system.delete_dir(f"{path}/{name}")
        elif info.is_file:
            system.delete_file(f"{path}/{name}")

    def _found(self) -> tuple[fs.FileSystem, str]:
        """Return the file system and the path on it."""
        if not self.is_remote:
            return fs.LocalFileSystem(), self.place
        try:
            system, path = fs.FileSystem.from_uri(self.place)
        except pa.ArrowException as error:
            raise OSError(f"{self.place} is not a URI that can be opened: {error}") from None
        return system, path.rstrip("/")


def as_mapping(arrays: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray]:
    """Leave out arrays that are None."""
    return {name: array for name, array in arrays.items() if array is not None}
