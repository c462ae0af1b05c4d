"""Measures of predictions and of top-n lists, from arrays.

The functions of RANKING take ``hits`` (n_users, n) bool, whether the item at each rank is relevant, and ``n_relevant``
(n_users,), the number of relevant items of each user, at least 1. They return (n_users,) float64.
"""

from typing import Any

import numpy as np

from fastmf.errors import ParameterError


def rmse(truth: Any, estimate: Any) -> float:
    """Return the root mean squared difference of two arrays (n,).

    >>> rmse([4.0, 2.0], [3.0, 3.0])
    1.0
    """
    return float(np.sqrt(np.mean(np.square(_differences(truth, estimate)))))


def mae(truth: Any, estimate: Any) -> float:
    """Return the mean absolute difference of two arrays (n,).

    >>> mae([4.0, 2.0], [3.0, 0.0])
    1.5
    """
    return float(np.mean(np.abs(_differences(truth, estimate))))


def _differences(truth: Any, estimate: Any) -> np.ndarray:
    truth, estimate = np.asarray(truth, np.float64), np.asarray(estimate, np.float64)
    if truth.shape != estimate.shape or truth.size == 0:
        raise ParameterError(f"shapes {truth.shape} and {estimate.shape}: give two non-empty arrays of the same length")
    return truth - estimate


def precision(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """Return the share of a list's n places that hold a relevant item."""
    return hits.mean(axis=1, dtype=np.float64)


def recall(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """Return the share of the relevant items that are in the list."""
    return hits.sum(axis=1) / n_relevant


def ndcg(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """Return the sum of 1 / log2(1 + rank) over hits, as a share of a perfect list's (Järvelin and Kekäläinen 2002)."""
    discount = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    ideal = np.append(0, np.cumsum(discount))
    return hits @ discount / ideal[np.minimum(n_relevant, hits.shape[1])]


def average_precision(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """Return the sum of the precisions at the hits, divided by a perfect list's number of hits; its mean is MAP."""
    at_rank = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return np.sum(at_rank * hits, axis=1) / np.minimum(n_relevant, hits.shape[1])


def reciprocal_rank(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """Return 1 / rank of the first hit, or 0 without hits; the mean over users is MRR."""
    return np.divide(hits.any(axis=1), 1.0 + np.argmax(hits, axis=1))


def hit_rate(hits: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """Return 1 for a list with a hit, else 0."""
    return np.asarray(hits.any(axis=1), np.float64)


def reach(found: np.ndarray, present: np.ndarray) -> float:
    """Return the share of the items of which something is known that appear in any list.

    found (n_users, n) int32: the lists, -1 after the last item. present (n_items,): zero for unknown items.
    """
    return len(np.setdiff1d(found, -1)) / max(int(np.count_nonzero(present)), 1)


def novelty(found: np.ndarray, counts: np.ndarray, n_users: int) -> float:
    """Return the mean of -log2(share of users who rated the item) over the items of all lists (Vargas, Castells 2011).

    An item that everybody has rated counts as 0, one that half of them have rated as 1, and one that nobody has rated
    like one that a single user has. found as for :func:`reach`; counts (n_items,): each item's training ratings;
    n_users is the number of users with training ratings.
    """
    shown = np.maximum(counts[found[found >= 0]], 1)
    return float(np.mean(np.log2(n_users / shown))) if len(shown) else 0.0


RANKING = {
    "precision": precision,
    "recall": recall,
    "ndcg": ndcg,
    "map": average_precision,
    "mrr": reciprocal_rank,
    "hit_rate": hit_rate,
}
