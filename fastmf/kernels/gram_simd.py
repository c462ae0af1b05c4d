"""Gram matrices in vectors, by the sums of a row of :mod:`fastmf.kernels.als_simd`; see :mod:`fastmf.kernels.gram`.

A task counts as a row with an entry in every column. Chunks of rows are summed in float32, and added up in float64.
"""

import numpy as np

from fastmf.kernels.als_simd import new_batch, source_of, sum_row, sums_of
from fastmf.kernels.compile import jit
from fastmf.kernels.types import Compressed

CHUNK = 1 << 9  # rows that are summed in float32


def gram(tasks, table, k):
    """Sum x x', task by task."""
    first, n = tasks[0], tasks[-1] - tasks[0]
    zeros = np.zeros(n, np.float32)
    entries = Compressed(np.array([0, n]), np.arange(n, dtype=np.int32), zeros)
    return _gram(tasks - first, entries, table[first : tasks[-1]], zeros, k, new_batch(k, table.shape[1]))


@jit
def _gram(tasks, entries, table, zeros, k, batch):
    kp, source = table.shape[1], source_of(entries, table, zeros, None)
    found = np.zeros((tasks.shape[0] - 1, k, k))
    for task in range(found.shape[0]):
        for first in range(tasks[task], tasks[task + 1], CHUNK):
            sum_row(first, min(first + CHUNK, tasks[task + 1]), source, kp, *sums_of(batch, 0, kp))
            for a in range(k):
                for b in range(a, k):
                    found[task, a, b] += batch.grams[0, a * kp + b]
        for a in range(k):
            for b in range(a):
                found[task, a, b] = found[task, b, a]
    return found
