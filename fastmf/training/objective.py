"""What training works on: standardised ratings, those to watch beside them, and the errors of factors on both."""

import abc
import math
import warnings
from itertools import pairwise

import numpy as np

from fastmf.data import ids
from fastmf.data.ratings import Ratings, standardised
from fastmf.errors import DataError
from fastmf.evaluation.metrics import ndcg
from fastmf.kernels.bias import BIAS, bias_tasks
from fastmf.kernels.residual import ERRORS, PAIRS_PER_TASK
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Compressed, Pairs, Scale, Side
from fastmf.model import topn
from fastmf.model.history import MAE, NDCG, RMSE, Measure
from fastmf.model.learned import Baseline
from fastmf.model.model import BASELINE_REG
from fastmf.runtime.device import Device, resolve
from fastmf.runtime.launch import launch
from fastmf.solvers import Factors, Solver

# Ratings whose float32 steps are more than this share of their deviation have lost what tells them apart.
COARSE = 0.01

BASELINE_SWEEPS = 5  # over both sides: more change the baseline's RMSE by less than .0001

WATCHED_N = 10  # length of the lists that implicit feedback is watched by

UNCLIPPED = Scale(0.0, -np.inf, np.inf)


class Task(abc.ABC):
    """What is trained on: ratings as the solver takes them, and what all users have seen; on the scale they come from.

    Attributes
    ----------
    ratings : what the solver takes. seen : (indptr, indices), all that users have rated.
    mean, scale, range : of the ratings as they came.
    counts : what of the rows is to be told beside how many there were.
    """

    mean: float
    scale: float
    range: tuple[float, float]

    def __init__(self, given: Ratings, ratings: Ratings, device: Device) -> None:
        self.counts: dict[str, int] = {}
        self.ratings, self.seen = ratings, (given.by_user.indptr, given.by_user.indices)
        self._training = device.put((Pairs(ratings.users, ratings.items), ratings.values))

    def train_rmse(self, factors: Factors, device: Device) -> float:
        """RMSE of what is trained on, not clipped, on the scale of the solver."""
        pairs, values = self._training
        return _errors(pairs, values, factors, UNCLIPPED, device)[0]

    def baseline(self) -> Baseline | None:
        """Fit biases alone, on the rating scale, where there are ratings."""
        return None

    @abc.abstractmethod
    def watched(self, factors: Factors, device: Device) -> dict[str, float]:
        """Measure the validation: attributes of an Epoch; none without any."""

    def _found(self, validation: Ratings) -> tuple[np.ndarray, np.ndarray]:
        """Find each user and item of the validation among those of the training, -1 for nowhere; warn of overlap."""
        users = ids.lookup(self.ratings.user_ids, validation.user_ids, "validation user")
        items = ids.lookup(self.ratings.item_ids, validation.item_ids, "validation item")
        _warn_of_overlap(self.ratings, users[validation.users], items[validation.items])
        return users, items


class RatedTask(Task):
    """Standardised ratings r = (rating - mean) / scale, and the validation ratings on the same scale."""

    def __init__(self, ratings: Ratings, validation: Ratings | None, device: Device) -> None:
        self.mean = float(np.mean(ratings.values, dtype=np.float64))
        self.scale = _deviation(ratings.values, self.mean) or 1.0
        self.range = float(ratings.values.min()), float(ratings.values.max())
        self._warn_of_coarseness()
        super().__init__(ratings, ratings.with_values(self._standardised(ratings.values)), device)
        self.clipped = Scale(0.0, *((limit - self.mean) / self.scale for limit in self.range))
        self.validation: tuple[Pairs, np.ndarray] | None = None
        if validation is not None:
            users, items = self._found(validation)
            pairs = Pairs(users[validation.users], items[validation.items])
            self.validation = device.put((pairs, self._standardised(validation.values)))

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

    def watched(self, factors: Factors, device: Device) -> dict[str, float]:
        """Measure the validation ratings, clipped, on the rating scale: attributes of an Epoch; none without any."""
        if self.validation is None:
            return {}
        rmse, mae = _errors(*self.validation, factors, self.clipped, device)
        return {"validation_rmse": rmse * self.scale, "validation_mae": mae * self.scale}


class ObservedTask(Task):
    """Observed pairs, each a 1, and those of the validation; what a :class:`RatedTask` is for implicit feedback."""

    mean, scale, range = 0.0, 1.0, (0.0, 1.0)

    def __init__(self, solver: Solver, ratings: Ratings, validation: Ratings | None, device: Device) -> None:
        positive_from = solver.settings["positive_from"]
        if positive_from is not None and not ratings.rated:
            raise DataError(f"there are no ratings that could be at least {positive_from:g}: leave positive_from out")
        super().__init__(ratings, ratings.observed(positive_from), device)
        self.counts = {"observed": len(self.ratings)}
        self.wanted: topn.Wanted | None = None
        if validation is not None:
            try:
                held_out = validation.observed(positive_from)
            except DataError as error:
                raise DataError(f"validation: {error}") from None
            self.wanted = self._wanted(held_out, *self._found(held_out))

    def _wanted(self, held_out: Ratings, users: np.ndarray, items: np.ndarray) -> topn.Wanted:
        """Choose users, and say what they should be shown."""
        known = (np.append(self.ratings.user_counts, 0)[users] > 0) & (held_out.user_counts > 0)
        if not known.any():
            raise DataError("no user of the validation has training ratings: watch others, or none")
        chosen = topn.sampled(np.flatnonzero(known))
        return topn.wanted((held_out.users, held_out.items), chosen, users, items)

    def watched(self, factors: Factors, device: Device) -> dict[str, float]:
        """Rank for the users of the validation what they have not seen in training."""
        if self.wanted is None:
            return {}
        users = self.wanted.users
        side, catalogue = device.get(factors.users), device.get(factors.items)
        warm = np.where(self.ratings.item_counts > 0, np.float32(0), np.float32(-np.inf))
        excluded = topn.left_out(users, [Compressed(*self.seen, np.empty(0, np.float32))])
        chosen = Side(side.factors[users], np.zeros(len(users), np.float32))
        found, _ = topn.best(chosen, Side(catalogue.factors, warm), excluded, WATCHED_N)
        hits = topn.hits(found, self.wanted, self.ratings.n_items, WATCHED_N)
        return {"validation_ndcg": float(ndcg(hits, self.wanted.counts).mean())}


def task_of(solver: Solver, ratings: Ratings, validation: Ratings | None, device: Device) -> Task:
    """Make what a solver trains on."""
    if solver.implicit:
        return ObservedTask(solver, ratings, validation, device)
    return RatedTask(ratings, validation, device)


def measure_of(solver: Solver) -> Measure:
    """Say what the epochs of a solver are compared by."""
    if solver.implicit:
        return NDCG
    return MAE if solver.settings.get("loss") == "absolute" else RMSE


def _warn_of_overlap(ratings: Ratings, users: np.ndarray, items: np.ndarray) -> None:
    """Say how many validation pairs, by the training's indices (-1: unknown), are among the training ratings."""
    n = topn.overlap((ratings.by_user.indptr, ratings.items), users, items, ratings.n_items)
    if n:
        warnings.warn(f"{n:,} of {len(users):,} validation pairs are in the training ratings too", stacklevel=6)


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
