"""What a solver is: settings, starting factors, a generator of epochs, and the facts about it that other code needs.

Solver modules import no numba, because ``fastmf fit --help`` reads their settings. They name kernels through the
package, as in ``kernels.als.HALF_SWEEP``, which imports a kernel file at its first use. Annotations quote
``np.random``, which NumPy imports when it is named.
"""

import abc
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from fastmf import kernels
from fastmf.errors import ParameterError
from fastmf.kernels.types import Compressed, Known, Penalty, Side
from fastmf.model.fold_in_rule import FoldInRule
from fastmf.model.history import RMSE, Measure
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch
from fastmf.solvers import features
from fastmf.solvers.declare import settings_of
from fastmf.solvers.factors import Factors, Start
from fastmf.solvers.settings import Biases, Common, Featuring, Method, Penalties

if TYPE_CHECKING:
    from fastmf.data.ratings import Ratings


class Solver(Common, abc.ABC):
    """A way to factorize ratings; :func:`fastmf.fit` trains with any subclass.

    A subclass defines its settings, ``name``, ``remedy``, ``epochs``, ``start`` and ``run``, and overrides the other
    members where their defaults are wrong. Other code reads these members, never names of solvers or settings.
    """

    name: ClassVar[str]
    remedy: ClassVar[str]  # what to change if training diverges; "{reg0:g}" stands for the value of reg0
    on_gpu: ClassVar[bool] = True  # whether it runs on a GPU
    spills: ClassVar[bool] = False  # whether it reads ratings in order only, so that they may be on disk
    implicit: ClassVar[bool] = False  # whether pairs are signs of interest instead of ratings
    per_rating: ClassVar[bool] = False  # whether epochs visit ratings one by one: a sample shows the speed
    tuned: ClassVar[tuple[str, ...]] = ()  # settings that fastmf.tune searches, besides k
    tuned_with_features: ClassVar[tuple[str, ...]] = ()  # those that it searches too if there are side features
    tuned_by_default: ClassVar[bool] = False  # whether fastmf.tune tries it if no solver is named
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # settings by label, to compile ahead and benchmark

    def __post_init__(self) -> None:
        for each in settings_of(type(self)).values():
            value = getattr(self, each.name)
            each.check(value)
            if isinstance(value, np.generic):  # models keep settings as plain data
                object.__setattr__(self, each.name, value.item())

    @property
    def settings(self) -> dict[str, Any]:
        """The settings, by name."""
        return asdict(self)

    @property
    @abc.abstractmethod
    def epochs(self) -> int:
        """The most times that :meth:`run` yields."""

    @property
    def burn(self) -> int:
        """The number of initial epochs that cannot be the best and do not count towards patience."""
        return 0

    @property
    def biased(self) -> bool:
        """Whether users and items have a bias."""
        return isinstance(self, Biases) and self.biases

    @property
    def positive_from(self) -> float | None:
        """The lowest rating that counts as a sign of interest; None if all do."""
        return None

    @property
    def negative_to(self) -> float | None:
        """The highest rating that counts as a sign of dislike; None if none does."""
        return None

    @property
    def weight_scale(self) -> str:
        """How a column of weights is scaled; see :mod:`fastmf.data.weights`."""
        return "none"

    @property
    def measure(self) -> Measure:
        """The validation figure by which epochs and trials are compared."""
        return RMSE

    @property
    def clip(self) -> float:
        """The largest error that counts in full, in standard deviations of the ratings."""
        return math.inf

    @property
    def bytes_per_row(self) -> int:
        """Bytes that training and its model hold for each user and item, at least."""
        return 2 * 4 * self.k

    @property
    def bytes_per_thread(self) -> int:
        """Bytes of scratch memory of each thread on the CPU."""
        return 0

    def operations(self, n_ratings: int, n_rows: int) -> float:
        """Count the multiplications and additions that an epoch needs; a kernel may issue more."""
        return 2.0 * n_ratings * self.k

    def traffic(self, n_ratings: int) -> float:
        """Count the bytes that an epoch moves between the arithmetic and memory or a cache."""
        return n_ratings * (2 * 4.0 * self.k + 12)

    def with_epochs(self, epochs: int) -> Self:
        """Return the same solver with another number of epochs."""
        return replace(self, epochs=epochs)  # type: ignore[call-arg]  # a field of each subclass

    def advise(self) -> str:
        """Return the remedy, with the values of the settings it names."""
        return self.remedy.format(**self.settings)

    @abc.abstractmethod
    def start(self, ratings: "Ratings") -> Factors:
        """Return the factors to start from; cold rows are zero."""

    def start_from(self, ratings: "Ratings", start: Start) -> Factors:
        """Return the factors to start from, given an earlier model's; rows that it does not know start as without it.

        Their predictions are those of the model, unless the solver has no biases. Solvers with a memory override this.
        """
        factors, given = self.start(ratings), start if self.biased else start.trained
        sides = (factors.users, given.users, given.known_users), (factors.items, given.items, given.known_items)
        for own, theirs, known in sides:
            own.factors[known] = theirs.factors[known]
            if self.biased:
                own.bias[known] = theirs.bias[known]
        return factors

    @abc.abstractmethod
    def run(self, ratings: "Ratings", factors: Factors, device: Device, done: int = 0) -> Iterator[int]:
        """Train on standardised ratings in place; after each epoch, yield the number of rows with singular equations.

        ``factors`` are on the device and have seen ``done`` epochs already.
        """

    def learned(self, factors: Factors) -> dict[str, Any]:
        """Return what the model keeps besides factors and biases: groups of :mod:`fastmf.model.learned`, by name."""
        return {}

    def user_rule(self, ratings: "Ratings") -> FoldInRule | None:
        """Return how the model solves for new users; None if it cannot."""
        return None

    def item_rule(self, ratings: "Ratings") -> FoldInRule | None:
        """Return how the model solves for new items; None if it cannot."""
        return None


