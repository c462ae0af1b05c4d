"""Gibbs draws in vectors, WIDTH rows at a time; see :mod:`fastmf.kernels.gibbs`.

Sums, border and lanes are those of :mod:`fastmf.kernels.als_simd`. Noise is added between the two triangular solves.
"""

import math

import numpy as np

from fastmf.kernels import simd
from fastmf.kernels.als_plain import LONG, accumulate, mass_of
from fastmf.kernels.als_simd import SURE, add_upper, factor_lanes, new_batch, solve_lanes, source_of, sum_long, sum_row
from fastmf.kernels.compile import inner, jit
from fastmf.kernels.gibbs_plain import draw_row, errors_left, redraw
from fastmf.kernels.lanes import BLOCK
from fastmf.kernels.random import key_of, normal, normals
from fastmf.kernels.region import region, taken
from fastmf.kernels.vectors import WIDTH

# Columns of ``facts``, per slot: the sums of g t, g and g t^2; q; |U x|^2; and (U x) . (U'^-1 right-hand side).
OF_T, WEIGHT, OF_SQUARE, Q, SQUARE, PRODUCT = range(6)


@region(allocates=True)
def draw(share, entries, side, precisions, other, prior, chance):
    """Draw the rows of ``side`` with ``other`` fixed; factors of ``other`` are padded with zeros to whole vectors."""
    k, kp = side.factors.shape[1], other.factors.shape[1]
    given, batch = (entries, side, precisions, other, prior, chance), new_batch(k, kp)
    source = source_of(entries, other.factors, other.bias, other.roots)
    facts, x, noise = np.empty((WIDTH, 6)), np.zeros(kp, np.float32), np.empty(k)
    for task in taken(share):
        start, stop = share.tasks[task], share.tasks[task + 1]
        share.found[task] = _draw_rows(start, stop, *given, source, batch, facts, x, noise)


@inner
def _draw_rows(start, stop, entries, side, precisions, other, prior, chance, source, batch, facts, x, noise):
    """Draw the rows from start to stop; return the sum of tau S."""
    given, kp = (entries, side, precisions, other, prior, chance), other.factors.shape[1]
    filled, found = np.int64(0), np.float64(0)
    for row in range(start, stop):
        n = entries.indptr[row + 1] - entries.indptr[row]
        if 0 < n <= LONG:
            sums = sum_row(entries.indptr[row], entries.indptr[row + 1], source, kp, batch, filled)
            facts[filled, OF_T], facts[filled, WEIGHT], facts[filled, OF_SQUARE] = sums
            batch.rows[filled] = row
            filled += 1
        if filled == WIDTH or (filled > 0 and (n > LONG or row == stop - 1)):
            found += _draw_batch(filled, *given, batch, facts, x, noise)
            filled = np.int64(0)
        if n > LONG:  # summed in the batch's memory
            found += _draw_exactly(row, *given, batch)
    return found


@inner
def _draw_batch(filled, entries, side, precisions, other, prior, chance, batch, facts, x, noise):
    """Draw the rows of the first slots; return the sum of tau S."""
    (k, kp), k4 = (side.factors.shape[1], other.factors.shape[1]), batch.right.shape[0] - 1
    _prepare(filled, k, kp, precisions, prior, chance, batch, facts)
    factor_lanes(batch, k4, kp)
    _move(filled, k, chance, batch, facts, noise)
    solve_lanes(batch, k4)
    return _finish(filled, kp, entries, side, precisions, other, prior, chance, batch, facts, x)


@jit
def _draw_exactly(row, entries, side, precisions, other, prior, chance, batch):
    """Draw one of the few rows that need float64; return tau S."""
    k, first, last = side.factors.shape[1], entries.indptr[row], entries.indptr[row + 1]
    gram, v, s = np.zeros((k, k)), np.zeros(k), np.zeros(k)
    if last - first > LONG:
        sum_long(first, last, entries, other.factors, other.bias, other.roots, batch, gram, v, s)
        for a in range(k):
            for b in range(a):
                gram[b, a] = gram[a, b]
    else:
        columns = entries.indices, entries.values, entries.weights
        accumulate(first, last, *columns, other.factors, other.bias, other.roots, gram, v, s)
    return draw_row(row, entries, side, precisions, other, prior, chance, gram, v, s)


