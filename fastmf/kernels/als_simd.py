"""The ALS half-sweep in vectors, WIDTH rows at a time; see :mod:`fastmf.kernels.als`.

1. Gram matrices, one row after another: the upper triangle of sum y y' in panels of two vectors of columns. A panel is
   summed in passes over a block of the row's ratings that stays in the L1 cache. Each pass holds a tile of the panel in
   registers and reads the factors where they are. Above the diagonal, tiles are rectangles; on it they are cut so that
   little is computed twice. The first pass prefetches the rows of later ratings.
2. A border eliminates the bias: with s / sqrt(d) as one more row on top of the factor U, the Cholesky recursion itself
   subtracts s s'/d from the matrix and s T/d from the right-hand side.
3. WIDTH matrices are loaded, one per lane, and factored and solved at once: the upper triangle in blocks of 4 x 4,
   left-looking (Golub and Van Loan, section 4.2).

Rows with few entries take none of these steps: :mod:`fastmf.kernels.als_dual` solves them, one after another.

The lanes do not mix and a row's sums do not depend on its neighbours: any cut into tasks gives the same bits.
"""

from typing import NamedTuple

import numpy as np

from fastmf.kernels import lanes, simd
from fastmf.kernels.als_dual import SHORT, solve_short
from fastmf.kernels.als_plain import JITTER, LONG, SINGULAR, UNSURE, accumulate, fail, finish, mass_of
from fastmf.kernels.compile import inner, jit
from fastmf.kernels.lanes import BLOCK
from fastmf.kernels.region import region, taken
from fastmf.kernels.vectors import LINE, WIDTH, aligned

PANEL = 2 * WIDTH
# Rows of the tiles: 24 sums of 16 lanes, 12 of 8, which leaves registers for the factors.
TOP, MIDDLE, SQUARE = 3 * WIDTH // 4, WIDTH // 4, WIDTH // 2

CACHED = 1 << 12  # floats of a block of ratings' factors, which several passes read: half an L1 cache
FEWEST = 32  # ratings of a block at least, or loading and storing the tiles would take longer than summing
AHEAD = 16  # ratings between the prefetch of a row and its use
SURE = np.float32(1 / UNSURE)
CHUNK = 1 << 7  # ratings of a long row that are summed in float32 before they are added up in float64


class Batch(NamedTuple):
    """The equations of WIDTH rows, one per slot, and scratch to solve them; kp is k rounded up to a multiple of WIDTH.

    rows (WIDTH,) int64; grams (WIDTH, kp * kp + LINE), the upper triangles, at a stride that keeps slots out of each
    other's cache sets; sums, weighted (WIDTH, kp), sum y / sqrt(d) and sum t y; totals, roots (WIDTH,), sum t / sqrt(d)
    and sqrt(d). In lanes: upper (1 + k4, k4 + BLOCK, WIDTH), the border and U, at such a stride too; right (1 + k4,
    WIDTH), the right-hand side and then x; growth (BLOCK, WIDTH), sums of diagonal element / pivot, large if the pivots
    are small.
    """

    rows: np.ndarray
    grams: np.ndarray
    sums: np.ndarray
    weighted: np.ndarray
    totals: np.ndarray
    roots: np.ndarray
    upper: np.ndarray
    right: np.ndarray
    growth: np.ndarray


@jit
def new_batch(k, kp):
    """Allocate a Batch."""
    k4 = (k + BLOCK - 1) // BLOCK * BLOCK
    step, height = (k4 + BLOCK) * WIDTH, 1 + k4
    room = aligned(
        WIDTH * (kp * kp + LINE) + 2 * WIDTH * kp + 2 * WIDTH + height * (step + WIDTH) + BLOCK * WIDTH + 8 * LINE
    )
    grams, end = _cut(room, 0, (WIDTH, kp * kp + LINE))
    sums, end = _cut(room, end, (WIDTH, kp))
    weighted, end = _cut(room, end, (WIDTH, kp))
    totals, end = _cut(room, end, (WIDTH,))
    roots, end = _cut(room, end, (WIDTH,))
    upper, end = _cut(room, end, (height, k4 + BLOCK, WIDTH))
    right, end = _cut(room, end, (height, WIDTH))
    growth, end = _cut(room, end, (BLOCK, WIDTH))
    return Batch(np.zeros(WIDTH, np.int64), grams, sums, weighted, totals, roots, upper, right, growth)