class Regularised(Penalties, Solver):
    """A solver with the objective of :mod:`fastmf.solvers`."""

    tuned: ClassVar[tuple[str, ...]] = ("reg", "reg0")

    @property
    def penalty(self) -> Penalty:
        """The weights as kernels take them; an infinite weight keeps biases at zero."""
        return Penalty(self.reg, self.reg0, self.bias_reg if self.biases else np.inf)

    def user_rule(self, ratings: "Ratings") -> FoldInRule:
        """Return the weights of the objective."""
        return FoldInRule(reg=self.reg, reg0=self.reg0, bias_reg=self.bias_reg if self.biases else None)

    def item_rule(self, ratings: "Ratings") -> FoldInRule:
        """Return the weights of the objective, which treats both sides alike."""
        return Regularised.user_rule(self, ratings)


class FollowsFeatures(Featuring, Solver):
    """A solver that pulls rows to what :mod:`fastmf.solvers.features` fits; its arrays are the last of the factors'."""

    tuned_with_features: ClassVar[tuple[str, ...]] = ("feature_reg",)

    def start_from(self, ratings: "Ratings", start: Start) -> Factors:
        """Start from the factors of an earlier model, and from what it has learned about the same features."""
        factors = super().start_from(ratings, start)
        if start.expected:
            features.carry(factors, ratings, start.expected)
        return factors


class SolvesRows(Solver):
    """The costs of solvers that solve each row's equations exactly while the other side is fixed."""

    @property
    def bytes_per_thread(self) -> int:
        """The bytes of the equations of a vector of rows in float32, twice, and of one row in float64."""
        return int(self.k**2 * (2 * max(kernels.vectors.WIDTH, 1) * 4 + 8))

    def operations(self, n_ratings: int, n_rows: int) -> float:
        """Count k (k + 1) per rating and side for half of y y', and k^3 / 3 + 2 k^2 per row for its Cholesky solve."""
        k = self.k
        return 2.0 * n_ratings * k * (k + 1) + n_rows * (k**3 / 3 + 2 * k**2)

    def traffic(self, n_ratings: int) -> float:
        """Count k factors and a bias of the other side, an index and a value, per rating and side."""
        return 2.0 * n_ratings * (4 * self.k + 12)


class ExactOrCG(Method, SolvesRows):
    """A solver that solves rows exactly or by conjugate gradients."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method == "exact" and self.steps != type(self).steps:
            raise ParameterError(f"steps is {self.steps}, but method='exact' takes none: leave it out, or choose cg")

    @property
    def bytes_per_thread(self) -> int:
        """The bytes of the equations of a few rows; 0 for conjugate gradients, which form none."""
        return 0 if self.method == "cg" else super().bytes_per_thread

    def operations(self, n_ratings: int, n_rows: int) -> float:
        """Count as above, or 4 k per rating, side and pass: one for the residual and one for each step of cg."""
        if self.method == "cg":
            return 2.0 * n_ratings * (1 + self.steps) * 4 * self.k
        return super().operations(n_ratings, n_rows)

    def traffic(self, n_ratings: int) -> float:
        """Count as above for each pass; conjugate gradients make one for the residual and one for each step."""
        return super().traffic(n_ratings) * (1 + self.steps if self.method == "cg" else 1)

    def tasks(self, indptr: np.ndarray) -> np.ndarray:
        """Cut rows into tasks of equal work."""
        if self.method == "cg":
            return np.asarray(kernels.cg.half_sweep_cg_tasks(indptr, self.k, self.steps))
        return np.asarray(kernels.als.half_sweep_tasks(indptr, self.k))

    def solve(
        self,
        device: Device,
        tasks: np.ndarray,
        entries: Compressed,
        own: Side,
        other: Side,
        penalty: Penalty,
        known: Known,
    ) -> int:
        """Solve the rows of ``own`` in place, or take steps towards their solutions; return how many were singular."""
        given = tasks, entries, own, other, penalty
        if self.method == "cg":
            return int(launch(kernels.cg.HALF_SWEEP_CG, device, *given, known, self.steps))
        return int(launch(kernels.als.HALF_SWEEP, device, *given, known))


def zeros(n: int, k: int) -> Side:
    """Return n rows of k zero factors and zero biases."""
    return Side(kernels.vectors.aligned(n, k), np.zeros(n, np.float32))


def draw(counts: np.ndarray, k: int, sigma: float, rng: "np.random.Generator") -> Side:
    """Draw factors from N(0, sigma^2), with zero biases; rows with a count of zero are cold and all zero."""
    factors, bias = zeros(len(counts), k)
    rng.standard_normal(out=factors, dtype=np.float32)
    factors *= np.float32(sigma)
    factors[counts == 0] = 0
    return Side(factors, bias)
