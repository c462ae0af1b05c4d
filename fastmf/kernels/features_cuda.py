"""Side features on a GPU: what :mod:`fastmf.kernels.features` defines, an element or a row per thread.

Each kernel reads and writes each table once; the floor is that memory, 4 k bytes per row and table.
"""

import numpy as np
from numba import cuda

from fastmf.kernels.groups_cuda import grid


@cuda.jit
def _leave(factors, bias, linked, expected, out):
    k = factors.shape[1]
    for n in range(cuda.grid(1), factors.shape[0] * (k + 1), cuda.gridsize(1)):
        row, f = n // (k + 1), n % (k + 1)
        value = factors[row, f] if f < k else bias[row]
        if f < k and linked.shape[0] > 0:
            value -= linked[row, f]
        out[row, f] = value - expected[row, f]


def leave_cuda(tasks, side, linked, expected, out):
    """Subtract what is expected; see :func:`fastmf.kernels.features.leave_numpy`."""
    _leave[grid(out.size)](*side, linked, expected, out)


@cuda.jit
def _weigh(roots, table, mean, out):
    for n in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        row, f = n // out.shape[1], n % out.shape[1]
        out[row, f] = roots[row] * (table[row, f] - mean[f])


def weigh_cuda(tasks, roots, table, mean, out):
    """Subtract the mean and weigh; see :func:`fastmf.kernels.features.weigh_numpy`."""
    _weigh[grid(out.size)](roots, table, cuda.to_device(mean), out)


@cuda.jit
def _pull(expected, linked, inside, means, factors, bias, counts, pull, towards):
    k = factors.shape[1]
    for row in range(cuda.grid(1), bias.shape[0], cuda.gridsize(1)):
        mean, cold = (1 if inside[row] > 0 else 0), counts[row] == 0 and inside[row] > 0
        for f in range(k + 1):
            value = expected[row, f] + means[mean, f]
            if f < k and linked.shape[0] > 0:
                value += linked[row, f]
            if f < k:
                pull[row, f] = value
            else:
                towards[row] = value
            if cold and f < k:
                factors[row, f] = value
            if cold and f == k:
                bias[row] = value


def pull_cuda(tasks, expected, linked, inside, means, side, counts, known):
    """Write what rows are pulled to; see :func:`fastmf.kernels.features.pull_numpy`."""
    given = expected, linked, inside, cuda.to_device(means), *side, counts, known.pull, known.bias
    _pull[grid(expected.shape[0])](*given)


@cuda.jit
def _move(factors, bias, present, own, other, moved, absorbed):
    k = factors.shape[1]
    for row in range(cuda.grid(1), bias.shape[0], cuda.gridsize(1)):
        there, total = present[row] > 0, np.float64(bias[row] - own[k])
        for f in range(k):
            value = factors[row, f] - own[f]
            moved[row, f] = value if there else np.float32(0)
            total += np.float64(value) * np.float64(other[f])
        absorbed[row] = np.float32(total) if there else np.float32(0)


def move_cuda(tasks, side, present, own, other, out):
    """Move the mean rows; see :func:`fastmf.kernels.features.move_numpy`."""
    _move[grid(out.bias.shape[0])](*side, present, cuda.to_device(own), cuda.to_device(other), *out)
