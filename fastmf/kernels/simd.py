"""Vectors of float32 inside Numba kernels, as LLVM vectors of WIDTH lanes.

A Tile is rows x columns vectors, held by value: a kernel that keeps few enough of them keeps them in registers. A
pointer is a place in a C-contiguous float32 array. Nothing here checks bounds. Rows and columns are literal integers
(or globals): the loops over them are unrolled while the code is generated.

Two ways to fill the lanes. In the first, lanes are consecutive elements of an array: ``add_outer`` adds the outer
product of some elements and some vectors. In the second, a lane is a whole problem of its own, and the same step is
taken for WIDTH small matrices at once: ``subtract_products``, ``factor``, ``solve_lower``, ``solve_upper`` work on
tiles of 4 x 4 or 4 x 1 such elements.

The functions work inside ``jit`` only, and where WIDTH is not 0 (:mod:`fastmf.kernels.jit`).
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import RequireLiteralValue
from numba.extending import intrinsic, models, register_model

from fastmf.kernels.jit import LINE, WIDTH

BLOCK = 4  # rows and columns of the tiles of small matrices

POINTER = types.CPointer(types.float32)

_FLOAT, _INT32, _INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, max(WIDTH, 1))


class Tile(types.Type):
    """The type of rows x columns vectors."""

    def __init__(self, rows, columns):
        self.rows, self.columns = rows, columns
        super().__init__(name=f"Tile({rows}, {columns}, {WIDTH})")


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager, tile):
        super().__init__(manager, tile, ir.ArrayType(_VECTOR, tile.rows * tile.columns))


class _Emitter:
    """Writes instructions on vectors; what the functions below are made of."""

    def __init__(self, builder):
        self.builder = builder

    def at(self, pointer, offset):
        """Move a pointer by a number of floats, known now or only when it runs."""
        if isinstance(offset, int):
            offset = ir.Constant(_INT64, offset)
        return self.builder.gep(pointer, [offset], inbounds=True)

    def load(self, pointer, lanes=WIDTH):
        vector = ir.VectorType(_FLOAT, lanes)
        return self.builder.load(self.builder.bitcast(pointer, vector.as_pointer()), align=4)

    def store(self, vector, pointer):
        self.builder.store(vector, self.builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)

    def shuffled(self, left, right, lanes):
        """Pick lanes of two vectors, the second's counted on from the first's."""
        mask = ir.Constant(ir.VectorType(_INT32, len(lanes)), [ir.Constant(_INT32, lane) for lane in lanes])
        return self.builder.shuffle_vector(left, right, mask)

    def broadcast(self, scalar):
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(_INT32, 0))
        return self.shuffled(first, undefined, [0] * WIDTH)

    def multiply_add(self, a, b, c):
        """Return a b + c, fused where the machine can (``llvm.fma`` would call the C library where it cannot)."""
        return self._call(f"llvm.fmuladd.v{WIDTH}f32", a, b, c)

    def multiply_subtract(self, a, b, c):
        """Return c - a b."""
        return self.multiply_add(self.builder.fneg(a), b, c)

    def square_root(self, a):
        return self._call(f"llvm.sqrt.v{WIDTH}f32", a)

    def _call(self, name, *args):
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(args))
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), args)

    def vectors(self, tile):
        return [self.builder.extract_value(tile, n) for n in range(tile.type.count)]

    def tile(self, vectors):
        tile = ir.Constant(ir.ArrayType(_VECTOR, len(vectors)), ir.Undefined)
        for n, vector in enumerate(vectors):
            tile = self.builder.insert_value(tile, vector, n)
        return tile


def _operation(returns, takes):
    """Make an intrinsic's answer from its types and the function ``emit(emitter, *args)`` that is decorated."""

    def decorate(emit):
        def generate(context, builder, signature, args):
            value = emit(_Emitter(builder), *args)
            return context.get_dummy_value() if value is None else value

        return returns(*takes), generate

    return decorate


def _tile(rows, columns):
    """Read a shape from types: literal integers, or tuples, of which the length counts."""
    shape = [getattr(size, "literal_value", getattr(size, "count", None)) for size in (rows, columns)]
    if None in shape:
        raise RequireLiteralValue(str((rows, columns)))
    return Tile(*shape)


