"""Side features on a GPU: what :mod:`fastmf.kernels.features` defines, an element or a row per thread.

Each kernel reads and writes each table once; the floor is that memory, 4 k bytes per row and table.
"""

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
def _square(table, out):
    for n in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        value = table[n // out.shape[1], n % out.shape[1]]
        out[n // out.shape[1], n % out.shape[1]] = value * value


def square_cuda(tasks, table, out):
    """Square the elements; see :func:`fastmf.kernels.features.square_numpy`."""
    _square[grid(out.size)](table, out)


@cuda.jit
def _pull(expected, linked, inside, intercept, factors, bias, counts, towards):
    k = factors.shape[1]
    for row in range(cuda.grid(1), bias.shape[0], cuda.gridsize(1)):
        cold = counts[row] == 0 and inside[row] > 0
        for f in range(expected.shape[1]):
            expected[row, f] += inside[row] * intercept[f]
            if cold and f < k:
                factors[row, f] = expected[row, f] + linked[row, f] if linked.shape[0] > 0 else expected[row, f]
            if f == k:
                towards[row] = expected[row, f]
            if cold and f == k:
                bias[row] = expected[row, f]


def pull_cuda(tasks, expected, linked, inside, intercept, side, counts, towards):
    """Add the intercept; see :func:`fastmf.kernels.features.pull_numpy`."""
    _pull[grid(expected.shape[0])](expected, linked, inside, cuda.to_device(intercept), *side, counts, towards)


@cuda.jit
def _join(expected, linked, out):
    for n in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        row, f = n // out.shape[1], n % out.shape[1]
        out[row, f] = expected[row, f] + linked[row, f]


def join_cuda(tasks, expected, linked, out):
    """Add two tables; see :func:`fastmf.kernels.features.join_numpy`."""
    _join[grid(out.size)](expected, linked, out)
