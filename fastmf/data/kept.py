"""Ratings kept in a file, as they were read and sorted, for another fit of the same files.

The file is one of :mod:`fastmf.data.arrays`. Its JSON says what the ratings were read from: the paths, sizes and times
of the files, and how they were read.
"""

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastmf.data.arrays import ArrayFile, save_arrays
from fastmf.data.atomic import replacing
from fastmf.data.files import find
from fastmf.data.packed_ids import pack_ids, unpack_ids
from fastmf.data.ratings import Ratings
from fastmf.data.times import HalfLife
from fastmf.runtime.spill import Spill

NAME = "ratings.safetensors"
FORMAT = 1
IDS, PLAIN = ("user_ids", "item_ids"), ("columns", "duplicates", "dropped")


def origin_of(source: Any, how: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ratings are read from: the files with their sizes and times, and how they are read, as plain data."""
    files = []
    for file in find(source):
        info = None if file.system is None else file.system.get_file_info(file.path)
        files.append([file.path, *([None, None] if info is None else [info.size, info.mtime_ns])])
    return dict(json.loads(json.dumps({"format": FORMAT, "files": files, "how": how}, sort_keys=True, default=str)))


def save_ratings(ratings: Ratings, folder: Path, origin: Mapping[str, Any]) -> None:
    """Write ratings, replacing the file that is there; raise an OSError if writing fails."""
    arrays = {name: getattr(ratings, name) for name in ("users", "items", "values")}
    arrays |= {} if ratings.weights is None else {"weights": ratings.weights}
    described: dict[str, Any] = {name: getattr(ratings, name) for name in PLAIN} | {"origin": origin}
    described["half_life"] = None if ratings.half_life is None else asdict(ratings.half_life)
    for name in IDS:
        arrays |= pack_ids(name, getattr(ratings, name))
        described[name] = str(getattr(ratings, name).type)
    with replacing(folder / NAME, overwrite=True) as temporary:
        save_arrays(arrays, temporary, json.dumps(described))


def load_ratings(folder: Path, origin: Mapping[str, Any], spill: Spill) -> Ratings | None:
    """Map the ratings that a folder keeps; None, with a warning if there are others or damaged ones, if it does not."""
    path = folder / NAME
    if not path.exists():
        return None
    try:
        file = ArrayFile(path)
        described = json.loads(file.text or "")
        if described.pop("origin") != origin:
            warnings.warn(f"{path} is of other files or was read otherwise: it is not used", stacklevel=5)
            return None
        if not file.sound or not all(map(file.intact, file.arrays)):
            raise ValueError("a digest does not match")
        arrays: dict[str, Any] = dict(file.arrays)
        fields = described | {name: unpack_ids(name, arrays, described[name]) for name in IDS}
        fields["columns"], half_life = tuple(fields["columns"]), fields.pop("half_life")
        half_life = None if half_life is None else HalfLife(**half_life)
        return Ratings(**arrays, **fields, half_life=half_life, spill=spill)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # damage can raise more kinds of errors than can be listed
        warnings.warn(f"{path} is damaged ({error!r}): it is not used", stacklevel=5)
        return None
