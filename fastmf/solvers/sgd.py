"""Stochastic gradient descent: blocked (Gemulla et al. 2011; Chin et al. 2015) or Hogwild (Niu et al. 2011)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fastmf.device import Device, resolve
from fastmf.errors import ParameterError
from fastmf.kernels.als import Side
from fastmf.kernels.compress import SORT_ROWS, even
from fastmf.kernels.sgd import BLOCK_EPOCH, HOGWILD_EPOCH, Learner, Step, Triples, positions
from fastmf.ratings import Ratings
from fastmf.runtime import call, launch
from fastmf.solvers.base import Factors, Regularised, draw, require_integer, require_number

INIT_SIGMA = 0.01
HOGWILD_TASKS = 256
MAX_BINS = 1024

# With blocks of this many ratings a block's factors stay in the cache: 20 million ratings, k = 32, 2 cores of a
# Cascade Lake Xeon, 8 / 16 / 32 / 64 bins: 4.8 / 3.0 / 2.6 / 4.2 s an epoch.
RATINGS_PER_BLOCK = 1 << 14


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
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("lr", self.lr, low=0, above=True)
        require_number("decay", self.decay, low=0, above=True, high=1)
        if self.loss not in ("squared", "absolute"):
            raise ParameterError(f"loss is {self.loss!r}: choose squared or absolute")
        if self.schedule not in ("blocked", "hogwild"):
            raise ParameterError(f"schedule is {self.schedule!r}: choose blocked or hogwild")
        if self.bins is not None:
            require_integer("bins", self.bins, 1, MAX_BINS)

    @property
    def remedy(self) -> str:
        """What to change when training diverges."""
        return f"lower lr (it is {self.lr:g})"

    def start(self, ratings: Ratings) -> Factors:
        """Draw both sides' factors."""
        rng = np.random.default_rng(self.seed)
        users = draw(ratings.user_counts, self.k, INIT_SIGMA, rng)
        return Factors(users, draw(ratings.item_counts, self.k, INIT_SIGMA, rng))

    def run(self, ratings: Ratings, factors: Factors, device: Device, done: int = 0) -> Iterator[int]:
        """Update by every rating once an epoch; there is nothing that could fail to solve, so yield 0."""
        users = self._learner(factors.users, ratings.user_counts, device)
        items = self._learner(factors.items, ratings.item_counts, device)
        if self.schedule == "blocked":
            triples, strata = blocks(ratings, self.bins or default_bins(len(ratings)))
            kernel = BLOCK_EPOCH
        else:
            triples = Triples(ratings.users, ratings.items, ratings.values)
            places = positions(len(ratings))
            strata = [even(places, -(-places // HOGWILD_TASKS))]
            kernel = HOGWILD_EPOCH
        triples = device.put(triples)
        for epoch in range(done, self.epochs):
            lr = self.lr * self.decay**epoch
            step = Step(lr, lr if self.biases else 0.0, self.loss == "absolute", self.seed, epoch)
            for tasks in strata:
                launch(kernel, device, tasks, triples, users, items, step)
            yield 0

    def _learner(self, side: Side, counts: np.ndarray, device: Device) -> Learner:
        """Spread the penalty of each row over its ratings; the side is on the device already."""
        n = np.maximum(counts, 1)
        rho = (self.reg + self.reg0 / n).astype(np.float32)
        bias_rho = (self.bias_reg / n).astype(np.float32)
        return Learner(side.factors, side.bias, device.put(rho), device.put(bias_rho))


def default_bins(n_ratings: int) -> int:
    """Choose the bins a side from the size of the data alone, so that the result depends on nothing else.

    A power of two from 8 to 128 that makes blocks of about ``RATINGS_PER_BLOCK`` ratings.
    """
    doublings = round(math.log2(max(n_ratings / RATINGS_PER_BLOCK, 1)) / 2)
    return min(max(2**doublings, 8), 128)


def blocks(ratings: Ratings, bins: int) -> tuple[Triples, list[np.ndarray]]:
    """Group ratings into bins x bins blocks, and the blocks into strata that share no user and no item.

    Users are dealt to bins in order of their number of ratings, so that every bin has about as many ratings, and items
    likewise; stratum s holds the blocks (b, b + s mod bins): a Latin square.

    Returns
    -------
    The ratings, stratum by stratum and block by block, and for each stratum the bounds of its blocks.
    """
    bins = min(bins, ratings.n_users, ratings.n_items)
    user_bin = _deal(ratings.user_counts, bins)[ratings.users]
    item_bin = _deal(ratings.item_counts, bins)[ratings.items]
    block = (item_bin - user_bin) % bins * bins + user_bin
    bounds, order = call(SORT_ROWS, resolve("cpu"), block, bins * bins)
    triples = Triples(ratings.users[order], ratings.items[order], ratings.values[order])
    return triples, [bounds[s * bins : (s + 1) * bins + 1] for s in range(bins)]


def _deal(counts: np.ndarray, bins: int) -> np.ndarray:
    """Deal rows to bins by falling count, there and back, so that sums of counts come out even. Returns (n,) int32."""
    there_and_back = np.concatenate((np.arange(bins), np.arange(bins)[::-1])).astype(np.int32)
    dealt = np.empty(len(counts), np.int32)
    dealt[np.argsort(-counts, kind="stable")] = np.resize(there_and_back, len(counts))
    return dealt
