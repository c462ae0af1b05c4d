"""The columns of a table of features: as numbers or categories, what is learned of them, and their entries.

Everything here works on whole columns, and nothing depends on the order of the rows.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import types

from fastmf.data.arrow import as_array, filled, from_numpy, large, to_numpy
from fastmf.data.csr import ranges
from fastmf.data.encoding import CATEGORIES, FeatureColumn
from fastmf.errors import DataError
from fastmf.runtime.memory import require_memory

RARE = 3  # categories of fewer rows share a feature
COVERED = 0.1  # of the rows that have categories, the least share with one that is not rare
FARTHEST = 1e6  # deviations from the mean: more can only occur in another table than the one that made the encoding
WORK = 40  # bytes for a category of a row

# What each kind of column wants.
WANTED = {
    "number": "numbers",
    "numbers": "lists of numbers",
    "categories": "categories (text, integers, booleans, or lists of them)",
    "year": "dates",
    "month": "dates",
}


class UnusableError(DataError):
    """A column that cannot be features: left out of a new encoding, an error if an encoding needs it."""


class Numbers(NamedTuple):
    """A column of numbers: values (n_rows, n_numbers) float64, NaN where they are missing."""

    values: np.ndarray


class Labels(NamedTuple):
    """A column of categories: row ``rows[m]`` (int64) has category ``texts[codes[m]]``; pairs are sorted and distinct.

    ``texts`` is large_string, sorted and distinct; some may not occur.
    """

    rows: np.ndarray
    codes: np.ndarray
    texts: pa.Array
    n_rows: int


class Entries(NamedTuple):
    """Entries of the feature matrix: rows (m,) int32, features (m,) int32, counted in a column, and values float32.

    The entries of a row are in the order of the features.
    """

    rows: np.ndarray
    features: np.ndarray
    values: np.ndarray


def kinds_of(kind: pa.DataType) -> tuple[str, ...]:
    """Return the kinds of feature columns (see FeatureColumn) that a column of an Arrow type becomes, if any."""
    if types.is_date(kind) or types.is_timestamp(kind):
        return "year", "month"
    if _is_number(kind):
        return ("number",)
    if _is_list(kind) and _is_number(kind.value_type) and not types.is_integer(kind.value_type):
        return ("numbers",)
    inner = kind.value_type if _is_list(kind) else kind
    return ("categories",) if _is_category(inner) or types.is_null(inner) else ()


def parse(column: pa.ChunkedArray, name: str, kind: str) -> Numbers | Labels:
    """Return a column as numbers or categories, as its kind wants it.

    Raises
    ------
    UnusableError
        If the type of the column does not fit its kind, or lists of numbers differ in length.
    DataError
        If numbers are infinite, or the column is damaged.
    ResourceError
        If the categories of all rows need more memory than there is.
    """
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DataError(f"column {name!r} is damaged: {error}") from None
    if _is_empty(column):  # whatever its type: pandas and Arrow guess it
        column = pa.chunked_array([pa.nulls(len(column), pa.float64() if kind not in CATEGORIES else pa.string())])
    elif kind in ("year", "month") and (types.is_date(column.type) or types.is_timestamp(column.type)):
        column = _part_of_date(column, kind)
    elif kind in ("year", "month") or not _fits(column.type, kind):
        raise UnusableError(f"column {name!r} holds {column.type}, not {WANTED[kind]}: cast it")
    if kind in CATEGORIES:
        return _labels(column, name)
    return _numbers(column, name)


def learn(column: Numbers | Labels, name: str, kind: str) -> tuple[FeatureColumn, pa.Array]:
    """Choose the features of a column. Also returns the categories among them, large_string.

    Raises an UnusableError if the column holds nothing, the same in every row, or something else in nearly every row.
    """
    return _learn_labels(column, name, kind) if isinstance(column, Labels) else _learn_numbers(column, name, kind)


def _learn_numbers(column: Numbers, name: str, kind: str) -> tuple[FeatureColumn, pa.Array]:
    missing = np.isnan(column.values)
    if missing.all():
        raise UnusableError(f"column {name!r} holds no values")
    moments = [_moments(values[~gone]) for values, gone in zip(column.values.T, missing.T, strict=True)]
    if not missing.any() and all(deviation == 0 for _, deviation in moments):
        raise UnusableError(f"column {name!r} holds the same {kind} in every row")
    means, deviations = zip(*moments, strict=True)
    found = FeatureColumn(name=name, kind=kind, means=means, deviations=deviations, missing=bool(missing.any()))
    return found, pa.array([], pa.large_string())


def _moments(values: np.ndarray) -> tuple[float, float]:
    """Return the mean and the deviation (ddof 0) of numbers (n,); 0 and 0 of none.

    Sorted, they have the same sums whatever the order of the rows. Divided by a power of two, their squares stay finite
    and nothing is rounded.
    """
    values = np.sort(values) + 0.0  # no -0.0, which sorts like 0.0
    if len(values) == 0 or values[0] == values[-1]:
        return (float(values[0]) if len(values) else 0.0), 0.0
    exponent = int(np.frexp(max(abs(values[0]), abs(values[-1])))[1])
    scaled = np.ldexp(values, -exponent)
    mean = scaled.mean()
    deviation = np.sqrt(np.square(scaled - mean).mean())
    return float(np.ldexp(mean, exponent)), float(np.ldexp(deviation, exponent))


def _learn_labels(column: Labels, name: str, kind: str) -> tuple[FeatureColumn, pa.Array]:
    if len(column.rows) == 0:
        raise UnusableError(f"column {name!r} holds no values")
    counts = np.bincount(column.codes, minlength=len(column.texts))
    if counts[counts > 0].min() == column.n_rows:
        raise UnusableError(f"column {name!r} holds the same {kind} in every row")
    common = counts >= RARE
    n_rows, n_covered = len(_distinct(column.rows)), len(_distinct(column.rows[common[column.codes]]))
    if n_covered < COVERED * n_rows:
        raise UnusableError(
            f"column {name!r} differs in nearly every row, as ids and titles do: {n_covered:,} of {n_rows:,} rows have"
            f" a category that {RARE} rows share"
        )
    rare = bool(np.any((counts > 0) & ~common))
    found = FeatureColumn(name=name, kind=kind, n_categories=int(np.count_nonzero(common)), rare=rare)
    return found, column.texts.take(from_numpy(np.flatnonzero(common)))


def _distinct(numbers: np.ndarray) -> np.ndarray:
    """Return the sorted distinct integers among integers (n,). NumPy's unique would hash them: six times slower."""
    numbers = np.sort(numbers)
    return numbers[np.append(True, numbers[1:] != numbers[:-1])[: len(numbers)]]


