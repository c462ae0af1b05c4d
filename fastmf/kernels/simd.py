"""Vectors of float32 inside Numba kernels, as LLVM vectors of WIDTH lanes.

A Tile is rows x columns vectors, held by value: a kernel that keeps few enough of them keeps them in registers. A
pointer is a place in a C-contiguous float32 array. Nothing here checks bounds. Rows and columns are literal integers
(or globals): the loops over them are unrolled while the code is generated.

Here lanes are consecutive elements of an array: ``add_outer`` adds the outer product of some elements and some vectors.
In :mod:`fastmf.kernels.lanes` a lane is a small matrix of its own.

The functions work inside ``jit`` only, and where WIDTH is not 0 (:mod:`fastmf.kernels.compile`).
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import RequireLiteralValue
from numba.extending import intrinsic, models, register_model

from fastmf.kernels.vectors import LINE, WIDTH

POINTER = types.CPointer(types.float32)

FLOAT, _INT32, _INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, max(WIDTH, 1))


class Tile(types.Type):
    """The type of rows x columns vectors."""

    def __init__(self, rows, columns):
        self.rows, self.columns = rows, columns
        super().__init__(name=f"Tile({rows}, {columns}, {WIDTH})")


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager, tile):
        super().__init__(manager, tile, ir.ArrayType(VECTOR, tile.rows * tile.columns))


class Emitter:
    """Writes instructions on vectors; what the functions below are made of."""

    def __init__(self, builder):
        self.builder = builder

    def at(self, pointer, offset):
        """Move a pointer by a number of floats, known now or only when it runs."""
        if isinstance(offset, int):
            offset = ir.Constant(_INT64, offset)
        return self.builder.gep(pointer, [offset], inbounds=True)

    def load(self, pointer, lanes=WIDTH):
        """Load a vector, aligned or not."""
        vector = ir.VectorType(FLOAT, lanes)
        return self.builder.load(self.builder.bitcast(pointer, vector.as_pointer()), align=4)

    def store(self, vector, pointer):
        """Store a vector, aligned or not."""
        self.builder.store(vector, self.builder.bitcast(pointer, VECTOR.as_pointer()), align=4)

    def shuffled(self, left, right, lanes):
        """Pick lanes of two vectors, the second's counted on from the first's."""
        mask = ir.Constant(ir.VectorType(_INT32, len(lanes)), [ir.Constant(_INT32, lane) for lane in lanes])
        return self.builder.shuffle_vector(left, right, mask)

    def broadcast(self, scalar):
        """Put one number into all lanes."""
        undefined = ir.Constant(VECTOR, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(_INT32, 0))
        return self.shuffled(first, undefined, [0] * WIDTH)

    def multiply_add(self, a, b, c):
        """Return a b + c, fused where the machine can (``llvm.fma`` would call the C library where it cannot)."""
        return self._call(f"llvm.fmuladd.v{WIDTH}f32", a, b, c)

    def multiply_subtract(self, a, b, c):
        """Return c - a b."""
        return self.multiply_add(self.builder.fneg(a), b, c)

    def square_root(self, a):
        """Return the square roots of the lanes."""
        return self._call(f"llvm.sqrt.v{WIDTH}f32", a)

    def _call(self, name, *args):
        kind = ir.FunctionType(VECTOR, [VECTOR] * len(args))
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), args)

    def bits(self, truths):
        """Make an int64 of a vector of truths, the first lowest."""
        return self.builder.zext(self.builder.bitcast(truths, ir.IntType(WIDTH)), _INT64)

    def vectors(self, tile):
        """List the vectors of a tile, row by row."""
        return [self.builder.extract_value(tile, n) for n in range(tile.type.count)]

    def outer(self, combine, tile, left, right):
        """Return a tile with combine(left(r), right[c], element) in the place of every element (r, c).

        left is asked for its vectors one by one, so that no more of them are held at a time than are used.
        """
        vectors, columns = self.vectors(tile), len(right)
        for row in range(len(vectors) // columns):
            of_row = left(row)
            for n in range(row * columns, (row + 1) * columns):
                vectors[n] = combine(of_row, right[n % columns], vectors[n])
        return self.tile(vectors)

    def tile(self, vectors):
        """Make a tile of vectors, row by row."""
        tile = ir.Constant(ir.ArrayType(VECTOR, len(vectors)), ir.Undefined)
        for n, vector in enumerate(vectors):
            tile = self.builder.insert_value(tile, vector, n)
        return tile


def operation(returns, takes):
    """Make an intrinsic's answer from its types and the function ``emit(emitter, *args)`` that is decorated."""

    def decorate(emit):
        def generate(context, builder, signature, args):
            value = emit(Emitter(builder), *args)
            return context.get_dummy_value() if value is None else value

        return returns(*takes), generate

    return decorate


