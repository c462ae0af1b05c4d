"""Stochastic gradient descent: blocked (Gemulla et al. 2011; Chin et al. 2015) or Hogwild (Niu et al. 2011)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastmf.data.ratings import Ratings
from fastmf.errors import ParameterError
from fastmf.kernels.blocks import COLLECT, COUNT_BLOCKS, DEAL, SHUFFLE_BLOCKS, Grid
from fastmf.kernels.sgd import BLOCK_EPOCH, HOGWILD_EPOCH, RUN, Step, new_learner, positions
from fastmf.kernels.sgd_plain import BIAS, BIAS_RHO, RHO, SQUARES
from fastmf.kernels.tasks import even, packed
from fastmf.kernels.types import Triples
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch
from fastmf.solvers.base import Factors, Regularised, draw, require_integer, require_number

INIT_SIGMA = 0.01
HOGWILD_TASKS = 256
RATINGS_PER_TASK = 1 << 18
ROWS_PER_TASK = 1 << 12
MAX_BINS = 1024

# Large blocks, for in small ones ratings of the same rows follow one another closely, and each waits for the one
# before.
RATINGS_PER_BLOCK = 1 << 16
RATINGS_PER_GPU_BLOCK = 1 << 6


@dataclass(frozen=True, kw_only=True)
class SGD(Regularised):
    """Stochastic gradient descent, one rating after another, in an order shuffled anew each epoch.

    The objective, and what reg, reg0 and bias_reg mean, is in :mod:`fastmf.solvers`; for the absolute loss the error
    is not squared there.

    Parameters
    ----------
    k : number of factors.
    epochs : passes over all ratings.
    reg, reg0 : weight of a row's squared factors, per rating of the row and per row.
    bias_reg : weight of the squared biases.
    lr : step of the first epoch, in standardised ratings; decay : what it is multiplied by after every epoch.
    loss : "squared" or "absolute".
    schedule : "blocked" works through blocks of users x items in strata whose blocks share no user and no item, so
        that the same data, settings and seed give the same bits for any number of threads; "hogwild" lets threads race
        over one shuffle of all ratings, and gives the same bits on one thread only.
    bins : bins a side for the blocked schedule; when left out, see :func:`default_bins`.
    biases : whether users and items have a bias.
    adaptive : whether the step of a row falls with the squares of its gradients so far (which asks for a larger lr).
    seed : of the starting factors and of the shuffles.

    Raises
    ------
    ParameterError
        If a setting is out of range.

    Examples
    --------
    >>> SGD(loss="absolute").schedule
    'blocked'
    """

    name: ClassVar[str] = "sgd"

    k: int = 32
    epochs: int = 40
    reg: float = 0.03
    reg0: float = 6.0
    bias_reg: float = 3.0
    lr: float = 0.05
    decay: float = 0.93
    loss: str = "squared"
    schedule: str = "blocked"
    bins: int | None = None
    biases: bool = True
    adaptive: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("lr", self.lr, low=0, above=True)
        require_number("decay", self.decay, low=0, above=True, high=1)
        if self.loss not in ("squared", "absolute"):
            raise ParameterError(f"loss is {self.loss!r}: choose squared or absolute")
        if self.schedule not in ("blocked", "hogwild"):
            raise ParameterError(f"schedule is {self.schedule!r}: choose blocked or hogwild")
        if not isinstance(self.adaptive, bool):
            raise ParameterError(f"adaptive is {self.adaptive!r}: give True or False")
        if self.bins is not None:
            require_integer("bins", self.bins, 1, MAX_BINS)

    @property
    def remedy(self) -> str:
        """What to change when training diverges."""
        return f"lower lr (it is {self.lr:g})"

    def start(self, ratings: Ratings) -> Factors:
        """Draw both sides' factors. The memory of the adaptive step is one number a row."""
        rng = np.random.default_rng(self.seed)
        users = draw(ratings.user_counts, self.k, INIT_SIGMA, rng)
        items = draw(ratings.item_counts, self.k, INIT_SIGMA, rng)
        squares = (np.ones(len(side.bias), np.float32) for side in (users, items))
        return Factors(users, items, memory=tuple(squares) if self.adaptive else ())

    def run(self, ratings: Ratings, factors: Factors, device: Device, done: int = 0) -> Iterator[int]:
        """Update by every rating once an epoch; there is nothing that could fail to solve, so yield 0."""
        blocked = self.schedule == "blocked"
        bins = (self.bins or default_bins(len(ratings), not device.on_host)) if blocked else 1
        grid = cut(ratings, min(bins, ratings.n_users, ratings.n_items))
        triples, strata = dealt(ratings, grid, self.seed, device.host)
        triples, to = device.put(triples), device.put((grid.user_rows, grid.item_rows))
        if not blocked:
            places = positions(-(-len(ratings) // RUN))
            strata = [even(places, -(-places // HOGWILD_TASKS))]
        sides = self._learners(ratings, factors, grid, device)
        for epoch in range(done, self.epochs):
            lr = float(self.lr * self.decay**epoch)
            step = Step(lr, self.biases, self.adaptive, self.loss == "absolute", self.k, self.seed, epoch)
            for tasks in strata:
                launch(BLOCK_EPOCH if blocked else HOGWILD_EPOCH, device, tasks, triples, *sides, step)
            self._collect(sides, factors, to, device)
            yield 0

    def _learners(self, ratings: Ratings, factors: Factors, grid: Grid, device: Device) -> list[Any]:
        """Bring both sides into the rows of their bins, each with its penalty spread over its ratings."""
        learners = []
        for place, (side, rows) in enumerate(((factors.users, grid.user_rows), (factors.items, grid.item_rows))):
            n = np.maximum((ratings.user_counts, ratings.item_counts)[place], 1)
            learner = new_learner(len(rows), self.k)
            learner[rows, : self.k] = device.get(side.factors)
            learner[rows, BIAS] = device.get(side.bias)
            learner[rows, RHO] = self.reg + self.reg0 / n
            learner[rows, BIAS_RHO] = self.bias_reg / n
            learner[rows, SQUARES] = device.get(factors.memory[place]) if self.adaptive else 1
            learners.append(device.put(learner))
        return learners

    def _collect(self, learners: list[Any], factors: Factors, rows: tuple[Any, Any], device: Device) -> None:
        """Bring what was learned back to where it came from."""
        squares = factors.memory or (device.put(np.empty(0, np.float32)),) * 2
        for learner, side, row, square in zip(learners, (factors.users, factors.items), rows, squares, strict=True):
            launch(COLLECT, device, even(len(side.bias), ROWS_PER_TASK), row, learner, *side, square)


def default_bins(n_ratings: int, on_gpu: bool = False) -> int:
    """Choose the bins a side from the size of the data alone, so that the result depends on nothing else.

    A power of two from 8 to 128 that makes blocks of about ``RATINGS_PER_BLOCK`` ratings; on a GPU, which works on as
    many blocks at a time as there are bins, from 8 to 1024 and of about ``RATINGS_PER_GPU_BLOCK``.
    """
    size, most = (RATINGS_PER_GPU_BLOCK, MAX_BINS) if on_gpu else (RATINGS_PER_BLOCK, 128)
    doublings = round(math.log2(max(n_ratings / size, 1)) / 2)
    return min(max(2**doublings, 8), most)


def cut(ratings: Ratings, bins: int) -> Grid:
    """Deal users and items to bins by falling number of ratings, there and back: bins hold as many ratings."""
    users, items = _deal(ratings.user_counts, bins), _deal(ratings.item_counts, bins)
    return Grid(users[0], items[0], users[1], items[1], bins)


def dealt(ratings: Ratings, grid: Grid, seed: int, device: Device) -> tuple[Triples, list[np.ndarray]]:
    """Put ratings into the blocks of a grid, in random order.

    Returns
    -------
    The ratings, stratum by stratum and block by block, and for each stratum the bounds of its blocks.
    """
    n, bins = len(ratings), grid.bins
    size = max(RATINGS_PER_TASK, bins**2)  # the counts take no more memory than the ratings
    tasks, source = even(n, size), Triples(ratings.users, ratings.items, ratings.values)
    counts = np.empty((len(tasks) - 1, bins**2), np.int64)
    launch(COUNT_BLOCKS, device, tasks, size, source, grid, counts)
    bounds, places = packed(counts)
    blocks, shuffled = (Triples(np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.float32)) for _ in "ab")
    launch(DEAL, device, tasks, size, source, grid, places, blocks)
    launch(SHUFFLE_BLOCKS, device, tasks, bounds, blocks, seed, shuffled)
    return shuffled, [bounds[s * bins : (s + 1) * bins + 1] for s in range(bins)]


def _deal(counts: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Deal rows to bins. Returns the bin of each row and its place when bin lies after bin, both (n,) int32."""
    there_and_back = np.concatenate((np.arange(bins), np.arange(bins)[::-1])).astype(np.int32)
    by_count = np.argsort(-counts, kind="stable")
    of_bin, places = np.empty(len(counts), np.int32), np.empty(len(counts), np.int32)
    of_bin[by_count] = np.resize(there_and_back, len(counts))
    places[by_count[np.argsort(of_bin[by_count], kind="stable")]] = np.arange(len(counts), dtype=np.int32)
    return of_bin, places
