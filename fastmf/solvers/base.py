"""What a solver is: hyper-parameters, starting factors, a generator of epochs, and all that others need to know of it.

Solver modules import no numba, because ``fastmf fit --help`` reads their settings. They name kernels through the
package, as in ``kernels.als.HALF_SWEEP``, which imports a kernel file at its first use.
"""

import abc
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np

from fastmf import kernels
from fastmf.errors import ParameterError
from fastmf.kernels.types import Compressed, Known, Penalty, Side
from fastmf.model.equations import RowEquations
from fastmf.model.history import RMSE, Measure
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch
from fastmf.solvers.settings import MAX_SEED, MAX_WEIGHT, setting, settings_of, with_settings

if TYPE_CHECKING:
    from fastmf.data.ratings import Ratings


class Factors(NamedTuple):
    """What a solver works on, in place: both sides' factors and biases, for standardised ratings.

    memory holds what else the next epoch depends on, so that training can go on from Factors alone. kept holds what
    the model keeps beside factors and biases; see :meth:`Solver.learned`.
    """

    users: Side
    items: Side
    memory: tuple[np.ndarray, ...] = ()
    kept: tuple[np.ndarray, ...] = ()


@with_settings
class Solver(abc.ABC):
    """A way to factorize ratings; :func:`fastmf.fit` trains with any subclass.

    A subclass defines its settings, ``name``, ``epochs``, ``remedy``, ``start`` and ``run``, and overrides the answers
    below that are not true of it. Nobody asks for its name, or for a setting, to find out what it is.
    """

    name: ClassVar[str]
    on_gpu: ClassVar[bool] = True  # whether it runs on a GPU
    implicit: ClassVar[bool] = False  # whether a pair is a sign of interest, and no rating
    per_rating: ClassVar[bool] = False  # whether an epoch visits rating by rating: a sample of them tells its speed
    tuned: ClassVar[tuple[str, ...]] = ()  # settings that fastmf.tune searches, beside k
    tuned_by_default: ClassVar[bool] = False  # whether fastmf.tune tries it if no solver is named
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # what to compile ahead and to measure: label to settings

    k: int = setting(32, "Number of factors.", low=1)
    seed: int = setting(0, "Seed of everything random.", low=0, high=MAX_SEED)

    def __post_init__(self) -> None:
        for each in settings_of(type(self)).values():
            each.check(getattr(self, each.name))

    @property
    def settings(self) -> dict[str, Any]:
        """The hyper-parameters as plain data."""
        given = asdict(self)
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}

    @property
    @abc.abstractmethod
    def epochs(self) -> int:
        """The number of times :meth:`run` yields, at most."""

    @property
    def burn(self) -> int:
        """The number of first epochs that are never the best one and do not count for patience."""
        return 0

    @property
    def positive_from(self) -> float | None:
        """The lowest rating that is a sign of interest; None if all are."""
        return None

    @property
    def measure(self) -> Measure:
        """The validation figure that epochs and trials are compared by."""
        return RMSE

    @property
    @abc.abstractmethod
    def remedy(self) -> str:
        """What to change if training diverges."""

    @property
    def bytes_per_row(self) -> int:
        """The bytes that training and the model made of it hold for each user and item, at least."""
        return 2 * 4 * self.k

    @property
    def bytes_per_thread(self) -> int:
        """The bytes of scratch memory of each thread on the CPU."""
        return 0

    def operations(self, n_ratings: int, n_rows: int) -> float:
        """Count the multiplications and additions that an epoch needs, which are fewer than a kernel issues."""
        return 2.0 * n_ratings * self.k

    def traffic(self, n_ratings: int) -> float:
        """Count the bytes that an epoch moves between memory, or a cache, and the arithmetic."""
        return n_ratings * (2 * 4.0 * self.k + 12)

    def with_epochs(self, epochs: int) -> Self:
        """Return the same solver with another number of epochs."""
        return replace(self, epochs=epochs)  # type: ignore[call-arg]  # a field of each subclass

    @abc.abstractmethod
    def start(self, ratings: "Ratings") -> Factors:
        """Draw the factors to start from; cold rows are zero."""

    @abc.abstractmethod
    def run(self, ratings: "Ratings", factors: Factors, device: Device, done: int = 0) -> Iterator[int]:
        """Train on standardised ratings, in place; after each epoch, yield how many rows' equations were singular.

        The factors are those after ``done`` epochs: go on from there.
        """

    def learned(self, factors: Factors) -> dict[str, Any]:
        """Return what the model keeps beside factors and biases: groups of :mod:`fastmf.model.learned`, by name."""
        return {}

    def row_equations(self, ratings: "Ratings") -> RowEquations | None:
        """Return the equations that new users of the model are folded in by; None if it cannot fold in."""
        return None


