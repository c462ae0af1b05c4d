"""What a fit on several machines will take, by arithmetic: memory, bytes sent, and seconds.

Each side has blocks (:mod:`fastmf.cluster.blocks`), and each block a worker, which solves its rows. After one side is
solved, blocks of the other side receive the rows that their ratings need. They serve the errors of this epoch and the
next solve, so both sides are sent once an epoch. A row is 4 (k + 1) bytes: float32 factors and a bias. Rows that
their own worker needs cost nothing. Another worker receives of each block either

- the whole table, once for all its blocks, or
- the needed rows, once for each of its blocks that needs them,

whichever is smaller. Of U users and I items on W workers, whole tables alone would be (U + I) (W - 1) rows an epoch.

Ratings tell how many rows are needed. Without them, users and items of n ratings are taken to be drawn uniformly: n / B
ratings of one of B blocks hit R (1 - exp(-n / (B R))) of R rows. That is an upper bound: if some rows have many more
ratings than others, blocks need fewer.

An epoch takes as long as the slowest worker: its operations over its speed, then the most bytes that one worker sends
or receives over the network's. Starting tasks, storing factors, and loading the ratings are not counted.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastmf.cluster.blocks import BLOCKS_PER_WORKER, blocks, expected_sections, owners
from fastmf.data.ratings import Ratings
from fastmf.errors import ParameterError, require_integer, require_number
from fastmf.kernels.tasks import sections
from fastmf.kernels.types import Compressed
from fastmf.solvers.base import Solver
from fastmf.training import room

BYTES_PER_RATING = 8  # in memory, on each side: an int32 index and a float32 value
BYTES_PER_ROW = 8  # of indptr
COPIES = 2  # of factors: an epoch's and those of the epoch before
BYTES_PER_ID, BYTES_PER_COUNT, BYTES_PER_SEEN = 8, 4, 4  # in a model; ids as int64, or text of about this length


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Workers that are all alike: their threads, the network's and a thread's speed, and memory in bytes if known."""

    workers: int
    threads: int = 1
    gigabit: float = 10.0  # a second, into and out of each worker at once
    gflops: float = 50.0  # of a thread; als on the ml-20m twin reaches 59 on AMD's Zen 4, and 31 with method="cg"
    memory: int | None = None

    def __post_init__(self) -> None:
        require_integer("workers", self.workers, 1, 100_000)
        require_integer("threads", self.threads, 1, 100_000)
        require_number("gigabit", self.gigabit, low=0, above=True)
        require_number("gflops", self.gflops, low=0, above=True)

    def seconds_computing(self, operations: float) -> float:
        """Return the seconds in which one worker does these operations."""
        return operations / (self.threads * self.gflops * 1e9)

    def seconds_sending(self, n_bytes: float) -> float:
        """Return the seconds in which one worker sends or receives these bytes."""
        return 8 * n_bytes / (self.gigabit * 1e9)


class Blocks(NamedTuple):
    """The blocks of a side, and the number of its sections.

    rows and ratings (n_blocks,): how many there are in each. needed (n_blocks, n_others): how many rows of each of the
    other side's blocks have ratings in a block.
    """

    sections: int
    rows: np.ndarray
    ratings: np.ndarray
    needed: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Ratings of which only the numbers are known."""

    users: int
    items: int
    ratings: int

    def __post_init__(self) -> None:
        for name in ("users", "items", "ratings"):
            require_integer(name, getattr(self, name), 1)
        if self.ratings > self.users * self.items:
            pairs = f"{self.users:,} users and {self.items:,} items make only {self.users * self.items:,} pairs"
            raise ParameterError(f"ratings is {self.ratings:,}, but {pairs}: give fewer ratings")
        if self.ratings < max(self.users, self.items):
            rows = f"{max(self.users, self.items):,} users or items have one each"
            raise ParameterError(f"ratings is {self.ratings:,}, but at least {rows}: give more ratings")

    def blocks(self, n: int) -> tuple[Blocks, Blocks]:
        """Cut users and items into n blocks of equal sections, as far as these go; return what is expected of them."""
        found = [expected_sections(self.ratings, n_rows) for n_rows in (self.users, self.items)]
        users, items = (_cut(*each, n) for each in zip((self.users, self.items), found, strict=True))
        return self._side(found[0], users, items), self._side(found[1], items, users)

    def _side(self, n_sections: int, rows: np.ndarray, others: np.ndarray) -> Blocks:
        """Return the blocks of a side, given the rows of its blocks and of the other side's."""
        ratings = self.ratings * rows / rows.sum()
        needed = others * -np.expm1(-ratings[:, None] / others.sum())
        return Blocks(n_sections, rows, ratings, needed)


