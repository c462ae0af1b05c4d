"""WIDTH small matrices at once, one in each lane of the vectors of :mod:`fastmf.kernels.simd`.

An element of a tile is a vector: that element of all the matrices. Tiles are BLOCK x BLOCK or BLOCK x 1 elements,
loaded from matrices that lie one after another in memory. Each step of a Cholesky factorization is done for all lanes.
"""

from llvmlite import ir
from numba import types

from fastmf.kernels.simd import FLOAT, POINTER, VECTOR, Tile, operation, tile_type
from fastmf.kernels.vectors import WIDTH

BLOCK = 4  # rows and columns of a tile


@operation(lambda rows, *_: tile_type(rows, types.literal(BLOCK))(rows, POINTER, types.int64, types.int64))
def load_lanes(e, rows, pointer, step, row_step):
    """Load rows x BLOCK elements of each of WIDTH matrices: vector (r, c) holds the element (r, c) of every matrix.

    Matrices are ``step`` elements apart, their rows ``row_step``. For each row, pieces of 4 elements are joined into 4
    vectors, then each 4 x 4 square of lanes is transposed in two rounds of shuffles.
    """
    vectors = []
    for _ in range(e.returns.rows):
        vectors += _transposed(e, pointer, step)
        pointer = e.at(pointer, row_step)
    return e.tile(vectors)


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


@operation(lambda tile, rows, columns: tile(tile, POINTER, POINTER))
def subtract_products(e, tile, rows, columns):
    """Return tile[r, c] - rows[r] * columns[c]; rows and columns point at vectors side by side."""
    right = e.row(columns, e.returns.columns)
    return e.outer(e.multiply_subtract, tile, lambda row: e.load(e.at(rows, WIDTH * row)), right)


@operation(lambda tile, matrix, vector: tile(tile, matrix, vector))
def subtract_dots(e, tile, matrix, vector):
    """Return tile - matrix @ vector in every lane, for BLOCK x 1 tiles and a BLOCK x BLOCK matrix."""
    sums, a, x = e.vectors(tile), e.vectors(matrix), e.vectors(vector)
    for row in range(BLOCK):
        for column in range(BLOCK):
            sums[row] = e.multiply_subtract(a[BLOCK * row + column], x[column], sums[row])
    return e.tile(sums)


@operation(lambda row: Tile(row.columns, 1)(row))
def column(e, row):
    """Turn a tile of one row into a tile of one column."""
    return row


@operation(lambda matrix: Tile(BLOCK, 1)(matrix))
def diagonal(e, matrix):
    """Return the diagonal of a BLOCK x BLOCK tile as a BLOCK x 1 tile."""
    return e.tile(e.vectors(matrix)[:: BLOCK + 1])


@operation(lambda matrix: matrix(matrix))
def factor(e, matrix):
    """Cholesky: return the upper triangle U with U'U = matrix in every lane, its diagonal inverted."""
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


@operation(lambda u, tile: tile(u, tile))
def solve_lower(e, u, tile):
    """Solve U' X = tile for X, U from :func:`factor`."""
    u = e.vectors(u)
    return _substituted(e, tile, e.returns.columns, range(BLOCK), lambda row, above: u[BLOCK * above + row])


@operation(lambda u, tile: tile(u, tile))
def solve_upper(e, u, tile):
    """Solve U x = tile for x, of one column, U from :func:`factor`."""
    u = e.vectors(u)
    return _substituted(e, tile, 1, range(BLOCK)[::-1], lambda row, column: u[BLOCK * row + column])


def _substituted(e, tile, columns, rows, element):
    """Solve a triangular system for a tile, row by row; element(row, solved row) is inverted on the diagonal."""
    x = e.vectors(tile)
    for place, row in enumerate(rows):
        for n in range(columns):
            own = columns * row + n
            for solved in sorted(rows[:place]):
                x[own] = e.multiply_subtract(element(row, solved), x[columns * solved + n], x[own])
            x[own] = e.builder.fmul(x[own], element(row, row))
    return e.tile(x)
