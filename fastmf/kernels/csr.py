"""Compressed sparse rows by counting sort.

A rating matrix is kept twice, as CSR (``by_user``) and CSC (``by_item``). Both are one stable sort of the (row, column,
value) triples by row, which a counting sort does in two passes over the data: count the rows' entries, then move each
entry to its place (Cormen et al., Introduction to Algorithms, section 8.2). Moving to many places at once misses the
cache, so entries are dealt to buckets of neighbouring rows first, and then one bucket after another is sorted;
:mod:`fastmf.data.csr` puts the three steps together.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastmf.kernels.compile import jit


class Words(NamedTuple):
    """Entries of buckets, a bucket being the rows that differ in their lowest ``shift`` bits alone.

    words (n,) uint32: the column, and above its ``width`` bits the row within the bucket; values (n,) float32.
    """

    words: np.ndarray
    values: np.ndarray


def count_numpy(tasks, size, rows, shift, counts):
    """Count the entries of each bucket in each task, into ``counts`` (all tasks, n_buckets) int64.

    rows (n,) int32; a bucket is the rows alike but for their lowest ``shift`` bits, which may be none. Tasks are of
    ``size`` entries, so that a task knows its line of counts. Returns (n_tasks,) int64, their entries.
    """
    for start, stop in pairwise(tasks):
        counts[start // size] = np.bincount(rows[start:stop] >> shift, minlength=counts.shape[1])
    return np.diff(tasks)


def deal_numpy(tasks, size, rows, columns, values, layout, places, dealt):
    """Move each entry to its bucket in ``dealt``: Words; layout is (width, shift).

    places (all tasks, n_buckets) int64: where the task's first entry of each bucket goes; the others follow in their
    order. Returns (n_tasks,) int64, the entries moved.
    """
    width, shift = layout
    for start, stop in pairwise(tasks):
        own = rows[start:stop] >> shift
        order = np.argsort(own, kind="stable")
        place = places[start // size][own[order]] + np.arange(stop - start) - np.searchsorted(own[order], own[order])
        words = (rows[start:stop] & ((1 << shift) - 1)) << width | columns[start:stop]
        dealt.words[place], dealt.values[place] = words[order], values[start:stop][order]
    return np.diff(tasks)


def sort_buckets_numpy(tasks, bounds, digits, dealt, found):
    """Sort each bucket by its words' digits into ``found``, Compressed: the row, after the column or as they came.

    bounds (n_buckets + 1,) int64, where buckets start; digits (1 or 3, 3) uint32, (shift, mask, mask of the word to
    keep) of each digit, the last one in significance first; tasks are runs of buckets. ``dealt`` is used up. Returns
    (n_tasks,) int64, the entries of each task.
    """
    row_shift, row_mask, column_mask = digits[-1]
    rows_each = int(row_mask) + 1
    for bucket in range(tasks[0], tasks[-1]):
        own = slice(bounds[bucket], bounds[bucket + 1])
        words = dealt.words[own]
        rows = words >> row_shift & row_mask
        order = np.argsort(words if len(digits) > 1 else rows, kind="stable")
        found.indices[own] = words[order] & column_mask
        found.values[own] = dealt.values[own][order]
        ends = bounds[bucket] + np.cumsum(np.bincount(rows, minlength=rows_each))
        here = found.indptr[1 + bucket * rows_each :][:rows_each]
        here[:] = ends[: len(here)]
    return np.diff(bounds[tasks])


@jit
def _count(tasks, size, rows, shift, counts):
    for task in range(tasks.shape[0] - 1):
        own = counts[tasks[task] // size]
        own[:] = 0
        for n in range(np.uint64(tasks[task]), np.uint64(tasks[task + 1])):  # a signed index is tested for its sign
            own[np.uint32(rows[n]) >> shift] += 1


@jit
def _deal(tasks, size, rows, columns, values, width, shift, places, dealt):
    within = (np.uint32(1) << shift) - np.uint32(1)
    words, moved = dealt.words, dealt.values
    for task in range(tasks.shape[0] - 1):
        own = places[tasks[task] // size].copy()
        for n in range(np.uint64(tasks[task]), np.uint64(tasks[task + 1])):
            row = np.uint32(rows[n])
            place = np.uint64(own[row >> shift])
            own[row >> shift] += 1
            words[place] = ((row & within) << width) | np.uint32(columns[n])
            moved[place] = values[n]


@jit
def _sort(first, last, digit, words, values, to_words, to_values, places):
    """Move entries first to last into the order of one digit of their words.

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


@jit
def _sort_buckets(tasks, bounds, digits, words, values, indptr, indices, sorted_values):
    """Sort buckets by their digits; an odd number of these ends in the results."""
    rows_each = np.int64(digits[-1, 1]) + 1
    places = np.empty(np.int64(digits[:, 1].max()) + 1, np.int64)
    for bucket in range(tasks[0], tasks[-1]):
        here, there = (words, values), (indices, sorted_values)
        for digit in digits:
            _sort(bounds[bucket], bounds[bucket + 1], digit, here[0], here[1], there[0], there[1], places)
            here, there = there, here
        start = bucket * rows_each
        for r in range(min(rows_each, indptr.shape[0] - 1 - start)):
            indptr[start + r + 1] = places[r]


def count_cpu(tasks, size, rows, shift, counts):
    """Count entries; see :func:`count_numpy`."""
    _count(tasks, size, rows, np.uint32(shift), counts)
    return np.diff(tasks)


def deal_cpu(tasks, size, rows, columns, values, layout, places, dealt):
    """Move each entry to its bucket; see :func:`deal_numpy`."""
    width, shift = map(np.uint32, layout)
    _deal(tasks, size, rows, columns, values, width, shift, places, dealt)
    return np.diff(tasks)


def sort_buckets_cpu(tasks, bounds, digits, dealt, found):
    """Sort each bucket; see :func:`sort_buckets_numpy`."""
    _sort_buckets(tasks, bounds, digits, *dealt, found.indptr, found.indices.view(np.uint32), found.values)
    return np.diff(bounds[tasks])


COUNT = {"numpy": count_numpy, "cpu": count_cpu}
DEAL = {"numpy": deal_numpy, "cpu": deal_cpu}
SORT_BUCKETS = {"numpy": sort_buckets_numpy, "cpu": sort_buckets_cpu}


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


@jit
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


@jit  # in order, each row starts in one task; out of order, it does not matter who writes last
def _row_bounds(tasks, rows, columns, indptr, found):
    for task in range(tasks.shape[0] - 1):
        found[task, 0], found[task, 1] = _run_bounds(tasks[task], tasks[task + 1], rows, columns, indptr)


def row_bounds_cpu(tasks, rows, columns, indptr):
    """Write where each row starts in parallel; see :func:`row_bounds_numpy`."""
    found = np.empty((len(tasks) - 1, 2), np.int64)
    _row_bounds(tasks, rows, columns, indptr, found)
    return found


ROW_BOUNDS = {"numpy": row_bounds_numpy, "cpu": row_bounds_cpu}
