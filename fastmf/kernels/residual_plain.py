"""Predictions of pairs in plain Numba; see :mod:`fastmf.kernels.residual`."""

import numpy as np

from fastmf.kernels.compile import jit


@jit
def predict(first, last, pairs, user_side, item_side, scale, out):
    """Write the predictions of the pairs from first to last, the first of them into ``out[0]``."""
    x, y, b, c = user_side.factors, item_side.factors, user_side.bias, item_side.bias
    low, high = np.float32(scale.low), np.float32(scale.high)
    for n in range(first, last):
        u, i, estimate = pairs.users[n], pairs.items[n], np.float32(scale.mean)
        if u >= 0:
            estimate += b[u]
        if i >= 0:
            estimate += c[i]
        if u >= 0 and i >= 0:
            dot = np.float32(0)
            for f in range(x.shape[1]):
                dot += x[u, f] * y[i, f]
            estimate += dot
        # written so that NaN passes through both comparisons
        if estimate < low:
            estimate = low
        if estimate > high:
            estimate = high
        out[n - first] = estimate
