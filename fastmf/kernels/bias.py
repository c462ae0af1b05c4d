"""Biases alone: a model without factors, and the baseline that factors have to beat.

With the other side's biases c fixed, a row's bias is the damped mean b = sum g_j (r_j - c_j) / (n + reg), n = sum g_j
(Koren 2008, section 2.1). The weights g_j are 1 unless the entries carry weights.
"""

import numpy as np

from fastmf.kernels.als_plain import mass_of
from fastmf.kernels.region import region, taken
from fastmf.kernels.tasks import balanced

LEAST, MOST = 3e5, 1e8  # operations of a task; see fastmf.kernels.als


def bias_numpy(tasks, entries, other, reg, out):
    """Write each row's bias into ``out`` (n_rows,) float32, given the other side's (n_columns,); empty rows get 0."""
    for row in range(tasks[0], tasks[-1]):
        rated = slice(entries.indptr[row], entries.indptr[row + 1])
        left = entries.values[rated] - other[entries.indices[rated]]
        g = np.ones(len(left), np.float32) if entries.weights is None else entries.weights[rated]
        out[row] = (left.astype(np.float64) @ g) / max(g.sum(dtype=np.float64) + reg, 1)


@region
def bias_cpu(share, entries, other, reg, out):
    """Write each row's bias; see :func:`bias_numpy`."""
    for task in taken(share):
        for row in range(share.tasks[task], share.tasks[task + 1]):
            first, last, total = entries.indptr[row], entries.indptr[row + 1], np.float64(0)
            for j in range(np.uint64(first), np.uint64(last)):  # a signed index is tested for its sign
                left = np.float64(entries.values[j] - other[np.uint64(entries.indices[j])])
                total += left * mass_of(j, j + np.uint64(1), entries.weights)
            out[row] = np.float32(total / max(mass_of(first, last, entries.weights) + reg, 1.0))


BIAS = {"numpy": bias_numpy, "cpu": bias_cpu}


def bias_tasks(indptr):
    """Cut the rows into tasks of equal work."""
    return balanced(indptr, 2, 8, least=LEAST, most=MOST)
