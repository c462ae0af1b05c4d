"""The ALS half-sweep on a GPU: what :mod:`fastmf.kernels.als` defines, one block of threads for a row.

A block goes through a row's entries BATCH at a time: their factors come into shared memory once, and every thread adds
a tile of a x b products to sums it keeps in registers. Tiles cover the lower triangle of sum y y' in squares of
``tile`` columns, those on the diagonal in full. The sums without the bias are then solved where they lie, in shared
memory, or for large k in a scratch of the block's own (:mod:`fastmf.kernels.ldl_cuda`).

Rows of more than SPLIT entries are cut into pieces, which blocks of their own sum first, so that no row keeps the card
waiting. As on the CPU, rows of more than LONG entries are summed and solved in float64, those with a pivot too small to
trust are solved again in float64, and singular ones once more with a jitter.

The floor for an H200 (about 60 TFLOP/s of float32 multiply-adds and 4.3 TB/s) on the 18 M training ratings of the
ml-20m twin: 40 GFLOP an epoch for k = 32, .7 ms, and 5 GB gathered, 1.2 ms from memory and less from the cache; 715
GFLOP for k = 128, 12 ms. This kernel issues whole squares for each rating: 1.9 times that for k = 32, 1.5 times for
k = 128. Its reads from shared memory take as long again at k = 32.
"""

import functools
import math
import weakref
from typing import NamedTuple

import numpy as np
from numba import cuda

from fastmf.kernels.als_plain import JITTER, LONG, SINGULAR, UNSURE
from fastmf.kernels.groups_cuda import MOST_BLOCKS, WARP, block_size, group_sum, inlined, kernel
from fastmf.kernels.ldl_cuda import at, factor, lift, packed, substitute

SMALL, LARGE = (32, 4, 8), (64, 8, 8)  # squares, and the tiles of a thread: 32 and 64 threads; 32 and 64 sums of each
SPLIT = 2048  # entries of a piece, for each square to a side: what it costs to add up pieces grows like that
SHARED = 46 << 10  # bytes of shared memory that any card gives a block, less a little
MOST_GROUPS = 6  # groups of threads in a block, each with a square of its own: more leave too few registers to each
SLOTS = 512  # blocks at a time that have a scratch of their own


class Layout(NamedTuple):
    """How a block is cut: everything that must be known when the kernel is compiled."""

    tile: int  # columns of a square
    a: int  # rows of a thread's tile of it
    b: int  # and columns
    tiles: int  # squares to a side
    groups: int  # of threads, one for each square at a time
    batch: int  # entries that are in shared memory at once
    kept: int  # elements of equations that are kept in shared memory; 1 for none
    wide: bool  # float64, not float32
    columns: int  # filled up to whole squares
    across: int  # threads of a group side by side: the columns of a thread's tile lie so far apart
    down: int  # and its rows
    threads: int
    each: int  # columns of a thread's own, to sum y and t y


