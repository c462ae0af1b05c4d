"""evaluate: how good a model's predictions and lists are, beside what biases and popularity alone do."""

from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np

from fastmf.data import ids
from fastmf.data.ratings import Ratings, reading
from fastmf.errors import ParameterError
from fastmf.evaluation.metrics import RANKING, novelty, reach
from fastmf.kernels.residual import ERRORS, PAIRS_PER_TASK
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Pairs, Scale, Side
from fastmf.model import topn
from fastmf.model.model import Model
from fastmf.runtime.device import resolve
from fastmf.runtime.launch import launch
from fastmf.runtime.memory import require_memory

ACTIVITY = (0, 1, 6, 21, 101, np.inf)  # bounds of the bands of users, by their training ratings
LEVELS = (50, 80, 90, 95)  # of 100 ratings in an interval


def evaluate(
    model: Model, ratings: Any, *, n: int = 10, relevant_from: float | None = None, rank_by: str = "rating"
) -> dict[str, Any]:
    """Measure a model on held-out ratings.

    Parameters
    ----------
    model : the model.
    ratings : held-out ratings, in anything :meth:`Ratings.read` takes.
    n : length of the lists that are ranked.
    relevant_from : an item is relevant to a user who rates it at least this; when left out every held-out item is, or
        of those with ratings what a model of implicit feedback takes for observed.
    rank_by : what lists are ranked by, as for :meth:`Model.recommend`.

    Returns
    -------
    A dict of

    * ``pairs``, ``rmse``, ``mae``: over all pairs; an id without training ratings is predicted by the mean plus the
      other id's bias, and predictions are clipped to the rating range;
    * ``rmse_of_biases``: the same by biases fitted without factors, which the factors have to beat; None for a model
      file of before format 3;
    * ``trained_pairs``: those the model was trained on, whose errors flatter it and which its lists leave out; None if
      it does not hold what users have rated; ``unknown_users``, ``unknown_items``: the pairs with such an id;
    * ``by_activity``: ``pairs``, ``rmse`` and ``rmse_of_biases`` of the pairs whose user has so many training ratings;
    * ``coverage``: for models that know how sure they are, how many of the ratings are in the intervals around their
      predictions that should hold 50, 80, 90 and 95 of 100;
    * ``precision``, ``recall``, ``ndcg``, ``map``, ``mrr``, ``hit_rate`` of lists of ``n``, means over
      ``ranked_users``; candidates are all items the user has not rated in training, users without a relevant item are
      left out and counted in ``users_without_relevant``. None where nobody has one, or the model does not hold what
      users have rated. Relevant items that the model does not know count, and cannot be found;
    * ``reach`` and ``novelty`` of these lists, see :mod:`fastmf.evaluation.metrics`;
    * ``popularity``: all these for lists of what has most training ratings, which a model has to beat.

    Of implicit feedback there are no ratings to predict: ``pairs``, the unknown and what is said of lists are all.

    Raises
    ------
    DataError
        As :meth:`Ratings.read`.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ParameterError(f"n is {n!r}: give an integer of at least 1")
    if relevant_from is not None and not np.isfinite(relevant_from):
        raise ParameterError(f"relevant_from is {relevant_from}: give a rating")
    ratings, bonus = Ratings.read(ratings, **reading_for(model, relevant_from)), model.bonus(rank_by)
    if relevant_from is None and ratings.rated:
        relevant_from = model.positive_from
    return errors(model, ratings) | ranked(model, ratings, n, relevant_from, bonus)


def reading_for(model: Model, relevant_from: float | None) -> dict[str, Any]:
    """Say how held-out ratings are read; where nothing depends on them, a pair may come several times."""
    how = reading(model.implicit, model.positive_from is not None or relevant_from is not None)
    return how | ({"duplicates": "sum"} if how.get("rating") == "" else {})


def errors(model: Model, ratings: Ratings) -> dict[str, Any]:
    """Measure predictions alone: the part of :func:`evaluate` that ranks nothing, ``pairs`` to ``coverage``."""
    users, items = model.known_users(ratings.user_ids), model.known_items(ratings.item_ids)
    pairs = Pairs(users[ratings.users], items[ratings.items])
    facts = {
        "pairs": len(ratings),
        "trained_pairs": _trained(model, ratings),
        "unknown_users": int(np.count_nonzero(pairs.users < 0)),
        "unknown_items": int(np.count_nonzero(pairs.items < 0)),
    }
    if model.implicit:
        return facts
    squares, absolute = _sums(model, pairs, ratings.values, model.user_side, model.item_side)
    found: dict[str, Any] = {
        **facts,
        "rmse": float(np.sqrt(squares / len(ratings))),
        "mae": float(absolute / len(ratings)),
        "rmse_of_biases": _rmse_of_biases(model, pairs, ratings.values),
        "by_activity": _by_activity(model, pairs, ratings.values),
    }
    return found | ({} if model.samples is None else {"coverage": _coverage(model, pairs, ratings.values)})


def _trained(model: Model, ratings: Ratings) -> int | None:
    """Count the pairs that the model was trained on; None where it does not know."""
    if model.seen is None:
        return None
    users = ids.lookup(model.user_ids, ratings.user_ids, "user")[ratings.users]
    items = ids.lookup(model.item_ids, ratings.item_ids, "item")[ratings.items]
    return topn.overlap(model.seen, users, items, len(model.item_ids))


def _sums(model: Model, pairs: Pairs, values: np.ndarray, users: Side, items: Side) -> tuple[float, float]:
    """Sum the squared and the absolute errors of clipped predictions."""
    tasks, scale = even(len(values), PAIRS_PER_TASK), Scale(model.mean, *model.rating_range)
    squares, absolute = launch(ERRORS, resolve("cpu"), tasks, pairs, values, users, items, scale)
    return float(squares), float(absolute)


def _rmse_of_biases(model: Model, pairs: Pairs, values: np.ndarray) -> float | None:
    """Measure the biases that were fitted without factors."""
    if model.baseline is None:
        return None
    users, items = (Side(np.zeros((len(bias), 1), np.float32), bias) for bias in model.baseline)
    return float(np.sqrt(_sums(model, pairs, values, users, items)[0] / len(values)))


def _by_activity(model: Model, pairs: Pairs, values: np.ndarray) -> dict[str, dict[str, Any]]:
    """Measure predictions by how many training ratings the pairs' users have."""
    counts, found = np.append(model.user_counts, 0)[pairs.users], {}
    for low, high in pairwise(ACTIVITY):
        rows = (counts >= low) & (counts < high)
        n, some = int(np.count_nonzero(rows)), Pairs(pairs.users[rows], pairs.items[rows])
        if n:
            squares, _ = _sums(model, some, values[rows], model.user_side, model.item_side)
            biases = _rmse_of_biases(model, some, values[rows])
            name = (
                f"{low:,} and more" if high == np.inf else f"{low:,}" if high == low + 1 else f"{low:,} to {high - 1:,}"
            )
            found[name] = {"pairs": n, "rmse": float(np.sqrt(squares / n)), "rmse_of_biases": biases}
    return found


