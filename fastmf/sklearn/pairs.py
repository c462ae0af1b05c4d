"""What scikit-learn passes to an estimator, as columns: users and items of pairs, or entries of a sparse matrix."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastmf.data.arrow import are_whole, to_arrow
from fastmf.data.containers import entries_of
from fastmf.data.read import read_table
from fastmf.errors import DataError


class InputError(DataError, ValueError):
    """A DataError that is a ValueError, too, which scikit-learn raises for data that cannot be used."""


@contextlib.contextmanager
def value_errors() -> Iterator[None]:
    """Turn a DataError into an InputError."""
    try:
        yield
    except DataError as error:
        raise InputError(str(error)) from error


def is_sparse(X: Any) -> bool:
    """Check whether X is a sparse matrix of SciPy's."""
    return hasattr(X, "tocsr")


def pair_columns(X: Any) -> tuple[Any, Any]:
    """Return the columns of users and of items of pairs: an array (n, 2), a frame of two columns, or a list of pairs.

    An array of objects may hold ids of two types. Floats that are whole and exact become integers. Raises a DataError
    if there are not two columns.
    """
    if hasattr(X, "columns") or hasattr(X, "__arrow_c_stream__"):
        columns = read_table(X).columns
    elif isinstance(X, list | tuple):
        columns = list(zip(*X, strict=True)) or [(), ()]
    else:
        array = np.asarray(X)
        if array.ndim != 2:
            given = "one value" if array.ndim == 0 else f"an array of {array.ndim} dimension{'s' * (array.ndim > 1)}"
            raise DataError(f"X is {given}, but pairs of users and items have the shape (n, 2). Reshape your data")
        if array.dtype.kind == "c":
            raise DataError("Complex data not supported: X holds ids, such as integers or text")
        columns = [_as_ids(column) for column in array.T]
    if len(columns) != 2:
        shape = f"{len(columns):,} feature(s) (shape=({len(columns[0]) if columns else 0}, {len(columns)}))"
        raise DataError(f"X has {shape} while a minimum of 2 is required, and a maximum of 2: users and items")
    return columns[0], columns[1]


def sparse_columns(X: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows (users), columns (items) and values of a sparse matrix's entries; those of one pair are added."""
    entries = X.tocsr().copy()
    entries.sum_duplicates()
    return entries_of(entries)


def chosen(columns: Mapping[str, Any], kept: np.ndarray) -> tuple[Any, ...]:
    """Return the rows of columns that are chosen by a mask (n,), without those whose "sample_weight" is 0.

    Raises a DataError if the columns differ in length, or all weights are 0.
    """
    given = {name: to_arrow(column, name) for name, column in columns.items()}
    if len({*map(len, given.values()), len(kept)}) > 1:
        lengths = ", ".join(f"{name} {len(column):,}" for name, column in given.items())
        raise DataError(f"the rows differ in number ({lengths}): give one of each for every pair")
    weights = columns.get("sample_weight")
    if weights is not None:
        kept = kept & (weights != 0)
        if len(weights) and not np.any(weights):
            raise DataError(f"all {len(weights):,} sample weights are zero: give some pairs a weight above 0")
    return tuple(given.values()) if kept.all() else tuple(column.filter(kept) for column in given.values())


def _as_ids(column: np.ndarray) -> np.ndarray:
    """Return whole floats as integers: an array holds ids as floats if another of its columns was one.

    Raises a DataError if some are not finite.
    """
    if column.dtype.kind != "f":
        return column
    lost = int(np.count_nonzero(~np.isfinite(column)))
    if lost:
        raise DataError(f"{lost:,} of {len(column):,} ids in X are NaN or inf: drop those rows")
    return column.astype(np.int64) if are_whole(column) else column
