"""Side features: what is known about users or items beside their ratings, one compressed row for each id."""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa

from fastmf.data import csr, ids
from fastmf.data.arrays import digest_of
from fastmf.data.columns import choose, listed
from fastmf.data.encoding import Encoding, FeatureColumn
from fastmf.data.feature_columns import Entries, UnusableError, entries, kinds_of, learn, parse
from fastmf.data.files import called
from fastmf.data.layout import layout_of
from fastmf.data.packed_ids import pack_ids
from fastmf.data.read import Like, read_table
from fastmf.errors import DataError, counted, require_choice
from fastmf.kernels.types import Compressed
from fastmf.runtime.device import resolve
from fastmf.runtime.memory import require_memory

ENTRY = 20  # bytes for an entry while rows are made, besides those of its column
NAMED = 5  # columns that a message names at most


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Features:
    """The features of users or items.

    Attributes
    ----------
    ids : the ids in the table, sorted and distinct, as an Arrow array.
    rows : compressed rows, one for each id: ``indices`` are features, sorted within a row, ``values`` their values.
        A row without entries says nothing of its id.
    encoding : how the columns of the table became features; ``encoding.names`` are the names of the features.
    remarks : lines for people to read: columns left out, and what else was not taken as given.
    side : "user" or "item", or "" if that is not known.

    Examples
    --------
    >>> table = pa.table({"item": [7, 3, 5, 1], "genres": ["Drama|War", "War", "Drama", "War|Drama"]})
    >>> features = Features.read(table.append_column("year", pa.array([1999, 1994, None, 1999])), "item")
    >>> features.encoding.names.to_pylist()
    ['genres=Drama', 'genres=War', 'year', 'year (missing)']
    >>> row = slice(*features.rows.indptr[1:3])  # of item 3, the second id
    >>> features.rows.indices[row], features.rows.values[row]
    (array([1, 2], dtype=int32), array([ 1.       , -1.4142135], dtype=float32))
    """

    ids: pa.Array
    rows: Compressed
    encoding: Encoding
    remarks: tuple[str, ...] = ()
    side: str = ""

    def __post_init__(self) -> None:
        """Raise a DataError for rows that kernels could not read safely, and for values that are not finite."""
        indptr, indices, values, weights = self.rows
        kinds = [("indptr", indptr, np.int64), ("indices", indices, np.int32), ("values", values, np.float32)]
        for name, array, kind in kinds:
            if not isinstance(array, np.ndarray) or array.dtype != kind or array.ndim != 1:
                raise DataError(f"{name} of features must be a NumPy array (n,) of {np.dtype(kind)}")
        ends = len(indptr) == len(self.ids) + 1 and indptr[0] == 0 and indptr[-1] == len(indices) == len(values)
        if not ends or np.any(indptr[1:] < indptr[:-1]) or weights is not None:
            raise DataError(f"features need one row for each of {len(self.ids):,} ids, and no weights")
        if len(indices) and not 0 <= indices.min() <= indices.max() < self.encoding.n_features:
            raise DataError(f"indices of features must be from 0 to {self.encoding.n_features - 1:,}")
        if not np.isfinite(values).all():
            raise DataError("values of features must be finite")

    @classmethod
    def read(
        cls,
        source: Any,
        side: str,
        *,
        id_column: str | None = None,
        like: pa.Array | None = None,
        encode_as: Encoding | None = None,
        columns: Any = None,
        sep: str | None = None,
        decimal: str | None = None,
        encoding: str | None = None,
    ) -> Self:
        """Read a table of features: a column of ids, and any others.

        Numbers are standardised. Missing ones count as the mean, and a feature such as "price (missing)" marks them.
        Text, booleans and dictionaries become one feature for each category. So do lists of text, integers or booleans,
        and each part of text such as "Drama|War". Lists of floats of one length become a feature for each place. Dates
        become the year, as a number, and the month, as a category. Categories that fewer than three rows have share a
        feature. Three sorts of columns are left out, with a remark: those that hold the same in every row, those whose
        categories differ in nearly every row, and those of types that cannot be features.

        Parameters
        ----------
        source : a path or URI, or a table in memory; see :func:`fastmf.data.read.read_columns`.
            Features are returned as they are, but for the type of their ids.
        side : "user" or "item", for the usual names of the column of ids, and for messages.
        id_column : the name of that column, if the table has it; else the usual names are tried.
        like : ids of the ratings. Those of the table must be of the same kind, and get their type.
        encode_as : encode as another table was, one of new items, say. Its columns must be there. Others are ignored.
        columns, sep, decimal, encoding : the layout of text; see :meth:`fastmf.Ratings.read`.

        Raises
        ------
        DataError
            If ids are null, repeated, or of another type than in the ratings; if there are no rows; if numbers are
            infinite; if no column can be used, or one that ``encode_as`` needs is missing or of another type.
        OSError
            If a file is missing, is of a format that is not read, or is damaged.
        ResourceError
            If the table needs more memory than there is.
        """
        require_choice("side", side, ("user", "item"))
        if isinstance(source, cls):
            return source._checked(side, like, encode_as)
        where = called(source, f"the table of {side} features")
        known = Like({} if like is None else {side: like.type}, {} if id_column is None else {side: id_column})
        said = layout_of(columns, sep, decimal, encoding)
        table, of_index = _without_index(read_table(source, {side: None}, said, known))
        name = choose(table.column_names, {side: None}, where, (), known.names)[side]
        try:
            places, found = _encoded_ids(table.column(name), name, side)
            found = found if like is None else _like(found, like, side)
            table = table.drop_columns([name])
            found_encoding, parts, remarks = _learned(table) if encode_as is None else _applied(table, encode_as)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        lines = tuple(f"{side} features: {line}" for line in of_index + remarks)
        rows = _compressed(parts, places, found_encoding)
        return cls(ids=found, rows=rows, encoding=found_encoding, remarks=lines, side=side)

    def _checked(self, side: str, like: pa.Array | None, encoding: Encoding | None) -> Self:
        """Return these Features, with ids of the type of ``like``; raise a DataError if they are encoded otherwise."""
        own = self.encoding
        if self.side not in ("", side):
            raise DataError(f"these are features of {self.side}s, not of {side}s: read them with side={side!r}")
        if encoding is not None and (own.plain() != encoding.plain() or not own.names.equals(encoding.names)):
            raise DataError(f"these {side} features have another encoding than the model: give the table itself")
        return self if like is None else replace(self, ids=_like(self.ids, like, side))

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self.ids)

    def __repr__(self) -> str:
        return f"<Features: {counted(len(self), 'id')}, {counted(self.encoding.n_features, 'feature')}>"

    def of(self, wanted: pa.Array) -> Self:
        """Return the features of other ids; those that are not in the table get empty rows.

        Raises a DataError if the ids are of another kind.
        """
        return replace(self, ids=wanted, rows=csr.take(self.rows, ids.lookup(self.ids, wanted, "wanted")))

    def updated(self, other: Self) -> Self:
        """Return the features of the same ids, with those of ``other`` for the ids it knows; both have one encoding."""
        both = Compressed(
            np.append(self.rows.indptr, self.rows.indptr[-1] + other.rows.indptr[1:]),
            *(np.concatenate(pair) for pair in zip(self.rows[1:3], other.rows[1:3], strict=True)),
        )
        chosen = np.diff(other.rows.indptr) > 0
        return replace(self, rows=csr.take(both, np.arange(len(self)) + len(self) * chosen))

    def digest(self) -> str:
        """Return a hash of the ids (whatever the width of integers), the rows and the encoding."""
        names = pack_ids("names", self.encoding.names)
        arrays = self.rows._asdict() | names
        digests = [digest_of(name, array) for name, array in sorted(arrays.items()) if array is not None]
        text = json.dumps([self.encoding.plain(), digests])
        return hashlib.blake2b(ids.content(self.ids) + text.encode(), digest_size=16).hexdigest()