def _cut(n_rows: int, n_sections: int, n: int) -> np.ndarray:
    """Return the rows of each of n blocks of whole sections, if all sections have as many, (n_blocks,) float64."""
    n = min(n, n_sections)
    return np.diff(np.rint(np.arange(n + 1) * n_sections / n)) * (n_rows / n_sections)


class Counted:
    """Ratings that are there to be counted."""

    def __init__(self, ratings: Ratings) -> None:
        self.users, self.items, self.ratings = ratings.n_users, ratings.n_items, len(ratings)
        self._views = ratings.by_user, ratings.by_item
        self.blocks = functools.cache(self._blocks)

    def _blocks(self, n: int) -> tuple[Blocks, Blocks]:
        """Cut users and items into n blocks of about equal cost; count what they need."""
        users, items = (blocks(view.indptr, n) for view in self._views)
        return _counted(self._views[0], users, items), _counted(self._views[1], items, users)


def _counted(view: Compressed, own: np.ndarray, other: np.ndarray) -> Blocks:
    """Count what the blocks of a side need; ``own`` and ``other`` are the bounds of its and the other side's blocks."""
    needed = np.zeros((len(own) - 1, len(other) - 1), np.int64)
    hit = np.zeros(other[-1], bool)
    bounds = view.indptr[own]
    for counts, (first, end) in zip(needed, pairwise(bounds), strict=True):
        hit[:] = False
        hit[view.indices[first:end]] = True
        counts[:] = np.add.reduceat(hit, other[:-1], dtype=np.int64)
    return Blocks(len(sections(view.indptr)) - 1, np.diff(own), np.diff(bounds), needed)


class Received(NamedTuple):
    """Rows that each worker receives of each block of the other side, (workers, n_others), by way of sending."""

    whole: np.ndarray
    needed: np.ndarray
    sent: np.ndarray