@functools.cache
def layout(k, wide=False):
    """Choose the layout for k factors; in float64, registers hold half as many sums."""
    size = 8 if wide else 4
    tile, a, b = SMALL if wide or k <= SMALL[0] else LARGE
    tiles = -(-k // tile)
    columns, groups = tile * tiles, min(tiles * (tiles + 1) // 2, MOST_GROUPS)
    across, down = tile // b, tile // a
    threads = across * down * groups
    batch = min(16, SHARED // (3 * size * columns))
    need = size * (batch * (columns + 2) + 3 * columns + packed(columns)) + 4 * batch
    kept = packed(columns) if need <= SHARED else 1
    return Layout(tile, a, b, tiles, groups, batch, kept, wide, columns, across, down, threads, -(-columns // threads))


@inlined
def _square(turn, group, form):
    """Say which square a group of threads sums in a turn: (column of squares, row of squares, whether there is one)."""
    i, j = 0, turn * form.groups + group
    there = j < form.tiles * (form.tiles + 1) // 2
    while there and j >= form.tiles - i:
        j -= form.tiles - i
        i += 1
    return i, i + j, there


@inlined
def _fetch(batch, where, t, roots, start, size, entries, k, thread, form):
    """Bring some entries into shared memory, times the roots of their weights: factors, and what biases leave."""
    (indices, values, weights, y, bias), zero = entries, batch.dtype.type(0)
    cuda.syncthreads()
    for e in range(thread, size, form.threads):
        where[e] = indices[start + e]
        roots[e] = math.sqrt(t.dtype.type(weights[start + e])) if weights.shape[0] > 0 else t.dtype.type(1)
        t[e] = roots[e] * (t.dtype.type(values[start + e]) - t.dtype.type(bias[where[e]]))
    cuda.syncthreads()
    for e in range(thread // WARP, size, form.threads // WARP):
        for f in range(thread % WARP, form.columns, WARP):
            batch[e, f] = roots[e] * batch.dtype.type(y[where[e], f]) if f < k else zero
    cuda.syncthreads()


@inlined
def _add_columns(own_s, own_v, batch, t, roots, size, thread, form):
    """Add g y and g t y to the sums of a thread's columns; return the sum of g t."""
    total = t.dtype.type(0)
    for e in range(size):
        total += roots[e] * t[e]
        for f in range(form.each):
            if thread + f * form.threads < form.columns:
                value = batch[e, thread + f * form.threads]
                own_s[f] += roots[e] * value
                own_v[f] += t[e] * value
    return total


@inlined
def _add_square(sums, of_y, batch, size, corner, form):
    """Add the products of a thread's tile of a square, the corner being its first row and column in the batch."""
    of_c, of_r = np.uint64(corner[0]), np.uint64(corner[1])  # a signed index is tested for its sign
    for e in range(np.uint64(size)):
        for q in range(form.b):
            of_y[q] = batch[e, of_r + np.uint64(q * form.across)]
        for p in range(form.a):
            value = batch[e, of_c + np.uint64(p * form.down)]
            for q in range(form.b):
                sums[p * form.b + q] += value * of_y[q]


@inlined
def _keep_square(gram, sums, corner, k, form):
    """Write what of a thread's tile lies in the lower triangle."""
    for q in range(form.b):
        r = corner[1] + q * form.across
        start = at(r, corner[0])
        below = r - corner[0] if r < k else -1
        for p in range(form.a):
            if p * form.down <= below:
                gram[start + p * form.down] = sums[p * form.b + q]


@inlined
def _eliminate_bias(gram, s, total, weights, known, k, thread, form):
    """Take off what the bias takes off, and add B, rho to the diagonal and rho z; the right-hand side is row k."""
    (rho, share, row), (pull, base) = weights, known
    for r in range(k + 1):
        of_r = (total if r == k else s[r]) * share
        for c in range(thread, min(r + 1, k), form.threads):
            gram[at(r, c)] -= of_r * s[c]
            if r == c:
                gram[at(r, c)] += rho
            elif r == k and pull.shape[0] > 0:
                gram[at(r, c)] += rho * pull[row, c]
            if r < k and base.shape[0] > 0:
                gram[at(r, c)] += base[r, c]


@inlined
def _keep_columns(gram, own_s, own_v, s, k, thread, form):
    """Write s and the right-hand side."""
    for f in range(form.each):
        c = thread + f * form.threads
        if c < k:
            s[c] = own_s[f]
            gram[at(k, c)] = own_v[f]


@inlined
def _add_pieces(gram, s, partial, pieces, n_pieces, k, thread, form):
    """Add up in float64 what blocks have summed for the pieces of a row; return the sum of t."""
    total = np.float64(0)
    for piece in range(pieces, pieces + n_pieces):
        total += partial[piece, at(k, k)]
    for f in range(thread, at(k, k) + 1 + k, form.threads):
        value = np.float64(0)
        for piece in range(pieces, pieces + n_pieces):
            value += partial[piece, f]
        if f < at(k, k):
            gram[f] = gram.dtype.type(value)
        elif f > at(k, k):
            s[f - at(k, k) - 1] = gram.dtype.type(value)
    cuda.syncthreads()
    return gram.dtype.type(total)


@inlined
def _keep_piece(partial, place, gram, s, total, k, thread, form):
    """Write the sums of a piece of a row for the block that will solve it."""
    for f in range(thread, at(k, k), form.threads):
        partial[place, f] = gram[f]
    for f in range(thread, k, form.threads):
        partial[place, at(k, k) + 1 + f] = s[f]
    if thread == 0:
        partial[place, at(k, k)] = total


@inlined
def _sum_entries(desk, own, gram, piece, entries, k, thread, form):
    """Sum g y y', g t y and g y over the entries of a row, or of a piece of one; return the sum of g t."""
    (batch, where, t, roots, s), (sums, of_y, own_s, own_v) = desk, own
    total, zero = batch.dtype.type(0), batch.dtype.type(0)
    group, lane = thread // (form.across * form.down), thread % (form.across * form.down)
    for f in range(form.each):
        own_s[f] = own_v[f] = zero
    for turn in range((form.tiles * (form.tiles + 1) // 2 + form.groups - 1) // form.groups):
        i, j, there = _square(turn, group, form)
        corner = i * form.tile + lane // form.across, j * form.tile + lane % form.across
        for f in range(form.a * form.b):
            sums[f] = zero
        for start in range(piece[0], piece[1], form.batch):
            size = min(form.batch, piece[1] - start)
            _fetch(batch, where, t, roots, start, size, entries, k, thread, form)
            if turn == 0:
                total += _add_columns(own_s, own_v, batch, t, roots, size, thread, form)
            if there:
                _add_square(sums, of_y, batch, size, corner, form)
        if turn == 0:
            _keep_columns(gram, own_s, own_v, s, k, thread, form)
        if there:
            _keep_square(gram, sums, corner, k, form)
    cuda.syncthreads()
    return total


@inlined
def _solve(gram, s, inverse, diagonal, total, rules, k, thread, form):
    """Solve a row's equations into ``diagonal``; return whether that went well, and the total less s . x."""
    lift(gram, diagonal, k, gram.dtype.type(rules[4]), thread, form)
    if not factor(gram, k, inverse, diagonal, gram.dtype.type(rules[3]), thread, form):
        return False, total
    return True, substitute(gram, k, inverse, diagonal, s, total, thread, form)


@inlined
def _write(which, found, solution, x, b, failed, thread, form):
    """Write a row's factors and bias, or its place among those that could not be solved."""
    (row, place), (solved, bias) = which, found
    if solved:
        for f in range(thread, x.shape[1], form.threads):
            x[row, f] = solution[f]
    if thread == 0:
        if solved:
            b[row] = bias
        else:
            failed[1 + cuda.atomic.add(failed, 0, 1)] = place


@functools.cache
def compiled(form):
    """Compile the kernel for a layout.

    It takes pieces of rows (row, first entry, last, and where the sums of its pieces begin, or -1), and either keeps
    their sums in ``partial`` or solves the rows; those it cannot solve it names in ``failed``, after their number.
    weights of entries and mass of rows, their sums, are empty where all entries count the same. rules are reg, reg0,
    bias_reg, the smallest share of its diagonal that a pivot may be, and the jitter.
    """
    number = np.float64 if form.wide else np.float32
    n_batch, n_columns, n_sums = form.batch, form.columns, form.a * form.b
    n_b, n_each, n_kept = form.b, form.each, form.kept

    @kernel(form.threads)
    def half_sweep(work, indices, values, weights, mass, y, c, x, b, pull, base, rules, partial, keep, scratch, failed):
        batch = cuda.shared.array((n_batch, n_columns), number)  # a line each, by which the simulator tells them apart
        where = cuda.shared.array(n_batch, np.int32)
        t = cuda.shared.array(n_batch, number)
        roots = cuda.shared.array(n_batch, number)
        s = cuda.shared.array(n_columns, number)
        inverse = cuda.shared.array(n_columns, number)
        diagonal = cuda.shared.array(n_columns, number)
        shared = cuda.shared.array(n_kept, number)
        sums, of_y = cuda.local.array(n_sums, number), cuda.local.array(n_b, number)
        own_s, own_v = cuda.local.array(n_each, number), cuda.local.array(n_each, number)
        thread, k = cuda.threadIdx.x, x.shape[1]
        gram = shared if n_kept > 1 else scratch[cuda.blockIdx.x]
        for place in range(cuda.blockIdx.x, work.shape[0], cuda.gridDim.x):
            row, piece, pieces = work[place, 0], (work[place, 1], work[place, 2]), work[place, 3]
            n = piece[1] - piece[0]
            count = mass[row] if mass.shape[0] > 0 else np.float64(n)
            rho, share = number(rules[0] * count + rules[1]), number(1 / (count + rules[2]))
            cuda.syncthreads()
            if pieces < 0:
                desk, own = (batch, where, t, roots, s), (sums, of_y, own_s, own_v)
                total = _sum_entries(desk, own, gram, piece, (indices, values, weights, y, c), k, thread, form)
            else:
                n_pieces = (n + SPLIT * form.tiles - 1) // (SPLIT * form.tiles)
                total = _add_pieces(gram, s, partial, pieces, n_pieces, k, thread, form)
            if keep:
                _keep_piece(partial, place, gram, s, total, k, thread, form)
                continue
            _eliminate_bias(gram, s, total, (rho, share, row), (pull, base), k, thread, form)
            cuda.syncthreads()
            solved, rest = _solve(gram, s, inverse, diagonal, total, rules, k, thread, form)
            _write((row, place), (solved, rest * share), diagonal, x, b, failed, thread, form)

    return half_sweep


class Batch(NamedTuple):
    """Rows to be solved in one way, those of most entries first; all but form and rows is on the card."""

    form: Layout
    rows: np.ndarray  # (n, 4) int64: row, first entry, last, first piece or -1
    work: object  # the same
    pieces: object  # (n, 4) int64: the same of the pieces of rows of many entries, which are not cut any further
    partial: object  # (n pieces, …): their sums
    scratch: object  # (blocks, …): equations that do not fit into shared memory
    failed: object  # (1 + n,) int64: how many rows were not solved, and which


_schedules: dict[int, dict[int, list[Batch]]] = {}


def _schedule(indptr, k):
    """Cut the rows of entries that are on the card; done once for them and k, and forgotten with them."""
    key = id(indptr)
    if key not in _schedules:
        weakref.finalize(indptr, _schedules.pop, key, None)
    own = _schedules.setdefault(key, {})
    if k not in own:
        ends = indptr.copy_to_host()
        parts = (layout(k, True), LONG, np.inf), (layout(k), 0, LONG)
        own[k] = [_batch(form, k, *cut(ends, SPLIT * form.tiles, low, high)) for form, low, high in parts]
    return own[k]


def _batch(form, k, rows, pieces=None):
    """Bring rows to the card, and make room for what comes of them."""
    pieces = rows[:0] if pieces is None else pieces
    number = np.float64 if form.wide else np.float32
    partial = cuda.device_array((max(len(pieces), 1), packed(k) + k), number)
    shape = (1, 1) if form.kept > 1 else (max(min(len(rows), SLOTS), 1), packed(form.columns))
    failed = cuda.to_device(np.zeros(1 + len(rows), np.int64))
    on_card = cuda.to_device(rows), cuda.to_device(pieces)
    return Batch(form, rows, *on_card, partial, cuda.device_array(shape, number), failed)


def cut(indptr, most, low=0, high=np.inf):
    """Order rows by falling number of entries, and cut those of more than ``most`` into pieces of so many.

    Returns
    -------
    rows (n, 4) and pieces (n_pieces, 4), int64, for the rows of more than ``low`` and at most ``high`` entries: row,
    first entry, last, and the row's first piece or -1.
    """
    counts = np.diff(indptr)
    order = np.argsort(-counts, kind="stable")
    order = order[(counts[order] > low) & (counts[order] <= high)]
    rows = np.column_stack([order, indptr[order], indptr[order + 1], np.full(len(order), -1)]).astype(np.int64)
    n_pieces = np.where(counts[order] > most, -(-counts[order] // most), 0)
    long = np.flatnonzero(n_pieces)
    rows[long, 3] = np.cumsum(n_pieces[long]) - n_pieces[long]
    pieces = rows[np.repeat(long, n_pieces[long])]
    pieces[:, 1] += (np.arange(len(pieces)) - pieces[:, 3]) * most
    pieces[:, 2] = np.minimum(pieces[:, 1] + most, pieces[:, 2])
    pieces[:, 3] = -1
    return rows, pieces


def half_sweep_cuda(tasks, entries, side, other, penalty, known):
    """Solve the rows of ``side`` on the card that they are on; see :func:`fastmf.kernels.als.half_sweep_numpy`."""
    k = side.factors.shape[1]
    given = entries.indices, entries.values, *weights_of(entries), *other, *side, *known

    def run(batch, work, keep, smallest=0.0, jitter=0.0):
        form = batch.form
        blocks = work.shape[0] if form.kept > 1 else min(work.shape[0], batch.scratch.shape[0])
        rules = cuda.to_device(np.array([*penalty, smallest, jitter], np.float64))
        compiled(form)[blocks, form.threads](work, *given, rules, batch.partial, keep, batch.scratch, batch.failed)

    def solve(batch, jitter=0.0):
        if not len(batch.rows):
            return batch.rows
        if batch.pieces.shape[0]:
            run(batch, batch.pieces, True)
        batch.failed[:1].copy_to_device(np.zeros(1, np.int64))
        run(batch, batch.work, False, SINGULAR if batch.form.wide else UNSURE, jitter)
        n = int(batch.failed[:1].copy_to_host()[0])
        left = batch.rows[np.sort(batch.failed[1 : 1 + n].copy_to_host())] if n else batch.rows[:0]
        return np.column_stack([left[:, :3], np.full(len(left), -1)])  # to be solved from their entries

    left = np.concatenate([solve(batch) for batch in _schedule(entries.indptr, k)])
    left = solve(_batch(layout(k, True), k, left)) if len(left) else left
    singular = len(left)
    left = solve(_batch(layout(k, True), k, left), JITTER) if len(left) else left
    for row in left[:, 0]:
        side.factors[row : row + 1].copy_to_device(np.full((1, k), np.nan, np.float32))
        side.bias[row : row + 1].copy_to_device(np.full(1, np.nan, np.float32))
    return np.array([singular], np.int64)


@cuda.jit
def _add_weights(indptr, weights, masses):
    lane = cuda.threadIdx.x % WARP
    for row in range(cuda.grid(1) // WARP, masses.shape[0], cuda.gridsize(1) // WARP):
        mass = np.float64(0)
        for j in range(indptr[row] + lane, indptr[row + 1], WARP):
            mass += weights[j]
        mass = group_sum(mass, WARP)
        if lane == 0:
            masses[row] = mass


def weights_of(entries):
    """Give the weights of entries and, float64, what those of each row add up to; empty arrays where there are none."""
    if entries.weights is None:
        return cuda.device_array(0, np.float32), cuda.device_array(0, np.float64)
    n_rows, threads = entries.indptr.shape[0] - 1, block_size(WARP)
    masses = cuda.device_array(n_rows, np.float64)
    _add_weights[max(min(-(-n_rows * WARP // threads), MOST_BLOCKS), 1), threads](
        entries.indptr, entries.weights, masses
    )
    return entries.weights, masses


@cuda.jit
def _extrapolate(now, before, ahead, beta, k):
    for t in range(cuda.grid(1), now.shape[0], cuda.gridsize(1)):
        value = now[t]
        ahead[t // k, t % k] = (value - before[t]) * beta + value
        before[t] = value


def extrapolate_cuda(tasks, now, before, ahead, momentum):
    """Move a side on; see :func:`fastmf.kernels.als.extrapolate_numpy`."""
    for new, old, target in zip(now, before, ahead, strict=True):
        k, threads = 1 if len(new.shape) == 1 else new.shape[1], block_size(WARP)
        blocks = max(min(-(-new.size // threads), MOST_BLOCKS), 1)
        lines = target.reshape(target.shape[0], -1)
        _extrapolate[blocks, threads](new.reshape(-1), old.reshape(-1), lines, np.float32(momentum), k)
    return np.diff(tasks)
