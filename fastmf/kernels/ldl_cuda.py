"""Symmetric equations solved in place by the threads of one block: L D L' (Golub & Van Loan, section 4.2).

The lower triangle of a k x k matrix is packed row by row; the right-hand side is row k, with one unused element after
it. A panel of NB columns is factored column by column, then all later columns are updated at once. The forward
substitution needs no pass of its own, because the right-hand side is a row.
"""

import math

import numpy as np
from numba import cuda

from fastmf.kernels.groups_cuda import inlined

NB = 8  # columns of a panel


def packed(k):
    """Return the number of elements of the lower triangle of k columns and the right-hand side."""
    return (k + 1) * (k + 2) // 2


@inlined
def at(row, column):
    """Return the index of an element of the packed triangle."""
    return row * (row + 1) // 2 + column


@inlined
def lift(gram, diagonal, k, jitter, thread, form):
    """Add ``jitter`` times its mean, or 1 if the mean is 0, to the diagonal; copy the result to ``diagonal``."""
    more = gram.dtype.type(0)
    if jitter > 0:
        for f in range(k):
            more += gram[at(f, f)]
        more = jitter * more / gram.dtype.type(k) if more > 0 else gram.dtype.type(1)
        cuda.syncthreads()
    for f in range(thread, k, form.threads):
        gram[at(f, f)] += more
        diagonal[f] = gram[at(f, f)]


@inlined
def factor(gram, k, inverse, diagonal, smallest, thread, form):
    """Factor L D L' in place, unscaled: element (r, c) becomes L[r, c] D[c], ``inverse`` becomes 1 / D.

    Returns False in all threads at the first pivot of at most ``smallest`` times its element of ``diagonal``.
    """
    for panel in range(0, k, NB):
        end = min(panel + NB, k)
        for a in range(panel, end):
            cuda.syncthreads()
            pivot = gram[at(a, a)]
            if not pivot > smallest * diagonal[a]:
                return False
            if thread == 0:
                inverse[a] = gram.dtype.type(1) / pivot
            for r in range(a + 1 + thread, k + 1, form.threads):
                share = gram[at(r, a)] / pivot
                for c in range(a + 1, min(end, r + 1)):
                    gram[at(r, c)] -= share * gram[at(c, a)]
        cuda.syncthreads()
        _update(gram, k, inverse, panel, end, thread, form)
    cuda.syncthreads()
    return True


@inlined
def _update(gram, k, inverse, panel, end, thread, form):
    """Subtract the products of a panel from all columns after it, in tiles of 4 x 4."""
    side = (k + 1 - end + 3) // 4
    for tile in range(thread, side * (side + 1) // 2, form.threads):
        i = int(math.sqrt(np.float32(2 * tile)))  # a first guess, off by one at most
        while i * (i + 1) // 2 > tile:
            i -= 1
        while (i + 1) * (i + 2) // 2 <= tile:
            i += 1
        top, left = end + 4 * i, end + 4 * (tile - i * (i + 1) // 2)
        _update_tile(gram, k, inverse, panel, end, top, left)


@inlined
def _update_tile(gram, k, inverse, panel, end, top, left):
    """Subtract the products of a panel from 4 x 4 elements, in registers; write only those in the triangle."""
    sums, of_c = cuda.local.array(16, gram.dtype), cuda.local.array(4, gram.dtype)
    rows, columns = cuda.local.array(4, np.int64), cuda.local.array(4, np.int64)
    for p in range(4):
        rows[p], columns[p] = at(min(top + p, k), 0), at(min(left + p, k), 0)
        for q in range(4):
            sums[4 * p + q] = 0
    for f in range(panel, end):
        for q in range(4):
            of_c[q] = gram[np.uint64(columns[q] + f)] * inverse[f]
        for p in range(4):
            of_r = gram[np.uint64(rows[p] + f)]
            for q in range(4):
                sums[4 * p + q] += of_r * of_c[q]
    for p in range(4):
        last = min(top + p, k - 1) if top + p <= k else -1
        for q in range(4):
            if left + q <= last:
                gram[np.uint64(rows[p] + left + q)] -= sums[4 * p + q]


@inlined
def substitute(gram, k, inverse, x, s, total, thread, form):
    """Solve backward into x; return total - s . x."""
    for f in range(k - 1, -1, -1):
        cuda.syncthreads()
        value = gram[at(k, f)] * inverse[f]
        total -= s[f] * value
        if thread == 0:
            x[f] = value
        for c in range(thread, f, form.threads):
            gram[at(k, c)] -= gram[at(f, c)] * value
    cuda.syncthreads()
    return total
