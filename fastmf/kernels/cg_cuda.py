"""ALS by conjugate gradients on a GPU: what :mod:`fastmf.kernels.cg` defines, one block of warps per row.

The vectors of a row are in shared memory: the k factors, then the bias. In a pass, the warps take entries in turn,
with lanes across the columns, and keep their sums in registers. The sums of the warps are added in a fixed order.
The floor is three passes of 4 k operations per entry: 14 GFLOP per epoch for the 18 M training ratings of the ml-20m
twin at k = 32, .25 ms at an H200's 60 TFLOP/s. The rows are read three times, mostly from the cache.
"""

import functools

import numpy as np
from numba import cuda

from fastmf.kernels.als_cuda import rho_of, weights_of
from fastmf.kernels.cg import DIRECTION, DONE, IMAGE, RESIDUAL, SCALE, WEIGHT, Z
from fastmf.kernels.groups_cuda import WARP, block_size, group_sum, inlined, kernel

THREADS = 128  # of a block: four warps


@inlined
def _pass(scratch, parts, sums, of, to, piece, entries, residual, one, k, each):
    """Write sum g_j e_j w_j to row ``to``; z is row ``of``, e_j is w_j . z, or t_j - w_j . z for residuals."""
    (indices, values, weights, y, c), lane, own = entries, cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    total, warps = np.float32(0), cuda.blockDim.x // WARP
    for q in range(each):
        sums[q] = np.float32(0)
    for j in range(piece[0] + own, piece[1], warps):
        i, dot = indices[j], np.float32(0)
        for q in range(each):
            if lane + q * WARP < k:
                dot += scratch[of, lane + q * WARP] * y[i, lane + q * WARP]
        e = one * scratch[of, k] + group_sum(dot, WARP)
        if residual:
            e = values[j] - c[i] - e
        if weights.shape[0] > 0:
            e *= weights[j]
        total += one * e
        for q in range(each):
            if lane + q * WARP < k:
                sums[q] += e * y[i, lane + q * WARP]
    for q in range(each):
        if lane + q * WARP < k:
            parts[own, lane + q * WARP] = sums[q]
    if lane == 0:
        parts[own, k] = total
    cuda.syncthreads()
    for f in range(cuda.threadIdx.x, k + 1, cuda.blockDim.x):
        scratch[to, f] = parts[0, f]
        for part in range(1, warps):
            scratch[to, f] += parts[part, f]
    cuda.syncthreads()


@inlined
def _dot(scratch, left, right, k, scale):
    """Return the dot product of two rows of scratch, weighted by row SCALE if ``scale``; the same in every thread."""
    total = np.float64(0)
    for f in range(k + 1):
        value = np.float64(scratch[left, f]) * np.float64(scratch[right, f])
        total += value * np.float64(scratch[SCALE, f]) if scale else value
    return total


@inlined
def _begin(scratch, row, n, x, b, rules, one, k):
    rho = np.float32(rho_of(rules, n))
    for f in range(cuda.threadIdx.x, k + 1, cuda.blockDim.x):
        weight = rho if f < k else np.float32(rules[2]) if one > 0 else np.float32(0)
        scratch[Z, f] = x[row, f] if f < k else b[row]
        scratch[WEIGHT, f], scratch[SCALE, f] = weight, np.float32(1) / (weight + np.float32(n))
        scratch[DIRECTION, f] = np.float32(0)
    cuda.syncthreads()


@inlined
def _move(scratch, k, length):
    for f in range(cuda.threadIdx.x, k + 1, cuda.blockDim.x):
        scratch[Z, f] += length * scratch[DIRECTION, f]
        scratch[RESIDUAL, f] -= length * scratch[IMAGE, f]
    cuda.syncthreads()


