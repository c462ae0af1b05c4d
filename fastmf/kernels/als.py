"""Half a sweep of alternating least squares: every row's factors and bias, with the other side fixed.

Minimised per row, over its rated columns j with factors y_j and biases c_j (Zhou et al. 2008, with an affine weight and
a bias of its own):

    sum_j (r_j - c_j - b - x . y_j)^2 + rho |x|^2 + bias_reg b^2,    rho = reg n + reg0

Setting the derivative to b to zero gives b = (T - s . x) / d, with t_j = r_j - c_j, s = sum y_j, T = sum t_j and
d = n + bias_reg. Put in, the bias is eliminated exactly and k unknowns remain:

    (sum y_j y_j' - s s'/d + rho I) x = sum t_j y_j - s T/d

``bias_reg = inf`` pins the biases to zero. Rows without entries are left as they are.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from fastmf.kernels.compress import balanced

JIT = dict(cache=True, nogil=True, fastmath={"reassoc", "contract", "arcp", "nsz"})

# A pivot this small against its diagonal element is rounding error, not a number to divide by: of float32, and the
# row is then solved in float64; of float64, and it is then singular.
UNSURE, SINGULAR = 1e-5, 1e-12

# The float32 sums of rows longer than this lose digits that matter: they are summed in float64 at once.
LONG = 1 << 17


class Side(NamedTuple):
    """Users or items: factors (n, k) float32 and bias (n,) float32."""

    factors: np.ndarray
    bias: np.ndarray


class Penalty(NamedTuple):
    """The weights of the objective: reg per rating, reg0 per row, bias_reg per bias (inf: no biases)."""

    reg: float
    reg0: float
    bias_reg: float


def half_sweep_numpy(tasks, entries, side, other, penalty):
    """Solve the rows of ``side`` exactly, in place, with ``other`` fixed.

    entries is Compressed with one row per row of ``side``. Returns (n_tasks,) int64: the rows of each task whose
    equations are singular; these keep their former values.
    """
    return np.array(
        [
            sum(_solve_row_numpy(row, entries, side, other, penalty) for row in range(start, stop))
            for start, stop in pairwise(tasks)
        ],
        np.int64,
    )


def _solve_row_numpy(row, entries, side, other, penalty):
    rated = slice(entries.indptr[row], entries.indptr[row + 1])
    columns = entries.indices[rated]
    n, k = len(columns), side.factors.shape[1]
    if n == 0:
        return False
    y = other.factors[columns]
    t = entries.values[rated] - other.bias[columns]
    d, rho = np.float32(n + penalty.bias_reg), np.float32(penalty.reg * n + penalty.reg0)
    if n > LONG or rho <= UNSURE * np.square(y).sum(axis=0).max():  # else no pivot is small: none is below rho
        y, t = y.astype(np.float64), t.astype(np.float64)
    s, total = y.sum(axis=0), t.sum()
    normal = y.T @ y - np.outer(s, s / d)
    normal.flat[:: k + 1] += rho
    if y.dtype == np.float64 and _is_singular(normal):
        return True
    x = np.linalg.solve(normal, y.T @ t - s * (total / d))
    side.factors[row] = x
    side.bias[row] = (total - s @ x) / d
    return False


def _is_singular(normal):
    try:
        pivots = np.linalg.cholesky(normal).diagonal() ** 2
    except np.linalg.LinAlgError:
        return True
    return not np.all(pivots > SINGULAR * normal.diagonal())


@njit(**JIT)
def _accumulate(first, last, indices, values, factors, bias, gram, v, s):
    """Add up gram = sum y y', v = sum t y and s = sum y over one row's entries, in their type; return sum t.

    The whole square is summed: full rows vectorise, which is 2.5 times as fast as half of them (k = 32, AVX-512).
    """
    k = v.shape[0]
    zero = v.dtype.type(0)
    total = zero
    gram[:] = zero
    v[:] = zero
    s[:] = zero
    for j in range(first, last):
        column = indices[j]
        t = zero + (values[j] - bias[column])
        total += t
        for a in range(k):
            y_a = zero + factors[column, a]
            v[a] += t * y_a
            s[a] += y_a
            for b in range(k):
                gram[a, b] += y_a * factors[column, b]
    return total


@njit(**JIT)
def _eliminate_bias(gram, v, s, total, d, rho):
    """Turn the sums into the system without the bias: gram - s s'/d + rho I and v - s total/d, in place."""
    for a in range(v.shape[0]):
        s_a = s[a] / d
        v[a] -= s_a * total
        for b in range(v.shape[0]):
            gram[a, b] -= s_a * s[b]
        gram[a, a] += rho


