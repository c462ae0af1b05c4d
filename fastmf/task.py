"""What training works on: standardised ratings, those to watch beside them, and the errors of factors on both."""

import math
import warnings
from itertools import pairwise

import numpy as np

from fastmf import ids, metrics, ranking
from fastmf.device import Device, resolve
from fastmf.errors import DataError
from fastmf.extras import Baseline
from fastmf.kernels.als import Side
from fastmf.kernels.bias import BIAS, bias_tasks
from fastmf.kernels.compress import Compressed, even
from fastmf.kernels.residual import ERRORS, PAIRS_PER_TASK, Pairs, Scale
from fastmf.model import BASELINE_REG
from fastmf.ratings import Ratings, standardised
from fastmf.runtime import launch
from fastmf.solvers import Factors, Solver

# Ratings whose float32 steps are more than this share of their deviation have lost what tells them apart.
COARSE = 0.01

BASELINE_SWEEPS = 5  # over both sides: more change the baseline's RMSE by less than .0001

WATCHED_N, MOST_WATCHED = 10, 10_000  # length of the lists that implicit feedback is watched by, and for how many users

UNCLIPPED = Scale(0.0, -np.inf, np.inf)


class Task:
    """Standardised ratings r = (rating - mean) / scale, and the validation ratings on the same scale."""

    def __init__(self, ratings: Ratings, validation: Ratings | None, device: Device) -> None:
        self.mean = float(np.mean(ratings.values, dtype=np.float64))
        self.scale = _deviation(ratings.values, self.mean) or 1.0
        self.range = float(ratings.values.min()), float(ratings.values.max())
        self._warn_of_coarseness()
        self.ratings = ratings.with_values(self._standardised(ratings.values))
        self.seen = ratings.by_user.indptr, ratings.by_user.indices
        self._training = device.put((Pairs(ratings.users, ratings.items), self.ratings.values))
        self.clipped = Scale(0.0, *((limit - self.mean) / self.scale for limit in self.range))
        self.validation: tuple[Pairs, np.ndarray] | None = None
        if validation is not None:
            users = ids.lookup(ratings.user_ids, validation.user_ids, "validation user")[validation.users]
            items = ids.lookup(ratings.item_ids, validation.item_ids, "validation item")[validation.items]
            self.validation = device.put((Pairs(users, items), self._standardised(validation.values)))
            _warn_of_overlap(ratings, users, items)

    def _standardised(self, values: np.ndarray) -> np.ndarray:
        return standardised(values, self.mean, self.scale)

    def _warn_of_coarseness(self) -> None:
        spacing = np.finfo(np.float32)
        resolution = max(max(map(abs, self.range)) * float(spacing.eps), float(spacing.smallest_subnormal))
        if resolution > COARSE * self.scale:
            warnings.warn(
                f"ratings from {self.range[0]:,g} to {self.range[1]:,g} are kept as float32, there in steps of about"
                f" {resolution:g}, which is much for a deviation of {self.scale:g}: subtract a constant first",
                stacklevel=5,
            )

    def baseline(self) -> Baseline:
        """Fit biases alone, on the rating scale."""
        users, items = _baseline(self.ratings)
        return Baseline(users * np.float32(self.scale), items * np.float32(self.scale))

    def train_rmse(self, factors: Factors, device: Device) -> float:
        """RMSE of the training ratings, not clipped, in standard deviations."""
        pairs, values = self._training
        return _errors(pairs, values, factors, UNCLIPPED, device)[0]

    def watched(self, factors: Factors, device: Device) -> dict[str, float]:
        """Measure the validation ratings, clipped, on the rating scale: attributes of an Epoch; none without any."""
        if self.validation is None:
            return {}
        rmse, mae = _errors(*self.validation, factors, self.clipped, device)
        return {"validation_rmse": rmse * self.scale, "validation_mae": mae * self.scale}


class ObservedTask:
    """Observed pairs, each a 1, and those of the validation; what a :class:`Task` is for implicit feedback."""

    mean, scale, range = 0.0, 1.0, (0.0, 1.0)

    def __init__(self, solver: Solver, ratings: Ratings, validation: Ratings | None, device: Device) -> None:
        positive_from = solver.settings["positive_from"]
        self.ratings, self.seen = ratings.observed(positive_from), (ratings.by_user.indptr, ratings.by_user.indices)
        self._training = device.put((Pairs(self.ratings.users, self.ratings.items), self.ratings.values))
        self.validation = None if validation is None else self._lists_wanted(validation.observed(positive_from))

    def _lists_wanted(self, held_out: Ratings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Choose users, at most MOST_WATCHED, and say which items they should be shown: (line, item) of each pair."""
        users = ids.lookup(self.ratings.user_ids, held_out.user_ids, "validation user")
        items = ids.lookup(self.ratings.item_ids, held_out.item_ids, "validation item")[held_out.items]
        _warn_of_overlap(self.ratings, users[held_out.users], items)
        known = np.flatnonzero((np.append(self.ratings.user_counts, 0)[users] > 0) & (held_out.user_counts > 0))
        chosen = np.sort(np.random.default_rng(0).permutation(known)[:MOST_WATCHED])
        line = np.full(held_out.n_users, -1)
        line[chosen] = np.arange(len(chosen))
        rows = line[held_out.users] >= 0
        if not len(chosen):
            raise DataError("no user of the validation has training ratings: watch others, or none")
        return users[chosen], line[held_out.users[rows]], items[rows]

    def baseline(self) -> None:
        """Nothing: biases cannot say what is not observed."""

    def train_rmse(self, factors: Factors, device: Device) -> float:
        """RMSE of the scores of the observed pairs, which should be 1."""
        pairs, values = self._training
        return _errors(pairs, values, factors, UNCLIPPED, device)[0]

    def watched(self, factors: Factors, device: Device) -> dict[str, float]:
        """Rank for the users of the validation what they have not seen in training."""
        if self.validation is None:
            return {}
        users, lines, items = self.validation
        side, catalogue = device.get(factors.users), device.get(factors.items)
        warm = np.where(self.ratings.item_counts > 0, np.float32(0), np.float32(-np.inf))
        excluded = ranking.left_out(users, [Compressed(*self.seen, np.empty(0, np.float32))])
        chosen = Side(side.factors[users], np.zeros(len(users), np.float32))
        found, _ = ranking.best(chosen, Side(catalogue.factors, warm), excluded, WATCHED_N)
        hits = ranking.hits(found, lines, items, self.ratings.n_items)
        wanted = np.bincount(lines, minlength=len(users))
        return {"validation_ndcg": float(metrics.ndcg(hits, wanted).mean())}


def task_of(solver: Solver, ratings: Ratings, validation: Ratings | None, device: Device) -> Task | ObservedTask:
    """Make what a solver trains on."""
    return ObservedTask(solver, ratings, validation, device) if solver.implicit else Task(ratings, validation, device)


def _warn_of_overlap(ratings: Ratings, users: np.ndarray, items: np.ndarray) -> None:
    """Say how many validation pairs, by the training's indices (-1: unknown), are among the training ratings."""
    width = np.int64(ratings.n_items)
    trained, wanted = ratings.users * width + ratings.items, (users * width + items)[(users >= 0) & (items >= 0)]
    place = np.minimum(np.searchsorted(trained, wanted), len(trained) - 1)
    n = int(np.count_nonzero(trained[place] == wanted))
    if n:
        warnings.warn(f"{n:,} of {len(users):,} validation pairs are in the training ratings too", stacklevel=5)


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
