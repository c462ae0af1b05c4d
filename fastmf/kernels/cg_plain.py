"""A pass of conjugate gradients over a row's entries in plain Numba; see :mod:`fastmf.kernels.cg`."""

import numpy as np

from fastmf.kernels.als_plain import mass_of
from fastmf.kernels.compile import jit


@jit
def add_up(first, last, entries, other, scratch, of, to, residual, one, columns):
    """Add sum g_j e_j w_j to row ``to`` of scratch; z is row ``of``, e_j is w_j . z or (``residual``) t_j - w_j . z."""
    kp = other.factors.shape[1]
    sums = np.zeros(kp + 1, np.float32)
    for j in range(first, last):
        i = entries.indices[j]
        e = one * scratch[of, kp]
        for f in range(kp):
            e += scratch[of, f] * other.factors[i, f]
        if residual:
            e = entries.values[j] - other.bias[i] - e
        e *= mass_of(j, j + 1, entries.weights)
        for f in range(kp):
            sums[f] += e * other.factors[i, f]
        sums[kp] += one * e
    for f in range(kp + 1):
        scratch[to, f] += sums[f]
