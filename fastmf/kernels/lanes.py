"""WIDTH small matrices at once, one in each lane of the vectors of :mod:`fastmf.kernels.simd`.

An element of a tile is a vector: that element of all the matrices. Tiles are BLOCK x BLOCK or BLOCK x 1 elements. They
are gathered from matrices that lie one after another, and the same step of a Cholesky factorization is taken for all.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastmf.kernels.simd import FLOAT, POINTER, VECTOR, Tile, operation, tile_type
from fastmf.kernels.vectors import WIDTH

BLOCK = 4  # rows and columns of a tile


@intrinsic(prefer_literal=True)
def load_lanes(typingctx, rows, pointer, step, row_step):
    """Load rows x BLOCK elements of each of WIDTH matrices: vector (r, c) holds the element (r, c) of every matrix.

    Matrices are ``step`` elements apart, their rows ``row_step``. For a row, quarters of 4 elements are put side by
    side, then each 4 x 4 square of a quarter is transposed in two rounds of shuffles.
    """
    tile = tile_type(rows, types.literal(BLOCK))

    @operation(tile, (rows, POINTER, types.int64, types.int64))
    def answer(e, rows, pointer, step, row_step):
        vectors = []
        for _ in range(tile.rows):
            vectors += _transposed(e, pointer, step)
            pointer = e.at(pointer, row_step)
        return e.tile(vectors)

    return answer


def _transposed(e, pointer, step):
    pieces = []
    for _ in range(WIDTH):
        pieces.append(e.load(pointer, BLOCK))
        pointer = e.at(pointer, step)
    wide = [_joined(e, pieces[n::BLOCK]) for n in range(BLOCK)]
    for distance in (1, 2):
        for n in [n for n in range(BLOCK) if not n & distance]:
            low, high = wide[n], wide[n + distance]
            first = [lane if not lane & distance else lane - distance + WIDTH for lane in range(WIDTH)]
            wide[n] = e.shuffled(low, high, first)
            wide[n + distance] = e.shuffled(low, high, [lane + distance for lane in first])
    return wide


def _joined(e, pieces):
    """Put vectors side by side, two by two."""
    while len(pieces) > 1:
        both = range(2 * pieces[0].type.count)
        pieces = [e.shuffled(left, right, both) for left, right in zip(pieces[::2], pieces[1::2], strict=True)]
    return pieces[0]


@intrinsic
def subtract_products(typingctx, tile, rows, columns):
    """Return tile[r, c] - rows[r] * columns[c], where rows and columns point at vectors side by side."""

    @operation(tile, (tile, POINTER, POINTER))
    def answer(e, value, rows, columns):
        right = [e.load(e.at(columns, WIDTH * column)) for column in range(tile.columns)]
        return e.outer(e.multiply_subtract, value, lambda row: e.load(e.at(rows, WIDTH * row)), right)

    return answer


@intrinsic
def subtract_dots(typingctx, tile, matrix, vector):
    """Return tile - matrix @ vector, for BLOCK x 1 tiles and a BLOCK x BLOCK matrix, in every lane."""

    @operation(tile, (tile, matrix, vector))
    def answer(e, value, matrix, vector):
        sums, a, x = e.vectors(value), e.vectors(matrix), e.vectors(vector)
        for row in range(BLOCK):
            for column in range(BLOCK):
                sums[row] = e.multiply_subtract(a[BLOCK * row + column], x[column], sums[row])
        return e.tile(sums)

    return answer


@intrinsic
def column(typingctx, row):
    """Make a tile of one column of a tile of one row."""

    @operation(Tile(row.columns, 1), (row,))
    def answer(e, row):
        return row

    return answer


@intrinsic
def diagonal(typingctx, matrix):
    """Take the diagonal of a BLOCK x BLOCK tile, as a BLOCK x 1 tile."""

    @operation(Tile(BLOCK, 1), (matrix,))
    def answer(e, matrix):
        return e.tile(e.vectors(matrix)[:: BLOCK + 1])

    return answer


@intrinsic
def factor(typingctx, matrix):
    """Cholesky: the upper triangle U with U'U = matrix, in every lane; its diagonal is stored inverted."""

    @operation(matrix, (matrix,))
    def answer(e, matrix):
        u = e.vectors(matrix)
        one = ir.Constant(VECTOR, [ir.Constant(FLOAT, 1.0)] * WIDTH)
        for row in range(BLOCK):
            for above in range(row):
                for column in range(row, BLOCK):
                    left, right = u[BLOCK * above + row], u[BLOCK * above + column]
                    u[BLOCK * row + column] = e.multiply_subtract(left, right, u[BLOCK * row + column])
            inverse = e.builder.fdiv(one, e.square_root(u[BLOCK * row + row]))
            u[BLOCK * row + row] = inverse
            for column in range(row + 1, BLOCK):
                u[BLOCK * row + column] = e.builder.fmul(u[BLOCK * row + column], inverse)
        return e.tile(u)

    return answer


@intrinsic
def solve_lower(typingctx, u, tile):
    """Solve U' X = tile for X, U from :func:`factor`."""

    @operation(tile, (u, tile))
    def answer(e, u, value):
        u = e.vectors(u)
        return _substituted(e, value, tile.columns, range(BLOCK), lambda row, above: u[BLOCK * above + row])

    return answer


@intrinsic
def solve_upper(typingctx, u, tile):
    """Solve U x = tile for x, of one column, U from :func:`factor`."""

    @operation(tile, (u, tile))
    def answer(e, u, value):
        u = e.vectors(u)
        return _substituted(e, value, 1, range(BLOCK)[::-1], lambda row, column: u[BLOCK * row + column])

    return answer


def _substituted(e, tile, columns, rows, element):
    """Solve a triangle for a tile, one of the rows after another; element(row, solved), inverted on its diagonal."""
    x = e.vectors(tile)
    for place, row in enumerate(rows):
        for n in range(columns):
            own = columns * row + n
            for solved in sorted(rows[:place]):
                x[own] = e.multiply_subtract(element(row, solved), x[columns * solved + n], x[own])
            x[own] = e.builder.fmul(x[own], element(row, row))
    return e.tile(x)
