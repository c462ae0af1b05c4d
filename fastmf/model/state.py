"""What a fit computes: factors, biases, ids, facts and history; hashed, written to a file, and read back."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import pyarrow as pa

import fastmf
from fastmf.data import ids
from fastmf.errors import ModelFormatError
from fastmf.kernels.types import Side
from fastmf.model.file import read, write
from fastmf.model.history import Epoch
from fastmf.model.learned import KINDS, Baseline, Links, Prior, Samples, flat, grouped


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Fitted:
    """The data of a fitted model.

    Attributes
    ----------
    user_ids, item_ids : sorted Arrow arrays of the raw ids; row u of the user arrays belongs to user_ids[u].
    user_factors (n_users, k), item_factors (n_items, k), user_bias (n_users,), item_bias (n_items,) : float32,
        on the rating scale. Cold rows (no training ratings) are zero.
    user_counts, item_counts : int32, the training ratings of each row.
    mean, scale : mean and standard deviation of the training ratings.
    rating_range : smallest and largest training rating; predictions are clipped to it.
    seen : (indptr, indices), the items each user has rated in training, or None if they were not kept.
    solver : name and hyper-parameters of the solver, as data.
    history : one Epoch for every epoch run. best_epoch : the one whose factors these are, where validation chose it.
    rows : how many rating rows were read and used, and what became of the others.
    weight : the column whose numbers weigh observed pairs, "" if their number of rows does, None if all count the same.
    duplicates : what was done with rows of the same pair; those of new users are treated alike.
    blend : what a unit of log popularity adds to a prediction in lists ranked by "blend", if that was learned.
    baseline : biases fitted without factors, which the factors have to beat.
    links, prior, samples : what is known of a user from the items it has rated, what users are drawn around, and whole
        draws of all that predictions are made of, where the solver has learned that; see :mod:`fastmf.model.learned`.
    """

    user_ids: pa.Array
    item_ids: pa.Array
    user_factors: np.ndarray
    item_factors: np.ndarray
    user_bias: np.ndarray
    item_bias: np.ndarray
    user_counts: np.ndarray
    item_counts: np.ndarray
    mean: float
    scale: float
    rating_range: tuple[float, float]
    seen: tuple[np.ndarray, np.ndarray] | None
    solver: dict[str, Any]
    history: list[Epoch] = field(default_factory=list)
    best_epoch: int | None = None
    rows: dict[str, int] = field(default_factory=dict)
    weight: str | None = None
    duplicates: str = "error"
    blend: float | None = None
    baseline: Baseline | None = None
    links: Links | None = None
    prior: Prior | None = None
    samples: Samples | None = None

    def __repr__(self) -> str:
        size = f"{len(self.user_ids):,} users, {len(self.item_ids):,} items"
        return f"<Model: {self.solver.get('name')}, k={self.k}, {size}, {len(self.history)} epochs>"

    @property
    def implicit(self) -> bool:
        """Whether it was fitted to implicit feedback: predictions are scores then, around 1 for what is observed."""
        return "alpha0" in self.solver

    @property
    def positive_from(self) -> float | None:
        """The lowest rating that counts as observed, if there is one."""
        found: float | None = self.solver.get("positive_from")
        return found

    @property
    def k(self) -> int:
        """The number of factors."""
        return int(self.user_factors.shape[1])

    @property
    def extras(self) -> dict[str, Any]:
        """What only some models have, by name; None where this one does not."""
        return {name: getattr(self, name) for name in KINDS}

    @property
    def user_side(self) -> Side:
        """The users' factors and biases, as the kernels take them."""
        return Side(self.user_factors, self.user_bias)

    @property
    def item_side(self) -> Side:
        """The items' factors and biases, as the kernels take them."""
        return Side(self.item_factors, self.item_bias)

    @property
    def content_hash(self) -> str:
        """SHA-256 of what the fit computed: factors, biases, ids, mean, scale, history without seconds, and the rest.

        The rest is what only some models have: the baseline, links, the prior and samples.
        """
        digest = hashlib.sha256()
        for array in (self.user_factors, self.item_factors, self.user_bias, self.item_bias):
            digest.update(np.ascontiguousarray(array).tobytes())
        for column in (self.user_ids, self.item_ids):
            digest.update(ids.content(column))
        history = [{**asdict(epoch), "seconds": 0} for epoch in self.history]
        digest.update(json.dumps([self.mean, self.scale, history]).encode())
        for name, array in flat(self.extras).items():
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the model to one file, whole or not at all; see :mod:`fastmf.model.file`.

        Raises
        ------
        OSError
            If the path exists and overwrite is False, or writing fails; what was there before is then still there.
        """
        names = ("user_factors", "item_factors", "user_bias", "item_bias", "user_counts", "item_counts")
        arrays = {name: getattr(self, name) for name in names}
        if self.seen is not None:
            arrays |= {"seen_indptr": self.seen[0], "seen_indices": self.seen[1]}
        arrays |= flat(self.extras)
        metadata = {
            "version": fastmf.__version__,
            "mean": self.mean,
            "scale": self.scale,
            "rating_range": list(self.rating_range),
            "solver": self.solver,
            "history": [asdict(epoch) for epoch in self.history],
            "best_epoch": self.best_epoch,
            "rows": self.rows,
            "weight": self.weight,
            "duplicates": self.duplicates,
            "blend": self.blend,
        }
        write(path, arrays, {"user_ids": self.user_ids, "item_ids": self.item_ids}, metadata, overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a model that :meth:`save` wrote.

        Raises
        ------
        ModelFormatError
            If the file is not a model file, is damaged, or was written in a newer format.
        OSError
            If there is no such file.
        """
        arrays, id_arrays, metadata = read(path)
        seen = (arrays.pop("seen_indptr"), arrays.pop("seen_indices")) if "seen_indptr" in arrays else None
        kept = grouped(arrays)
        try:
            low, high = metadata["rating_range"]
            return cls(
                **dict[str, Any](arrays),
                **id_arrays,
                seen=seen,
                **kept,
                mean=float(metadata["mean"]),
                scale=float(metadata["scale"]),
                rating_range=(float(low), float(high)),
                solver=dict(metadata["solver"]),
                history=[Epoch(**epoch) for epoch in metadata["history"]],
                best_epoch=metadata["best_epoch"],
                rows=dict(metadata["rows"]),
                weight=metadata.get("weight"),
                duplicates=metadata.get("duplicates", "error"),
                blend=metadata.get("blend"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFormatError(f"{path} has damaged metadata: {error!r}; fit and save it again") from None
