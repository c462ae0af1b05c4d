"""Gibbs draws in plain Numba, one row at a time, in float64; see :mod:`fastmf.kernels.gibbs`."""

import math

import numpy as np

from fastmf.kernels.als_plain import accumulate, cholesky, fail, mass_of, substitute_back
from fastmf.kernels.compile import inner
from fastmf.kernels.random import U1, gamma, key_of, normal
from fastmf.kernels.region import region, taken

SHAPE = 5.0  # and rate of the precisions' prior


@inner
def weights_of(first, last, entries, other):
    """Sum g, g t and g t^2 over a row's entries."""
    total, of_t, of_square = np.float64(0), np.float64(0), np.float64(0)
    for j in range(first, last):
        i = entries.indices[j]
        t = np.float64(entries.values[j] - other.bias[i])
        g = np.float64(other.roots[i]) * np.float64(other.roots[i]) * mass_of(j, j + 1, entries.weights)
        total += g
        of_t += g * t
        of_square += g * t * t
    return total, of_t, of_square


@inner
def weighted_square(precision, x):
    """Return x' L x."""
    total = np.float64(0)
    for a in range(x.shape[0]):
        row = np.float64(0)
        for b in range(x.shape[0]):
            row += precision[a, b] * x[b]
        total += row * x[a]
    return total


@inner
def errors_left(sums, found, d, total, q_pull):
    """Return S, the weighted sum of the squared errors that remain.

    sums: sum g, g t, g t^2. found: b, s . x, |U x|^2 - q x'L x, and (U x) . (U'^-1 right-hand side). total is T, q_pull
    is q x . L mu.
    """
    (weight, of_t, of_square), (b, sx, square, product) = sums, found
    of_x = square + sx * sx / d  # x' (sum g y y') x
    cross = product + sx * total / d - q_pull  # x . sum g t y
    left = of_square - 2 * b * of_t + b * b * weight - 2 * cross + 2 * b * sx + of_x
    return max(left, 0.0)


@inner
def redraw(row, n, left, key, k, precisions, chance):
    """Draw a row's precision if precisions are learned; return tau S."""
    if chance.learn:
        drawn = gamma(key, np.uint64(k) + U1, SHAPE + 0.5 * n)
        precisions[row] = np.float32(drawn / (SHAPE + 0.5 * chance.alpha * left))
    return np.float64(precisions[row]) * left


@inner
def draw_row(row, entries, side, precisions, other, prior, chance, gram, v, s):
    """Draw a row from its sums gram, v and s in float64; return tau S."""
    first, last, k = entries.indptr[row], entries.indptr[row + 1], v.shape[0]
    q = 1.0 / (chance.alpha * np.float64(precisions[row]))
    sums = weights_of(first, last, entries, other)
    line, bias_line = min(row, prior.pull.shape[0] - 1), min(row, prior.bias_pull.shape[0] - 1)
    d, total = sums[0] + q * prior.bias_precision, sums[1] + q * prior.bias_pull[bias_line]
    for a in range(k):
        v[a] += q * prior.pull[line, a] - s[a] * (total / d)
        for b in range(k):
            gram[a, b] += q * prior.precision[a, b] - s[a] * (s[b] / d)
    if not cholesky(gram, v, 0.0):
        fail(row, side)
        return np.nan
    key = key_of(chance.seed, chance.stream, np.uint64(row))
    square, product, sx, pulled = 0.0, 0.0, 0.0, 0.0
    for a in range(k):
        before = v[a]
        if chance.draw:
            v[a] += math.sqrt(q) * normal(key, np.uint64(a))
        square += v[a] * v[a]
        product += v[a] * before
    substitute_back(gram, v)
    for a in range(k):
        side.factors[row, a] = v[a]
        sx += s[a] * v[a]
        pulled += q * prior.pull[line, a] * v[a]
    bias = (total - sx) / d
    if chance.draw:
        bias += math.sqrt(q / d) * normal(key, np.uint64(k))
    side.bias[row] = bias
    square -= q * weighted_square(prior.precision, v)
    left = errors_left(sums, (bias, sx, square, product), d, total, pulled)
    return redraw(row, mass_of(first, last, entries.weights), left, key, k, precisions, chance)


@region(allocates=True)
def draw(share, entries, side, precisions, other, prior, chance):
    """Draw the rows of ``side`` with ``other`` fixed."""
    k = side.factors.shape[1]
    gram, v, s = np.empty((k, k), np.float64), np.empty(k, np.float64), np.empty(k, np.float64)
    for task in taken(share):
        start, stop = share.tasks[task], share.tasks[task + 1]
        given = entries, side, precisions, other, prior, chance
        share.found[task] = _draw_rows(start, stop, *given, gram, v, s)


@inner
def _draw_rows(start, stop, entries, side, precisions, other, prior, chance, gram, v, s):
    """Draw the rows from start to stop; return the sum of tau S."""
    found, columns = np.float64(0), (entries.indices, entries.values, entries.weights)
    for row in range(start, stop):
        first, last = entries.indptr[row], entries.indptr[row + 1]
        if first < last:
            accumulate(first, last, *columns, other.factors, other.bias, other.roots, gram, v, s)
            found += draw_row(row, entries, side, precisions, other, prior, chance, gram, v, s)
    return found