def received(own: Blocks, other: Blocks, workers: int) -> Received:
    """Count the rows that workers receive of the other side, for their blocks of their own."""
    whose, theirs = owners(len(own.rows), workers), owners(len(other.rows), workers)
    needed = np.zeros((workers, len(other.rows)))
    np.add.at(needed, whose, own.needed)
    remote = theirs != np.arange(workers)[:, None]
    busy = np.bincount(whose, minlength=workers) > 0
    whole = remote * busy[:, None] * other.rows
    return Received(whole, remote * needed, np.minimum(whole, remote * needed))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a fit will take. Figures of "a worker" are those of the one with the most; bytes sent are of all together.

    one_epoch_seconds is what a fit on one such machine would take.
    """

    solver: str
    k: int
    counted: bool  # from ratings; otherwise expected
    users: int
    items: int
    ratings: int
    workers: int
    threads: int
    user_sections: int
    item_sections: int
    user_blocks: int
    item_blocks: int
    worker_users: int
    worker_items: int
    worker_ratings_by_user: int
    worker_ratings_by_item: int
    worker_bytes: int
    client_bytes: int
    epoch_bytes_whole: int
    epoch_bytes_needed: int
    epoch_bytes_sent: int
    epoch_seconds_computing: float
    epoch_seconds_sending: float
    one_epoch_seconds: float

    @property
    def epoch_seconds(self) -> float:
        """Seconds an epoch, of computing and sending together."""
        return self.epoch_seconds_computing + self.epoch_seconds_sending


def plan(solver: Solver, data: Expected | Counted, machines: Machines) -> Plan:
    """Work out what a fit takes on these machines.

    >>> from fastmf.solvers.als import ALS
    >>> found = plan(ALS(k=64), Expected(users=10**8, items=10**7, ratings=10**9), Machines(workers=16))
    >>> f"{found.epoch_bytes_whole / 1e9:.0f} GB of whole tables, {found.epoch_bytes_sent / 1e9:.0f} GB are sent"
    '429 GB of whole tables, 248 GB are sent'
    """
    sides = data.blocks(BLOCKS_PER_WORKER * machines.workers)
    users, items = (_share(side, machines.workers) for side in sides)
    moved = [received(*pair, machines.workers) for pair in (sides, sides[::-1])]
    row = bytes_per_row(solver)
    whole, needed, sent = (row * sum(getattr(way, name).sum() for way in moved) for name in Received._fields)
    in_step = [row * _busiest(way.sent) for way in moved]
    return Plan(
        solver=solver.name, k=solver.k, counted=isinstance(data, Counted),
        users=data.users, items=data.items, ratings=data.ratings, workers=machines.workers, threads=machines.threads,
        user_sections=sides[0].sections, item_sections=sides[1].sections,
        user_blocks=len(sides[0].rows), item_blocks=len(sides[1].rows),
        worker_users=_most(users.rows), worker_items=_most(items.rows),
        worker_ratings_by_user=_most(users.ratings), worker_ratings_by_item=_most(items.ratings),
        worker_bytes=_most(_bytes_held(solver, (users, items), moved)) + machines.threads * solver.bytes_per_thread,
        client_bytes=_bytes_of_model(solver, data),
        epoch_bytes_whole=round(whole), epoch_bytes_needed=round(needed), epoch_bytes_sent=round(sent),
        epoch_seconds_computing=sum(machines.seconds_computing(_slowest(solver, side)) for side in (users, items)),
        epoch_seconds_sending=sum(map(machines.seconds_sending, in_step)),
        one_epoch_seconds=machines.seconds_computing(solver.operations(data.ratings, data.users + data.items)),
    )  # fmt: skip


def bytes_per_row(solver: Solver) -> int:
    """Return the bytes of a row as it is sent: float32 factors and a bias, 0 if the solver has none."""
    return 4 * (solver.k + 1)


def bytes_of_one(solver: Solver, found: Plan, spilled: bool = False) -> int:
    """Return the bytes of memory that the same fit takes on one machine; ratings that are ``spilled`` take none."""
    of_ratings = 0 if spilled else (room.BYTES_HELD + room.BYTES_PER_RATING) * found.ratings
    per_row = solver.bytes_per_row + BYTES_PER_ROW
    return of_ratings + per_row * (found.users + found.items) + found.threads * solver.bytes_per_thread


class Share(NamedTuple):
    """Rows and ratings of each worker on a side, (workers,)."""

    rows: np.ndarray
    ratings: np.ndarray


def _share(side: Blocks, workers: int) -> Share:
    """Add up the blocks of each worker."""
    whose = owners(len(side.rows), workers)
    return Share(*(np.bincount(whose, each, workers) for each in (side.rows, side.ratings)))


def _bytes_held(solver: Solver, shares: Sequence[Share], moved: Sequence[Received]) -> np.ndarray:
    """Count the bytes that each worker holds in an epoch, (workers,): ratings, and own and received rows."""
    rows, ratings = sum(each.rows for each in shares), sum(each.ratings for each in shares)
    arrived = sum(way.sent.sum(axis=1) for way in moved)
    return BYTES_PER_RATING * ratings + BYTES_PER_ROW * rows + COPIES * bytes_per_row(solver) * (rows + arrived)


def _bytes_of_model(solver: Solver, data: Expected | Counted) -> int:
    """Count the bytes of the model: factors (those of the choice, too, unless it is implicit), biases, ids, seen."""
    tables = 1 if solver.implicit else 2
    per_row = 4 * (tables * solver.k + 1) + BYTES_PER_ID + BYTES_PER_COUNT
    return per_row * (data.users + data.items) + BYTES_PER_SEEN * data.ratings + BYTES_PER_ROW * data.users


def _slowest(solver: Solver, share: Share) -> float:
    """Return the most operations that a worker needs to solve its rows of a side; ``operations`` counts both sides."""
    each = zip(share.ratings.tolist(), share.rows.tolist(), strict=True)
    return max(solver.operations(round(ratings), 0) / 2 + solver.operations(0, round(rows)) for ratings, rows in each)


def _busiest(sent: np.ndarray) -> float:
    """Return the most rows that a worker sends or receives; sent (workers, n_blocks)."""
    workers, n_blocks = sent.shape
    return float(max(sent.sum(axis=1).max(), np.bincount(owners(n_blocks, workers), sent.sum(axis=0)).max()))


def _most(values: np.ndarray) -> int:
    return round(float(values.max()))
