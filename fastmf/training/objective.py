"""What a run trains on and is measured on: standardised ratings or observed pairs, and validation."""

import abc
import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from fastmf.data import ids
from fastmf.data.csr import count_common
from fastmf.data.ratings import Ratings
from fastmf.data.standardise import deviation_of, mean_of, standardised
from fastmf.data.weights import WeightScale
from fastmf.errors import DataError
from fastmf.evaluation.hits import Wanted, fixed_sample, quality, wanted_of
from fastmf.kernels.residual import ERRORS
from fastmf.kernels.types import Compressed, Pairs, Scale, Side
from fastmf.model.baseline import fit_baseline
from fastmf.model.learned import Baseline
from fastmf.model.topn import rows_of, top_n
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch
from fastmf.runtime.spill import parts_of
from fastmf.solvers.base import Solver
from fastmf.solvers.factors import Factors

COARSE = 0.01  # Float32 is too coarse if its steps exceed this share of the ratings' deviation.
OUTLYING = 16.0  # standard deviations from the mean, beyond which a rating is named if training diverges
UNCLIPPED = Scale(0.0, -np.inf, np.inf)


class Objective(abc.ABC):
    """The ratings as the solver takes them, and the errors of factors on them and on the validation ratings.

    Attributes
    ----------
    ratings : what the solver trains on.
    interests : those of them that count as ratings of their users and items: all but dislikes.
    seen : (indptr, indices), all items that each user has rated.
    mean, scale, range : of the ratings as given.
    weight_scale : how the weights are scaled, or None.
    counts : counts of rows to report, besides the counts from reading.
    """

    weight_scale: WeightScale | None = None

    mean: float
    scale: float
    range: tuple[float, float]
    figure = "the RMSE of the ratings"  # what train_rmse is

    def missed(self, train_rmse: float) -> str:
        """Say how far the factors are from what they are trained on."""
        return f"{self.figure} is {train_rmse:.3g} times their standard deviation"

    def __init__(self, given: Ratings, ratings: Ratings, device: Device) -> None:
        self.counts: dict[str, int] = {}
        self.ratings, self.interests = ratings, ratings
        self.seen = given.by_user.indptr, given.by_user.indices
        self._training = device.put((Pairs(ratings.users, ratings.items), ratings.values))

    def train_rmse(self, factors: Factors, device: Device) -> float:
        """Return the RMSE of unclipped predictions of what is trained on, on the standardised scale."""
        pairs, values = self._training
        return _errors(pairs, values, self.ratings.sections, factors, UNCLIPPED, device)[0]

    def furthest(self) -> str:
        """Name the rating furthest from the mean if it is an outlier, for messages."""
        return ""

    def baseline(self) -> Baseline | None:
        """Fit biases alone, on the rating scale; return None if there are no ratings."""
        return None

    @abc.abstractmethod
    def validate(self, factors: Factors, device: Device) -> dict[str, float]:
        """Return the validation figures, keyed by attributes of Epoch; empty without validation."""

    def _found(self, validation: Ratings) -> tuple[np.ndarray, np.ndarray]:
        """Find the training index of each validation user and item, -1 if unknown; warn of pairs also in training."""
        ratings = self.ratings
        users = ids.lookup(ratings.user_ids, validation.user_ids, "validation user")
        items = ids.lookup(ratings.item_ids, validation.item_ids, "validation item")
        pairs = validation.among(users, "users"), validation.among(items, "items")
        n = count_common((ratings.by_user.indptr, ratings.items), *pairs, ratings.n_items)
        if n:
            warnings.warn(
                f"{n:,} of {len(validation):,} validation pairs are in the training ratings too", stacklevel=6
            )
        return users, items


