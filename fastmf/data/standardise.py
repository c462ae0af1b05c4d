"""Standardised ratings, (rating - mean) / scale: what every solver works on."""

import math
from itertools import pairwise

import numpy as np

from fastmf.kernels.tasks import even

AT_ONCE = 1 << 15  # ratings whose float64 values stay in the cache


def mean_of(values: np.ndarray) -> float:
    """Return the mean of ratings (n,), summed in float64."""
    return float(np.mean(values, dtype=np.float64))


def deviation_of(values: np.ndarray, mean: float) -> float:
    """Return the standard deviation (ddof 0) of ratings (n,), summed in float64."""
    chunks = pairwise(even(len(values), AT_ONCE))
    squares = [np.square(np.subtract(values[start:stop], mean, dtype=np.float64)).sum() for start, stop in chunks]
    return math.sqrt(math.fsum(squares) / len(values))


def standardised(values: np.ndarray, mean: float, scale: float) -> np.ndarray:
    """Return (rating - mean) / scale for ratings (n,), computed in float64 and rounded to float32 once."""
    out = np.empty(len(values), np.float32)
    for start, stop in pairwise(even(len(values), AT_ONCE)):
        out[start:stop] = np.subtract(values[start:stop], mean, dtype=np.float64) / scale
    return out
