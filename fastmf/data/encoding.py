"""How the columns of a table become features. Kept in models, and applied again to tables of new items.

A column of numbers becomes one standardised feature for each number, (value - mean) / deviation, and if some are
missing one more, "price (missing)". A column of categories becomes one feature for each category, "genres=Comedy", and
if some are too rare for a feature of their own one more, "genres (rare)". A column of dates becomes a column of
numbers, "released: year", and one of categories, "released: month".
"""

import sys
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa

from fastmf.data.arrow import filled

# The kinds of columns of numbers ("numbers": lists of one length), and of categories.
NUMBERS = ("number", "numbers", "year")
CATEGORIES = ("categories", "month")


@dataclass(frozen=True, kw_only=True)
class FeatureColumn:
    """How one column, or one part of a column of dates, becomes features.

    Attributes
    ----------
    name : the name of the column.
    kind : one of NUMBERS or CATEGORIES.
    means, deviations : of the numbers, one each. A number whose deviation is 0 is no feature.
    missing : whether a last feature tells the rows in which a number is missing.
    n_categories : the number of categories that are features, in the order of their names.
    rare : whether a last feature tells the rows with other categories.
    """

    name: str
    kind: str
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()
    missing: bool = False
    n_categories: int = 0
    rare: bool = False

    def __post_init__(self) -> None:
        """Raise a ValueError for anything that could not have come from a table."""
        _require(isinstance(self.name, str), f"a column's name is {self.name!r}")
        _require(self.kind in NUMBERS + CATEGORIES, f"column {self.name!r} is of kind {self.kind!r}")
        numbers = self.kind in NUMBERS
        for name, values, least in (("means", self.means, -sys.float_info.max), ("deviations", self.deviations, 0)):
            sound = isinstance(values, tuple) and all(
                type(value) in (int, float) and least <= value <= sys.float_info.max for value in values
            )
            _require(sound, f"column {self.name!r} has {name} that are not finite numbers of at least {least}")
        n, least = len(self.means), numbers
        _require(n == len(self.deviations) and n >= least, f"column {self.name!r} has {n} means")
        _require(n <= 1 or self.kind == "numbers", f"column {self.name!r} has {n} means")
        _require(numbers or n == 0, f"column {self.name!r} has means of categories")
        for name, flag, possible in (("missing", self.missing, numbers), ("rare", self.rare, not numbers)):
            _require(isinstance(flag, bool) and flag <= possible, f"column {self.name!r} has {name} {flag!r}")
        count = self.n_categories
        sound = type(count) is int and (count == 0 if numbers else 0 < count < 2**31)
        _require(sound, f"column {self.name!r} has {count!r} categories")
        _require(self.n_features > 0, f"column {self.name!r} has no features")

    @property
    def label(self) -> str:
        """How the names of its features begin."""
        return f"{self.name}: {self.kind}" if self.kind in ("year", "month") else self.name

    @cached_property
    def places(self) -> tuple[int, ...]:
        """The places, among the numbers of a row, of those that are features."""
        return tuple(place for place, deviation in enumerate(self.deviations) if deviation > 0)

    @property
    def n_features(self) -> int:
        """The number of features."""
        return len(self.places) + self.n_categories + self.missing + self.rare

    def names(self, categories: pa.Array) -> pa.Array:
        """Return the names of its features, large_string (n_features,), given its categories (n_categories,)."""
        import pyarrow.compute as pc

        several = self.kind == "numbers"
        numbers = [f"{self.label}[{place}]" if several else self.label for place in self.places]
        last = [f"{self.label} ({flag})" for flag in ("missing", "rare") if getattr(self, flag)]
        text = pa.large_string()
        middle = pc.binary_join_element_wise(pa.scalar(self.label, text), categories, pa.scalar("=", text))
        return pa.concat_arrays([pa.array(numbers, text), middle, pa.array(last, text)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoding:
    """How the columns of a table become features.

    Attributes
    ----------
    columns : one entry for each column, two for a column of dates. The features follow each other in this order.
    names : large_string (n_features,), distinct. The categories of a column are kept in the names of its features.
    """

    columns: tuple[FeatureColumn, ...]
    names: pa.Array

    def __post_init__(self) -> None:
        """Raise a ValueError unless the columns are distinct and the names are theirs."""
        import pyarrow.compute as pc

        _require(isinstance(self.columns, tuple) and len(self.columns) > 0, "there are no feature columns")
        _require(all(isinstance(column, FeatureColumn) for column in self.columns), "some columns are no FeatureColumn")
        kinds: dict[str, set[str]] = {}
        for column in self.columns:
            of_one = kinds.setdefault(column.name, set())
            _require(column.kind not in of_one, f"column {column.name!r} comes twice")
            of_one.add(column.kind)
        alike = (len(of_one) == 1 or of_one == {"year", "month"} for of_one in kinds.values())
        _require(all(alike), "a column is of two kinds")
        _require(isinstance(self.names, pa.Array) and self.names.type == pa.large_string(), "names are not text")
        n = int(self.starts[-1])
        _require(len(self.names) == n < 2**31 and self.names.null_count == 0, f"there are not {n:,} names of features")
        try:
            self.names.validate(full=True)
        except pa.ArrowInvalid as error:
            raise ValueError(f"names are not text: {error}") from None
        for place, column in enumerate(self.columns):
            own = column.names(self.categories(place))
            _require(self.of(place, self.names).equals(own), f"names of features of {column.label!r} are wrong")
        _require(pc.count_distinct(self.names).as_py() == n, "names of features are not distinct")

    @cached_property
    def starts(self) -> np.ndarray:
        """The first feature of each column, and the number of features, (n_columns + 1,) int64."""
        return np.cumsum([0, *(column.n_features for column in self.columns)], dtype=np.int64)

    @property
    def n_features(self) -> int:
        """The number of features."""
        return len(self.names)

    @property
    def needed(self) -> tuple[str, ...]:
        """The names of the columns that a table must have, each once."""
        return tuple(dict.fromkeys(column.name for column in self.columns))

    def of(self, place: int, array: pa.Array) -> pa.Array:
        """Return the part of an array (n_features,) that belongs to the column at a place."""
        return array.slice(int(self.starts[place]), self.columns[place].n_features)

    def categories(self, place: int) -> pa.Array:
        """Return the categories of the column at a place, large_string (n_categories,)."""
        import pyarrow.compute as pc

        column = self.columns[place]
        names = self.of(place, self.names).slice(len(column.places), column.n_categories)
        return pc.utf8_slice_codeunits(names, len(column.label) + 1)

    def places_in(self, other: Self) -> np.ndarray:
        """Return the place of each feature among another encoding's of the same names, (n_features,); -1 for none."""
        import pyarrow.compute as pc

        return filled(pc.index_in(self.names, value_set=other.names), -1)

    def plain(self) -> list[dict[str, Any]]:
        """Return the columns as plain data for JSON; the names are an array of their own."""
        return [
            {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(column).items()}
            for column in self.columns
        ]

    @classmethod
    def from_plain(cls, data: Any, names: pa.Array) -> Self:
        """Make an Encoding from the results of :meth:`plain`, and the names; raise a ValueError for any other data."""
        wanted = {field.name for field in fields(FeatureColumn)}
        _require(isinstance(data, list), f"feature columns are {type(data).__name__}, not a list")
        for given in data:
            sound = isinstance(given, dict) and set(given) == wanted
            _require(sound, f"a feature column is {given!r}")
            sound = all(isinstance(given[name], list) for name in ("means", "deviations"))
            _require(sound, f"means and deviations of column {given['name']!r} are not lists")
        plain = [given | {name: tuple(given[name]) for name in ("means", "deviations")} for given in data]
        return cls(columns=tuple(FeatureColumn(**given) for given in plain), names=names)


def _require(true: bool, message: str) -> None:
    if not true:
        raise ValueError(message)
