"""Side features: what a row is expected to be, given what is known of it; see :mod:`fastmf.solvers.features`.

A table (m, kp) holds k weights of each of m features for factors and, in column k, their weight for biases. A row's
features times the table are a sum over its entries: :data:`fastmf.kernels.links.GATHER`, whose entries carry the
values of features. The kernels here connect such tables (n, kp) with the factors and biases of rows.
"""

import numpy as np

from fastmf.kernels.compile import lazy
from fastmf.kernels.region import region, taken


def leave_numpy(tasks, side, linked, expected, out):
    """Write what is left of a side's factors and biases, without ``expected``, into ``out``; all are (n, kp).

    ``linked`` is subtracted from the factors, too: (n, k or more), or (0, k) for nothing.
    """
    rows, k = slice(tasks[0], tasks[-1]), side.factors.shape[1]
    out[rows, :k] = side.factors[rows] - expected[rows, :k] - (linked[rows, :k] if len(linked) else 0)
    out[rows, k] = side.bias[rows] - expected[rows, k]


def weigh_numpy(tasks, roots, table, mean, out):
    """Write ``roots[r] * (table[r] - mean)`` into ``out[r]``; mean (kp,) float32."""
    rows = slice(tasks[0], tasks[-1])
    out[rows] = roots[rows, None] * (table[rows] - mean)


def square_numpy(tasks, table, out):
    """Write the squares of a table's elements into ``out``."""
    rows = slice(tasks[0], tasks[-1])
    np.square(table[rows], out=out[rows])


def pull_numpy(tasks, expected, linked, inside, intercept, side, counts, towards):
    """Add the intercept (kp,) float32 to the rows of ``expected`` that are ``inside`` the feature table, in place.

    inside (n,) float32 is 1 or 0. What biases are pulled to is also written into ``towards`` (n,) float32. The side's
    rows inside with a count of zero are set to what they are pulled to, and to ``linked`` more.
    """
    rows, k = slice(tasks[0], tasks[-1]), side.factors.shape[1]
    expected[rows] += inside[rows, None] * intercept
    towards[rows] = expected[rows, k]
    cold = tasks[0] + np.flatnonzero((counts[rows] == 0) & (inside[rows] > 0))
    side.factors[cold] = expected[cold, :k] + (linked[cold, :k] if len(linked) else 0)
    side.bias[cold] = expected[cold, k]


def join_numpy(tasks, expected, linked, out):
    """Add two tables (n, k or more) into the first k columns of ``out`` (n, k)."""
    rows, k = slice(tasks[0], tasks[-1]), out.shape[1]
    np.add(expected[rows, :k], linked[rows, :k], out=out[rows])


@region
def leave_cpu(share, side, linked, expected, out):
    """Subtract what is expected; see :func:`leave_numpy`."""
    k, links = side.factors.shape[1], linked.shape[0] > 0
    for task in taken(share):
        for row in range(share.tasks[task], share.tasks[task + 1]):
            for f in range(k):
                out[row, f] = side.factors[row, f] - expected[row, f]
            if links:
                for f in range(k):
                    out[row, f] -= linked[row, f]
            out[row, k] = side.bias[row] - expected[row, k]


@region(fused=False)
def weigh_cpu(share, roots, table, mean, out):
    """Subtract the mean and weigh; see :func:`weigh_numpy`."""
    for task in taken(share):
        for row in range(share.tasks[task], share.tasks[task + 1]):
            for f in range(out.shape[1]):
                out[row, f] = roots[row] * (table[row, f] - mean[f])


@region
def square_cpu(share, table, out):
    """Square the elements; see :func:`square_numpy`."""
    for task in taken(share):
        for row in range(share.tasks[task], share.tasks[task + 1]):
            for f in range(out.shape[1]):
                out[row, f] = table[row, f] * table[row, f]


@region(fused=False)
def pull_cpu(share, expected, linked, inside, intercept, side, counts, towards):
    """Add the intercept; see :func:`pull_numpy`."""
    k, links = side.factors.shape[1], linked.shape[0] > 0
    for task in taken(share):
        for row in range(share.tasks[task], share.tasks[task + 1]):
            for f in range(expected.shape[1]):
                expected[row, f] += inside[row] * intercept[f]
            towards[row] = expected[row, k]
            if counts[row] == 0 and inside[row] > 0:
                for f in range(k):
                    side.factors[row, f] = expected[row, f] + linked[row, f] if links else expected[row, f]
                side.bias[row] = expected[row, k]


@region
def join_cpu(share, expected, linked, out):
    """Add two tables; see :func:`join_numpy`."""
    for task in taken(share):
        for row in range(share.tasks[task], share.tasks[task + 1]):
            for f in range(out.shape[1]):
                out[row, f] = expected[row, f] + linked[row, f]


LEAVE = {"numpy": leave_numpy, "cpu": leave_cpu, "cuda": lazy("features_cuda", "leave_cuda")}
WEIGH = {"numpy": weigh_numpy, "cpu": weigh_cpu, "cuda": lazy("features_cuda", "weigh_cuda")}
PULL = {"numpy": pull_numpy, "cpu": pull_cpu, "cuda": lazy("features_cuda", "pull_cuda")}
JOIN = {"numpy": join_numpy, "cpu": join_cpu, "cuda": lazy("features_cuda", "join_cuda")}
SQUARE = {"numpy": square_numpy, "cpu": square_cpu, "cuda": lazy("features_cuda", "square_cuda")}
