"""What workers do to load ratings: each function reads from the storage, and writes what it makes there.

    chunks of files --read_chunk--> checked rows, with ids of their own
    --deal_chunk--> rows dealt to ranges of users --merge_range--> sorted, each pair once
    --keep_range--> those of a split, say --make_user_block--> blocks of users
    --make_item_block--> blocks of items

A range is some consecutive users. A block is a run of whole sections (:func:`fastmf.kernels.tasks.sections`) of users
or of items. Whoever runs a function, and however often, it writes the same.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from fastmf.data import csr, ids
from fastmf.data.parquet import Chunk
from fastmf.data.rows import Asked, gathered_chunk
from fastmf.data.spilled import checked_batch, sorted_rows, union_of
from fastmf.data.standardise import squares_of, standardised, sums_of
from fastmf.data.storage import Storage, as_mapping
from fastmf.data.weights import WeightScale, sums_on
from fastmf.kernels.types import Compressed
from fastmf.model.choice import are_chosen
from fastmf.runtime.device import resolve


class Scaling(NamedTuple):
    """The mean and the scale of the training ratings, and the scale of the weights of implicit feedback."""

    mean: float
    scale: float
    weights: WeightScale | None = None


def read_chunk(
    storage: Storage, place: int, chunk: Chunk, chosen: Mapping[str, str], asked: Asked, drop: bool
) -> dict[str, Any]:
    """Read and check a chunk. Returns how many rows it has, how many are bad and why, the first bad one, and so on."""
    faults: dict[str, int] = {}
    columns = gathered_chunk(chunk, chosen, asked, place == 0)
    n_null = columns["rating"].values.null_count if "rating" in columns else 0
    with asked.placed():
        good, part = checked_batch(columns, asked, faults, drop)
    found = {"rows": len(good), "null": n_null, "faults": faults, "first": None if good.all() else int(np.argmin(good))}
    if part is None:
        return found | {"part": False}
    users, items = part.places
    numbers = as_mapping({"values": part.values, "weights": part.weights})
    storage.save(f"chunk{place}", users=users, items=items, **numbers)
    for side, row_ids in zip(("user", "item"), part.ids, strict=True):
        storage.save_ids(f"chunk{place}.{side}s", row_ids)
    return found | {"part": True, "names": part.names, "n_low": part.n_low, "used": len(users)}


def merge_ids(storage: Storage, sources: Sequence[str], target: str, name: str) -> int:
    """Merge the sorted ids of several names into one; return how many there are."""
    merged = union_of([storage.load_ids(source) for source in sources], name)
    storage.save_ids(target, merged)
    return len(merged)


def deal_chunk(storage: Storage, place: int, bounds: np.ndarray) -> None:
    """Exchange a chunk's places of ids for those among all ids, and deal its rows to ranges of users."""
    arrays = storage.load(f"chunk{place}")
    for side in ("user", "item"):
        own, every = storage.load_ids(f"chunk{place}.{side}s"), storage.load_ids(f"{side}s")
        arrays[f"{side}s"] = ids.lookup(every, own, side)[arrays[f"{side}s"]]
    _deal(storage, f"chunk{place}.dealt", arrays.pop("users"), bounds, arrays, keys="users")


def _deal(
    storage: Storage, name: str, rows: np.ndarray, bounds: np.ndarray, arrays: Mapping[str, np.ndarray], keys: str
) -> None:
    """Write entries dealt to ranges of rows with these bounds, in their order, and where each range's begin."""
    range_of = (np.searchsorted(bounds, rows, "right") - 1).astype(np.int32)
    starts, moved = csr.group(range_of, len(bounds) - 1, (rows, *arrays.values()), resolve("cpu"))
    storage.save(name, starts=starts, **dict(zip((keys, *arrays), moved, strict=True)))


