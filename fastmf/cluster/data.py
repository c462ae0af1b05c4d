"""The ratings of a fit on a cluster: read, cut into blocks of users and of items, and described."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastmf.cluster import load
from fastmf.cluster.blocks import BLOCKS_PER_WORKER, blocks, owners
from fastmf.cluster.load import Cut, Keep, Scaling
from fastmf.cluster.workers import Workers
from fastmf.data.duplicates import refusal
from fastmf.data.rows import Asked, gathered_chunks, named, warn_of_low
from fastmf.data.spilled import require_rows
from fastmf.data.storage import Storage
from fastmf.data.weights import WeightScale
from fastmf.kernels.tasks import sections
from fastmf.runtime.spill import MOST

RANGES = 4  # of users, for each block of users
MERGED_AT_ONCE = 8  # lists of ids


class Read(NamedTuple):
    """Ratings that were read, dealt to ranges of users, as ``read.0``, ``read.1`` and so on in the storage.

    ranges : bounds of the ranges. rows : counts of rows as :attr:`fastmf.Ratings.rows` has them. The other fields are
    those of :class:`fastmf.Ratings`.
    """

    ranges: np.ndarray
    rows: dict[str, int]
    user_ids: Any
    item_ids: Any
    columns: tuple[str, ...]
    duplicates: str

    @property
    def n_ranges(self) -> int:
        """The number of ranges."""
        return len(self.ranges) - 1


@dataclass(frozen=True)
class Data:
    """Ratings in blocks of users and of items. Solvers see of them what they need to know of :class:`fastmf.Ratings`.

    name : of the blocks in the storage, ``<name>.user0`` and so on. counts, bounds, sections, sent : by "user" and
    "item", the ratings of each row, the bounds of blocks and of sections, and what blocks are sent of the other side.
    found : what :func:`fastmf.cluster.load.make_user_block` has returned.
    """

    name: str
    counts: dict[str, np.ndarray]
    bounds: dict[str, np.ndarray]
    sections: dict[str, np.ndarray]
    sent: dict[str, "Sent"]
    found: list[dict[str, Any]]
    user_ids: Any
    item_ids: Any
    columns: tuple[str, ...]
    duplicates: str
    half_life: None = None
    user_features: None = None
    item_features: None = None

    def __len__(self) -> int:
        return int(self.counts["user"].sum())

    @property
    def user_counts(self) -> np.ndarray:
        """The number of ratings of each user."""
        return self.counts["user"]

    @property
    def item_counts(self) -> np.ndarray:
        """The number of ratings of each item."""
        return self.counts["item"]

    @property
    def weight(self) -> str | None:
        """The name of the column of weights; None without one."""
        return self.columns[3] if len(self.columns) > 3 else None

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest rating."""
        return min(each["low"] for each in self.found), max(each["high"] for each in self.found)

    @property
    def mean_weight(self) -> float:
        """The mean of the weights; 1 if there are none."""
        if "weights" not in self.found[0]:
            return 1.0
        return math.fsum(value for each in self.found for value in each["weights"]) / len(self)

    def n_blocks(self, side: str) -> int:
        """Return the number of blocks of a side."""
        return len(self.bounds[side]) - 1

    def sections_of(self, side: str, block: int) -> np.ndarray:
        """Return the bounds of a block's sections."""
        return sections_within(self.sections[side], self.bounds[side], block)


class Sent(NamedTuple):
    """What each block of a side is sent by each block of the other, (n_blocks, n_other_blocks).

    needed : the number of rows that it needs. whole : whether it is sent all of them.
    """

    needed: np.ndarray
    whole: np.ndarray


def whole_or_needed(needed: np.ndarray, sizes: np.ndarray, n_workers: int) -> np.ndarray:
    """Return which tables are sent whole, (n_blocks, n_other_blocks) bool; see :class:`Sent`.

    A worker is sent a whole table once for all of its blocks, but rows once for each block: whichever is less.
    """
    whose = owners(len(needed), n_workers)
    of_workers = np.zeros((n_workers, len(sizes)), np.int64)
    np.add.at(of_workers, whose, needed)
    return (of_workers >= sizes)[whose]


