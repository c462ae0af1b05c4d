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


def pull_numpy(tasks, expected, linked, inside, means, side, counts, known):
    """Write what rows are pulled to into ``known``: ``expected`` plus a mean, and plus ``linked`` for factors.

    means (2, kp) float32: of rows outside of the feature table, and of rows ``inside`` (n,) float32, which are 1 or 0.
    Rows inside with a count of zero are set to what they are pulled to.
    """
    rows, k = slice(tasks[0], tasks[-1]), side.factors.shape[1]
    found = expected[rows] + means[inside[rows].astype(int)]
    known.pull[rows, :k] = found[:, :k] + (linked[rows, :k] if len(linked) else 0)
    known.bias[rows] = found[:, k]
    cold = tasks[0] + np.flatnonzero((counts[rows] == 0) & (inside[rows] > 0))
    side.factors[cold], side.bias[cold] = known.pull[cold, :k], known.bias[cold]


def move_numpy(tasks, side, present, own, other, out):
    """Move the mean rows of both sides, ``own`` and ``other`` (kp,) float32, out of a side's factors and biases.

    x - m and b - m_b + (x - m) . m_other are written into the side ``out``; zeros if ``present`` (n,) float32 is 0.
    """
    rows, k = slice(tasks[0], tasks[-1]), side.factors.shape[1]
    there = present[rows] > 0
    out.factors[rows] = np.where(there[:, None], side.factors[rows] - own[:k], np.float32(0))
    bias = side.bias[rows] - own[k] + np.sum(out.factors[rows] * other[:k], axis=1)
    out.bias[rows] = np.where(there, bias, np.float32(0))


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
def pull_cpu(share, expected, linked, inside, means, side, counts, known):
    """Write what rows are pulled to; see :func:`pull_numpy`."""
    k, links = side.factors.shape[1], linked.shape[0] > 0
    for task in taken(share):
        for row in range(share.tasks[task], share.tasks[task + 1]):
            mean = 1 if inside[row] > 0 else 0
            for f in range(k):
                known.pull[row, f] = expected[row, f] + means[mean, f]
            if links:
                for f in range(k):
                    known.pull[row, f] += linked[row, f]
            known.bias[row] = expected[row, k] + means[mean, k]
            if counts[row] == 0 and inside[row] > 0:
                for f in range(k):
                    side.factors[row, f] = known.pull[row, f]
                side.bias[row] = known.bias[row]


@region
def move_cpu(share, side, present, own, other, out):
    """Move the mean rows; see :func:`move_numpy`."""
    k = side.factors.shape[1]
    for task in taken(share):
        for row in range(share.tasks[task], share.tasks[task + 1]):
            there, total = present[row] > 0, np.float64(side.bias[row] - own[k])
            for f in range(k):
                moved = side.factors[row, f] - own[f]
                out.factors[row, f] = moved if there else np.float32(0)
                total += np.float64(moved) * np.float64(other[f])
            out.bias[row] = np.float32(total) if there else np.float32(0)


LEAVE = {"numpy": leave_numpy, "cpu": leave_cpu, "cuda": lazy("features_cuda", "leave_cuda")}
WEIGH = {"numpy": weigh_numpy, "cpu": weigh_cpu, "cuda": lazy("features_cuda", "weigh_cuda")}
PULL = {"numpy": pull_numpy, "cpu": pull_cpu, "cuda": lazy("features_cuda", "pull_cuda")}
MOVE = {"numpy": move_numpy, "cpu": move_cpu, "cuda": lazy("features_cuda", "move_cuda")}
