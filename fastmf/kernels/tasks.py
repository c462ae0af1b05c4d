"""How work is cut into tasks: by the data alone, not the number of threads, so results are the same bit for bit."""

import math

import numpy as np

ROW = 16  # what a row costs in a section, next to an entry
LEAST, SECTIONS = 1 << 15, 512  # the least cost of a section, and the most sections


def even(n, size):
    """Cut n entries into tasks of at most ``size``. Returns (n_tasks + 1,) int64 bounds."""
    return np.append(np.arange(0, n, size, dtype=np.int64), np.int64(n))


def balanced(indptr, cost_per_entry, cost_per_row, n_tasks=256, least=1.0, most=math.inf):
    """Cut rows into ``n_tasks`` tasks of about equal cost.

    There are fewer tasks if each would cost less than ``least``, and more if each would cost more than ``most``.
    Returns (n_tasks + 1,) int64 bounds.
    """
    n_rows = len(indptr) - 1
    cost = indptr * float(cost_per_entry) + np.arange(n_rows + 1) * float(cost_per_row)
    n_tasks = max(min(n_tasks, math.ceil(cost[-1] / least)), math.ceil(cost[-1] / most), 1)
    inner = np.searchsorted(cost, cost[-1] * np.arange(1, n_tasks) / n_tasks)
    return np.unique(np.concatenate(([0], inner, [n_rows]))).astype(np.int64)


def sections(indptr):
    """Cut rows into sections, whose sums are added up in order: the same for any way of sharing sections out.

    An entry costs 1 and a row ROW. A section ends where the cost passes a multiple of some power of two, so there are
    at most SECTIONS. Returns (n_sections + 1,) int64 bounds.
    """
    cost = indptr - indptr[0] + ROW * np.arange(len(indptr), dtype=np.int64)
    size = LEAST
    while cost[-1] > SECTIONS * size:
        size *= 2
    inner = np.searchsorted(cost, np.arange(size, cost[-1], size))
    return np.unique(np.concatenate(([0], inner, [len(indptr) - 1]))).astype(np.int64)


def packed(counts):
    """Find where each task writes its entries of each bucket, if buckets lie one after another.

    counts (n_tasks, n_buckets) int64: the entries of each bucket in each task. Returns the starts of the buckets,
    (n_buckets + 1,) int64, and of each task's part of each bucket, (n_tasks, n_buckets) int64.
    """
    bounds = np.append(0, np.cumsum(counts.sum(axis=0)))
    return bounds, bounds[:-1] + np.cumsum(counts, axis=0) - counts
