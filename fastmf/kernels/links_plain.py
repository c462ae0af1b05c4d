"""The sum over a row's entries in plain Numba; see :mod:`fastmf.kernels.links`."""

import numpy as np

from fastmf.kernels.compile import jit


@jit
def add_row(first, last, bound, indices, weights, table, row, out, columns):
    """Add the table's rows at the entries from first on to ``out[row]``, each times its weight if there are weights.

    Returns the entry it stops at: ``last``, or the first whose column is not below the bound.
    """
    for j in range(first, last):
        i, weight = indices[j], np.float32(1)
        if i >= bound:
            return j
        if weights is not None:
            weight = weights[i]
        for f in range(table.shape[1]):
            out[row, f] += weight * table[i, f]
    return last