@intrinsic
def pointer(typingctx, base, offset):
    """Point at an element of an array, by its place in memory order, or as far behind another pointer.

    Functions that are called often take pointers: each call with an array counts references, atomically, twice.
    """

    def generate(context, builder, signature, args):
        data = args[0]
        if isinstance(base, types.Array):
            data = context.make_array(base)(context, builder, data).data
        number = builder.ptrtoint(builder.gep(data, [args[1]], inbounds=True), _INT64)
        # Hides from LLVM what the address is made of. Else it addresses every element as base + index, and older Intel
        # cores split such loads from the arithmetic they feed: 5 to 8 % of a half-sweep (Cascade Lake).
        hidden = builder.asm(ir.FunctionType(_INT64, [_INT64]), "", "=r,0", [number], False)
        return builder.inttoptr(hidden, data.type)

    return types.CPointer(base.dtype)(base, types.int64), generate


@intrinsic
def element(typingctx, pointer, offset):
    """Load one element, of any type, some places behind a pointer."""

    @_operation(pointer.dtype, (pointer, types.int64))
    def answer(e, pointer, offset):
        return e.builder.load(e.at(pointer, offset))

    return answer


@intrinsic
def at(typingctx, pointer, offset):
    """Move a pointer on by some elements."""

    @_operation(POINTER, (POINTER, types.int64))
    def answer(e, pointer, offset):
        return e.at(pointer, offset)

    return answer


@intrinsic(prefer_literal=True)
def prefetch(typingctx, columns, pointer, offset):
    """Ask for the cache lines of a row of some vectors; it need not be there."""
    lines = -(-_tile(types.literal(1), columns).columns * WIDTH // LINE)

    @_operation(types.void, (columns, POINTER, types.int64))
    def answer(e, columns, pointer, offset):
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _INT32, _INT32, _INT32])
        read, keep, is_data = (ir.Constant(_INT32, n) for n in (0, 3, 1))
        function = e.builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        for line in range(lines):
            place = e.builder.gep(e.builder.gep(pointer, [offset]), [ir.Constant(_INT64, LINE * line)])
            e.builder.call(function, [e.builder.bitcast(place, byte), read, keep, is_data])

    return answer


@intrinsic(prefer_literal=True)
def zeros(typingctx, rows, columns):
    """Make a tile of zeros."""
    tile = _tile(rows, columns)

    @_operation(tile, (rows, columns))
    def answer(e, rows, columns):
        return ir.Constant(ir.ArrayType(_VECTOR, tile.rows * tile.columns), None)

    return answer


@intrinsic(prefer_literal=True)
def load(typingctx, rows, columns, pointer, step):
    """Load a tile: its rows are ``step`` elements apart, the vectors of a row side by side."""
    tile = _tile(rows, columns)

    @_operation(tile, (rows, columns, POINTER, types.int64))
    def answer(e, rows, columns, pointer, step):
        vectors = []
        for _ in range(tile.rows):
            vectors += [e.load(e.at(pointer, WIDTH * column)) for column in range(tile.columns)]
            pointer = e.at(pointer, step)
        return e.tile(vectors)

    return answer


@intrinsic
def store(typingctx, tile, pointer, step):
    """Store a tile, laid out as for :func:`load`."""

    @_operation(types.void, (tile, POINTER, types.int64))
    def answer(e, value, pointer, step):
        vectors = e.vectors(value)
        for row in range(tile.rows):
            for column in range(tile.columns):
                e.store(vectors[row * tile.columns + column], e.at(pointer, WIDTH * column))
            pointer = e.at(pointer, step)

    return answer


@intrinsic
def add_outer(typingctx, tile, rows, columns):
    """Return tile[r, c] + rows[r] * (vector c at columns): an element of rows a row, a vector of columns a column."""

    @_operation(tile, (tile, POINTER, POINTER))
    def answer(e, value, rows, columns):
        sums = e.vectors(value)
        right = [e.load(e.at(columns, WIDTH * column)) for column in range(tile.columns)]
        for row in range(tile.rows):
            left = e.broadcast(e.builder.load(e.at(rows, row)))
            for column in range(tile.columns):
                n = row * tile.columns + column
                sums[n] = e.multiply_add(left, right[column], sums[n])
        return e.tile(sums)

    return answer


@intrinsic
def add_scaled(typingctx, tile, scale, pointer):
    """Return tile + scale * (the vectors at pointer), for a tile of one row."""

    @_operation(tile, (tile, types.float32, POINTER))
    def answer(e, value, scale, pointer):
        scale = e.broadcast(scale)
        sums = e.vectors(value)
        return e.tile([e.multiply_add(scale, e.load(e.at(pointer, WIDTH * n)), v) for n, v in enumerate(sums)])

    return answer


@intrinsic
def multiply_add(typingctx, total, a, b):
    """Return total + a * b, vector by vector."""

    @_operation(total, (total, a, b))
    def answer(e, total, a, b):
        triples = zip(e.vectors(a), e.vectors(b), e.vectors(total), strict=True)
        return e.tile([e.multiply_add(*triple) for triple in triples])

    return answer


