"""blend: what popularity is worth in the lists of a model of ratings.

Such a model says what people would rate highly, which is seldom what they choose next. A list ranked by

    prediction + blend log(1 + n_i),    n_i being the item's training ratings,

may hit more often than predictions alone, and than popularity alone. The weight is the one of WEIGHTS, in deviations of
the ratings, whose lists have the best nDCG for held-out ratings that are at least the mean.
"""

import numpy as np

from fastmf.evaluation import ranked
from fastmf.model import Model
from fastmf.ratings import Ratings

WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 1.6, 2.4, 4.0, 8.0)
LISTS_OF, MOST_USERS = 10, 10_000


def learned(model: Model, held_out: Ratings) -> float:
    """Choose the weight, on the rating scale, by ratings that the model has not been trained on."""
    known = model.known_users(held_out.user_ids) >= 0
    good = held_out.values >= model.mean
    useful = np.flatnonzero(known & (np.bincount(held_out.users[good], minlength=held_out.n_users) > 0))
    chosen = np.zeros(held_out.n_users, bool)
    chosen[np.random.default_rng(0).permutation(useful)[:MOST_USERS]] = True
    sample, popularity = held_out.take(good & chosen[held_out.users]), np.log1p(model.item_counts)
    if not len(sample):
        return 0.0
    found = [
        ranked(model, sample, LISTS_OF, None, (weight * model.scale * popularity).astype(np.float32))["ndcg"]
        for weight in WEIGHTS
    ]
    return WEIGHTS[int(np.argmax(found))] * model.scale
