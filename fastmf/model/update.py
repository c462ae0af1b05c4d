"""Update: add a day's ratings to a model without fitting it again.

Rows are solved from all of their ratings with the other side fixed: those that the model does not know and, if the old
ratings are given, all that have new ratings. Users come first, because new items need them. Mean and scale stay.
"""

import warnings
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from fastmf.data import csr, ids
from fastmf.data.ratings import Ratings
from fastmf.data.standardise import standardised
from fastmf.errors import DataError, counted
from fastmf.kernels.types import Compressed
from fastmf.model.fold_in import interests, read_like_training
from fastmf.model.grow import add_new_rows, solved_into, widened, with_counts, with_pairs
from fastmf.model.state import State
from fastmf.runtime.device import Device, resolve

SIDES = "user", "item"

S = TypeVar("S", bound=State)
Masks = dict[str, np.ndarray]  # by "user" and "item": (n_rows,) bool


class Book(NamedTuple):
    """Ratings, and for each of their users and items the index among the model's, -1 if it has none."""

    ratings: Ratings
    user: np.ndarray
    item: np.ndarray

    @classmethod
    def of(cls, state: State, ratings: Ratings) -> "Book":
        """Look up the ids."""
        users = ids.lookup(state.arrow_ids("user"), ratings.user_ids, "user")
        return cls(ratings, users, ids.lookup(state.arrow_ids("item"), ratings.item_ids, "item"))

    def observed(self, state: State) -> "Book":
        """Return the same without ratings that do not count as observed."""
        return self._replace(ratings=_observed(state, self.ratings))

    def liked(self, state: State) -> "Book":
        """Return the same, of ratings that are observed, without dislikes."""
        return self if state.negative_to is None else self._replace(ratings=self.ratings.take(self.ratings.values > 0))

    def counts(self, state: State, side: str) -> np.ndarray:
        """Count the ratings of each of the model's rows."""
        found, places = np.zeros(len(getattr(state, f"{side}_ids")), np.int64), getattr(self, side)
        found[places[places >= 0]] = getattr(self.ratings, f"{side}_counts")[places >= 0]
        return found

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the users and items of all ratings, as the model's indices."""
        return self.user[self.ratings.users], self.item[self.ratings.items]

    @property
    def unknown(self) -> int:
        """The number of ratings whose user or item the model lacks."""
        if min(self.user.min(initial=0), self.item.min(initial=0)) == 0:
            return 0
        users, items = self.pairs()
        return int(np.sum((users < 0) | (items < 0)))

    def rows(self, side: str, chosen: np.ndarray) -> Compressed:
        """Return the ratings of the model's rows that are ``chosen`` (n_rows,) bool, with the model's columns."""
        entries = self.ratings.by_user if side == "user" else self.ratings.by_item
        own, other = (self.user, self.item) if side == "user" else (self.item, self.user)
        wanted = np.append(chosen, False)[own]
        entries = csr.select(entries, wanted)
        counts = np.zeros(len(chosen), np.int64)
        counts[own[wanted]] = np.diff(entries.indptr)
        indptr = np.append(0, np.cumsum(counts[chosen]))
        same = len(other) == np.count_nonzero(other == np.arange(len(other)))
        entries = csr.filtered(entries._replace(indptr=indptr), other >= 0)
        return entries if same else entries._replace(indices=other[entries.indices])


class Touched(NamedTuple):
    """The rows with new ratings: those without any before, the others, and those of either that are solved.

    Rows without ratings before that are only disliked are not among them: they stay cold, as in a fit.
    """

    new: Masks
    old: Masks
    solved: Masks


def update_model(
    state: S, new: Any, ratings: Any, features: dict[str, Any], device: str | Device, reading: dict[str, Any]
) -> S:
    """Add new ratings to a model; see :meth:`fastmf.Model.update`. ``features`` are tables by side, or None."""
    where, given = resolve(device), read_like_training(state, new, **reading)
    if not len(given):
        raise DataError("there are no new ratings: give at least one")
    old = None if ratings is None else read_like_training(state, ratings, **reading)
    wide = state
    for side in SIDES:
        if features[side] is not None:
            wide, _ = add_new_rows(wide, side, features[side])
        used = getattr(given, f"{side}_counts") > 0
        wide, _ = widened(wide, side, getattr(given, f"{side}_ids").filter(pa.array(used)))
    added, fresh = Book.of(wide, given), Book.of(wide, _observed(state, given))
    liked = fresh.liked(wide)
    touched = _touched(wide, fresh, liked, old is not None)
    before, fitted, report = None, None, {"unknown": 0}
    if old is None:
        again = _seen(wide, added.pairs())
    else:
        fitted = Book.of(wide, old)
        _require_training_ratings(wide, fitted, touched.old)
        before, again = _without(fitted, wide, added)
        report["unknown"] = before.unknown
    views = {side: _view(wide, side, before, fresh, touched.solved) for side in SIDES}
    past = None
    if fitted is not None and wide.user_prior is not None:
        past = {side: _standard(wide, fitted.rows(side, touched.solved[side])) for side in SIDES}
    found, known = _solved(wide, views, past, touched.solved, where)
    counts = [_counts(wide, side, views[side], liked, touched.solved, known) for side in SIDES]
    found = with_pairs(found, added.rows("user", np.full(len(wide.user_ids), True)), *counts)
    report |= _report(added, liked, touched, known) | {"replaced": int(again.sum())}
    report["used"] -= _used_before(wide, added, again)
    _warn_of_rows_left(wide, touched)
    if state.implicit:
        report["observed"] = int(found.user_counts.sum()) - int(state.user_counts.sum())
    if state.negative_to is not None:
        report |= _dislikes(wide, added, again, known, fitted, before)
    return with_counts(found, given, {**given.rows, **report})