@inner
def _square(table, kp, x):
    """Return x' L x, for L and x padded with zeros to whole vectors."""
    rows, own, total = simd.pointer(table, 0), simd.pointer(x, 0), np.float32(0)
    for f in range(0, kp, WIDTH):
        product = simd.zeros(1, 1)
        for a in range(table.shape[0]):
            product = simd.add_scaled(product, simd.element(own, a), simd.at(rows, a * kp + f))
        total += simd.dot(product, simd.load(1, 1, simd.at(own, f), 0))
    return np.float64(total)


@inner
def _prepare(filled, k, kp, precisions, prior, chance, batch, facts):
    """Add q times the prior to the sums of the first slots; ``facts`` keeps q."""
    for slot in range(filled):
        row = batch.rows[slot]
        q = 1.0 / (chance.alpha * np.float64(precisions[row]))
        line, bias_line = min(row, prior.pull.shape[0] - 1), min(row, prior.bias_pull.shape[0] - 1)
        d, total = facts[slot, WEIGHT] + q * prior.bias_precision, facts[slot, OF_T] + q * prior.bias_pull[bias_line]
        root, share = np.float32(math.sqrt(d)), np.float32(q)
        for a in range(k):
            batch.sums[slot, a] /= root
            batch.weighted[slot, a] += share * prior.pull[line, a]
        add_upper(share, prior.precision, simd.pointer(batch.grams, slot * batch.grams.shape[1]), kp)
        for a in range(k, batch.right.shape[0] - 1):  # the padding of the last block of 4: x = 0
            batch.grams[slot, a * kp + a] = 1
        batch.totals[slot] = batch.right[0, slot] = np.float32(total / math.sqrt(d))
        batch.roots[slot], facts[slot, Q] = root, q


@inner
def _move(filled, k, chance, batch, facts, noise):
    """Add noise between the two solves; ``facts`` keeps |U x|^2 and (U x) . (U'^-1 right-hand side)."""
    for slot in range(filled):
        key = key_of(chance.seed, chance.stream, np.uint64(batch.rows[slot]))
        deviation, square, product = math.sqrt(facts[slot, Q]), np.float64(0), np.float64(0)
        if chance.draw:
            normals(key, noise)
        for a in range(k):
            before = np.float64(batch.right[1 + a, slot])
            after = before + deviation * noise[a] if chance.draw else before
            batch.right[1 + a, slot] = after
            square += after * after
            product += after * before
        facts[slot, SQUARE], facts[slot, PRODUCT] = square, product


@inner
def _finish(filled, kp, entries, side, precisions, other, prior, chance, batch, facts, x):
    """Write the draws of the first slots; return the sum of tau S.

    Rows whose pivots are too small for float32 are drawn again, in float64.
    """
    k, found = side.factors.shape[1], np.float64(0)
    for slot in range(filled):
        row, growth, q = batch.rows[slot], np.float32(0), facts[slot, Q]
        for n in range(BLOCK):
            growth += batch.growth[n, slot]
        if not growth < SURE:  # NaN too
            found += _draw_exactly(row, entries, side, precisions, other, prior, chance, batch)
            continue
        key, line = key_of(chance.seed, chance.stream, np.uint64(row)), min(row, prior.pull.shape[0] - 1)
        root, sx, pulled = np.float64(batch.roots[slot]), np.float64(0), np.float64(0)
        for a in range(k):
            x[a] = batch.right[1 + a, slot]
            side.factors[row, a] = x[a]
            sx += np.float64(batch.sums[slot, a] * x[a])
            pulled += np.float64(prior.pull[line, a] * x[a])
        bias = (np.float64(batch.totals[slot]) - sx) / root
        if chance.draw:
            bias += math.sqrt(q) / root * normal(key, np.uint64(k))
        side.bias[row] = bias
        back = root if root < np.inf else 0.0  # without biases both sums are zero
        sx, d, total = sx * back, root * root, np.float64(batch.totals[slot]) * back
        square = facts[slot, SQUARE] - q * _square(prior.precision, kp, x)
        sums = facts[slot, WEIGHT], facts[slot, OF_T], facts[slot, OF_SQUARE]
        left = errors_left(sums, (bias, sx, square, facts[slot, PRODUCT]), d, total, q * pulled)
        n = mass_of(entries.indptr[row], entries.indptr[row + 1], entries.weights)
        found += redraw(row, n, left, key, k, precisions, chance)
    return found
