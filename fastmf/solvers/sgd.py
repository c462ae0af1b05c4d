"""Stochastic gradient descent: blocked (Gemulla et al. 2011; Chin et al. 2015) or Hogwild (Niu et al. 2011)."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastmf import kernels
from fastmf.data import csr
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Grid, Side, Triples
from fastmf.model.history import MAE, RMSE, Measure
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch
from fastmf.solvers import features
from fastmf.solvers.base import FollowsFeatures, Regularised, draw
from fastmf.solvers.declare import setting, with_settings
from fastmf.solvers.factors import Factors
from fastmf.solvers.settings import MAX_WEIGHT

if TYPE_CHECKING:
    from fastmf.data.ratings import Ratings

INIT_SIGMA = 0.01
HOGWILD_TASKS = 256
RATINGS_PER_TASK = 1 << 18
ROWS_PER_TASK = 1 << 12
MAX_BINS = 1024
CLEAR = 12.0  # rows follow their pulls, so features seem clearer than they are; see fastmf.solvers.features

# In smaller blocks ratings of the same rows follow one another closely, and each waits for the one before.
RATINGS_PER_BLOCK = 1 << 16
RATINGS_PER_GPU_BLOCK = 1 << 6


@with_settings
class SGD(FollowsFeatures, Regularised):
    """Stochastic gradient descent, rating by rating, in an order shuffled anew each epoch.

    The objective is in :mod:`fastmf.solvers`; the absolute loss does not square the errors. The blocked schedule
    works through blocks of users x items, in strata whose blocks share no user or item. The same data, settings
    and seed therefore give the same bits for any number of threads. Hogwild lets threads race over one shuffle of all
    ratings, and gives the same bits on one thread only. The adaptive step needs a larger lr. A rating's weight
    multiplies its steps, so weights far above 1 need a smaller lr. Squared errors grow linearly beyond 16 standard
    deviations of the ratings (Huber's loss), so that outliers and counts with heavy tails do not make training diverge.

    Examples
    --------
    >>> SGD(loss="absolute").schedule
    'blocked'
    """

    name: ClassVar[str] = "sgd"
    remedy: ClassVar[str] = "lower lr (it is {lr:g})"
    per_rating: ClassVar[bool] = True
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "sgd": {},
        "sgd-adaptive": {"adaptive": True, "lr": 0.1, "decay": 0.9},
        "sgd-hogwild": {"schedule": "hogwild"},
    }

    epochs: int = 40
    reg0: float = 6.0
    lr: float = setting("Learning rate of the first epoch, for standardised ratings.", default=0.05, low=0, above=True)
    decay: float = setting(
        "Factor that multiplies the learning rate after every epoch.", default=0.93, low=0, above=True, high=1
    )
    loss: str = setting("Minimise squared or absolute errors.", default="squared", choices=("squared", "absolute"))
    schedule: str = setting(
        "Use blocks that share no user or item, or let threads race.", default="blocked", choices=("blocked", "hogwild")
    )
    bins: int | None = setting(
        "Bins per side in the blocked schedule; chosen from the number of ratings if left out.",
        default=None,
        low=1,
        high=MAX_BINS,
    )
    adaptive: bool = setting("Shrink each row's steps as the squares of its gradients add up.", default=False)

    @property
    def measure(self) -> Measure:
        """MAE for the absolute loss, RMSE for the squared one."""
        return MAE if self.loss == "absolute" else RMSE

    @property
    def clip(self) -> float:
        """What the kernels clip squared errors' slopes to; an absolute error has the same slope everywhere."""
        return math.inf if self.loss == "absolute" else float(kernels.sgd_plain.CLIP)

    def operations(self, n_ratings: int, n_rows: int) -> float:
        """Count 2 k operations per rating for its prediction, and 3 k for the step of each of its two rows."""
        return 8.0 * n_ratings * self.k

    def traffic(self, n_ratings: int) -> float:
        """Count the bytes: per rating, two rows read (k + 4 numbers) and written (k + 1), two indices and the value."""
        return float(n_ratings) * (2 * 4 * (self.k + 4) + 2 * 4 * (self.k + 1) + 12)

    def start(self, ratings: "Ratings") -> Factors:
        """Draw both sides' factors; the adaptive step remembers one number per row."""
        rng = np.random.default_rng(self.seed)
        users = draw(ratings.user_counts, self.k, INIT_SIGMA, rng)
        items = draw(ratings.item_counts, self.k, INIT_SIGMA, rng)
        squares = np.ones(ratings.n_users, np.float32), np.ones(ratings.n_items, np.float32)
        memory, kept = features.start(ratings, self.k)
        return Factors(users, items, memory=(*(squares if self.adaptive else ()), *memory), kept=kept)

    def run(self, ratings: "Ratings", factors: Factors, device: Device, done: int = 0) -> Iterator[int]:
        """Take a step for every rating, then some for features; no equations are solved, so none are singular."""
        blocked = self.schedule == "blocked"
        bins = (self.bins or default_bins(len(ratings), not device.on_host)) if blocked else 1
        grid = cut(ratings, min(bins, ratings.n_users, ratings.n_items))
        triples, tasks = dealt(ratings, grid, self.seed, device.host)
        triples = device.put(triples)
        if not blocked:
            places = kernels.sgd.positions(-(-len(ratings) // kernels.sgd.RUN))
            tasks = even(places, -(-places // HOGWILD_TASKS))
        kernel = kernels.sgd.BLOCK_EPOCH if blocked else kernels.sgd.HOGWILD_EPOCH
        shrinkage = features.Shrinkage(self.feature_reg, CLEAR)
        pulls = features.Pulls(self.k, shrinkage, (self.penalty,) * 2, ratings, factors, device)
        users, items = self._learners(ratings, factors, grid, pulls, device)
        for epoch in range(done, self.epochs):
            lr, flags = float(self.lr * self.decay**epoch), (self.biases, self.adaptive, self.loss == "absolute")
            step = kernels.sgd.Step(lr, *flags, self.k, self.seed, epoch, stratum=grid.bins)
            launch(kernel, device, tasks, triples, users.table, items.table, step, (users.pulls, items.pulls))
            users.collect()
            items.collect()
            users.follow(factors.items)
            items.follow(factors.users)
            yield 0

    def _learners(
        self, ratings: "Ratings", factors: Factors, grid: Grid, pulls: features.Pulls, device: Device
    ) -> tuple["Learner", "Learner"]:
        """Copy both sides into the order of their bins, with each row's penalty spread over its ratings."""
        users = factors.users, grid.user_rows, ratings.user_masses, pulls.users
        items = factors.items, grid.item_rows, ratings.item_masses, pulls.items
        learners = []
        for place, (side, rows, masses, pulled) in enumerate((users, items)):
            n = np.where(masses > 0, masses, 1)
            squares = factors.memory[place] if self.adaptive else device.put(np.empty(0, np.float32))
            table = kernels.sgd.new_learner(len(rows), self.k)
            table[rows, : self.k] = device.get(side.factors)
            table[rows, kernels.sgd.BIAS] = device.get(side.bias)
            table[rows, kernels.sgd.RHO] = np.minimum(self.reg + self.reg0 / n, MAX_WEIGHT) * (masses > 0)
            table[rows, kernels.sgd.BIAS_RHO] = np.minimum(self.bias_reg / n, MAX_WEIGHT)
            table[rows, kernels.sgd.SQUARES] = device.get(squares) if self.adaptive else 1
            learners.append(Learner(side, squares, rows, table, pulled, device))
        return learners[0], learners[1]


class Learner:
    """One side in the order of its bins.

    Parameters
    ----------
    side, squares : the side in its own order, and G of each row, or nothing.
    rows : (n,) int32, where the table has each row.
    table : see :func:`fastmf.kernels.sgd.new_learner`; rho is 0 for rows without ratings.
    pulled : what features pull the side to.

    Attributes
    ----------
    pulls : (n, kp), what the rows of the table are pulled to, or None for zeros.
    """

    def __init__(
        self,
        side: Side,
        squares: np.ndarray,
        rows: np.ndarray,
        table: np.ndarray,
        pulled: features.Pulled,
        device: Device,
    ) -> None:
        self.side, self.squares, self.pulled, self.device = side, squares, pulled, device
        self.tasks, (self.rows, self.table) = even(len(rows), ROWS_PER_TASK), device.put((rows, table))
        self.pulls = None
        if len(pulled.known.pull):
            self.pulls = device.put(kernels.vectors.aligned(len(rows), table.shape[1] - kernels.vectors.LINE))
            self._deal()

    def collect(self) -> None:
        """Copy what was learned back into the side."""
        launch(kernels.blocks.COLLECT, self.device, self.tasks, self.rows, self.table, *self.side, self.squares)

    def follow(self, other: Side) -> None:
        """Move the weights of features towards their regression, and rows by a share of what that moves their pulls.

        The share rho / (a + rho), with ``a`` the mean square of the other side's factors, is about that of the pull in
        a row's solution. If rows waited for their gradients instead, features would explain a third as much.
        """
        self.pulled.follow(self.side, other)
        if self.pulls is not None:
            self._deal()

    def _deal(self) -> None:
        """Copy the side, and what it is pulled to, into the table."""
        given = self.rows, self.side, self.pulled.known.pull, self.table, self.pulls, self.pulled.square
        launch(kernels.blocks.DEAL_ROWS, self.device, self.tasks, *given)


def default_bins(n_ratings: int, on_gpu: bool = False) -> int:
    """Choose the number of bins per side, from the size of the data alone.

    It is a power of two from 8 to 128 that makes blocks of about ``RATINGS_PER_BLOCK`` ratings. A GPU works on as many
    blocks at a time as there are bins: there, the number is 8 to 1024, for about ``RATINGS_PER_GPU_BLOCK`` ratings.
    """
    size, most = (RATINGS_PER_GPU_BLOCK, MAX_BINS) if on_gpu else (RATINGS_PER_BLOCK, 128)
    doublings = round(math.log2(max(n_ratings / size, 1)) / 2)
    return min(max(2**doublings, 8), most)


def cut(ratings: "Ratings", bins: int) -> Grid:
    """Deal users and items into bins of about equally many ratings."""
    users, items = _deal(ratings.user_counts, bins), _deal(ratings.item_counts, bins)
    return Grid(users[0], items[0], users[1], items[1], bins)


def dealt(ratings: "Ratings", grid: Grid, seed: int, device: Device) -> tuple[Triples, np.ndarray]:
    """Sort ratings by stratum and block of a grid, in random order within a block.

    Returns the sorted ratings and the bounds of the blocks, (bins^2 + 1,) int64.
    """
    bins, source = grid.bins, Triples(ratings.users, ratings.items, ratings.values, ratings.weights)
    tasks, blocks = even(len(ratings), RATINGS_PER_TASK), np.empty(len(ratings), np.int32)
    launch(kernels.blocks.BLOCKS, device, tasks, source, grid, blocks)
    columns = [column for column in source if column is not None]
    bounds, moved = csr.group(blocks, bins**2, tuple(columns), device)
    del blocks  # the copy needs the memory
    shuffled = Triples(*map(np.empty_like, columns))
    launch(kernels.blocks.SHUFFLE_BLOCKS, device, tasks, bounds, Triples(*moved), grid, seed, shuffled)
    return shuffled, bounds


def _deal(counts: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Deal rows to bins by falling count: from the first bin to the last, then back to the first, and so on.

    Returns the bin of each row, and its place among all rows sorted by bin, both (n,) int32.
    """
    there_and_back = np.concatenate((np.arange(bins), np.arange(bins)[::-1])).astype(np.int32)
    by_count = np.argsort(-counts, kind="stable")
    of_bin, places = np.empty(len(counts), np.int32), np.empty(len(counts), np.int32)
    of_bin[by_count] = np.resize(there_and_back, len(counts))
    places[by_count[np.argsort(of_bin[by_count], kind="stable")]] = np.arange(len(counts), dtype=np.int32)
    return of_bin, places
