"""Random numbers by counter, for kernels whose results must not depend on who draws first.

They are SplitMix64 (Steele, Lea and Flood 2014): number j of row r in a stream is a function of (seed, stream, r, j)
alone. Streams keep the uses apart. The functions on bits take uint64 and nothing else: numba makes float64 of uint64
with int64.
"""

import math

import numpy as np

from fastmf.kernels.jit import jit

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
LOW_32 = np.uint64(0xFFFFFFFF)
U1, U2, U11, U12, U27, U30, U31, U32 = (np.uint64(n) for n in (1, 2, 11, 12, 27, 30, 31, 32))
TO_UNIT = 2.0**-53


def mix(x):
    """Scramble 64 bits: the finalizer of SplitMix64. x: a uint64 or an array of them."""
    x = (x ^ (x >> U30)) * MIX_1
    x = (x ^ (x >> U27)) * MIX_2
    return x ^ (x >> U31)


_mix = jit(mix)


@jit
def key_of(seed, stream, row):
    """Make the key of a row's numbers; all are uint64."""
    return _mix(_mix(_mix(seed) + GOLDEN * (stream + U1)) + GOLDEN * (row + U1))


@jit
def bits_of(key, counter):
    """Draw 64 bits: number ``counter`` of a key."""
    return _mix(key + GOLDEN * (counter + U1))


@jit
def unit_of(bits):
    """Number in (0, 1] from 64 bits."""
    return np.float64((bits >> U11) + U1) * TO_UNIT


def bits_numpy(seed: np.uint64, stream: np.uint64, row: int, counters: np.ndarray) -> np.ndarray:
    """Random bits number ``counters`` (n,) uint64 of one row of a stream, as uint64 (n,)."""
    row = np.array([row], np.uint64)  # an array: NumPy's uint64 scalars warn where 64 bits run over
    key = mix(mix(mix(np.array([seed], np.uint64)) + GOLDEN * (np.atleast_1d(stream) + U1)) + GOLDEN * (row + U1))
    return mix(key + GOLDEN * (counters + U1))


def units_numpy(bits):
    """Make numbers in (0, 1] of bits (n,) uint64."""
    return ((bits >> U11) + U1) * TO_UNIT


@jit
def normal_quantile(p):
    """Find where the standard normal distribution reaches p, 0 < p < 1, to 1e-7 (Wichura 1988, algorithm AS 241)."""
    q = p - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        above = ((59.10937472 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179
        return q * above / (((67.1875636 * r + 78.757757664) * r + 17.895169469) * r + 1.0)
    r = math.sqrt(-math.log(min(p, 1.0 - p)))
    if r <= 5.0:
        r -= 1.6
        above = ((0.17023821103 * r + 1.3067284816) * r + 2.75681539) * r + 1.4234372777
        found = above / ((0.12021132975 * r + 0.73700164250) * r + 1.0)
    else:
        r -= 5.0
        above = ((0.017337203997 * r + 0.42868294337) * r + 3.081226386) * r + 6.657905115
        found = above / ((0.012258202635 * r + 0.24197894225) * r + 1.0)
    return found if q > 0 else -found


@jit
def normal(key, counter):
    """Draw a standard normal number, from 52 bits, so that they and a half are below 1."""
    return normal_quantile((np.float64(bits_of(key, counter) >> U12) + 0.5) * 2.0 * TO_UNIT)


@jit
def gamma(key, counter, shape):
    """Draw from Gamma(shape, 1), for a shape of at least 1 (Marsaglia and Tsang 2000), with numbers from counter on."""
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        x = normal(key, counter)
        v = (1.0 + c * x) ** 3
        if v > 0.0 and math.log(unit_of(bits_of(key, counter + U1))) < 0.5 * x * x + d * (1.0 - v + math.log(v)):
            return d * v
        counter += U2
