"""What a GPU can do at most; see :mod:`fastmf.kernels.limits`."""

import numpy as np
from numba import cuda

from fastmf.kernels.groups_cuda import block_size, kernel

CHAINS, PASSES = 16, 256  # sums of a thread, and multiply-adds of each for an iteration
BLOCKS, WARP = 2048, 32


@kernel(256)
def _multiply_add(iterations, factor, out):
    sums = cuda.local.array(CHAINS, np.float32)
    for n in range(CHAINS):
        sums[n] = np.float32(n)
    for _ in range(iterations * PASSES):
        for n in range(CHAINS):
            sums[n] = sums[n] * factor + factor
    total = np.float32(0)
    for n in range(CHAINS):
        total += sums[n]
    out[cuda.grid(1)] = total


@kernel(256)
def _read(first, last, array, out):
    total = np.float32(0)
    for n in range(first + cuda.grid(1), last, cuda.gridsize(1)):
        total += array[n]
    out[cuda.grid(1)] = total


def multiply_add_cuda(tasks):
    """Multiply and add into sums in registers; see :func:`fastmf.kernels.limits.multiply_add_numpy`."""
    threads, iterations = block_size(WARP), int(tasks[-1] - tasks[0])
    out = cuda.device_array(BLOCKS * threads, np.float32)
    _multiply_add[BLOCKS, threads](iterations, np.float32(0.5), out)
    cuda.synchronize()
    return np.array([2.0 * CHAINS * PASSES * iterations * BLOCKS * threads])


def read_cuda(tasks, array):
    """Sum an array; see :func:`fastmf.kernels.limits.read_numpy`."""
    threads = block_size(WARP)
    out = cuda.device_array(BLOCKS * threads, np.float32)
    _read[BLOCKS, threads](int(tasks[0]), int(tasks[-1]), array, out)
    total = out.copy_to_host().sum(dtype=np.float64)
    return np.array([[4.0 * int(tasks[-1] - tasks[0]), total]])