@jit
def _cut(room, start, shape):
    """Return the array of a shape that starts at an element of ``room``, and where the next one may start."""
    size = 1
    for n in shape:
        size *= n
    return room[start : start + size].reshape(shape), start + (size + LINE - 1) // LINE * LINE


@region(allocates=True)
def half_sweep(share, entries, side, other, penalty, known):
    """Solve the rows of ``side`` with ``other`` fixed; factors of ``other`` are padded with zeros to whole vectors.

    A thread's batch is filled from task to task, because the lanes do not mix.
    """
    (k, kp), given = (side.factors.shape[1], other.factors.shape[1]), (entries, side, other, penalty, known)
    batch, source = new_batch(k, kp), source_of(entries, other.factors, other.bias, None)
    filled = np.int64(0)
    for task in taken(share):
        filled = _solve_task(task, filled, share, *given, source, batch)
    if filled > 0:
        _solve_batch(filled, share, *given, batch)


@inner
def _solve_task(task, filled, share, entries, side, other, penalty, known, source, batch):
    """Solve the rows of a task, but for those left in the batch; return how many these are."""
    given = entries, side, other, penalty, known
    for row in range(share.tasks[task], share.tasks[task + 1]):
        n = entries.indptr[row + 1] - entries.indptr[row]
        if 0 < n <= other.factors.shape[1] // SHORT and solve_short(row, filled, *given, batch):
            continue
        if 0 < n <= LONG:
            _enter(row, filled, *given, source, batch)
            filled += 1
        if filled == WIDTH or (filled > 0 and n > LONG):  # long rows are summed in the batch's memory
            _solve_batch(filled, share, *given, batch)
            filled = 0
        if n > LONG:
            share.found[task] += _solve_exactly(row, *given, batch)
    return filled


@inner(inline=True)
def _enter(row, slot, entries, side, other, penalty, known, source, batch):
    """Write a row's equations into a slot of the batch."""
    (k, kp), first, last = (side.factors.shape[1], other.factors.shape[1]), entries.indptr[row], entries.indptr[row + 1]
    total, _, _ = sum_row(first, last, source, kp, batch, slot)
    mass = np.float32(mass_of(first, last, entries.weights))
    root = np.sqrt(mass + np.float32(penalty.bias_reg))
    rho = np.float32(penalty.reg) * mass + (np.float32(penalty.reg0) + np.float32(penalty.root_reg) * np.sqrt(mass))
    for a in range(k):
        batch.grams[slot, a * kp + a] += rho
        batch.sums[slot, a] /= root
    if known.pull.shape[0] > 0:
        for a in range(k):
            batch.weighted[slot, a] += rho * known.pull[row, a]
    if known.base.shape[0] > 0:
        add_upper(np.float32(1), known.base, simd.pointer(batch.grams, slot * batch.grams.shape[1]), kp)
    for a in range(k, batch.right.shape[0] - 1):  # the padding of the last block of 4: x = 0
        batch.grams[slot, a * kp + a] = 1
    if known.bias.shape[0] > 0:
        total += np.float32(penalty.bias_reg) * known.bias[row]
    batch.totals[slot] = batch.right[0, slot] = total / root
    batch.roots[slot], batch.rows[slot] = root, row


@inner(inline=True)
def _solve_batch(filled, share, entries, side, other, penalty, known, batch):
    """Solve the first slots. Rows whose pivots are too small for float32 are solved again, in float64."""
    x, k = side.factors, side.factors.shape[1]
    k4 = batch.right.shape[0] - 1
    factor_lanes(batch, k4, other.factors.shape[1])
    solve_lanes(batch, k4)
    for slot in range(filled):
        row, growth, dot = batch.rows[slot], np.float32(0), np.float32(0)
        for n in range(BLOCK):
            growth += batch.growth[n, slot]
        if growth < SURE:  # NaN is not
            for a in range(k):
                x_a = batch.right[1 + a, slot]
                x[row, a] = x_a
                dot += batch.sums[slot, a] * x_a
            side.bias[row] = (batch.totals[slot] - dot) / batch.roots[slot]
        else:
            task = np.searchsorted(share.tasks, row, side="right") - 1
            share.found[task] += _solve_exactly(row, entries, side, other, penalty, known, batch)


