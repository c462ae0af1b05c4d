"""Ratings: raw ids as dense indices, rows in (user, item) order, and the two compressed views of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

from fastmf.data import csr, ids
from fastmf.data.arrow import from_numpy, to_arrow
from fastmf.data.containers import entries_of
from fastmf.data.core import k_core, rows_of_core
from fastmf.data.display import facts_table
from fastmf.data.duplicates import WAYS as DUPLICATES
from fastmf.data.files import called
from fastmf.data.layout import layout_of
from fastmf.data.read import like_of
from fastmf.data.rows import Asked, assembled, bounds_of, gathered, gathered_in_batches
from fastmf.data.spilled import compress, spilled
from fastmf.data.standardise import mean_of
from fastmf.data.times import HalfLife, aging_of
from fastmf.errors import DataError, ParameterError, brief, counted, require_choice
from fastmf.kernels.tasks import sections
from fastmf.kernels.types import Compressed
from fastmf.runtime.device import resolve
from fastmf.runtime.memory import parse_size
from fastmf.runtime.spill import Spill, filled, parts_of

if TYPE_CHECKING:
    from fastmf.data.features import Features

BAD_ROWS = ("error", "drop")


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
    spill : where the arrays are, and those made of them; None for memory.

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
    spill: Spill | None = None

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
        keep_values: bool = True,
        positive_from: float | None = None,
        columns: Any = None,
        sep: str | None = None,
        decimal: str | None = None,
        encoding: str | None = None,
        wide: bool = False,
        like: Any = None, spill: Spill | None = None,
    ) -> Self:  # fmt: skip
        """Read ratings from files, from a table in memory, or from arrays.

        Parameters
        ----------
        source : see :func:`fastmf.data.read.read_columns`. A Ratings object is returned as it is.
        user, item, rating : names of the columns; the usual names are tried if left out. Names match whatever their
            case, blanks and underscores. With ``rating=""`` no ratings are read, and every value is 1.
        weight : the name of the weight column (finite numbers above 0): a row of weight 2 counts as two equal rows. It
            may be the rating column. In a tuple of arrays, "rating" names the third array and "weight" a fourth.
            If it is left out and feedback is implicit, "count", "plays" and "weight" are tried; "" takes none.
        half_life : days in which a row loses half its weight: a row that is ``age`` days older than the newest row that
            is used has the weight 2^(-age / half_life), times that of the weight column. Or the ``half_life`` of other
            Ratings or of a model, which also holds the next two arguments and the time from which ages are measured.
        timestamp : name of the column of times; "timestamp" and the like if left out. In a tuple of arrays, times come
            last. They are Arrow timestamps or dates, or numbers that count ``time_unit`` since 1970.
        time_unit : unit of times that are numbers: "s" (the default), "ms", "us" or "ns".
        duplicates : how to treat rows of the same pair: "error", keep the "last" in the order of the rows, or take the
            "mean" or the "sum" of ratings and weights. A row is weighed by its own age before it is merged.
        bad_rows : how to treat rows with a null id, a rating that is null, NaN, infinite or beyond float32, a weight
            that is not above 0, or no time if there is a half-life, and lines of text with too few or too many columns:
            "error", or "drop" and count them; see ``rows``.
        memory_limit : the most bytes to use for reading, or text such as "4GiB"; the available memory if left out.
        unrated : read implicit feedback. The ratings' column may be missing, unless it is named. With
            ``duplicates="sum"`` and no weight, the weight of a pair is its number of rows.
        keep_values : False to check ratings, but to make every value 1. A column of ratings that is not named may then
            hold no numbers, and is ignored.
        positive_from : for implicit feedback, the lowest rating that counts as observed. With ``duplicates="sum"``, the
            weight of a pair is then that of its rows that count, and its rating the highest.
        columns : names of the columns of text without a header, or of an array or rows of tuples; "-" leaves one out.
        sep, decimal, encoding : the separator of text (found by looking, if left out), "." or "," as the decimal mark,
            and the encoding (UTF-8 if left out).
        wide : read a pivot: a row for each user, and a column for each item.
        like : Ratings or a model, to read ids that are text as the same type, and columns by the same names.
        spill : where to keep the rows; in memory if left out. See :mod:`fastmf.data.spilled`.

        Raises
        ------
        DataError
            If a column is missing, an id is null or has a type that ids cannot have, a rating is not a finite number in
            float32, a pair occurs twice, or there are no rows.
        ParameterError
            If a half-life is not above 0, or Ratings have other weights than are asked for.
        OSError
            If a file is missing, is of a format that is not read, or is damaged.
        ResourceError
            If a file has more rows than there is memory for; raised before any are read, if their number is known.
        """
        require_choice("duplicates", duplicates, DUPLICATES)
        require_choice("bad_rows", bad_rows, BAD_ROWS)
        limit, aging = parse_size(memory_limit), aging_of(half_life, timestamp, time_unit)
        if isinstance(source, cls):
            return source._weighed_by(weight, half_life)
        roles = {"user": user, "item": item, "rating": rating, "weight": weight}
        dropped: dict[str, int] | None = {} if bad_rows == "drop" else None
        how: dict[str, Any] = {"memory_limit": limit, "like": like_of(like), "dropped": dropped}
        how["said"] = layout_of(columns, sep, decimal, encoding, wide)
        asked = Asked(called(source), roles, duplicates, unrated, positive_from, aging, keep_values)
        if spill is not None:
            return cls(**spilled(gathered_in_batches(source, asked, spill.at_once, **how), asked, dropped, spill))
        found = gathered(source, asked, **how)
        del source
        with asked.placed():
            return cls(**assembled(found, asked, dropped))

    def _weighed_by(self, weight: str | None, half_life: float | HalfLife | None) -> Self:
        """Return these Ratings; raise a ParameterError if they have other weights than those asked for."""
        if weight and self.weight != weight:
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
    def from_sparse(cls, matrix: Any, user_ids: Any = None, item_ids: Any = None, **options: Any) -> Self:
        """Read a sparse matrix of SciPy: rows are users, columns items; options as for :meth:`read`.

        Ids are the indices of rows and columns, unless they are given. Rows and columns without entries are left out;
        zeros that are stored are ratings.
        """
        rows, columns, values = entries_of(matrix)
        given, sides = [], ((rows, user_ids, "user"), (columns, item_ids, "item"))
        for n, (indices, own, side) in zip(matrix.shape, sides, strict=True):
            if own is not None and len(own) != n:
                raise DataError(
                    f"{n:,} {'rows' if side == 'user' else 'columns'} but {len(own):,} {side} ids: give one for each"
                )
            given.append(indices if own is None else to_arrow(own, f"{side}_ids").take(from_numpy(indices)))
        return cls.read((*given, values), **options)

    def __repr__(self) -> str:
        return f"<Ratings: {len(self):,} of {counted(self.n_items, 'item')} by {counted(self.n_users, 'user')}>"

    def _repr_html_(self) -> str:
        pairs = self.n_users * self.n_items
        facts: list[tuple[str, Any]] = [("rated pairs", f"{len(self) / pairs:.2%}" if pairs else "-")]
        if self.rated and len(self):
            facts.append(("ratings", f"{self.values.min():g} to {self.values.max():g}, mean {self.values.mean():.3f}"))
        facts += [(f"rows {name.replace('_', ' ')}", n) for name, n in self.rows.items()]
        return facts_table(repr(self), facts)

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

    @cached_property
    def sections(self) -> np.ndarray:
        """The places where sections of users begin and end among the rows: (n_sections + 1,) int64."""
        indptr = self.by_user.indptr
        return np.asarray(indptr[sections(indptr)])

    @property
    def mean_weight(self) -> float:
        """The mean of the weights; 1 if there are none."""
        return 1.0 if self.weights is None else mean_of(self.weights, self.sections)

    @property
    def user_masses(self) -> np.ndarray:
        """The sum of the weights of each user's ratings, (n_users,); their number if there are no weights."""
        return csr.masses(self.by_user)

    @property
    def item_masses(self) -> np.ndarray:
        """The sum of the weights of each item's ratings, (n_items,); their number if there are no weights."""
        return self.item_counts if self.weights is None else csr.masses(self.by_item)

    @cached_property
    def by_user(self) -> Compressed:
        """The ratings as CSR: row u holds user u's items, sorted."""
        indptr, unordered, repeats = bounds_of(self.users, self.items, self.n_users)
        if unordered or repeats:
            raise DataError("rows must be sorted by user and then item, each pair once: see Ratings.from_arrays")
        return Compressed(indptr, self.items, self.values, self.weights)

    @cached_property
    def by_item(self) -> Compressed:
        """The ratings as CSC: row i holds item i's users, sorted."""
        shape = self.n_items, self.n_users
        if self.spill is not None:
            numbers = (self.values,) if self.weights is None else (self.values, self.weights)
            return compress(self.items, self.users, numbers, self.n_items, self.spill)
        return csr.compress(self.items, self.users, self.values, shape, resolve("cpu"), weights=self.weights)

    def observed(self, positive_from: float | None, negative_to: float | None = None) -> Self:
        """Return the rows rated at least ``positive_from``, or all rows if it is None or there are no ratings.

        Every value becomes 1. With ``negative_to``, rows rated at most that are returned, too, with the value 0. All
        ids stay. Raises a DataError if no row has the value 1.
        """
        if positive_from is None or not self.rated:
            return self.with_values(self._filled(np.float32, lambda part: 1))
        low = -np.inf if negative_to is None else negative_to
        marked = self.with_values(self._filled(np.float32, lambda part: self.values[part] >= positive_from))
        if not marked.values.any():
            highest = self.values.max(initial=-np.inf)
            raise DataError(
                f"none of {len(self):,} ratings is at least {positive_from:g} (the highest is {highest:g}), so none"
                " counts as positive: give other ratings, or lower --positive-from (positive_from=)"
            )
        chosen = self._filled(bool, lambda part: (self.values[part] >= positive_from) | (self.values[part] <= low))
        return marked if chosen.all() else marked.take(chosen)

    def _filled(self, dtype: Any, make: Callable[[slice], Any]) -> np.ndarray:
        """Return an array (n,), made part by part, where the ratings are."""
        return filled(self.spill, len(self), dtype, make)

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
                given |= {f"{side}_ids": every, f"{side}s": self.among(places, f"{side}s")}
                given[f"{side}_features"] = features.of(every)
        return replace(self, **given)

    def among(self, places: np.ndarray, rows: str) -> np.ndarray:
        """Return ``places[self.users]`` or ``places[self.items]``, (n,), for ``rows`` "users" or "items"."""
        indices = getattr(self, rows)
        return self._filled(places.dtype, lambda part: places[indices[part]])

    def take(self, chosen: np.ndarray) -> Self:
        """Select rows by a boolean mask (n,); all ids stay. Raises a ParameterError for anything but such a mask."""
        if not isinstance(chosen, np.ndarray) or chosen.dtype != bool or chosen.shape != self.users.shape:
            raise ParameterError(f"chosen must be a boolean array ({len(self):,},), True for each row to select")
        users, items, values = csr.keep(chosen, (self.users, self.items, self.values), resolve("cpu"), self.spill)
        weights = None if self.weights is None else csr.picked(self.weights, chosen, self.spill)
        return replace(self, users=users, items=items, values=values, weights=weights, dropped={})

    def core(self, min_user_ratings: int = 1, min_item_ratings: int = 1) -> Self:
        """Leave out users and items with too few ratings, until all that remain have enough among themselves.

        Their ids are dropped, except those with side features, which stay without ratings. ``dropped`` counts the
        ratings of users, "below_min_user_ratings", and of items, "below_min_item_ratings"; one of both counts once.

        Raises
        ------
        DataError
            If nothing remains.
        ParameterError
            If a number is not an integer of at least 1.

        Examples
        --------
        >>> ratings = Ratings.from_arrays(["ann", "ann", "bob", "bob", "cid"], [1, 2, 1, 2, 3], [5, 3, 4, 2, 1])
        >>> core = ratings.core(min_user_ratings=2)
        >>> core.user_ids.to_pylist(), core.item_ids.to_pylist(), core.rows["below_min_user_ratings"]
        (['ann', 'bob'], [1, 2], 1)
        """
        least = min_user_ratings, min_item_ratings
        stays, below, remaining = k_core(self.by_user, self.by_item, self.users, least, self.spill)
        kept, given = self.take(stays), dict[str, Any]()
        for side, chosen in zip(("user", "item"), remaining, strict=True):
            row_ids, features = getattr(kept, f"{side}_ids"), getattr(kept, f"{side}_features")
            given |= rows_of_core(side, chosen, row_ids, features, kept.among)
        return replace(kept, dropped=self.dropped | below, **given)

    def split(self, fraction: float, seed: int = 0) -> tuple[Self, Self]:
        """Hold out a random fraction of the rows. Returns (rest, held out), both with all ids.

        Raises
        ------
        ParameterError
            If the fraction leaves one of the two without rows.
        """
        share = isinstance(fraction, Real) and 0 < fraction < 1
        held_out = round(len(self) * fraction) if share else 0
        if not 0 < held_out < len(self):
            raise ParameterError(
                f"a fraction of {brief(fraction)} of {len(self):,} ratings leaves one side empty: give one in (0, 1)"
                " that leaves rows on both sides"
            )
        small = np.int32 if len(self) < 2**31 else np.int64
        order = self._filled(small, lambda part: np.arange(part.start, part.stop))
        np.random.default_rng(seed).shuffle(order)
        stays = self._filled(bool, lambda part: True)
        for part in parts_of(held_out):
            stays[order[part]] = False
        del order
        rest = self.take(stays)
        return rest, self.take(np.logical_not(stays, out=stays))

    def folds(self, n: int = 5, seed: int = 0) -> Iterator[tuple[Self, Self]]:
        """Yield n pairs (rest, held out), all with all ids; every row is held out once.

        Raises
        ------
        ParameterError
            If n is less than 2 or more than the number of rows.
        """
        if not isinstance(n, Integral) or not 2 <= n <= len(self):
            raise ParameterError(
                f"cannot make {brief(n)} folds of {len(self):,} ratings: give 2 to {len(self):,} folds"
            )
        fold = np.empty(len(self), np.int64)
        fold[np.random.default_rng(seed).permutation(len(self))] = np.arange(len(self)) % n
        return ((self.take(fold != f), self.take(fold == f)) for f in range(n))


def reading(implicit: bool, positive_from: float | None) -> dict[str, Any]:
    """Return the arguments of :meth:`Ratings.read` that suit a model, which observes ratings from some value on."""
    if not implicit:
        return {}
    return {"unrated": True} | ({"keep_values": False} if positive_from is None else {"positive_from": positive_from})
