"""Checkpoints: everything that training needs to continue after an epoch as if it had never stopped.

A checkpoint is one safetensors file in a folder, replaced as a whole. It holds the arrays of the solver, the best
factors so far if validation chooses them, and as JSON the history and a fingerprint of data and settings. A run resumes
only from a checkpoint with its own fingerprint.
"""

import copy
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastmf.data import ids
from fastmf.data.arrays import load_arrays, save_arrays
from fastmf.data.atomic import check_output, replacing
from fastmf.data.ratings import Ratings
from fastmf.errors import ModelFormatError, ParameterError, require_path
from fastmf.model.history import Epoch
from fastmf.solvers.factors import Factors

NAME = "checkpoint.safetensors"
FORMAT = 3


class Snapshot(NamedTuple):
    """The state of a run after an epoch, on the host; ``best`` are the factors of the best epoch, if there is one."""

    now: Factors
    best: Factors | None
    history: list[Epoch]
    best_epoch: int | None


class Checkpoint:
    """The file that keeps the state of one training run.

    Parameters
    ----------
    folder : created if it does not exist; raises an OSError if that fails. :func:`check_folder` checks it beforehand.
    fingerprint : data and settings of the run as plain values; see :func:`fingerprint`.
    every : epochs from one save to the next.
    """

    def __init__(self, folder: str | os.PathLike[str], fingerprint: Mapping[str, Any], every: int) -> None:
        self._path = Path(folder) / NAME
        self._fingerprint = json.loads(json.dumps(fingerprint))
        self.every = every
        Path(folder).mkdir(parents=True, exist_ok=True)

    def save(self, state: Snapshot) -> None:
        """Write this state, replacing the file."""
        arrays = _named("now", state.now) | ({} if state.best is None else _named("best", state.best))
        described = {
            "format": FORMAT,
            "fingerprint": self._fingerprint,
            "history": [asdict(epoch) for epoch in state.history],
            "best_epoch": state.best_epoch,
        }
        with replacing(self._path, overwrite=True) as temporary:
            save_arrays(arrays, temporary, json.dumps(described, allow_nan=False))

    def load(self, start: Factors) -> Snapshot | None:
        """Read the saved state into the arrays of ``start``; return None if there is no checkpoint.

        Raises
        ------
        ParameterError
            If the checkpoint is from other data or settings; the message names the first difference.
        ModelFormatError
            If the file is damaged.
        """
        if not self._path.exists():
            return None
        try:
            arrays, text, sound = load_arrays(self._path)
            described = json.loads(text or "")
            if described["format"] != FORMAT:
                raise ModelFormatError(
                    f"{self._path} has format {described['format']!r}, but this version reads {FORMAT}: resume with the"
                    " version that wrote it, or delete it to start over"
                )
            history = [Epoch(**epoch) for epoch in described["history"]]
            then, best_epoch = dict(described["fingerprint"]), described["best_epoch"]
            _check_history(history, best_epoch, then["epochs"])
            if not sound:
                raise ValueError("its digest does not match its content")
        except (ModelFormatError, MemoryError):
            raise
        except Exception as error:  # damaged files fail in more ways than can be listed
            raise ModelFormatError(f"{self._path} is damaged: {error!r}; delete it to start over") from None
        for name, value in self._fingerprint.items():
            if then.get(name) != value:
                was, now = _brief(then.get(name)), _brief(value)
                raise ParameterError(
                    f"{self._path} is from a run with {name} {was}, which is now {now}: resume with the same"
                    " data and settings, or give another folder"
                )
        best = None if best_epoch is None else copy.deepcopy(start._replace(memory=()))
        for prefix, factors in (("best", best), ("now", start)):
            _fill({} if factors is None else _named(prefix, factors), arrays)
        return Snapshot(start, best, history, best_epoch)


def check_folder(folder: str | os.PathLike[str], resume: bool, inputs: Iterable[Any] = ()) -> None:
    """Check that a run can keep its state in a folder, which need not exist yet.

    Raises
    ------
    OSError
        If it cannot be written to, is an input or lies in one, or holds a checkpoint and resume is False.
    """
    require_path("checkpoint", folder)
    if not os.fspath(folder):
        raise FileNotFoundError("the folder for checkpoints has no name: give one")
    there = next(place for place in (Path(folder).absolute(), *Path(folder).absolute().parents) if place.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{there} is a file: give a folder for checkpoints")
    check_output(there / NAME, overwrite=True, inputs=inputs)
    if has_checkpoint(folder) and not resume:
        raise FileExistsError(
            f"{folder} holds the checkpoint of an earlier run: continue it with --resume (resume=True), or give"
            " another folder"
        )


def has_checkpoint(folder: str | os.PathLike[str]) -> bool:
    """Check whether a folder holds a checkpoint."""
    return (Path(folder) / NAME).exists()


def fingerprint(solver: str, settings: Mapping[str, Any], device: str, **data: Ratings | None) -> dict[str, Any]:
    """Return what identifies a run: solver, settings and device, and a BLAKE2b hash of each set of ratings."""
    hashes = {name: None if ratings is None else _hash(ratings) for name, ratings in data.items()}
    return {"solver": solver, **settings, "device": device, **hashes}


def _hash(ratings: Ratings) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in (ratings.users, ratings.items, ratings.values, ratings.weights):
        digest.update(b"" if array is None else np.ascontiguousarray(array).data)
    for column in (ratings.user_ids, ratings.item_ids):
        digest.update(ids.content(column))
    return digest.hexdigest()


def _check_history(history: list[Epoch], best_epoch: Any, asked: int) -> None:
    """Raise a ValueError unless the history is whole, has no more epochs than asked for, and holds the best one."""
    if [epoch.number for epoch in history] != list(range(1, len(history) + 1)):
        raise ValueError("its epochs are not numbered from 1")
    if len(history) > asked:
        raise ValueError(f"it holds {len(history)} epochs, more than the settings ask for")
    figures = [value for epoch in history for value in asdict(epoch).values()]
    if not all(value is None or (isinstance(value, int | float) and math.isfinite(value)) for value in figures):
        raise ValueError("its history holds a value that is not a finite number")
    if best_epoch is not None and not (isinstance(best_epoch, int) and 1 <= best_epoch <= len(history)):
        raise ValueError(f"its best epoch is {best_epoch!r}")


def _named(prefix: str, factors: Factors) -> dict[str, np.ndarray]:
    """Name every array of the factors."""
    sides = {"users": factors.users, "items": factors.items}
    arrays = {
        f"{prefix}.{name}.{field}": array for name, side in sides.items() for field, array in side._asdict().items()
    }
    kept = {f"{prefix}.kept{place}": array for place, array in enumerate(factors.kept)}
    return arrays | kept | {f"{prefix}.memory{place}": array for place, array in enumerate(factors.memory)}


def _fill(arrays: dict[str, np.ndarray], saved: dict[str, np.ndarray]) -> None:
    """Fill arrays from saved ones; raise a ModelFormatError if one is missing, has a wrong shape or is not finite."""
    for name, array in arrays.items():
        found = saved.get(name)
        if found is None or found.shape != array.shape or found.dtype != array.dtype or not np.isfinite(found).all():
            raise ModelFormatError(f"the checkpoint is damaged in {name}: delete it to start over")
        array[:] = found


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 20 else text[:17] + "…'"
