"""The k-core of ratings: users and items with few ratings fall away until all that remain have enough.

The core is the largest set of users with at least n ratings of items in it, and of items with at least m ratings by
users in it. It is unique, and peeling finds it (Matula and Beck 1983): a row below its bound falls, which lowers the
counts of the rows it is paired with, until no row is below its bound. Every rating is looked at twice at most.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fastmf.data.arrow import from_numpy
from fastmf.data.csr import ranges
from fastmf.errors import DataError, require_integer
from fastmf.kernels.types import Compressed
from fastmf.runtime.spill import Spill, filled

if TYPE_CHECKING:
    from fastmf.data.features import Features

STAYS = np.iinfo(np.int32).max  # the turn of rows that never fall


def peel(by_user: Compressed, by_item: Compressed, least: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the turn in which each user and each item falls, int32 (n_users,) and (n_items,); STAYS for the core.

    ``least`` are the fewest ratings of a user and of an item. Users fall in even turns from 0, items in odd ones.
    """
    views = by_user, by_item
    counts = [np.diff(view.indptr) for view in views]
    turns = np.full(len(counts[0]), STAYS, np.int32), np.full(len(counts[1]), STAYS, np.int32)
    falling = [np.flatnonzero(own < fewest) for own, fewest in zip(counts, least, strict=True)]
    turn = 0
    while len(falling[0]) or len(falling[1]):
        this, other = turn % 2, 1 - turn % 2
        rows, indptr = falling[this], views[this].indptr
        turns[this][rows] = turn
        lost = views[this].indices[ranges(indptr[rows], indptr[rows + 1] - indptr[rows])]
        hit, n_lost = np.unique(lost, return_counts=True)
        before = counts[other][hit]
        counts[other][hit] = before - n_lost
        below = hit[(before >= least[other]) & (before - n_lost < least[other])]
        falling[this], falling[other] = rows[:0], np.append(falling[other], below)
        turn += 1
    return turns


def k_core(
    by_user: Compressed, by_item: Compressed, users: np.ndarray, least: tuple[int, int], spill: Spill | None = None
) -> tuple[np.ndarray, dict[str, int], tuple[np.ndarray, np.ndarray]]:
    """Find the core of ratings, for :meth:`fastmf.Ratings.core`; users (n,) int32, in the order of ``by_user``.

    Returns which ratings are in it, (n,) bool; how many are not, by reason; and which users and which items are in it,
    (n_users,) and (n_items,) bool.
    """
    for side, fewest in zip(("user", "item"), least, strict=True):
        require_integer(f"min_{side}_ratings", fewest, 1)
    of_users, of_items = peel(by_user, by_item, least)
    below = {"below_min_user_ratings": 0, "below_min_item_ratings": 0}

    def stay(part: slice) -> np.ndarray:
        user, item = of_users[users[part]], of_items[by_user.indices[part]]
        below["below_min_user_ratings"] += int(np.count_nonzero(user < item))
        below["below_min_item_ratings"] += int(np.count_nonzero(item < user))
        return np.asarray(np.minimum(user, item) == STAYS)

    stays = filled(spill, len(users), bool, stay)
    if not stays.any():
        raise DataError(
            f"none of {len(stays):,} ratings remain if users need {least[0]:,} and items {least[1]:,}: lower"
            " --min-user-ratings (min_user_ratings=) or --min-item-ratings (min_item_ratings=)"
        )
    return stays, below, (of_users == STAYS, of_items == STAYS)


def rows_of_core(
    side: str,
    chosen: np.ndarray,
    row_ids: pa.Array,
    features: "Features | None",
    among: Callable[[np.ndarray, str], np.ndarray],
) -> dict[str, Any]:
    """Return the ids of a side that stay, the indices (n,) int32 of the ratings' ids among them, and their features.

    Ids stay that are ``chosen`` (n_ids,) bool, or have side features. ``among`` is that of the ratings of the core.
    """
    known = chosen if features is None else chosen | (np.diff(features.rows.indptr) > 0)
    own = row_ids.take(from_numpy(np.flatnonzero(known)))
    left, places = None if features is None else features.of(own), np.cumsum(known, dtype=np.int32) - np.int32(1)
    return {f"{side}_ids": own, f"{side}s": among(places, f"{side}s"), f"{side}_features": left}
