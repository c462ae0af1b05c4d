"""MovieLens sets by name: found in a folder or in the cache, or downloaded from GroupLens on request.

Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

import os
import re
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastmf.data.layout import layout_of
from fastmf.data.read import read_columns
from fastmf.data.write import write_parquet
from fastmf.errors import DataError, ParameterError

MOVIELENS = {
    "ml-100k": 100_000,
    "ml-1m": 1_000_209,
    "ml-10m": 10_000_054,
    "ml-20m": 20_000_263,
    "ml-25m": 25_000_095,
    "ml-32m": 32_000_204,
    "ml-latest-small": 100_836,
}
MOVIELENS_URL = "https://files.grouplens.org/datasets/movielens"
LICENCE = (
    "MovieLens data of GroupLens, University of Minnesota: for research; commercial use and redistribution only as its "
    "README allows (https://grouplens.org/datasets/movielens/); cite Harper and Konstan (2015), doi 10.1145/2827872"
)
TIMEOUT = 30  # seconds without a byte after which a download is given up


class DownloadError(OSError):
    """A data set could not be downloaded, or is not as GroupLens published it."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A ratings file: its name and path, whether its ratings are real, and a note on its terms or its origin."""

    name: str
    path: Path
    real: bool
    note: str


def find(
    name: str, data_dir: str | os.PathLike[str] | None = None, *, download: bool = False, base_url: str | None = None
) -> Dataset:
    """Find ``<name>.parquet`` in ``data_dir``, in ``$FASTMF_DATA_DIR`` or in the cache; else download it if allowed.

    Parameters
    ----------
    name : one of ``MOVIELENS``.
    data_dir : the folder to look in first.
    download : download a set that is not found. Otherwise the network is not used.
    base_url : as in :func:`fetch`.

    Raises
    ------
    ParameterError
        For an unknown name.
    FileNotFoundError
        If the set is not found and ``download`` is false, or ``data_dir`` does not exist.
    DownloadError
        As :func:`fetch`.
    """
    _require_known(name)
    if data_dir is not None and not Path(data_dir).is_dir():
        raise FileNotFoundError(f"cannot look for {name}.parquet: there is no folder {os.fspath(data_dir)}")
    folders = [data_dir, os.environ.get("FASTMF_DATA_DIR"), cache_directory()]
    paths = [Path(folder) / f"{name}.parquet" for folder in folders if folder]
    for path in paths:
        if path.is_file():
            return Dataset(name=name, path=path, real=True, note=LICENCE)
    if download:
        return fetch(name, base_url=base_url)
    raise FileNotFoundError(
        f"{name} is not here (looked for {', '.join(map(str, paths))}) and no download was asked for; {_offer(name)}"
    )


def fetch(name: str, *, base_url: str | None = None) -> Dataset:
    """Download a MovieLens set, check it, and put it in the cache as ``<name>.parquet``.

    The archive must have the MD5 that is published beside it and hold as many ratings as the set has. If it holds a
    movies.csv, that becomes ``<name>-movies.parquet``.

    Parameters
    ----------
    name : one of ``MOVIELENS``.
    base_url : where the archives are; by default ``$FASTMF_MOVIELENS_URL``, else GroupLens.

    Raises
    ------
    ParameterError
        For an unknown name, or if pooch is not installed.
    DownloadError
        If the archive cannot be downloaded whole or fails a check; nothing of it stays in the cache.
    """
    _require_known(name)
    url = f"{(base_url or os.environ.get('FASTMF_MOVIELENS_URL') or MOVIELENS_URL).rstrip('/')}/{name}.zip"
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as folder:
        archive = _download(name, url, Path(folder))
        try:
            ratings, movies = _read_archive(archive, name)
        except (zipfile.BadZipFile, KeyError, DataError) as error:
            raise DownloadError(f"{url} is not the archive of {name}: {error}; {_offer(name)}") from error
    if len(ratings["rating"]) != MOVIELENS[name]:
        raise DownloadError(
            f"{url} holds {len(ratings['rating']):,} ratings, but {name} has {MOVIELENS[name]:,}: GroupLens may have "
            f"rebuilt it, so its scores are not comparable; convert it to Parquet yourself to use it, or {_offer(name)}"
        )
    if movies is not None:
        write_parquet(movies, cache / f"{name}-movies.parquet", overwrite=True)
    path = cache / f"{name}.parquet"
    write_parquet(ratings, path, overwrite=True)
    return Dataset(name=name, path=path, real=True, note=LICENCE)