def _dealt_to(storage: Storage, names: Sequence[str], place: int) -> dict[str, np.ndarray]:
    """Return what was dealt to a range, from all these names in their order."""
    found: dict[str, list[np.ndarray]] = {}
    for arrays in map(storage.load, names):
        starts = arrays.pop("starts")
        for name, array in arrays.items():
            found.setdefault(name, []).append(array[starts[place] : starts[place + 1]])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def merge_range(
    storage: Storage, chunks: Sequence[int], place: int, bounds: np.ndarray, n_items: int, asked: Asked, rated: bool
) -> tuple[int, tuple[int, int]]:
    """Sort the rows of a range by user and item, and merge those of the same pair.

    Values are 1 if rows are not ``rated``. Returns how many rows repeat a pair, and the first such pair.
    """
    rows = _dealt_to(storage, [f"chunk{chunk}.dealt" for chunk in chunks], place)
    first, n_users = int(bounds[place]), int(bounds[place + 1] - bounds[place])
    numbers = tuple(rows[name] for name in ("values", "weights") if name in rows)
    given = rows["users"] - np.int32(first), rows["items"], numbers, (n_users, n_items)
    users, items, numbers, n_again, pair = sorted_rows(*given, asked)
    if not rated:
        numbers = (np.ones(len(users), np.float32), *numbers[1:])
    _save_range(storage, f"read.{place}", np.bincount(users, minlength=n_users), items, *numbers)
    return n_again, (first + pair[0], pair[1])


def _save_range(
    storage: Storage, name: str, counts: np.ndarray, items: np.ndarray, values: np.ndarray, weights: Any = None
) -> None:
    arrays = as_mapping({"items": items, "values": values, "weights": weights})
    storage.save(name, counts=counts.astype(np.int64), **arrays)


def hold_out(storage: Storage, n: int, fraction: int, seed: int) -> None:
    """Write which of n ratings :meth:`fastmf.Ratings.split` holds out, a bit for each; ``fraction`` is their number."""
    order = np.arange(n, dtype=np.int32 if n < 2**31 else np.int64)
    np.random.default_rng(seed).shuffle(order)
    held = np.zeros(n, bool)
    held[order[:fraction]] = True
    storage.save("held", bits=np.packbits(held))


def keep_range(storage: Storage, source: str, target: str, place: int, keep: "Keep") -> int:
    """Write those ratings of a range that are to be kept; return their number."""
    rows = storage.load(f"{source}.{place}")
    indptr = np.append(0, np.cumsum(rows["counts"]))
    chosen = keep.chosen(storage, Compressed(indptr, rows["items"], rows["values"]))
    counts = csr.count_chosen(indptr, chosen)
    kept = {name: array[chosen] for name, array in rows.items() if name != "counts"}
    if keep.ones:
        kept["values"] = np.ones(len(kept["items"]), np.float32)
    storage.save(f"{target}.{place}", counts=counts, **kept)
    return len(kept["items"])


