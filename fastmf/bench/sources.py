"""The data of a benchmark: real files if they are found, otherwise their synthetic twins."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fastmf.bench.case import SEED
from fastmf.datasets.movielens import MOVIELENS
from fastmf.datasets.movielens import find as find_movielens
from fastmf.datasets.twins import TWINS, write_twin

Say = Callable[[str], object]


class Source(NamedTuple):
    """A data set: the name asked for, its file, its kind ("real", "twin (seed 0)" or "file"), and its terms of use."""

    name: str
    path: str
    data: str
    note: str


def find_source(name: str, data_dir: str | os.PathLike[str] | None, download: bool, folder: Path, say: Say) -> Source:
    """Find the file of a data set, or write its twin into ``folder``; raise FileNotFoundError if there is neither."""
    if data_dir is not None and not Path(data_dir).is_dir():
        raise FileNotFoundError(f"there is no folder {os.fspath(data_dir)} to look for data sets in")
    if name not in MOVIELENS:
        if "://" not in name and not Path(name).exists():
            known = ", ".join(MOVIELENS)
            raise FileNotFoundError(f"{name} is neither a file nor a data set: give a path, or one of {known}")
        return Source(name, name, "file", "")
    try:
        found = find_movielens(name, data_dir, download=download)
        return Source(name, os.fspath(found.path), "real", found.note)
    except FileNotFoundError:
        if name not in TWINS:
            raise
    say(f"{name} is not found: drawing its synthetic twin")
    twin = write_twin(folder / f"{name}-twin.parquet", name, seed=SEED, timestamps=False)
    return Source(name, os.fspath(twin.path), f"twin (seed {SEED})", "not the real data: " + twin.note)
