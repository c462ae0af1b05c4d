"""Updates by stochastic gradient descent in plain Numba; see :mod:`fastmf.kernels.sgd`."""

import numpy as np

from fastmf.kernels.jit import jit

BIAS, RHO, BIAS_RHO, SQUARES = range(4)


@jit
def error_slope(e, absolute):
    """Half the slope of the loss at an error e, towards smaller errors."""
    if not absolute:
        return e
    if e > 0:
        return np.float32(0.5)
    return np.float32(-0.5) if e < 0 else e


@jit
def update(first, last, triples, users, items, step, columns):
    """Update both sides by the ratings from first to last, one after another."""
    x, y, x_terms, y_terms = users.factors, items.factors, users.terms, items.terms
    k = x.shape[1]
    for j in range(first, last):
        u, i = triples.users[j], triples.items[j]
        e = triples.values[j] - x_terms[u, BIAS] - y_terms[i, BIAS]
        for f in range(k):
            e -= x[u, f] * y[i, f]
        g = error_slope(e, step.absolute)
        rho_u, rho_i = x_terms[u, RHO], y_terms[i, RHO]
        lr_u = lr_i = np.float32(step.lr)
        if step.adaptive:
            lr_u /= np.sqrt(x_terms[u, SQUARES])
            lr_i /= np.sqrt(y_terms[i, SQUARES])
        squares_u = squares_i = np.float32(0)
        for f in range(k):
            x_f, y_f = x[u, f], y[i, f]
            toward_u, toward_i = g * y_f - rho_u * x_f, g * x_f - rho_i * y_f
            squares_u += toward_u * toward_u
            squares_i += toward_i * toward_i
            x[u, f] = x_f + lr_u * toward_u
            y[i, f] = y_f + lr_i * toward_i
        if step.adaptive:
            x_terms[u, SQUARES] += squares_u / np.float32(step.k)
            y_terms[i, SQUARES] += squares_i / np.float32(step.k)
        if step.biases:
            x_terms[u, BIAS] += lr_u * (g - x_terms[u, BIAS_RHO] * x_terms[u, BIAS])
            y_terms[i, BIAS] += lr_i * (g - y_terms[i, BIAS_RHO] * y_terms[i, BIAS])
