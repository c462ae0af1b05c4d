"""A model that takes new ratings, new users and new items: fold in, add, update."""

from dataclasses import dataclass, replace
from typing import Any, Self

from fastmf.model.fold_in import fold_users
from fastmf.model.grow import add_rows, fold_items
from fastmf.model.state import State
from fastmf.model.update import update_model
from fastmf.runtime.device import Device


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Growing(State):
    """The part of :class:`fastmf.Model` that makes a new model of this one and of more data."""

    def fold_in(self, ratings: Any, *, features: Any = None, device: str | Device = "cpu", **reading: Any) -> Self:
        """Return a model of the users in new ratings, with the same items. Each user is solved for exactly.

        With links, users are pulled towards what the links predict. In a Bayesian model, users get their posterior
        means, given the model's items, and samples of their own.

        Lists also leave out what users whom the model knows have rated before. These old ratings do not count in the
        solution unless they are given again, of which a warning is given: see :meth:`update` for the alternative.

        Parameters
        ----------
        ratings : anything :meth:`Ratings.read` takes. Ratings of items the model does not know are left out, and
            counted in ``rows["unknown_items"]`` of the result.
        features : a table of side features of these users, if the model was fitted with user features: the same columns
            as then. Users without features are pulled to zero.
        device : "cpu", "cuda" (as for :func:`fastmf.fit`) or "auto"; Bayesian models use the CPU.
        reading : further arguments of :meth:`Ratings.read`: user, item, rating, columns, sep and so on. Columns are
            found by the names that they had in training, too.

        Raises
        ------
        ParameterError
            If the model has no rule for new users, or takes no user features.
        DataError
            As :meth:`Ratings.read`.
        DivergenceError
            If factors or biases overflow float32.
        """
        return replace(self, **fold_users(self, ratings, features, device, reading))

    def fold_in_items(
        self, ratings: Any, *, features: Any = None, device: str | Device = "cpu", **reading: Any
    ) -> Self:
        """Return a model of the same users, and of the old items and those in new ratings.

        Each new item is solved for exactly from its ratings by known users, as :meth:`fold_in` solves for users. Users
        keep their factors. The new ratings count as training ratings: they are seen, and among the counts of rows.

        Parameters
        ----------
        ratings : ratings of items that the model does not know, in any form :meth:`Ratings.read` takes. Ratings by
            users it does not know are left out, and counted in ``rows["unknown_users"]`` of the result. Items that are
            only disliked stay cold, as in a fit.
        features : a table of side features of these items, if the model was fitted with item features. Items in the
            table that have no ratings are added, too, as by :meth:`add_items`; items of the model keep their features.
        device, reading : as for :meth:`fold_in`.

        Raises
        ------
        DataError
            If an item has training ratings already, ids are of another type, or as :meth:`Ratings.read`.
        ParameterError
            If the model has no rule for new items.
        DivergenceError
            If factors or biases overflow float32.
        """
        return fold_items(self, ratings, features, device, reading)

    def add_items(self, features: Any) -> Self:
        """Return a model of the same users, and of the old items and those in a table of side features.

        The factors and biases of the new items are what their features say: see :mod:`fastmf.solvers.features`.

        Parameters
        ----------
        features : a table with a column of item ids and the columns of the item features that the model was fitted
            with, in any form that ``item_features`` of :func:`fastmf.fit` takes.

        Raises
        ------
        ParameterError
            If the model was fitted without item features.
        DataError
            If an item is in the model already, ids are of another type, or as :meth:`Features.read`.
        """
        return add_rows(self, "item", features)

    def add_users(self, features: Any) -> Self:
        """Return a model of the same items, and of the old users and those in a table; see :meth:`add_items`."""
        return add_rows(self, "user", features)

    def update(
        self,
        new: Any,
        ratings: Any = None,
        *,
        item_features: Any = None,
        user_features: Any = None,
        device: str | Device = "cpu",
        **reading: Any,
    ) -> Self:
        """Return the model with new ratings added, without fitting it again. Mean and scale stay, and the history.

        New users and items are solved for from the new ratings. With the old ratings, every user and item with new
        ratings is solved for from all of its ratings; without them, known ones keep their factors, because a model
        holds what was rated, but not how. In a Bayesian model, known ones move by what the new ratings change. All new
        ratings are seen, and among the counts of rows.

        Parameters
        ----------
        new : new ratings, in any form :meth:`Ratings.read` takes. Where a pair was rated before, the new rating counts.
        ratings : the ratings that the model was fitted to, and updated with since. Without them, a warning counts the
            known users and items with new ratings.
        item_features, user_features : tables of side features, if the model was fitted with such features. Items and
            users that the model does not know are added first, as by :meth:`add_items`, so new ones are solved for with
            their features. They need no new ratings. Those that the model knows keep the features that it holds.
        device, reading : as for :meth:`fold_in`.

        Returns
        -------
        A model whose ``rows`` count, besides rating rows, the users (and items) with new ratings: ``new_users``,
        ``touched_users``, which were solved for again, and ``touched_users_left``, which keep their factors; the pairs
        that were rated before, ``replaced``; the new ratings that are left out because neither id had others,
        ``unsolved``; and the old ratings of ids that the model does not know, ``unknown``.

        Raises
        ------
        DataError
            If there are no new ratings, ids are of another type, the old ratings lack some that the model was fitted
            to, or as :meth:`Ratings.read`.
        ParameterError
            If the model has no rule for new users or items, or takes no such features.
        DivergenceError
            If factors or biases overflow float32.
        """
        return update_model(self, new, ratings, {"item": item_features, "user": user_features}, device, reading)