@jit
def _solve_exactly(row, entries, side, other, penalty, known, batch):
    """Solve one of the few rows that need float64; return whether its equations are singular."""
    k, first, last = side.factors.shape[1], entries.indptr[row], entries.indptr[row + 1]
    mass, columns = mass_of(first, last, entries.weights), (entries.indices, entries.values, entries.weights)
    for jitter in (0.0, JITTER):
        gram, v, s = np.zeros((k, k)), np.zeros(k), np.zeros(k)
        if last - first > LONG:
            total = sum_long(first, last, entries, other.factors, other.bias, None, batch, gram, v, s)
        else:
            total = accumulate(first, last, *columns, other.factors, other.bias, None, gram, v, s)
        if finish(row, mass, total, side, penalty, known, gram, v, s, SINGULAR, jitter):
            return jitter > 0
    fail(row, side)
    return True


@inner
def _add_top(first, last, source, fresh, kp, column, gram, sums):
    """Add to the first TOP rows of the panel at ``column`` and to its part of sum y; prefetch."""
    indices, _, weights, y, _, roots, end = source
    tile, total = simd.zeros(TOP, 2), simd.zeros(1, 2)
    if not fresh:
        tile, total = simd.load(TOP, 2, gram, kp), simd.load(1, 2, sums, 0)
    for j in range(first, last):
        ahead = np.int64(simd.element(indices, min(j + AHEAD, end))) * kp + column
        simd.prefetch(2, y, ahead)
        i, g = np.int64(simd.element(indices, j)), simd.element_or_one(weights, j)
        row = simd.pointer(y, i * kp + column)
        tile = simd.add_scaled_outer(tile, g, row, row)
        total = simd.add_scaled(total, g * simd.element_or_one(roots, i), row)
    simd.store(tile, gram, kp)
    simd.store(total, sums, 0)


@inner
def _add_bottom(first, last, source, fresh, kp, column, gram, weighted):
    """Add to the other rows of the panel at ``column`` and to its part of sum t y; return what :func:`sum_row` does."""
    indices, values, weights, y, c, roots, _ = source
    middle, corner, scaled = simd.zeros(MIDDLE, 2), simd.zeros(WIDTH, 1), simd.zeros(1, 2)
    middle_at, corner_at = simd.at(gram, TOP * kp), simd.at(gram, WIDTH * kp + WIDTH)
    if not fresh:
        middle, corner = simd.load(MIDDLE, 2, middle_at, kp), simd.load(WIDTH, 1, corner_at, kp)
        scaled = simd.load(1, 2, weighted, 0)
    total = weight = square = zero = np.float32(0)
    for j in range(first, last):
        i, g = np.int64(simd.element(indices, j)), simd.element_or_one(weights, j)
        root, t = simd.element_or_one(roots, i), simd.element(values, j) - simd.element(c, i)
        t = simd.either(roots, root * t, t)
        square += simd.either(roots, g * t * t, zero)
        t *= g
        total += simd.either(roots, root * t, t)
        weight += simd.either(roots, g * root * root, zero)
        row = simd.pointer(y, i * kp + column)
        middle = simd.add_scaled_outer(middle, g, simd.at(row, TOP), row)
        corner = simd.add_scaled_outer(corner, g, simd.at(row, WIDTH), simd.at(row, WIDTH))
        scaled = simd.add_scaled(scaled, t, row)
    simd.store(middle, middle_at, kp)
    simd.store(corner, corner_at, kp)
    simd.store(scaled, weighted, 0)
    return total, weight, square