def tile_type(rows, columns):
    """Read a shape from types: literal integers, or tuples, of which the length counts."""
    shape = [getattr(size, "literal_value", getattr(size, "count", None)) for size in (rows, columns)]
    if None in shape:
        raise RequireLiteralValue(str((rows, columns)))
    return Tile(*shape)


@intrinsic
def pointer(typingctx, base, offset):
    """Point at an element of an array, by its place in memory order, or as far behind another pointer; None stays None.

    Functions that are called often take pointers: each call with an array counts references, atomically, twice.
    """
    if base is types.none:
        return base(base, types.int64), lambda context, *_: context.get_dummy_value()

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

    @operation(pointer.dtype, (pointer, types.int64))
    def answer(e, pointer, offset):
        return e.builder.load(e.at(pointer, offset))

    return answer


@intrinsic
def element_or_one(typingctx, pointer, offset):
    """Load one float32 some places behind a pointer, or take 1 where that is None."""

    @operation(types.float32, (pointer, types.int64))
    def answer(e, place, offset):
        if pointer is types.none:
            return ir.Constant(FLOAT, 1.0)
        return e.builder.load(e.at(place, offset))

    return answer


@intrinsic
def either(typingctx, pointer, there, none):
    """Take one of two float32, by whether a pointer is there or is None: the compiler leaves the other out."""

    @operation(types.float32, (pointer, types.float32, types.float32))
    def answer(e, place, there, none):
        return none if pointer is types.none else there

    return answer


@intrinsic
def put(typingctx, pointer, offset, number):
    """Store one float32 some places behind a pointer."""

    @operation(types.void, (POINTER, types.int64, types.float32))
    def answer(e, pointer, offset, number):
        e.builder.store(number, e.at(pointer, offset))

    return answer


@intrinsic
def at(typingctx, pointer, offset):
    """Move a pointer on by some elements."""

    @operation(POINTER, (POINTER, types.int64))
    def answer(e, pointer, offset):
        return e.at(pointer, offset)

    return answer


