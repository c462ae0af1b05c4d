"""Named sets of arrays in a folder that several processes see, or at a URI: each is written whole or not at all."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import fs

from fastmf.data.arrays import ArrayFile, save_arrays
from fastmf.data.packed_ids import pack_ids, unpack_ids


class Storage:
    """A folder, or the URI of one; plain text, so that it can be sent to other processes.

    Writing a name again replaces it. Whoever writes it, at whatever time, a name stands for the same arrays.
    """

    def __init__(self, place: str) -> None:
        self.place = place

    @property
    def is_remote(self) -> bool:
        """Whether the place is a URI."""
        return "://" in self.place

    def save(self, name: str, **arrays: np.ndarray) -> None:
        """Write arrays; raise an OSError if that fails."""
        if self.is_remote:
            from safetensors.numpy import save

            system, path = self._found()
            with system.open_output_stream(f"{path}/{name}") as stream:  # what is not closed is not there
                stream.write(save({key: np.ascontiguousarray(array) for key, array in arrays.items()}))
            return
        target, part = Path(self.place, name), Path(self.place, f".{name}.{os.getpid()}-{os.urandom(4).hex()}")
        try:
            save_arrays(arrays, part, "")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def load(self, name: str) -> dict[str, np.ndarray]:
        """Return arrays, mapped if they are in a folder; raise an OSError if they are not there or damaged."""
        if self.is_remote:
            from safetensors.numpy import load

            system, path = self._found()
            with system.open_input_stream(f"{path}/{name}") as stream:
                return dict(load(stream.read()))
        try:
            return ArrayFile(Path(self.place, name)).arrays
        except ValueError as error:
            raise OSError(f"{self.place}/{name} is damaged: {error}") from None

    def has(self, name: str) -> bool:
        """Check whether arrays of a name are there."""
        if not self.is_remote:
            return Path(self.place, name).exists()
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

    def make(self) -> None:
        """Make the folder."""
        if self.is_remote:
            system, path = self._found()
            system.create_dir(path)
        else:
            Path(self.place).mkdir(parents=True, exist_ok=True)

    def remove(self, *names: str) -> None:
        """Remove what is there under names; everything and the folder, if none are given."""
        if self.is_remote:
            system, path = self._found()
            for name in names:
                if self.has(name):
                    system.delete_file(f"{path}/{name}")
            if not names:
                system.delete_dir(path)
            return
        for name in names:
            Path(self.place, name).unlink(missing_ok=True)
        if not names:
            shutil.rmtree(self.place, ignore_errors=True)

    def _found(self) -> tuple[fs.FileSystem, str]:
        system, path = fs.FileSystem.from_uri(self.place)
        return system, path.rstrip("/")


def as_mapping(arrays: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray]:
    """Leave out arrays that are None."""
    return {name: array for name, array in arrays.items() if array is not None}