@intrinsic
def weighted_sum(typingctx, a, x, b, y):
    """Return a x + b y, for two tiles and a number each."""

    @_operation(x, (types.float32, x, types.float32, y))
    def answer(e, a, x, b, y):
        a, b = e.broadcast(a), e.broadcast(b)
        pairs = zip(e.vectors(x), e.vectors(y), strict=True)
        return e.tile([e.multiply_add(a, left, e.builder.fmul(b, right)) for left, right in pairs])

    return answer


@intrinsic
def dot(typingctx, x, y):
    """Sum the products of two tiles' elements."""

    @_operation(types.float32, (x, y))
    def answer(e, x, y):
        x, y = e.vectors(x), e.vectors(y)
        sums = e.builder.fmul(x[0], y[0])
        for pair in zip(x[1:], y[1:], strict=True):
            sums = e.multiply_add(*pair, sums)
        return _total(e, sums)

    return answer


@intrinsic
def total(typingctx, tile):
    """Sum the elements of a tile of one vector."""

    @_operation(types.float32, (tile,))
    def answer(e, value):
        return _total(e, *e.vectors(value))

    return answer


def _total(e, vector):
    """Add the halves of a vector until one element is left."""
    while (lanes := vector.type.count // 2) > 0:
        vector = e.builder.fadd(*(e.shuffled(vector, vector, range(n, n + lanes)) for n in (0, lanes)))
    return e.builder.extract_element(vector, ir.Constant(_INT32, 0))


@intrinsic(prefer_literal=True)
def load_lanes(typingctx, rows, pointer, step, row_step):
    """Load rows x BLOCK elements of each of WIDTH matrices: vector (r, c) holds the element (r, c) of every matrix.

    Matrices are ``step`` elements apart, their rows ``row_step``. For a row, quarters of 4 elements are put side by
    side, then each 4 x 4 square of a quarter is transposed in two rounds of shuffles.
    """
    tile = _tile(rows, types.literal(BLOCK))

    @_operation(tile, (rows, POINTER, types.int64, types.int64))
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

    @_operation(tile, (tile, POINTER, POINTER))
    def answer(e, value, rows, columns):
        sums = e.vectors(value)
        right = [e.load(e.at(columns, WIDTH * column)) for column in range(tile.columns)]
        for row in range(tile.rows):
            left = e.load(e.at(rows, WIDTH * row))
            for column in range(tile.columns):
                n = row * tile.columns + column
                sums[n] = e.multiply_subtract(left, right[column], sums[n])
        return e.tile(sums)

    return answer


@intrinsic
def subtract_dots(typingctx, tile, matrix, vector):
    """Return tile - matrix @ vector, for BLOCK x 1 tiles and a BLOCK x BLOCK matrix, in every lane."""

    @_operation(tile, (tile, matrix, vector))
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

    @_operation(Tile(row.columns, 1), (row,))
    def answer(e, row):
        return row

    return answer


@intrinsic
def diagonal(typingctx, matrix):
    """Take the diagonal of a BLOCK x BLOCK tile, as a BLOCK x 1 tile."""

    @_operation(Tile(BLOCK, 1), (matrix,))
    def answer(e, matrix):
        return e.tile(e.vectors(matrix)[:: BLOCK + 1])

    return answer


@intrinsic
def factor(typingctx, matrix):
    """Cholesky: the upper triangle U with U'U = matrix, in every lane; its diagonal is stored inverted."""

    @_operation(matrix, (matrix,))
    def answer(e, matrix):
        u = e.vectors(matrix)
        one = ir.Constant(_VECTOR, [ir.Constant(_FLOAT, 1.0)] * WIDTH)
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

    @_operation(tile, (u, tile))
    def answer(e, u, value):
        u, x = e.vectors(u), e.vectors(value)
        for row in range(BLOCK):
            for column in range(tile.columns):
                n = tile.columns * row + column
                for above in range(row):
                    x[n] = e.multiply_subtract(u[BLOCK * above + row], x[tile.columns * above + column], x[n])
                x[n] = e.builder.fmul(x[n], u[BLOCK * row + row])
        return e.tile(x)

    return answer


@intrinsic
def solve_upper(typingctx, u, tile):
    """Solve U x = tile for x, of one column, U from :func:`factor`."""

    @_operation(tile, (u, tile))
    def answer(e, u, value):
        u, x = e.vectors(u), e.vectors(value)
        for row in reversed(range(BLOCK)):
            for column in range(row + 1, BLOCK):
                x[row] = e.multiply_subtract(u[BLOCK * row + column], x[column], x[row])
            x[row] = e.builder.fmul(x[row], u[BLOCK * row + row])
        return e.tile(x)

    return answer
