"""Implicit links: a row's expected factors, given the columns in which it has entries, whatever their values.

A table W holds a vector w_j for each column j. The expectation of row r, with entries in the columns N, is (Koren 2008,
SVD++; as the mean of a prior: Simm et al. 2017, Macau)

    z_r = weight_r sum over j in N of w_j,   that is  Z = D W

W is the ridge regression of the rows' factors X, (D'D + ridge I) W = D'X. It is solved by conjugate gradients for all
columns of W at once, each with its own ridge and step lengths (Hestenes and Stiefel 1952), preconditioned by the
diagonal. D is never formed: D times a table is a sum over each row's entries (GATHER), and D' times a table is the same
over the entries grouped by column (RESPOND). Entries may carry weights: these multiply what they add to a sum. They are
None for links, and the values of features for :mod:`fastmf.kernels.features`.

Tables are (n, kp) float32, padded with zeros to whole vectors. Sums over rows are (n_tasks, kp) float64.
"""

from itertools import pairwise

import numpy as np

from fastmf.kernels import simd
from fastmf.kernels.compile import inner, jit, lazy
from fastmf.kernels.region import region, taken
from fastmf.kernels.tasks import balanced
from fastmf.kernels.vectors import WIDTH, vectors

LEAST, MOST = 1e6, 2e8  # operations of a task; see fastmf.kernels.als
CACHED = 1 << 17  # floats of a block of the table, worked on at a time: half of a small L2 cache
FEWEST = 8  # entries of a row in a block, on average: starting a row takes as long as some entries
AHEAD = 16  # entries between the prefetch of a row of the table and its use


def gather_numpy(tasks, entries, weights, table, out):
    """Write ``weights[r] * sum of g table[j]``, over the columns j of row r, with weights g, into ``out[r]``.

    Returns the sums of ``out ** 2``.
    """
    for row in range(tasks[0], tasks[-1]):
        columns, shares = _entries_of(row, entries)
        out[row] = weights[row] * (shares * table[columns]).sum(axis=0)
    return _by_task(tasks, out, out)


def respond_numpy(tasks, entries, weights, table, ridge, links, squares, out):
    """Write ``residual / (squares[r] + ridge)`` into ``out[r]``: the residual of the regression, preconditioned.

    residual is ``sum of g weights[u] * table[u] - ridge[r] * links[r]``, over the columns u of row r; ridge is (n, kp)
    float32, or (1, kp) for all rows, squares (n,). Returns the sums of residual * out.
    """
    residual = np.empty_like(out)
    for row in range(tasks[0], tasks[-1]):
        columns, shares = _entries_of(row, entries)
        own = ridge[min(row, len(ridge) - 1)]
        residual[row] = (shares[:, 0] * weights[columns]) @ table[columns] - own * links[row]
        out[row] = residual[row] / (squares[row] + own)
    return _by_task(tasks, residual, out)


def turn_numpy(tasks, shares, ahead, ridge, direction):
    """Set ``direction = ahead + shares * direction``, for shares (kp,) float32.

    Returns the sums of ``ridge * direction ** 2``; ridge is (n, kp) float32, or (1, kp) for all rows.
    """
    rows = slice(tasks[0], tasks[-1])
    direction[rows] = ahead[rows] + shares * direction[rows]
    return _by_task(tasks, ridge * direction, direction)


def advance_numpy(tasks, lengths, direction, table):
    """Add ``lengths * direction`` to the table, for lengths (kp,) float32."""
    rows = slice(tasks[0], tasks[-1])
    table[rows] += lengths * direction[rows]


def depart_numpy(tasks, factors, expected, out):
    """Write factors (n, k) minus the expected ones (n, kp) into ``out`` (n, kp)."""
    rows, k = slice(tasks[0], tasks[-1]), factors.shape[1]
    np.subtract(factors[rows], expected[rows, :k], out=out[rows, :k])


def attract_numpy(tasks, expected, shares, mean, out):
    """Write ``expected[r] + shares[r] * mean`` into ``out[r]``; mean (kp,) float32."""
    rows = slice(tasks[0], tasks[-1])
    np.add(expected[rows], shares[rows, None] * mean, out=out[rows])


