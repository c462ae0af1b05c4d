"""The machine's peak rates: multiply-adds a second, and bytes read from memory a second.

These are yardsticks, not algorithms. The numpy versions are a matrix product and a sum, at the speed of NumPy. The cpu
versions keep all their sums in registers, and so run at the speed of the arithmetic units or of the memory.
"""

from itertools import pairwise

import numpy as np

from fastmf.kernels.compile import lazy
from fastmf.kernels.region import region, taken

SIDE = 128  # rows and columns of the matrices
CHAINS, PASSES = 64, 10_000  # sums, and multiply-adds of each in an iteration


def multiply_add_numpy(tasks):
    """Multiply matrices once per iteration. Returns (n_tasks,) float64: the multiplications and additions done."""
    left = np.full((SIDE, SIDE), 0.5, np.float32)
    for _ in range(tasks[0], tasks[-1]):
        left @ left
    return 2.0 * SIDE**3 * np.diff(tasks)


@region
def _multiply_add(share):
    sums, factor = np.full(CHAINS, 0.5, np.float32), np.float32(0.5)
    for task in taken(share):
        for _ in range(share.tasks[task], share.tasks[task + 1]):
            for _ in range(PASSES):
                for n in range(CHAINS):
                    sums[n] = sums[n] * factor + factor
            share.found[task] += 2.0 * CHAINS * PASSES * sums.min()  # they are 1 now; unread, they could be left out


def multiply_add_cpu(tasks):
    """Multiply and add into sums that LLVM keeps in registers; see :func:`multiply_add_numpy`."""
    return _multiply_add(tasks, found=np.zeros(len(tasks) - 1))


def read_numpy(tasks, array):
    """Sum runs of an array (n,) float32, one per task. Returns (n_tasks, 2) float64: bytes read, and sums."""
    return np.array([(4 * (stop - start), array[start:stop].sum()) for start, stop in pairwise(tasks)], np.float64)


@region
def _read(share, array):
    for task in taken(share):
        start, stop, total = share.tasks[task], share.tasks[task + 1], np.float32(0)
        for n in range(np.uint64(start), np.uint64(stop)):
            total += array[n]
        share.found[task, 0], share.found[task, 1] = 4 * (stop - start), total


def read_cpu(tasks, array):
    """Sum runs of an array; see :func:`read_numpy`."""
    return _read(tasks, array, found=np.zeros((len(tasks) - 1, 2)))


MULTIPLY_ADD = {"numpy": multiply_add_numpy, "cpu": multiply_add_cpu, "cuda": lazy("peak_cuda", "multiply_add_cuda")}
READ = {"numpy": read_numpy, "cpu": read_cpu, "cuda": lazy("peak_cuda", "read_cuda")}