@inner
def _add_square(first, last, source, fresh, kp, row_at, column, gram):
    """Add to SQUARE rows above the diagonal part of the panel at ``column``."""
    indices, _, weights, y, _, _, _ = source
    tile = simd.zeros(SQUARE, 2)
    if not fresh:
        tile = simd.load(SQUARE, 2, gram, kp)
    for j in range(first, last):
        row, g = simd.pointer(y, np.int64(simd.element(indices, j)) * kp), simd.element_or_one(weights, j)
        tile = simd.add_scaled_outer(tile, g, simd.at(row, row_at), simd.at(row, column))
    simd.store(tile, gram, kp)


@inner
def _add_half_panel(first, last, source, fresh, kp, gram, sums, weighted):
    """Add to the first WIDTH rows and columns, for an odd number of vectors; return what :func:`sum_row` does."""
    indices, values, weights, y, c, roots, end = source
    tile, total, scaled = simd.zeros(WIDTH, 1), simd.zeros(1, 1), simd.zeros(1, 1)
    if not fresh:
        tile, total, scaled = simd.load(WIDTH, 1, gram, kp), simd.load(1, 1, sums, 0), simd.load(1, 1, weighted, 0)
    of_t = weight = square = zero = np.float32(0)
    for j in range(first, last):
        simd.prefetch(1, y, np.int64(simd.element(indices, min(j + AHEAD, end))) * kp)
        i, g = np.int64(simd.element(indices, j)), simd.element_or_one(weights, j)
        root, t = simd.element_or_one(roots, i), simd.element(values, j) - simd.element(c, i)
        t = simd.either(roots, root * t, t)
        square += simd.either(roots, g * t * t, zero)
        t *= g
        of_t += simd.either(roots, root * t, t)
        weight += simd.either(roots, g * root * root, zero)
        row = simd.pointer(y, i * kp)
        tile = simd.add_scaled_outer(tile, g, row, row)
        total = simd.add_scaled(total, g * root, row)
        scaled = simd.add_scaled(scaled, t, row)
    simd.store(tile, gram, kp)
    simd.store(total, sums, 0)
    simd.store(scaled, weighted, 0)
    return of_t, weight, square


@inner
def sum_row(first, last, source, kp, batch, slot):
    """Write the upper triangle of sum g y y', sum g y and sum g t y over one row's entries into a slot.

    Returns sum g t, and sum g and sum g t^2 if columns have weights, else zeros.
    """
    n, total, weight, square = last - first, np.float32(0), np.float32(0), np.float32(0)
    gram = simd.pointer(batch.grams, slot * batch.grams.shape[1])
    sums, weighted = simd.pointer(batch.sums, slot * kp), simd.pointer(batch.weighted, slot * kp)
    n_blocks = (n - 1) // max(CACHED // kp, FEWEST) + 1
    odd = kp % PANEL
    for block in range(n_blocks):
        start, stop = first + n * block // n_blocks, first + n * (block + 1) // n_blocks
        fresh = block == 0
        more = np.float32(0), np.float32(0), np.float32(0)
        if odd:
            more = _add_half_panel(start, stop, source, fresh, kp, gram, sums, weighted)
        for column in range(odd, kp, PANEL):
            corner = simd.at(gram, column * kp + column)
            _add_top(start, stop, source, fresh, kp, column, corner, simd.at(sums, column))
            more = _add_bottom(start, stop, source, fresh, kp, column, corner, simd.at(weighted, column))
            for row in range(0, column, SQUARE):
                corner = simd.at(gram, row * kp + column)
                _add_square(start, stop, source, fresh, kp, row, column, corner)
        total += more[0]
        weight += more[1]
        square += more[2]
    return total, weight, square