def entries(column: Numbers | Labels, how: FeatureColumn, categories: pa.Array) -> tuple[Entries, list[str]]:
    """Return the entries of a column, and one line for everything that its encoding had no place for."""
    if isinstance(column, Labels):
        return _entries_of_labels(column, how, categories)
    return _entries_of_numbers(column, how)


def _entries_of_numbers(column: Numbers, how: FeatureColumn) -> tuple[Entries, list[str]]:
    lines, parts, given = [], [], column.values
    if np.isnan(given).all():
        given = np.full((len(given), len(how.means)), np.nan)
    if given.shape[1] != len(how.means):
        lengths = f"lists of {given.shape[1]:,} numbers, in the model's table of {len(how.means):,}"
        raise UnusableError(f"column {how.name!r} holds {lengths}: make them of one length")
    missing = np.isnan(given)
    for feature, place in enumerate(how.places):
        with np.errstate(over="ignore"):
            far = (given[:, place] - how.means[place]) / how.deviations[place]
        n_clipped = np.count_nonzero(np.abs(far) > FARTHEST)
        if n_clipped:
            what = f"{n_clipped:,} values of {how.label!r} are more than {FARTHEST:g} deviations from the mean"
            lines.append(f"{what} of the model's table: taken as {FARTHEST:g}")
        standard = np.clip(far, -FARTHEST, FARTHEST).astype(np.float32) + np.float32(0)  # -0 becomes 0
        rows = np.flatnonzero(~missing[:, place])
        parts.append((rows, feature, standard[rows]))
    gone = np.flatnonzero(missing.any(axis=1))
    if how.missing:
        parts.append((gone, len(how.places), np.ones(len(gone), np.float32)))
    elif len(gone):
        lines.append(f"{len(gone):,} rows without a value of {how.label!r}: taken as the mean of the model's table")
    rows = np.concatenate([rows for rows, _, _ in parts]).astype(np.int32)
    features = np.concatenate([np.full(len(rows), feature, np.int32) for rows, feature, _ in parts])
    return Entries(rows, features, np.concatenate([values for _, _, values in parts])), lines


