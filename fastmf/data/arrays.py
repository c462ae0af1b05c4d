"""Named arrays and JSON text in one safetensors file, each array with its own digest.

The safetensors metadata hold the text as ``fastmf``, a BLAKE2b digest of each array as ``digests`` (JSON, name to hex),
and one of the text and ``digests`` as ``digest``. These reveal damage, not malice: whoever edits a file can edit them.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy


def save_arrays(arrays: Mapping[str, np.ndarray], path: Path, text: str) -> None:
    """Write arrays and JSON text; raise an OSError if writing fails (on a full disk, say)."""
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    try:
        safetensors.numpy.save_file(whole, path, {"fastmf": text, **digests_of(whole, text)})
    except safetensors.SafetensorError as error:
        raise OSError(f"{path} could not be written: {error}") from None


def load_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], str | None, bool]:
    """Read a safetensors file. Returns its arrays, its JSON text, and whether all digests match."""
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118  not a mapping
    text = metadata.get("fastmf")
    return arrays, text, text is not None and digests_of(arrays, text).items() <= metadata.items()


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
