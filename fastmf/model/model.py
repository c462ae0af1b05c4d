"""The model: what can be asked of a fit. Raw ids go in and come out.

prediction(u, i) = mean + user_bias[u] + item_bias[i] + user_factors[u] . item_factors[i]
"""

import warnings
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa

from fastmf.data import ids
from fastmf.data.ratings import Ratings, reading, standardised
from fastmf.errors import DataError, DivergenceError, ParameterError, UnknownIdError
from fastmf.kernels.bias import BIAS, bias_tasks
from fastmf.kernels.residual import ESTIMATE, PAIRS_PER_TASK
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Compressed, Pairs, Scale, Side
from fastmf.kernels.vectors import filled_up
from fastmf.model import topn
from fastmf.model.explain import contributions
from fastmf.model.fold_in import fold, lost_rows, rules
from fastmf.model.learned import Baseline, Prior, Samples
from fastmf.model.recommend import Listing
from fastmf.model.uncertainty import deviations
from fastmf.runtime.device import Device, resolve
from fastmf.runtime.launch import launch

BASELINE_REG = 3.0  # weight of the squared biases of the baseline, the default of all solvers


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Model(Listing):
    """A fitted matrix factorization. Raw ids go in and come out; the attributes are those of :class:`Fitted`."""

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
            entries = self._known_entries(ratings.observed(self.positive_from))
        items = Side(self.item_factors, self.item_bias / np.float32(self.scale))
        users, samples, singular = fold(entries, items, self.item_counts, self.solver, self.extras, where)
        if singular:
            warnings.warn(
                f"the equations of {singular:,} users were singular and were solved with a jitter: fit the model with"
                " reg0 > 0",
                stacklevel=2,
            )
        scale = np.float32(self.scale)
        with np.errstate(over="ignore"):  # what runs over is found next
            users = Side(users.factors * scale, users.bias * scale)
        lost = lost_rows(users)
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
        items_found = ids.require(self.item_ids, ids.many(item_id), "item")
        if len(items_found) != 1:
            raise ParameterError(f"{len(items_found):,} items are given: explain one at a time")
        item = int(items_found[0])
        entries = self._entries_of(user_id, ratings)
        items = Side(self.item_factors, self.item_bias / np.float32(self.scale))
        table, given = filled_up(self.item_factors), (self.item_counts, self.solver, self.links, resolve("cpu"))
        own = rules(entries, table, self.k, *given)
        rated = Side(items.factors[entries.indices], items.bias[entries.indices])
        found, beforehand = contributions(rated, entries, items.factors[item], *own)
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
        if len(wanted) != 1:
            raise ParameterError(f"{len(wanted):,} users are given: explain one at a time")
        if ratings is None:
            known = self.implicit and self.positive_from is None and self.weight is None
            if not known or self.seen is None:
                raise ParameterError("the model does not hold what the user has rated: give --ratings (ratings=)")
            user = int(ids.require(self.user_ids, wanted, "user")[0])
            own = topn.left_out(np.array([user]), [Compressed(*self.seen, np.empty(0, np.float32))])
            return Compressed(own.indptr, own.indices, np.ones(len(own.indices), np.float32))
        data = self._read(ratings)
        if self.implicit:
            data = data.observed(self.positive_from)
        user = int(ids.lookup(data.user_ids, wanted, "user")[0])
        if user < 0:
            raise UnknownIdError(f"user {wanted[0].as_py()!r} is not in these ratings: give ratings of this user")
        entries = self._known_entries(data)
        part = slice(entries.indptr[user], entries.indptr[user + 1])
        weights = None if entries.weights is None else entries.weights[part]
        return Compressed(np.array([0, part.stop - part.start]), entries.indices[part], entries.values[part], weights)

    def _read(self, ratings: Any) -> Ratings:
        """Read ratings as those were read that the model was fitted to.

        Raises
        ------
        DataError
            If Ratings are given that have weights and the others had none, or the other way round.
        """
        how = reading(self.implicit, self.positive_from is not None)
        found = Ratings.read(ratings, weight=self.weight or None, duplicates=self.duplicates, **how)
        if (found.weights is None) != (self.weight is None):
            less, more = "the model was fitted to ratings with", "these ratings have"
            what = f"{less} weights, and {more} none" if self.weight else f"{less}out weights, and {more} some"
            raise DataError(f"{what}: read them as the others were (weight=)")
        return found

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
