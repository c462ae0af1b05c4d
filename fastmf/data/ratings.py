"""Ratings: raw ids as dense indices, rows in (user, item) order, and the two compressed views of them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

from fastmf.data import csr, ids
from fastmf.data.arrow import from_numpy
from fastmf.data.bad_rows import as_days, as_values, as_weights, drop_bad_rows
from fastmf.data.duplicates import WAYS as DUPLICATES
from fastmf.data.duplicates import merged, refusal, repeated
from fastmf.data.read import read_columns
from fastmf.data.times import Aging, HalfLife, aging_of
from fastmf.errors import DataError, ParameterError, require_choice
from fastmf.kernels.csr import ROW_BOUNDS
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Compressed
from fastmf.runtime.device import resolve
from fastmf.runtime.launch import launch
from fastmf.runtime.memory import parse_size

if TYPE_CHECKING:
    from fastmf.data.features import Features

BAD_ROWS = ("error", "drop")
ROWS_PER_TASK = 1 << 16


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Ratings:
    """Rated (user, item) pairs, each once, sorted by user and then item.

    Attributes
    ----------
    users, items : (n,) int32 dense indices.
    values : (n,) float32 ratings.
    user_ids, item_ids : sorted Arrow arrays; index u stands for user_ids[u]. After a split some ids have no rows.
    weights : (n,) float32, or None if all pairs count the same.
    columns : the names of the user, item and rating columns ("" without ratings), and of the weight column if there
        is one ("" if the weights are row counts).
    duplicates : how rows of the same pair were treated.
    dropped : the number of rows left out, by reason: "duplicates" for merged rows, the other reasons for bad rows.
    user_features, item_features : side features of all ids, or None; see :meth:`with_features`.
    half_life : how the weights depend on the rows' ages; None if they do not.

    Examples
    --------
    >>> ratings = Ratings.from_arrays(["ann", "bob", "ann"], [7, 7, 3], [4.0, 2.5, 5.0])
    >>> len(ratings), ratings.items.tolist(), ratings.values.tolist()
    (3, [0, 1, 1], [5.0, 4.0, 2.5])
    """

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray
    user_ids: pa.Array
    item_ids: pa.Array
    weights: np.ndarray | None = None
    columns: tuple[str, ...] = ("user", "item", "rating")
    duplicates: str = "error"
    dropped: dict[str, int] = field(default_factory=dict)
    user_features: "Features | None" = None
    item_features: "Features | None" = None
    half_life: HalfLife | None = None

    def __post_init__(self) -> None:
        """Raise a DataError for arrays that kernels could not read safely, and for values that are not finite."""
        n, given = len(self.users), {"users": self.users, "items": self.items, "values": self.values}
        for name, array in (given if self.weights is None else given | {"weights": self.weights}).items():
            kind = np.dtype(np.int32 if name in ("users", "items") else np.float32)
            if not isinstance(array, np.ndarray) or (array.dtype, array.shape) != (kind, (n,)):
                raise DataError(f"{name} must be a NumPy array ({n:,},) of {kind}")
        for name, indices, n_ids in (("users", self.users, self.n_users), ("items", self.items, self.n_items)):
            if n and not 0 <= indices.min() <= indices.max() < n_ids:
                raise DataError(f"{name} must be indices from 0 to {n_ids - 1:,}: there are {n_ids:,} ids")
        if not np.isfinite(self.values.sum(dtype=np.float64)):
            raise DataError("values must be finite")

    @classmethod
    def read(
        cls,
        source: Any,
        *,
        user: str | None = None,
        item: str | None = None,
        rating: str | None = None,
        weight: str | None = None,
        half_life: float | HalfLife | None = None,
        timestamp: str | None = None,
        time_unit: str | None = None,
        duplicates: str = "error",
        bad_rows: str = "error",
        memory_limit: float | str | None = None,
        unrated: bool = False,
    ) -> Self:
        """Read ratings from a path, a URI, a frame, an Arrow stream or a tuple of arrays.

        Parameters
        ----------
        source : see :func:`fastmf.data.read.read_columns`. A Ratings object is returned as it is.
        user, item, rating : names of the columns; the usual names are tried if left out. With ``rating=""`` no ratings
            are read, and every value is 1.
        weight : the name of the weight column (finite numbers above 0): a row of weight 2 counts as two equal rows. It
            may be the rating column. In a tuple of arrays, "rating" names the third array and "weight" a fourth.
        half_life : days in which a row loses half its weight: a row that is ``age`` days older than the newest row that
            is used has the weight 2^(-age / half_life), times that of the weight column. Or the ``half_life`` of other
            Ratings or of a model, which also holds the next two arguments and the time from which ages are measured.
        timestamp : name of the column of times; "timestamp" if left out. In a tuple of arrays, times come last. They
            are Arrow timestamps or dates, or numbers that count ``time_unit`` since 1970.
        time_unit : unit of times that are numbers: "s" (the default), "ms", "us" or "ns".
        duplicates : how to treat rows of the same pair: "error", keep the "last" in the order of the rows, or take the
            "mean" or the "sum" of ratings and weights. A row is weighed by its own age before it is merged.
        bad_rows : how to treat rows with a null id, a rating that is null, NaN, infinite or beyond float32, a weight
            that is not above 0, or no time if there is a half-life: "error", or "drop" and count them; see ``rows``.
        memory_limit : the most bytes to use for reading, or text such as "4GiB"; the available memory if left out.
        unrated : read implicit feedback. The ratings' column may be missing, unless it is named. With
            ``duplicates="sum"`` and no weight, the weight of a pair is its number of rows.

        Raises
        ------
        DataError
            If a column is missing, an id is null or has a type that ids cannot have, a rating is not a finite number in
            float32, a pair occurs twice, or there are no rows.
        ParameterError
            If a half-life is not above 0, or Ratings have other weights than are asked for.
        OSError
            If a file is missing, is not Parquet, or is damaged.
        ResourceError
            If a file has more rows than there is memory for; raised before any are read.
        """
        require_choice("duplicates", duplicates, DUPLICATES)
        require_choice("bad_rows", bad_rows, BAD_ROWS)
        limit, aging = parse_size(memory_limit), aging_of(half_life, timestamp, time_unit)
        if isinstance(source, cls):
            return source._weighed_by(weight, half_life)
        roles = {"user": user, "item": item}
        if rating != "" or isinstance(source, tuple):  # in a tuple the third array is the ratings
            roles["rating"] = rating or None
        roles |= {} if weight is None else {"weight": weight}
        roles |= {} if aging is None else {"timestamp": aging.timestamp}
        optional = ("rating",) if unrated or rating == "" else ()
        table = read_columns(source, roles, codes=True, memory_limit=limit, optional=optional)
        names, columns = list(table.column_names), table.columns
        counted = unrated and duplicates == "sum" and weight is None
        for place in [2] * (len(columns) < len(roles | {"rating": None})) + [3] * counted:
            names.insert(place, "")
            columns.insert(place, pa.chunked_array([from_numpy(np.ones(len(table), np.float32))]))
        where = f"{source}: " if isinstance(source, str | os.PathLike) else ""
        del table, source
        try:
            return cls._from_columns(tuple(names), columns, duplicates, bad_rows, aging)
        except DataError as error:
            raise DataError(f"{where}{error}") from None

    def _weighed_by(self, weight: str | None, half_life: float | HalfLife | None) -> Self:
        """Return these Ratings; raise a ParameterError if they have other weights than those asked for."""
        if weight is not None and self.weight != weight:
            own = "no weights" if self.weight is None else f"weights of column {self.weight!r}"
            raise ParameterError(f"weight is {weight!r}, but these Ratings have {own}: read them with weight=")
        if half_life is not None and half_life not in (self.half_life, getattr(self.half_life, "days", None)):
            asked = half_life.describe() if isinstance(half_life, HalfLife) else f"{half_life:g} days"
            have = "none" if self.half_life is None else self.half_life.describe()
            raise ParameterError(f"half_life is {asked}, but these Ratings have {have}: read them with half_life=")
        return self

    @classmethod
    def from_parquet(cls, path: Any, **options: Any) -> Self:
        """Read a Parquet file, a directory of them, or a URI of either; options as for :meth:`read`."""
        return cls.read(path, **options)

    @classmethod
    def from_frame(cls, frame: Any, **options: Any) -> Self:
        """Read a pandas frame, or anything with the Arrow PyCapsule stream interface; options as for :meth:`read`."""
        return cls.read(frame, **options)

    @classmethod
    def from_arrays(cls, user_ids: Any, item_ids: Any, ratings: Any, **options: Any) -> Self:
        """Read columns of equal length; options as for :meth:`read`."""
        return cls.read((user_ids, item_ids, ratings), **options)

    @classmethod
    def _from_columns(
        cls,
        names: tuple[str, ...],
        columns: list[pa.ChunkedArray],
        duplicates: str,
        bad_rows: str,
        aging: Aging | None,
    ) -> Self:
        """Check, encode and sort the columns. Empties the list, so that each column is freed once it is used."""
        n_read, dropped = len(columns[0]), {}
        if n_read == 0:
            raise DataError(f"there are no ratings: columns {', '.join(map(repr, names))} have 0 rows")
        if bad_rows == "drop":
            dropped = drop_bad_rows(columns, names, None if aging is None else aging.time_unit)
        _release()
        names, weights, half_life = _weights_of(names, columns, aging)
        values = as_values(columns.pop(), names[2])
        users, user_ids = ids.encode(columns.pop(0), names[0])
        items, item_ids = ids.encode(columns.pop(0), names[1])
        _release()
        numbers: tuple[np.ndarray, ...] = (values,) if weights is None else (values, weights)
        users, items, numbers, n_again = _sorted(users, items, numbers, (len(user_ids), len(item_ids)))
        if n_again:
            again = repeated(users, items)
            if duplicates == "error":
                first = int(np.flatnonzero(again)[0])
                raise refusal(n_again, len(users), user_ids[users[first]].as_py(), item_ids[items[first]].as_py())
            users, items, numbers = merged(users, items, numbers, again, duplicates)
            dropped["duplicates"] = n_again
        return cls(
            users=users,
            items=items,
            values=numbers[0] if names[2] else np.ones(len(users), np.float32),
            weights=None if len(numbers) == 1 else numbers[1],
            user_ids=user_ids,
            item_ids=item_ids,
            columns=names,
            duplicates=duplicates,
            dropped=dropped,
            half_life=half_life,
        )

    def __repr__(self) -> str:
        return f"<Ratings: {len(self):,} of {self.n_items:,} items by {self.n_users:,} users>"

    def __len__(self) -> int:
        return len(self.values)

    @property
    def rows(self) -> dict[str, int]:
        """The numbers of rows read and used, and of those dropped, by reason."""
        return {"read": len(self) + sum(self.dropped.values()), "used": len(self), "duplicates": 0, **self.dropped}

    @property
    def rated(self) -> bool:
        """Whether the rows came with ratings; if not, every value is 1."""
        return self.columns[2] != ""

    @property
    def weight(self) -> str | None:
        """The name of the weight column; "" if row counts are the weights, None if there is no such column."""
        return self.columns[3] if len(self.columns) > 3 else None

    @property
    def n_users(self) -> int:
        """The number of users, cold ones included."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """The number of items, cold ones included."""
        return len(self.item_ids)

    @cached_property
    def user_counts(self) -> np.ndarray:
        """The number of ratings of each user: (n_users,) int64, 0 for cold ones."""
        return np.diff(self.by_user.indptr)

    @cached_property
    def item_counts(self) -> np.ndarray:
        """The number of ratings of each item: (n_items,) int64, 0 for cold ones."""
        return csr.count(self.items, self.n_items, resolve("cpu"))

    @property
    def user_masses(self) -> np.ndarray:
        """The sum of the weights of each user's ratings, (n_users,); their number if there are no weights."""
        return csr.masses(self.by_user)

    @property
    def item_masses(self) -> np.ndarray:
        """The sum of the weights of each item's ratings, (n_items,); their number if there are no weights."""
        return self.item_counts if self.weights is None else np.bincount(self.items, self.weights, self.n_items)

    @cached_property
    def by_user(self) -> Compressed:
        """The ratings as CSR: row u holds user u's items, sorted."""
        indptr, unordered, repeats = _bounds(self.users, self.items, self.n_users)
        if unordered or repeats:
            raise DataError("rows must be sorted by user and then item, each pair once: see Ratings.from_arrays")
        return Compressed(indptr, self.items, self.values, self.weights)

    @cached_property
    def by_item(self) -> Compressed:
        """The ratings as CSC: row i holds item i's users, sorted."""
        shape = self.n_items, self.n_users
        return csr.compress(self.items, self.users, self.values, shape, resolve("cpu"), weights=self.weights)

    def observed(self, positive_from: float | None, negative_to: float | None = None) -> Self:
        """Return the rows rated at least ``positive_from``, or all rows if it is None or there are no ratings.

        Every value becomes 1. With ``negative_to``, rows rated at most that are returned, too, with the value 0. All
        ids stay. Raises a DataError if no row has the value 1.
        """
        unchosen = positive_from is None or not self.rated
        positive = np.full(len(self), True) if unchosen else self.values >= positive_from
        if not positive.any():
            highest = self.values.max(initial=-np.inf)
            raise DataError(
                f"none of {len(self):,} ratings is at least {positive_from:g} (the highest is {highest:g}), so none"
                " counts as positive: give other ratings, or lower --positive-from (positive_from=)"
            )
        marked = self.with_values(positive.astype(np.float32))
        chosen = positive if negative_to is None else positive | (self.values <= negative_to)
        return marked if chosen.all() else marked.take(chosen)

    def with_values(self, values: np.ndarray) -> Self:
        """Return the same pairs with other values (n,) float32; raise a DataError for another shape or dtype."""
        return replace(self, values=values)

    def with_features(self, users: "Features | None" = None, items: "Features | None" = None) -> Self:
        """Return the same pairs with side features. Ids that only the features know are added, without ratings."""
        given: dict[str, Any] = {}
        for side, features in (("user", users), ("item", items)):
            if features is not None:
                own = getattr(self, f"{side}_ids")
                every, places, _ = ids.union(own, features.ids, side)
                given |= {f"{side}_ids": every, f"{side}s": places[getattr(self, f"{side}s")]}
                given[f"{side}_features"] = features.of(every)
        return replace(self, **given)

    def take(self, chosen: np.ndarray) -> Self:
        """Select rows by a boolean mask (n,); all ids stay. Raises a ParameterError for anything but such a mask."""
        if not isinstance(chosen, np.ndarray) or chosen.dtype != bool or chosen.shape != self.users.shape:
            raise ParameterError(f"chosen must be a boolean array ({len(self):,},), True for each row to select")
        users, items, values = csr.keep(chosen, (self.users, self.items, self.values), resolve("cpu"))
        weights = None if self.weights is None else self.weights[chosen]
        return replace(self, users=users, items=items, values=values, weights=weights, dropped={})

    def split(self, fraction: float, seed: int = 0) -> tuple[Self, Self]:
        """Hold out a random fraction of the rows. Returns (rest, held out), both with all ids.

        Raises
        ------
        ParameterError
            If the fraction leaves one of the two without rows.
        """
        held_out = round(len(self) * fraction) if 0 < fraction < 1 else 0
        if not 0 < held_out < len(self):
            raise ParameterError(
                f"a fraction of {fraction} of {len(self):,} ratings leaves one side empty: give one in (0, 1) that"
                " leaves rows on both sides"
            )
        chosen = np.zeros(len(self), bool)
        chosen[np.random.default_rng(seed).permutation(len(self))[:held_out]] = True
        return self.take(~chosen), self.take(chosen)

    def folds(self, n: int = 5, seed: int = 0) -> Iterator[tuple[Self, Self]]:
        """Yield n pairs (rest, held out), all with all ids; every row is held out once.

        Raises
        ------
        ParameterError
            If n is less than 2 or more than the number of rows.
        """
        if not 2 <= n <= len(self):
            raise ParameterError(f"cannot make {n} folds of {len(self):,} ratings: give 2 to {len(self):,} folds")
        fold = np.empty(len(self), np.int64)
        fold[np.random.default_rng(seed).permutation(len(self))] = np.arange(len(self)) % n
        return ((self.take(fold != f), self.take(fold == f)) for f in range(n))


