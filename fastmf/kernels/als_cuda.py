"""The ALS half-sweep on a GPU: what :mod:`fastmf.kernels.als` defines, one block of threads per row.

A block reads a row's entries in batches. It brings their factors into shared memory once, and every thread adds a tile
of a x b products to the sums in its registers. Tiles cover the lower triangle of sum y y' in squares of ``tile``
columns; squares on the diagonal are summed in full. The block then solves the row's equations in place, in shared
memory or, for large k, in scratch memory (:mod:`fastmf.kernels.ldl_cuda`).

Rows of more than SPLIT entries are cut into pieces, which separate blocks sum first, so that no row keeps the GPU
waiting. As on the CPU, rows of more than LONG entries are summed and solved in float64. Rows with a pivot too small to
trust are solved again in float64, and singular ones once more with a jitter.

The floor for an H200 (about 60 TFLOP/s of float32 multiply-adds and 4.3 TB/s) on the 18 M training ratings of the
ml-20m twin: for k = 32, an epoch is 40 GFLOP (.7 ms) and 5 GB gathered (1.2 ms from memory, less from the cache); for
k = 128, 715 GFLOP (12 ms). This kernel multiplies whole squares: 1.9 times as many products for k = 32, 1.5 times
as many for k = 128. At k = 32 its reads from shared memory take as long as its products.
"""

import functools
import math
import weakref
from typing import NamedTuple

import numpy as np
from numba import cuda

from fastmf.kernels.als_plain import JITTER, LONG, SINGULAR, UNSURE
from fastmf.kernels.groups_cuda import WARP, grid, group_sum, inlined, kernel
from fastmf.kernels.ldl_cuda import at, factor, lift, packed, substitute

SMALL, LARGE = (32, 4, 8), (64, 8, 8)  # tile, a and b of a Layout: 32 and 64 threads of 32 and 64 sums each
SPLIT = 2048  # entries of a piece, times the squares to a side, as is the cost of adding up pieces
SHARED = 46 << 10  # bytes of shared memory that any GPU gives a block, less a little
MOST_GROUPS = 6  # groups of threads in a block, each with its own square: more leave too few registers to each
SLOTS = 512  # blocks that have scratch memory


class Layout(NamedTuple):
    """How a block is cut: everything that must be known when the kernel is compiled."""

    tile: int  # columns of a square
    a: int  # rows of a thread's tile
    b: int  # columns of a thread's tile
    tiles: int  # squares to a side
    groups: int  # groups of threads; each sums one square at a time
    batch: int  # entries in shared memory at once
    kept: int  # elements of the equations in shared memory; 1 if they are in scratch memory
    wide: bool  # float64 instead of float32
    columns: int  # k, rounded up to whole squares
    across: int  # threads of a group side by side: the distance between the columns of a thread's tile
    down: int  # the distance between the rows of a thread's tile
    threads: int
    each: int  # columns whose sums of y and t y a thread keeps


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
    """Return the square that a group sums in a turn: its column, its row, and whether there is one."""
    i, j = 0, turn * form.groups + group
    there = j < form.tiles * (form.tiles + 1) // 2
    while there and j >= form.tiles - i:
        j -= form.tiles - i
        i += 1
    return i, i + j, there


@inlined
def _fetch(batch, where, t, roots, start, size, entries, k, thread, form):
    """Bring entries into shared memory: factors and t = value - bias, both times the roots of the weights."""
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
    """Add the products of a thread's tile; ``corner`` is its first row and column in the batch."""
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
    """Write the part of a thread's tile that lies in the lower triangle."""
    for q in range(form.b):
        r = corner[1] + q * form.across
        start = at(r, corner[0])
        below = r - corner[0] if r < k else -1
        for p in range(form.a):
            if p * form.down <= below:
                gram[start + p * form.down] = sums[p * form.b + q]


@inlined
def _keep_columns(gram, own_s, own_v, s, k, thread, form):
    for f in range(form.each):
        c = thread + f * form.threads
        if c < k:
            s[c] = own_s[f]
            gram[at(k, c)] = own_v[f]


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
def _keep_piece(partial, place, gram, s, total, k, thread, form):
    """Write the sums of a piece to ``partial`` for the block that solves the row."""
    for f in range(thread, at(k, k), form.threads):
        partial[place, f] = gram[f]
    for f in range(thread, k, form.threads):
        partial[place, at(k, k) + 1 + f] = s[f]
    if thread == 0:
        partial[place, at(k, k)] = total


@inlined
def _add_pieces(gram, s, partial, first, n, k, thread, form):
    """Add up, in float64, the sums of the pieces of a row of n entries; return the sum of g t."""
    last, total = first + (n + SPLIT * form.tiles - 1) // (SPLIT * form.tiles), np.float64(0)
    for piece in range(first, last):
        total += partial[piece, at(k, k)]
    for f in range(thread, at(k, k) + 1 + k, form.threads):
        value = np.float64(0)
        for piece in range(first, last):
            value += partial[piece, f]
        if f < at(k, k):
            gram[f] = gram.dtype.type(value)
        elif f > at(k, k):
            s[f - at(k, k) - 1] = gram.dtype.type(value)
    cuda.syncthreads()
    return gram.dtype.type(total)


