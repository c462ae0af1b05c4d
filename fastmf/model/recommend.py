"""Lists: what a fitted model recommends, and what is like what.

An item's score for a user is its prediction; for implicit feedback it is what the factors of both multiply to.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from fastmf.data import ids
from fastmf.data.read import read_columns
from fastmf.data.write import joined
from fastmf.errors import ParameterError, UnknownIdError
from fastmf.kernels.types import Compressed, Side
from fastmf.model import topn
from fastmf.model.state import Fitted
from fastmf.runtime.device import Device, resolve

USERS_OF_FRAME, ROWS_OF_FRAME = 1 << 14, 1 << 21  # at most, unless one list alone is longer


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Listing(Fitted):
    """The lists of a fitted model. Raw ids go in and come out; the attributes are those of :class:`Fitted`."""

    def known_users(self, user_ids: Any) -> np.ndarray:
        """Find the index of each user: -1 where the model knows nothing of it, because the id is unknown or cold."""
        return _warm(ids.lookup(self.user_ids, user_ids, "user"), self.user_counts)

    def known_items(self, item_ids: Any) -> np.ndarray:
        """Find the index of each item; see :meth:`known_users`."""
        return _warm(ids.lookup(self.item_ids, item_ids, "item"), self.item_counts)

    def recommend(
        self,
        user_ids: Any = None,
        n: Any = 10,
        *,
        rank_by: str = "rating",
        items: Any = None,
        exclude: Any = None,
        include_seen: bool = False,
        device: str | Device = "cpu",
    ) -> pd.DataFrame:
        """Find the n items with the highest score that a user has not rated in training.

        Parameters
        ----------
        user_ids : one raw id, several, or None for all users.
        n : length of each list, or one for each user; lists are shorter where a user has fewer items left.
        rank_by : "rating" ranks by prediction, for implicit feedback by score; "blend" adds to predictions what
            popularity is worth (``blend`` of :func:`fastmf.fit`), as what people would rate highly is seldom what they
            choose.
        items : raw ids to choose from; all when left out. Ids the model does not know are none to choose.
        exclude : further (user, item) pairs to leave out, in any form that holds a table; unknown ids
            in it change nothing.
        include_seen : whether items rated in training may come too.
        device : "cpu", "cuda" (as for :func:`fastmf.fit`) or "auto".

        Returns
        -------
        Frame of user_id, item_id, score (float32, not clipped), rank (from 1). Cold items are never in it.

        Raises
        ------
        UnknownIdError
            If a user is not in the model; new users come through :meth:`fold_in`.
        ParameterError
            If n is less than 1, the model was saved without what users have seen, or has learned no blend.
        """
        ways: dict[str, Any] = {"rank_by": rank_by, "items": items, "exclude": exclude, "include_seen": include_seen}
        users = self.users_of(user_ids)
        return joined(self.lists_of(users, n, device=device, **ways))

    def lists_of(
        self,
        users: np.ndarray,
        n: Any,
        *,
        rank_by: str = "rating",
        items: Any = None,
        exclude: Any = None,
        include_seen: bool = False,
        device: str | Device = "cpu",
    ) -> Iterator[pd.DataFrame]:
        """Yield the frames of :meth:`recommend` for users by dense index, some users at a time."""
        where, lengths, bonus = resolve(device), topn.lengths(n, len(users)), self.bonus(rank_by)
        chosen, leave = self._candidates(items), self._left_out(exclude, include_seen)
        lengths = np.minimum(lengths, max(len(self.item_ids), 1))
        part = np.cumsum(lengths) // ROWS_OF_FRAME + np.arange(len(users)) // USERS_OF_FRAME
        for own in np.split(np.arange(len(users)), 1 + np.flatnonzero(np.diff(part))):
            frames, places = [], []
            for rows in _alike(own, lengths):
                longest = int(lengths[rows].max(initial=1))
                found, scores = self.best_items(users[rows], longest, leave(users[rows]), where, bonus, chosen)
                found[np.arange(longest) >= lengths[rows, None]] = -1
                query = "user_id", self.user_ids, users[rows]
                frames.append(_lists(query, ("item_id", self.item_ids, found), scores))
                places.append(np.repeat(rows, np.count_nonzero(found >= 0, axis=1)))
            order = np.argsort(np.concatenate(places), kind="stable")
            yield frames[0] if len(frames) == 1 else joined(frames).iloc[order].reset_index(drop=True)

    def users_of(self, user_ids: Any) -> np.ndarray:
        """Find the dense indices of users, all for None."""
        if user_ids is None:
            return np.arange(len(self.user_ids))
        return ids.require(self.user_ids, ids.many(user_ids), "user")

    def _candidates(self, items: Any) -> np.ndarray | None:
        """Say which items may be recommended, (n_items,) bool; None for all."""
        if items is None:
            return None
        known = self.known_items(ids.as_column(self.item_ids, ids.many(items), "item"))
        if not (known >= 0).any():
            raise UnknownIdError(f"the model knows none of {len(known):,} items to choose from: give others")
        chosen = np.zeros(len(self.item_ids), bool)
        chosen[known[known >= 0]] = True
        return chosen

    def bonus(self, rank_by: str) -> np.ndarray | None:
        """Say what items get on top of their predictions: (n_items,) float32; None for nothing.

        Raises
        ------
        ParameterError
            If the model has not learned it.
        """
        if rank_by not in ("rating", "blend"):
            raise ParameterError(f"rank_by is {rank_by!r}: choose rating or blend")
        if rank_by == "rating":
            return None
        if self.blend is None:
            remedy = "its scores are made to rank" if self.implicit else "fit it with --blend (blend=True)"
            raise ParameterError(f"the model has not learned what popularity is worth: {remedy}")
        return (self.blend * np.log1p(self.item_counts)).astype(np.float32)

    def best_items(
        self,
        users: np.ndarray,
        n: int,
        excluded: Compressed,
        device: Device | None = None,
        bonus: np.ndarray | None = None,
        chosen: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rank items for users by dense index (-1: unknown, ranked by item bias). Returns items, scores: (n_users, n).

        Row j of ``excluded`` belongs to users[j]. ``bonus`` (n_items,) is added to the items' scores; only ``chosen``
        (n_items,) bool come. Lists that run out of items end in -1 and -inf. Of implicit feedback, users of whom
        nothing is known get what has most ratings, with scores of 0.
        """
        known = users >= 0
        side = Side(
            np.where(known[:, None], self.user_factors[users], np.float32(0)),
            np.where(known, self.user_bias[users], np.float32(0)) + np.float32(self.mean),
        )
        there = self.item_counts > 0 if chosen is None else chosen & (self.item_counts > 0)
        warm = np.where(there, self.item_bias if bonus is None else self.item_bias + bonus, np.float32(-np.inf))
        found, scores = topn.best(side, Side(self.item_factors, warm), excluded, n, device)
        blank = np.flatnonzero(~side.factors.any(axis=1)) if self.implicit else np.empty(0, np.int64)
        if len(blank):
            popular, _ = topn.most_rated(np.where(there, self.item_counts, 0), n, topn.left_out(blank, [excluded]))
            found[blank], scores[blank] = popular, np.where(popular >= 0, np.float32(0), np.float32(-np.inf))
        return found, scores

    def excluded(self, users: np.ndarray, exclude: Any = None, include_seen: bool = False) -> Compressed:
        """Collect the items to leave out for each of ``users`` (dense, -1: unknown): seen ones and excluded pairs."""
        return self._left_out(exclude, include_seen)(users)

    def _left_out(self, exclude: Any, include_seen: bool) -> Callable[[np.ndarray], Compressed]:
        """Read what is to be left out, and make a function of it that collects it for some users."""
        if self.seen is None and not include_seen:
            raise ParameterError(
                "the model does not hold what users have rated (keep_seen=False): pass include_seen=True, and the pairs"
                " to leave out as exclude"
            )
        lists = []
        if self.seen is not None and not include_seen:
            lists.append(Compressed(*self.seen, np.empty(0, np.float32)))
        if exclude is not None:
            table = read_columns(exclude, {"user": None, "item": None})
            of = ids.lookup(self.user_ids, table.column(0), "user")
            what = ids.lookup(self.item_ids, table.column(1), "item")
            known = (of >= 0) & (what >= 0)
            lists.append(topn.compress(of[known], what[known], len(self.user_ids)))
        return lambda users: topn.left_out(users, lists)

    def similar_items(self, item_ids: Any, n: int = 10) -> pd.DataFrame:
        """Find the n items nearest to each of the given ones by cosine of their factors.

        Returns
        -------
        Frame of item_id, similar_item_id, score (the cosine), rank. Cold items are left out; items whose factors are
        all zero have cosine 0 and come last.

        Raises
        ------
        UnknownIdError
            If an item is not in the model.
        """
        wanted = ids.require(self.item_ids, ids.many(item_ids), "item")
        found, scores = topn.nearest(self.item_factors, self.item_counts, wanted, n)
        return _lists(("item_id", self.item_ids, wanted), ("similar_item_id", self.item_ids, found), scores)

    def similar_users(self, user_ids: Any, n: int = 10) -> pd.DataFrame:
        """Find the n users nearest to each of the given ones; see :meth:`similar_items`."""
        wanted = ids.require(self.user_ids, ids.many(user_ids), "user")
        found, scores = topn.nearest(self.user_factors, self.user_counts, wanted, n)
        return _lists(("user_id", self.user_ids, wanted), ("similar_user_id", self.user_ids, found), scores)


def _warm(indices: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Make cold indices unknown (-1). Index -1 reads the 0 appended, and so stays what it is."""
    return np.where(np.append(counts, 0)[indices] > 0, indices, -1).astype(np.int32)


def _alike(users: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """Group users by the next power of two of their lists' lengths: one long list does not make the others long."""
    powers = np.ceil(np.log2(lengths[users]))
    return [users[powers == power] for power in np.unique(powers)] or [users]


def _lists(
    query: tuple[str, pa.Array, np.ndarray],
    found: tuple[str, pa.Array, np.ndarray],
    scores: np.ndarray,
) -> pd.DataFrame:
    """Write top-n lists as a frame of query id, found id, score and rank; places without an item are left out."""
    (query_name, query_ids, wanted), (found_name, found_ids, rows) = query, found
    taken = rows >= 0
    line, place = np.nonzero(taken)
    return pd.DataFrame(
        {
            query_name: ids.to_pandas(query_ids.take(pa.array(wanted[line]))),
            found_name: ids.to_pandas(found_ids.take(pa.array(rows[taken]))),
            "score": scores[taken],
            "rank": (place + 1).astype(np.int32),
        }
    )