@with_settings
class Biased(Solver):
    """The setting of solvers that may do without biases."""

    biases: bool = setting(True, "Give users and items a bias.")


@with_settings
class Regularised(Biased):
    """The settings that mean the same in every solver with the objective of :mod:`fastmf.solvers`."""

    tuned: ClassVar[tuple[str, ...]] = ("reg", "reg0")

    epochs: int = setting(12, "Passes over all ratings.", low=1)
    reg: float = setting(0.03, "Weight of a row's squared factors, per rating of the row.", low=0, high=MAX_WEIGHT)
    reg0: float = setting(8.0, "Weight of a row's squared factors, per row.", low=0, high=MAX_WEIGHT)
    bias_reg: float = setting(3.0, "Weight of the squared biases.", low=0, high=MAX_WEIGHT)

    @property
    def penalty(self) -> Penalty:
        """The weights of the objective as kernels take them; without biases their weight is infinite."""
        return Penalty(self.reg, self.reg0, self.bias_reg if self.biases else np.inf)

    def row_equations(self, ratings: "Ratings") -> RowEquations:
        """Return the penalties of the objective."""
        return RowEquations(reg=self.reg, reg0=self.reg0, bias_reg=self.bias_reg if self.biases else None)


@with_settings
class SolvesRows(Solver):
    """Settings and costs of solvers that solve each row's equations while the other side is fixed."""

    method: str = setting(
        "exact",
        "How rows are solved: exactly, or by some steps of conjugate gradients, faster from k = 64 on.",
        choices=("exact", "cg"),
    )
    steps: int = setting(2, "Steps of conjugate gradients in each half-sweep.", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method == "exact" and self.steps != type(self).steps:
            raise ParameterError(f"steps is {self.steps}, but method='exact' takes none: leave it out, or choose cg")

    @property
    def bytes_per_thread(self) -> int:
        """The equations of some rows."""
        return 0 if self.method == "cg" else equation_bytes(self.k)

    def operations(self, n_ratings: int, n_rows: int) -> float:
        """Count for both sides; conjugate gradients pass over the ratings once, and once more a step: 4 k a rating."""
        if self.method == "cg":
            return 2.0 * n_ratings * (1 + self.steps) * 4 * self.k
        return solve_operations(self.k, n_ratings, n_rows)

    def traffic(self, n_ratings: int) -> float:
        """Count as many passes over the ratings as there are."""
        return solve_traffic(self.k, n_ratings) * (1 + self.steps if self.method == "cg" else 1)

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
        """Solve the rows of ``own``, or take steps towards their solutions; return how many were singular."""
        given = tasks, entries, own, other, penalty
        if self.method == "cg":
            return int(launch(kernels.cg.HALF_SWEEP_CG, device, *given, self.steps, known.base))
        return int(launch(kernels.als.HALF_SWEEP, device, *given, known))


def equation_bytes(k: int) -> int:
    """Return the bytes of the equations that a thread works on: those of some rows in float32, of one in float64."""
    return int(k**2 * (2 * max(kernels.vectors.WIDTH, 1) * 4 + 8))


def solve_operations(k: int, n_ratings: int, n_rows: int) -> float:
    """Count the operations of solving both sides.

    k (k + 1) for each rating's half of y y'; k^3 / 3 + 2 k^2 for each row's Cholesky and two triangular solves.
    """
    return 2.0 * n_ratings * k * (k + 1) + n_rows * (k**3 / 3 + 2 * k**2)


def solve_traffic(k: int, n_ratings: int) -> float:
    """Count the bytes of solving both sides: a rating's k factors and bias of the other side, index, value."""
    return 2.0 * n_ratings * (4 * k + 12)


def draw(counts: np.ndarray, k: int, sigma: float, rng: np.random.Generator) -> Side:
    """Draw factors from N(0, sigma^2), with zero biases; rows with a count of zero are cold and all zero."""
    factors = kernels.vectors.aligned(len(counts), k)
    rng.standard_normal(out=factors, dtype=np.float32)
    factors *= np.float32(sigma)
    factors[counts == 0] = 0
    return Side(factors, np.zeros(len(counts), np.float32))
