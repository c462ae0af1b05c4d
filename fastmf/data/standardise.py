"""Standardised ratings, (rating - mean) / scale: what every solver works on."""

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from fastmf.kernels.tasks import even
from fastmf.runtime.spill import Spill, filled

AT_ONCE = 1 << 15  # ratings whose float64 values stay in the cache


def mean_of(values: np.ndarray, bounds: np.ndarray | None = None) -> float:
    """Return the mean of ratings (n,); parts with these bounds are summed in float64, and their sums exactly."""
    return math.fsum(sums_of(values, bounds)) / len(values)


def deviation_of(values: np.ndarray, mean: float, bounds: np.ndarray | None = None) -> float:
    """Return the standard deviation (ddof 0) of ratings (n,), summed in the same way."""
    return math.sqrt(math.fsum(squares_of(values, mean, bounds)) / len(values))


def sums_of(values: np.ndarray, bounds: np.ndarray | None = None) -> list[float]:
    """Return the sum of each part of ratings (n,), in float64."""
    return [float(values[start:stop].sum(dtype=np.float64)) for start, stop in _parts(values, bounds)]


def squares_of(values: np.ndarray, mean: float, bounds: np.ndarray | None = None) -> list[float]:
    """Return the sum of the squared distances from the mean of each part of ratings (n,), in float64."""
    distances = (np.subtract(values[start:stop], mean, dtype=np.float64) for start, stop in _parts(values, bounds))
    return [float(np.square(each).sum()) for each in distances]


def _parts(values: np.ndarray, bounds: np.ndarray | None) -> Iterator[tuple[int, int]]:
    return pairwise(even(len(values), AT_ONCE) if bounds is None else bounds)


def standardised(values: np.ndarray, mean: float, scale: float, spill: Spill | None = None) -> np.ndarray:
    """Return (rating - mean) / scale for ratings (n,), computed in float64 and rounded to float32 once."""
    return filled(
        spill, len(values), np.float32, lambda part: np.subtract(values[part], mean, dtype=np.float64) / scale
    )
