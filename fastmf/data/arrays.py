"""Named arrays and JSON text in one safetensors file, each array with its own digest.

The safetensors metadata hold the text as ``fastmf``, a BLAKE2b digest of each array as ``digests`` (JSON, name to hex),
and one of the text and ``digests`` as ``digest``. These reveal damage, not malice: whoever edits a file can edit them.
"""

import hashlib
import json
import math
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# NumPy's types and their names in the file, in the order of the arrays there.
WRITTEN = {
    "<u8": "U64",
    "<i8": "I64",
    "<f8": "F64",
    "<f4": "F32",
    "<u4": "U32",
    "<i4": "I32",
    "<f2": "F16",
    "<u2": "U16",
    "<i2": "I16",
    "|i1": "I8",
    "|u1": "U8",
    "|b1": "BOOL",
}

READ = {name: kind for kind, name in WRITTEN.items()}
LONGEST = 100_000_000  # bytes of a header, as safetensors has it


def save_arrays(arrays: Mapping[str, np.ndarray], path: Path, text: str) -> None:
    """Write arrays and JSON text; raise an OSError if writing fails (on a full disk, say).

    The layout is that of ``safetensors.numpy.save_file``, which first writes to a file with a random name of its own:
    if the process were killed, that file would stay, and nobody could tell whose it is.
    """
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    kinds = {name: array.dtype.newbyteorder("<").str for name, array in whole.items()}
    header: dict[str, Any] = {"__metadata__": {"fastmf": text, **digests_of(whole, text)}}
    names, end = sorted(whole, key=lambda name: ([*WRITTEN].index(kinds[name]), name)), 0
    for name in names:
        start, end = end, end + whole[name].nbytes
        header[name] = {"dtype": WRITTEN[kinds[name]], "shape": whole[name].shape, "data_offsets": (start, end)}
    head = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    try:
        with Path(path).open("wb") as file:
            file.write(len(head).to_bytes(8, "little") + head)
            for name in names:
                file.write(whole[name].astype(kinds[name], copy=False).reshape(-1).data)
    except OSError as error:
        raise OSError(f"{path} could not be written: {error.strerror or error}") from None


class ArrayFile:
    """A safetensors file whose arrays are mapped: the header is read and checked, their values are not.

    A private mapping: nobody can write to the file through it. It outlives the file's name, so replacing the file by
    renaming another over it changes nothing here. Writing into the file does.

    Attributes
    ----------
    text : the JSON text, or None if the file has none.
    arrays : by name, views of the mapping.
    sound : whether the digest of the text and of the arrays' digests matches. :meth:`intact` checks an array's own.

    Raises
    ------
    ValueError, or whatever else a malformed value makes Python raise
        If the header is not that of a safetensors file of NumPy's types, or does not fit the length of the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with Path(path).open("rb") as file:
            self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        start = 8 + int.from_bytes(self._memory[:8], "little")
        _require(len(self._memory) >= 8 and start <= min(len(self._memory), LONGEST), "it is not a safetensors file")
        header = json.loads(self._memory[8:start].decode(), object_pairs_hook=_distinct)
        metadata = header.pop("__metadata__", {})
        self.text: str | None = metadata.get("fastmf")
        self.arrays: dict[str, np.ndarray] = {}
        end = start
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            self.arrays[name] = self._array(name, entry, start, end)
            end += self.arrays[name].nbytes
        _require(end == len(self._memory), "its length does not fit its header")
        self._digests, self.sound = self._checked_digests(metadata)

    def intact(self, name: str, array: np.ndarray | None = None) -> bool:
        """Check the digest of an array, or of a copy of it."""
        return self._digests.get(name) == digest_of(name, self.arrays[name] if array is None else array)

    def _array(self, name: str, entry: Mapping[str, Any], start: int, place: int) -> np.ndarray:
        """Return a view of an array that has to begin at a place; the data of the file begin at ``start``."""
        dtype, shape = np.dtype(READ[entry["dtype"]]), entry["shape"]
        _require(all(type(n) is int and n >= 0 for n in shape), f"{name} has shape {shape}")
        end = place + math.prod(shape) * dtype.itemsize
        _require(entry["data_offsets"] == [place - start, end - start], f"{name} is not where its shape says")
        _require(end <= len(self._memory), f"{name} goes beyond the end of the file")
        return np.ndarray(tuple(shape), dtype, buffer=self._memory, offset=place)

    def _checked_digests(self, metadata: Mapping[str, str]) -> tuple[dict[str, str], bool]:
        """Return the arrays' digests, and whether they and the text are as they were written."""
        text, digests = self.text, metadata.get("digests")
        if text is None or digests is None or metadata.get("digest") != _hex(text.encode(), digests.encode()):
            return {}, False
        found = json.loads(digests)
        return found, digests == json.dumps(dict(sorted(found.items()))) and found.keys() == self.arrays.keys()


def load_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], str | None, bool]:
    """Read a safetensors file. Returns its arrays, its JSON text, and whether all digests match."""
    file = ArrayFile(path)
    arrays = {name: np.array(array) for name, array in file.arrays.items()}
    return arrays, file.text, file.sound and all(file.intact(name, array) for name, array in arrays.items())


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object of its pairs, if no name comes twice."""
    _require(len(dict(pairs)) == len(pairs), "a name comes twice in its header")
    return dict(pairs)


def _require(true: bool, message: str) -> None:
    if not true:
        raise ValueError(message)


def digests_of(arrays: Mapping[str, np.ndarray], text: str) -> dict[str, str]:
    """Return the metadata entries ``digests`` and ``digest`` of arrays and text."""
    digests = json.dumps({name: digest_of(name, array) for name, array in sorted(arrays.items())})
    return {"digests": digests, "digest": _hex(text.encode(), digests.encode())}


def digest_of(name: str, array: np.ndarray) -> str:
    """Return the digest of an array's name, type, shape and values."""
    return _hex(f"{name} {array.dtype.str} {array.shape}".encode(), np.ascontiguousarray(array).data)


def _hex(*parts: bytes | memoryview) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
