"""Compressed sparse rows by counting sort.

A rating matrix is kept twice, as CSR (``by_user``) and CSC (``by_item``). Both are one stable sort of the (row, column,
value) triples by row, which a counting sort does in two passes over the data: count the rows' entries, then move each
entry to its place (Cormen et al., Introduction to Algorithms, section 8.2).
"""

from typing import NamedTuple

import numpy as np
from numba import get_num_threads, njit, prange

JIT = dict(cache=True, nogil=True)


class Compressed(NamedTuple):
    """Entries grouped by row: row r holds ``indices[indptr[r]:indptr[r + 1]]`` and the ``values`` beside them.

    indptr (n_rows + 1,) int64; indices (n,) int32, the columns; values (n,) float32.
    """

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray


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
        for j in range(n * chunk // n_chunks, n * (chunk + 1) // n_chunks):
            next_place[chunk, rows[j]] += 1
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
        for j in range(n * chunk // n_chunks, n * (chunk + 1) // n_chunks):
            order[next_place[chunk, rows[j]]] = j
            next_place[chunk, rows[j]] += 1
    return indptr, order


def sort_rows_cpu(rows, n_rows):
    """Order entries by row in parallel; the counts take 8 bytes per row and chunk, so few entries get one chunk."""
    n_chunks = max(1, min(get_num_threads(), rows.shape[0] // max(n_rows, 1)))
    return _sort_rows(rows, n_rows, n_chunks)


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
