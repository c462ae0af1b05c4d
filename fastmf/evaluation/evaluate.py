"""Evaluation: how good a model's predictions and lists are, compared with biases alone and with popularity."""

import math
from collections.abc import Iterator
from itertools import pairwise
from numbers import Real
from statistics import NormalDist
from typing import Any

import numpy as np

from fastmf.data import ids
from fastmf.data.csr import count_common
from fastmf.data.ratings import Ratings
from fastmf.data.ratings import reading as reading_of
from fastmf.errors import ParameterError, brief, require_integer
from fastmf.evaluation.hits import Rank, Wanted, ranked_hits, wanted_of
from fastmf.evaluation.metrics import RANKING, novelty, reach
from fastmf.kernels.types import Pairs
from fastmf.model.baseline import baseline_sides
from fastmf.model.predict import error_sums, estimates
from fastmf.model.recommend import Ranker
from fastmf.model.state import State
from fastmf.model.uncertainty import deviations
from fastmf.runtime.memory import require_memory

ACTIVITY = (0, 1, 6, 21, 101, np.inf)  # bounds on the number of training ratings of each group's users
LEVELS = (50, 80, 90, 95)  # percent of ratings that should be in an interval


def evaluate(
    model: State,
    ratings: Any,
    *,
    n: int = 10,
    relevant_from: float | None = None,
    rank_by: str | None = None,
    **reading: Any,
) -> dict[str, Any]:
    """Measure a model on held-out ratings.

    Parameters
    ----------
    model : the model.
    ratings : held-out ratings, in any form :meth:`Ratings.read` takes.
    n : length of the lists that are ranked.
    relevant_from : an item is relevant to a user who rates it at least this high. None takes the model's
        ``positive_from``; without one, every held-out item is relevant.
    rank_by : how lists are ranked, as for :meth:`Model.recommend`.
    reading : further arguments of :meth:`Ratings.read`: user, item, rating, columns, sep, bad_rows and so on. Columns
        are found by the names that they had in training, too.

    Returns
    -------
    A dict of

    * ``pairs``, ``rmse``, ``mae``: over all pairs. Predictions are clipped to the rating range; if one id of a pair
      has no training ratings, its prediction is the mean plus the other id's bias.
    * ``rmse_of_biases``: the RMSE of biases fitted without factors; the factors have to beat it.
    * ``trained_pairs``: pairs that were also trained on. Their errors flatter the model, and its lists leave them out.
      None if the model does not hold the seen items.
    * ``unknown_users``, ``unknown_items``: pairs whose user, or item, has neither training ratings nor side features.
    * ``by_activity``: ``pairs``, ``rmse`` and ``rmse_of_biases`` by the number of training ratings of the pair's user.
    * ``by_user``, ``by_item``: for models with features of users, or items, the same figures for pairs whose user, or
      item, is "with ratings", "with features alone" and "unknown".
    * ``coverage``: for models with samples, the share of ratings inside their 50, 80, 90 and 95 percent prediction
      intervals.
    * ``precision``, ``recall``, ``ndcg``, ``map``, ``mrr``, ``hit_rate`` of lists of ``n`` items: means over
      ``ranked_users``, the users with a relevant item; other users are counted in ``users_without_relevant``.
      Candidates are all items that the user has not rated in training. Among items of equal scores the relevant ones
      count as the last. Relevant items unknown to the model count as misses. They are None if nobody has a relevant
      item, or the model does not hold the seen items.
    * ``reach`` and ``novelty`` of these lists; see :mod:`fastmf.evaluation.metrics`.
    * ``popularity``: the same measures for lists of the most rated items; a model has to beat these lists.

    For implicit feedback there are no ratings to predict: the result has only counts of pairs and measures of lists.

    Raises
    ------
    DataError
        As :meth:`Ratings.read`.
    ParameterError
        If n or relevant_from is out of range, or the model cannot rank by ``rank_by``.
    """
    if not isinstance(model, State):
        raise ParameterError(f"the model is {brief(model)}: give a fitted or loaded model first, then ratings")
    require_integer("n", n, 1)
    if relevant_from is not None and not (isinstance(relevant_from, Real) and math.isfinite(relevant_from)):
        raise ParameterError(f"relevant_from is {brief(relevant_from)}: give a rating")
    ratings = Ratings.read(ratings, **reading_for(model, relevant_from), **reading)
    if relevant_from is None and ratings.rated:
        relevant_from = model.positive_from
    return measure_errors(model, ratings) | measure_lists(model, ratings, n, relevant_from, rank_by)


def reading_for(model: State, relevant_from: float | None) -> dict[str, Any]:
    """Return the arguments of :meth:`Ratings.read` for held-out ratings; pairs may repeat if ratings are not used."""
    how = reading_of(model.implicit, relevant_from if model.positive_from is None else model.positive_from)
    return how | {"weight": "", "like": model} | ({} if how.get("keep_values", True) else {"duplicates": "sum"})


def measure_errors(model: State, ratings: Ratings) -> dict[str, Any]:
    """Measure predictions alone: the part of :func:`evaluate` from ``pairs`` to ``coverage``."""
    users, items = (model.present_rows(side, getattr(ratings, f"{side}_ids")) for side in ("user", "item"))
    pairs, values = Pairs(users[ratings.users], items[ratings.items]), ratings.values
    facts: dict[str, Any] = {
        "pairs": len(ratings),
        "trained_pairs": count_trained(model, ratings),
        "unknown_users": int(np.count_nonzero(pairs.users < 0)),
        "unknown_items": int(np.count_nonzero(pairs.items < 0)),
    }
    if model.implicit:
        return facts
    found = facts | _errors(model, pairs, values) | {"by_activity": _by_activity(model, pairs, values)}
    for side, rows in zip(("user", "item"), pairs, strict=True):
        if getattr(model, f"{side}_features") is not None:
            found[f"by_{side}"] = _by_knowledge(model, pairs, values, rows, getattr(model, f"{side}_counts"))
    if model.samples is not None:
        away = np.abs(values - estimates(model, pairs)) / deviations(model, pairs)
        bounds = {str(level): NormalDist().inv_cdf(0.5 + level / 200) for level in LEVELS}
        found["coverage"] = {level: float(np.mean(away <= bound)) for level, bound in bounds.items()}
    return found


