"""Ratings that memory cannot hold: read batch by batch into arrays on disk, and sorted there, bucket by bucket.

Two passes over the rows are made. The first checks each batch, and keeps for each row the places of its ids among the
batch's own distinct ids. When all ids are known, the second exchanges these for their places among all ids, and deals
the rows to buckets of consecutive users, small enough to sort in memory. The rows are those that
:func:`fastmf.data.rows.assembled` makes, in the same order.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from fastmf.data import csr, ids
from fastmf.data.bad_rows import good_rows, keep_good, listed_faults, require_any_good
from fastmf.data.duplicates import merged, refusal, repeated
from fastmf.data.read import Column
from fastmf.data.rows import Asked, Checked, checked, in_order, in_pair_order, named, warn_of_low
from fastmf.data.times import HalfLife
from fastmf.errors import DataError
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Compressed
from fastmf.runtime.device import resolve
from fastmf.runtime.spill import Spill

Arrays = tuple[np.ndarray, ...]


def spilled(
    batches: Iterable[dict[str, Column]], asked: Asked, dropped: dict[str, int] | None, spill: Spill
) -> dict[str, Any]:
    """Make the fields of :class:`fastmf.Ratings` like :func:`fastmf.data.rows.assembled`, of columns in batches."""
    parts, faults = _kept_parts(batches, asked, spill, dropped is not None)
    with asked.placed():
        names, n_rows = parts[0].names, sum(len(part.values) for part in parts)
        warn_of_low(names[2], sum(part.n_low for part in parts), n_rows)
        half_life = _half_life(parts, asked)
        user_ids, item_ids = (union_of([part.ids[side] for part in parts], names[side]) for side in (0, 1))
        row_ids, counts = (user_ids, item_ids), np.zeros(len(user_ids), np.int64)
        rows = [_encoded(parts.pop(0), row_ids, half_life, counts, spill) for _ in range(len(parts))]
        arrays, indptr = _dealt(rows, counts, spill)
        (users, items, values, *weights), n_again, example = _merged(arrays, indptr, len(item_ids), asked, spill)
        if n_again and asked.duplicates == "error":
            pair = (own[place].as_py() for own, place in zip(row_ids, example, strict=True))
            raise refusal(n_again, n_rows, *pair)
    names = named(names, asked.keep_values)
    if not names[2]:
        values[:] = 1
    if dropped is not None:
        dropped |= {name: dropped.get(name, 0) + n for name, n in faults.items()}
    left_out = ({} if dropped is None else dropped) | ({"duplicates": n_again} if n_again else {})
    about = {"columns": names, "duplicates": asked.duplicates, "dropped": left_out, "half_life": half_life}
    fields = {"users": users, "items": items, "values": values, "weights": weights[0] if weights else None}
    return {**fields, "user_ids": user_ids, "item_ids": item_ids, "spill": spill, **about}


def _kept_parts(
    batches: Iterable[dict[str, Column]], asked: Asked, spill: Spill, drop: bool
) -> tuple[list[Checked], dict[str, int]]:
    """Check each batch, and keep it in the spill. Returns the parts, and the bad rows' counts by reason.

    Raises a DataError for bad rows, unless they are dropped, once all have been counted.
    """
    parts: list[Checked] = []
    faults: dict[str, int] = {}
    names, first, n_rows = "", None, 0
    for batch in batches:
        names = ", ".join(repr(column.name) for column in batch.values())
        with asked.placed():
            good, found = checked_batch(batch, asked, faults, drop)
        first = n_rows + int(np.argmin(good)) if first is None and not good.all() else first
        n_rows += len(good)
        if found is not None:
            parts.append(_stored(found, spill))
    with asked.placed():
        require_rows(n_rows, names, faults, first, drop)
    return parts, faults


def require_rows(n_rows: int, names: str, faults: Mapping[str, int], first: int | None, drop: bool) -> None:
    """Raise a DataError if there are no rows, or none is good, or some are bad and are not to be dropped.

    ``first`` is the number of the first bad row; ``names`` lists the columns.
    """
    if n_rows == 0:
        raise DataError(f"there are no ratings: columns {names} have 0 rows")
    if faults and not drop:
        raise DataError(
            f"{sum(faults.values()):,} of {n_rows:,} rows cannot be used ({listed_faults(faults)}), the first in"
            f" row {first:,} (from 0): correct or drop those rows (in a fit: --bad-rows drop, bad_rows=)"
        )
    require_any_good(n_rows, faults)


def checked_batch(
    batch: dict[str, Column], asked: Asked, faults: dict[str, int], drop: bool
) -> tuple[np.ndarray, Checked | None]:
    """Return which rows of a batch are good, and these, unless it is clear by now that an error will follow.

    Adds the counts of bad rows to ``faults``.
    """
    if not len(batch["user"].values):
        return np.ones(0, bool), None
    names, columns = in_order(batch)
    good, bad = good_rows(columns, names, asked.time_unit)
    faults |= {name: faults.get(name, 0) + n for name, n in bad.items()}
    if not good.any() or (faults and not drop):
        return good, None
    if bad:
        keep_good(columns, good)
    return good, checked(columns, names, asked)


def _stored(part: Checked, spill: Spill) -> Checked:
    """Return the same part with its arrays in the spill."""
    users, items = (_copied(places, spill) for places in part.places)
    user_ids, item_ids = (_copied_ids(each, spill) for each in part.ids)
    weights, days = (None if array is None else _copied(array, spill) for array in (part.weights, part.days))
    part = part._replace(values=_copied(part.values, spill), weights=weights, days=days)
    return part._replace(places=(users, items), ids=(user_ids, item_ids))


def _copied(array: np.ndarray, spill: Spill) -> np.ndarray:
    out = spill.empty(len(array), array.dtype)
    out[:] = array
    return out


def _copied_ids(row_ids: pa.Array, spill: Spill) -> pa.Array:
    sink = pa.BufferOutputStream()
    batch = pa.record_batch([row_ids], names=["id"])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    stored = _copied(np.frombuffer(sink.getvalue(), np.uint8), spill)
    return pa.ipc.open_stream(pa.py_buffer(stored)).read_next_batch().column(0)


def _half_life(parts: Sequence[Checked], asked: Asked) -> HalfLife | None:
    """Return the half-life of all rows, whose newest is known only now."""
    if asked.aging is None:
        return None
    newest = max(float(part.days.max()) for part in parts if part.days is not None)
    return asked.aging.of(parts[0].kind_of_times, parts[0].name_of_times, newest)


def union_of(found: Sequence[pa.Array], name: str) -> pa.Array:
    """Merge sorted distinct ids, two at a time, so that each id is merged a few times only."""
    while len(found) > 1:
        pairs = [found[place : place + 2] for place in range(0, len(found), 2)]
        found = [ids.union(pair[0], pair[1], name)[0] if len(pair) > 1 else pair[0] for pair in pairs]
    return found[0]


def _encoded(
    part: Checked, row_ids: tuple[pa.Array, pa.Array], half_life: HalfLife | None, counts: np.ndarray, spill: Spill
) -> Arrays:
    """Return users, items, values and any weights of a part, with places among all ids; count the users' rows."""
    for places, every, own, name in zip(part.places, row_ids, part.ids, part.names, strict=False):
        places[:] = ids.lookup(every, own, name)[places]
    np.add.at(counts, part.places[0], 1)
    weights = part.weights
    if half_life is not None and part.days is not None:
        weights = _copied(half_life.weigh(part.days, weights), spill)
    return (*part.places, part.values) if weights is None else (*part.places, part.values, weights)


