"""Several rows of one (user, item) pair: raise an error, keep the last row, or take the mean or the sum."""

from typing import Any

import numpy as np

from fastmf.errors import DataError

WAYS = ("error", "last", "mean", "sum")


def repeated(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return whether each row but the first repeats the previous row's pair, (n - 1,) bool; rows are sorted by pair."""
    return np.asarray((users[1:] == users[:-1]) & (items[1:] == items[:-1]))


def refusal(n: int, n_rows: int, user: Any, item: Any) -> DataError:
    """Return the error for n rows that repeat a pair, with the ids of the first such row."""
    return DataError(
        f"{n:,} of {n_rows:,} rows repeat a (user, item) pair, first for user {user!r} and item {item!r}: make pairs"
        " unique (or in a fit: --duplicates last|mean|sum, duplicates=)"
    )


def merged(
    users: np.ndarray,
    items: np.ndarray,
    numbers: tuple[np.ndarray, ...],
    again: np.ndarray,
    way: str,
    counting: float | None = None,
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    """Merge each run of rows with the same pair; raise a DataError if a sum is beyond float32.

    ``numbers`` holds the rows' ratings and, if there are any, weights. ``again`` is the result of :func:`repeated`, and
    ``way`` is "last", "mean" or "sum". For implicit feedback with weights, ``counting`` is the lowest rating that
    counts as observed. A sum is then that of the weights of rows that count, if there are any, and the rating is the
    highest.
    """
    is_start = np.append(True, ~again)
    runs, starts = np.cumsum(is_start), np.flatnonzero(is_start)
    lengths = np.diff(np.append(starts, len(users)))

    def of_runs(column: np.ndarray, way: str) -> np.ndarray:
        if way == "max":
            return np.maximum.reduceat(column, starts)
        if way == "last":
            return column[starts + lengths - 1]
        by_value = np.lexsort((column, runs))  # so that the sum does not depend on the order of rows
        sums = np.add.reduceat(column[by_value].astype(np.float64), starts)
        with np.errstate(over="ignore"):
            found = (sums if way == "sum" else sums / lengths).astype(np.float32)
        if not np.isfinite(found).all():
            raise DataError("the sums of repeated pairs' ratings or weights are beyond float32: rescale them")
        return found

    ways = [way] * len(numbers)
    if counting is not None and way == "sum":
        ways[0], numbers = "max", (numbers[0], _counted(numbers[1], numbers[0] >= counting, starts, lengths))
    return users[starts], items[starts], tuple(map(of_runs, numbers, ways))


def _counted(weights: np.ndarray, counts: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the weights of rows: 0 for rows that do not count, if another row of the pair does."""
    others = np.repeat(np.logical_or.reduceat(counts, starts), lengths)
    return np.where(others & ~counts, np.float32(0), weights)
