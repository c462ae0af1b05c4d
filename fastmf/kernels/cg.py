"""Half a sweep of alternating least squares by a few steps of conjugate gradients: for large k, cheaper than solving.

The equations of a row are those of :mod:`fastmf.kernels.als`, with the bias as one more unknown. For z = (x, b) and
w_j = (y_j, 1):

    (sum g_j w_j w_j' + diag(rho, ..., rho, bias_reg) + B) z = sum g_j t_j w_j + (rho, ..., rho, bias_reg) (pull, bias)

Conjugate gradients (Hestenes and Stiefel 1952; for ALS: Takács, Pilászy and Tikk 2011) never form the matrix: a step is
one pass over the row's entries. They start from the row's current values, so each epoch continues where the one
before stopped. Factors are scaled by 1 / (rho + n) and the bias by 1 / (bias_reg + n), so that steps have a sensible
length in both, whatever the penalties.
"""

import numpy as np

from fastmf.kernels import simd
from fastmf.kernels.als import LEAST, MOST
from fastmf.kernels.als_plain import mass_of
from fastmf.kernels.compile import inner, jit, lazy
from fastmf.kernels.region import region, taken
from fastmf.kernels.tasks import balanced
from fastmf.kernels.types import Penalty
from fastmf.kernels.vectors import LINE, WIDTH, aligned, padded, vectors

Z, RESIDUAL, DIRECTION, IMAGE, WEIGHT, SCALE = range(6)  # rows of the scratch memory
DONE = 1e-24  # share of the first residual (squared) that is rounding error: another step would divide by zero
CHUNK = 1 << 10  # entries that are summed before they are added to the total: long float32 sums lose digits
AHEAD = 16  # entries between the prefetch of a row and its use


def half_sweep_cg_numpy(tasks, entries, side, other, penalty, known, steps):
    """Move the rows of ``side`` some steps towards their solutions, in place, with ``other`` fixed.

    Arguments are those of :func:`fastmf.kernels.als.half_sweep_numpy`. Singular rows do no harm: a row without a
    direction to move in stays as it is.
    """
    for row in range(tasks[0], tasks[-1]):
        if entries.indptr[row] < entries.indptr[row + 1]:
            _solve_row_numpy(row, entries, side, other, penalty, known, steps)


def _solve_row_numpy(row, entries, side, other, penalty, known, steps):
    rated = slice(entries.indptr[row], entries.indptr[row + 1])
    columns = entries.indices[rated]
    n, k, biased = len(columns), side.factors.shape[1], np.isfinite(penalty.bias_reg)
    w = np.column_stack([other.factors[columns, :k], np.full(n, biased, np.float32)])
    g = np.ones(n, np.float32) if entries.weights is None else entries.weights[rated]
    mass = g.sum(dtype=np.float64)
    weights = np.array([penalty.rho(mass)] * k + [penalty.bias_reg if biased else 0], np.float32)
    z, scale = np.append(side.factors[row], side.bias[row]), 1 / (weights + np.float32(mass))
    wide = np.zeros((k + 1, k + 1), np.float32)  # B, which leaves the bias out
    wide[: len(known.base), :k] = known.base
    pull = np.zeros(k + 1, np.float32)
    pull[:k] = known.pull[row, :k] if len(known.pull) else 0
    pull[k] = known.bias[row] if len(known.bias) else 0
    residual = (g * (entries.values[rated] - other.bias[columns] - w @ z)) @ w - weights * (z - pull) - wide @ z
    direction, square = scale * residual, residual @ (scale * residual)
    enough = DONE * square
    for _ in range(steps):
        image = (g * (w @ direction)) @ w + weights * direction + wide @ direction
        curvature = direction @ image
        if not (curvature > 0 and square > enough):
            break
        z = z + square / curvature * direction
        residual = residual - square / curvature * image
        before, square = square, residual @ (scale * residual)
        direction = scale * residual + square / before * direction
    side.factors[row], side.bias[row] = z[:k], z[k]


