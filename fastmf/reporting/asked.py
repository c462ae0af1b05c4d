"""What a report is made of: the model and the tables given beside it, read and checked once."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastmf.data.features import Features
from fastmf.data.ratings import Ratings
from fastmf.data.ratings import reading as reading_of
from fastmf.evaluation.evaluate import reading_for
from fastmf.model.factors import features_of
from fastmf.model.state import State
from fastmf.model.titles import titles_of
from fastmf.solvers import SOLVERS
from fastmf.solvers.declare import settings_of

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
        known, held_out = (
            None if source is None else Ratings.read(source, **(how | reading))
            for source, how in ((ratings, _like_training(model)), (test, reading_for(model, None)))
        )
        text = {name: reading[name] for name in ("encoding", "decimal") if name in reading}
        features = model.item_features if item_features is None else features_of(model, item_features, **text)
        return cls(model, known, held_out, titles_of(titles, model, **text), features)

    def name(self, item: int) -> str:
        """Return an item's title, or its id if it has none."""
        return self.names(np.array([item]))[0]

    def names(self, items: np.ndarray) -> list[str]:
        """Return the titles of items, given as indices; ids for items without a title."""
        found = self.model.arrow_ids("item").take(items).to_pylist()
        titles = self.titles or {}
        return [str(titles.get(each) or each) for each in found]

    def sample(self, users: np.ndarray) -> np.ndarray:
        """Return at most SAMPLE of the users, in order: always the same ones."""
        return np.sort(np.random.default_rng(0).permutation(users)[:SAMPLE])


def _like_training(model: State) -> dict[str, Any]:
    """Return how to read the ratings that a model was fitted to."""
    how = reading_of(model.implicit, model.positive_from) | {"weight": "", "like": model, "bad_rows": "drop"}
    return how | {"duplicates": "sum" if model.implicit else "last"}


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
