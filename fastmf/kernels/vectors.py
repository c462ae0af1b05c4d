"""The vectors of this machine: how many float32 lanes they have, and arrays that fit them."""

import os
import platform

import numpy as np
from llvmlite import binding
from numba import config
from numba.extending import register_jitable

from fastmf.errors import ParameterError
from fastmf.kernels.types import Side

# Lanes of a float32 vector, by the best feature the machine has. NEON's registers hold 4 lanes, but there are 32 of
# them: two make one vector.
WIDTHS = {"avx512f": 16, "avx2": 8, "neon": 8, "sse2": 4}


def host_width():
    """Return the lanes of a float32 vector on the machine that kernels are compiled for, or 0 for plain Numba.

    FASTMF_VECTOR_WIDTH (0, 4, 8 or 16) forces a width, for tests.
    """
    if config.DISABLE_JIT:
        return 0
    forced = os.environ.get("FASTMF_VECTOR_WIDTH")
    if forced is not None:
        if forced not in ("0", "4", "8", "16"):
            raise ParameterError(f"FASTMF_VECTOR_WIDTH is {forced!r}: choose 0, 4, 8 or 16, or leave it out")
        return int(forced)
    there = features()
    return next((width for name, width in WIDTHS.items() if name in there), 0)


def features():
    """List the features of the machine that Numba compiles for."""
    if config.CPU_FEATURES is not None:
        return {name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+")}
    if platform.machine().lower() in ("arm64", "aarch64"):
        return {"neon"}
    return {name for name, there in binding.get_host_cpu_features().items() if there}


WIDTH = host_width()
LINE = 16  # floats in a cache line


def whole(floats):
    """Round a number of floats up to whole vectors."""
    width = max(WIDTH, 1)
    return -(-floats // width) * width


def vectors(floats):
    """Return a tuple with one element per vector in a row of ``floats`` floats.

    Its length is part of its type, so the compiler knows how many vectors a row has. Plain Numba needs no such hint.
    """
    return (0,) * (floats // WIDTH) if WIDTH else (0,)


@register_jitable
def aligned(*shape):
    """Allocate float32 zeros that start at a cache line: vectors that straddle two lines cost about a tenth."""
    size = 1
    for n in shape:
        size *= n
    flat = np.zeros(size + LINE, np.float32)
    first = (LINE - np.int64(flat.ctypes.data // 4) % LINE) % LINE
    return flat[first : first + size].reshape(shape)


def filled_up(factors):
    """Pad the rows of a table (n, k) with zeros to whole vectors; a table on a GPU stays as it is."""
    n, k = factors.shape
    if whole(k) == k or not isinstance(factors, np.ndarray):
        return factors
    return widened(factors, n, whole(k))


def widened(table, rows, columns):
    """Copy a table into the corner of a larger one of zeros."""
    wide = aligned(rows, columns)
    wide[: table.shape[0], : table.shape[1]] = table
    return wide


def padded(side):
    """Pad with zeros, to whole vectors, the factors of the side that is held fixed."""
    return Side(filled_up(side.factors), side.bias)