def half_sweep_cg_cpu(tasks, entries, side, other, penalty, known, steps):
    """Move the rows of ``side``; see :func:`half_sweep_cg_numpy`."""
    other, penalty = padded(other), Penalty(*map(float, penalty))
    return _half_sweep(tasks, entries, side, other, penalty, known, steps, vectors(other.factors.shape[1]))


@region(allocates=True)
def _half_sweep(share, entries, side, other, penalty, known, steps, columns):
    scratch = aligned(6, other.factors.shape[1] + LINE)
    for task in taken(share):
        start, stop = share.tasks[task], share.tasks[task + 1]
        _solve_rows(start, stop, entries, side, other, penalty, known, steps, scratch, columns)


@inner
def _solve_rows(start, stop, entries, side, other, penalty, known, steps, scratch, columns):
    for row in range(start, stop):
        if entries.indptr[row] < entries.indptr[row + 1]:
            _solve_row(row, entries, side, other, penalty, known, steps, scratch, columns)


@inner
def _solve_row(row, entries, side, other, penalty, known, steps, scratch, columns):
    """Move one row as :func:`half_sweep_cg_numpy` does; the bias is element kp of the vectors in ``scratch``.

    Squares are summed in float64: weights may be so large that squares of their products are beyond float32.
    """
    n = mass_of(entries.indptr[row], entries.indptr[row + 1], entries.weights)
    k, kp = side.factors.shape[1], other.factors.shape[1]
    one = np.float32(np.isfinite(penalty.bias_reg))
    rho = np.float32(penalty.reg * n + (penalty.reg0 + penalty.root_reg * np.sqrt(n)))
    for f in range(kp + 1):
        scratch[Z, f] = side.factors[row, f] if f < k else np.float32(0)
        scratch[WEIGHT, f] = rho
    scratch[Z, kp] = side.bias[row]
    scratch[WEIGHT, kp] = np.float32(penalty.bias_reg) if one > 0 else np.float32(0)
    _add_up(row, entries, other, scratch, Z, RESIDUAL, True, one, columns)
    _add_product(known.base, scratch, Z, RESIDUAL, np.float32(-1))
    _add_pull(row, known, scratch, k, kp)
    square = np.float64(0)
    for f in range(kp + 1):
        scratch[SCALE, f] = np.float32(1) / (scratch[WEIGHT, f] + np.float32(n))
        scratch[RESIDUAL, f] -= scratch[WEIGHT, f] * scratch[Z, f]
        scratch[DIRECTION, f] = scratch[SCALE, f] * scratch[RESIDUAL, f]
        square += np.float64(scratch[RESIDUAL, f]) * np.float64(scratch[DIRECTION, f])
    enough = DONE * square
    for _ in range(steps):
        _add_up(row, entries, other, scratch, DIRECTION, IMAGE, False, one, columns)
        _add_product(known.base, scratch, DIRECTION, IMAGE, np.float32(1))
        curvature = np.float64(0)
        for f in range(kp + 1):
            scratch[IMAGE, f] += scratch[WEIGHT, f] * scratch[DIRECTION, f]
            curvature += np.float64(scratch[DIRECTION, f]) * np.float64(scratch[IMAGE, f])
        if not (curvature > 0 and square > enough):
            break
        length, before, square = np.float32(square / curvature), square, np.float64(0)
        for f in range(kp + 1):
            scratch[Z, f] += length * scratch[DIRECTION, f]
            scratch[RESIDUAL, f] -= length * scratch[IMAGE, f]
            square += np.float64(scratch[RESIDUAL, f]) ** 2 * np.float64(scratch[SCALE, f])
        turn = np.float32(square / before)
        for f in range(kp + 1):
            scratch[DIRECTION, f] = scratch[SCALE, f] * scratch[RESIDUAL, f] + turn * scratch[DIRECTION, f]
    for f in range(k):
        side.factors[row, f] = scratch[Z, f]
    side.bias[row] = scratch[Z, kp]