def _without_index(table: pa.Table) -> tuple[pa.Table, list[str]]:
    """Leave out the columns that hold the index of a pandas frame; also return a remark, if there are any."""
    by_pandas = b"pandas" in (table.schema.metadata or {})
    unnamed = [name for name in table.column_names if by_pandas and name.startswith("__index_level_")]
    if not unnamed:
        return table, []
    return table.drop_columns(unnamed), [f"column {unnamed[0]!r} is the index of a pandas frame: left out"]


def _encoded_ids(column: pa.ChunkedArray, name: str, side: str) -> tuple[np.ndarray, pa.Array]:
    """Return the place of each row's id among the sorted ids, (n,) int32, and the ids; refuse repeated ones."""
    if len(column) == 0:
        raise DataError(f"there are no {side} features: the table has 0 rows")
    places, found = ids.encode(column, name)
    if len(found) < len(places):
        first_rows = np.unique(places, return_index=True)[1]
        again = np.ones(len(places), bool)
        again[first_rows] = False
        first = int(np.flatnonzero(again)[0])
        raise DataError(
            f"column {name!r} has {np.count_nonzero(again):,} of {len(places):,} rows that repeat an id, the first"
            f" {column[first].as_py()!r} in row {first:,} (from 0): keep one row for each {side}"
        )
    return places, found


