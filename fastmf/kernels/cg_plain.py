"""A pass of conjugate gradients over a row's entries in plain Numba; see :mod:`fastmf.kernels.cg`."""

import numpy as np

from fastmf.kernels.jit import jit


@jit
def add_up(first, last, entries, other, scratch, of, to, residual, one, columns):
    """Write sum e_j w_j into row ``to`` of scratch, for e_j = w_j . z, or t_j - w_j . z; z is row ``of``."""
    kp = other.factors.shape[1]
    scratch[to, : kp + 1] = 0
    for j in range(first, last):
        i = entries.indices[j]
        e = one * scratch[of, kp]
        for f in range(kp):
            e += scratch[of, f] * other.factors[i, f]
        if residual:
            e = entries.values[j] - other.bias[i] - e
        for f in range(kp):
            scratch[to, f] += e * other.factors[i, f]
        scratch[to, kp] += np.float32(one * e)
