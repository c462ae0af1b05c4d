"""A fit whose ratings are on disk: the folder for them, and ratings that an earlier fit has kept there."""

import contextlib
import os
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastmf.data.kept import NAME, is_other, load_ratings, origin_of, save_ratings
from fastmf.data.ratings import Ratings
from fastmf.errors import ParameterError, require_path, require_truth
from fastmf.runtime.device import Device
from fastmf.runtime.spill import Spill
from fastmf.solvers.base import Solver


@dataclass(frozen=True)
class Spilling:
    """The folder of a fit that spills, and whether the ratings are kept there for the next fit.

    origin : what the ratings are read from; None if they cannot be read again.
    """

    folder: Path
    keep: bool
    origin: dict[str, Any] | None

    @property
    def files(self) -> list[str]:
        """The file of kept ratings, which no output may replace."""
        return [str(self.folder / NAME)]

    def begun(self, limit: int | None) -> Spill:
        """Make the folder if it does not exist; then it is removed when the spill is forgotten, if it is empty."""
        places = (self.folder, *self.folder.parents)
        made = [place for place in places if not place.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        spill = Spill(self.folder, limit)
        if made:
            weakref.finalize(spill, _remove_empty, made)
        return spill

    def kept(self, spill: Spill) -> Ratings | None:
        """Return the ratings that an earlier fit has kept, if they are the same."""
        return None if self.origin is None else load_ratings(self.folder, self.origin, spill)

    def keep_if_asked(self, ratings: Ratings) -> None:
        """Keep the ratings if that is asked for."""
        if self.keep and self.origin is not None:
            save_ratings(ratings, self.folder, self.origin)


def check_spill(
    folder: str | os.PathLike[str] | None, keep: bool, solver: Solver, device: Device, source: Any, how: dict[str, Any]
) -> Spilling | None:
    """Check that a fit can spill to a folder, which need not exist yet; None if it is not to spill.

    Raises
    ------
    ParameterError
        If the solver, the device or the ratings cannot spill, or there is nothing to keep.
    OSError
        If the folder cannot be written to, or has a file of another kind under the name of kept ratings.
    """
    require_truth("keep_spill", keep)
    if folder is None:
        if keep:
            raise ParameterError("keep_spill needs a folder: give one with --spill (spill=)")
        return None
    require_path("spill", folder)
    if not os.fspath(folder):
        raise ParameterError("the folder to spill to has no name: give one with --spill (spill=)")
    if not solver.spills:
        raise ParameterError(
            f"solver {solver.name!r} needs its ratings in memory: leave out --spill (spill=), or use als-links"
        )
    if not device.on_host:
        raise ParameterError(f"spill is for --device cpu, not {device.name}: a GPU holds all ratings")
    if isinstance(source, Ratings):
        raise ParameterError("spill is for ratings that are to be read, and these are in memory: give their files")
    path = Path(folder).absolute()
    _require_writable(path)
    origin = origin_of(source, how)
    if keep and origin is None:
        raise ParameterError("keep_spill is for ratings in files: a table or a pipe may change without a trace")
    if keep and is_other(path / NAME):
        raise FileExistsError(f"{path / NAME} does not hold kept ratings: move it, or give another folder")
    return Spilling(path, keep, origin)


def _require_writable(path: Path) -> None:
    """Raise an OSError unless a folder, or the first of its parents that exists, can be written to."""
    there = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if not there.is_dir():
        raise NotADirectoryError(f"{there} is no folder: give a folder for spilled ratings")
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise type(error)(f"{there} cannot be written to ({error.strerror}): give another folder to spill to") from None


def _remove_empty(folders: list[Path]) -> None:
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()