def measure_lists(
    model: State, ratings: Ratings, n: int, relevant_from: float | None, rank_by: str | None = None
) -> dict[str, Any]:
    """Measure lists for every user with a relevant item: the part of :func:`evaluate` from ``precision`` on."""
    ranker = None if model.seen is None else Ranker(model, rank_by=rank_by)
    relevant = np.full(len(ratings), True) if relevant_from is None else ratings.values >= relevant_from
    n_relevant = np.bincount(ratings.users[relevant], minlength=ratings.n_users)
    chosen = np.flatnonzero(n_relevant)
    n_rated = np.count_nonzero(np.bincount(ratings.users))
    counts = {"n": n, "ranked_users": len(chosen), "users_without_relevant": int(n_rated) - len(chosen)}
    if ranker is None or len(chosen) == 0:
        return counts | dict.fromkeys([*RANKING, "reach", "novelty", "popularity"])
    places = min(n, max(len(model.item_ids), int(n_relevant.max())))  # more would be empty, and no list perfect
    require_memory(len(chosen) * places * 16, f"ranking {n:,} items for {len(chosen):,} users", None, "use a smaller n")
    pairs = ratings.users[relevant], ratings.items[relevant]
    users = ids.lookup(model.arrow_ids("user"), ratings.user_ids, "user")  # those without ratings may have seen items
    wanted = wanted_of(pairs, chosen, users, model.present_rows("item", ratings.item_ids))
    ranks: dict[str, Rank] = {
        "model": lambda lists, length: ranker.ordered(wanted.users[lists], length),
        "popularity": lambda lists, length: ranker.most_popular(wanted.users[lists], length),
    }
    found = {name: _measures(model, rank, places, wanted) for name, rank in ranks.items()}
    for measures in found.values():
        measures["precision"] *= places / n
    return counts | found["model"] | {"popularity": found["popularity"]}


def _measures(model: State, rank: Rank, n: int, wanted: Wanted) -> dict[str, float]:
    """Return the measures of lists."""
    lists, hits = ranked_hits(rank, wanted, len(model.item_ids), n)
    found = {name: float(np.mean(metric(hits, wanted.counts))) for name, metric in RANKING.items()}
    n_users = int(np.count_nonzero(model.user_counts))
    return found | {
        "reach": reach(lists, model.present("item")),
        "novelty": novelty(lists, model.item_counts, n_users),
    }


def count_trained(model: State, ratings: Ratings) -> int | None:
    """Count the pairs that were training ratings; None if the model does not hold the seen items."""
    if model.seen is None:
        return None
    users = ids.lookup(model.arrow_ids("user"), ratings.user_ids, "user")[ratings.users]
    items = ids.lookup(model.arrow_ids("item"), ratings.item_ids, "item")[ratings.items]
    return count_common(model.seen, users, items, len(model.item_ids))


def _errors(model: State, pairs: Pairs, values: np.ndarray) -> dict[str, float | None]:
    """Return the RMSE and MAE of the model, and the RMSE of its baseline if it has one."""
    n, biases = len(values), None
    squares, absolute = error_sums(model, pairs, values, (model.user_side, model.item_side))
    if model.baseline is not None:
        biases = float(np.sqrt(error_sums(model, pairs, values, baseline_sides(model.baseline))[0] / n))
    return {"rmse": float(np.sqrt(squares / n)), "mae": float(absolute / n), "rmse_of_biases": biases}


def _by_knowledge(
    model: State, pairs: Pairs, values: np.ndarray, rows: np.ndarray, counts: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Measure predictions by what is known of one side, given its ``rows`` in the pairs and counts of its ratings."""
    warm = np.append(counts, 0)[rows] > 0
    groups = {"with ratings": warm, "with features alone": ~warm & (rows >= 0), "unknown": rows < 0}
    return {name: _errors_of(model, pairs, values, chosen) for name, chosen in groups.items() if chosen.any()}


def _errors_of(model: State, pairs: Pairs, values: np.ndarray, chosen: np.ndarray) -> dict[str, Any]:
    """Count some pairs, and measure their predictions."""
    errors = _errors(model, Pairs(pairs.users[chosen], pairs.items[chosen]), values[chosen])
    del errors["mae"]
    return {"pairs": int(np.count_nonzero(chosen)), **errors}


def _by_activity(model: State, pairs: Pairs, values: np.ndarray) -> dict[str, dict[str, Any]]:
    """Measure predictions by the number of training ratings of the pairs' users."""
    counts = np.append(model.user_counts, 0)[pairs.users]
    return {name: _errors_of(model, pairs, values, rows) for name, rows in by_count(counts)}


def by_count(counts: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Group pairs by counts (n,) of training ratings: yield a name and the pairs of the group, (n,) bool."""
    for low, high in pairwise(ACTIVITY):
        rows = (counts >= low) & (counts < high)
        if rows.any():
            last = "" if high == low + 1 else " and more" if high == np.inf else f" to {high - 1:,}"
            yield f"{low:,}{last}", rows
