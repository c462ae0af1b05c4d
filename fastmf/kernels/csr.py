"""Compressed sparse rows by counting sort.

A rating matrix is kept twice, as CSR (``by_user``) and CSC (``by_item``). Both are one stable sort of (row, column,
value) triples by row. A counting sort does it in two passes over the data: count each key's entries, then move each
entry to its place (Cormen et al., Introduction to Algorithms, section 8.2). Each task counts its own run of entries,
and the counts give the places of its entries; :mod:`fastmf.data.csr` joins the two steps.
"""

from itertools import pairwise

import numpy as np

from fastmf.kernels import simd
from fastmf.kernels.region import region, taken
from fastmf.kernels.vectors import WIDTH

AHEAD = np.uint64(16)  # entries between the prefetch of an entry's place and its move


def count_numpy(tasks, size, keys, counts):
    """Count the entries of each key (n,) int32 in each task, into ``counts`` (all tasks, n_keys) int64.

    Tasks have ``size`` entries each: the one that starts at entry n has row ``n // size`` of counts.
    """
    for start, stop in pairwise(tasks):
        counts[start // size] = np.bincount(keys[start:stop], minlength=counts.shape[1])


@region
def count_cpu(share, size, keys, counts):
    """Count the entries of each key; see :func:`count_numpy`."""
    for task in taken(share):
        own = counts[share.tasks[task] // size]
        own[:] = 0
        for n in range(np.uint64(share.tasks[task]), np.uint64(share.tasks[task + 1])):  # signed: tested for its sign
            own[np.uint32(keys[n])] += 1


def scatter_numpy(tasks, size, keys, places, arrays, moved):
    """Move each entry of two to four arrays (n,), of 4-byte numbers, to its place in the arrays ``moved``.

    places (all tasks, n_keys) int64: the place of each task's first entry of each key; overwritten. Entries of a key
    keep their order.
    """
    for start, stop in pairwise(tasks):
        order = np.argsort(keys[start:stop], kind="stable")
        own = keys[start:stop][order]
        place = places[start // size][own] + np.arange(stop - start) - np.searchsorted(own, own)
        for array, to in zip(arrays, moved, strict=True):
            to[place] = array[start:stop][order]


@region
def scatter_cpu(share, size, keys, places, arrays, moved):
    """Move each entry to its place; see :func:`scatter_numpy`."""
    end = np.uint64(keys.shape[0] - 1)
    if WIDTH:
        firsts, seconds = simd.pointer(moved[0], 0), simd.pointer(moved[1], 0)
    for task in taken(share):
        own = places[share.tasks[task] // size]
        for n in range(np.uint64(share.tasks[task]), np.uint64(share.tasks[task + 1])):
            if WIDTH:
                ahead = np.int64(own[np.uint32(keys[min(n + AHEAD, end)])])
                simd.prefetch(1, firsts, ahead)
                simd.prefetch(1, seconds, ahead)
            key = np.uint32(keys[n])
            place = np.uint64(own[key])
            own[key] += 1
            moved[0][place] = arrays[0][n]
            moved[1][place] = arrays[1][n]
            if len(arrays) > 2:
                moved[2][place] = arrays[2][n]
            if len(arrays) > 3:
                moved[3][place] = arrays[3][n]


def row_bounds_numpy(tasks, rows, columns, indptr):
    """Write where each row starts, if the entries are already in order of row and column.

    rows and columns (n,) int32, indptr (n_rows + 1,) int64; tasks are runs of entries. Returns (n_tasks, 2) int64:
    whether any entry of the task is out of order, in which case ``indptr`` is useless; if none is, how many entries
    repeat the one before.
    """
    found = np.zeros((len(tasks) - 1, 2), np.int64)
    pairs = rows.astype(np.int64) << 32 | columns
    for task, (start, stop) in enumerate(pairwise(tasks)):
        steps = np.diff(pairs[max(start - 1, 0) : stop])
        if np.any(steps < 0):
            found[task] = 1, 0
            continue
        found[task] = 0, np.count_nonzero(steps == 0)
        row, last = rows[start - 1] + 1 if start else 0, rows[stop - 1] + 1 if stop < len(rows) else len(indptr)
        indptr[row:last] = start + np.searchsorted(rows[start:stop], np.arange(row, last))
    return found


@region
def _row_bounds(share, rows, columns, indptr):
    for task in taken(share):
        first, last, repeats = share.tasks[task], share.tasks[task + 1], 0
        row, column = (rows[first - 1], columns[first - 1]) if first else (np.int32(-1), np.int32(-1))
        for j in range(np.uint64(first), np.uint64(last)):
            if rows[j] < row or (rows[j] == row and columns[j] < column):
                share.found[task, 0] = 1
                break
            repeats += rows[j] == row and columns[j] == column
            for skipped in range(row + 1, rows[j] + 1):
                indptr[skipped] = j
            row, column = rows[j], columns[j]
        else:
            share.found[task, 1] = repeats
            if last == rows.shape[0]:
                indptr[row + 1 :] = last


def row_bounds_cpu(tasks, rows, columns, indptr):
    """Write where each row starts; see :func:`row_bounds_numpy`. A task stops at its first entry out of order."""
    return _row_bounds(tasks, rows, columns, indptr, found=np.zeros((len(tasks) - 1, 2), np.int64))


COUNT = {"numpy": count_numpy, "cpu": count_cpu}
SCATTER = {"numpy": scatter_numpy, "cpu": scatter_cpu}
ROW_BOUNDS = {"numpy": row_bounds_numpy, "cpu": row_bounds_cpu}
