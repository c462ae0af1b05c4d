"""Implicit links on a GPU: what :mod:`fastmf.kernels.links` defines.

A block of threads sums a row: its warps take entries in turn, and lanes stand for columns. The sums of the warps are
added in a fixed order, so results are the same bit for bit. The floor is reading rows of the table: 4 k bytes per
entry, 2.3 GB for the 18 M training ratings of the ml-20m twin at k = 32, .5 ms from an H200's memory, less from cache.
The other kernels read and write each table once.
"""

import numpy as np
from numba import cuda

from fastmf.kernels.groups_cuda import SIMULATED, WARP, block_size, grid, inlined, kernel

THREADS = block_size(WARP)
WARPS = THREADS // WARP
LINES = 2 if SIMULATED else 256  # parts of the sums over rows


@inlined
def _sum_row(row, indptr, indices, own, weights, table, chunk, parts):
    """Sum the WARP columns from ``chunk`` on over a row's entries; the first warp's lanes get the sums."""
    lane, warp, f = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP, chunk + cuda.threadIdx.x % WARP
    total = np.float32(0)
    if f < table.shape[1]:
        for j in range(indptr[row] + warp, indptr[row + 1], WARPS):
            i = indices[j]
            weight = weights[i] if weights.shape[0] else np.float32(1)
            if own.shape[0]:
                weight *= own[j]
            total += weight * table[i, f]
    parts[warp, lane] = total
    cuda.syncthreads()
    total = np.float32(0)
    for part in range(WARPS):
        total += parts[part, lane]
    cuda.syncthreads()
    return total


@kernel(THREADS)
def _gather(indptr, indices, own, weights, nothing, table, out):
    parts = cuda.shared.array((WARPS, WARP), np.float32)
    row, thread = cuda.blockIdx.x, cuda.threadIdx.x
    for chunk in range(0, table.shape[1], WARP):
        total = _sum_row(row, indptr, indices, own, nothing, table, chunk, parts)
        if thread < WARP and chunk + thread < table.shape[1]:
            out[row, chunk + thread] = weights[row] * total


@kernel(THREADS)
def _respond(indptr, indices, own, weights, table, ridge, links, squares, out):
    parts = cuda.shared.array((WARPS, WARP), np.float32)
    row, thread = cuda.blockIdx.x, cuda.threadIdx.x
    for chunk in range(0, table.shape[1], WARP):
        total = _sum_row(row, indptr, indices, own, weights, table, chunk, parts)
        if thread < WARP and chunk + thread < table.shape[1]:
            f = chunk + thread
            penalty = ridge[min(row, ridge.shape[0] - 1), f]
            out[row, f] = (total - penalty * links[row, f]) / (squares[row] + penalty)


@kernel(THREADS)
def _sums(table, squared, weights, ridge, found):
    """Sum a table's columns, or their squares, times weights and ridge, if given: block b takes every LINES-th row."""
    for f in range(cuda.threadIdx.x, table.shape[1], cuda.blockDim.x):
        total = np.float64(0)
        for row in range(cuda.blockIdx.x, table.shape[0], cuda.gridDim.x):
            value = np.float64(table[row, f])
            if squared:
                value *= value
            if weights.shape[0]:
                value *= np.float64(weights[row])
            if ridge.shape[0]:
                value *= np.float64(ridge[min(row, ridge.shape[0] - 1), f])
            total += value
        found[cuda.blockIdx.x, f] = total


def _summed(table, squared=True, weights=None, ridge=None):
    """Return the sums of a table's columns in LINES parts, (LINES, columns) float64."""
    found = cuda.device_array((LINES, table.shape[1]), np.float64)
    weights = cuda.device_array(0, np.float32) if weights is None else weights
    ridge = cuda.device_array((0, table.shape[1]), np.float32) if ridge is None else ridge
    _sums[LINES, THREADS](table, squared, weights, ridge, found)
    return found.copy_to_host()