def _entries_of_labels(column: Labels, how: FeatureColumn, categories: pa.Array) -> tuple[Entries, list[str]]:
    import pyarrow.compute as pc

    lines = []
    place = filled(pc.index_in(column.texts, value_set=categories), how.n_categories)
    features = place[column.codes]
    other = _distinct(column.codes[features == how.n_categories])
    if len(other):
        what = f"{len(other):,} categories of {how.label!r}, the first {column.texts[int(other[0])].as_py()!r},"
        where = f"count as {f'{how.label} (rare)'!r}" if how.rare else "are not among the model's: ignored"
        lines.append(f"{what} {where}")
    n = np.int64(how.n_categories + 1)
    keys = _distinct(column.rows * n + features)
    rows, features = np.divmod(keys, n)
    if not how.rare:
        rows, features = rows[features < how.n_categories], features[features < how.n_categories]
    return Entries(rows.astype(np.int32), features.astype(np.int32), np.ones(len(rows), np.float32)), lines


def _numbers(column: pa.ChunkedArray, name: str) -> Numbers:
    """Return numbers, or lists of numbers of one length, with NaN where they are missing."""
    filled_rows, n_numbers = np.ones(len(column), bool), 1
    numbers = column
    if _is_list(column.type):
        counts, numbers = _flattened(column)
        lengths = np.unique(counts[counts >= 0])
        if len(lengths) > 1:
            raise UnusableError(
                f"column {name!r} holds lists of {lengths[0]:,} to {lengths[-1]:,} numbers:"
                " make all of one length, as embeddings are"
            )
        filled_rows, n_numbers = counts >= 0, int(lengths[0])
    flat = as_array(numbers.cast(pa.float64(), safe=False), np.float64)
    values = np.full((len(column), n_numbers), np.nan)
    values[filled_rows] = flat.reshape(-1, n_numbers)
    infinite = np.isinf(values).any(axis=1)
    if infinite.any():
        raise DataError(
            f"column {name!r} has {np.count_nonzero(infinite):,} rows with infinite values, the first in row"
            f" {int(np.flatnonzero(infinite)[0]):,} (from 0): correct them, or make them null"
        )
    return Numbers(values)


def _labels(column: pa.ChunkedArray, name: str) -> Labels:
    """Return categories: values, the elements of lists, and the parts of text between "|", without blanks around."""
    n_rows, rows, flat = len(column), np.arange(len(column)), column
    if _is_list(column.type):
        counts, flat = _flattened(column)
        rows = np.repeat(rows, np.maximum(counts, 0))
    codes, values = _coded(flat)
    counts, ranks, texts = _split(values, not _is_list(column.type))
    starts = np.cumsum([0, *counts])  # code -1, of nulls, is the last: it has no parts
    counts = np.append(counts, 0)[codes]
    n = int(counts.sum(dtype=np.int64))
    require_memory(n * WORK, f"column {name!r}: {n:,} categories in {n_rows:,} rows", None, "leave the column out")
    rows, ranks = np.repeat(rows, counts), ranks[ranges(starts[codes], counts)]
    keys = _distinct(rows * np.int64(max(len(texts), 1)) + ranks)
    return Labels(*np.divmod(keys, np.int64(max(len(texts), 1))), texts, n_rows)