@inlined
def rho_of(rules, n):
    """Return the weight of the squared factors of a row of n ratings."""
    return rules[0] * n + (rules[1] + rules[3] * math.sqrt(n))


@inlined
def _eliminate_bias(gram, s, total, weights, known, k, thread, form):
    """Subtract s s' / d, and add B and rho to the matrix and rho z to the right-hand side, which is row k.

    Returns the total, with what the bias is pulled to.
    """
    (rho, share, row, bias_reg), (pull, base, a) = weights, known
    if a.shape[0] > 0:
        total += gram.dtype.type(bias_reg * a[row])
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
    cuda.syncthreads()
    return total


@inlined
def _solve(gram, s, inverse, solution, total, rules, out, k, thread, form):
    """Solve a row's equations and write its factors and bias; return False if they cannot be solved."""
    x, b, row, share = out
    lift(gram, solution, k, gram.dtype.type(rules[5]), thread, form)
    if not factor(gram, k, inverse, solution, gram.dtype.type(rules[4]), thread, form):
        return False
    rest = substitute(gram, k, inverse, solution, s, total, thread, form)
    for f in range(thread, k, form.threads):
        x[row, f] = solution[f]
    if thread == 0:
        b[row] = rest * share
    return True


@functools.cache
def compiled(form):
    """Compile the kernel for a layout.

    ``work`` holds rows or pieces of rows: row, first entry, last entry, and the first of the row's pieces in
    ``parts``, or -1. With ``keep``, sums go to ``parts``; otherwise rows are solved. ``failed`` gets the number of
    rows that cannot be solved, then their places in ``work``. ``weights`` (of entries) and ``mass`` (their row sums)
    are empty if all weights are 1; ``a`` is what biases are pulled to. ``rules``: reg, reg0, bias_reg, root_reg,
    smallest pivot relative to its diagonal, jitter.
    """
    number, n_batch, n_columns = np.float64 if form.wide else np.float32, form.batch, form.columns
    n_sums, n_b, n_each, n_kept = form.a * form.b, form.b, form.each, form.kept

    @kernel(form.threads)
    def half_sweep(
        work, indices, values, weights, mass, y, c, x, b, pull, base, a, rules, parts, keep, scratch, failed
    ):
        batch = cuda.shared.array((n_batch, n_columns), number)  # one line each: the simulator tells them apart by it
        where = cuda.shared.array(n_batch, np.int32)
        t = cuda.shared.array(n_batch, number)
        roots = cuda.shared.array(n_batch, number)
        s = cuda.shared.array(n_columns, number)
        inverse = cuda.shared.array(n_columns, number)
        solution = cuda.shared.array(n_columns, number)  # before: the diagonal
        shared = cuda.shared.array(n_kept, number)
        sums, of_y = cuda.local.array(n_sums, number), cuda.local.array(n_b, number)
        own_s, own_v = cuda.local.array(n_each, number), cuda.local.array(n_each, number)
        thread, k, known = cuda.threadIdx.x, x.shape[1], (pull, base, a)
        gram = shared if n_kept > 1 else scratch[cuda.blockIdx.x]
        for place in range(cuda.blockIdx.x, work.shape[0], cuda.gridDim.x):
            row, piece, pieces = work[place, 0], (work[place, 1], work[place, 2]), work[place, 3]
            n = piece[1] - piece[0]
            count = mass[row] if mass.shape[0] > 0 else np.float64(n)
            rho, share = number(rho_of(rules, count)), number(1 / (count + rules[2]))
            cuda.syncthreads()
            if pieces < 0:
                desk, own = (batch, where, t, roots, s), (sums, of_y, own_s, own_v)
                total = _sum_entries(desk, own, gram, piece, (indices, values, weights, y, c), k, thread, form)
            else:
                total = _add_pieces(gram, s, parts, pieces, n, k, thread, form)
            if keep:
                _keep_piece(parts, place, gram, s, total, k, thread, form)
                continue
            total = _eliminate_bias(gram, s, total, (rho, share, row, rules[2]), known, k, thread, form)
            solved = _solve(gram, s, inverse, solution, total, rules, (x, b, row, share), k, thread, form)
            if thread == 0 and not solved:
                failed[1 + cuda.atomic.add(failed, 0, 1)] = place

    return half_sweep


class Batch(NamedTuple):
    """Rows to solve in one layout, those with most entries first; all fields but form and rows are on the GPU."""

    form: Layout
    rows: np.ndarray  # (n, 4) int64: row, first entry, last entry, first piece or -1
    work: object  # the same on the GPU
    pieces: object  # (n_pieces, 4) int64: row, first entry, last entry, -1
    partial: object  # (n_pieces, …): the sums of the pieces
    scratch: object  # (blocks, …): equations that do not fit into shared memory
    failed: object  # (1 + n,) int64: how many rows were not solved, and which


