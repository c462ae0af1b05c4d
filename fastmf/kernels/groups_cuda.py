"""What all GPU kernels share; operations of a group of lanes have a twin for Numba's simulator.

A warp is WARP lanes in step. A group of lanes, a power of two, works on one thing (a pair, a rating). The simulator
has no warps: a block is one group there, and lanes exchange values through memory.
"""

import numpy as np
from numba import cuda
from numba.cuda.core import config

config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # few rows make few blocks, and a user cannot change that

SIMULATED = bool(config.ENABLE_CUDASIM)
WARP = 8 if SIMULATED else 32  # simulated lanes are Python threads, which are slow
MOST_BLOCKS = 1 << 14  # of a kernel whose threads stride over its elements

# Decorator of device functions, which it inlines, so that a caller's constants are constants inside them.
inlined = cuda.jit(device=True) if SIMULATED else cuda.jit(device=True, forceinline=True)


def shared(function):
    """Compile a function of the CPU kernels as a device function: one source for both."""
    return inlined(getattr(function, "py_func", function))


def is_out_of_memory(error):
    """Return whether a GPU ran out of memory: two libraries raise such errors, without a common type."""
    return "OUT_OF_MEMORY" in str(error)


def kernel(threads):
    """Compile a kernel for blocks of ``threads`` threads, which may use all registers of a multiprocessor."""
    return cuda.jit if SIMULATED else cuda.jit(launch_bounds=threads)


def lanes(k):
    """Return the lanes of a group for rows of k factors: the power of two at or above k, at most a warp."""
    return min(1 << max(int(k - 1).bit_length(), 0), WARP)


def block_size(group, most=256):
    """Return the number of threads of a block of groups."""
    return group if SIMULATED else most


def grid(n_threads, group=WARP):
    """Return (blocks, threads) for a kernel whose threads stride over its elements, ideally ``n_threads`` threads."""
    threads = block_size(group)
    return max(min(-(-n_threads // threads), MOST_BLOCKS), 1), threads


if SIMULATED:
    _values = [np.float64(0)] * WARP  # the values of the lanes of the one block at work

    @inlined
    def group_sum(value, group):
        """Sum a float32 or float64 over the lanes of a group; each lane gets the same bits."""
        lane, distance = cuda.threadIdx.x, group // 2
        _values[lane] = value
        cuda.syncthreads()
        sums = _values[:group]
        while distance:
            sums = [a + sums[other ^ distance] for other, a in enumerate(sums)]
            distance //= 2
        cuda.syncthreads()
        return sums[lane]

    @inlined
    def group_sync(group):
        """Make the writes of each lane visible to its group."""
        cuda.syncthreads()

    @inlined
    def fresh(array, place):
        """Read an element as other blocks have left it, bypassing this block's own cache."""
        return array[place]

else:

    @inlined
    def _mask(group):
        first = cuda.laneid & ~(group - 1)
        return np.uint32(((np.uint64(1) << np.uint64(group)) - np.uint64(1)) << np.uint64(first))

    @inlined
    def group_sum(value, group):
        """Sum a float32 or float64 over the lanes of a group; each lane gets the same bits."""
        mask, distance = _mask(group), group // 2
        while distance:
            value += cuda.shfl_xor_sync(mask, value, distance)
            distance //= 2
        return value

    @inlined
    def group_sync(group):
        """Make the writes of each lane visible to its group."""
        cuda.syncwarp(_mask(group))

    @inlined
    def fresh(array, place):
        """Read an element as other blocks have left it, bypassing this block's own cache."""
        return cuda.ldcg(array, place)