def _parts(entries):
    """Return indptr, indices and the entries' own weights, which are empty if all are 1."""
    own = cuda.device_array(0, np.float32) if entries.weights is None else entries.weights
    return entries.indptr, entries.indices, own


def gather_cuda(tasks, entries, weights, table, out):
    """Sum the table over each row's entries; see :func:`fastmf.kernels.links.gather_numpy`."""
    nothing = cuda.device_array(0, np.float32)
    _gather[out.shape[0], THREADS](*_parts(entries), weights, nothing, table, out)
    return _summed(out)


def respond_cuda(tasks, entries, weights, table, ridge, links, squares, out):
    """Compute the residual and scale it; see :func:`fastmf.kernels.links.respond_numpy`."""
    _respond[out.shape[0], THREADS](*_parts(entries), weights, table, ridge, links, squares, out)
    return _summed(out, weights=squares) + _summed(out, ridge=ridge)


def total_cuda(tasks, counts, factors):
    """Sum the rows times their counts; see :func:`fastmf.kernels.links.total_numpy`."""
    return _summed(factors, False, counts)


@cuda.jit
def _combine(left, scales, right, out):
    """Write left + scales[f] * right to the columns f of ``out`` that ``left`` has; either may be ``out``."""
    for n in range(cuda.grid(1), left.size, cuda.gridsize(1)):
        row, f = n // left.shape[1], n % left.shape[1]
        out[row, f] = left[row, f] + scales[f] * right[row, f]


def spread_cuda(tasks, counts, factors):
    """Sum the rows' squares times their counts; see :func:`fastmf.kernels.links.spread_numpy`."""
    return _summed(factors, True, counts)


def turn_cuda(tasks, shares, ahead, ridge, direction):
    """Turn the direction; see :func:`fastmf.kernels.links.turn_numpy`."""
    _combine[grid(ahead.size)](ahead, cuda.to_device(shares), direction, direction)
    return _summed(direction, ridge=ridge)


def advance_cuda(tasks, lengths, direction, table):
    """Move a table along the direction; see :func:`fastmf.kernels.links.advance_numpy`."""
    _combine[grid(table.size)](table, cuda.to_device(lengths), direction, table)


def depart_cuda(tasks, factors, expected, out):
    """Subtract the expected factors; see :func:`fastmf.kernels.links.depart_numpy`."""
    minus = cuda.to_device(np.full(factors.shape[1], -1, np.float32))
    _combine[grid(factors.size)](factors, minus, expected, out)


@cuda.jit
def _attract(expected, shares, mean, out):
    for n in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        row, f = n // out.shape[1], n % out.shape[1]
        out[row, f] = expected[row, f] + shares[row] * mean[f]


def attract_cuda(tasks, expected, shares, mean, out):
    """Add a share of the mean; see :func:`fastmf.kernels.links.attract_numpy`."""
    _attract[grid(out.size)](expected, shares, cuda.to_device(mean), out)


@cuda.jit
def _centre(counts, factors, mean, out):
    for n in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        row, f = n // out.shape[1], n % out.shape[1]
        out[row, f] = factors[row, f] - mean[f] if counts[row] > 0 else np.float32(0)


def centre_cuda(tasks, counts, factors, mean, out):
    """Subtract the mean; see :func:`fastmf.kernels.links.centre_numpy`."""
    _centre[grid(out.size)](counts, factors, cuda.to_device(mean), out)


@cuda.jit
def _absorb(factors, bias, mean, out):
    for row in range(cuda.grid(1), out.shape[0], cuda.gridsize(1)):
        total = np.float32(0)
        for f in range(mean.shape[0]):
            total += factors[row, f] * mean[f]
        out[row] = bias[row] + total


def absorb_cuda(tasks, side, mean, out):
    """Add each row's factors times the mean to its bias; see :func:`fastmf.kernels.links.absorb_numpy`."""
    _absorb[grid(out.size)](*side, cuda.to_device(mean), out)
