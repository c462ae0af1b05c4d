"""Updates by stochastic gradient descent in plain Numba; see :mod:`fastmf.kernels.sgd`."""

import numpy as np

from fastmf.kernels.compile import inner
from fastmf.kernels.vectors import LINE

# Columns of a learner's row, the first five of its last LINE: bias, rho, bias_rho, G of the adaptive step, and what the
# bias is pulled to.
BIAS, RHO, BIAS_RHO, SQUARES, BIAS_PULL = range(-LINE, 5 - LINE)

CLIP = np.float32(16)  # at 32, lr = 0.1 diverges on ratings with heavy tails; errors of ordinary ratings stay below 6


@inner
def error_slope(e, absolute):
    """Return half the derivative of the loss at an error e: e within CLIP, or sign(e) / 2 for the absolute error."""
    if not absolute:
        if e > CLIP:
            return CLIP
        return -CLIP if e < -CLIP else e
    if e > 0:
        return np.float32(0.5)
    return np.float32(-0.5) if e < 0 else e


@inner
def weight_of(weights, j):
    """Return the weight of rating j: 1 if there are no weights."""
    if weights is None:
        return np.float32(1)
    return weights[j]


@inner
def pull_of(pulls, row, f):
    """Return what factor f of a row is pulled to: zero if there are no pulls."""
    if pulls is None:
        return np.float32(0)
    return pulls[row, f]


@inner
def bias_pull_of(pulls, row):
    """Return what the bias of a learner's row is pulled to: zero if there are no pulls."""
    if pulls is None:
        return np.float32(0)
    return row[BIAS_PULL]


@inner
def update(first, last, triples, users, items, pulls, step, columns):
    """Update both sides with the ratings from first to last, one after another."""
    k = users.shape[1] - LINE
    for j in range(first, last):
        u, i = triples.users[j], triples.items[j]
        x, y = users[u], items[i]
        e = triples.values[j] - x[BIAS] - y[BIAS]
        for f in range(k):
            e -= x[f] * y[f]
        g, weight = error_slope(e, step.absolute), weight_of(triples.weights, j)
        lr_u = lr_i = np.float32(step.lr)
        if step.adaptive:
            lr_u /= np.sqrt(x[SQUARES])
            lr_i /= np.sqrt(y[SQUARES])
        squares_u = squares_i = np.float32(0)
        for f in range(k):
            x_f, y_f = x[f], y[f]
            toward_u = weight * (g * y_f - x[RHO] * (x_f - pull_of(pulls[0], u, f)))
            toward_i = weight * (g * x_f - y[RHO] * (y_f - pull_of(pulls[1], i, f)))
            squares_u += toward_u * toward_u
            squares_i += toward_i * toward_i
            x[f] = x_f + lr_u * toward_u
            y[f] = y_f + lr_i * toward_i
        if step.adaptive:
            x[SQUARES] += squares_u / np.float32(step.k)
            y[SQUARES] += squares_i / np.float32(step.k)
        if step.biases:
            x[BIAS] += lr_u * weight * (g - x[BIAS_RHO] * (x[BIAS] - bias_pull_of(pulls[0], x)))
            y[BIAS] += lr_i * weight * (g - y[BIAS_RHO] * (y[BIAS] - bias_pull_of(pulls[1], y)))