@njit(**JIT)
def _cholesky_solve(gram, v, smallest):
    """Solve gram x = v in place of v by Cholesky, reading the lower triangle; False if a pivot is too small.

    Written row by row (Golub & Van Loan, section 4.2), so that every inner loop is a dot product of two rows.
    """
    k = v.shape[0]
    zero = v.dtype.type(0)
    for a in range(k):
        for b in range(a):
            dot = zero
            for f in range(b):
                dot += gram[a, f] * gram[b, f]
            gram[a, b] = (gram[a, b] - dot) / gram[b, b]
        dot = zero
        forward = zero
        for f in range(a):
            dot += gram[a, f] * gram[a, f]
            forward += gram[a, f] * v[f]
        pivot = gram[a, a] - dot
        if not pivot > smallest * gram[a, a]:
            return False
        gram[a, a] = np.sqrt(pivot)
        v[a] = (v[a] - forward) / gram[a, a]
    for a in range(k - 1, -1, -1):
        v[a] /= gram[a, a]
        for f in range(a):
            v[f] -= gram[a, f] * v[a]
    return True


@njit(**JIT)
def _solve_row(first, last, indices, values, y, c, reg, reg0, bias_reg, gram, v, s, smallest):
    """Leave the row's factors in v; return its bias, and whether there is a solution."""
    total = _accumulate(first, last, indices, values, y, c, gram, v, s)
    n = v.dtype.type(last - first)
    d = n + bias_reg
    _eliminate_bias(gram, v, s, total, d, reg * n + reg0)
    solved = _cholesky_solve(gram, v, smallest)
    for a in range(v.shape[0]):
        total -= s[a] * v[a]
    return total / d, solved


@njit(**JIT, parallel=True)  # rows are independent; each is written by the one task that holds it
def _half_sweep(tasks, entries, side, other, penalty):
    indptr, indices, values = entries.indptr, entries.indices, entries.values
    x, b = side.factors, side.bias  # unpacked out here: numba 0.68 loses writes through a tuple inside prange
    y, c = other.factors, other.bias
    reg, reg0, bias_reg = np.float32(penalty.reg), np.float32(penalty.reg0), np.float32(penalty.bias_reg)
    unsure = np.float32(UNSURE)
    n_tasks, k = tasks.shape[0] - 1, x.shape[1]
    failed = np.zeros(n_tasks, np.int64)
    for task in prange(n_tasks):
        gram, v, s = np.empty((k, k), np.float32), np.empty(k, np.float32), np.empty(k, np.float32)
        wide, wide_v, wide_s = np.empty((k, k), np.float64), np.empty(k, np.float64), np.empty(k, np.float64)
        for row in range(tasks[task], tasks[task + 1]):
            first, last = indptr[row], indptr[row + 1]
            if first == last:
                continue
            solved = False
            if last - first <= LONG:
                bias, solved = _solve_row(first, last, indices, values, y, c, reg, reg0, bias_reg, gram, v, s, unsure)
                if solved:
                    x[row, :] = v
                    b[row] = bias
            if not solved:
                wide_bias, solved = _solve_row(
                    first, last, indices, values, y, c, reg, reg0, bias_reg, wide, wide_v, wide_s, SINGULAR
                )
                if solved:
                    for a in range(k):
                        x[row, a] = wide_v[a]
                    b[row] = wide_bias
            if not solved:
                failed[task] += 1
    return failed


def half_sweep_cpu(tasks, entries, side, other, penalty):
    """Solve the rows of ``side`` in parallel; see :func:`half_sweep_numpy`."""
    return _half_sweep(tasks, entries, side, other, Penalty(*map(float, penalty)))


HALF_SWEEP = {"numpy": half_sweep_numpy, "cpu": half_sweep_cpu}


def half_sweep_tasks(indptr, k):
    """Cut the rows into tasks of equal work: k (k + 1) operations per entry, k^3/3 + 2 k^2 per solve."""
    return balanced(indptr, k * (k + 1), k**3 / 3 + 2 * k**2)
