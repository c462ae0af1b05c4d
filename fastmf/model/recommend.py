"""Recommendations: from raw ids to top-n lists, in batches of users."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fastmf.data import csr, ids
from fastmf.data.write import joined
from fastmf.errors import ParameterError, UnknownIdError, brief, counted, require_choice, require_truth
from fastmf.kernels.types import Compressed, Pairs, Side
from fastmf.model.frozen import thawed
from fastmf.model.learned import mean_row
from fastmf.model.predict import estimates
from fastmf.model.state import State
from fastmf.model.tables import read_pairs
from fastmf.model.topn import most_rated, rows_of, top_n
from fastmf.runtime.device import Device, resolve

if TYPE_CHECKING:
    import pandas as pd

USERS_PER_BATCH, ROWS_PER_BATCH = 1 << 14, 1 << 21  # at most, unless one list alone is longer
LONGEST = 1 << 31  # no model has as many items

RANKINGS = "choice", "rating", "blend"
LEARNED = {
    "choice": ("what users choose", "again, without --no-choice (choice=False)"),
    "blend": ("what popularity is worth", "with --blend (blend=True)"),
}


class Ranker:
    """Ranks a model's items for its users; the candidates and the items to leave out are looked up once.

    :func:`meaning_of` says what scores are. ``rank_by``, ``items``, ``exclude``, ``include_seen`` and ``cold`` are
    those of :meth:`fastmf.Model.recommend`; ``bonus`` (n_items,) is added to predictions.

    Attributes
    ----------
    rank_by : one of RANKINGS.
    likely : whether scores say how likely items are to be chosen; else they are predictions, with a bonus or without.
    users : the users as they are ranked for.
    constant : a number added to all scores.
    items : the items as they are ranked: those that may not be recommended have a bias of -inf.
    unknown_items : how many of ``items`` cannot be recommended, because nothing is known of them.
    """

    def __init__(
        self,
        state: State,
        *,
        rank_by: str | None = None,
        items: Any = None,
        exclude: Any = None,
        include_seen: bool = False,
        cold: bool = True,
        device: str | Device = "cpu",
        bonus: np.ndarray | None = None,
    ) -> None:
        self.state, self.device = state, resolve(device)
        self.rank_by = ranking_of(state, rank_by if bonus is None else "rating")
        remedy = "leave out --no-cold (cold=False)"
        self.candidates, self.unknown_items = candidates_of(state, "item", items, cold, remedy)
        self.users, (factors, bias), self.constant = ranked_sides(state, self.rank_by)
        bias = bias if bonus is None else bias + bonus
        self.items = Side(factors, np.where(self.candidates, bias, np.float32(-np.inf)))
        self.likely = state.implicit or self.rank_by == "choice"
        self._left_out = _left_out(state, exclude, include_seen)

    def top(self, users: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Rank the n best items for each of ``users``: dense indices, -1 for an unknown user (ranked by item bias).

        For implicit feedback, and by choice, users without vectors get the most popular items, with scores of 0.
        Returns what :func:`fastmf.model.topn.top_n` returns.
        """
        found, scores, blank = self._ranked(users, n)
        scores[blank] = np.where(found[blank] >= 0, np.float32(0), np.float32(-np.inf))
        return found, scores

    def ordered(self, users: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Rank like :meth:`top`; the scores of users without vectors are those of :func:`topn.most_rated`."""
        return self._ranked(users, n)[:2]

    def _ranked(self, users: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the lists, the scores that order them, and which of them are for users without vectors."""
        state, known = self.state, users >= 0
        side = Side(
            np.where(known[:, None], self.users.factors[users], np.float32(0)),
            np.where(known, self.users.bias[users], np.float32(0)) + self.constant,
        )
        excluded = rows_of(users, self._left_out)
        found, scores = top_n(side, self.items, excluded, n, self.device)
        blank = np.flatnonzero(~side.factors.any(axis=1)) if self.likely else np.empty(0, np.int64)
        if len(blank):
            counts = np.where(self.candidates, state.item_counts, 0)
            found[blank], scores[blank] = most_rated(counts, n, rows_of(blank, [excluded]))
        return found, scores, blank

    def most_popular(self, users: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Rank the n items with the most training ratings for each of ``users``, without the items to leave out."""
        return most_rated(self.state.item_counts, n, rows_of(users, self._left_out))


def batches(ranker: Ranker, users: np.ndarray, n: Any) -> "Iterator[pd.DataFrame]":
    """Yield the frames of :meth:`fastmf.Model.recommend` for users by dense index, a batch at a time.

    Raises
    ------
    ParameterError
        If a length n is less than 1, or there is neither one for all users nor one for each.
    """
    state = ranker.state
    lengths = np.minimum(_lengths(n, len(users)), max(len(state.item_ids), 1))
    batch = np.cumsum(lengths) // ROWS_PER_BATCH + np.arange(len(users)) // USERS_PER_BATCH
    for own in np.split(np.arange(len(users)), 1 + np.flatnonzero(np.diff(batch))):
        frames, places = [], []
        for rows in _of_like_length(own, lengths):
            longest = int(lengths[rows].max(initial=1))
            found, scores = ranker.top(users[rows], longest)
            found[np.arange(longest) >= lengths[rows, None]] = -1
            query = "user_id", state.arrow_ids("user"), users[rows]
            frame = list_frame(query, ("item_id", state.arrow_ids("item"), found), scores)
            if ranker.rank_by != "rating":  # then scores are no predictions
                frame["prediction"] = _predictions(state, users[rows], found)
            frames.append(frame)
            places.append(np.repeat(rows, np.count_nonzero(found >= 0, axis=1)))
        order = np.argsort(np.concatenate(places), kind="stable")
        frame = frames[0] if len(frames) == 1 else joined(frames).iloc[order].reset_index(drop=True)
        frame.attrs = {"unknown_items": ranker.unknown_items, "score": meaning_of(state, ranker.rank_by)}
        yield frame


def _predictions(state: State, users: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Predict the ratings of the items in lists, (n_lists, n) with -1 at empty places, one list after the other."""
    line, place = np.nonzero(found >= 0)
    return estimates(state, Pairs(users[line].astype(np.int32), found[line, place]))


def list_frame(
    query: tuple[str, pa.Array, np.ndarray], found: tuple[str, pa.Array, np.ndarray], scores: np.ndarray
) -> "pd.DataFrame":
    """Return top-n lists as a frame of query id, found id, score and rank, skipping places that hold -1.

    ``query`` and ``found`` each hold a column's name, the ids, and indices into them: (n_lists,) and (n_lists, n).
    """
    import pandas as pd

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


def ranking_of(state: State, rank_by: str | None) -> str:
    """Return which of RANKINGS orders a model's lists: the one asked for, or else "choice" if the model has learned it.

    Raises
    ------
    ParameterError
        If the model has not learned the one asked for.
    """
    if rank_by is None:
        return "rating" if state.choice is None else "choice"
    require_choice("rank_by", rank_by, RANKINGS)
    if state.implicit and rank_by == "choice":
        return "rating"  # their only order
    if rank_by != "rating" and getattr(state, rank_by) is None:
        what, remedy = LEARNED[rank_by]
        remedy = "leave out --rank-by (rank_by=)" if state.implicit else f"fit it {remedy}"
        raise ParameterError(f"the model has not learned {what}: {remedy}")
    return rank_by


def meaning_of(state: State, rank_by: str | None) -> str:
    """Say what the scores of lists mean."""
    if state.implicit:
        return "how likely the user is to choose the item; about 1 for pairs like those observed, 0 for others"
    found = ranking_of(state, rank_by)
    if found == "choice":
        return "how likely the user is to choose the item; about 1 at most (--rank-by rating: by predicted rating)"
    if found == "blend":
        return "the predicted rating, plus a bonus for popularity"
    return "the predicted rating, not clipped" + (
        "; the model has not learned what users choose (fit it without --no-choice)" if state.choice is None else ""
    )


def ranked_sides(state: State, rank_by: str) -> tuple[Side, Side, np.float32]:
    """Return the users, the items and the constant whose sums of biases and products are the scores of lists.

    Users known by their features alone differ from the mean user by what these say.
    """
    if rank_by == "choice":
        vectors: Any = thawed(state.choice)
        users, items = (Side(rows, np.zeros(len(rows), np.float32)) for rows in (vectors.users, vectors.items))
        return _with_mean_user(state, users), items, np.float32(0)
    if state.implicit:
        return _with_mean_user(state, state.user_side), state.item_side, np.float32(state.mean)
    items = state.item_side
    if rank_by == "blend":
        items = Side(items.factors, items.bias + (state.blend * np.log1p(state.item_counts)).astype(np.float32))
    return state.user_side, items, np.float32(state.mean)


def _with_mean_user(state: State, users: Side) -> Side:
    """Add the mean of the users with ratings to those that are known by their features alone."""
    warm = state.user_counts > 0
    cold = state.featured("user") & ~warm
    if not cold.any():
        return users
    mean = mean_row(users.factors, warm)
    return users._replace(factors=users.factors + cold[:, None] * mean.astype(np.float32))


def candidates_of(state: State, side: str, chosen: Any, cold: bool, remedy: str) -> tuple[np.ndarray, int]:
    """Mark the "user" or "item" rows that may be listed, (n,) bool; count the chosen ids that may not.

    ``chosen`` are raw ids, or None for all. ``remedy`` says how to allow cold rows.

    Raises
    ------
    UnknownIdError
        If none of the chosen ids may be listed.
    """
    require_truth("cold", cold)
    present = state.present(side) if cold else getattr(state, f"{side}_counts") > 0
    if chosen is None:
        return present, 0
    column = ids.as_column(state.arrow_ids(side), ids.many(chosen), side)
    wanted = ids.lookup(state.arrow_ids(side), column, side)
    known = wanted[(wanted >= 0) & np.append(present, False)[wanted]]
    if not len(known):
        if not len(wanted):
            raise UnknownIdError(f"there are no {side}s to choose from: give at least one, or leave the choice out")
        these = f"none of the {len(wanted):,} {side}s to choose from"
        if not cold and state.present(side)[wanted[wanted >= 0]].any():
            raise UnknownIdError(f"{these} has training ratings: {remedy}, or give others")
        raise UnknownIdError(f"the model knows {these}: give others")
    allowed = np.zeros(len(present), bool)
    allowed[known] = True
    return allowed, len(wanted) - len(known)


def _left_out(state: State, exclude: Any, include_seen: bool) -> list[Compressed]:
    """Collect the items to leave out for each user: those seen in training, and the pairs to exclude."""
    lists = []
    require_truth("include_seen", include_seen)
    if not include_seen:
        if state.seen is None:
            raise ParameterError(
                "the model does not hold what users have rated (keep_seen=False): pass include_seen=True, and the"
                " pairs to leave out as exclude"
            )
        lists.append(Compressed(*state.seen, np.empty(0, np.float32)))
    if exclude is not None:
        columns = zip(("user", "item"), read_pairs(state, exclude), strict=True)
        users, items = (ids.lookup(state.arrow_ids(side), column, side) for side, column in columns)
        known = (users >= 0) & (items >= 0)
        lists.append(csr.group_columns(users[known], items[known], len(state.user_ids)))
    return lists


def _lengths(n: Any, n_users: int) -> np.ndarray:
    """Return the length of each list, (n_users,) int64."""
    try:
        given = np.asarray(min(n, LONGEST) if type(n) is int else n)
    except ValueError:  # lists of lists
        given = np.empty(0)
    whole = given.dtype.kind in "iu" and given.ndim < 2 and not isinstance(n, bool)
    if not whole or given.min(initial=1) < 1:
        raise ParameterError(f"n is {brief(n)}: give an integer of at least 1, or one for each user")
    if given.ndim and len(given) != n_users:
        raise ParameterError(
            f"{len(given):,} lengths for {counted(n_users, 'user')}: give one for each, or one for all"
        )
    return np.broadcast_to(np.minimum(given.astype(np.uint64), LONGEST), n_users).astype(np.int64)


def _of_like_length(users: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """Group users by list length, rounded up to a power of two, so that one long list does not lengthen the others."""
    powers = np.ceil(np.log2(lengths[users]))
    return [users[powers == power] for power in np.unique(powers)] or [users]