@intrinsic(prefer_literal=True)
def prefetch(typingctx, columns, pointer, offset):
    """Prefetch the cache lines of a row of some vectors, of any type of 4 bytes; it may be out of bounds."""
    lines = -(-tile_type(types.literal(1), columns).columns * WIDTH // LINE)

    @operation(types.void, (columns, pointer, types.int64))
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
    tile = tile_type(rows, columns)

    @operation(tile, (rows, columns))
    def answer(e, rows, columns):
        return ir.Constant(ir.ArrayType(VECTOR, tile.rows * tile.columns), None)

    return answer


@intrinsic(prefer_literal=True)
def load(typingctx, rows, columns, pointer, step):
    """Load a tile: its rows are ``step`` elements apart, the vectors of a row side by side."""
    tile = tile_type(rows, columns)

    @operation(tile, (rows, columns, POINTER, types.int64))
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

    @operation(types.void, (tile, POINTER, types.int64))
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

    @operation(tile, (tile, POINTER, POINTER))
    def answer(e, value, rows, columns):
        return _with_outer(e, tile, value, rows, columns, lambda vector: vector)

    return answer


@intrinsic
def add_scaled_outer(typingctx, tile, scale, rows, columns):
    """Return tile[r, c] + scale * rows[r] * (vector c at columns); a scale that is known to be 1 costs nothing."""

    @operation(tile, (tile, types.float32, POINTER, POINTER))
    def answer(e, value, scale, rows, columns):
        scales = e.broadcast(scale)
        return _with_outer(e, tile, value, rows, columns, lambda vector: e.builder.fmul(scales, vector))

    return answer


def _with_outer(e, tile, value, rows, columns, scaled):
    right = [scaled(e.load(e.at(columns, WIDTH * column))) for column in range(tile.columns)]
    return e.outer(e.multiply_add, value, lambda row: e.broadcast(e.builder.load(e.at(rows, row))), right)


@intrinsic
def add_scaled(typingctx, tile, scale, pointer):
    """Return tile + scale * (the vectors at pointer), for a tile of one row."""

    @operation(tile, (tile, types.float32, POINTER))
    def answer(e, value, scale, pointer):
        scale = e.broadcast(scale)
        sums = e.vectors(value)
        return e.tile([e.multiply_add(scale, e.load(e.at(pointer, WIDTH * n)), v) for n, v in enumerate(sums)])

    return answer


@intrinsic
def multiply_add(typingctx, total, a, b):
    """Return total + a * b, vector by vector."""

    @operation(total, (total, a, b))
    def answer(e, total, a, b):
        triples = zip(e.vectors(a), e.vectors(b), e.vectors(total), strict=True)
        return e.tile([e.multiply_add(*triple) for triple in triples])

    return answer


@intrinsic
def reaches(typingctx, tile, limits):
    """Say whether any element of the tile is at least its row's limit; limits points at one a row."""

    @operation(types.boolean, (tile, POINTER))
    def answer(e, value, limits):
        vectors, columns = e.vectors(value), tile.columns
        reach = None
        for row in range(tile.rows):
            highest, *others = vectors[row * columns : (row + 1) * columns]
            for other in others:
                highest = e.builder.select(e.builder.fcmp_ordered(">", highest, other), highest, other)
            reached = e.builder.fcmp_ordered(">=", highest, e.broadcast(e.builder.load(e.at(limits, row))))
            reach = reached if reach is None else e.builder.or_(reach, reached)
        return e.builder.icmp_unsigned("!=", e.bits(reach), ir.Constant(_INT64, 0))

    return answer


@intrinsic
def lanes_from(typingctx, row, limit):
    """Mark the elements (at most 64) of a tile of one row that are at least a limit: bit n of an int64, element n."""

    @operation(types.int64, (row, types.float32))
    def answer(e, value, limit):
        limit, marks = e.broadcast(limit), ir.Constant(_INT64, 0)
        for n, vector in enumerate(e.vectors(value)):
            bits = e.bits(e.builder.fcmp_ordered(">=", vector, limit))
            marks = e.builder.or_(marks, e.builder.shl(bits, ir.Constant(_INT64, n * WIDTH)))
        return marks

    return answer


@intrinsic
def lowest(typingctx, marks):
    """Number the lowest bit that is set in an int64 that is not 0."""

    @operation(types.int64, (types.int64,))
    def answer(e, marks):
        return e.builder.cttz(marks, ir.Constant(ir.IntType(1), 1))

    return answer


@intrinsic
def weighted_sum(typingctx, a, x, b, y):
    """Return a x + b y, for two tiles and a number each, soonest when b is the last to be known."""

    @operation(x, (types.float32, x, types.float32, y))
    def answer(e, a, x, b, y):
        a, b = e.broadcast(a), e.broadcast(b)
        pairs = zip(e.vectors(x), e.vectors(y), strict=True)
        return e.tile([e.multiply_add(b, right, e.builder.fmul(a, left)) for left, right in pairs])

    return answer


@intrinsic
def dot(typingctx, x, y):
    """Sum the products of two tiles' elements."""

    @operation(types.float32, (x, y))
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

    @operation(types.float32, (tile,))
    def answer(e, value):
        return _total(e, *e.vectors(value))

    return answer


def _total(e, vector):
    """Add the halves of a vector until one element is left."""
    while (lanes := vector.type.count // 2) > 0:
        vector = e.builder.fadd(*(e.shuffled(vector, vector, range(n, n + lanes)) for n in (0, lanes)))
    return e.builder.extract_element(vector, ir.Constant(_INT32, 0))