_schedules: dict[int, dict[int, list[Batch]]] = {}


def _schedule(indptr, k):
    """Cut the rows of ``indptr``, an array on the GPU, into batches, per indptr and k; cached while indptr lives."""
    key = id(indptr)
    if key not in _schedules:
        weakref.finalize(indptr, _schedules.pop, key, None)
    own = _schedules.setdefault(key, {})
    if k not in own:
        ends = indptr.copy_to_host()
        parts = (layout(k, True), LONG, np.inf), (layout(k), 0, LONG)
        own[k] = [_batch(form, k, *cut(ends, SPLIT * form.tiles, low, high)) for form, low, high in parts]
    return own[k]


def _batch(form, k, rows, pieces):
    number = np.float64 if form.wide else np.float32
    partial = cuda.device_array((max(len(pieces), 1), packed(k) + k), number)
    shape = (1, 1) if form.kept > 1 else (max(min(len(rows), SLOTS), 1), packed(form.columns))
    failed = cuda.to_device(np.zeros(1 + len(rows), np.int64))
    on_gpu = cuda.to_device(rows), cuda.to_device(pieces)
    return Batch(form, rows, *on_gpu, partial, cuda.device_array(shape, number), failed)


def cut(indptr, most, low=0, high=np.inf):
    """Order rows by entries, most first, and cut those of more than ``most`` into pieces of ``most`` entries.

    Returns
    -------
    rows (n, 4) and pieces (n_pieces, 4), int64, of the rows of more than ``low`` and at most ``high`` entries: row,
    first entry, last entry, and the row's first piece or -1.
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
    """Solve the rows of ``side`` in place; see :func:`fastmf.kernels.als.half_sweep_numpy`."""
    k = side.factors.shape[1]
    given = entries.indices, entries.values, *weights_of(entries), *other, *side, *known

    def run(batch, work, keep, smallest=0.0, jitter=0.0):
        form = batch.form
        blocks = work.shape[0] if form.kept > 1 else min(work.shape[0], batch.scratch.shape[0])
        rules = cuda.to_device(np.array([*penalty, smallest, jitter], np.float64))
        compiled(form)[blocks, form.threads](work, *given, rules, batch.partial, keep, batch.scratch, batch.failed)

    def solve(batch, jitter=0.0):
        """Solve the rows of a batch; return those that cannot be solved, to be summed from their entries again."""
        if not len(batch.rows):
            return batch.rows
        if batch.pieces.shape[0]:
            run(batch, batch.pieces, True)
        batch.failed[:1].copy_to_device(np.zeros(1, np.int64))
        run(batch, batch.work, False, SINGULAR if batch.form.wide else UNSURE, jitter)
        n = int(batch.failed[:1].copy_to_host()[0])
        left = batch.rows[np.sort(batch.failed[1 : 1 + n].copy_to_host())] if n else batch.rows[:0]
        return np.column_stack([left[:, :3], np.full(len(left), -1)])

    def solve_in_float64(rows, jitter=0.0):
        return solve(_batch(layout(k, True), k, rows, rows[:0]), jitter) if len(rows) else rows

    unsure = np.concatenate([solve(batch) for batch in _schedule(entries.indptr, k)])
    singular = solve_in_float64(unsure)
    for row in solve_in_float64(singular, JITTER)[:, 0]:
        side.factors[row : row + 1].copy_to_device(np.full((1, k), np.nan, np.float32))
        side.bias[row : row + 1].copy_to_device(np.full(1, np.nan, np.float32))
    return np.array([len(singular)], np.int64)


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
    """Return the weights of entries and their sum for each row, float64; empty arrays if all weights are 1."""
    if entries.weights is None:
        return cuda.device_array(0, np.float32), cuda.device_array(0, np.float64)
    n_rows = entries.indptr.shape[0] - 1
    masses = cuda.device_array(n_rows, np.float64)
    _add_weights[grid(n_rows * WARP)](entries.indptr, entries.weights, masses)
    return entries.weights, masses


@cuda.jit
def _extrapolate(now, before, ahead, beta, k):
    for t in range(cuda.grid(1), now.shape[0], cuda.gridsize(1)):
        value = now[t]
        ahead[t // k, t % k] = (value - before[t]) * beta + value
        before[t] = value


def extrapolate_cuda(tasks, now, before, ahead, momentum):
    """Extrapolate a side along its last change; see :func:`fastmf.kernels.als.extrapolate_numpy`."""
    for new, old, target in zip(now, before, ahead, strict=True):
        k = 1 if len(new.shape) == 1 else new.shape[1]
        lines = target.reshape(target.shape[0], -1)
        _extrapolate[grid(new.size)](new.reshape(-1), old.reshape(-1), lines, np.float32(momentum), k)