def _like(found: pa.Array, like: pa.Array, side: str) -> pa.Array:
    """Cast ids to the type of the ratings' ids; raise a DataError if they are of another kind or do not fit."""
    try:
        ids.lookup(like, found.slice(0, 1), side)
    except DataError:
        kinds = f"{found.type}, but those of the ratings are {like.type}"
        raise DataError(f"the {side} ids of the features are {kinds}: cast them to one type") from None
    if found.type == like.type:
        return found
    try:
        return found.cast(like.type)
    except pa.ArrowException as error:
        raise DataError(
            f"the {side} ids of the features are {found.type} and do not all fit into {like.type}, the type of those of"
            f" the ratings ({error}): cast the ratings' to {found.type}"
        ) from None


def _learned(table: pa.Table) -> tuple[Encoding, list[Entries], list[str]]:
    """Make an encoding of all columns that can be used. Also returns their entries, and remarks."""
    columns: list[FeatureColumn] = []
    names: list[pa.Array] = []
    parts: list[Entries] = []
    remarks: list[str] = []
    n_entries = 0
    for name, column in zip(table.column_names, table.columns, strict=True):
        kinds = kinds_of(column.type)
        if not kinds:
            remarks.append(f"column {name!r} holds {column.type}, which cannot be a feature: left out")
        for kind in kinds:
            try:
                parsed = parse(column, name, kind)
                how, categories = learn(parsed, name, kind)
            except UnusableError as error:
                remarks.append(f"{error}: left out")
                continue
            constant = len(how.means) - len(how.places)
            if how.kind == "numbers" and constant:
                remarks.append(f"{constant:,} of {len(how.means):,} numbers of column {name!r} never change: left out")
            found, lines = entries(parsed, how, categories)
            columns.append(how)
            names.append(how.names(categories))
            parts.append(found)
            remarks += lines
            n_entries += len(found.rows)
            _require_room(n_entries)
    if not columns:
        raise DataError(f"no column can be used as a feature: {'; '.join(remarks) or 'there are only ids'}")
    return _encoding(tuple(columns), names), parts, remarks


def _encoding(columns: tuple[FeatureColumn, ...], names: list[pa.Array]) -> Encoding:
    """Return the encoding; raise a DataError if two columns give a feature the same name."""
    import pyarrow.compute as pc

    joined = pa.concat_arrays(names)
    if pc.count_distinct(joined).as_py() < len(joined):
        owners: dict[str, str] = {}
        for column, own in zip(columns, names, strict=True):
            for name in own.to_pylist():
                if name in owners:
                    both = f"columns {owners[name]!r} and {column.name!r}"
                    raise DataError(f"{both} both have a feature {name!r}: rename one")
                owners[name] = column.name
    return Encoding(columns=columns, names=joined)


def _applied(table: pa.Table, encoding: Encoding) -> tuple[Encoding, list[Entries], list[str]]:
    """Encode a table as another was. Returns the encoding, the entries of its columns, and remarks."""
    absent = [name for name in encoding.needed if name not in table.column_names]
    if absent:
        there = listed(table.column_names, NAMED)
        raise DataError(
            f"columns of the model's features are missing: {listed(absent, NAMED)}; there are {there}: add them"
        )
    extra = [name for name in table.column_names if name not in encoding.needed]
    remarks = [f"columns that are not features of the model are ignored: {listed(extra, NAMED)}"] if extra else []
    parts, n_entries = [], 0
    for place, how in enumerate(encoding.columns):
        parsed = parse(table.column(how.name), how.name, how.kind)
        found, lines = entries(parsed, how, encoding.categories(place))
        parts.append(found)
        remarks += lines
        n_entries += len(found.rows)
        _require_room(n_entries)
    return encoding, parts, remarks


def _require_room(n: int) -> None:
    """Raise a ResourceError if there is no room to group n entries by row."""
    require_memory(n * ENTRY, f"encoding {n:,} values of features", None, "leave columns or rows out")


def _compressed(parts: list[Entries], places: np.ndarray, encoding: Encoding) -> Compressed:
    """Group the entries of all columns by id: those of a row follow each other in the order of the columns."""
    starts = encoding.starts[:-1].astype(np.int32)
    rows = places[np.concatenate([part.rows for part in parts])]
    features = np.concatenate([part.features + start for part, start in zip(parts, starts, strict=True)])
    values = np.concatenate([part.values for part in parts])
    return csr.compress(rows, features, values, (len(places), encoding.n_features), resolve("cpu"))
