"""Weights of implicit feedback: counts of plays or purchases, whose tail is too long to be taken as they are.

A hundred plays do not say a hundred times as much as one. Hu, Koren and Volinsky (2008) take logarithms, too. A
half-life halves the plays, before their logarithm is taken. Weights that come from a half-life alone stay as they are.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fastmf.runtime.spill import Spill, filled

SCALES = {"log": np.log1p, "sqrt": np.sqrt}
LEAST = np.finfo(np.float32).tiny


def sums_on(kind: str, weights: np.ndarray, bounds: np.ndarray) -> list[float]:
    """Return the sums of a function of SCALES of weights (n,), of each part with these bounds, in float64."""
    return [float(SCALES[kind](weights[a:b].astype(np.float64)).sum()) for a, b in pairwise(bounds)]


@dataclass(frozen=True)
class WeightScale:
    """How weights are scaled: by a function of SCALES, then to a mean of 1 over the training pairs.

    Attributes
    ----------
    kind : name of the function.
    mean : what the function of the training pairs' weights is on average.
    """

    kind: str
    mean: float

    @classmethod
    def of_training(cls, kind: str, weights: np.ndarray, bounds: np.ndarray | None = None) -> "WeightScale":
        """Return the scale of the weights (n,) of training pairs; parts with these bounds are summed in turn."""
        bounds = np.array([0, len(weights)]) if bounds is None else bounds
        return cls(kind, math.fsum(sums_on(kind, weights, bounds)) / len(weights))

    def scaled(self, weights: np.ndarray, spill: Spill | None = None) -> np.ndarray:
        """Return weights (n,) float32 on this scale, all above 0."""

        def scale(part: slice) -> np.ndarray:
            return np.maximum(SCALES[self.kind](weights[part].astype(np.float64)) / self.mean, LEAST)

        return filled(spill, len(weights), np.float32, scale)

    def describe(self, column: str) -> str:
        """Return a formula for people to read; ``column`` is that of the weights, "" for numbers of rows."""
        what = column or "the number of rows"
        return f"log(1 + {what})" if self.kind == "log" else f"the square root of {what}"