@inner
def _add_pull(row, known, scratch, k, kp):
    """Add what the row is pulled to, times its weights, to the residual."""
    if known.pull.shape[0] > 0:
        for f in range(k):
            scratch[RESIDUAL, f] += scratch[WEIGHT, f] * known.pull[row, f]
    if known.bias.shape[0] > 0:
        scratch[RESIDUAL, kp] += scratch[WEIGHT, kp] * known.bias[row]


@inner
def _add_product(base, scratch, of, to, sign):
    """Add ``sign`` times B times row ``of`` of scratch to row ``to``."""
    for a in range(base.shape[0]):
        share = sign * scratch[of, a]
        for f in range(base.shape[1]):
            scratch[to, f] += share * base[a, f]


@inner
def _add_up(row, entries, other, scratch, of, to, residual, one, columns):
    """Write the sum of :func:`add_up` over a row's entries, chunk by chunk, into row ``to`` of scratch."""
    last = entries.indptr[row + 1]
    for f in range(other.factors.shape[1] + 1):
        scratch[to, f] = 0
    for start in range(entries.indptr[row], last, CHUNK):
        add_up(start, min(start + CHUNK, last), entries, other, scratch, of, to, residual, one, columns)


@jit
def _add_up_plain(first, last, entries, other, scratch, of, to, residual, one, columns):
    """Add sum g_j e_j w_j to row ``to`` of scratch. z is row ``of``, e_j is w_j . z, or t_j - w_j . z for residuals."""
    kp = other.factors.shape[1]
    sums = np.zeros(kp + 1, np.float32)
    for j in range(first, last):
        i = entries.indices[j]
        e = one * scratch[of, kp]
        for f in range(kp):
            e += scratch[of, f] * other.factors[i, f]
        if residual:
            e = entries.values[j] - other.bias[i] - e
        e *= mass_of(j, j + 1, entries.weights)
        for f in range(kp):
            sums[f] += e * other.factors[i, f]
        sums[kp] += one * e
    for f in range(kp + 1):
        scratch[to, f] += sums[f]


@inner
def _add_up_simd(first, last, entries, other, scratch, of, to, residual, one, columns):
    """Do as :func:`_add_up_plain` does, in vectors.

    z and the sum stay in registers (up to k = 128 with AVX-512), so each number of vectors is compiled separately.
    """
    kp, step, end = len(columns) * WIDTH, scratch.shape[1], entries.indices.shape[0] - 1
    indices, values = simd.pointer(entries.indices, 0), simd.pointer(entries.values, 0)
    y, c, vectors = simd.pointer(other.factors, 0), simd.pointer(other.bias, 0), simd.pointer(scratch, 0)
    weights = simd.pointer(entries.weights, 0)
    z, bias = simd.load(1, columns, simd.at(vectors, of * step), 0), one * scratch[of, kp]
    sums, total = simd.zeros(1, columns), np.float32(0)
    for j in range(first, last):
        simd.prefetch(columns, y, np.int64(simd.element(indices, min(j + AHEAD, end))) * kp)
        i = np.int64(simd.element(indices, j))
        row = simd.pointer(y, i * kp)
        e = bias + simd.dot(z, simd.load(1, columns, row, 0))
        if residual:
            e = simd.element(values, j) - simd.element(c, i) - e
        e *= simd.element_or_one(weights, j)
        sums = simd.add_scaled(sums, e, row)
        total += e
    here = simd.at(vectors, to * step)
    simd.store(simd.weighted_sum(np.float32(1), sums, np.float32(1), simd.load(1, columns, here, 0)), here, 0)
    scratch[to, kp] += one * total


add_up = _add_up_simd if WIDTH else _add_up_plain


HALF_SWEEP_CG = {"numpy": half_sweep_cg_numpy, "cpu": half_sweep_cg_cpu, "cuda": lazy("cg_cuda", "half_sweep_cg_cuda")}


def half_sweep_cg_tasks(indptr, k, steps):
    """Cut the rows into tasks of equal work: 4 k operations per entry and pass, about 10 k per row and pass."""
    return balanced(indptr, 4 * k * (1 + steps), 10 * k * (1 + steps), least=LEAST, most=MOST)
