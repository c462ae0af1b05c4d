"""Half a sweep of alternating least squares: every row's factors and bias, with the other side fixed.

The objective of a row; j runs over its rated columns, with factors y_j and biases c_j (Zhou et al. 2008, plus other
terms of the weight rho, and the row's own bias b):

    sum_j g_j (r_j - c_j - b - x . y_j)^2 + rho |x - z|^2 + bias_reg (b - a)^2
    rho = reg n + reg0 + root_reg n^(1/2),    n = sum_j g_j

The weights g_j are 1 unless the entries carry weights: an entry of weight 2 counts as two equal entries. The row is
pulled towards z and a, which are zero without a prior (:mod:`fastmf.kernels.links`, :mod:`fastmf.kernels.features`). A
term x' B x may be added, the same for all rows (:mod:`fastmf.solvers.implicit`). Setting the derivative in b to zero
gives b = (T - s . x) / d, with t_j = r_j - c_j, s = sum g_j y_j, T = sum g_j t_j + bias_reg a and d = n + bias_reg.
This eliminates the bias exactly, and k unknowns remain:

    (sum g_j y_j y_j' - s s'/d + rho I + B) x = sum g_j t_j y_j - s T/d + rho z

``bias_reg = inf`` pins the biases to zero. Rows without entries are left as they are.
"""

from itertools import pairwise

import numpy as np

from fastmf.kernels.als_plain import JITTER, LONG, SINGULAR, UNSURE
from fastmf.kernels.compile import lazy
from fastmf.kernels.region import region, taken
from fastmf.kernels.tasks import balanced
from fastmf.kernels.types import Penalty
from fastmf.kernels.vectors import WIDTH, padded, widened

if WIDTH:
    from fastmf.kernels.als_simd import half_sweep
else:
    from fastmf.kernels.als_plain import half_sweep


# Bounds on the operations of a task: starting one takes 0.1 ms, and a Ctrl-C has to wait for several tasks.
LEAST, MOST = 4e6, 2e8


def half_sweep_numpy(tasks, entries, side, other, penalty, known):
    """Solve the rows of ``side`` exactly, in place, with ``other`` fixed.

    entries is Compressed with one row per row of ``side``; columns of ``other`` beyond side's are zeros. Returns
    (n_tasks,) int64: the rows of each task whose equations are singular. These are solved with a little added to the
    diagonal (JITTER). If that does not help, because numbers have overflowed, the row becomes NaN.
    """
    given = entries, side, other, penalty, known
    return np.array([sum(_solve_row_numpy(row, *given) for row in range(*bounds)) for bounds in pairwise(tasks)], int)


def _solve_row_numpy(row, entries, side, other, penalty, known):
    rated = slice(entries.indptr[row], entries.indptr[row + 1])
    columns = entries.indices[rated]
    n, k = len(columns), side.factors.shape[1]
    if n == 0:
        return False
    y = other.factors[columns, :k]
    t = entries.values[rated] - other.bias[columns]
    g = np.ones(n, np.float32) if entries.weights is None else entries.weights[rated]
    mass = g.sum(dtype=np.float64)
    d, rho = np.float32(mass + penalty.bias_reg), np.float32(penalty.rho(mass))
    if n > LONG or rho <= UNSURE * (g @ np.square(y)).max():  # otherwise float32 is enough: no pivot is below rho
        y, t, g = y.astype(np.float64), t.astype(np.float64), g.astype(np.float64)
    s, total = g @ y, g @ t
    if len(known.bias):
        total += y.dtype.type(penalty.bias_reg * known.bias[row])
    normal = (g * y.T) @ y - np.outer(s, s / d) + (known.base if len(known.base) else 0)
    normal.flat[:: k + 1] += rho
    singular = y.dtype == np.float64 and _is_singular(normal)
    if singular:
        mean = normal.diagonal().mean()
        normal.flat[:: k + 1] += JITTER * mean if mean > 0 else 1
    failed = singular and _is_singular(normal)
    right = y.T @ (g * t) - s * (total / d) + (rho * known.pull[row, :k] if len(known.pull) else 0)
    x = np.full(k, np.nan) if failed else np.linalg.solve(normal, right)
    side.factors[row] = x
    side.bias[row] = (total - s @ x) / d
    return singular


def _is_singular(normal):
    try:
        pivots = np.linalg.cholesky(normal).diagonal() ** 2
    except np.linalg.LinAlgError:
        return True
    return not np.all(pivots > SINGULAR * normal.diagonal())


def half_sweep_cpu(tasks, entries, side, other, penalty, known):
    """Solve the rows of ``side``; see :func:`half_sweep_numpy`. Faster if ``other`` is :func:`padded` already."""
    other = padded(other)
    kp = other.factors.shape[1]
    base = widened(known.base, kp if len(known.base) else 0, kp)
    given = entries, side, other, Penalty(*map(float, penalty)), known._replace(base=base)
    return half_sweep(tasks, *given, found=np.zeros(len(tasks) - 1, np.int64))


def extrapolate_numpy(tasks, now, before, ahead, momentum):
    """Extrapolate a side along its last change, into ``ahead``: y + momentum (y - y_before); ``before`` becomes y.

    Columns of ``ahead`` beyond the side's stay as they are.
    """
    rows, beta = slice(tasks[0], tasks[-1]), np.float32(momentum)
    for new, old, target in zip(now, before, ahead, strict=True):
        to = target[rows] if target.ndim == 1 else target[rows, : new.shape[1]]
        np.subtract(new[rows], old[rows], out=to)
        to *= beta
        to += new[rows]
        old[rows] = new[rows]


@region(fused=False)
def extrapolate_cpu(share, now, before, ahead, momentum):
    """Extrapolate a side; see :func:`extrapolate_numpy`."""
    beta = np.float32(momentum)
    for task in taken(share):
        for row in range(share.tasks[task], share.tasks[task + 1]):
            for f in range(now.factors.shape[1]):
                new = now.factors[row, f]
                ahead.factors[row, f] = new + beta * (new - before.factors[row, f])
                before.factors[row, f] = new
            new = now.bias[row]
            ahead.bias[row] = new + beta * (new - before.bias[row])
            before.bias[row] = new


HALF_SWEEP = {"numpy": half_sweep_numpy, "cpu": half_sweep_cpu, "cuda": lazy("als_cuda", "half_sweep_cuda")}
EXTRAPOLATE = {"numpy": extrapolate_numpy, "cpu": extrapolate_cpu, "cuda": lazy("als_cuda", "extrapolate_cuda")}


def half_sweep_tasks(indptr, k):
    """Cut the rows into tasks of equal work: k (k + 1) operations per entry, k^3/3 + 2 k^2 per solve."""
    return balanced(indptr, k * (k + 1), k**3 / 3 + 2 * k**2, least=LEAST, most=MOST)
