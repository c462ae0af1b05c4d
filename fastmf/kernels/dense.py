"""Small dense matrices in float64: factorisations of k x k matrices, as in Gibbs sampling, and products of rows.

For matrices of 100 x 100 NumPy's BLAS starts a thread on every core, whatever the number of threads asked for, and they
wait for each other in a loop: beside a busy process, a factorisation of 1 ms took a second. These take one thread, and
their bits depend neither on the machine's cores nor on its BLAS.

Matrices are contiguous. Values that are not finite, and matrices that are not positive definite, give NaN.
"""

import math

import numpy as np

from fastmf.kernels.compile import inner, jit
from fastmf.kernels.region import region, taken

SWEEPS, ALIGNED = 40, 1e-14  # of Jacobi's method; the cosine of two vectors that counts as zero


def multiply_numpy(tasks, rows, matrix, out):
    """Write rows (n, k) times a matrix (k, m) into ``out`` (n, m), all float64."""
    part = slice(tasks[0], tasks[-1])
    np.matmul(rows[part], matrix, out=out[part])


@region
def multiply_cpu(share, rows, matrix, out):
    """Multiply rows by a matrix; see :func:`multiply_numpy`."""
    for task in taken(share):
        start, stop = share.tasks[task], share.tasks[task + 1]
        for row in range(start, stop, 2):
            _multiply_two(row, min(row + 1, stop - 1), rows, matrix, out)


@inner
def _multiply_two(one, two, rows, matrix, out):
    """Multiply two rows, which may be the same, with four rows of the matrix at a time."""
    k, m = matrix.shape
    for j in range(m):
        out[one, j], out[two, j] = 0.0, 0.0
    for f in range(0, k - 3, 4):
        a, b, c, d = rows[one, f], rows[one, f + 1], rows[one, f + 2], rows[one, f + 3]
        p, q, r, s = rows[two, f], rows[two, f + 1], rows[two, f + 2], rows[two, f + 3]
        for j in range(m):
            w, x, y, z = matrix[f, j], matrix[f + 1, j], matrix[f + 2, j], matrix[f + 3, j]
            first, second = out[one, j] + a * w + b * x + c * y + d * z, out[two, j] + p * w + q * x + r * y + s * z
            out[one, j], out[two, j] = first, second
    for f in range(k - k % 4, k):
        a, p = rows[one, f], rows[two, f]
        for j in range(m):
            first, second = out[one, j] + a * matrix[f, j], out[two, j] + p * matrix[f, j]
            out[one, j], out[two, j] = first, second


MULTIPLY = {"numpy": multiply_numpy, "cpu": multiply_cpu}


@jit
def cholesky(matrix):
    """Return the lower triangle C with C C' = matrix (k, k), of which only the lower half is read."""
    k = matrix.shape[0]
    lower = np.zeros((k, k))
    for i in range(k):
        for j in range(i + 1):
            left = matrix[i, j]
            for f in range(j):
                left -= lower[i, f] * lower[j, f]
            if j < i:
                lower[i, j] = left / lower[j, j]
            else:
                lower[i, i] = math.sqrt(left) if left > 0 else math.nan
    return lower


@jit
def solve_lower(lower, right):
    """Solve C X = B for a lower triangle C (k, k) and B (k, m); return X."""
    k, m = right.shape
    found = right.copy()
    for i in range(k):
        for f in range(i):
            c = lower[i, f]
            for j in range(m):
                found[i, j] -= c * found[f, j]
        for j in range(m):
            found[i, j] /= lower[i, i]
    return found


@jit
def solve_upper(lower, right):
    """Solve C' x = b for a lower triangle C (k, k) and b (k,); return x."""
    found = right.copy()
    for i in range(lower.shape[0] - 1, -1, -1):
        found[i] /= lower[i, i]
        for f in range(i):
            found[f] -= lower[i, f] * found[i]
    return found


@jit
def principal(lower):
    """Return the eigenvalues (k,), in no order, and eigenvectors (k, k), one a column, of C C' for a lower triangle C.

    The columns of C are rotated in pairs until they are orthogonal (Hestenes 1958): then they are the eigenvectors,
    and their squared lengths the eigenvalues.
    """
    k = lower.shape[0]
    columns, squares = lower.T.copy(), np.empty(k)
    for _ in range(SWEEPS):
        _measure(columns, squares)
        turned = 0
        for p in range(k - 1):
            for q in range(p + 1, k):
                turned += _turn(columns, squares, p, q)
        if turned == 0:
            break
    _measure(columns, squares)
    vectors = np.empty((k, k))
    for p in range(k):
        for f in range(k):
            vectors[f, p] = columns[p, f] / math.sqrt(squares[p])
    return squares, vectors


@jit
def _measure(columns, squares):
    """Write the squared length of each row of ``columns``."""
    for p in range(columns.shape[0]):
        total = 0.0
        for f in range(columns.shape[1]):
            total += columns[p, f] * columns[p, f]
        squares[p] = total


@jit
def _turn(columns, squares, p, q):
    """Rotate rows p and q until they are orthogonal; return 0 if they are already."""
    product = 0.0
    for f in range(columns.shape[1]):
        product += columns[p, f] * columns[q, f]
    if not abs(product) > ALIGNED * math.sqrt(squares[p] * squares[q]):  # also if it is NaN
        return 0
    half = (squares[q] - squares[p]) / (2 * product)
    tangent = 1 / (half + math.copysign(math.sqrt(1 + half * half), half))
    cosine = 1 / math.sqrt(1 + tangent * tangent)
    sine = cosine * tangent
    for f in range(columns.shape[1]):
        x, y = columns[p, f], columns[q, f]
        columns[p, f], columns[q, f] = cosine * x - sine * y, sine * x + cosine * y
    squares[p] -= tangent * product
    squares[q] += tangent * product
    return 1
