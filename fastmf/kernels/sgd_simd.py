"""Updates by stochastic gradient descent in vectors; see :mod:`fastmf.kernels.sgd`.

A row's factors are a few vectors, held in registers between the error and the update. The compiler must know how many,
so each number of vectors is compiled separately. The rows of the rating AHEAD places later are prefetched, because they
are seldom in the L1 cache.

Two things limit an update: the latency from the loads of both rows, through the sum of a dot product, to the stores;
and how many instructions of the next ratings the core has room for meanwhile. So there are few instructions, and terms
that do not need the error are computed before it.
"""

import numpy as np

from fastmf.kernels import simd
from fastmf.kernels.compile import inner
from fastmf.kernels.sgd_plain import BIAS, BIAS_PULL, BIAS_RHO, RHO, SQUARES, error_slope
from fastmf.kernels.vectors import LINE, WIDTH

AHEAD = 12  # ratings between the prefetch of a rating's rows and the update


@inner
def update(first, last, triples, users, items, pulls, step, columns):
    """Update both sides with the ratings from first to last, one after another.

    columns is a tuple with one element per vector in a row of factors.
    """
    stride, lr, end = len(columns) * WIDTH + LINE, np.float32(step.lr), triples.users.shape[0] - 1
    all_x, all_y, values = simd.pointer(users, 0), simd.pointer(items, 0), simd.pointer(triples.values, 0)
    of_user, of_item = simd.pointer(triples.users, 0), simd.pointer(triples.items, 0)
    weights, pulls_x, pulls_y = simd.pointer(triples.weights, 0), simd.pointer(pulls[0], 0), simd.pointer(pulls[1], 0)
    for j in range(first, last):
        ahead = min(j + AHEAD, end)
        _prefetch(all_x, pulls_x, np.int64(simd.element(of_user, ahead)), columns)
        _prefetch(all_y, pulls_y, np.int64(simd.element(of_item, ahead)), columns)
        u, i = np.int64(simd.element(of_user, j)), np.int64(simd.element(of_item, j))
        x_at, y_at = simd.pointer(all_x, u * stride), simd.pointer(all_y, i * stride)
        pull_x = simd.pointer(pulls_x, u * (stride - LINE))
        pull_y = simd.pointer(pulls_y, i * (stride - LINE))
        x, y = simd.load(1, columns, x_at, 0), simd.load(1, columns, y_at, 0)
        x_end, y_end = simd.at(x_at, stride), simd.at(y_at, stride)
        b, c = simd.element(x_end, BIAS), simd.element(y_end, BIAS)
        weight = simd.element_or_one(weights, j)
        rho_u, rho_i = weight * simd.element(x_end, RHO), weight * simd.element(y_end, RHO)
        g = weight * error_slope(simd.element(values, j) - b - c - simd.dot(x, y), step.absolute)
        lr_u, lr_i = lr, lr
        if step.adaptive:
            squares_u, squares_i = simd.element(x_end, SQUARES), simd.element(y_end, SQUARES)
            lr_u, lr_i = lr / np.sqrt(squares_u), lr / np.sqrt(squares_i)
            toward_u = simd.add_scaled(simd.weighted_sum(-rho_u, x, g, y), rho_u, pull_x)
            toward_i = simd.add_scaled(simd.weighted_sum(-rho_i, y, g, x), rho_i, pull_y)
            simd.put(x_end, SQUARES, squares_u + simd.dot(toward_u, toward_u) / np.float32(step.k))
            simd.put(y_end, SQUARES, squares_i + simd.dot(toward_i, toward_i) / np.float32(step.k))
        new_x = simd.weighted_sum(1 - lr_u * rho_u, x, lr_u * g, y)
        new_y = simd.weighted_sum(1 - lr_i * rho_i, y, lr_i * g, x)
        simd.store(simd.add_scaled(new_x, lr_u * rho_u, pull_x), x_at, 0)
        simd.store(simd.add_scaled(new_y, lr_i * rho_i, pull_y), y_at, 0)
        if step.biases:
            gap_b = b - simd.either(pull_x, simd.element(x_end, BIAS_PULL), np.float32(0))
            gap_c = c - simd.either(pull_y, simd.element(y_end, BIAS_PULL), np.float32(0))
            simd.put(x_end, BIAS, b + lr_u * (g - weight * simd.element(x_end, BIAS_RHO) * gap_b))
            simd.put(y_end, BIAS, c + lr_i * (g - weight * simd.element(y_end, BIAS_RHO) * gap_c))


@inner
def _prefetch(rows, pulls, row, columns):
    """Prefetch a row of a learner, and what it is pulled to."""
    floats = len(columns) * WIDTH
    simd.prefetch(columns, rows, row * (floats + LINE))
    simd.prefetch(1, rows, row * (floats + LINE) + floats)
    if pulls is not None:
        simd.prefetch(columns, pulls, row * floats)