def reading(implicit: bool, rated: bool) -> dict[str, Any]:
    """Return the arguments of :meth:`Ratings.read` that suit a model; ``rated``: whether it needs the ratings."""
    if not implicit:
        return {}
    return {"unrated": True} if rated else {"unrated": True, "rating": ""}


def _weights_of(
    names: tuple[str, ...], columns: list[pa.ChunkedArray], aging: Aging | None
) -> tuple[tuple[str, ...], np.ndarray | None, HalfLife | None]:
    """Remove the columns of weights and times, if there are any.

    Returns the names without that of times, the weights by both, and what the weights by time are.
    """
    if aging is None:
        return names, as_weights(columns.pop(), names[3]) if len(names) > 3 else None, None
    *rest, name = names
    when = as_days(columns[-1], name, aging.time_unit)
    half_life = aging.of(columns.pop(), name, when)
    _, weights, _ = _weights_of(tuple(rest), columns, None)
    return tuple(rest), half_life.weigh(when, weights), half_life


def _release() -> None:
    """Return Arrow's unused memory to the system: the sort that follows needs it."""
    pa.default_memory_pool().release_unused()


def _sorted(
    users: np.ndarray, items: np.ndarray, numbers: tuple[np.ndarray, ...], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...], int]:
    """Sort rows by user and item, stably; count those that repeat the pair before them."""
    _, unordered, repeats = _bounds(users, items, shape[0])
    if unordered:
        weights = numbers[1] if len(numbers) > 1 else None
        found = csr.compress(users, items, numbers[0], shape, resolve("cpu"), weights=weights, by_column=True)
        users, items = np.repeat(np.arange(shape[0], dtype=np.int32), np.diff(found.indptr)), found.indices
        numbers = (found.values,) if found.weights is None else (found.values, found.weights)
        _, _, repeats = _bounds(users, items, shape[0])
    return users, items, numbers, repeats


def _bounds(users: np.ndarray, items: np.ndarray, n_users: int) -> tuple[np.ndarray, int, int]:
    """Find the bounds of each user's rows, (n_users + 1,) int64; count tasks out of order, and repeated pairs."""
    indptr = np.zeros(n_users + 1, np.int64)
    if len(users) == 0:
        return indptr, 0, 0
    unordered, repeats = launch(ROW_BOUNDS, resolve("cpu"), even(len(users), ROWS_PER_TASK), users, items, indptr)
    return indptr, int(unordered), int(repeats)
