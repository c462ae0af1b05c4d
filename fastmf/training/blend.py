"""blend: what popularity is worth in the lists of a model of ratings.

Such a model says what people would rate highly, which is seldom what they choose next. A list ranked by

    prediction + blend log(1 + n_i),    n_i being the item's training ratings,

may hit more often than predictions alone, and than popularity alone. The weight is the one of WEIGHTS, in deviations of
the ratings, whose lists have the best nDCG for held-out ratings that are at least the mean.
"""

import numpy as np

from fastmf.data.ratings import Ratings
from fastmf.evaluation.metrics import ndcg
from fastmf.model import topn
from fastmf.model.model import Model

WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 1.6, 2.4, 4.0, 8.0)
LISTS_OF = 10


def learned(model: Model, held_out: Ratings) -> float:
    """Choose the weight, on the rating scale, by ratings that the model has not been trained on."""
    users, items = model.known_users(held_out.user_ids), model.known_items(held_out.item_ids)
    good = held_out.take(held_out.values >= model.mean)
    chosen = topn.sampled(np.flatnonzero((users >= 0) & (good.user_counts > 0)))
    if not len(chosen):
        return 0.0
    wanted = topn.wanted((good.users, good.items), chosen, users, items)
    excluded, popularity = model.excluded(wanted.users), model.scale * np.log1p(model.item_counts)

    def quality(weight: float) -> float:
        bonus = (weight * popularity).astype(np.float32)
        lists, _ = model.best_items(wanted.users, LISTS_OF, excluded, bonus=bonus)
        return float(ndcg(topn.hits(lists, wanted, len(model.item_ids), LISTS_OF), wanted.counts).mean())

    return max(WEIGHTS, key=quality) * model.scale
