"""The model: predict, recommend, find similar, fold in, explain, save."""

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmf.data import ids
from fastmf.data.write import joined
from fastmf.errors import ParameterError, counted, require_truth
from fastmf.model.explain import explain_score
from fastmf.model.factors import ends_of
from fastmf.model.file import read_model, write_model
from fastmf.model.growing import Growing
from fastmf.model.mapped import Mapped
from fastmf.model.predict import predict_pairs
from fastmf.model.recommend import Ranker, batches, ranking_of
from fastmf.model.similar import similar_rows
from fastmf.model.tables import named, read_pairs
from fastmf.model.titles import titled, titles_of
from fastmf.model.top import Servers
from fastmf.model.vectors import Vectors, vectors_of
from fastmf.runtime.device import Device

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Model(Growing):
    """A fitted matrix factorization. Raw ids go in and come out.

    prediction(u, i) = mean + user_bias[u] + item_bias[i] + user_factors[u] . item_factors[i]

    The attributes are those of :class:`fastmf.model.state.State`.
    """

    def __repr__(self) -> str:
        size = f"{counted(len(self.user_ids), 'user')}, {counted(len(self.item_ids), 'item')}"
        return f"<Model: {self.solver.get('name')}, k={self.k}, {size}, {counted(len(self.history), 'epoch')}>"

    def predict(
        self,
        user_ids: Any,
        item_ids: Any = None,
        *,
        on_unknown: str = "mean",
        std: bool = False,
        columns: str = "ours",
        **reading: Any,
    ) -> "pd.DataFrame":
        """Predict the ratings of pairs, clipped to the rating range.

        Parameters
        ----------
        user_ids, item_ids : raw ids in any container, one of each per pair; or a single one, for all of the others.
            Without item_ids, the first argument is a table of pairs, in any form :meth:`Ratings.read` takes.
        on_unknown : for a pair with an id that has neither training ratings nor side features: "mean" predicts the mean
            plus the bias of the known id, "nan" gives NaN, "raise" raises.
        std : add the standard deviation of ratings around their predictions. The model must hold samples (solver
            gibbs).
        columns : "ours" names the columns user_id and item_id, "given" as they were named in training.
        reading : how to read a table of pairs: user, item, sep, encoding and so on, as for :meth:`Ratings.read`.

        Returns
        -------
        Frame of user_id, item_id, prediction (float32) and, with ``std``, std (float32), in the order given.
        ``.attrs`` counts the pairs with an unknown id: ``unknown_users`` and ``unknown_items``.

        Raises
        ------
        UnknownIdError
            If on_unknown is "raise" and there are such pairs.
        DataError
            If ids are null, or not of the model's type.
        ParameterError
            If users and items differ in length and neither is one, or ``std`` is True and the model has no samples.
        """
        if item_ids is None:
            user_ids, item_ids = read_pairs(self, user_ids, **reading)
        elif reading:
            raise ParameterError(f"{next(iter(reading))} is for a table of pairs: leave it out, or give a table alone")
        return named(predict_pairs(self, user_ids, item_ids, on_unknown, std), self, columns)

    def recommend(
        self,
        user_ids: Any = None,
        n: Any = 10,
        *,
        rank_by: str | None = None,
        items: Any = None,
        exclude: Any = None,
        include_seen: bool = False,
        cold: bool = True,
        titles: Any = None,
        columns: str = "ours",
        device: str | Device = "cpu",
    ) -> "pd.DataFrame":
        """Recommend to each user the n highest-scoring items that the user has not rated in training.

        Parameters
        ----------
        user_ids : one raw id, several, or None for all users.
        n : length of each list, or one length for each user; a list is shorter if there are fewer items to recommend.
        rank_by : "choice" ranks by how likely the user is to choose the item (:mod:`fastmf.model.choice`), "rating" by
            prediction, for implicit feedback by score. "blend" adds a bonus for popularity to predictions (``blend`` of
            :func:`fastmf.fit`). None takes "choice" if the model has learned it, or else "rating".
        items : raw ids to choose from; None for all. Ids without training ratings or features are never chosen.
        exclude : further (user, item) pairs to leave out, in any form that :func:`fastmf.fit` takes; unknown ids in it
            are ignored.
        include_seen : recommend items rated in training, too.
        cold : recommend items of which only side features are known, too.
        titles : titles to show: a dict or pandas series of item id to title, or a table with a column of item ids and a
            column "title" (a path or a frame).
        columns : "ours" names the columns user_id and item_id, "given" as they were named in training.
        device : "cpu", "cuda" (as for :func:`fastmf.fit`) or "auto".

        Returns
        -------
        Frame of user_id, item_id, score (float32), rank (from 1), without items of which nothing is known. Scores by
        "rating" are predictions, not clipped. Other scores are no ratings: a column prediction (clipped) follows.
        ``.attrs["score"]`` says what scores mean; ``.attrs["unknown_items"]`` counts such ``items``. With ``titles``,
        also title, "" if an item has none; ``.attrs["without_title"]`` counts those rows.

        Raises
        ------
        UnknownIdError
            If a user is not in the model (see :meth:`fold_in`), or none of ``items`` may be recommended.
        ParameterError
            If n is less than 1, or the model lacks the seen items, the choice or the blend that the call needs.
        DataError
            If ids are null, or not of the model's type.
        """
        how: dict[str, Any] = {"rank_by": rank_by, "items": items, "exclude": exclude, "include_seen": include_seen}
        how |= {"cold": cold, "device": device}
        names = titles_of(titles, self)
        return named(titled(joined(self.recommend_batches(user_ids, n, **how)), "item_id", names), self, columns)

    def recommend_batches(
        self, user_ids: Any = None, n: Any = 10, *, titles: Any = None, columns: str = "ours", **how: Any
    ) -> "Iterator[pd.DataFrame]":
        """Yield the frame of :meth:`recommend` in batches of several thousand users, to save memory.

        Takes the arguments of :meth:`recommend`, and checks them before the first batch.
        """
        names = titles_of(titles, self)
        every, known = user_ids is None, self.arrow_ids("user")
        users = np.arange(len(known)) if every else ids.require(known, ids.many(user_ids), "user")
        frames = batches(Ranker(self, **how), users, n)
        return (named(titled(frame, "item_id", names), self, columns) for frame in frames)

    def top(
        self, user_id: Any, n: int = 10, *, rank_by: str | None = None, include_seen: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return one user's n best items and their scores as arrays, in a fraction of a millisecond.

        Ids, scores and order are those of :meth:`recommend`. Several threads may call this at once: each runs on one
        core, and the interpreter's lock is free meanwhile. The first call prepares the model, which takes longer.

        Parameters
        ----------
        user_id : one raw id.
        n : length of the list; it is shorter if there are fewer items to recommend.
        rank_by : as for :meth:`recommend`.
        include_seen : recommend items rated in training, too.

        Returns
        -------
        Ids (n,) of the type that NumPy has for them, object for text and others, and scores (n,) float32.

        Raises
        ------
        UnknownIdError
            If the user is not in the model (see :meth:`fold_in`).
        ParameterError
            If n is less than 1, several users are given, or the model lacks what the call needs.
        DataError
            If the id is null, or not of the model's type.
        """
        return self._servers[ranking_of(self, rank_by)].top(user_id, n, include_seen)

    @functools.cached_property
    def _servers(self) -> Servers:
        return Servers(self)

    def similar_items(
        self,
        item_ids: Any,
        n: int = 10,
        *,
        min_count: int | None = None,
        items: Any = None,
        cold: bool = False,
        titles: Any = None,
        columns: str = "ours",
    ) -> "pd.DataFrame":
        """Find the n items most similar to each of the given ones.

        The score is the cosine of the items' factors, measured from the mean item, times a weight below 1 for each of
        the two: sqrt(n / (n + 20)) for n training ratings. :mod:`fastmf.model.similar` says why, and gives the sources.

        Parameters
        ----------
        item_ids : one raw id, or several.
        n : length of each list; a list is shorter if there are fewer items to list.
        min_count : list only items with at least so many training ratings.
        items : raw ids to choose from; None for all.
        cold : list items of which only side features are known, too. Features count as 5 ratings.
        titles, columns : titles of the items found, and the names of columns, as for :meth:`recommend`.

        Returns
        -------
        Frame of item_id, similar_item_id, score (float32, from -1 to 1), rank (from 1), count (int32, the training
        ratings of the similar item, for implicit feedback its observed pairs). ``.attrs["unknown_items"]`` counts the
        ids in ``items`` that cannot be listed.

        Raises
        ------
        UnknownIdError
            If an item is not in the model, or none of ``items`` can be listed.
        ParameterError
            If n is less than 1, or min_count less than 0.
        DataError
            If ids are null, or not of the model's type.
        """
        names = titles_of(titles, self)
        found = similar_rows(self, "item", item_ids, n, min_count=min_count, chosen=items, cold=cold)
        return named(titled(found, "similar_item_id", names), self, columns)

    def similar_users(
        self,
        user_ids: Any,
        n: int = 10,
        *,
        min_count: int | None = None,
        users: Any = None,
        cold: bool = False,
        columns: str = "ours",
    ) -> "pd.DataFrame":
        """Find the n users most similar to each of the given ones; see :meth:`similar_items`."""
        found = similar_rows(self, "user", user_ids, n, min_count=min_count, chosen=users, cold=cold)
        return named(found, self, columns)

    def vectors(self, kind: str = "recommend", *, rank_by: str | None = None) -> Vectors:
        """Return what an index of nearest neighbours stores and is asked, with the biases folded in.

        Rank by inner product: none of the vectors needs another distance.

        Parameters
        ----------
        kind : "recommend" for the items that suit a user, by :meth:`recommend`'s score. By "rating", items are stored
            as (y_i, c_i), and a user asks with (x_u, 1): the mean and the user's bias are left out, being the same for
            all items. "similar" for neighbours: their inner product is the score of :meth:`similar_items` with
            ``cold``, and of :meth:`similar_users`. A row's nearest neighbour need not be the row itself.
        rank_by : as for :meth:`recommend`; "blend" adds the bonus for popularity to c_i. Users without a choice vector
            get popular items from :meth:`recommend`, but equal scores here.

        Returns
        -------
        A named tuple of user_ids and item_ids (as those of the model), users and items (float32, a row for each id),
        for all users and items with ratings or side features. Rows have k + 1 numbers; k for "similar", by "choice",
        and if no item has a bias.

        Raises
        ------
        ParameterError
            If ``kind`` is neither of these, or the model has not learned the ranking.
        """
        return vectors_of(self, kind, rank_by)

    def explain(
        self,
        user_id: Any,
        item_id: Any,
        ratings: Any = None,
        *,
        titles: Any = None,
        columns: str = "ours",
        **reading: Any,
    ) -> "pd.DataFrame":
        """Return the contribution of each of a user's items to an item's score by "rating", by falling size.

        Parameters
        ----------
        user_id, item_id : raw ids.
        ratings : the user's ratings, in any form :meth:`Ratings.read` takes; those of others are ignored. A model of
            implicit feedback without weights needs none if all that the user has rated counts as observed.
        titles, columns : titles of the user's items, and the names of columns, as for :meth:`recommend`.
        reading : how to read the ratings: user, item, rating, sep and so on, as for :meth:`Ratings.read`.

        Returns
        -------
        Frame of item_id and contribution (float64). ``.attrs["score"]`` is the item's prediction, not clipped, for the
        user folded in from these ratings; for implicit feedback it is the model's own score, up to the error of
        conjugate gradients. ``.attrs["rest"]`` is the part of the score that no item contributes: the mean, the item's
        bias and the user's pull. Disliked items contribute 0; they lower what the others contribute.
        ``.attrs["user_features"]`` is what each feature of the user adds to the pull, and ``.attrs["item_features"]``
        what each feature of the item says of this user's score, which is part of all of the above: dicts by the names
        of features, if the model has such features.

        Raises
        ------
        ParameterError
            If ratings are needed but not given, or the solver does not solve a linear system for users (gibbs).
        UnknownIdError
            If the user or the item is not known.
        """
        names = titles_of(titles, self)
        found = explain_score(self, user_id, item_id, ratings, reading)
        return named(titled(found, "item_id", names), self, columns)

    def factors(
        self,
        n: int = 5,
        *,
        of: str = "items",
        axes: int = 6,
        min_count: int | None = None,
        titles: Any = None,
        item_features: Any = None,
        columns: str = "ours",
    ) -> "pd.DataFrame":
        """Describe what the factors mean: who and what is at both ends of each axis.

        Factors are defined up to a rotation, so they are first turned to axes of their own, which no scaling of users
        against items changes (:mod:`fastmf.model.axes`). The model stays as it is.

        Parameters
        ----------
        n : rows at each end of an axis.
        of : "items" or "users" at the ends; or "categories" of items that are over-represented there, tested by
            permutation, so that noise is not named (:mod:`fastmf.model.enrichment`).
        axes : number of axes, by falling share. Axis 0 comes first: the biases. Those of items are taken beyond what
            their popularity explains. There is none in a model without biases.
        min_count : show only rows with at least so many training ratings; None takes 20, or 1 if too few have them.
        titles : titles of items, as for :meth:`recommend`.
        item_features : a table of side features, for the categories; None takes those the model was fitted with.
        columns : as for :meth:`recommend`.

        Returns
        -------
        For items and users, a frame of axis (int32), share (of the variance of ratings that the axis explains, of
        scores for implicit feedback), end ("low" or "high"), rank (from 1, the outermost), item_id or user_id,
        coordinate (float64), count (of training ratings) and, for items with ``titles``, title. An item's coordinate is
        what a user one standard deviation along the axis adds to its rating; a user's is in standard deviations.

        For categories, a frame of axis, end, category (such as "genres=Drama"), items (how many of the outermost tenth
        of items are of it), expected (how many would be by chance, at the same popularity), p_value (corrected for the
        number of categories and of ends).

        Raises
        ------
        ParameterError
            If ``of`` is none of these, n is less than 1, or there are no features for the categories.
        DataError
            If a table of titles or features cannot be used.
        """
        names = titles_of(titles, self)
        found = ends_of(self, n, of=of, axes=axes, min_count=min_count, item_features=item_features)
        return named(titled(found, "item_id", names) if of == "items" else found, self, columns)

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        ratings: Any = None,
        test: Any = None,
        titles: Any = None,
        item_features: Any = None,
        overwrite: bool = False,
        **reading: Any,
    ) -> None:
        """Write a report for people: one HTML file with pictures, tables, and what to do about what they show.

        It shows the data and where its rows went, the learning curve, errors and lists beside simple baselines, the
        long tail, what the factors mean, a map of the items, five users, settings and speed. The file makes no request
        to anywhere. What is not given is left out, and the report says what would show it.

        Parameters
        ----------
        path : the file to write.
        ratings : the ratings the model was fitted to, for histories and reasons.
        test : held-out ratings, for errors and lists.
        titles : titles of items, as for :meth:`recommend`.
        item_features : a table of side features, such as genres, to describe axes and colour the map; None takes those
            the model was fitted with.
        overwrite : replace the file if it exists.
        reading : how to read both tables of ratings: user, item, rating, sep and so on, as for :meth:`Ratings.read`.

        Raises
        ------
        DataError
            If a table cannot be used.
        ParameterError
            If the name does not end in .html, or ``reading`` is for tables that are not given.
        DeviceUnavailableError
            If matplotlib or Jinja2 is not installed (the extra ``report``).
        OSError
            If the file exists and overwrite is False, or writing fails.
        """
        from fastmf.reporting.report import write_report

        tables = {"ratings": ratings, "test": test, "titles": titles, "item_features": item_features}
        write_report(self, path, tables, overwrite, reading)

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the model to one file, whole or not at all; the format is described in :mod:`fastmf.model.file`.

        Raises
        ------
        OSError
            If the path exists and overwrite is False, or writing fails; an existing file is then left unchanged.
        DataError
            If the model could not be loaded again, because it was made by hand with NaN among its factors, say.
        """
        write_model(self, path, overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = False) -> "Model":
        """Read a model that :meth:`save` wrote, and check all of it.

        Parameters
        ----------
        path : its file.
        mmap : map the file instead, in milliseconds: only what is used is read. Processes that map the same file share
            the memory. The header, shapes and types are checked at once, the values of an array when it is first used.
            Saving a new model over the file is safe, since that replaces the file as a whole. The file must not be
            written to or cut short: see SECURITY.md. Ids, seen items and side features are copied into memory when they
            are first used.

        Raises
        ------
        ModelFormatError
            If the file is not a model file, is damaged, or was written in another format. With ``mmap``, using the
            model raises it, too, when that finds an array damaged.
        OSError
            If there is no such file.
        """
        require_truth("mmap", mmap)
        return MappedModel.of(path) if mmap else cls(**read_model(path))


class MappedModel(Mapped, Model):
    """A model whose arrays stay in its file; see :meth:`Model.load`."""

    of_memory = Model