def _observed(state: State, ratings: Ratings) -> Ratings:
    return ratings.observed(state.positive_from, state.negative_to) if state.implicit else ratings


def _seen(state: State, pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return whether users have rated these items before, (n,) bool; False if the model does not hold that."""
    return np.zeros(len(pairs[0]), bool) if state.seen is None else csr.locate(state.seen, *pairs)[1]


def _touched(state: State, fresh: Book, liked: Book, all_of_them: bool) -> Touched:
    """Find the rows with new ratings; ``all_of_them`` are solved, or else the new ones."""
    found = Touched({}, {}, {})
    for side in SIDES:
        cold = getattr(state, f"{side}_counts") == 0
        found.new[side] = (liked.counts(state, side) > 0) & cold
        found.old[side] = (fresh.counts(state, side) > 0) & ~cold
        found.solved[side] = found.new[side] | found.old[side] if all_of_them else found.new[side]
    return found


def _require_training_ratings(state: State, before: Book, rows: Masks) -> None:
    """Check that the old ratings are those that the model was fitted to, as far as these rows go.

    Warns if there are more, such as a part that was held out for validation; they are used.
    """
    before = before.observed(state).liked(state)
    for side in SIDES:
        fitted, there = getattr(state, f"{side}_counts"), before.counts(state, side)
        for word, wrong in (("fewer", there < fitted), ("more", there > fitted)):
            found = np.flatnonzero(rows[side] & wrong)
            if not len(found):
                continue
            row, n = int(found[0]), len(found)
            text = (
                f"{n:,} {side}s have {word} ratings in the old ones than the model was fitted to, the first"
                f" {state.arrow_ids(side)[row].as_py()!r} ({there[row]:,} instead of {fitted[row]:,})"
            )
            if word == "fewer":
                raise DataError(f"{text}: give all ratings that the model was fitted to")
            warnings.warn(f"{text}: all are used", stacklevel=4)


def _without(before: Book, state: State, added: Book) -> tuple[Book, np.ndarray]:
    """Leave out the pairs that are rated anew; return also which of the new ratings those are, (n,) bool."""
    places = []
    for side, wanted in zip(SIDES, added.pairs(), strict=True):
        back = np.full(len(getattr(state, f"{side}_ids")), -1)
        known = np.flatnonzero(getattr(before, side) >= 0)
        back[getattr(before, side)[known]] = known
        places.append(back[wanted])
    users, items = places
    there = (users >= 0) & (items >= 0)
    entries = before.ratings.by_user
    found, again = csr.locate((entries.indptr, entries.indices), users[there], items[there])
    there[there] = again
    if not again.any():
        return before, there
    rest = np.full(len(before.ratings), True)
    rest[found[again]] = False
    return before._replace(ratings=before.ratings.take(rest)), there


def _view(state: State, side: str, before: Book | None, fresh: Book, solved: Masks) -> Compressed:
    """Return the standardised ratings, old and new, of the rows of a side that are to be solved."""
    entries = fresh.rows(side, solved[side])
    if before is not None:
        entries, _ = csr.insert(before.observed(state).rows(side, solved[side]), entries)
    return _standard(state, entries)


def _standard(state: State, entries: Compressed) -> Compressed:
    values, weights = standardised(entries.values, state.mean, state.scale), state.scaled_weights(entries.weights)
    return entries._replace(values=values, weights=weights)


def _solved(
    state: S, views: dict[str, Compressed], past: dict[str, Compressed] | None, rows: Masks, device: Device
) -> tuple[S, Masks]:
    """Solve rows from their ratings of known rows, users, then items; return also which rows are known then.

    In the end come users who have rated new items alone. ``past`` holds the old ratings of the same rows for a Bayesian
    model. Its rows are means over sweeps, better than solutions given the other side's means, and so only move by the
    difference that the new ratings make (ml-latest-small: a solution anew makes the RMSE .003 to .006 worse).
    """
    state, known = _emptied(state, views, rows, device)
    for side, left in (("user", False), ("item", False), ("user", True)):
        chosen = np.flatnonzero(rows[side])
        wanted = ~known[side][chosen] if left else np.full(len(chosen), True)
        if not wanted.any():
            continue
        columns = known["item" if side == "user" else "user"]
        entries = csr.filtered(csr.select(views[side], wanted), columns)
        some = interests(state, entries) > 0
        if some.any():
            before, solved = None, chosen[wanted][some]
            if past is not None:
                before = csr.select(csr.filtered(csr.select(past[side], wanted), columns), some)
            state = solved_into(state, side, solved, csr.select(entries, some), device, before)
            known[side][solved] = True
    return state, known


def _emptied(state: S, views: dict[str, Compressed], rows: Masks, device: Device) -> tuple[S, Masks]:
    """Make rows cold whose last rating has become a dislike; return also which rows are known then."""
    known = {side: getattr(state, f"{side}_counts") > 0 for side in SIDES}
    for side in SIDES:
        chosen = np.flatnonzero(rows[side])
        lost = chosen[known[side][chosen] & (interests(state, views[side]) == 0)]
        if len(lost):
            nothing = csr.take(views[side], np.full(len(lost), -1))
            state = solved_into(state, side, lost, nothing, device)
            known[side][lost] = False
    return state, known


def _counts(state: State, side: str, view: Compressed, liked: Book, solved: Masks, known: Masks) -> np.ndarray:
    """Count the ratings of each row by known rows: of solved rows all, of others the new ones besides the old."""
    pairs = liked.pairs()
    usable = known["user"][pairs[0]] & known["item"][pairs[1]]
    if not solved[side][pairs[SIDES.index(side)]].all():
        usable &= ~_seen(state, pairs)
    own = pairs[SIDES.index(side)][usable]
    counts = getattr(state, f"{side}_counts") + np.bincount(own, minlength=len(known[side]))
    rated = csr.filtered(view, known["item" if side == "user" else "user"])
    counts[solved[side]] = interests(state, rated) * known[side][solved[side]]
    return counts


def _warn_of_rows_left(state: State, touched: Touched) -> None:
    """Warn of known rows with new ratings that are not solved."""
    parts = []
    for side in SIDES:
        left = np.flatnonzero(touched.old[side] & ~touched.solved[side])
        if len(left):
            first = getattr(state, f"{side}_ids")[left[0]]
            parts.append(f"{counted(len(left), side)} (the first {first!r})")
    if parts:
        warnings.warn(
            f"the factors of {' and '.join(parts)} with new ratings stay as they are: give the old ratings, too"
            " (--ratings, ratings=), to solve for them again",
            stacklevel=4,
        )


def _used_before(state: State, added: Book, again: np.ndarray) -> int:
    """Count the pairs rated before (``again``) whose old rating was used: all but those of cold rows."""
    users, items = added.pairs()
    return int(np.sum(again & (state.user_counts > 0)[users] & (state.item_counts > 0)[items]))


def _dislikes(
    state: State, added: Book, again: np.ndarray, known: Masks, fitted: Book | None, before: Book | None
) -> dict[str, int]:
    """Count the dislikes that are used and those of cold rows, less those before the update.

    ``fitted`` holds the old ratings, ``before`` those that are not replaced. Without them, a new rating of a pair that
    was rated before (``again``) does not count, because what it replaces is not known.
    """
    warm = {side: getattr(state, f"{side}_counts") > 0 for side in SIDES}
    if fitted is None or before is None:
        terms = [(added._replace(ratings=added.ratings.take(~again)), known, 1)]
    else:
        terms = [(added, known, 1), (before, known, 1), (fitted, warm, -1)]
    used = left = 0
    for book, rows, sign in terms:
        users, items = book.pairs()
        disliked = book.ratings.values <= state.negative_to
        usable = disliked & np.append(rows["user"], False)[users] & np.append(rows["item"], False)[items]
        used += sign * int(usable.sum())
        left += sign * int((disliked & ~usable).sum())
    return {"disliked": used, "disliked_cold": left}


def _report(added: Book, liked: Book, touched: Touched, known: Masks) -> dict[str, int]:
    """Count the new ratings that are used, and the rows with new ratings; see :meth:`fastmf.Model.update`."""
    users, items = liked.pairs()
    unsolved = int(np.sum(~(known["user"][users] & known["item"][items])))
    found = {"used": len(added.ratings) - unsolved, "unsolved": unsolved}
    for side in SIDES:
        solved = touched.solved[side]
        found[f"new_{side}s"] = int(np.sum(touched.new[side] & known[side]))
        found[f"touched_{side}s"] = int(np.sum(touched.old[side] & solved))
        found[f"touched_{side}s_left"] = int(np.sum(touched.old[side] & ~solved))
    return found
