"""What the machine can do at most: multiply-adds a second, and bytes read from memory a second.

These are yardsticks, not algorithms. The numpy versions are a matrix product and a sum, at the speed of NumPy. The cpu
versions keep all their sums in registers, and so run at the speed of the arithmetic units or of the memory.
"""

from itertools import pairwise

import numpy as np

from fastmf.kernels import simd
from fastmf.kernels.compile import jit, lazy
from fastmf.kernels.vectors import WIDTH, aligned

ROWS, SIDE = 3 * WIDTH // 4, 128  # rows of the tile: as many sums as the ALS kernel keeps
CHAINS = 64  # sums of the plain version, which LLVM keeps in vectors of its choice
PASSES = 10_000  # multiply-adds of every sum, an iteration


def multiply_add_numpy(tasks):
    """Multiply matrices, once an iteration. Returns (n_tasks,) float64, the multiplications and additions."""
    left = np.full((SIDE, SIDE), 0.5, np.float32)
    for _ in range(tasks[0], tasks[-1]):
        left @ left
    return 2.0 * SIDE**3 * np.diff(tasks)


@jit
def _multiply_add_simd(tasks, numbers):
    done, at = np.zeros(tasks.shape[0] - 1), simd.pointer(numbers, 0)
    for task in range(done.shape[0]):
        for _ in range(tasks[task], tasks[task + 1]):
            tile = simd.zeros(ROWS, 2)
            for _ in range(PASSES):
                tile = simd.add_outer(tile, at, at)
            simd.store(tile, simd.at(at, 2 * WIDTH), 2 * WIDTH)
            done[task] += 2.0 * ROWS * 2 * WIDTH * PASSES
    return done


@jit
def _multiply_add_plain(tasks, numbers):
    done, sums, factor = np.zeros(tasks.shape[0] - 1), numbers[0, :CHAINS], numbers[0, CHAINS]
    for task in range(done.shape[0]):
        for _ in range(tasks[task], tasks[task + 1]):
            for _ in range(PASSES):
                for n in range(CHAINS):
                    sums[n] = sums[n] * factor + factor
            done[task] += 2.0 * CHAINS * PASSES
    return done


def multiply_add_cpu(tasks):
    """Multiply and add into sums in registers; see :func:`multiply_add_numpy`."""
    numbers = aligned(1 + ROWS, 128)
    numbers[0] = 0.5
    return (_multiply_add_simd if WIDTH else _multiply_add_plain)(tasks, numbers)


def read_numpy(tasks, array):
    """Sum runs of an array (n,) float32, one a task. Returns (n_tasks, 2) float64: bytes read, and sums."""
    return np.array([(4 * (stop - start), array[start:stop].sum()) for start, stop in pairwise(tasks)], np.float64)


@jit
def read_cpu(tasks, array):
    """Sum runs of an array; see :func:`read_numpy`."""
    done = np.zeros((tasks.shape[0] - 1, 2))
    for task in range(done.shape[0]):
        total = np.float32(0)
        for n in range(np.uint64(tasks[task]), np.uint64(tasks[task + 1])):
            total += array[n]
        done[task, 0], done[task, 1] = 4 * (tasks[task + 1] - tasks[task]), total
    return done


MULTIPLY_ADD = {
    "numpy": multiply_add_numpy,
    "cpu": multiply_add_cpu,
    "cuda": lazy("peak_cuda", "multiply_add_cuda"),
}
READ = {"numpy": read_numpy, "cpu": read_cpu, "cuda": lazy("peak_cuda", "read_cuda")}
