"""What all kernels for a GPU share: operations of a group of lanes, each beside its twin for Numba's simulator.

A warp is WARP lanes in step; a group is a power of two of them that work on one thing (a pair, a rating). In the
simulator there are no warps: a block is one group there, and what lanes tell one another goes through shared memory.
"""

import numpy as np
from numba import cuda
from numba.cuda.core import config

config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # few rows make few blocks: nothing a user could do about

SIMULATED = bool(config.ENABLE_CUDASIM)
WARP = 8 if SIMULATED else 32  # threads of Python take long
MOST_BLOCKS = 1 << 14  # of a kernel whose threads go on to further work

# A function of kernels, put in where it is called: what is constant there is constant in it.
inlined = cuda.jit(device=True) if SIMULATED else cuda.jit(device=True, forceinline=True)


def shared(function):
    """Make a function of kernels of one that is compiled for the CPU: there is one source for both."""
    return inlined(getattr(function, "py_func", function))


def is_out_of_memory(error):
    """Say whether an error is that of a GPU without room: two libraries raise it, without a common type."""
    return "OUT_OF_MEMORY" in str(error)


def kernel(threads):
    """Compile a kernel for blocks of so many threads, which may then share all of a multiprocessor's registers."""
    return cuda.jit if SIMULATED else cuda.jit(launch_bounds=threads)


def lanes(k):
    """Count the lanes of a group that works on rows of k factors: the power of two at or above k, at most a warp."""
    return min(1 << max(int(k - 1).bit_length(), 0), WARP)


def block_size(group, most=256):
    """Count the threads of a block of groups of lanes."""
    return group if SIMULATED else most


if SIMULATED:
    _values = [np.float64(0)] * WARP  # what the lanes of the one block at work have

    @inlined
    def group_sum(value, group):
        """Add up a float32 or float64 over the lanes of a group; each lane gets the sum, to the same bits."""
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
        """Let the lanes of a group see what each has written."""
        cuda.syncthreads()

    @inlined
    def fresh(array, place):
        """Read an element as other blocks have left it, not as this one's cache remembers it."""
        return array[place]

else:

    @inlined
    def _mask(group):
        first = cuda.laneid & ~(group - 1)
        return np.uint32(((np.uint64(1) << np.uint64(group)) - np.uint64(1)) << np.uint64(first))

    @inlined
    def group_sum(value, group):
        """Add up a float32 or float64 over the lanes of a group; each lane gets the sum, to the same bits."""
        mask, distance = _mask(group), group // 2
        while distance:
            value += cuda.shfl_xor_sync(mask, value, distance)
            distance //= 2
        return value

    @inlined
    def group_sync(group):
        """Let the lanes of a group see what each has written."""
        cuda.syncwarp(_mask(group))

    @inlined
    def fresh(array, place):
        """Read an element as other blocks have left it, not as this one's cache remembers it."""
        return cuda.ldcg(array, place)
