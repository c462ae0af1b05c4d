"""A fit whose ratings are on disk: the folder for them, and ratings that an earlier fit has kept there."""

import contextlib
import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastmf.data.atomic import check_output
from fastmf.data.files import is_location
from fastmf.data.kept import NAME, load_ratings, origin_of, save_ratings
from fastmf.data.ratings import Ratings
from fastmf.errors import ParameterError, counted, require_path, require_truth
from fastmf.runtime.device import Device
from fastmf.runtime.spill import Spill
from fastmf.solvers.base import Solver


@dataclass(frozen=True)
class Spilling:
    """The folder of a fit that spills, and whether the ratings are kept there for the next fit."""

    folder: Path
    keep: bool

    def begun(self, limit: int | None) -> Spill:
        """Make the folder if it does not exist; it is then removed, if it is empty, when the spill is forgotten."""
        made = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        spill = Spill(self.folder, limit)
        if made:
            weakref.finalize(spill, _remove_empty, self.folder)
        return spill

    def read(
        self, source: Any, how: Mapping[str, Any], spill: Spill, read: Callable[[], Ratings], tell: Any
    ) -> Ratings:
        """Return the ratings that were kept, or those that ``read`` returns; keep these if that is asked for."""
        if not is_location(source):
            return read()
        origin = origin_of(source, how)
        found = load_ratings(self.folder, origin, spill)
        if found is None:
            found = read()
            if self.keep:
                save_ratings(found, self.folder, origin)
        elif tell is not None:
            tell(f"{self.folder / NAME}: {counted(len(found), 'rating')} kept by an earlier fit")
        return found


def check_spill(
    folder: str | os.PathLike[str] | None,
    keep: bool,
    solver: Solver,
    device: Device,
    source: Any,
    inputs: Iterable[Any],
) -> Spilling | None:
    """Check that a fit can spill to a folder, which need not exist yet; None if it is not to spill.

    Raises
    ------
    ParameterError
        If the solver or the device cannot, or there is nothing to keep.
    OSError
        If the folder cannot be written to, or is an input or lies in one.
    """
    require_truth("keep_spill", keep)
    if folder is None:
        if keep:
            raise ParameterError("keep_spill needs a spill: give the folder with --spill (spill=)")
        return None
    require_path("spill", folder)
    if not solver.spills:
        raise ParameterError(f"solver {solver.name!r} needs its ratings in memory: leave out spill, or use als-links")
    if not device.on_host:
        raise ParameterError(f"spill is for --device cpu, not {device.name}: a GPU holds all ratings")
    if keep and not is_location(source):
        raise ParameterError("keep_spill is for ratings in files: a table in memory may change without a trace")
    path = Path(folder).absolute()
    there = next(place for place in (path, *path.parents) if place.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{there} is a file: give a folder for spilled ratings")
    check_output(there / NAME, overwrite=True, inputs=inputs)
    return Spilling(path, keep)


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
