"""Predictions and their errors on a GPU: for each pair, one group of lanes reads both rows side by side.

The floor is reading the rows: 2 k + 3 numbers per pair, most of them from the cache. That is 4.8 GB for the 18 M
training ratings of the ml-20m twin at k = 32, or 1.1 ms from an H200's memory. One block sums the errors of a task in
float64, always in the same order, so sums are the same bit for bit.
"""

import functools

import numpy as np
from numba import cuda

from fastmf.kernels.groups_cuda import block_size, grid, group_sum, inlined, kernel, lanes


@inlined
def _predict(n, pairs, sides, scale, lane, group):
    (users, items), (x, b, y, c), (mean, low, high) = pairs, sides, scale
    u, i, dot = users[n], items[n], np.float32(0)
    if u >= 0 and i >= 0:
        for f in range(lane, min(x.shape[1], y.shape[1]), group):
            dot += x[u, f] * y[i, f]
    estimate = np.float32(mean) + group_sum(dot, group)
    if u >= 0:
        estimate += b[u]
    if i >= 0:
        estimate += c[i]
    if estimate < low:
        estimate = np.float32(low)
    if estimate > high:  # min and max would replace NaN
        estimate = np.float32(high)
    return estimate


@functools.cache
def estimates(group):
    """Compile the kernel that writes predictions, for groups of ``group`` lanes."""

    @kernel(block_size(group))
    def estimate(first, last, users, items, x, b, y, c, mean, low, high, out):
        lane, own = cuda.threadIdx.x % group, cuda.grid(1) // group
        for n in range(first + own, last, cuda.gridsize(1) // group):
            value = _predict(n, (users, items), (x, b, y, c), (mean, low, high), lane, group)
            if lane == 0:
                out[n] = value

    return estimate


@functools.cache
def error_sums(group):
    """Compile the kernel that sums errors, one block per task, for groups of ``group`` lanes."""
    threads, groups = block_size(group), block_size(group) // group

    @kernel(threads)
    def errors(tasks, users, items, values, x, b, y, c, mean, low, high, sums):
        lane, own, task = cuda.threadIdx.x % group, cuda.threadIdx.x // group, cuda.blockIdx.x
        parts = cuda.shared.array((groups, 2), np.float64)
        squared, absolute = np.float64(0), np.float64(0)
        for n in range(tasks[task] + own, tasks[task + 1], groups):
            estimate = _predict(n, (users, items), (x, b, y, c), (mean, low, high), lane, group)
            e = np.float64(values[n] - estimate)
            squared += e * e
            absolute += abs(e)
        if lane == 0:
            parts[own, 0], parts[own, 1] = squared, absolute
        cuda.syncthreads()
        for column in range(cuda.threadIdx.x, 2, cuda.blockDim.x):
            total = np.float64(0)
            for part in range(groups):
                total += parts[part, column]
            sums[task, column] = total

    return errors


def estimate_cuda(tasks, pairs, user_side, item_side, scale, out):
    """Write the predictions; see :func:`fastmf.kernels.residual.estimate_numpy`."""
    first, last, group = int(tasks[0]), int(tasks[-1]), lanes(user_side.factors.shape[1])
    shape = grid((last - first) * group, group)
    estimates(group)[shape](first, last, *pairs, *user_side, *item_side, *map(float, scale), out)


def errors_cuda(tasks, pairs, values, user_side, item_side, scale):
    """Sum the errors; see :func:`fastmf.kernels.residual.errors_numpy`."""
    group, sums = lanes(user_side.factors.shape[1]), cuda.device_array((len(tasks) - 1, 2), np.float64)
    given = *pairs, values, *user_side, *item_side, *map(float, scale)
    error_sums(group)[len(tasks) - 1, block_size(group)](cuda.to_device(tasks), *given, sums)
    return sums.copy_to_host()
