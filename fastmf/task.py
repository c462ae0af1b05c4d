"""What training works on: standardised ratings, those to watch beside them, and the errors of factors on both."""

import math
import warnings
from itertools import pairwise

import numpy as np

from fastmf import ids
from fastmf.device import Device, resolve
from fastmf.extras import Baseline
from fastmf.kernels.bias import BIAS, bias_tasks
from fastmf.kernels.compress import even
from fastmf.kernels.residual import ERRORS, PAIRS_PER_TASK, Pairs, Scale
from fastmf.model import BASELINE_REG
from fastmf.ratings import Ratings, standardised
from fastmf.runtime import launch
from fastmf.solvers import Factors

# Ratings whose float32 steps are more than this share of their deviation have lost what tells them apart.
COARSE = 0.01

BASELINE_SWEEPS = 5  # over both sides: more change the baseline's RMSE by less than .0001

UNCLIPPED = Scale(0.0, -np.inf, np.inf)


class Task:
    """Standardised ratings r = (rating - mean) / scale, and the validation ratings on the same scale."""

    def __init__(self, ratings: Ratings, validation: Ratings | None, device: Device) -> None:
        self.mean = float(np.mean(ratings.values, dtype=np.float64))
        self.scale = _deviation(ratings.values, self.mean) or 1.0
        self.range = float(ratings.values.min()), float(ratings.values.max())
        self._warn_of_coarseness()
        self.ratings = ratings.with_values(self._standardised(ratings.values))
        self._training = device.put((Pairs(ratings.users, ratings.items), self.ratings.values))
        self.clipped = Scale(0.0, *((limit - self.mean) / self.scale for limit in self.range))
        self.validation: tuple[Pairs, np.ndarray] | None = None
        if validation is not None:
            users = ids.lookup(ratings.user_ids, validation.user_ids, "validation user")[validation.users]
            items = ids.lookup(ratings.item_ids, validation.item_ids, "validation item")[validation.items]
            self.validation = device.put((Pairs(users, items), self._standardised(validation.values)))
            self._warn_of_overlap(users, items)

    def _standardised(self, values: np.ndarray) -> np.ndarray:
        return standardised(values, self.mean, self.scale)

    def _warn_of_coarseness(self) -> None:
        spacing = np.finfo(np.float32)
        resolution = max(max(map(abs, self.range)) * float(spacing.eps), float(spacing.smallest_subnormal))
        if resolution > COARSE * self.scale:
            warnings.warn(
                f"ratings from {self.range[0]:,g} to {self.range[1]:,g} are kept as float32, there in steps of about"
                f" {resolution:g}, which is much for a deviation of {self.scale:g}: subtract a constant first",
                stacklevel=4,
            )

    def _warn_of_overlap(self, users: np.ndarray, items: np.ndarray) -> None:
        width = np.int64(self.ratings.n_items)
        trained = self.ratings.users * width + self.ratings.items
        wanted = (users * width + items)[(users >= 0) & (items >= 0)]
        place = np.minimum(np.searchsorted(trained, wanted), len(trained) - 1)
        n = int(np.count_nonzero(trained[place] == wanted))
        if n:
            warnings.warn(f"{n:,} of {len(users):,} validation pairs are in the training ratings too", stacklevel=4)

    def baseline(self) -> Baseline:
        """Fit biases alone, on the rating scale."""
        users, items = _baseline(self.ratings)
        return Baseline(users * np.float32(self.scale), items * np.float32(self.scale))

    def errors(self, factors: Factors, device: Device) -> tuple[float, float]:
        """RMSE and MAE of the training ratings, not clipped, in standard deviations."""
        pairs, values = self._training
        return _errors(pairs, values, factors, UNCLIPPED, device)

    def validation_errors(self, factors: Factors, device: Device) -> tuple[float | None, float | None]:
        """RMSE and MAE of the validation ratings, clipped, in standard deviations; None without any."""
        return _errors(*self.validation, factors, self.clipped, device) if self.validation else (None, None)


def _baseline(ratings: Ratings) -> tuple[np.ndarray, np.ndarray]:
    """Fit biases alone to standardised ratings."""
    device, users, items = resolve("cpu"), *(np.zeros(n, np.float32) for n in (ratings.n_users, ratings.n_items))
    for _ in range(BASELINE_SWEEPS):
        for entries, own, other in ((ratings.by_user, users, items), (ratings.by_item, items, users)):
            launch(BIAS, device, bias_tasks(entries.indptr), entries, other, BASELINE_REG, own)
    return users, items


def _errors(pairs: Pairs, values: np.ndarray, factors: Factors, scale: Scale, device: Device) -> tuple[float, float]:
    tasks = even(len(values), PAIRS_PER_TASK)
    squared, absolute = launch(ERRORS, device, tasks, pairs, values, factors.users, factors.items, scale)
    return float(np.sqrt(squared / len(values))), float(absolute / len(values))


def _deviation(values: np.ndarray, mean: float) -> float:
    """Standard deviation of ratings (n,) from their mean."""
    chunks = pairwise(even(len(values), PAIRS_PER_TASK))
    squares = [np.square(np.subtract(values[start:stop], mean, dtype=np.float64)).sum() for start, stop in chunks]
    return math.sqrt(math.fsum(squares) / len(values))
