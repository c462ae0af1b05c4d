"""A pass of conjugate gradients over a row's entries in vectors; see :mod:`fastmf.kernels.cg`.

The vector z and the sum stay in registers (up to k = 128 of AVX-512), so the compiler must know their length: each k is
compiled for itself.
"""

import numpy as np

from fastmf.kernels import simd
from fastmf.kernels.compile import jit
from fastmf.kernels.vectors import WIDTH

AHEAD = 16  # ratings between the prefetch of a row and its use


@jit
def add_up(first, last, entries, other, scratch, of, to, residual, one, columns):
    """Add sum g_j e_j w_j to row ``to`` of scratch; z is row ``of``, e_j is w_j . z or (``residual``) t_j - w_j . z."""
    kp, step, end = len(columns) * WIDTH, scratch.shape[1], entries.indices.shape[0] - 1
    indices, values = simd.pointer(entries.indices, 0), simd.pointer(entries.values, 0)
    y, c, vectors = simd.pointer(other.factors, 0), simd.pointer(other.bias, 0), simd.pointer(scratch, 0)
    weights = simd.pointer(entries.weights, 0)
    z, bias = simd.load(1, columns, simd.at(vectors, of * step), 0), one * scratch[of, kp]
    sums, total = simd.zeros(1, columns), np.float32(0)
    for j in range(first, last):
        simd.prefetch(columns, y, np.int64(simd.element(indices, min(j + AHEAD, end))) * kp)
        i = np.int64(simd.element(indices, j))
        row = simd.pointer(y, i * kp)
        e = bias + simd.dot(z, simd.load(1, columns, row, 0))
        if residual:
            e = simd.element(values, j) - simd.element(c, i) - e
        e *= simd.element_or_one(weights, j)
        sums = simd.add_scaled(sums, e, row)
        total += e
    here = simd.at(vectors, to * step)
    simd.store(simd.weighted_sum(np.float32(1), sums, np.float32(1), simd.load(1, columns, here, 0)), here, 0)
    scratch[to, kp] += one * total
