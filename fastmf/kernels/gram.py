"""Gram matrices: sum x x' over the rows of a table. Task bounds are fixed, so the number of threads changes no bit."""

from itertools import pairwise

import numpy as np

from fastmf.kernels.als_simd import new_batch, source_of, sum_row
from fastmf.kernels.compile import inner, lazy
from fastmf.kernels.region import region, taken
from fastmf.kernels.types import Compressed
from fastmf.kernels.vectors import WIDTH

CHUNK = 1 << 9  # rows that are summed in float32


def gram_numpy(tasks, table, k):
    """Sum x x' over the rows of a table (n, k padded with zeros to whole vectors) float32.

    Returns (n_tasks, k, k) float64.
    """
    parts = (table[start:stop, :k].astype(np.float64) for start, stop in pairwise(tasks))
    return np.array([part.T @ part for part in parts])


@region
def _gram_plain(share, table, k):
    for task in taken(share):
        for row in range(share.tasks[task], share.tasks[task + 1]):
            for a in range(k):
                x_a = np.float64(table[row, a])
                for b in range(k):
                    share.found[task, a, b] += x_a * np.float64(table[row, b])


@region(allocates=True)
def _gram_simd(share, table, k):
    """Use the ALS half-sweep's sums of a row: a task is a row with an entry in every column.

    Chunks of rows are summed in float32, and their sums added up in float64.
    """
    zeros = np.zeros(CHUNK, np.float32)
    entries = Compressed(np.zeros(0, np.int64), np.arange(CHUNK).astype(np.int32), zeros, None)
    batch = new_batch(k, table.shape[1])
    for task in taken(share):
        _sum_chunks(share.tasks[task], share.tasks[task + 1], entries, table, k, batch, share.found[task])


@inner
def _sum_chunks(start, stop, entries, table, k, batch, found):
    kp = table.shape[1]
    for first in range(start, stop, CHUNK):
        n = min(CHUNK, stop - first)
        sum_row(0, n, source_of(entries, table[first : first + n], entries.values, None), kp, batch, 0)
        for a in range(k):
            for b in range(a, k):
                found[a, b] += batch.grams[0, a * kp + b]
    for a in range(k):
        for b in range(a):
            found[a, b] = found[b, a]


def gram_cpu(tasks, table, k):
    """Sum x x'; see :func:`gram_numpy`."""
    return (_gram_simd if WIDTH else _gram_plain)(tasks, table, k, found=np.zeros((len(tasks) - 1, k, k)))


GRAM = {"numpy": gram_numpy, "cpu": gram_cpu, "cuda": lazy("gram_cuda", "gram_cuda")}
