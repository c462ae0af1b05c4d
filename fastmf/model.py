"""The model: what can be asked of a fit. Raw ids go in and come out.

prediction(u, i) = mean + user_bias[u] + item_bias[i] + user_factors[u] . item_factors[i]
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa

from fastmf import folding, ids, ranking, tables, writing
from fastmf.device import Device, resolve
from fastmf.errors import DivergenceError, ParameterError, UnknownIdError
from fastmf.explaining import contributions
from fastmf.extras import Baseline, Prior, Samples
from fastmf.fitted import Fitted
from fastmf.kernels.als import Side, filled_up
from fastmf.kernels.bias import BIAS, bias_tasks
from fastmf.kernels.compress import Compressed, even
from fastmf.kernels.residual import ESTIMATE, PAIRS_PER_TASK, Pairs, Scale
from fastmf.ratings import Ratings, standardised
from fastmf.runtime import launch
from fastmf.uncertainty import deviations

BASELINE_REG = 3.0  # weight of the squared biases of the baseline, the default of all solvers


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Model(Fitted):
    """A fitted matrix factorization. Raw ids go in and come out; the attributes are those of :class:`Fitted`."""

    @property
    def implicit(self) -> bool:
        """Whether it was fitted to implicit feedback: predictions are scores then, around 1 for what is observed."""
        return "alpha0" in self.solver

    def known_users(self, user_ids: Any) -> np.ndarray:
        """Find the index of each user: -1 where the model knows nothing of it, because the id is unknown or cold."""
        return _warm(ids.lookup(self.user_ids, user_ids, "user"), self.user_counts)

    def known_items(self, item_ids: Any) -> np.ndarray:
        """Find the index of each item; see :meth:`known_users`."""
        return _warm(ids.lookup(self.item_ids, item_ids, "item"), self.item_counts)

    def predict(self, user_ids: Any, item_ids: Any, *, on_unknown: str = "mean", std: bool = False) -> pd.DataFrame:
        """Predict the ratings of pairs, clipped to the rating range.

        Parameters
        ----------
        user_ids, item_ids : raw ids, one of each for a pair, in any container.
        on_unknown : for a pair with an id the model has no ratings of: "mean" predicts the mean plus the bias of the
            known id, "nan" gives NaN, "raise" raises.
        std : whether to say how far ratings are from their predictions, which a model with samples can (solver gibbs).

        Returns
        -------
        Frame of user_id, item_id, prediction (float32), in the order given, and with ``std`` the standard deviation of
        the rating around it; ``.attrs`` counts the pairs with an ``unknown_users`` and ``unknown_items``.

        Raises
        ------
        UnknownIdError
            If on_unknown is "raise" and there are such pairs.
        DataError
            If ids are null or of another type than the model's.
        """
        if on_unknown not in ("mean", "nan", "raise"):
            raise ParameterError(f"on_unknown is {on_unknown!r}: choose mean, nan or raise")
        if std:
            self._require_samples()
        users = ids.as_column(self.user_ids, ids.many(user_ids), "user")
        items = ids.as_column(self.item_ids, ids.many(item_ids), "item")
        if len(users) != len(items):
            raise ParameterError(f"{len(users):,} user ids and {len(items):,} item ids: give one of each for a pair")
        pairs = Pairs(self.known_users(users), self.known_items(items))
        unknown = (pairs.users < 0) | (pairs.items < 0)
        if on_unknown == "raise" and unknown.any():
            first = int(np.flatnonzero(unknown)[0])
            pair = f"user {users[first].as_py()!r}, item {items[first].as_py()!r}"
            raise UnknownIdError(
                f"{int(unknown.sum()):,} of {len(unknown):,} pairs have an id without training ratings, the first"
                f" {pair}: leave them out, or let on_unknown be mean or nan"
            )
        out = self.estimates(pairs)
        if on_unknown == "nan":
            out[unknown] = np.nan
        frame = pd.DataFrame({"user_id": ids.to_pandas(users), "item_id": ids.to_pandas(items), "prediction": out})
        if std:
            frame["std"] = np.where(np.isnan(out), np.float32(np.nan), self.deviations(pairs))
        frame.attrs = {"unknown_users": int(np.sum(pairs.users < 0)), "unknown_items": int(np.sum(pairs.items < 0))}
        return frame

    def estimates(self, pairs: Pairs) -> np.ndarray:
        """Predict ratings (n,) float32 by dense index (-1: unknown), clipped to the rating range."""
        out, scale = np.empty(len(pairs.users), np.float32), Scale(self.mean, *self.rating_range)
        tasks = even(len(out), PAIRS_PER_TASK)
        launch(ESTIMATE, resolve("cpu"), tasks, pairs, self.user_side, self.item_side, scale, out)
        return out

    def deviations(self, pairs: Pairs) -> np.ndarray:
        """Find the standard deviations (n,) float32 of ratings around their predictions, by dense index (-1: unknown).

        Raises
        ------
        ParameterError
            If the model has no samples.
        """
        samples, prior = self._require_samples()
        warm = self.user_counts > 0, self.item_counts > 0
        return deviations(samples, prior, pairs, warm) * np.float32(self.scale)

    def _require_samples(self) -> tuple[Samples, Prior]:
        if self.samples is None or self.prior is None:
            raise ParameterError(
                f"a model of solver {self.solver.get('name')!r} without samples cannot say how sure it is: fit one with"
                " solver gibbs, and kept of at least 1"
            )
        return self.samples, self.prior

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
        exclude : further (user, item) pairs to leave out, in anything :func:`fastmf.tables.read` takes; unknown ids in
            it change nothing.
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
        return writing.joined(self.lists_of(users, n, device=device, **ways))

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
        batch: int = 1 << 14,
    ) -> Iterator[pd.DataFrame]:
        """Yield the frames of :meth:`recommend` for users by dense index, so many users a time."""
        where, lengths, bonus = resolve(device), ranking.lengths(n, len(users)), self.bonus(rank_by)
        chosen, leave = self._candidates(items), self._left_out(exclude, include_seen)
        for start in range(0, max(len(users), 1), batch):
            some, length = users[start : start + batch], lengths[start : start + batch]
            best = self.best_items(some, int(length.max(initial=1)), leave(some), where, bonus, chosen)
            yield _lists(("user_id", self.user_ids, some), ("item_id", self.item_ids, best[0]), best[1], length)

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
        (n_items,) bool come. Lists that run out of items end in -1 and -inf.
        """
        known = users >= 0
        side = Side(
            np.where(known[:, None], self.user_factors[users], np.float32(0)),
            np.where(known, self.user_bias[users], np.float32(0)) + np.float32(self.mean),
        )
        there = self.item_counts > 0 if chosen is None else chosen & (self.item_counts > 0)
        warm = np.where(there, self.item_bias if bonus is None else self.item_bias + bonus, np.float32(-np.inf))
        return ranking.best(side, Side(self.item_factors, warm), excluded, n, device)

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
            table = tables.read(exclude, {"user": None, "item": None})
            of = ids.lookup(self.user_ids, table.column(0), "user")
            what = ids.lookup(self.item_ids, table.column(1), "item")
            known = (of >= 0) & (what >= 0)
            lists.append(ranking.compress(of[known], what[known], len(self.user_ids)))
        return lambda users: ranking.left_out(users, lists)

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
        found, scores = ranking.nearest(self.item_factors, self.item_counts, wanted, n)
        return _lists(("item_id", self.item_ids, wanted), ("similar_item_id", self.item_ids, found), scores)

    def similar_users(self, user_ids: Any, n: int = 10) -> pd.DataFrame:
        """Find the n users nearest to each of the given ones; see :meth:`similar_items`."""
        wanted = ids.require(self.user_ids, ids.many(user_ids), "user")
        found, scores = ranking.nearest(self.user_factors, self.user_counts, wanted, n)
        return _lists(("user_id", self.user_ids, wanted), ("similar_user_id", self.user_ids, found), scores)

    def fold_in(self, ratings: Any, *, device: str | Device = "cpu") -> Self:
        """Make a model of the same items for the users of new ratings: one exact solve for each user.

        With links, users are pulled to what their items say of them; by a Bayesian model they get their means given
        the model's items, and samples of their own.

        Parameters
        ----------
        ratings : anything :meth:`Ratings.read` takes. Ratings of items the model does not know are left out, and
            counted in ``rows["unknown_items"]`` of the result.
        device : "cpu", "cuda" (as for :func:`fastmf.fit`) or "auto"; what Bayesian models need runs on the CPU only.

        Raises
        ------
        ParameterError
            If the solver's hyper-parameters do not say how.
        DataError
            As :meth:`Ratings.read`.
        """
        where, ratings = resolve(device), self._read(ratings)
        rated = entries = self._known_entries(ratings)
        if self.implicit:
            entries = self._known_entries(ratings.observed(self.solver.get("positive_from")))
        items = Side(self.item_factors, self.item_bias / np.float32(self.scale))
        users, samples, singular = folding.fold(entries, items, self.item_counts, self.solver, self.extras, where)
        if singular:
            warnings.warn(
                f"the equations of {singular:,} users were singular and were solved with a jitter: fit the model with"
                " reg0 > 0",
                stacklevel=2,
            )
        scale = np.float32(self.scale)
        with np.errstate(over="ignore"):  # what runs over is found next
            users = Side(users.factors * scale, users.bias * scale)
        lost = folding.lost_rows(users)
        if len(lost):
            first = ratings.user_ids[int(lost[0])].as_py()
            raise DivergenceError(
                f"{len(lost):,} users have ratings that lead beyond float32, the first {first!r}: rescale the ratings"
            )
        used = len(rated.values)
        return replace(
            self,
            user_ids=ratings.user_ids,
            user_factors=users.factors,
            user_bias=users.bias,
            user_counts=np.diff(entries.indptr).astype(np.int32),
            seen=(rated.indptr, rated.indices),
            rows={**ratings.rows, "used": used, "unknown_items": len(ratings) - used},
            baseline=self._baseline_of(entries),
            samples=samples,
        )

    def explain(self, user_id: Any, item_id: Any, ratings: Any = None) -> pd.DataFrame:
        """Say what each of a user's items contributes to the score of an item, known or not, largest first.

        Parameters
        ----------
        user_id, item_id : raw ids.
        ratings : the user's ratings, in anything :meth:`Ratings.read` takes; those of others are left out. A model of
            implicit feedback without ``positive_from`` knows them, and needs none.

        Returns
        -------
        Frame of item_id and contribution (float64). Its ``.attrs`` have the ``score``, that of the user folded in from
        these ratings and not clipped, and the ``rest`` of it, which no item of the user contributes: mean, the item's
        bias and what is known beforehand. For implicit feedback that is the model's own score.

        Raises
        ------
        ParameterError
            If ratings are needed, or users do not solve a linear system (solver gibbs).
        UnknownIdError
            If the user or the item is not known.
        """
        if self.prior is not None:
            raise ParameterError("a model of solver 'gibbs' cannot explain its scores: fit one with als or implicit")
        item = int(ids.require(self.item_ids, ids.many(item_id), "item")[0])
        entries = self._entries_of(user_id, ratings)
        items = Side(self.item_factors, self.item_bias / np.float32(self.scale))
        table, given = filled_up(self.item_factors), (self.item_counts, self.solver, self.links, resolve("cpu"))
        rules = folding.rules(entries, table, self.k, *given)
        rated = Side(items.factors[entries.indices], items.bias[entries.indices])
        found, beforehand = contributions(rated, entries, items.factors[item], *rules)
        order = np.argsort(-found, kind="stable")
        frame = pd.DataFrame(
            {
                "item_id": ids.to_pandas(self.item_ids.take(pa.array(entries.indices[order]))),
                "contribution": found[order] * self.scale,
            }
        )
        rest = self.mean + float(self.item_bias[item]) + beforehand * self.scale
        frame.attrs = {"score": rest + float(frame["contribution"].sum()), "rest": rest}
        return frame

    def _entries_of(self, user_id: Any, ratings: Any) -> Compressed:
        """Find what a user has rated, or what was observed of it: one row."""
        wanted = ids.as_column(self.user_ids, ids.many(user_id), "user")
        if ratings is None:
            known = self.implicit and self.solver.get("positive_from") is None and self.weight is None
            if not known or self.seen is None:
                raise ParameterError("the model does not hold what the user has rated: give the user's ratings")
            user = int(ids.require(self.user_ids, wanted, "user")[0])
            own = ranking.left_out(np.array([user]), [Compressed(*self.seen, np.empty(0, np.float32))])
            return Compressed(own.indptr, own.indices, np.ones(len(own.indices), np.float32))
        data = self._read(ratings)
        if self.implicit:
            data = data.observed(self.solver.get("positive_from"))
        user = int(ids.require(data.user_ids, wanted, "user")[0])
        entries = self._known_entries(data)
        part = slice(entries.indptr[user], entries.indptr[user + 1])
        weights = None if entries.weights is None else entries.weights[part]
        return Compressed(np.array([0, part.stop - part.start]), entries.indices[part], entries.values[part], weights)

    def _read(self, ratings: Any) -> Ratings:
        """Read ratings as those were read that the model was fitted to."""
        return Ratings.read_observed(ratings, self.weight) if self.implicit else Ratings.read(ratings)

    def _baseline_of(self, entries: Compressed) -> Baseline | None:
        """Fit new users' biases to those of the items."""
        if self.baseline is None:
            return None
        bias = np.empty(len(entries.indptr) - 1, np.float32)
        items, scale = self.baseline.item_bias, np.float32(self.scale)
        launch(BIAS, resolve("cpu"), bias_tasks(entries.indptr), entries, items / scale, BASELINE_REG, bias)
        return Baseline(bias * scale, items)

    def _known_entries(self, ratings: Ratings) -> Compressed:
        """Group standardised ratings by user, by the model's item indices, leaving out items it knows nothing of."""
        items = self.known_items(ratings.item_ids)[ratings.items]
        known = items >= 0
        indptr = np.append(0, np.cumsum(np.bincount(ratings.users[known], minlength=ratings.n_users)))
        values = standardised(ratings.values[known], self.mean, self.scale)
        return Compressed(indptr, items[known], values, None if ratings.weights is None else ratings.weights[known])


def _warm(indices: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Make cold indices unknown (-1). Index -1 reads the 0 appended, and so stays what it is."""
    return np.where(np.append(counts, 0)[indices] > 0, indices, -1).astype(np.int32)


def _lists(
    query: tuple[str, pa.Array, np.ndarray],
    found: tuple[str, pa.Array, np.ndarray],
    scores: np.ndarray,
    lengths: np.ndarray | None = None,
) -> pd.DataFrame:
    """Write top-n lists as a frame of query id, found id, score and rank; places without an item are left out."""
    (query_name, query_ids, wanted), (found_name, found_ids, rows) = query, found
    taken = rows >= 0
    if lengths is not None:
        taken &= np.arange(rows.shape[1]) < lengths[:, None]
    line, place = np.nonzero(taken)
    return pd.DataFrame(
        {
            query_name: ids.to_pandas(query_ids.take(pa.array(wanted[line]))),
            found_name: ids.to_pandas(found_ids.take(pa.array(rows[taken]))),
            "score": scores[taken],
            "rank": (place + 1).astype(np.int32),
        }
    )