@inlined
def _turn(scratch, k, kept):
    """Set the direction to the scaled residual plus ``kept`` times the old direction."""
    for f in range(cuda.threadIdx.x, k + 1, cuda.blockDim.x):
        scratch[DIRECTION, f] = scratch[SCALE, f] * scratch[RESIDUAL, f] + kept * scratch[DIRECTION, f]
    cuda.syncthreads()


@inlined
def _add_weighted(scratch, to, of, sign, base, k):
    """Add sign (diag(weights) + B) times row ``of`` to row ``to``."""
    for f in range(cuda.threadIdx.x, k + 1, cuda.blockDim.x):
        value = scratch[WEIGHT, f] * scratch[of, f]
        if f < base.shape[0]:
            for a in range(k):
                value += base[a, f] * scratch[of, a]
        scratch[to, f] += sign * value
    cuda.syncthreads()


@inlined
def _add_pull(scratch, row, pull, a, k):
    """Add what the row is pulled to, times its weights, to the residual."""
    for f in range(cuda.threadIdx.x, k + 1, cuda.blockDim.x):
        if f < k and pull.shape[0] > 0:
            scratch[RESIDUAL, f] += scratch[WEIGHT, f] * pull[row, f]
        if f == k and a.shape[0] > 0:
            scratch[RESIDUAL, f] += scratch[WEIGHT, f] * a[row]
    cuda.syncthreads()


@functools.cache
def compiled(each):
    """Compile the kernel for lanes that hold ``each`` factors."""
    threads = block_size(WARP, THREADS)
    warps, columns = threads // WARP, each * WARP + 1

    @kernel(threads)
    def half_sweep(indptr, indices, values, weights, masses, y, c, x, b, rules, steps, pull, base, a):
        scratch = cuda.shared.array((6, columns), np.float32)
        parts = cuda.shared.array((warps, columns), np.float32)
        sums, row, k = cuda.local.array(each, np.float32), cuda.blockIdx.x, x.shape[1]
        piece, entries = (indptr[row], indptr[row + 1]), (indices, values, weights, y, c)
        one, plus, minus = np.float32(1 if rules[2] < np.inf else 0), np.float32(1), np.float32(-1)
        if piece[0] == piece[1]:
            return
        mass = masses[row] if masses.shape[0] > 0 else np.float64(piece[1] - piece[0])
        _begin(scratch, row, mass, x, b, rules, one, k)
        _pass(scratch, parts, sums, Z, RESIDUAL, piece, entries, True, one, k, each)
        _add_weighted(scratch, RESIDUAL, Z, minus, base, k)
        _add_pull(scratch, row, pull, a, k)
        square = _dot(scratch, RESIDUAL, RESIDUAL, k, True)
        enough = DONE * square
        _turn(scratch, k, np.float32(0))
        for _ in range(steps):
            _pass(scratch, parts, sums, DIRECTION, IMAGE, piece, entries, False, one, k, each)
            _add_weighted(scratch, IMAGE, DIRECTION, plus, base, k)
            curvature = _dot(scratch, DIRECTION, IMAGE, k, False)
            if not (curvature > 0 and square > enough):
                break
            _move(scratch, k, np.float32(square / curvature))
            before, square = square, _dot(scratch, RESIDUAL, RESIDUAL, k, True)
            _turn(scratch, k, np.float32(square / before))
        for f in range(cuda.threadIdx.x, k, cuda.blockDim.x):
            x[row, f] = scratch[Z, f]
        if cuda.threadIdx.x == 0:
            b[row] = scratch[Z, k]

    return half_sweep


def half_sweep_cg_cuda(tasks, entries, side, other, penalty, known, steps):
    """Move the rows of ``side`` towards their solutions; see :func:`fastmf.kernels.cg.half_sweep_cg_numpy`."""
    n_rows, k = side.factors.shape
    rules = cuda.to_device(np.array(penalty, np.float64))
    if n_rows:
        given = *entries[:3], *weights_of(entries), *other, *side, rules, steps, *known
        compiled(-(-k // WARP))[n_rows, block_size(WARP, THREADS)](*given)
