"""What every solver is: frozen hyper-parameters, starting factors, and a generator of epochs."""

import math
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np

from fastmf.data.ratings import Ratings
from fastmf.errors import ParameterError
from fastmf.kernels.types import Penalty, Side
from fastmf.kernels.vectors import aligned
from fastmf.runtime.device import Device

MAX_SEED = 2**63 - 1  # kernels take it as int64
MAX_WEIGHT = 1e30  # and weights as float32, with room to multiply


class Factors(NamedTuple):
    """What a solver works on, in place: both sides' factors and biases, for standardised ratings.

    memory holds whatever else a solver needs to know of the epochs before, so that factors alone let it go on; kept is
    what of it the model keeps, see :meth:`Solver.extras`.
    """

    users: Side
    items: Side
    memory: tuple[np.ndarray, ...] = ()
    kept: tuple[np.ndarray, ...] = ()


@runtime_checkable
class Solver(Protocol):
    """Anything :func:`fastmf.fit` can train with. Ours are frozen dataclasses of their hyper-parameters."""

    name: ClassVar[str]

    @property
    def epochs(self) -> int:
        """How often :meth:`run` yields, at most."""

    @property
    def burn(self) -> int:
        """How many of these come before anything to keep: none of them is the best, nor counts for patience."""

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on a GPU."""

    @property
    def implicit(self) -> bool:
        """Whether it takes pairs for a sign of interest, whatever their rating: see :mod:`fastmf.solvers.implicit`."""

    @property
    def tables(self) -> int:
        """How many vectors of k float32 training holds of each user and item at least, with the model made of it."""

    @property
    def settings(self) -> dict[str, Any]:
        """The hyper-parameters, as plain data."""

    @property
    def remedy(self) -> str:
        """What to change when training diverges."""

    def start(self, ratings: Ratings) -> Factors:
        """Draw the factors to start from; cold rows are zero."""

    def run(self, ratings: Ratings, factors: Factors, device: Device, done: int = 0) -> Iterator[int]:
        """Train on standardised ratings, in place; after each epoch, yield how many rows were singular.

        ``done`` epochs have made the factors what they are: go on from there.
        """

    def extras(self, factors: Factors) -> dict[str, Any]:
        """Say what else the model keeps: arguments of :class:`fastmf.Model`."""


class Settings:
    """The settings that every solver has; a base for their dataclasses."""

    on_gpu: ClassVar[bool] = True
    implicit: ClassVar[bool] = False
    tuned: ClassVar[tuple[str, ...]] = ()  # settings that :func:`fastmf.tune` looks for, beside k

    k: int
    seed: int

    def __post_init__(self) -> None:
        require_integer("k", self.k, 1)
        require_integer("seed", self.seed, 0, MAX_SEED)

    @property
    def settings(self) -> dict[str, Any]:
        """The hyper-parameters, as plain data."""
        given = asdict(self)  # type: ignore[call-overload]  # subclasses are dataclasses
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}

    @property
    def tables(self) -> int:
        """How many vectors training holds of each user and item at least: the factors, and those of the model."""
        return 2

    def extras(self, factors: Factors) -> dict[str, Any]:
        """Keep nothing but the factors."""
        return {}


class Regularised(Settings):
    """The settings that mean the same in every solver with an objective, see :mod:`fastmf.solvers`."""

    burn: ClassVar[int] = 0
    tuned: ClassVar[tuple[str, ...]] = ("reg", "reg0")

    biases: bool
    epochs: int
    reg: float
    reg0: float
    bias_reg: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("epochs", self.epochs, 1)
        require_truth("biases", self.biases)
        for name in ("reg", "reg0", "bias_reg"):
            require_number(name, getattr(self, name), low=0, high=MAX_WEIGHT)

    @property
    def penalty(self) -> Penalty:
        """The weights of the objective; without biases their weight is infinite."""
        return Penalty(self.reg, self.reg0, self.bias_reg if self.biases else np.inf)


def draw(counts: np.ndarray, k: int, sigma: float, rng: np.random.Generator) -> Side:
    """Draw factors from N(0, sigma^2), with zero biases; rows with a count of zero are cold and all zero."""
    factors = aligned(len(counts), k)
    rng.standard_normal(out=factors, dtype=np.float32)
    factors *= np.float32(sigma)
    factors[counts == 0] = 0
    return Side(factors, np.zeros(len(counts), np.float32))


def make(solvers: dict[str, Any], solver: Any, **given: Any) -> Solver:
    """Make a solver from its name and the hyper-parameters given, or take a solver as it is.

    Raises
    ------
    ParameterError
        For an unknown name or hyper-parameter, or hyper-parameters beside a solver object.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if not isinstance(solver, str):
        if given:
            raise ParameterError(f"{', '.join(given)} given beside a solver object: set them on the object")
        if isinstance(solver, type) or not isinstance(solver, Solver):
            raise ParameterError(f"{solver!r} is no solver: give one of {', '.join(solvers)}, or an object like them")
        return solver
    if solver not in solvers:
        raise ParameterError(f"unknown solver {solver!r}: choose one of {', '.join(solvers)}")
    known = [f.name for f in fields(solvers[solver])]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ParameterError(f"solver {solver!r} has no setting {', '.join(unknown)}; it has {', '.join(known)}")
    return solvers[solver](**given)


def require_integer(name: str, value: Any, low: int, high: int | None = None) -> None:
    """Raise a ParameterError unless the value is an integer in [low, high]."""
    integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not integer or value < low or (high is not None and value > high):
        raise ParameterError(
            f"{name} is {value!r}: give an integer of at least {low}" + (f" and at most {high}" if high else "")
        )


def require_truth(name: str, value: Any) -> None:
    """Raise a ParameterError unless the value is True or False."""
    if not isinstance(value, bool):
        raise ParameterError(f"{name} is {value!r}: give True or False")


def require_number(name: str, value: Any, *, low: float, above: bool = False, high: float = math.inf) -> None:
    """Raise a ParameterError unless the value is a finite number in [low, high], or in (low, high] if above."""
    number = isinstance(value, int | float | np.floating | np.integer) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < low or value > high or (above and value == low):
        limits = f"{'above' if above else 'of at least'} {low:g}" + (
            f" and at most {high:g}" if high < math.inf else ""
        )
        raise ParameterError(f"{name} is {value!r}: give a number {limits}")
