"""The ALS half-sweep's rows with few entries, solved by their dual: as many equations as entries, not as factors.

With Y the (n, k) factors of a row's columns, z and c what it is pulled to and u = t - Y z - c, by the Woodbury identity

    x = z + Y'a,   b = c + rho / bias_reg sum a,   (YY' + rho / bias_reg 11' + rho I) a = u

With weights g, the rows of Y, 1 and u are multiplied by the roots of their weights, and in x and b so is a. See
:mod:`fastmf.kernels.als` for the symbols.
"""

import numpy as np

from fastmf.kernels import simd
from fastmf.kernels.als_plain import UNSURE, cholesky, mass_of, substitute_back
from fastmf.kernels.compile import inner
from fastmf.kernels.vectors import WIDTH

SHORT = 4  # rows with at most kp / SHORT entries are short; kp is k rounded up to a multiple of WIDTH


@inner
def solve_short(row, slot, entries, side, other, penalty, known, batch):
    """Solve a row of at most kp / SHORT entries; return False if that is not safe.

    It is not with a small bias_reg, which makes the system's terms much larger than their differences. The free slot
    of the batch is scratch memory.
    """
    if known.base.shape[0] > 0 or penalty.bias_reg < 1:
        return False
    (k, kp), first = (side.factors.shape[1], other.factors.shape[1]), entries.indptr[row]
    n = entries.indptr[row + 1] - first
    mass = np.float32(mass_of(first, first + n, entries.weights))
    rho = np.float32(penalty.reg) * mass + (np.float32(penalty.reg0) + np.float32(penalty.root_reg) * np.sqrt(mass))
    ridge = rho / np.float32(penalty.bias_reg)
    system, a, x = batch.grams[slot, : n * n].reshape(n, n), batch.weighted[slot, :n], batch.sums[slot]
    table, bias = simd.pointer(other.factors, 0), np.float32(0)
    if known.bias.shape[0] > 0:
        bias = known.bias[row]
    for r in range(n):
        i, root = np.int64(entries.indices[first + r]), _root(entries.weights, first + r)
        a[r] = entries.values[first + r] - other.bias[i] - bias
        if known.pull.shape[0] > 0:
            for f in range(k):
                a[r] -= known.pull[row, f] * other.factors[i, f]
        a[r] *= root
        for c in range(r + 1):
            system[r, c] = _dot_rows(kp, table, i, np.int64(entries.indices[first + c])) + ridge
            system[r, c] *= root * _root(entries.weights, first + c)
        system[r, r] += rho
        if not rho > np.float32(UNSURE) * system[r, r]:  # maybe singular
            return False
    if not cholesky(system, a, np.float32(UNSURE)):
        return False
    substitute_back(system, a)
    for r in range(n):
        a[r] *= _root(entries.weights, first + r)
    _combine(first, n, kp, entries.indices, table, a, simd.pointer(x, 0))
    total = np.float32(0)
    for r in range(n):
        total += a[r]
    side.bias[row] = bias + ridge * total
    for f in range(k):
        side.factors[row, f] = x[f] + known.pull[row, f] if known.pull.shape[0] > 0 else x[f]
    return True


@inner(inline=True)
def _root(weights, j):
    """Return the root of an entry's weight; 1 if there are no weights."""
    if weights is None:
        return np.float32(1)
    return np.sqrt(weights[j])


@inner(inline=True)
def _dot_rows(kp, table, left, right):
    """Return the dot product of two rows of a table."""
    left_at, right_at, sums = simd.pointer(table, left * kp), simd.pointer(table, right * kp), simd.zeros(1, 1)
    for f in range(0, kp, WIDTH):
        pair = simd.load(1, 1, simd.at(left_at, f), 0), simd.load(1, 1, simd.at(right_at, f), 0)
        sums = simd.multiply_add(sums, pair[0], pair[1])
    return simd.total(sums)


@inner
def _combine(first, n, kp, indices, table, weights, out):
    """Write the weighted sum of n rows of a table."""
    for f in range(0, kp, WIDTH):
        total = simd.zeros(1, 1)
        for r in range(n):
            total = simd.add_scaled(total, weights[r], simd.pointer(table, np.int64(indices[first + r]) * kp + f))
        simd.store(total, simd.at(out, f), 0)
