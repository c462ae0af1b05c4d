"""Gram matrices: sum x x' over the rows of a table. Task bounds are fixed, so the number of threads changes no bit."""

from itertools import pairwise

import numpy as np

from fastmf.kernels.als_simd import new_batch, source_of, sum_row
from fastmf.kernels.compile import jit, lazy
from fastmf.kernels.types import Compressed
from fastmf.kernels.vectors import WIDTH

CHUNK = 1 << 9  # rows that are summed in float32


def gram_numpy(tasks, table, k):
    """Sum x x' over the rows of a table (n, k padded with zeros to whole vectors) float32.

    Returns (n_tasks, k, k) float64.
    """
    parts = (table[start:stop, :k].astype(np.float64) for start, stop in pairwise(tasks))
    return np.array([part.T @ part for part in parts])


@jit
def _gram_plain(tasks, table, k):
    found = np.zeros((tasks.shape[0] - 1, k, k))
    for task in range(found.shape[0]):
        for row in range(tasks[task], tasks[task + 1]):
            for a in range(k):
                x_a = np.float64(table[row, a])
                for b in range(k):
                    found[task, a, b] += x_a * np.float64(table[row, b])
    return found


def _gram_simd(tasks, table, k):
    """Do as :func:`gram_numpy`, with the ALS half-sweep's sums of a row: a task is a row with an entry in every column.

    Chunks of rows are summed in float32, and their sums added up in float64.
    """
    first, n = tasks[0], tasks[-1] - tasks[0]
    zeros = np.zeros(n, np.float32)
    entries = Compressed(np.array([0, n]), np.arange(n, dtype=np.int32), zeros)
    return _sum_chunks(tasks - first, entries, table[first : tasks[-1]], zeros, k, new_batch(k, table.shape[1]))


@jit
def _sum_chunks(tasks, entries, table, zeros, k, batch):
    kp, source = table.shape[1], source_of(entries, table, zeros, None)
    found = np.zeros((tasks.shape[0] - 1, k, k))
    for task in range(found.shape[0]):
        for first in range(tasks[task], tasks[task + 1], CHUNK):
            sum_row(first, min(first + CHUNK, tasks[task + 1]), source, kp, batch, 0)
            for a in range(k):
                for b in range(a, k):
                    found[task, a, b] += batch.grams[0, a * kp + b]
        for a in range(k):
            for b in range(a):
                found[task, a, b] = found[task, b, a]
    return found


GRAM = {"numpy": gram_numpy, "cpu": _gram_simd if WIDTH else _gram_plain, "cuda": lazy("gram_cuda", "gram_cuda")}
