"""Vectors of float32 inside Numba kernels, as LLVM vectors of WIDTH lanes.

A Tile is rows x columns vectors, held by value: a kernel that uses few enough vectors keeps them in registers. A
pointer is a place in a C-contiguous float32 array. Nothing checks bounds. Numbers of rows and columns are literal
integers or globals, because loops over them are unrolled while the code is generated.

Here lanes are consecutive elements of an array. In :mod:`fastmf.kernels.lanes` each lane is a small matrix of its own.

The functions work in compiled code only, and only if WIDTH is not 0.
"""

import functools

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
    """Writes the LLVM instructions of one call; ``takes`` and ``returns`` are the call's Numba types."""

    def __init__(self, builder, signature):
        self.builder, self.takes, self.returns = builder, signature.args, signature.return_type

    def at(self, pointer, offset):
        """Move a pointer by a number of floats, an int or an LLVM value."""
        if isinstance(offset, int):
            offset = ir.Constant(_INT64, offset)
        return self.builder.gep(pointer, [offset], inbounds=True)

    def element(self, pointer, offset):
        """Load the element at an offset from a pointer."""
        return self.builder.load(self.at(pointer, offset))

    def load(self, pointer, lanes=WIDTH):
        """Load a vector, aligned or not."""
        vector = ir.VectorType(FLOAT, lanes)
        return self.builder.load(self.builder.bitcast(pointer, vector.as_pointer()), align=4)

    def row(self, pointer, columns):
        """Load vectors that lie side by side."""
        return [self.load(self.at(pointer, WIDTH * column)) for column in range(columns)]

    def store(self, vector, pointer):
        """Store a vector, aligned or not."""
        self.builder.store(vector, self.builder.bitcast(pointer, VECTOR.as_pointer()), align=4)

    def shuffled(self, left, right, lanes):
        """Pick lanes of two vectors; the second's lanes are numbered after the first's."""
        mask = ir.Constant(ir.VectorType(_INT32, len(lanes)), [ir.Constant(_INT32, lane) for lane in lanes])
        return self.builder.shuffle_vector(left, right, mask)

    def broadcast(self, scalar):
        """Copy one number to all lanes."""
        undefined = ir.Constant(VECTOR, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(_INT32, 0))
        return self.shuffled(first, undefined, [0] * WIDTH)

    def multiply_add(self, a, b, c):
        """Return a b + c, fused if the machine can (``llvm.fma`` calls the C library if it cannot)."""
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
        """Pack a vector of booleans into an int64, the first lane lowest."""
        return self.builder.zext(self.builder.bitcast(truths, ir.IntType(WIDTH)), _INT64)

    def total(self, vector):
        """Sum the lanes: add the halves of the vector until one element is left."""
        while (lanes := vector.type.count // 2) > 0:
            vector = self.builder.fadd(*(self.shuffled(vector, vector, range(n, n + lanes)) for n in (0, lanes)))
        return self.builder.extract_element(vector, ir.Constant(_INT32, 0))

    def vectors(self, tile):
        """List the vectors of a tile, row by row."""
        return [self.builder.extract_value(tile, n) for n in range(tile.type.count)]

    def tile(self, vectors):
        """Make a tile of vectors, given row by row."""
        tile = ir.Constant(ir.ArrayType(VECTOR, len(vectors)), ir.Undefined)
        for n, vector in enumerate(vectors):
            tile = self.builder.insert_value(tile, vector, n)
        return tile

    def outer(self, combine, tile, left, right):
        """Return the tile with element (r, c) replaced by combine(left(r), right[c], element).

        left returns one vector at a time, so that only the vectors in use are held.
        """
        vectors, columns = self.vectors(tile), len(right)
        for row in range(len(vectors) // columns):
            of_row = left(row)
            for n in range(row * columns, (row + 1) * columns):
                vectors[n] = combine(of_row, right[n % columns], vectors[n])
        return self.tile(vectors)


def operation(typing):
    """Turn ``emit(emitter, *values)`` into a function that kernels can call.

    ``typing`` gets the Numba types of a call's arguments, literal if they can be, and returns its signature.
    """

    def decorate(emit):
        @functools.wraps(emit)  # Numba reads the names of the arguments
        def definition(typingctx, *args):
            def generate(context, builder, signature, values):
                value = emit(Emitter(builder, signature), *values)
                return context.get_dummy_value() if value is None else value

            return typing(*args), generate

        return intrinsic(prefer_literal=True)(definition)

    return decorate


def tile_type(rows, columns):
    """Return the Tile of a shape given as types: literal integers, or tuples, whose length counts."""
    shape = [getattr(size, "literal_value", getattr(size, "count", None)) for size in (rows, columns)]
    if None in shape:
        raise RequireLiteralValue(str((rows, columns)))
    return Tile(*shape)


@intrinsic
def pointer(typingctx, base, offset):
    """Point at an element of an array, by its place in memory order, or move another pointer; None stays None.

    Functions that are called often take pointers: passing an array updates its reference count twice, atomically.
    """
    if base is types.none:
        return base(base, types.int64), lambda context, *_: context.get_dummy_value()

    def generate(context, builder, signature, args):
        data = args[0]
        if isinstance(base, types.Array):
            data = context.make_array(base)(context, builder, data).data
        number = builder.ptrtoint(builder.gep(data, [args[1]], inbounds=True), _INT64)
        # Hide the terms of the address from LLVM. Else it addresses every element as base + index, and older Intel
        # cores split such loads from the arithmetic they feed, at a cost of 5 to 8 % of a half-sweep (Cascade Lake).
        hidden = builder.asm(ir.FunctionType(_INT64, [_INT64]), "", "=r,0", [number], False)
        return builder.inttoptr(hidden, data.type)

    return types.CPointer(base.dtype)(base, types.int64), generate


@operation(lambda pointer, offset: POINTER(POINTER, types.int64))
def at(e, pointer, offset):
    """Move a pointer by a number of elements."""
    return e.at(pointer, offset)


@operation(lambda pointer, offset: pointer.dtype(pointer, types.int64))
def element(e, pointer, offset):
    """Load the element, of any type, at an offset from a pointer."""
    return e.element(pointer, offset)


@operation(lambda pointer, offset: types.float32(pointer, types.int64))
def element_or_one(e, pointer, offset):
    """Load the float32 at an offset from a pointer; 1 if the pointer is None."""
    return ir.Constant(FLOAT, 1.0) if e.takes[0] is types.none else e.element(pointer, offset)


@operation(lambda pointer, there, none: types.float32(pointer, types.float32, types.float32))
def either(e, pointer, there, none):
    """Return ``none`` if the pointer is None, else ``there``; the one not returned is not computed."""
    return none if e.takes[0] is types.none else there


@operation(lambda pointer, offset, number: types.void(POINTER, types.int64, types.float32))
def put(e, pointer, offset, number):
    """Store a float32 at an offset from a pointer."""
    e.builder.store(number, e.at(pointer, offset))


@operation(lambda columns, pointer, offset: types.void(columns, pointer, types.int64))
def prefetch(e, columns, pointer, offset):
    """Prefetch the cache lines of a row of ``columns`` vectors of any 4-byte type; the row may be out of bounds."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, _INT32, _INT32, _INT32])
    read, keep, is_data = (ir.Constant(_INT32, n) for n in (0, 3, 1))
    function = e.builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
    for line in range(-(-tile_type(types.literal(1), e.takes[0]).columns * WIDTH // LINE)):
        place = e.builder.gep(e.builder.gep(pointer, [offset]), [ir.Constant(_INT64, LINE * line)])
        e.builder.call(function, [e.builder.bitcast(place, byte), read, keep, is_data])


@operation(lambda rows, columns: tile_type(rows, columns)(rows, columns))
def zeros(e, rows, columns):
    """Make a tile of zeros."""
    return ir.Constant(ir.ArrayType(VECTOR, e.returns.rows * e.returns.columns), None)


@operation(lambda rows, columns, pointer, step: tile_type(rows, columns)(rows, columns, POINTER, types.int64))
def load(e, rows, columns, pointer, step):
    """Load a tile whose rows are ``step`` elements apart; the vectors of a row lie side by side."""
    vectors = []
    for _ in range(e.returns.rows):
        vectors += e.row(pointer, e.returns.columns)
        pointer = e.at(pointer, step)
    return e.tile(vectors)


@operation(lambda tile, pointer, step: types.void(tile, POINTER, types.int64))
def store(e, tile, pointer, step):
    """Store a tile, laid out as for :func:`load`."""
    vectors, columns = e.vectors(tile), e.takes[0].columns
    for first in range(0, len(vectors), columns):
        for column in range(columns):
            e.store(vectors[first + column], e.at(pointer, WIDTH * column))
        pointer = e.at(pointer, step)


@operation(lambda tile, rows, columns: tile(tile, POINTER, POINTER))
def add_outer(e, tile, rows, columns):
    """Return tile[r, c] + rows[r] * (vector c at columns): rows points at elements, columns at vectors."""
    right = e.row(columns, e.returns.columns)
    return e.outer(e.multiply_add, tile, lambda row: e.broadcast(e.element(rows, row)), right)


@operation(lambda tile, scale, rows, columns: tile(tile, types.float32, POINTER, POINTER))
def add_scaled_outer(e, tile, scale, rows, columns):
    """Return tile[r, c] + scale * rows[r] * (vector c at columns); a scale that is known to be 1 costs nothing."""
    scales = e.broadcast(scale)
    right = [e.builder.fmul(scales, vector) for vector in e.row(columns, e.returns.columns)]
    return e.outer(e.multiply_add, tile, lambda row: e.broadcast(e.element(rows, row)), right)


@operation(lambda tile, scale, pointer: tile(tile, types.float32, pointer))
def add_scaled(e, tile, scale, pointer):
    """Return tile + scale * (the vectors at pointer), for a tile of one row; the tile itself if the pointer is None."""
    if e.takes[2] is types.none:
        return tile
    scales, sums = e.broadcast(scale), e.vectors(tile)
    return e.tile([e.multiply_add(scales, e.load(e.at(pointer, WIDTH * n)), v) for n, v in enumerate(sums)])


@operation(lambda total, a, b: total(total, a, b))
def multiply_add(e, total, a, b):
    """Return total + a * b, vector by vector."""
    triples = zip(e.vectors(a), e.vectors(b), e.vectors(total), strict=True)
    return e.tile([e.multiply_add(*triple) for triple in triples])


@operation(lambda a, x, b, y: x(types.float32, x, types.float32, y))
def weighted_sum(e, a, x, b, y):
    """Return a x + b y for tiles x and y and numbers a and b; it finishes soonest if b is known last."""
    a, b = e.broadcast(a), e.broadcast(b)
    pairs = zip(e.vectors(x), e.vectors(y), strict=True)
    return e.tile([e.multiply_add(b, right, e.builder.fmul(a, left)) for left, right in pairs])


@operation(lambda x, y: types.float32(x, y))
def dot(e, x, y):
    """Sum the products of two tiles' elements."""
    x, y = e.vectors(x), e.vectors(y)
    sums = e.builder.fmul(x[0], y[0])
    for pair in zip(x[1:], y[1:], strict=True):
        sums = e.multiply_add(*pair, sums)
    return e.total(sums)


@operation(lambda tile: types.float32(tile))
def total(e, tile):
    """Sum the elements of a tile."""
    return e.total(functools.reduce(e.builder.fadd, e.vectors(tile)))


@operation(lambda tile, limits: types.boolean(tile, POINTER))
def reaches(e, tile, limits):
    """Check whether any element of the tile is at least its row's limit; limits points at one number per row."""
    vectors, columns, reach = e.vectors(tile), e.takes[0].columns, None
    for row in range(len(vectors) // columns):
        highest, *others = vectors[row * columns : (row + 1) * columns]
        for other in others:
            highest = e.builder.select(e.builder.fcmp_ordered(">", highest, other), highest, other)
        reached = e.builder.fcmp_ordered(">=", highest, e.broadcast(e.element(limits, row)))
        reach = reached if reach is None else e.builder.or_(reach, reached)
    return e.builder.icmp_unsigned("!=", e.bits(reach), ir.Constant(_INT64, 0))


@operation(lambda row, limit: types.int64(row, types.float32))
def lanes_from(e, row, limit):
    """Mark the elements (at most 64) of a tile of one row that are at least a limit: bit n for element n."""
    limits, marks = e.broadcast(limit), ir.Constant(_INT64, 0)
    for n, vector in enumerate(e.vectors(row)):
        bits = e.bits(e.builder.fcmp_ordered(">=", vector, limits))
        marks = e.builder.or_(marks, e.builder.shl(bits, ir.Constant(_INT64, n * WIDTH)))
    return marks


@operation(lambda marks: types.int64(types.int64))
def lowest(e, marks):
    """Return the number of the lowest bit set in an int64 that is not 0."""
    return e.builder.cttz(marks, ir.Constant(ir.IntType(1), 1))
