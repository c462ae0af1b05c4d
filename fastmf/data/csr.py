"""Compressed rows: group entries by row, in parallel and without comparisons; count entries; select rows."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from fastmf import kernels
from fastmf.kernels.tasks import even, packed
from fastmf.kernels.types import Compressed
from fastmf.runtime.device import Device, resolve
from fastmf.runtime.launch import launch
from fastmf.runtime.spill import Spill, empty, parts_of

CHUNKS = 8  # parts of the entries, counted separately: with more, adding up the counts takes longer than moving
AT_ONCE = 1 << 20  # entries whose temporary arrays are small next to those of a fit
FEWEST = 1 << 16  # entries of a chunk, enough to outweigh the cost of starting it


def compress(
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    shape: tuple[int, int],
    device: Device,
    *,
    weights: np.ndarray | None = None,
    by_column: bool = False,
) -> Compressed:
    """Group entries by row; sort each row by column if ``by_column``, else keep the order of the entries.

    rows and columns (n,) int32 within ``shape`` (n_rows, n_columns), values and weights (n,) float32. Entries of the
    same row and column keep their order. ``by_column`` needs twice the memory of the result, and 4 bytes an entry.
    """
    numbers: Sequence[np.ndarray] = (values,) if weights is None else (values, weights)
    if by_column:
        bounds, (rows, *numbers) = group(columns, shape[1], (rows, *numbers), device)
        columns = np.repeat(np.arange(shape[1], dtype=np.int32), np.diff(bounds))
    indptr, moved = group(rows, shape[0], (columns, *numbers), device)
    return Compressed(indptr, *moved)


def group(
    keys: np.ndarray, n_keys: int, arrays: Sequence[np.ndarray], device: Device
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Sort two to four arrays (n,) by keys (n,) int32, stably. Also returns the keys' bounds, (n_keys + 1,) int64."""
    counts, tasks, size = _counted(keys, n_keys, device)
    bounds, places = packed(counts)
    moved = tuple(np.empty_like(array) for array in arrays)
    launch(kernels.csr.SCATTER, device, tasks, size, keys, places, arrays, moved)
    return bounds, moved


def count(keys: np.ndarray, n_keys: int, device: Device) -> np.ndarray:
    """Count the entries of each key, (n,) int32. Returns (n_keys,) int64."""
    return np.asarray(_counted(keys, n_keys, device)[0].sum(axis=0))


def masses(entries: Compressed) -> np.ndarray:
    """Sum the weights of each row's entries: (n_rows,) float64; their number if there are no weights."""
    counts = np.diff(entries.indptr)
    if entries.weights is None:
        return counts.astype(np.float64)
    found = np.empty(len(counts))
    for start, stop in row_ranges(entries.indptr):
        rows = np.repeat(np.arange(stop - start), counts[start:stop])
        weights = entries.weights[entries.indptr[start] : entries.indptr[stop]]
        found[start:stop] = np.bincount(rows, weights, stop - start)
    return found


def row_ranges(indptr: np.ndarray, most: int = AT_ONCE) -> Iterator[tuple[int, int]]:
    """Yield consecutive ranges of rows, start and stop, of at most so many entries; a longer row is one of its own."""
    start, n_rows = 0, len(indptr) - 1
    while start < n_rows:
        stop = max(int(np.searchsorted(indptr, indptr[start] + most, "right")) - 1, start + 1)
        stop = min(stop, start + most)
        yield start, stop
        start = stop