def sections_within(found: np.ndarray, bounds: np.ndarray, block: int) -> np.ndarray:
    """Return the bounds of those sections that are a block."""
    first, last = np.searchsorted(found, bounds[block : block + 2])
    return found[first : last + 1]


def read(workers: Workers, storage: Storage, source: Any, asked: Asked, drop: bool, how: dict[str, Any]) -> Read:
    """Have the workers read the ratings, merge rows of the same pair, and deal them to ranges of users."""
    chosen, chunks = gathered_chunks(source, asked, MOST, **how)
    calls = [(storage, place, chunk, chosen, asked, drop) for place, chunk in enumerate(chunks)]
    parts = workers.map(load.read_chunk, calls)
    if asked.may_lack_ratings and 0 < sum(part["rows"] for part in parts) == sum(part["null"] for part in parts):
        return read(workers, storage, source, asked.without_ratings(), drop, how)
    faults = _faults(parts, asked, list(chosen.values()), drop)
    there = [place for place, part in enumerate(parts) if part["part"]]
    names, n_good = parts[there[0]]["names"], sum(parts[place]["used"] for place in there)
    warn_of_low(names[2], sum(parts[place]["n_low"] for place in there), n_good)
    n_users, n_items = (_merge_ids(workers, storage, there, side, names) for side in ("user", "item"))
    n_ranges = min(n_users, RANGES * BLOCKS_PER_WORKER * len(workers.addresses))
    ranges = np.arange(n_ranges + 1, dtype=np.int64) * n_users // n_ranges
    workers.map(load.deal_chunk, [(storage, place, ranges) for place in there])
    columns = named(names, asked.keep_values)
    given = [(storage, there, place, ranges, n_items, asked, columns[2] != "") for place in range(n_ranges)]
    repeats = workers.map(load.merge_range, given)
    storage.remove(*(f"chunk{place}{end}" for place in there for end in ("", ".dealt", ".users", ".items")))
    n_again, (user_ids, item_ids) = (
        sum(n for n, _ in repeats),
        (storage.load_ids(f"{side}s") for side in ("user", "item")),
    )
    if n_again and asked.duplicates == "error":
        user, item = next(pair for n, pair in repeats if n)
        with asked.placed():
            raise refusal(n_again, n_good, user_ids[user].as_py(), item_ids[item].as_py())
    dropped = (faults if drop else {}) | ({"duplicates": n_again} if n_again else {})
    used = n_good - n_again
    rows = {"read": used + sum(dropped.values()), "used": used, "duplicates": 0, **dropped}
    return Read(ranges, rows, user_ids, item_ids, columns, asked.duplicates)


def _faults(parts: Sequence[dict[str, Any]], asked: Asked, names: Sequence[str], drop: bool) -> dict[str, int]:
    """Return how many rows of all chunks are bad, by reason; raise a DataError if they cannot be dropped."""
    faults: dict[str, int] = {}
    first, n_rows = None, 0
    for part in parts:
        first = n_rows + part["first"] if first is None and part["first"] is not None else first
        n_rows += part["rows"]
        faults = {name: faults.get(name, 0) + part["faults"].get(name, 0) for name in faults | part["faults"]}
    with asked.placed():
        require_rows(n_rows, ", ".join(map(repr, names)), faults, first, drop)
    return faults


def _merge_ids(workers: Workers, storage: Storage, places: Sequence[int], side: str, names: Sequence[str]) -> int:
    """Have the ids of all chunks merged, several lists at a time; return their number."""
    sources, name = [f"chunk{place}.{side}s" for place in places], names[("user", "item").index(side)]
    level = 0
    while len(sources) > MERGED_AT_ONCE:
        groups = [sources[start : start + MERGED_AT_ONCE] for start in range(0, len(sources), MERGED_AT_ONCE)]
        targets = [f"ids{level}.{place}.{side}s" for place in range(len(groups))]
        workers.map(load.merge_ids, [(storage, *each, name) for each in zip(groups, targets, strict=True)])
        sources, level = targets, level + 1
    return int(workers.map(load.merge_ids, [(storage, sources, f"{side}s", name)])[0])


