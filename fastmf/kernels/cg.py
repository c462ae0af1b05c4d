"""Half a sweep of alternating least squares by a few steps of conjugate gradients: cheaper than solving for large k.

The equations of a row are those of :mod:`fastmf.kernels.als`, with the bias as one more unknown: of z = (x, b) and
w_j = (y_j, 1),

    (sum w_j w_j' + diag(rho, ..., rho, bias_reg)) z = sum t_j w_j

Conjugate gradients (Hestenes and Stiefel 1952; for ALS: Takács, Pilászy and Tikk 2011) never form the matrix: a step is
one pass over the row's entries. They start from the row's values, so that what a step leaves is caught up with in the
next epoch.
"""

import numpy as np

from fastmf.kernels.als import Penalty, padded
from fastmf.kernels.compress import balanced
from fastmf.kernels.jit import LINE, WIDTH, aligned, jit

if WIDTH:
    from fastmf.kernels.cg_simd import add_up
else:
    from fastmf.kernels.cg_plain import add_up

Z, RESIDUAL, DIRECTION, IMAGE = range(4)  # rows of the scratch memory


def half_sweep_cg_numpy(tasks, entries, side, other, penalty, steps):
    """Move the rows of ``side`` some steps towards their solutions, in place, with ``other`` fixed.

    Arguments as for :func:`fastmf.kernels.als.half_sweep_numpy`. Returns (n_tasks,) int64 zeros: nothing is divided by
    that could be zero, and a row that has nowhere to go stays.
    """
    for row in range(tasks[0], tasks[-1]):
        if entries.indptr[row] < entries.indptr[row + 1]:
            _solve_row_numpy(row, entries, side, other, penalty, steps)
    return np.zeros(len(tasks) - 1, np.int64)


def _solve_row_numpy(row, entries, side, other, penalty, steps):
    rated = slice(entries.indptr[row], entries.indptr[row + 1])
    columns = entries.indices[rated]
    n, k, biased = len(columns), side.factors.shape[1], np.isfinite(penalty.bias_reg)
    w = np.column_stack([other.factors[columns, :k], np.full(n, biased, np.float32)])
    weights = np.array([penalty.reg * n + penalty.reg0] * k + [penalty.bias_reg if biased else 0], np.float32)
    z = np.append(side.factors[row], side.bias[row])
    residual = (entries.values[rated] - other.bias[columns] - w @ z) @ w - weights * z
    direction, square = residual, residual @ residual
    for _ in range(steps):
        image = (w @ direction) @ w + weights * direction
        curvature = direction @ image
        if not curvature > 0:
            break
        z = z + square / curvature * direction
        residual = residual - square / curvature * image
        before, square = square, residual @ residual
        direction = residual + square / before * direction
    side.factors[row], side.bias[row] = z[:k], z[k]


@jit
def _solve_row(row, entries, side, other, penalty, steps, scratch, columns):
    """Do one row of :func:`half_sweep_cg_numpy`; the bias is element kp of the vectors in ``scratch``."""
    first, last = entries.indptr[row], entries.indptr[row + 1]
    k, kp, biased = side.factors.shape[1], other.factors.shape[1], np.isfinite(penalty.bias_reg)
    rho, one = np.float32(penalty.reg * (last - first) + penalty.reg0), np.float32(biased)
    bias_rho = np.float32(penalty.bias_reg) if biased else np.float32(0)
    for f in range(k):
        scratch[Z, f] = side.factors[row, f]
    scratch[Z, kp] = side.bias[row]
    add_up(first, last, entries, other, scratch, Z, RESIDUAL, True, one, columns)
    scratch[RESIDUAL, kp] -= bias_rho * scratch[Z, kp]
    scratch[DIRECTION, kp] = scratch[RESIDUAL, kp]
    square = scratch[RESIDUAL, kp] ** 2
    for f in range(kp):
        scratch[RESIDUAL, f] -= rho * scratch[Z, f]
        scratch[DIRECTION, f] = scratch[RESIDUAL, f]
        square += scratch[RESIDUAL, f] ** 2
    for _ in range(steps):
        add_up(first, last, entries, other, scratch, DIRECTION, IMAGE, False, one, columns)
        scratch[IMAGE, kp] += bias_rho * scratch[DIRECTION, kp]
        curvature = scratch[DIRECTION, kp] * scratch[IMAGE, kp]
        for f in range(kp):
            scratch[IMAGE, f] += rho * scratch[DIRECTION, f]
            curvature += scratch[DIRECTION, f] * scratch[IMAGE, f]
        if not curvature > 0:
            break
        length, before, square = square / curvature, square, np.float32(0)
        for f in range(kp + 1):
            scratch[Z, f] += length * scratch[DIRECTION, f]
            scratch[RESIDUAL, f] -= length * scratch[IMAGE, f]
            square += scratch[RESIDUAL, f] ** 2
        for f in range(kp + 1):
            scratch[DIRECTION, f] = scratch[RESIDUAL, f] + square / before * scratch[DIRECTION, f]
    for f in range(k):
        side.factors[row, f] = scratch[Z, f]
    side.bias[row] = scratch[Z, kp]


@jit
def _half_sweep(tasks, entries, side, other, penalty, steps, scratch, columns):
    for row in range(tasks[0], tasks[-1]):
        if entries.indptr[row] < entries.indptr[row + 1]:
            _solve_row(row, entries, side, other, penalty, steps, scratch, columns)


def half_sweep_cg_cpu(tasks, entries, side, other, penalty, steps):
    """Move the rows of ``side`` in parallel; see :func:`half_sweep_cg_numpy`."""
    other, penalty = padded(other), Penalty(*map(float, penalty))
    kp = other.factors.shape[1]
    columns = (0,) * (kp // WIDTH) if WIDTH else (0,)  # by its length it tells the compiler how many vectors a row has
    _half_sweep(tasks, entries, side, other, penalty, steps, aligned(4, kp + LINE), columns)
    return np.zeros(len(tasks) - 1, np.int64)


HALF_SWEEP_CG = {"numpy": half_sweep_cg_numpy, "cpu": half_sweep_cg_cpu}


def half_sweep_cg_tasks(indptr, k, steps):
    """Cut the rows into tasks of equal work: 4 k operations per entry and pass, about 10 k per row and pass."""
    return balanced(indptr, 4 * k * (1 + steps), 10 * k * (1 + steps))
