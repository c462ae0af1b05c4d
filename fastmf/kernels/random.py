"""Random numbers by counter, for kernels whose results must not depend on who draws first.

SplitMix64 (Steele, Lea and Flood 2014): number j of row r in a stream is a function of (seed, stream, r, j) alone.
Streams keep different uses apart. Functions of bits take uint64 only: Numba turns uint64 mixed with int64 into float64.
"""

import math

import numpy as np

from fastmf.kernels.compile import jit

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
LOW_32 = np.uint64(0xFFFFFFFF)
U1, U2, U11, U27, U30, U31, U32 = (np.uint64(n) for n in (1, 2, 11, 27, 30, 31, 32))
TO_UNIT = 2.0**-53

LAYERS, LAST_EDGE, AREA = 256, 3.6541528853610088, 0.00492867323399  # of a ziggurat: its lowest edge, a layer's area
LAYER, SIGN, AGAIN = (np.uint64(n) for n in (LAYERS - 1, LAYERS, 1 << 32))


def _edges():
    """Return the layers' right edges, widest first; the first layer includes the tail, so its edge is area / height."""
    edges = [AREA / math.exp(-0.5 * LAST_EDGE**2), LAST_EDGE]
    while len(edges) < LAYERS:
        edges.append(math.sqrt(-2.0 * math.log(AREA / edges[-1] + math.exp(-0.5 * edges[-1] ** 2))))
    return np.array([*edges, 0.0])


EDGES = _edges()


def mix_numpy(x):
    """Scramble the bits of an array of uint64: the finalizer of SplitMix64."""
    x = (x ^ (x >> U30)) * MIX_1
    x = (x ^ (x >> U27)) * MIX_2
    return x ^ (x >> U31)


mix = jit(mix_numpy)  # of one uint64


@jit
def key_of(seed, stream, row):
    """Make the key of a row's numbers; all are uint64."""
    return mix(mix(mix(seed) + GOLDEN * (stream + U1)) + GOLDEN * (row + U1))


@jit
def bits_of(key, counter):
    """Draw 64 bits: number ``counter`` of a key."""
    return mix(key + GOLDEN * (counter + U1))


@jit
def unit_of(bits):
    """Turn 64 bits into a number in (0, 1]."""
    return np.float64((bits >> U11) + U1) * TO_UNIT


def bits_numpy(seed: np.uint64, stream: np.uint64, row: int, counters: np.ndarray) -> np.ndarray:
    """Draw 64 bits for each of ``counters`` (n,) uint64, from a row of a stream: (n,) uint64."""
    row = np.array([row], np.uint64)  # an array: NumPy's uint64 scalars warn if 64 bits overflow
    key = mix_numpy(np.array([seed], np.uint64)) + GOLDEN * (np.atleast_1d(stream) + U1)
    return mix_numpy(mix_numpy(mix_numpy(key) + GOLDEN * (row + U1)) + GOLDEN * (counters + U1))


def units_numpy(bits):
    """Turn bits (n,) uint64 into numbers in (0, 1]."""
    return ((bits >> U11) + U1) * TO_UNIT


@jit
def normal(key, counter):
    """Draw a standard normal number by a ziggurat of LAYERS layers (Marsaglia and Tsang 2000).

    It uses number ``counter`` of the key; 1 draw in 100 uses more numbers, AGAIN apart.
    """
    while True:
        bits = bits_of(key, counter)
        layer, sign = np.int64(bits & LAYER), 1.0 if bits & SIGN else -1.0
        x = unit_of(bits) * EDGES[layer]
        if x < EDGES[layer + 1]:
            return sign * x
        counter += AGAIN
        if layer == 0:
            return sign * _beyond(key, counter)
        low, high = math.exp(-0.5 * EDGES[layer] ** 2), math.exp(-0.5 * EDGES[layer + 1] ** 2)
        if low + unit_of(bits_of(key, counter)) * (high - low) < math.exp(-0.5 * x * x):
            return sign * x
        counter += AGAIN


@jit
def normals(key, out):
    """Draw the numbers 0, 1, ... of :func:`normal` into ``out`` (n,) float64: the usual ones in vectors."""
    for n in range(np.uint64(out.shape[0])):
        bits = bits_of(key, np.uint64(n))
        layer, x = bits & LAYER, unit_of(bits)
        x *= EDGES[layer]
        out[n] = (x if bits & SIGN else -x) if x < EDGES[layer + U1] else np.nan
    for n in range(np.uint64(out.shape[0])):
        if np.isnan(out[n]):
            out[n] = normal(key, np.uint64(n))


@jit
def _beyond(key, counter):
    """Draw from the normal distribution beyond LAST_EDGE (Marsaglia 1964)."""
    while True:
        above = -math.log(unit_of(bits_of(key, counter))) / LAST_EDGE
        counter += AGAIN
        if -2.0 * math.log(unit_of(bits_of(key, counter))) > above * above:
            return LAST_EDGE + above
        counter += AGAIN


@jit
def gamma(key, counter, shape):
    """Draw from Gamma(shape, 1), for a shape of at least 1 (Marsaglia and Tsang 2000), from number ``counter`` on."""
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        x = normal(key, counter)
        v = (1.0 + c * x) ** 3
        if v > 0.0 and math.log(unit_of(bits_of(key, counter + U1))) < 0.5 * x * x + d * (1.0 - v + math.log(v)):
            return d * v
        counter += U2