def cache_directory() -> Path:
    """Return this user's folder for downloaded sets; it may not exist yet."""
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "fastmf" / "Cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "fastmf"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "fastmf"


def _require_known(name: str) -> None:
    if name not in MOVIELENS:
        raise ParameterError(f"there is no data set {name!r}; there are {', '.join(MOVIELENS)}")


def _offer(name: str) -> str:
    twin = "ml-latest-small" if name in ("ml-100k", "ml-latest-small") else "ml-20m"
    return f"without it, use the synthetic twin: fastmf synth OUT.parquet --like {twin}"


def _download(name: str, url: str, folder: Path) -> Path:
    """Download the archive and its published MD5 into ``folder``; return the path of the archive."""
    try:
        import pooch
    except ImportError as error:
        raise ParameterError("downloading needs pooch, which is not installed: pip install pooch") from error
    fetcher, published = pooch.HTTPDownloader(timeout=TIMEOUT), folder / f"{name}.zip.md5"
    try:
        fetcher(source := f"{url}.md5", published, None)
        md5 = re.search(r"\b[0-9a-fA-F]{32}\b", published.read_text(encoding="utf-8", errors="replace"))
        if md5 is None:
            raise DownloadError(f"{source} holds no MD5, so {name} cannot be checked; {_offer(name)}")
        source = url
        return Path(pooch.retrieve(url, f"md5:{md5[0].lower()}", fname=f"{name}.zip", path=folder, downloader=fetcher))
    except OSError as error:
        if isinstance(error, DownloadError) or error.errno is not None:  # an error of requests has no errno
            raise
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = f"the server answered {status}" if status else f"no connection, or it broke ({type(error).__name__})"
        raise DownloadError(f"{source} could not be downloaded: {reason}; {_offer(name)}") from error
    except ValueError as error:  # from pooch for a wrong hash, from requests for an invalid URL
        raise DownloadError(f"{source} could not be downloaded whole: {error}; {_offer(name)}") from error


def _read_archive(archive: Path, name: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Read the columns of the ratings, and of movies.csv if there is one, from a MovieLens archive."""
    fields = ("userId", "movieId", "rating", "timestamp")
    member, columns = {
        "ml-100k": ("ml-100k/u.data", fields),
        "ml-1m": ("ml-1m/ratings.dat", fields),
        "ml-10m": ("ml-10M100K/ratings.dat", fields),
    }.get(name, (f"{name}/ratings.csv", None))
    with zipfile.ZipFile(archive) as content:
        with content.open(member) as rows:
            ratings = read_columns(rows, dict.fromkeys(("user", "item", "rating")), said=layout_of(columns))
        found: dict[str, Any] = {
            name: as_numbers(column, name, kind)
            for name, column, kind in zip(fields, ratings.columns, (np.int32, np.int32, np.float32), strict=False)
        }
        if f"{name}/movies.csv" not in content.namelist():
            return found, None
        with content.open(f"{name}/movies.csv") as rows:
            movies = read_columns(rows, dict.fromkeys(("item", "title")))
            movie_ids, titles = as_numbers(movies.column(0), "movieId", np.int32), movies.column(1).to_pylist()
            return found, {"movieId": movie_ids, "title": titles}


def as_numbers(column: Any, name: str, dtype: type) -> np.ndarray:
    """Return a column of numbers as an array; raise a DataError if it holds something else, or nulls."""
    values = column.to_numpy()
    if column.null_count or values.dtype.kind not in "iuf":
        raise DataError(f"column {name!r} holds {column.type} with {column.null_count:,} of {len(column):,} missing")
    return values.astype(dtype)