def total_numpy(tasks, counts, factors):
    """Return the sums of ``counts[r] * factors[r]``; counts (n,) float32."""
    return np.array([counts[start:stop].astype(np.float64) @ factors[start:stop] for start, stop in pairwise(tasks)])


def spread_numpy(tasks, counts, factors):
    """Return the sums of ``counts[r] * factors[r] ** 2``; counts (n,) float32."""
    return total_numpy(tasks, counts, np.square(factors, dtype=np.float64))


def centre_numpy(tasks, counts, factors, mean, out):
    """Write ``factors[r] - mean`` into ``out[r]``, or zeros if ``counts[r]`` is 0; mean (k,) float32."""
    rows = slice(tasks[0], tasks[-1])
    np.multiply(factors[rows] - mean, counts[rows, None] > 0, out=out[rows])


def absorb_numpy(tasks, side, mean, out):
    """Write each row's bias plus its factors times the other side's mean (k,) float32 into ``out`` (n,)."""
    rows = slice(tasks[0], tasks[-1])
    out[rows] = side.bias[rows] + np.sum(side.factors[rows] * mean, axis=1)


def _entries_of(row, entries):
    """Return the columns of a row's entries (n,) and their weights (n, 1)."""
    own = slice(entries.indptr[row], entries.indptr[row + 1])
    columns = entries.indices[own]
    shares = np.ones(len(columns), np.float32) if entries.weights is None else entries.weights[own]
    return columns, shares[:, None]


def _by_task(tasks, left, right):
    """Sum the products of two tables, column by column, for each task."""
    parts = (slice(*bounds) for bounds in pairwise(tasks))
    return np.array([np.sum(left[part].astype(np.float64) * right[part], axis=0) for part in parts])


def gather_cpu(tasks, entries, weights, table, out):
    """Sum the table over each row's entries; see :func:`gather_numpy`."""
    found = np.zeros((len(tasks) - 1, table.shape[1]))
    return _gather(tasks, entries, weights, table, out, vectors(table.shape[1]), found=found)


@region(allocates=True)
def _gather(share, entries, weights, table, out, columns):
    for task in taken(share):
        start, stop = share.tasks[task], share.tasks[task + 1]
        _sum_rows(start, stop, entries, None, table, out, columns)
        _weigh(start, stop, weights, out, share.found[task])


@inner
def _weigh(start, stop, weights, out, found):
    for row in range(start, stop):
        for f in range(out.shape[1]):
            out[row, f] *= weights[row]
            found[f] += np.float64(out[row, f] * out[row, f])


def respond_cpu(tasks, entries, weights, table, ridge, links, squares, out):
    """Write the preconditioned residual; see :func:`respond_numpy`."""
    found = np.zeros((len(tasks) - 1, table.shape[1]))
    given = entries, weights, table, ridge, links, squares, out, vectors(table.shape[1])
    return _respond(tasks, *given, found=found)


@region(allocates=True)
def _respond(share, entries, weights, table, ridge, links, squares, out, columns):
    for task in taken(share):
        start, stop = share.tasks[task], share.tasks[task + 1]
        _sum_rows(start, stop, entries, weights, table, out, columns)
        _precondition(start, stop, ridge, links, squares, out, share.found[task])


@inner
def _precondition(start, stop, ridge, links, squares, out, found):
    for row in range(start, stop):
        own = min(row, ridge.shape[0] - 1)
        for f in range(out.shape[1]):
            residual = out[row, f] - ridge[own, f] * links[row, f]
            out[row, f] = residual / (squares[row] + ridge[own, f])
            found[f] += np.float64(residual * out[row, f])


