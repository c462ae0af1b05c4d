"""Gram matrices in plain Numba; see :mod:`fastmf.kernels.gram`."""

import numpy as np

from fastmf.kernels.compile import jit


@jit
def gram(tasks, table, k):
    """Sum x x', task by task."""
    found = np.zeros((tasks.shape[0] - 1, k, k))
    for task in range(found.shape[0]):
        for row in range(tasks[task], tasks[task + 1]):
            for a in range(k):
                x_a = np.float64(table[row, a])
                for b in range(k):
                    found[task, a, b] += x_a * np.float64(table[row, b])
    return found
