"""The machine's peak rates: multiply-adds a second, and bytes read from memory a second.

These are yardsticks, not algorithms. The numpy versions are a matrix product and a sum, at the speed of NumPy. The cpu
versions keep all their sums in registers, and so run at the speed of the arithmetic units or of the memory. A test
looks at their assembly, because one sum that is spilled to the stack costs half the speed.
"""

from itertools import pairwise

import numpy as np

from fastmf.kernels.compile import jit, lazy
from fastmf.kernels.region import region, taken
from fastmf.kernels.vectors import WIDTH

if WIDTH:
    from fastmf.kernels import simd

SIDE = 128  # rows and columns of the matrices
PASSES = 10_000  # multiply-adds into each sum in an iteration

# A multiply-add takes four or five cycles, and a core starts two in each (four, if vectors have 4 lanes): eight to
# sixteen registers of sums keep it busy. AVX2 has 16 registers in all; on NEON, 12 vectors take 24 of 32.
CHAINS = 12  # vectors of sums
SUMS = CHAINS * (WIDTH or 32)
DEPTH = 8  # passes over a sum at a time, in plain Numba
READS = 8  # vectors read at a time, each into a sum of its own


def multiply_add_numpy(tasks):
    """Multiply matrices once per iteration. Returns (n_tasks,) float64: the multiplications and additions done."""
    left = np.full((SIDE, SIDE), 0.5, np.float32)
    for _ in range(tasks[0], tasks[-1]):
        left @ left
    return 2.0 * SIDE**3 * np.diff(tasks)


@region(allocates=True)
def _multiply_add(share):
    for task in taken(share):
        for _ in range(share.tasks[task], share.tasks[task + 1]):
            sums = (-np.arange(1, SUMS + 1) / (SUMS + 1)).astype(np.float32)
            if multiply_adds(PASSES, sums) < 1:  # always; LLVM could leave out work whose result is not used
                share.found[task] += 2.0 * PASSES * SUMS


def multiply_add_cpu(tasks):
    """Multiply and add into sums in registers; see :func:`multiply_add_numpy`."""
    return _multiply_add(tasks, found=np.zeros(len(tasks) - 1))


@jit
def _multiply_adds_simd(passes, sums):
    """Add their squares to numbers between -1 and 0, which then come closer to 0; return the sum of squares at last.

    sums (SUMS,) float32: all different, else LLVM would keep one for all. A multiply-add that has no operand but its
    sum needs no other register, and nothing of it can be moved out of the loop.
    """
    tile = simd.load(1, CHAINS, simd.pointer(sums, 0), 0)
    for _ in range(passes):
        tile = simd.multiply_add(tile, tile, tile)
    return simd.dot(tile, tile)


@jit
def _multiply_adds_plain(passes, sums):
    """Do the same to numbers in memory, DEPTH passes between a load and a store, so that LLVM can vectorise it."""
    for _ in range(passes // DEPTH):
        for n in range(np.uint64(sums.shape[0])):
            a = sums[n]
            for _ in range(DEPTH):
                a += a * a
            sums[n] = a
    total = np.float32(0)
    for n in range(sums.shape[0]):
        total += sums[n] * sums[n]
    return total


multiply_adds = _multiply_adds_simd if WIDTH else _multiply_adds_plain


def read_numpy(tasks, array):
    """Sum runs of an array (n,) float32, one per task. Returns (n_tasks, 2) float64: bytes read, and sums."""
    return np.array([(4 * (stop - start), array[start:stop].sum()) for start, stop in pairwise(tasks)], np.float64)


@region
def _read(share, array):
    for task in taken(share):
        start, stop = share.tasks[task], share.tasks[task + 1]
        share.found[task, 0], share.found[task, 1] = 4 * (stop - start), add_up(start, stop, array)


def read_cpu(tasks, array):
    """Sum runs of an array; see :func:`read_numpy`."""
    return _read(tasks, array, found=np.zeros((len(tasks) - 1, 2)))


@jit
def _add_up_plain(first, last, array):
    """Sum the elements from ``first`` up to ``last``, in plain Numba."""
    total = np.float32(0)
    for n in range(np.uint64(first), np.uint64(last)):
        total += array[n]
    return total


@jit
def _add_up_simd(first, last, array):
    """Sum the elements from ``first`` up to ``last``."""
    sums, start, step = simd.zeros(1, READS), simd.pointer(array, first), READS * WIDTH
    whole = (last - first) // step * step
    for n in range(0, whole, step):
        sums = simd.add_scaled(sums, np.float32(1), simd.at(start, n))
    return simd.total(sums) + _add_up_plain(first + whole, last, array)


add_up = _add_up_simd if WIDTH else _add_up_plain

MULTIPLY_ADD = {"numpy": multiply_add_numpy, "cpu": multiply_add_cpu, "cuda": lazy("peak_cuda", "multiply_add_cuda")}
READ = {"numpy": read_numpy, "cpu": read_cpu, "cuda": lazy("peak_cuda", "read_cuda")}