class Keep(NamedTuple):
    """Which ratings of a range to keep: those held out or not, those of at least a rating, or those that are chosen.

    held : those that :func:`hold_out` has held out, or the others; first : the number of the range's first rating.
    least : the lowest rating. scaling : of the training ratings, to keep those of chosen pairs
    (:func:`fastmf.model.choice.are_chosen`). ones : whether values become 1.
    """

    held: bool | None = None
    first: int = 0
    least: float | None = None
    scaling: Scaling | None = None
    ones: bool = False

    def chosen(self, storage: Storage, rows: Compressed) -> np.ndarray:
        """Return which ratings to keep, (n,) bool."""
        n = len(rows.values)
        if self.held is not None:
            bits = storage.load("held")["bits"][self.first // 8 : (self.first + n + 7) // 8]
            held = np.unpackbits(bits)[self.first % 8 :][:n].astype(bool)
            return held if self.held else ~held
        if self.scaling is not None:
            return are_chosen(rows._replace(values=standardised(rows.values, *self.scaling[:2])))
        return np.ones(n, bool) if self.least is None else rows.values >= self.least


class Cut(NamedTuple):
    """How users are cut: into ranges, and one block of them with its sections.

    ranges : bounds of the ranges. sections : bounds of the block's sections.
    """

    ranges: np.ndarray
    sections: np.ndarray


def make_user_block(storage: Storage, data: str, block: int, cut: Cut, n_items: int) -> dict[str, Any]:
    """Write a block of users, and how often each item is in it. Returns sums, and the lowest and highest value."""
    first, last = int(cut.sections[0]), int(cut.sections[-1])
    touched = range(int(np.searchsorted(cut.ranges, first, "right")) - 1, int(np.searchsorted(cut.ranges, last)))
    parts: dict[str, list[np.ndarray]] = {}
    for place in touched:
        rows, start = storage.load(f"{data}.{place}"), int(cut.ranges[place])
        counts = rows.pop("counts")
        own = slice(max(first - start, 0), max(last - start, 0))
        places = np.append(0, np.cumsum(counts))[[own.start, min(own.stop, len(counts))]]
        parts.setdefault("counts", []).append(counts[own])
        for name, array in rows.items():
            parts.setdefault(name, []).append(array[places[0] : places[1]])
    arrays = {name: np.concatenate(each) for name, each in parts.items()}
    indptr = np.append(0, np.cumsum(arrays.pop("counts")))
    arrays = {"indices": arrays.pop("items"), **arrays}
    storage.save(f"{data}.user{block}", indptr=indptr, **arrays)
    storage.save(f"{data}.items{block}", counts=np.bincount(arrays["indices"], minlength=n_items))
    bounds, values = indptr[cut.sections - first], arrays["values"]
    found = {"sums": sums_of(values, bounds), "low": float(values.min()), "high": float(values.max())}
    if "weights" in arrays:
        found["weights"] = sums_of(arrays["weights"], bounds)
    return found


def sum_squares(storage: Storage, data: str, block: int, cut: Cut, mean: float) -> list[float]:
    """Return the sum of the squared distances from the mean in each section of a block of users."""
    rows = storage.load(f"{data}.user{block}")
    return squares_of(rows["values"], mean, rows["indptr"][cut.sections - cut.sections[0]])


def sum_weights(storage: Storage, data: str, block: int, cut: Cut, kind: str) -> list[float]:
    """Return the sum of a function of the weights in each section of a block of users; see fastmf.data.weights."""
    rows = storage.load(f"{data}.user{block}")
    return sums_on(kind, rows["weights"], rows["indptr"][cut.sections - cut.sections[0]])


def deal_user_block(storage: Storage, data: str, block: int, first: int, bounds: np.ndarray) -> None:
    """Deal the ratings of a block of users to blocks of items with these bounds; ``first`` is its first user."""
    rows = storage.load(f"{data}.user{block}")
    counts = np.diff(rows.pop("indptr"))
    users = np.repeat(np.arange(first, first + len(counts), dtype=np.int32), counts)
    items = rows.pop("indices")
    _deal(storage, f"{data}.user{block}.dealt", items, bounds, {"users": users, **rows}, keys="items")


def make_item_block(storage: Storage, data: str, block: int, n_user_blocks: int, bounds: np.ndarray) -> None:
    """Write a block of items: what the blocks of users have dealt to it, each item's users in order."""
    rows = _dealt_to(storage, [f"{data}.user{place}.dealt" for place in range(n_user_blocks)], block)
    first, n_items = int(bounds[block]), int(bounds[block + 1] - bounds[block])
    items = rows.pop("items") - np.int32(first)
    indptr, moved = csr.group(items, n_items, tuple(rows.values()), resolve("cpu"))
    arrays = dict(zip(rows, moved, strict=True))
    storage.save(f"{data}.item{block}", indptr=indptr, indices=arrays.pop("users"), **arrays)


def count_needs(storage: Storage, name: str, bounds: np.ndarray) -> np.ndarray:
    """Return how many rows of each of the other side's blocks a block needs; ``bounds`` are those of these blocks."""
    needed = np.zeros(int(bounds[-1]), bool)
    needed[storage.load(name)["indices"]] = True
    return np.add.reduceat(needed, bounds[:-1], dtype=np.int64)


def place_needs(storage: Storage, name: str, bounds: np.ndarray, whole: np.ndarray) -> None:
    """Write the places of a block's entries among all rows that it gets, and which rows of each other block it needs.

    It gets all rows of blocks that send their ``whole`` table, (n_blocks,) bool, and of the others those that it needs.
    """
    columns = storage.load(name)["indices"]
    place_of = np.zeros(int(bounds[-1]), np.int32)
    place_of[columns] = 1
    needs, end = {}, 0
    for block, (first, last) in enumerate(pairwise(bounds)):
        if whole[block]:
            rows = np.arange(last - first, dtype=np.int32)
        else:
            needs[f"rows{block}"] = rows = np.flatnonzero(place_of[first:last]).astype(np.int32)
        place_of[first + rows] = np.arange(end, end + len(rows), dtype=np.int32)
        end += len(rows)
    storage.save(f"{name}.needs", places=place_of[columns], **needs)