def _counted(keys: np.ndarray, n_keys: int, device: Device) -> tuple[np.ndarray, np.ndarray, int]:
    """Count each key's entries in each chunk. Returns the counts, the bounds of the chunks, and a chunk's size."""
    size = max(-(-len(keys) // CHUNKS), n_keys, FEWEST)  # counts take no more memory than two columns
    tasks = even(len(keys), size)
    counts = np.empty((len(tasks) - 1, n_keys), np.int64)
    launch(kernels.csr.COUNT, device, tasks, size, keys, counts)
    return counts, tasks, size


def group_columns(rows: np.ndarray, columns: np.ndarray, n_rows: int) -> Compressed:
    """Group columns (n,) by row, keeping their order within a row; all values are 0."""
    rows, columns = rows.astype(np.int32, copy=False), columns.astype(np.int32, copy=False)
    shape = n_rows, int(columns.max(initial=0)) + 1
    return compress(rows, columns, np.zeros(len(rows), np.float32), shape, resolve("cpu"))


def count_common(seen: tuple[np.ndarray, np.ndarray], users: np.ndarray, items: np.ndarray, n_items: int) -> int:
    """Count the pairs (dense indices, -1: unknown) that are in ``seen``: (indptr, indices), sorted within rows."""
    indptr, indices = seen
    n = 0
    for start, stop in row_ranges(indptr):
        own = np.flatnonzero((users >= start) & (users < stop) & (items >= 0))
        if len(own) and indptr[start] < indptr[stop]:
            wanted = (users[own] - start) * np.int64(n_items) + items[own]
            rows = np.repeat(np.arange(stop - start, dtype=np.int64) * n_items, np.diff(indptr[start : stop + 1]))
            there = rows + indices[indptr[start] : indptr[stop]]
            place = np.minimum(np.searchsorted(there, wanted), len(there) - 1)
            n += int(np.count_nonzero(there[place] == wanted))
    return n


def select(entries: Compressed, chosen: np.ndarray) -> Compressed:
    """Return the rows that are chosen by a boolean mask (n_rows,), without the others."""
    if chosen.all():
        return entries
    counts = np.diff(entries.indptr)
    return _kept(entries, np.repeat(chosen, counts), np.append(0, np.cumsum(counts[chosen])))


def take(entries: Compressed, rows: np.ndarray) -> Compressed:
    """Return these rows (n,), in this order; row -1 is empty."""
    starts, counts = np.append(entries.indptr[:-1], 0)[rows], np.append(np.diff(entries.indptr), 0)[rows]
    places = ranges(starts, counts)
    weights = None if entries.weights is None else entries.weights[places]
    indptr = np.cumsum([0, *counts], dtype=np.int64)
    return Compressed(indptr, entries.indices[places], entries.values[places], weights)


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Concatenate the integers from ``starts`` (n,) to ``starts + counts``, (sum of counts,) int64."""
    ends = np.cumsum(counts, dtype=np.int64)
    return np.repeat(starts - ends + counts, counts) + np.arange(ends[-1] if len(ends) else 0)


def filtered(entries: Compressed, columns: np.ndarray) -> Compressed:
    """Return the entries whose column is chosen by a boolean mask (n_columns,), in the same rows."""
    if columns.all():
        return entries
    chosen = columns[entries.indices]
    return _kept(entries, chosen, np.append(0, np.cumsum(chosen))[entries.indptr])


def count_chosen(indptr: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Count each row's entries that are chosen by a boolean mask (n,): (n_rows,) int64."""
    found = np.zeros(len(indptr) - 1, np.int64)
    for start, stop in row_ranges(indptr):
        counts = np.append(0, np.cumsum(chosen[indptr[start] : indptr[stop]]))
        found[start:stop] = np.diff(counts[indptr[start : stop + 1] - indptr[start]])
    return found


def _kept(entries: Compressed, chosen: np.ndarray, indptr: np.ndarray) -> Compressed:
    indices, _, values = keep(chosen, (entries.indices, entries.indices, entries.values), resolve("cpu"))
    return Compressed(indptr, indices, values, None if entries.weights is None else entries.weights[chosen])


def locate(
    rows: tuple[np.ndarray, np.ndarray], wanted: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find pairs (row, column) in ``rows``: (indptr, indices), sorted within rows, by binary search.

    Returns each pair's place in ``indices``, where it stands or would have to be inserted, and whether it is there.
    """
    indptr, indices = rows
    low, high = indptr[wanted], indptr[wanted + 1]
    if not len(indices):
        return low, np.zeros(len(wanted), bool)
    last, final = high, len(indices) - 1
    for _ in range(int((high - low).max(initial=0)).bit_length()):
        middle = (low + high) >> 1
        below = (low < high) & (indices[np.minimum(middle, final)] < columns)
        low, high = np.where(below, middle + 1, low), np.where(below, high, middle)
    return low, (low < last) & (indices[np.minimum(low, final)] == columns)


def insert(entries: Compressed, added: Compressed) -> tuple[Compressed, np.ndarray]:
    """Insert entries of the same rows, sorted within rows; a pair of ``added`` replaces one that is there.

    Returns all entries, and whether each of ``added`` replaces one.
    """
    rows = np.repeat(np.arange(len(added.indptr) - 1), np.diff(added.indptr))
    places, there = locate((entries.indptr, entries.indices), rows, added.indices)
    new = ~there
    indptr = entries.indptr + np.append(0, np.cumsum(np.bincount(rows[new], minlength=len(added.indptr) - 1)))

    def both(old: np.ndarray, own: np.ndarray) -> np.ndarray:
        if there.any():
            old = old.copy()
            old[places[there]] = own[there]
        return np.insert(old, places[new], own[new])

    weights = None
    if entries.weights is not None and added.weights is not None:
        weights = both(entries.weights, added.weights)
    indices, values = both(entries.indices, added.indices), both(entries.values, added.values)
    return Compressed(indptr, indices, values, weights), there


def picked(array: np.ndarray, chosen: np.ndarray, spill: Spill | None = None) -> np.ndarray:
    """Return the entries of an array (n,) that are chosen by a boolean mask (n,); see :func:`keep`."""
    out, end = empty(spill, int(np.count_nonzero(chosen)), array.dtype), 0
    for part in parts_of(len(array)):
        found = array[part][chosen[part]]
        out[end : end + len(found)] = found
        end += len(found)
    return out


def keep(
    chosen: np.ndarray, rows: tuple[np.ndarray, ...], device: Device, spill: Spill | None = None
) -> tuple[np.ndarray, ...]:
    """Select rows of several arrays (n,) by a boolean mask (n,); into arrays of the spill if there is one."""
    tasks = even(len(chosen), FEWEST)
    counts = [int(np.count_nonzero(chosen[start:stop])) for start, stop in pairwise(tasks)]
    kept = tuple(empty(spill, sum(counts), array.dtype) for array in rows)
    launch(kernels.encode.KEEP, device, tasks, FEWEST, np.cumsum([0, *counts]), chosen, rows, kept)
    return kept