def _coded(flat: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Return values as codes (n,), -1 for nulls, and the values they stand for, large_string."""
    import pyarrow.compute as pc

    if types.is_dictionary(flat.type):
        kind = pa.large_string() if _is_text(flat.type.value_type) else flat.type.value_type
        flat = flat.cast(pa.dictionary(pa.int32(), kind))
    else:
        flat = large(flat).dictionary_encode()
    coded = flat.unify_dictionaries().combine_chunks()
    values = coded.dictionary
    if types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    return filled(coded.indices, -1), values.cast(pa.large_string())


def _split(values: pa.Array, at_bars: bool) -> tuple[np.ndarray, np.ndarray, pa.Array]:
    """Split texts (n,) into categories.

    Returns the number of categories of each text (n,), their ranks, text after text, and the sorted categories.
    """
    import pyarrow.compute as pc

    n, owners, parts = len(values), np.arange(len(values)), values
    if at_bars:
        pieces = pc.split_pattern(values, pattern="|")
        owners = np.repeat(owners, filled(pc.list_value_length(pieces), 0))
        parts = pieces.flatten()
    parts = pc.utf8_trim_whitespace(parts)
    there = pc.indices_nonzero(pc.fill_null(pc.binary_length(parts), 0))
    coded = parts.take(there).dictionary_encode()
    order = pc.array_sort_indices(coded.dictionary)
    ranks = np.empty(len(order), np.int64)
    ranks[to_numpy(order)] = np.arange(len(order))
    counts = np.bincount(owners[to_numpy(there)], minlength=n)
    return counts, ranks[to_numpy(coded.indices)], coded.dictionary.take(order)


def _flattened(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.ChunkedArray]:
    """Return the lengths of lists (n,), -1 for nulls, and their elements."""
    import pyarrow.compute as pc

    counts = [filled(pc.list_value_length(chunk).cast(pa.int64()), -1) for chunk in column.chunks]
    flat = pa.chunked_array([chunk.flatten() for chunk in column.chunks], column.type.value_type)
    return np.concatenate([np.empty(0, np.int64), *counts]), flat


def _part_of_date(column: pa.ChunkedArray, kind: str) -> pa.ChunkedArray:
    """Return the year or the month (1 to 12) of dates, in UTC if they have a time zone, as integers."""
    unit = {pa.date32(): "D", pa.date64(): "ms"}.get(column.type) or column.type.unit
    stored = pa.int32() if column.type == pa.date32() else pa.int64()
    parts = []
    for chunk in column.chunks:
        dates = filled(chunk.view(stored), 0).astype(np.int64).view(f"datetime64[{unit}]")
        months = dates.astype("datetime64[M]").astype(np.int64)
        found = months // 12 + 1970 if kind == "year" else months % 12 + 1
        parts.append(from_numpy(found, valid=np.asarray(chunk.is_valid())))
    return pa.chunked_array(parts, pa.int64())


def _is_empty(column: pa.ChunkedArray) -> bool:
    """Check whether a column holds nulls, NaN and lists of these alone."""
    import pyarrow.compute as pc

    if types.is_null(column.type):
        return True
    if types.is_floating(column.type):
        return pc.all(pc.is_null(column, nan_is_null=True)).as_py() is not False
    if _is_list(column.type):
        return _is_empty(_flattened(column)[1])
    return column.null_count == len(column)


def _fits(kind: pa.DataType, wanted: str) -> bool:
    """Check whether a column of a type can be read as another's kind: numbers as categories, too."""
    inner = kind.value_type if _is_list(kind) else kind
    if wanted == "numbers":
        return _is_list(kind) and _is_number(inner)
    return _is_number(kind) if wanted == "number" else _is_category(inner) or _is_plain(inner)


def _is_number(kind: pa.DataType) -> bool:
    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)


def _is_category(kind: pa.DataType) -> bool:
    coded = types.is_dictionary(kind) and _is_plain(kind.value_type)
    return coded or _is_text(kind) or types.is_integer(kind) or types.is_boolean(kind)


def _is_plain(kind: pa.DataType) -> bool:
    """Check whether values of a type can be told apart by their text."""
    return _is_text(kind) or _is_number(kind) or types.is_boolean(kind) or types.is_date(kind)


def _is_text(kind: pa.DataType) -> bool:
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _is_list(kind: pa.DataType) -> bool:
    view = types.is_list_view(kind) or types.is_large_list_view(kind)
    return view or types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
