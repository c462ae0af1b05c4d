"""blend: the weight of popularity in the lists of a model of ratings.

A model of ratings predicts what people would rate highly, which is seldom what they choose next. Lists ranked by

    prediction + blend log(1 + n_i),    n_i being the number of the item's training ratings,

can be better than lists by predictions alone or by popularity alone. The weight is the one among WEIGHTS, in standard
deviations of the ratings, whose lists have the best nDCG for held-out ratings of at least the mean.
"""

import numpy as np

from fastmf.data.ratings import Ratings
from fastmf.evaluation.hits import fixed_sample, quality, wanted_of
from fastmf.model.model import Model
from fastmf.model.recommend import Ranker

WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 1.6, 2.4, 4.0, 8.0)


def learn_blend(model: Model, held_out: Ratings) -> float:
    """Return the weight, on the rating scale, chosen on ratings that the model was not trained on."""
    users, items = model.known_users(held_out.user_ids), model.known_items(held_out.item_ids)
    good = held_out.take(held_out.values >= model.mean)
    chosen = fixed_sample(np.flatnonzero((users >= 0) & (good.user_counts > 0)))
    if not len(chosen):
        return 0.0
    wanted = wanted_of((good.users, good.items), chosen, users, items)
    popularity = model.scale * np.log1p(model.item_counts)

    def ndcg(weight: float) -> float:
        ranker = Ranker(model, bonus=(weight * popularity).astype(np.float32))
        return quality(lambda lists, n: ranker.ordered(wanted.users[lists], n), wanted, len(model.item_ids))

    return max(WEIGHTS, key=ndcg) * model.scale