class RatingObjective(Objective):
    """Standardised ratings r = (rating - mean) / scale, and the validation ratings on the same scale."""

    def __init__(self, ratings: Ratings, validation: Ratings | None, device: Device, solver: Solver) -> None:
        self.mean = mean_of(ratings.values, ratings.sections)
        self.scale = deviation_of(ratings.values, self.mean, ratings.sections) or 1.0
        self.range = float(ratings.values.min()), float(ratings.values.max())
        warn_of_coarseness(self.range, self.scale)
        values = standardised(ratings.values, self.mean, self.scale, ratings.spill)
        super().__init__(ratings, ratings.with_values(values), device)
        self._warn_of_outliers(solver)
        self.clipped = Scale(0.0, *((limit - self.mean) / self.scale for limit in self.range))
        self.validation: tuple[Pairs, np.ndarray, np.ndarray] | None = None
        if validation is not None:
            users, items = self._found(validation)
            pairs = Pairs(validation.among(users, "users"), validation.among(items, "items"))
            values = standardised(validation.values, self.mean, self.scale, validation.spill)
            self.validation = (*device.put((pairs, values)), validation.sections)

    def _warn_of_outliers(self, solver: Solver) -> None:
        values = self.ratings.values
        n = sum(int(np.count_nonzero(np.abs(values[part]) > solver.clip)) for part in parts_of(len(values)))
        if n:
            warnings.warn(
                f"{n:,} of {len(self.ratings):,} ratings are more than {solver.clip:g} standard deviations from the"
                f" mean{self.furthest()}: {solver.name} counts larger errors as {solver.clip:g}; check these ratings,"
                " or, if they are counts, take their logarithms",
                stacklevel=7,
            )

    def _pair(self, row: int) -> tuple[Any, Any]:
        ratings = self.ratings
        return ratings.user_ids[ratings.users[row]].as_py(), ratings.item_ids[ratings.items[row]].as_py()

    def furthest(self) -> str:
        """Name the rating furthest from the mean if it is an outlier, for messages."""
        values = self.ratings.values
        low, high = int(np.argmin(values)), int(np.argmax(values))
        row = low if -values[low] > values[high] or (-values[low] == values[high] and low < high) else high
        if abs(values[row]) <= OUTLYING:
            return ""
        rating, (user_id, item_id) = values[row] * self.scale + self.mean, self._pair(row)
        return f"; the furthest is {rating:,.7g}, of user {user_id!r} and item {item_id!r}"

    def baseline(self) -> Baseline:
        """Fit biases alone, on the rating scale."""
        return fit_baseline(self.ratings.by_user, self.ratings.by_item, self.scale)

    def validate(self, factors: Factors, device: Device) -> dict[str, float]:
        """Return RMSE and MAE of clipped predictions, on the rating scale."""
        if self.validation is None:
            return {}
        rmse, mae = _errors(*self.validation, factors, self.clipped, device)
        return {"validation_rmse": rmse * self.scale, "validation_mae": mae * self.scale}


