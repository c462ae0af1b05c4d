"""Validation ratings of a fit on a cluster: held out of the ratings, or read from files of their own."""

from typing import Any, NamedTuple

import numpy as np

from fastmf.cluster.load import Scaling
from fastmf.data import ids
from fastmf.data.ratings import Ratings
from fastmf.data.standardise import standardised
from fastmf.data.storage import Storage
from fastmf.kernels.tasks import sections

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
    storage.save(f"{NAME}.standard", **(arrays | {"values": standardised(arrays["values"], *scaling)}))
