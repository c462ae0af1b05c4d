"""The peak speed of a GPU; see :mod:`fastmf.kernels.peak`."""

import numpy as np
from numba import cuda

from fastmf.kernels.groups_cuda import WARP, block_size, kernel

CHAINS, PASSES, READS = 16, 256, 32  # sums per thread, multiply-adds of each per iteration, passes over the array
BLOCKS = 2048


@kernel(256)
def _multiply_add(passes, factor, out):
    sums = cuda.local.array(CHAINS, np.float32)
    for n in range(CHAINS):
        sums[n] = np.float32(n)
    for _ in range(passes):
        for n in range(CHAINS):
            sums[n] = sums[n] * factor + factor
    total = np.float32(0)
    for n in range(CHAINS):
        total += sums[n]
    out[cuda.grid(1)] = total


@kernel(256)
def _read(reads, first, last, array, out):
    total = np.float32(0)
    for _ in range(reads):
        for n in range(first + cuda.grid(1), last, cuda.gridsize(1)):
            total += array[n]
    cuda.atomic.add(out, cuda.blockIdx.x, total)


def multiply_add_cuda(tasks):
    """Multiply and add into sums in registers; see :func:`fastmf.kernels.peak.multiply_add_numpy`."""
    threads, iterations = block_size(WARP), int(tasks[-1] - tasks[0])
    out = cuda.device_array(BLOCKS * threads, np.float32)
    _multiply_add[BLOCKS, threads](iterations * PASSES, np.float32(0.5), out)
    cuda.synchronize()
    return np.array([2.0 * CHAINS * PASSES * iterations * BLOCKS * threads])


def read_cuda(tasks, array):
    """Sum an array READS times, so that reading takes most of the time; see :func:`fastmf.kernels.peak.read_numpy`."""
    out, n = cuda.to_device(np.zeros(BLOCKS, np.float32)), int(tasks[-1] - tasks[0])
    _read[BLOCKS, block_size(WARP)](READS, int(tasks[0]), int(tasks[-1]), array, out)
    return np.array([[4.0 * n * READS, out.copy_to_host().sum(dtype=np.float64) / READS]])
