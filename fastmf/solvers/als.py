"""Alternating least squares (Zhou, Wilkinson, Schreiber and Pan 2008), with biases and momentum."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastmf.data.ratings import Ratings
from fastmf.errors import ParameterError
from fastmf.kernels.als import EXTRAPOLATE, HALF_SWEEP, half_sweep_tasks
from fastmf.kernels.cg import HALF_SWEEP_CG, half_sweep_cg_tasks
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Compressed, Side, nothing_known
from fastmf.kernels.vectors import aligned, padded, whole
from fastmf.runtime.device import Device
from fastmf.runtime.launch import Kernel, launch
from fastmf.solvers.base import Factors, Regularised, Settings, draw, require_integer, require_number

INIT_SIGMA = 0.1
ROWS_PER_TASK = 1 << 13

METHODS: dict[str, tuple[Kernel, Callable[..., np.ndarray]]] = {
    "exact": (HALF_SWEEP, half_sweep_tasks),
    "cg": (HALF_SWEEP_CG, half_sweep_cg_tasks),
}


class BySolving(Settings):
    """The settings of how rows are solved, with the other side fixed; a base for dataclasses."""

    method: str
    steps: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("steps", self.steps, 1)
        if self.method not in list(METHODS):  # a list asks nothing of what it is given
            raise ParameterError(f"method is {self.method!r}: choose {' or '.join(METHODS)}")
        if self.method == "exact" and self.steps != type(self).steps:
            raise ParameterError(f"steps is {self.steps}, but method='exact' takes none: leave it out, or choose cg")

    def tasks(self, indptr: np.ndarray) -> np.ndarray:
        """Cut rows into tasks of equal work."""
        steps = () if self.method == "exact" else (self.steps,)
        return METHODS[self.method][1](indptr, self.k, *steps)

    def solve(self, device: Device, tasks: np.ndarray, entries: Compressed, own: Side, other: Side, *rules: Any) -> int:
        """Solve the rows of a side, or come nearer, by a Penalty and what is Known; return how many were singular."""
        penalty, known = rules
        more = (penalty, known) if self.method == "exact" else (penalty, self.steps, known.base)
        return int(launch(METHODS[self.method][0], device, tasks, entries, own, other, *more))


@dataclass(frozen=True, kw_only=True)
class ALS(BySolving, Regularised):
    """Alternating least squares: users solved with the items fixed, then items with the users fixed.

    The objective, and what reg, reg0 and bias_reg mean, is in :mod:`fastmf.solvers`. The same data, settings and seed
    give the same bits for any number of threads.

    Parameters
    ----------
    k : number of factors.
    epochs : passes over all ratings, each solving both sides once.
    reg, reg0 : weight of a row's squared factors, per rating of the row and per row.
    bias_reg : weight of the squared biases.
    method : "exact" solves every row's equations; "cg" takes some steps of conjugate gradients towards their solution,
        from where the row is. Two steps cost half as much at k = 64 and a third at k = 128, and an epoch of them
        gets as far as an exact one (README, Results); below k = 64 there is nothing to gain.
    steps : of conjugate gradients in each half-sweep.
    momentum : how far the item side is moved on along its last change before users are solved; 0 is plain ALS.
    biases : whether users and items have a bias.
    seed : of the items' starting factors.

    Raises
    ------
    ParameterError
        If a setting is out of range.

    Examples
    --------
    >>> ALS(k=8).epochs
    12
    """

    name: ClassVar[str] = "als"

    k: int = 32
    epochs: int = 12
    reg: float = 0.03
    reg0: float = 8.0
    bias_reg: float = 3.0
    method: str = "exact"
    steps: int = 2
    momentum: float = 0.3
    biases: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("momentum", self.momentum, low=0, high=1)

    @property
    def remedy(self) -> str:
        """What to change when training diverges."""
        return f"raise reg0 (it is {self.reg0:g}), or lower momentum (it is {self.momentum:g})"

    def start(self, ratings: Ratings) -> Factors:
        """Draw the items' factors; the users' start at zero, and are the first to be solved."""
        rng = np.random.default_rng(self.seed)
        items = draw(ratings.item_counts, self.k, INIT_SIGMA, rng)
        users = Side(aligned(ratings.n_users, self.k), np.zeros(ratings.n_users, np.float32))
        return Factors(users, items, memory=(items.factors.copy(), items.bias.copy()))

    def run(self, ratings: Ratings, factors: Factors, device: Device, done: int = 0) -> Iterator[int]:
        """Solve users, then items, once an epoch; yield how many rows' equations were singular.

        The memory is the item side before its last change, which momentum needs.
        """
        by_user, by_item = device.put(ratings.by_user), device.put(ratings.by_item)
        users, items, previous, _ = factors
        ahead = device.put(Side(aligned(ratings.n_items, whole(self.k)), np.zeros(ratings.n_items, np.float32)))
        rows = even(ratings.n_items, ROWS_PER_TASK)
        user_tasks, item_tasks = (self.tasks(side.indptr) for side in (ratings.by_user, ratings.by_item))
        rules = self.penalty, device.put(nothing_known(self.k))
        for _ in range(done, self.epochs):
            launch(EXTRAPOLATE, device, rows, items, previous, ahead, self.momentum)
            singular = self.solve(device, user_tasks, by_user, users, ahead, *rules)
            yield singular + self.solve(device, item_tasks, by_item, items, padded(users), *rules)
