"""Checkpoints: all that training needs to go on after an epoch as if it had never stopped.

One safetensors file in the folder, replaced whole after every epoch: the arrays the solver works on, the best factors
so far where validation chooses them, and as JSON the history and a fingerprint of data and settings. Training goes on
only from a checkpoint whose fingerprint is its own.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from fastmf import ids
from fastmf.errors import ModelFormatError, ParameterError
from fastmf.files import replacing
from fastmf.model import Epoch
from fastmf.model_file import save_arrays
from fastmf.ratings import Ratings

NAME = "checkpoint.safetensors"
FORMAT = 1


class Checkpoint:
    """A place to keep the state of one training run.

    Parameters
    ----------
    folder : made if it is not there.
    fingerprint : what the run is, name to plain value; see :func:`fingerprint`.
    every : epochs from one save to the next.
    resume : whether to go on from what the folder holds. Without it, a folder that holds a checkpoint is refused.

    Raises
    ------
    OSError
        If the folder holds a checkpoint and resume is False, or it cannot be made.
    """

    def __init__(
        self, folder: str | os.PathLike[str], fingerprint: Mapping[str, Any], every: int, resume: bool
    ) -> None:
        check_folder(folder, resume)
        self._path = Path(folder) / NAME
        self._fingerprint = json.loads(json.dumps(fingerprint))
        self.every = every
        Path(folder).mkdir(parents=True, exist_ok=True)

    def save(self, arrays: Mapping[str, np.ndarray], history: Iterable[Epoch], best_epoch: int | None) -> None:
        """Replace the checkpoint by the state after the last epoch of the history."""
        described = {
            "format": FORMAT,
            "fingerprint": self._fingerprint,
            "history": [asdict(epoch) for epoch in history],
            "best_epoch": best_epoch,
        }
        with replacing(self._path, overwrite=True) as temporary:
            whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
            save_arrays(whole, temporary, {"fastmf": json.dumps(described)})

    def load(self) -> tuple[dict[str, np.ndarray], list[Epoch], int | None] | None:
        """Read the state to go on from. Returns (arrays, history, best_epoch), or None to begin at the beginning.

        Raises
        ------
        ParameterError
            If the checkpoint is of other data or settings; it names the first difference.
        ModelFormatError
            If the file is damaged.
        """
        if not self._path.exists():
            return None
        try:
            with safetensors.safe_open(self._path, framework="numpy") as file:
                described = json.loads(file.metadata()["fastmf"])
                if described["format"] != FORMAT:
                    raise ModelFormatError(
                        f"{self._path} has format {described['format']}, this version reads {FORMAT}: resume with the"
                        " fastmf it was made with, or delete it to start over"
                    )
                arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118  not a mapping
            history = [Epoch(**epoch) for epoch in described["history"]]
            then, best_epoch = dict(described["fingerprint"]), described["best_epoch"]
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ModelFormatError(f"{self._path} is damaged: {error!r}; delete it to start over") from None
        for name, value in self._fingerprint.items():
            if then.get(name) != value:
                was, now = _brief(then.get(name)), _brief(value)
                raise ParameterError(
                    f"{self._path} is of a run with other {name} ({was}, now {now}): resume with what it began with,"
                    " or give another folder"
                )
        return arrays, history, best_epoch


def check_folder(folder: str | os.PathLike[str], resume: bool) -> None:
    """Make sure a run may keep its state there, before anything is read; see :class:`Checkpoint`."""
    if Path(folder).exists() and not Path(folder).is_dir():
        raise NotADirectoryError(f"{folder} is a file: give a folder for checkpoints")
    if (Path(folder) / NAME).exists() and not resume:
        raise FileExistsError(
            f"{folder} holds the checkpoint of an earlier run: go on with it by --resume (resume=True), or give"
            " another folder"
        )


def fingerprint(solver: str, settings: Mapping[str, Any], **data: Ratings | None) -> dict[str, Any]:
    """Say what a run is: its solver, its settings, and a hash of each set of ratings."""
    return {"solver": solver, **settings, **{name: ratings and hash_of(ratings) for name, ratings in data.items()}}


def hash_of(ratings: Ratings) -> str:
    """Hash the pairs, values and ids of ratings (BLAKE2b)."""
    digest = hashlib.blake2b(digest_size=16)
    for array in (ratings.users, ratings.items, ratings.values):
        digest.update(np.ascontiguousarray(array).data)
    for column in (ratings.user_ids, ratings.item_ids):
        digest.update(ids.content(column))
    return digest.hexdigest()


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 20 else text[:17] + "…'"