def _dealt(parts: list[Arrays], counts: np.ndarray, spill: Spill) -> tuple[Arrays, np.ndarray]:
    """Deal entries to buckets of consecutive rows, of about ``spill.at_once`` entries; they keep their order there.

    Empties the list of parts: rows (n,) int32, columns and numbers (n,) of 4 bytes, in order. counts (n_rows,) int64:
    the entries of each row. Returns the arrays of all parts, and where each row's entries will be, once its bucket is
    sorted: (n_rows + 1,) int64.
    """
    indptr = np.append(0, np.cumsum(counts))
    bucket_of = (indptr[:-1] // spill.at_once).astype(np.int32)
    n_buckets = int(bucket_of[-1]) + 1
    next_place = indptr[np.searchsorted(bucket_of, np.arange(n_buckets))]
    out = tuple(spill.empty(indptr[-1], array.dtype) for array in parts[0])
    while parts:
        part = parts.pop(0)
        bounds, moved = csr.group(bucket_of[part[0]], n_buckets, part, resolve("cpu"))
        for bucket in np.flatnonzero(np.diff(bounds)):
            start, stop, place = bounds[bucket], bounds[bucket + 1], next_place[bucket]
            for to, array in zip(out, moved, strict=True):
                to[place : place + stop - start] = array[start:stop]
            next_place[bucket] += stop - start
    return out, indptr


def _buckets(indptr: np.ndarray, spill: Spill) -> Iterator[tuple[int, int]]:
    """Yield the rows of each bucket, start and stop."""
    bucket_of = indptr[:-1] // spill.at_once
    starts = np.flatnonzero(np.diff(bucket_of, prepend=-1))
    return pairwise([*starts.tolist(), len(bucket_of)])


def _merged(
    arrays: Arrays, indptr: np.ndarray, n_items: int, asked: Asked, spill: Spill
) -> tuple[Arrays, int, tuple[int, int]]:
    """Sort each bucket's rows by user and item, in place, and merge those of the same pair.

    Returns the arrays, cut to what remains, the number of rows that repeat a pair, and the first such pair.
    """
    end, n_again, example = 0, 0, (0, 0)
    for start, stop in _buckets(indptr, spill):
        own = slice(indptr[start], indptr[stop])
        users, items, *given = (array[own] for array in arrays)
        shape = stop - start, n_items
        users, items, numbers, n_here, pair = sorted_rows(users - np.int32(start), items, tuple(given), shape, asked)
        example = (start + pair[0], pair[1]) if n_here and not n_again else example
        n_again += n_here
        for to, array in zip(arrays, (users + np.int32(start), items, *numbers), strict=True):
            to[end : end + len(users)] = array
        end += len(users)
    return tuple(array[:end] for array in arrays), n_again, example


def sorted_rows(
    users: np.ndarray, items: np.ndarray, numbers: Arrays, shape: tuple[int, int], asked: Asked
) -> tuple[np.ndarray, np.ndarray, Arrays, int, tuple[int, int]]:
    """Sort rows by user and item, and merge those of the same pair, unless that is an error.

    Also returns how many rows repeat a pair, and the first such pair.
    """
    users, items, numbers, n_again = in_pair_order(users, items, numbers, shape)
    if not n_again:
        return users, items, numbers, 0, (0, 0)
    again = repeated(users, items)
    place = int(np.argmax(again))
    pair = int(users[place]), int(items[place])
    if asked.duplicates != "error":
        users, items, numbers = merged(users, items, numbers, again, asked.duplicates, asked.counting)
    return users, items, numbers, n_again, pair


def compress(rows: np.ndarray, columns: np.ndarray, numbers: Arrays, n_rows: int, spill: Spill) -> Compressed:
    """Group entries by row, in arrays of the spill; see :func:`fastmf.data.csr.compress`.

    ``numbers`` are the values, and the weights if there are any.
    """
    parts = [
        tuple(array[start:stop] for array in (rows, columns, *numbers))
        for start, stop in pairwise(even(len(rows), spill.at_once))
    ]
    (rows, *arrays), indptr = _dealt(parts, csr.count(rows, n_rows, resolve("cpu")), spill)
    for start, stop in _buckets(indptr, spill):
        own = slice(indptr[start], indptr[stop])
        given = tuple(array[own] for array in arrays)
        _, moved = csr.group(rows[own] - np.int32(start), stop - start, given, resolve("cpu"))
        for to, array in zip(given, moved, strict=True):
            to[:] = array
    return Compressed(indptr, *arrays)