@jit
def _sum_rows(start, stop, entries, weights, table, out, columns):
    """Write ``sum of table[j]``, each times its weight if there are weights, into ``out`` for the rows start to stop.

    All rows go through one block of columns at a time, so that its part of the table stays in the cache. A row's sum
    continues from block to block, so its bits do not depend on the blocks.
    """
    n_entries = entries.indptr[stop] - entries.indptr[start]
    n_blocks = min(table.shape[0] * table.shape[1] // CACHED, n_entries // (FEWEST * max(stop - start, 1))) + 1
    next_entry = entries.indptr[start:stop].copy()
    out[start:stop] = 0
    _sum_blocks(start, stop, n_blocks, next_entry, entries, weights, table, out, columns)


@inner
def _sum_blocks(start, stop, n_blocks, next_entry, entries, weights, table, out, columns):
    indices, own = entries.indices, entries.weights
    for block in range(n_blocks):
        bound = table.shape[0] * (block + 1) // n_blocks
        for row in range(start, stop):
            first, last = next_entry[row - start], entries.indptr[row + 1]
            if first < last and indices[first] < bound:
                next_entry[row - start] = add_row(first, last, bound, indices, own, weights, table, row, out, columns)


@inner
def _add_row_plain(first, last, bound, indices, own, weights, table, row, out, columns):
    """Add the table's rows at the entries from first on to ``out[row]``.

    Each is multiplied by its entry's own weight and its column's weight, if there are such weights. Returns the entry
    it stops at: ``last``, or the first entry whose column is not below the bound.
    """
    for j in range(first, last):
        i, weight = indices[j], np.float32(1)
        if i >= bound:
            return j
        if weights is not None:
            weight = weights[i]
        if own is not None:
            weight *= own[j]
        for f in range(table.shape[1]):
            out[row, f] += weight * table[i, f]
    return last


@inner
def _add_row_simd(first, last, bound, indices, own, weights, table, row, out, columns):
    """Do as :func:`_add_row_plain` does, the sum in registers: each number of vectors is compiled separately."""
    kp, end = len(columns) * WIDTH, indices.shape[0] - 1
    where, rows, here = simd.pointer(indices, 0), simd.pointer(table, 0), simd.pointer(out, row * kp)
    total, j = simd.load(1, columns, here, 0), first
    while j < last:
        i, weight = np.int64(simd.element(where, j)), np.float32(1)
        if i >= bound:
            break
        simd.prefetch(columns, rows, np.int64(simd.element(where, min(j + AHEAD, end))) * kp)
        if weights is not None:
            weight = weights[i]
        if own is not None:
            weight *= own[j]
        total = simd.add_scaled(total, weight, simd.pointer(rows, i * kp))
        j += 1
    simd.store(total, here, 0)
    return j


add_row = _add_row_simd if WIDTH else _add_row_plain


def turn_cpu(tasks, shares, ahead, ridge, direction):
    """Turn the direction; see :func:`turn_numpy`."""
    return _turn(tasks, shares, ahead, ridge, direction, found=np.zeros((len(tasks) - 1, direction.shape[1])))


@region
def _turn(share, shares, ahead, ridge, direction):
    for task in taken(share):
        found = share.found[task]
        for row in range(share.tasks[task], share.tasks[task + 1]):
            own = min(row, ridge.shape[0] - 1)
            for f in range(direction.shape[1]):
                direction[row, f] = ahead[row, f] + shares[f] * direction[row, f]
                found[f] += np.float64(ridge[own, f] * (direction[row, f] * direction[row, f]))


def total_cpu(tasks, counts, factors):
    """Sum the rows; see :func:`total_numpy`."""
    return _total(tasks, counts, factors, found=np.zeros((len(tasks) - 1, factors.shape[1])))


@region
def _total(share, counts, factors):
    for task in taken(share):
        found = share.found[task]
        for row in range(share.tasks[task], share.tasks[task + 1]):
            for f in range(factors.shape[1]):
                found[f] += np.float64(counts[row]) * np.float64(factors[row, f])


def spread_cpu(tasks, counts, factors):
    """Sum the rows' squares; see :func:`spread_numpy`."""
    return _spread(tasks, counts, factors, found=np.zeros((len(tasks) - 1, factors.shape[1])))


@region
def _spread(share, counts, factors):
    for task in taken(share):
        found = share.found[task]
        for row in range(share.tasks[task], share.tasks[task + 1]):
            for f in range(factors.shape[1]):
                found[f] += np.float64(counts[row]) * np.float64(factors[row, f]) ** 2


@region(fused=False)
def advance_cpu(share, lengths, direction, table):
    """Add to the table; see :func:`advance_numpy`."""
    for task in taken(share):
        for row in range(share.tasks[task], share.tasks[task + 1]):
            for f in range(table.shape[1]):
                table[row, f] += lengths[f] * direction[row, f]


@region
def depart_cpu(share, factors, expected, out):
    """Subtract what is expected; see :func:`depart_numpy`."""
    for task in taken(share):
        for row in range(share.tasks[task], share.tasks[task + 1]):
            for f in range(factors.shape[1]):
                out[row, f] = factors[row, f] - expected[row, f]


@region(fused=False)
def attract_cpu(share, expected, shares, mean, out):
    """Write what rows are pulled to; see :func:`attract_numpy`."""
    for task in taken(share):
        for row in range(share.tasks[task], share.tasks[task + 1]):
            for f in range(out.shape[1]):
                out[row, f] = expected[row, f] + shares[row] * mean[f]


@region
def centre_cpu(share, counts, factors, mean, out):
    """Subtract the mean; see :func:`centre_numpy`."""
    for task in taken(share):
        for row in range(share.tasks[task], share.tasks[task + 1]):
            for f in range(out.shape[1]):
                out[row, f] = factors[row, f] - mean[f] if counts[row] > 0 else np.float32(0)


@region
def absorb_cpu(share, side, mean, out):
    """Write the biases that absorb the mean; see :func:`absorb_numpy`."""
    for task in taken(share):
        for row in range(share.tasks[task], share.tasks[task + 1]):
            total = np.float64(side.bias[row])
            for f in range(mean.shape[0]):
                total += np.float64(side.factors[row, f]) * np.float64(mean[f])
            out[row] = total


GATHER = {"numpy": gather_numpy, "cpu": gather_cpu, "cuda": lazy("links_cuda", "gather_cuda")}
RESPOND = {"numpy": respond_numpy, "cpu": respond_cpu, "cuda": lazy("links_cuda", "respond_cuda")}
TURN = {"numpy": turn_numpy, "cpu": turn_cpu, "cuda": lazy("links_cuda", "turn_cuda")}
ADVANCE = {"numpy": advance_numpy, "cpu": advance_cpu, "cuda": lazy("links_cuda", "advance_cuda")}
DEPART = {"numpy": depart_numpy, "cpu": depart_cpu, "cuda": lazy("links_cuda", "depart_cuda")}
ATTRACT = {"numpy": attract_numpy, "cpu": attract_cpu, "cuda": lazy("links_cuda", "attract_cuda")}
TOTAL = {"numpy": total_numpy, "cpu": total_cpu, "cuda": lazy("links_cuda", "total_cuda")}
SPREAD = {"numpy": spread_numpy, "cpu": spread_cpu, "cuda": lazy("links_cuda", "spread_cuda")}
CENTRE = {"numpy": centre_numpy, "cpu": centre_cpu, "cuda": lazy("links_cuda", "centre_cuda")}
ABSORB = {"numpy": absorb_numpy, "cpu": absorb_cpu, "cuda": lazy("links_cuda", "absorb_cuda")}


def gather_tasks(indptr, k):
    """Cut the rows into tasks of equal work: k operations per entry, and 4 k per row."""
    return balanced(indptr, k, 4 * k, least=LEAST, most=MOST)


def link_weights(counts, fade, masses=None):
    """Return the weights of the links' sum and of the mean row, (n,) float32 each; counts (n,) int: entries per row.

    They are f / sqrt(n) and 1 - f, with f = m / (m + fade). m is n, or the sum of a row's weights, in ``masses`` (n,).
    """
    n = np.maximum(counts, 1).astype(np.float64)
    mass = n if masses is None else np.where(counts > 0, masses, 1)
    force = mass / (mass + fade)
    return (force / np.sqrt(n)).astype(np.float32), (1 - force).astype(np.float32)
