"""Validation ratings of a fit on a cluster: held out of the ratings, or read from files of their own."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from fastmf.cluster.block import device, joined
from fastmf.cluster.load import Scaling
from fastmf.data import ids
from fastmf.data.ratings import Ratings
from fastmf.data.standardise import standardised
from fastmf.data.storage import Storage
from fastmf.evaluation.hits import Wanted, fixed_sample, wanted_of
from fastmf.kernels.residual import ERRORS
from fastmf.kernels.tasks import sections
from fastmf.kernels.types import Compressed, Pairs, Scale
from fastmf.model.topn import rows_of
from fastmf.runtime.launch import launch
from fastmf.training.objective import quality_of_lists

NAME = "validation"


class Held(NamedTuple):
    """Validation ratings in the storage: their number, and the counts of the rows that they were read from, if any."""

    n: int
    rows: dict[str, int]


def join_held(storage: Storage, name: str, n_ranges: int) -> int:
    """Join what was held out of each range; return the number of ratings."""
    parts: dict[str, list[np.ndarray]] = {}
    for place in range(n_ranges):
        for key, array in storage.load(f"{name}.{place}").items():
            parts.setdefault(key, []).append(array)
    rows = {key: np.concatenate(each) for key, each in parts.items()}
    counts = rows["counts"]
    indptr = np.append(0, np.cumsum(counts))
    users = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    _save(storage, users, rows["items"], rows["values"], indptr)
    return len(users)


def read_held(storage: Storage, source: Any, how: dict[str, Any]) -> tuple[int, dict[str, int]]:
    """Read validation ratings from files; return their number, and counts of their rows."""
    user_ids, item_ids = storage.load_ids("users"), storage.load_ids("items")
    like = Ratings.from_arrays(user_ids[:1], item_ids[:1], [1.0]) if how.pop("text", False) else None
    held = Ratings.read(source, weight="", like=like, **how)
    users = ids.lookup(user_ids, held.user_ids, "validation user")
    items = ids.lookup(item_ids, held.item_ids, "validation item")
    _save(storage, users[held.users], items[held.items], held.values, held.by_user.indptr)
    return len(held), held.rows


def _save(storage: Storage, users: np.ndarray, items: np.ndarray, values: np.ndarray, indptr: np.ndarray) -> None:
    storage.save(NAME, users=users, items=items, values=values, tasks=indptr[sections(indptr)])


def standardise_held(storage: Storage, scaling: Scaling) -> None:
    """Write the validation ratings on the scale of training."""
    arrays = storage.load(NAME)
    storage.save(f"{NAME}.standard", **(arrays | {"values": standardised(arrays["values"], *scaling[:2])}))


def find_wanted(storage: Storage, name: str, ranges: np.ndarray, least: float | None, counts: np.ndarray) -> int:
    """Write what lists for validation users should hold, and what these users have seen; return the number of lists.

    ``name`` and ``ranges`` are those of the training ratings, counts (n_users,) how many of them count. ``least`` is
    the lowest validation rating that counts.
    """
    pairs = storage.load(NAME)
    there = np.array(pairs["users"]) >= 0
    if least is not None:
        there &= pairs["values"] >= least
    users, items = pairs["users"][there], pairs["items"][there]
    known = (counts > 0) & (np.bincount(users, minlength=len(counts)) > 0)
    chosen = fixed_sample(np.flatnonzero(known))
    same = np.arange(max(len(counts), int(items.max(initial=0)) + 1))  # these users and items are training's
    wanted = wanted_of((users, items), chosen, same[: len(counts)], np.append(same, -1))
    seen, sizes = [np.empty(0, np.int32)], [np.zeros(1, np.int64)]
    for place, (first, last) in enumerate(pairwise(ranges)):
        own = chosen[(chosen >= first) & (chosen < last)] - first
        rows = storage.load(f"{name}.{place}")
        indptr = np.append(0, np.cumsum(rows["counts"]))
        found = rows_of(own, [Compressed(indptr, rows["items"], np.empty(0, np.float32))])
        seen.append(found.indices)
        sizes.append(np.diff(found.indptr))
    excluded: dict[str, Any] = {"indptr": np.cumsum(np.concatenate(sizes)), "indices": np.concatenate(seen)}
    lists = {f"wanted_{name}": array for name, array in zip(Wanted._fields, wanted, strict=True)}
    storage.save(f"{NAME}.wanted", **(excluded | lists))
    return len(chosen)


def measure_lists(storage: Storage, sides: tuple[Sequence[str], Sequence[str]], item_counts: np.ndarray) -> float:
    """Return nDCG@10 of lists for validation users, given the names of all pieces."""
    arrays = {name: np.array(array) for name, array in storage.load(f"{NAME}.wanted").items()}
    wanted = Wanted(*(arrays[f"wanted_{name}"] for name in Wanted._fields))
    excluded = Compressed(arrays["indptr"], arrays["indices"], np.empty(0, np.float32))
    users, items = (joined(storage, names).factors for names in sides)
    return quality_of_lists(wanted, excluded, users[wanted.users], items, item_counts > 0)


def measure_errors(storage: Storage, sides: tuple[Sequence[str], Sequence[str]], scale: Scale) -> tuple[float, float]:
    """Return the sums of squared and of absolute errors of validation pairs, given the names of all pieces."""
    pairs = storage.load(f"{NAME}.standard")
    users, items = (joined(storage, names) for names in sides)
    given = Pairs(np.array(pairs["users"]), np.array(pairs["items"])), np.array(pairs["values"]), users, items, scale
    squared, absolute = launch(ERRORS, device(), pairs["tasks"], *given)
    return float(squared), float(absolute)