def _coverage(model: Model, pairs: Pairs, values: np.ndarray) -> dict[str, float]:
    """Count how many ratings are in the intervals around their predictions: as many as these should hold?"""
    away = np.abs(values - model.estimates(pairs)) / model.deviations(pairs)
    return {str(level): float(np.mean(away <= NormalDist().inv_cdf(0.5 + level / 200))) for level in LEVELS}


def ranked(
    model: Model, ratings: Ratings, n: int, relevant_from: float | None, bonus: np.ndarray | None = None
) -> dict[str, Any]:
    """Rank items for every user who has a relevant one: the part of :func:`evaluate` from ``n`` on."""
    relevant = np.full(len(ratings), True) if relevant_from is None else ratings.values >= relevant_from
    n_relevant = np.bincount(ratings.users[relevant], minlength=ratings.n_users)
    rated = np.bincount(ratings.users, minlength=ratings.n_users) > 0
    chosen = np.flatnonzero(n_relevant)
    counts = {"n": n, "ranked_users": len(chosen), "users_without_relevant": int(np.count_nonzero(rated)) - len(chosen)}
    if model.seen is None or len(chosen) == 0:
        return counts | dict.fromkeys([*RANKING, "reach", "novelty", "popularity"])
    require_memory(len(chosen) * n * 16, f"ranking {n:,} items for {len(chosen):,} users", None, "use a smaller n")
    pairs = ratings.users[relevant], ratings.items[relevant]
    users, items = model.known_users(ratings.user_ids), model.known_items(ratings.item_ids)
    wanted = topn.wanted(pairs, chosen, users, items)
    excluded = model.excluded(ids.lookup(model.user_ids, ratings.user_ids, "user")[chosen])  # the cold have seen, too
    lists, _ = model.best_items(wanted.users, n, excluded, bonus=bonus)
    popular, _ = topn.most_rated(model.item_counts, n, excluded)
    return counts | _measures(model, lists, n, wanted) | {"popularity": _measures(model, popular, n, wanted)}


def _measures(model: Model, lists: np.ndarray, n: int, wanted: topn.Wanted) -> dict[str, float]:
    """Measure lists by what is wanted of them."""
    hits = topn.hits(lists, wanted, len(model.item_ids), n)
    found = {name: float(np.mean(metric(hits, wanted.counts))) for name, metric in RANKING.items()}
    n_users = int(np.count_nonzero(model.user_counts))
    return found | {
        "reach": reach(lists, model.item_counts),
        "novelty": novelty(lists, model.item_counts, n_users),
    }