@inner
def factor_lanes(batch, k4, kp):
    """Factor the matrices of all lanes, and solve U' h = right on the way."""
    step, line = (k4 + BLOCK) * WIDTH, batch.grams.shape[1]
    grams, weighted, sums = simd.pointer(batch.grams, 0), simd.pointer(batch.weighted, 0), simd.pointer(batch.sums, 0)
    upper, right = simd.pointer(batch.upper, 0), simd.pointer(batch.right, 0)
    growth = simd.zeros(BLOCK, 1)
    for row in range(0, k4, BLOCK):
        simd.store(lanes.load_lanes(1, simd.at(sums, row), kp, 0), simd.at(upper, row * WIDTH), 0)
    for row in range(0, k4, BLOCK):
        above = simd.at(upper, row * WIDTH)
        tile = lanes.load_lanes(BLOCK, simd.at(grams, row * kp + row), line, kp)
        x = lanes.column(lanes.load_lanes(1, simd.at(weighted, row), kp, 0))
        before = lanes.diagonal(tile)
        for m in range(1 + row):
            u = simd.at(above, m * step)
            tile = lanes.subtract_products(tile, u, u)
            x = lanes.subtract_products(x, u, simd.at(right, m * WIDTH))
        tile = lanes.factor(tile)
        inverse = lanes.diagonal(tile)
        growth = simd.multiply_add(growth, simd.multiply_add(simd.zeros(BLOCK, 1), inverse, inverse), before)
        simd.store(tile, simd.at(above, (1 + row) * step), step)
        simd.store(lanes.solve_lower(tile, x), simd.at(right, (1 + row) * WIDTH), WIDTH)
        for column in range(row + BLOCK, k4, BLOCK):
            beside = simd.at(upper, column * WIDTH)
            other = lanes.load_lanes(BLOCK, simd.at(grams, row * kp + column), line, kp)
            for m in range(1 + row):
                other = lanes.subtract_products(other, simd.at(above, m * step), simd.at(beside, m * step))
            simd.store(lanes.solve_lower(tile, other), simd.at(beside, (1 + row) * step), step)
    simd.store(growth, simd.pointer(batch.growth, 0), WIDTH)


@inner
def solve_lanes(batch, k4):
    """Solve U x = right, in place."""
    step = (k4 + BLOCK) * WIDTH
    upper, right = simd.pointer(batch.upper, step), simd.pointer(batch.right, WIDTH)
    for row in range(k4 - BLOCK, -1, -BLOCK):
        here = simd.at(right, row * WIDTH)
        u = simd.load(BLOCK, BLOCK, simd.at(upper, row * step + row * WIDTH), step)
        x = lanes.solve_upper(u, simd.load(BLOCK, 1, here, WIDTH))
        simd.store(x, here, WIDTH)
        for above in range(0, row, BLOCK):
            there = simd.at(right, above * WIDTH)
            u = simd.load(BLOCK, BLOCK, simd.at(upper, above * step + row * WIDTH), step)
            simd.store(lanes.subtract_dots(simd.load(BLOCK, 1, there, WIDTH), u, x), there, WIDTH)


@inner
def source_of(entries, factors, bias, roots):
    """Return pointers to the terms of the rows' sums, and the index of the last entry, at which prefetches stop.

    roots are those of :func:`fastmf.kernels.als_plain.accumulate`, or None.
    """
    end = np.int64(entries.indices.shape[0] - 1)
    columns = simd.pointer(entries.indices, 0), simd.pointer(entries.values, 0), simd.pointer(entries.weights, 0)
    return *columns, simd.pointer(factors, 0), simd.pointer(bias, 0), simd.pointer(roots, 0), end


@inner
def add_upper(share, table, gram, kp):
    """Add a share of a table (kp, kp) to the squares of WIDTH x WIDTH on and above the diagonal of a matrix."""
    there = simd.pointer(table, 0)
    for column in range(0, kp, WIDTH):
        for square in range(column, (column + WIDTH) * kp, WIDTH * kp):
            left = simd.load(WIDTH, 1, simd.at(gram, square), kp)
            right = simd.load(WIDTH, 1, simd.at(there, square), kp)
            simd.store(simd.weighted_sum(np.float32(1), left, share, right), simd.at(gram, square), kp)


@inner
def sum_long(first, last, entries, factors, bias, roots, batch, gram, v, s):
    """Sum a long row: each chunk in float32, and the chunks' sums in float64; return sum g t."""
    k, kp, total = v.shape[0], factors.shape[1], np.float64(0)
    source = source_of(entries, factors, bias, roots)
    for start in range(first, last, CHUNK):
        total += sum_row(start, min(start + CHUNK, last), source, kp, batch, 0)[0]
        for a in range(k):
            v[a] += batch.weighted[0, a]
            s[a] += batch.sums[0, a]
            for column in range(a, k):
                gram[column, a] += batch.grams[0, a * kp + column]
    return total