def kept(workers: Workers, storage: Storage, source: str, target: str, keeps: Sequence[Keep]) -> int:
    """Have those ratings of each range kept that are asked for; return their number."""
    return int(sum(workers.map(load.keep_range, [(storage, source, target, n, keep) for n, keep in enumerate(keeps)])))


def counts_of(storage: Storage, name: str, n_ranges: int) -> np.ndarray:
    """Return the number of ratings of each user, (n_users,) int64."""
    return np.concatenate([storage.load(f"{name}.{place}")["counts"] for place in range(n_ranges)])


def in_blocks(workers: Workers, storage: Storage, name: str, given: Read, n: int) -> Data:
    """Have ranges of users made into n blocks of users and of items, or fewer."""
    ranges, n_items = given.ranges, len(given.item_ids)
    of_users = counts_of(storage, name, given.n_ranges)
    indptr = np.append(0, np.cumsum(of_users))
    found, bounds = {"user": sections(indptr)}, {"user": blocks(indptr, n)}
    cuts = [Cut(ranges, sections_within(found["user"], bounds["user"], p)) for p in range(len(bounds["user"]) - 1)]
    facts = workers.map(load.make_user_block, [(storage, name, p, cut, n_items) for p, cut in enumerate(cuts)])
    of_items = np.zeros(n_items, np.int64)
    for block in range(len(cuts)):
        of_items += storage.load(f"{name}.items{block}")["counts"]
    indptr = np.append(0, np.cumsum(of_items))
    found["item"], bounds["item"] = sections(indptr), blocks(indptr, n)
    firsts = [int(first) for first in bounds["user"][:-1]]
    workers.map(load.deal_user_block, [(storage, name, p, first, bounds["item"]) for p, first in enumerate(firsts)])
    n_item_blocks = len(bounds["item"]) - 1
    calls = [(storage, name, q, len(firsts), bounds["item"]) for q in range(n_item_blocks)]
    workers.map(load.make_item_block, calls)
    sent = {side: _sent(workers, storage, name, side, bounds) for side in bounds}
    storage.remove(*(f"{name}.{what}" for p in range(len(firsts)) for what in (f"items{p}", f"user{p}.dealt")))
    about = given.user_ids, given.item_ids, given.columns, given.duplicates
    return Data(name, {"user": of_users, "item": of_items}, bounds, found, sent, facts, *about)


def _sent(workers: Workers, storage: Storage, name: str, side: str, bounds: dict[str, np.ndarray]) -> Sent:
    """Find what the blocks of a side need of the other, and decide what they are sent."""
    other = bounds["item" if side == "user" else "user"]
    names = [f"{name}.{side}{block}" for block in range(len(bounds[side]) - 1)]
    needed = np.array(workers.map(load.count_needs, [(storage, each, other) for each in names]))
    whole = whole_or_needed(needed, np.diff(other), len(workers.addresses))
    workers.map(load.place_needs, [(storage, each, other, own) for each, own in zip(names, whole, strict=True)])
    return Sent(needed, whole)


def scale_of_weights(
    workers: Workers, storage: Storage, data: Data, ranges: np.ndarray, kind: str
) -> WeightScale | None:
    """Return the scale of the weights of implicit feedback; None if there are none, or they are taken as they are."""
    if kind == "none" or data.weight is None or "weights" not in data.found[0]:
        return None
    cuts = [Cut(ranges, data.sections_of("user", block)) for block in range(data.n_blocks("user"))]
    sums = workers.map(load.sum_weights, [(storage, data.name, p, cut, kind) for p, cut in enumerate(cuts)])
    return WeightScale(kind, math.fsum(value for each in sums for value in each) / len(data))


def scaling_of(workers: Workers, storage: Storage, data: Data, ranges: np.ndarray) -> Scaling:
    """Return the mean and the standard deviation of the ratings, 1 if that is 0."""
    n = len(data)
    mean = math.fsum(value for each in data.found for value in each["sums"]) / n
    cuts = [Cut(ranges, data.sections_of("user", block)) for block in range(data.n_blocks("user"))]
    squares = workers.map(load.sum_squares, [(storage, data.name, p, cut, mean) for p, cut in enumerate(cuts)])
    return Scaling(mean, math.sqrt(math.fsum(value for each in squares for value in each) / n) or 1.0)
