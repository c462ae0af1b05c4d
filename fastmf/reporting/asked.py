"""What a report is made of: the model and the tables given beside it, read and checked once."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastmf.data import ids
from fastmf.data.features import Features
from fastmf.data.ratings import Ratings
from fastmf.errors import DataError, ParameterError, brief
from fastmf.evaluation.evaluate import reading_for
from fastmf.model.factors import features_of
from fastmf.model.fold_in import read_like_training
from fastmf.model.state import State
from fastmf.model.titles import titles_of
from fastmf.solvers import SOLVERS
from fastmf.solvers.declare import settings_of

TEXT = {"encoding", "decimal"}  # the layout of text that holds for all tables
SAMPLE = 10_000  # users whose lists are made: enough for three digits, and a second or two


@dataclass(frozen=True)
class Asked:
    """The model, and what else was given, or None: ``ratings`` it was fitted to, ``test`` ratings held out, ``titles``
    by item id, ``features`` of items.
    """

    model: State
    ratings: Ratings | None
    test: Ratings | None
    titles: dict[Any, Any] | None
    features: Features | None

    @classmethod
    def read(
        cls, model: State, ratings: Any, test: Any, titles: Any, item_features: Any, reading: dict[str, Any]
    ) -> "Asked":
        """Read the tables; ``reading`` is that of :meth:`Ratings.read`, for both tables of ratings."""
        if ratings is None and test is None and set(reading) - TEXT:
            raise ParameterError(
                f"{min(set(reading) - TEXT)} is for ratings= and test=: leave it out, or give one of them"
            )
        known = None if ratings is None else _like_training(model, ratings, reading)
        held_out = None if test is None else Ratings.read(test, **(reading_for(model, None) | reading))
        text = {name: reading[name] for name in TEXT if name in reading}
        features = model.item_features if item_features is None else features_of(model, item_features, **text)
        names = titles_of(titles, model, **text)
        if names and not any(item in names for item in model.item_ids):
            first, own = brief(next(iter(names))), brief(next(iter(model.item_ids), None))
            raise DataError(
                f"none of the {len(names):,} titles is of an item of the model: ids are {first}, here {own}"
            )
        return cls(model, known, held_out, names, features)

    def names(self, items: np.ndarray) -> list[str]:
        """Return the titles of items, given as indices; ids for items without a title."""
        return self.titled(self.model.arrow_ids("item").take(items).to_pylist())

    def titled(self, item_ids: Iterable[Any]) -> list[str]:
        """Return the titles of items, given as raw ids; ids for items without a title."""
        titles = self.titles or {}
        return [str(titles.get(each) or each) for each in item_ids]

    @property
    def unknown(self) -> int:
        """How many of the ratings the model was not fitted to: their user or item is not in it."""
        if self.ratings is None:
            return 0
        places = (
            ids.lookup(self.model.arrow_ids(side), getattr(self.ratings, f"{side}_ids"), side)
            for side in ("user", "item")
        )
        users, items = places
        return int(np.count_nonzero((users[self.ratings.users] < 0) | (items[self.ratings.items] < 0)))

    def sample(self, users: np.ndarray) -> np.ndarray:
        """Return at most SAMPLE of the users, in order: always the same ones."""
        return np.sort(np.random.default_rng(0).permutation(users)[:SAMPLE])


def _like_training(model: State, ratings: Any, reading: dict[str, Any]) -> Ratings:
    """Read the ratings that a model was fitted to, as they were read then."""
    if isinstance(ratings, Ratings):
        return ratings
    return read_like_training(model, ratings, **({"bad_rows": "drop"} | reading))


def has_setting(model: State, name: str) -> bool:
    """Tell whether the model's solver has a setting, so that advice may name it."""
    solver = SOLVERS.get(str(model.solver.get("name")))
    return solver is not None and name in settings_of(solver)


def share(part: float, whole: float) -> str:
    """Return a share as text: "12.3 %"."""
    percent = 100 * part / whole if whole else 0.0
    if 99.5 <= percent < 100:
        return "over 99 %"
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.2g} %"
