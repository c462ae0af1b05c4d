"""Compressed sparse rows by counting sort.

A rating matrix is kept twice, as CSR (``by_user``) and CSC (``by_item``). Both are one stable sort of the (row, column,
value) triples by row, which a counting sort does in two passes over the data: count the rows' entries, then move each
entry to its place (Cormen et al., Introduction to Algorithms, section 8.2). Moving to many places at once misses the
cache, so ``COMPRESS`` deals the entries to buckets of neighbouring rows first, and then sorts one bucket after another.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numba import get_num_threads, njit, prange

JIT = dict(cache=True, nogil=True)

# A bucket of about 2^15 entries, and a copy of it, stay in a core's second cache.
BUCKET_BITS = 15
# At most 2^12 rows a bucket: as many counters fit into a core's first cache.
ROW_BITS = 12


class Compressed(NamedTuple):
    """Entries grouped by row: row r holds ``indices[indptr[r]:indptr[r + 1]]`` and the ``values`` beside them.

    indptr (n_rows + 1,) int64; indices (n,) int32, the columns; values (n,) float32.
    """

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray


def compress_numpy(rows, columns, values, shape, by_column):
    """Group entries by row; within a row by column if ``by_column``, and else in the order they came in.

    rows and columns (n,) int32 within ``shape`` (n_rows, n_columns), values (n,) float32. Entries of the same row and
    column keep their order. Returns Compressed.
    """
    indptr = np.append(0, np.cumsum(np.bincount(rows, minlength=shape[0])))
    order = np.lexsort((columns, rows) if by_column else (rows,))
    return Compressed(indptr, columns[order], values[order])


@njit(**JIT)
def _part(n, part, n_parts):
    """Cut n entries into equal parts: the range of one. It is unsigned, for a signed index is tested for its sign."""
    return range(np.uint64(n * part // n_parts), np.uint64(n * (part + 1) // n_parts))


@njit(**JIT, parallel=True)  # each chunk counts into its own line
def _count(rows, shift, counts):
    n, n_chunks = rows.shape[0], counts.shape[0]
    for chunk in prange(n_chunks):
        for j in _part(n, chunk, n_chunks):
            counts[chunk, np.uint32(rows[j]) >> shift] += 1


@njit(**JIT, parallel=True)  # each chunk has its own line of `places`, and no two of them hold the same place
def _deal(rows, columns, values, shift, width, places, words, dealt):
    """Move entries to their buckets; a word is the column, and above its ``width`` bits the row within the bucket."""
    n, n_chunks = rows.shape[0], places.shape[0]
    within = (np.uint32(1) << shift) - np.uint32(1)
    for chunk in prange(n_chunks):
        for j in _part(n, chunk, n_chunks):
            row = np.uint32(rows[j])
            place = np.uint64(places[chunk, row >> shift])
            places[chunk, row >> shift] += 1
            words[place] = ((row & within) << width) | np.uint32(columns[j])
            dealt[place] = values[j]


@njit(**JIT)
def _sort(first, last, digit, words, values, to_words, to_values, places):
    """Move entries first to last into the order of one digit of their words: (shift, mask, bits of the word to keep).

    Leaves in ``places`` where the entries of each value of the digit end.
    """
    shift, mask, kept = digit
    n_values = np.int64(mask) + 1
    for value in range(n_values):
        places[value] = 0
    for j in range(np.uint64(first), np.uint64(last)):
        places[(words[j] >> shift) & mask] += 1
    end = first
    for value in range(n_values):
        count = places[value]
        places[value] = end
        end += count
    for j in range(np.uint64(first), np.uint64(last)):
        own = (words[j] >> shift) & mask
        place = np.uint64(places[own])
        places[own] += 1
        to_words[place] = words[j] & kept
        to_values[place] = values[j]


@njit(**JIT)
def _sort_bucket(bucket, bounds, digits, words, values, places, indptr, indices, sorted_values):
    """Sort a bucket by its digits, the last one in significance first; an odd number of them ends in the results."""
    here, there = (words, values), (indices, sorted_values)
    for digit in digits:
        _sort(bounds[bucket], bounds[bucket + 1], digit, here[0], here[1], there[0], there[1], places)
        here, there = there, here
    rows_each = np.int64(digits[-1][1]) + 1
    start = bucket * rows_each
    for r in range(min(rows_each, indptr.shape[0] - 1 - start)):
        indptr[start + r + 1] = places[r]


@njit(**JIT, parallel=True)  # each task has its own buckets, the rows of these, and its own line of `places`
def _sort_buckets(tasks, bounds, digits, words, values, places, indptr, indices, sorted_values):
    for task in prange(tasks.shape[0] - 1):
        for bucket in range(tasks[task], tasks[task + 1]):
            _sort_bucket(bucket, bounds, digits, words, values, places[task], indptr, indices, sorted_values)


def compress_cpu(rows, columns, values, shape, by_column):
    """Group entries by row in parallel; see :func:`compress_numpy`.

    Beside the result it takes 8 bytes an entry, and 8 a bucket and thread.
    """
    n, n_rows = len(rows), shape[0]
    width, shift = _layout(n, *shape)
    n_buckets = (n_rows >> shift) + 1
    counts = np.zeros((_n_chunks(n, n_buckets), n_buckets), np.int64)
    _count(rows, np.uint32(shift), counts)
    ends = np.cumsum(counts.T).reshape(n_buckets, -1).T  # in each bucket, one chunk's entries after the other's
    places = np.subtract(ends, counts, order="C")
    words, dealt = np.empty(n, np.uint32), np.empty(n, np.float32)
    _deal(rows, columns, values, np.uint32(shift), np.uint32(width), places, words, dealt)

    digits = _digits(width, shift, by_column)
    bounds = np.append(0, ends[-1])
    tasks = balanced(bounds, 1, 1 << shift, 64)
    places = np.empty((len(tasks) - 1, int(digits[:, 1].max()) + 1), np.int64)
    indptr, indices, sorted_values = np.zeros(n_rows + 1, np.int64), np.empty(n, np.uint32), np.empty(n, np.float32)
    _sort_buckets(tasks, bounds, digits, words, dealt, places, indptr, indices, sorted_values)
    return Compressed(indptr, indices.view(np.int32), sorted_values)


def _layout(n, n_rows, n_columns):
    """Choose how many bits of a word hold the column, and how many the row within its bucket: 32 at most together."""
    width = (n_columns - 1).bit_length()
    shift = (n_rows - 1).bit_length() - max(0, n.bit_length() - BUCKET_BITS)
    return width, max(0, min(shift, ROW_BITS, 32 - width))


def _digits(width, shift, by_column):
    """List what to sort words by: the column's lower and upper bits, if at all, then the row. (n, 3) uint32; see _sort.

    Columns take two turns whatever they are, so that with the row's there is an odd number.
    """
    half = (width + 1) // 2
    column = [(0, half, 32), (half, width - half, 32)] if by_column else []
    digits = [*column, (width, shift, width)]
    return np.array([(first, (1 << bits) - 1, (1 << kept) - 1) for first, bits, kept in digits], np.uint32)


def _n_chunks(n, n_rows):
    """Count the chunks to count rows in: counts take 8 bytes per row and chunk, so few entries get one chunk."""
    return max(1, min(get_num_threads(), n // max(n_rows, 1)))


COMPRESS = {"numpy": compress_numpy, "cpu": compress_cpu}


def count_rows_numpy(rows, n_rows):
    """Count the entries of each row. Returns (n_rows,) int64."""
    return np.bincount(rows, minlength=n_rows)


def count_rows_cpu(rows, n_rows):
    """Count in parallel; see :func:`count_rows_numpy`."""
    counts = np.zeros((_n_chunks(len(rows), n_rows), n_rows), np.int64)
    _count(rows, np.uint32(0), counts)
    return counts.sum(axis=0)


COUNT_ROWS = {"numpy": count_rows_numpy, "cpu": count_rows_cpu}


def row_bounds_numpy(tasks, rows, columns, indptr):
    """Write where each row starts, for entries that are in order of row and column already.

    rows and columns (n,) int32, indptr (n_rows + 1,) int64; tasks are runs of entries. Returns (n_tasks, 2) int64:
    1 if an entry of the task is out of order, and then ``indptr`` is no good; else how many repeat the one before.
    """
    found = np.zeros((len(tasks) - 1, 2), np.int64)
    pairs = rows.astype(np.int64) << 32 | columns
    for task, (start, stop) in enumerate(pairwise(tasks)):
        steps = np.diff(pairs[max(start - 1, 0) : stop])
        found[task] = np.any(steps < 0), np.count_nonzero(steps == 0)
        if found[task, 0]:
            found[task, 1] = 0
            continue
        row, last = rows[start - 1] + 1 if start else 0, rows[stop - 1] + 1 if stop < len(rows) else len(indptr)
        indptr[row:last] = start + np.searchsorted(rows[start:stop], np.arange(row, last))
    return found


@njit(**JIT)
def _run_bounds(first, last, rows, columns, indptr):
    """Do one task of :func:`row_bounds_numpy`; it ends with the first entry out of order."""
    repeats = 0
    row, column = (rows[first - 1], columns[first - 1]) if first else (np.int32(-1), np.int32(-1))
    for j in range(np.uint64(first), np.uint64(last)):
        if rows[j] != row:
            if rows[j] < row:
                return 1, 0
            for skipped in range(row + 1, rows[j] + 1):
                indptr[skipped] = j
        elif columns[j] == column:
            repeats += 1
        elif columns[j] < column:
            return 1, 0
        row, column = rows[j], columns[j]
    if last == rows.shape[0]:
        for skipped in range(row + 1, indptr.shape[0]):
            indptr[skipped] = last
    return 0, repeats


@njit(**JIT)  # in order, each row starts in one task; out of order, it does not matter who writes last
def _row_bounds(tasks, rows, columns, indptr, found):
    for task in range(tasks.shape[0] - 1):
        found[task, 0], found[task, 1] = _run_bounds(tasks[task], tasks[task + 1], rows, columns, indptr)


def row_bounds_cpu(tasks, rows, columns, indptr):
    """Write where each row starts in parallel; see :func:`row_bounds_numpy`."""
    found = np.empty((len(tasks) - 1, 2), np.int64)
    _row_bounds(tasks, rows, columns, indptr, found)
    return found


ROW_BOUNDS = {"numpy": row_bounds_numpy, "cpu": row_bounds_cpu}


def sort_rows_numpy(rows, n_rows):
    """Order entries by row, keeping the order within a row.

    rows (n,) int32 in [0, n_rows). Returns ``indptr`` (n_rows + 1,) int64 and ``order`` (n,) int64: entry ``order[j]``
    comes j-th.
    """
    indptr = np.zeros(n_rows + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=n_rows), out=indptr[1:])
    return indptr, np.argsort(rows, kind="stable")


@njit(**JIT, parallel=True)  # each chunk counts into, and moves by, its own line of `next_place`
def _sort_rows(rows, n_rows, n_chunks):
    n = rows.shape[0]
    next_place = np.zeros((n_chunks, n_rows), np.int64)
    for chunk in prange(n_chunks):
        for j in _part(n, chunk, n_chunks):
            next_place[chunk, np.uint32(rows[j])] += 1
    indptr = np.empty(n_rows + 1, np.int64)
    place = 0
    for row in range(n_rows):
        indptr[row] = place
        for chunk in range(n_chunks):
            count = next_place[chunk, row]
            next_place[chunk, row] = place
            place += count
    indptr[n_rows] = place
    order = np.empty(n, np.int64)
    for chunk in prange(n_chunks):
        for j in _part(n, chunk, n_chunks):
            own = np.uint32(rows[j])
            order[np.uint64(next_place[chunk, own])] = j
            next_place[chunk, own] += 1
    return indptr, order


def sort_rows_cpu(rows, n_rows):
    """Order entries by row in parallel; see :func:`sort_rows_numpy`."""
    return _sort_rows(rows, n_rows, _n_chunks(len(rows), n_rows))


SORT_ROWS = {"numpy": sort_rows_numpy, "cpu": sort_rows_cpu}


def balanced(indptr, cost_per_entry, cost_per_row, n_tasks=256):
    """Cut the rows into at most ``n_tasks`` runs of about equal cost. Returns (n_tasks + 1,) int64 bounds.

    The cut depends on the data alone, never on the number of threads, so that results per task keep their bits.
    """
    n_rows = len(indptr) - 1
    cost = indptr * float(cost_per_entry) + np.arange(n_rows + 1) * float(cost_per_row)
    inner = np.searchsorted(cost, cost[-1] * np.arange(1, n_tasks) / n_tasks)
    return np.unique(np.concatenate(([0], inner, [n_rows]))).astype(np.int64)


def even(n, size):
    """Cut n entries into runs of at most ``size``. Returns (n_tasks + 1,) int64 bounds."""
    return np.append(np.arange(0, n, size, dtype=np.int64), np.int64(n))
