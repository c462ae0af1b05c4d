"""How good predictions and recommendations are."""

from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np

from fastmf.device import resolve
from fastmf.errors import ParameterError
from fastmf.kernels.als import Side
from fastmf.kernels.compress import even
from fastmf.kernels.residual import ERRORS, PAIRS_PER_TASK, Pairs, Scale
from fastmf.model import Model
from fastmf.ratings import Ratings
from fastmf.resources import require_memory
from fastmf.runtime import launch

ACTIVITY = (0, 1, 6, 21, 101, np.inf)  # bounds of the bands of users, by their training ratings
LEVELS = (50, 80, 90, 95)  # of 100 ratings in an interval


def rmse(truth: Any, estimate: Any) -> float:
    """Root of the mean squared difference of two arrays (n,).

    >>> rmse([4.0, 2.0], [3.0, 3.0])
    1.0
    """
    return float(np.sqrt(np.mean(np.square(_differences(truth, estimate)))))


def mae(truth: Any, estimate: Any) -> float:
    """Mean absolute difference of two arrays (n,).

    >>> mae([4.0, 2.0], [3.0, 0.0])
    1.5
    """
    return float(np.mean(np.abs(_differences(truth, estimate))))


def _differences(truth: Any, estimate: Any) -> np.ndarray:
    truth, estimate = np.asarray(truth, np.float64), np.asarray(estimate, np.float64)
    if truth.shape != estimate.shape or truth.size == 0:
        raise ParameterError(f"shapes {truth.shape} and {estimate.shape}: give two arrays of one length, not empty")
    return truth - estimate


def precision(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """Share of a list's n places that hold a relevant item.

    Parameters
    ----------
    hits : (n_users, n) bool, whether the item at each rank is relevant.
    n_relevant : (n_users,) how many relevant items each user has, at least 1.

    Returns
    -------
    (n_users,) float64, as do :func:`recall`, :func:`ndcg` and :func:`average_precision`.
    """
    return hits.mean(axis=1, dtype=np.float64)


def recall(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """Share of the relevant items that are in the list; see :func:`precision`."""
    return hits.sum(axis=1) / n_relevant


def ndcg(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """Discounted gain, 1 / log2(1 + rank) a hit, over that of a perfect list (Järvelin and Kekäläinen 2002)."""
    discount = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    ideal = np.append(0, np.cumsum(discount))
    return hits @ discount / ideal[np.minimum(n_relevant, hits.shape[1])]


def average_precision(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """Mean of the precision at each hit, over the hits a perfect list of n would have; its mean over users is MAP."""
    at_rank = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return np.sum(at_rank * hits, axis=1) / np.minimum(n_relevant, hits.shape[1])


RANKING = {"precision": precision, "recall": recall, "ndcg": ndcg, "map": average_precision}


def evaluate(model: Model, ratings: Any, *, n: int = 10, relevant_from: float | None = None) -> dict[str, Any]:
    """Measure a model on held-out ratings.

    Parameters
    ----------
    model : the model.
    ratings : held-out ratings, in anything :meth:`Ratings.read` takes.
    n : length of the lists that are ranked.
    relevant_from : an item is relevant to a user who rates it at least this; every held-out item when left out.

    Returns
    -------
    A dict of

    * ``pairs``, ``rmse``, ``mae``: over all pairs; an id without training ratings is predicted by the mean plus the
      other id's bias, and predictions are clipped to the rating range;
    * ``rmse_of_biases``: the same by biases fitted without factors, which the factors have to beat; None for a model
      file of before format 3;
    * ``unknown_users``, ``unknown_items``: the pairs with such an id;
    * ``by_activity``: ``pairs``, ``rmse`` and ``rmse_of_biases`` of the pairs whose user has so many training ratings;
    * ``coverage``: for models that know how sure they are, how many of the ratings are in the intervals around their
      predictions that should hold 50, 80, 90 and 95 of 100;
    * ``precision``, ``recall``, ``ndcg``, ``map`` at ``n``, means over ``ranked_users``; candidates are all items the
      user has not rated in training, users without a relevant item are left out and counted in
      ``users_without_relevant``. None where nobody has one, or the model does not hold what users have rated.

    Raises
    ------
    DataError
        As :meth:`Ratings.read`.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ParameterError(f"n is {n!r}: give an integer of at least 1")
    if relevant_from is not None and not np.isfinite(relevant_from):
        raise ParameterError(f"relevant_from is {relevant_from}: give a rating")
    ratings = Ratings.read(ratings)
    return errors(model, ratings) | _ranked(model, ratings, n, relevant_from)


def errors(model: Model, ratings: Ratings) -> dict[str, Any]:
    """Measure predictions alone: the part of :func:`evaluate` that ranks nothing, ``pairs`` to ``coverage``."""
    users, items = model.known_users(ratings.user_ids), model.known_items(ratings.item_ids)
    pairs = Pairs(users[ratings.users], items[ratings.items])
    squares, absolute = _sums(model, pairs, ratings.values, model.user_side, model.item_side)
    found: dict[str, Any] = {
        "pairs": len(ratings),
        "rmse": float(np.sqrt(squares / len(ratings))),
        "mae": float(absolute / len(ratings)),
        "rmse_of_biases": _rmse_of_biases(model, pairs, ratings.values),
        "unknown_users": int(np.count_nonzero(pairs.users < 0)),
        "unknown_items": int(np.count_nonzero(pairs.items < 0)),
        "by_activity": _by_activity(model, pairs, ratings.values),
    }
    return found | ({} if model.samples is None else {"coverage": _coverage(model, pairs, ratings.values)})


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


def _ranked(model: Model, ratings: Ratings, n: int, relevant_from: float | None) -> dict[str, Any]:
    """Rank items for every user who has a relevant one."""
    users, items = model.known_users(ratings.user_ids), model.known_items(ratings.item_ids)
    relevant = np.full(len(ratings), True) if relevant_from is None else ratings.values >= relevant_from
    n_relevant = np.bincount(ratings.users[relevant], minlength=ratings.n_users)
    rated = np.bincount(ratings.users, minlength=ratings.n_users) > 0
    chosen = np.flatnonzero(n_relevant)
    counts = {"n": n, "ranked_users": len(chosen), "users_without_relevant": int(np.count_nonzero(rated)) - len(chosen)}
    if model.seen is None or len(chosen) == 0:
        return counts | dict.fromkeys(RANKING)
    require_memory(len(chosen) * n * 16, f"ranking {n:,} items for {len(chosen):,} users", None, "use a smaller n")
    found, _ = model.best_items(users[chosen], n, model.excluded(users[chosen]))
    width = len(model.item_ids) + 1
    line = np.full(ratings.n_users, -1)
    line[chosen] = np.arange(len(chosen))
    keys = line[ratings.users[relevant]] * width + items[ratings.items[relevant]].astype(np.int64)
    keys = np.sort(np.append(keys[items[ratings.items[relevant]] >= 0], len(chosen) * width))
    ranked = np.arange(len(chosen))[:, None] * width + found
    hits = (keys[np.searchsorted(keys, ranked)] == ranked) & (found >= 0)  # np.isin takes five times as long
    hits = np.pad(hits, ((0, 0), (0, n - hits.shape[1])))
    return counts | {name: float(np.mean(metric(hits, n_relevant[chosen]))) for name, metric in RANKING.items()}
