"""The sum over a row's entries in vectors; see :mod:`fastmf.kernels.links`.

The sum stays in registers, so the compiler must know its length: each k is compiled for itself.
"""

import numpy as np

from fastmf.kernels import simd
from fastmf.kernels.compile import jit
from fastmf.kernels.vectors import WIDTH

AHEAD = 16  # entries between the prefetch of a row of the table and its use


@jit
def add_row(first, last, bound, indices, weights, table, row, out, columns):
    """Add the table's rows at the entries from first on to ``out[row]``, each times its weight if there are weights.

    Returns the entry it stops at: ``last``, or the first whose column is not below the bound.
    """
    kp, end = len(columns) * WIDTH, indices.shape[0] - 1
    where, rows, here = simd.pointer(indices, 0), simd.pointer(table, 0), simd.pointer(out, row * kp)
    total, j = simd.load(1, columns, here, 0), first
    while j < last:
        i, weight = np.int64(simd.element(where, j)), np.float32(1)
        if i >= bound:
            break
        simd.prefetch(columns, rows, np.int64(simd.element(where, min(j + AHEAD, end))) * kp)
        if weights is not None:
            weight = weights[i]
        total = simd.add_scaled(total, weight, simd.pointer(rows, i * kp))
        j += 1
    simd.store(total, here, 0)
    return j
