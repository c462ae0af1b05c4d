"""Predictions of pairs in vectors; see :mod:`fastmf.kernels.residual`."""

import numpy as np

from fastmf.kernels import simd
from fastmf.kernels.compile import jit
from fastmf.kernels.vectors import WIDTH

AHEAD = np.uint64(16)  # pairs between the prefetch of an item's row and its use; users mostly come in order


@jit
def predict(first, last, pairs, user_side, item_side, scale, out):
    """Write the predictions of the pairs from first to last, the first of them into ``out[0]``."""
    x, y, b, c = user_side.factors, item_side.factors, user_side.bias, item_side.bias
    low, high, mean = np.float32(scale.low), np.float32(scale.high), np.float32(scale.mean)
    k, end = x.shape[1], np.uint64(pairs.items.shape[0] - 1)
    whole, x_rows, y_rows = k // WIDTH * WIDTH, simd.pointer(x, 0), simd.pointer(y, 0)
    for n in range(np.uint64(first), np.uint64(last)):
        ahead = np.int64(pairs.items[min(n + AHEAD, end)]) * k  # a prefetch does no harm, even of row -1
        simd.prefetch(2, y_rows, ahead)
        u, i, estimate = np.int64(pairs.users[n]), np.int64(pairs.items[n]), mean
        if u >= 0:
            estimate += b[np.uint64(u)]
        if i >= 0:
            estimate += c[np.uint64(i)]
        if u >= 0 and i >= 0:
            x_at, y_at, sums = simd.pointer(x_rows, u * k), simd.pointer(y_rows, i * k), simd.zeros(1, 1)
            for f in range(0, whole, WIDTH):
                left, right = simd.load(1, 1, simd.at(x_at, f), 0), simd.load(1, 1, simd.at(y_at, f), 0)
                sums = simd.multiply_add(sums, left, right)
            estimate += simd.total(sums)
            for f in range(whole, k):
                estimate += x[np.uint64(u), np.uint64(f)] * y[np.uint64(i), np.uint64(f)]
        # written so that NaN passes through both comparisons
        if estimate < low:
            estimate = low
        if estimate > high:
            estimate = high
        out[n - np.uint64(first)] = estimate