class ImplicitObjective(Objective):
    """Observed pairs, 1 or 0 if they are disliked, and lists that should hold the validation's pairs of value 1."""

    mean, scale, range = 0.0, 1.0, (0.0, 1.0)
    figure = "the distance of observed pairs' scores from 1"

    def missed(self, train_rmse: float) -> str:
        """Say how far scores are from 1."""
        return f"{self.figure} is {train_rmse:.3g}"

    def __init__(
        self,
        ratings: Ratings,
        validation: Ratings | None,
        device: Device,
        solver: Solver,
    ) -> None:
        positive_from, negative_to = solver.positive_from, solver.negative_to
        if positive_from is not None and not ratings.rated:
            raise DataError(f"positive_from is {positive_from:g}, but there are no ratings: leave it out")
        observed = interests = ratings.observed(positive_from, negative_to)
        if negative_to is not None:
            interests = observed.take(observed.values > 0)
            both = interests.user_counts[observed.users] > 0, interests.item_counts[observed.items] > 0
            observed = observed.take(np.logical_and(*both))  # other dislikes are those of zeros
        if ratings.weight is not None and observed.weights is not None and solver.weight_scale != "none":
            self.weight_scale = WeightScale.of_training(solver.weight_scale, observed.weights, observed.sections)
            observed = replace(observed, weights=self.weight_scale.scaled(observed.weights, observed.spill))
        super().__init__(ratings, observed, device)
        self.interests, self.counts["observed"] = interests, len(interests)
        if negative_to is not None:
            self.counts["disliked"] = len(observed) - len(interests)
            self.counts["disliked_cold"] = (
                int(np.count_nonzero(ratings.values <= negative_to)) - self.counts["disliked"]
            )
        self.wanted: Wanted | None = None
        if validation is not None:
            try:
                held_out = validation.observed(positive_from)
            except DataError as error:
                raise DataError(f"validation: {error}") from None
            self.wanted = self._wanted(held_out, *self._found(held_out))
            self._excluded = rows_of(self.wanted.users, [Compressed(*self.seen, np.empty(0, np.float32))])

    def _wanted(self, held_out: Ratings, users: np.ndarray, items: np.ndarray) -> Wanted:
        """Choose a sample of users, and return the items that their lists should hold."""
        known = (np.append(self.interests.user_counts, 0)[users] > 0) & (held_out.user_counts > 0)
        if not known.any():
            raise DataError("no validation user has training ratings: give other validation ratings, or none")
        return wanted_of((held_out.users, held_out.items), fixed_sample(np.flatnonzero(known)), users, items)

    def validate(self, factors: Factors, device: Device) -> dict[str, float]:
        """Return nDCG@10 of lists for validation users; the lists leave out what the users have seen in training."""
        if self.wanted is None:
            return {}
        of_users, of_items = device.get(factors.users), device.get(factors.items)
        present, features = self.interests.item_counts > 0, self.ratings.item_features
        if features is not None:
            present = present | (np.diff(features.rows.indptr) > 0)
        chosen = of_users.factors[self.wanted.users]
        return {"validation_ndcg": quality_of_lists(self.wanted, self._excluded, chosen, of_items.factors, present)}


def quality_of_lists(
    wanted: Wanted, excluded: Compressed, users: np.ndarray, items: np.ndarray, present: np.ndarray
) -> float:
    """Return nDCG@10 of lists for users with factors (n_lists, k), of those items (n_items, k) that are ``present``.

    The lists leave out what is ``excluded``, a row for each.
    """
    side = Side(items, np.where(present, np.float32(0), np.float32(-np.inf)))

    def rank(lists: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = Side(users[lists], np.zeros(len(lists), np.float32))
        return top_n(chosen, side, rows_of(lists, [excluded]), n)

    return quality(rank, wanted, len(items))


def objective_of(solver: Solver, ratings: Ratings, validation: Ratings | None, device: Device) -> Objective:
    """Return what a solver trains on and is measured on."""
    if solver.implicit:
        return ImplicitObjective(ratings, validation, device, solver)
    return RatingObjective(ratings, validation, device, solver)


def warn_of_coarseness(limits: tuple[float, float], scale: float) -> None:
    """Warn if float32 is too coarse for ratings between these limits, with this deviation."""
    spacing = np.finfo(np.float32)
    resolution = max(max(map(abs, limits)) * float(spacing.eps), float(spacing.smallest_subnormal))
    if resolution > COARSE * scale:
        warnings.warn(
            f"ratings from {limits[0]:,g} to {limits[1]:,g} are kept as float32, whose steps are about"
            f" {resolution:g}, too coarse for a deviation of {scale:g}: subtract a constant first",
            stacklevel=6,
        )


def _errors(
    pairs: Pairs, values: np.ndarray, tasks: np.ndarray, factors: Factors, scale: Scale, device: Device
) -> tuple[float, float]:
    """Return the RMSE and the mean absolute error of pairs, summed by tasks."""
    squared, absolute = launch(ERRORS, device, tasks, pairs, values, factors.users, factors.items, scale)
    return float(np.sqrt(squared / len(values))), float(absolute / len(values))
