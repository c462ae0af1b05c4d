"""The data of a fitted model: factors, biases, ids, metadata and history."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import pyarrow as pa

from fastmf.data import ids
from fastmf.data.display import facts_table
from fastmf.data.features import Features
from fastmf.data.times import HalfLife
from fastmf.data.weights import WeightScale
from fastmf.kernels.types import Side
from fastmf.model.fold_in_rule import FoldInRule
from fastmf.model.frozen import frozen, thawed
from fastmf.model.history import Epoch, History, train_name
from fastmf.model.learned import KINDS, Baseline, Choice, Expected, Links, Prior, Samples, flat
from fastmf.model.raw_ids import RawIds


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class State:
    """The data of a fitted model. Its arrays are read-only.

    Attributes
    ----------
    user_ids, item_ids : the raw ids, sorted: sequences of Python values that serve as keys in pandas. Row u of the user
        arrays belongs to user_ids[u].
    user_factors (n_users, k), item_factors (n_items, k), user_bias (n_users,), item_bias (n_items,) : float32,
        on the rating scale. Cold rows (no training ratings) are zero.
    user_counts, item_counts : int32, the number of training ratings of each row, dislikes not counted.
    mean, scale : mean and standard deviation of the training ratings.
    rating_range : lowest and highest training rating; predictions are clipped to it.
    seen : (indptr, indices), the items each user has rated in training, or None if they were not kept.
    solver : name and hyper-parameters of the solver, for people to read.
    implicit : whether the feedback was implicit; predictions are then scores, about 1 for observed pairs.
    positive_from : lowest rating that counted as observed; None if all did.
    negative_to : highest rating that counted as a dislike; None if none did.
    user_rule, item_rule : how to solve a new user's, or a new item's, row; None if the solver cannot.
    history : one Epoch per epoch run: a list, with ``to_frame()``.
    best_epoch : number of the epoch whose factors these are, chosen by validation; None without validation.
    rows : counts of rating rows: rows read, rows used, and other counts by name.
    weight : column of the weights of ratings or observed pairs; "" if row counts are the weights; None without weights.
    weight_scale : how the column of weights was scaled; new weights are scaled in the same way. None if it was not.
    half_life : how weights depended on the ages of ratings; new ratings are weighed in the same way. None if they
        did not.
    duplicates : how rows of the same pair were treated; new ratings are read in the same way.
    columns : the names that the user, item and rating columns had, "" without ratings. New data may name them alike.
    blend : what a unit of log popularity adds to a prediction in lists ranked by "blend"; None if not learned.
    user_features, item_features : side features of all ids, with empty rows for ids that no table held; or None.
    baseline, links, user_prior, item_prior, samples, choice, user_expected, item_expected, user_choice_expected,
    item_choice_expected : arrays that only some fits learn; see :mod:`fastmf.model.learned`.
    """

    user_ids: RawIds
    item_ids: RawIds
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
    implicit: bool = False
    positive_from: float | None = None
    negative_to: float | None = None
    user_rule: FoldInRule | None = None
    item_rule: FoldInRule | None = None
    history: list[Epoch] = field(default_factory=History)
    best_epoch: int | None = None
    rows: dict[str, int] = field(default_factory=dict)
    weight: str | None = None
    weight_scale: WeightScale | None = None
    half_life: HalfLife | None = None
    duplicates: str = "error"
    columns: tuple[str, ...] = ("user", "item", "rating")
    blend: float | None = None
    baseline: Baseline | None = None
    links: Links | None = None
    user_prior: Prior | None = None
    item_prior: Prior | None = None
    samples: Samples | None = None
    choice: Choice | None = None
    user_features: Features | None = None
    item_features: Features | None = None
    user_expected: Expected | None = None
    item_expected: Expected | None = None
    user_choice_expected: Expected | None = None
    item_choice_expected: Expected | None = None

    def __post_init__(self) -> None:
        """Make the arrays read-only for users of the model; whoever gave them may still write to them."""
        for each in fields(self):
            object.__setattr__(self, each.name, held(getattr(self, each.name)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle writable arrays: of read-only ones, pickle makes arrays that stay read-only."""
        return _made, (type(self), {each.name: thawed(getattr(self, each.name)) for each in fields(self)})

    def arrow_ids(self, side: str) -> pa.Array:
        """Return the ids of "user" or "item" rows as an Arrow array, as :mod:`fastmf.data.ids` takes them."""
        found: RawIds = getattr(self, f"{side}_ids")
        return found.arrow

    def _repr_html_(self) -> str:
        settings = (f"{name} {value}" for name, value in self.solver.items() if name != "name" and value is not None)
        facts: list[tuple[str, Any]] = [("solver", self.solver.get("name")), ("settings", ", ".join(settings))]
        facts += [("users", len(self.user_ids)), ("items", len(self.item_ids))]
        facts.append(("training ratings", int(self.item_counts.sum(dtype=np.int64))))
        if not self.implicit:
            low, high = self.rating_range
            facts.append(("ratings", f"{low:g} to {high:g}, mean {self.mean:.3f}"))
        if self.history:
            shown = self.history[(self.best_epoch or len(self.history)) - 1]
            figures = asdict(shown).items()
            facts.append(("epoch", f"{shown.number} of {len(self.history)}"))
            named = {"train_rmse": train_name(self.implicit)}
            facts += [
                (named.get(key, key.replace("_", " ")), value) for key, value in figures if isinstance(value, float)
            ]
        return facts_table(repr(self), facts)

    @property
    def k(self) -> int:
        """The number of factors."""
        return int(self.user_factors.shape[1])

    @property
    def learned(self) -> dict[str, Any]:
        """The groups that only some solvers learn, by name; None for groups that this model lacks."""
        return {name: getattr(self, name) for name in KINDS}

    @property
    def user_side(self) -> Side:
        """The users' factors and biases, as kernels take them."""
        return thawed(Side(self.user_factors, self.user_bias))

    @property
    def item_side(self) -> Side:
        """The items' factors and biases, as kernels take them."""
        return thawed(Side(self.item_factors, self.item_bias))

    def standard_side(self, side: str) -> Side:
        """Return the "user" or the "item" side on the standardised scale."""
        scale = np.float32(self.scale)
        if side == "user":
            return Side(self.user_factors / scale, self.user_bias / scale)
        return Side(thawed(self.item_factors), self.item_bias / scale)

    def scaled_weights(self, weights: np.ndarray | None) -> np.ndarray | None:
        """Return the weights (n,) of ratings as the solver takes them; None if all ratings count the same."""
        return weights if weights is None or self.weight_scale is None else self.weight_scale.scaled(weights)

    def known_users(self, user_ids: Any) -> np.ndarray:
        """Return the index (n,) int32 of each user; -1 for ids that are unknown or have no training ratings."""
        return _warm(ids.lookup(self.arrow_ids("user"), user_ids, "user"), self.user_counts)

    def known_items(self, item_ids: Any) -> np.ndarray:
        """Return the index (n,) int32 of each item; -1 for ids that are unknown or have no training ratings."""
        return _warm(ids.lookup(self.arrow_ids("item"), item_ids, "item"), self.item_counts)

    def present(self, side: str) -> np.ndarray:
        """Return whether there are training ratings or side features of each "user" or "item": (n,) bool."""
        return (getattr(self, f"{side}_counts") > 0) | self.featured(side)

    def featured(self, side: str) -> np.ndarray:
        """Return whether there are side features of each "user" or "item": (n,) bool."""
        features = getattr(self, f"{side}_features")
        if features is None:
            return np.zeros(len(getattr(self, f"{side}_counts")), bool)
        return np.diff(features.rows.indptr) > 0

    def present_rows(self, side: str, row_ids: Any) -> np.ndarray:
        """Return the index (n,) int32 of each "user" or "item"; -1 for ids of which nothing is known."""
        return _warm(ids.lookup(self.arrow_ids(side), row_ids, side), self.present(side))

    @property
    def content_hash(self) -> str:
        """SHA-256 of factors, biases, ids, mean, scale, history without seconds, ``learned`` and side features."""
        digest = hashlib.sha256()
        for array in (self.user_factors, self.item_factors, self.user_bias, self.item_bias):
            digest.update(np.ascontiguousarray(array).tobytes())
        for column in (self.arrow_ids("user"), self.arrow_ids("item")):
            digest.update(ids.content(column))
        history = [{**asdict(epoch), "seconds": 0} for epoch in self.history]
        digest.update(json.dumps([self.mean, self.scale, history]).encode())
        for name, array in flat(self.learned).items():
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        for features in (self.user_features, self.item_features):
            digest.update(b"" if features is None else features.digest().encode())
        return digest.hexdigest()


def held(value: Any) -> Any:
    """Return a field's value as a model holds it: arrays read-only, ids as :class:`RawIds`, lists as a history."""
    if isinstance(value, list):
        return History(value)
    return RawIds(value) if isinstance(value, pa.Array) else frozen(value)


def _made(cls: type[State], values: dict[str, Any]) -> State:
    return cls(**values)


def _warm(indices: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Set the indices of cold rows to -1. Index -1 reads the appended 0, and so stays -1."""
    return np.where(np.append(counts, 0)[indices] > 0, indices, -1).astype(np.int32)
