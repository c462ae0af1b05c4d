"""Updates by stochastic gradient descent in vectors; see :mod:`fastmf.kernels.sgd`.

A row's factors are a few vectors, held in registers between the error and the update: the compiler must know how many,
so each k is compiled for itself. Bias and weights of a row lie side by side in another cache line. What the ratings
some places ahead will need is prefetched, for two rows a rating are seldom in the first cache.
"""

import numpy as np

from fastmf.kernels import simd
from fastmf.kernels.jit import jit
from fastmf.kernels.sgd_plain import BIAS, BIAS_RHO, RHO, SQUARES, error_slope

AHEAD = np.uint64(12)  # ratings between the prefetch of a rating's rows and the update


@jit
def update(first, last, triples, users, items, step, columns):
    """Update both sides by the ratings from first to last, one after another.

    columns is a tuple as long as a row of factors has vectors.
    """
    k, lr = users.factors.shape[1], np.float32(step.lr)
    x_terms, y_terms = users.terms, items.terms
    x_rows, y_rows = simd.pointer(users.factors, 0), simd.pointer(items.factors, 0)
    x_rest, y_rest = simd.pointer(x_terms, 0), simd.pointer(y_terms, 0)
    end = np.uint64(triples.users.shape[0] - 1)
    for j in range(np.uint64(first), np.uint64(last)):
        ahead = min(j + AHEAD, end)
        u, i = np.int64(triples.users[ahead]), np.int64(triples.items[ahead])
        simd.prefetch(columns, x_rows, u * k)
        simd.prefetch(columns, y_rows, i * k)
        simd.prefetch(1, x_rest, u * 4)
        simd.prefetch(1, y_rest, i * 4)
        u, i = np.uint64(triples.users[j]), np.uint64(triples.items[j])
        x_at, y_at = simd.pointer(x_rows, np.int64(u) * k), simd.pointer(y_rows, np.int64(i) * k)
        x, y = simd.load(1, columns, x_at, 0), simd.load(1, columns, y_at, 0)
        b, rho_u, c, rho_i = x_terms[u, BIAS], x_terms[u, RHO], y_terms[i, BIAS], y_terms[i, RHO]
        g = error_slope(triples.values[j] - b - c - simd.dot(x, y), step.absolute)
        lr_u, lr_i = lr, lr
        if step.adaptive:
            lr_u, lr_i = lr / np.sqrt(x_terms[u, SQUARES]), lr / np.sqrt(y_terms[i, SQUARES])
            toward_u, toward_i = simd.weighted_sum(g, y, -rho_u, x), simd.weighted_sum(g, x, -rho_i, y)
            x_terms[u, SQUARES] += simd.dot(toward_u, toward_u) / np.float32(step.k)
            y_terms[i, SQUARES] += simd.dot(toward_i, toward_i) / np.float32(step.k)
        simd.store(simd.weighted_sum(1 - lr_u * rho_u, x, lr_u * g, y), x_at, 0)
        simd.store(simd.weighted_sum(1 - lr_i * rho_i, y, lr_i * g, x), y_at, 0)
        if step.biases:
            x_terms[u, BIAS] = b + lr_u * (g - x_terms[u, BIAS_RHO] * b)
            y_terms[i, BIAS] = c + lr_i * (g - y_terms[i, BIAS_RHO] * c)
