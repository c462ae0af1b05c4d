"""The n best items of each user by score = b_u + c_i + x_u . y_i, without the items the user has already seen.

An item bias of -inf leaves an item out for everybody. Equal scores go to the lower item index first, so the order of
the work does not change the lists.
"""

from typing import NamedTuple

import numpy as np

from fastmf.kernels.compile import lazy
from fastmf.kernels.vectors import WIDTH

if WIDTH:
    from fastmf.kernels.topn_simd import packed, rank
else:
    from fastmf.kernels.topn_plain import rank

FEW = 192  # users for whom preparing the items takes longer than ranking them unprepared


class Catalogue(NamedTuple):
    """Items to be ranked, prepared once for all tasks by :func:`catalogue`.

    factors (n_items, k) and bias (n_items,) are those of Side; :func:`topn_numpy` reads nothing else. order (n_items,)
    int32 holds the items in the order of their visits, place (n_items,) int32 each item's place in it. panels holds all
    items in that order, as :mod:`fastmf.kernels.topn_simd` reads them. If panels is empty, they are packed as needed.
    """

    factors: np.ndarray
    bias: np.ndarray
    order: np.ndarray
    place: np.ndarray
    panels: np.ndarray


def catalogue(item_side, user_factors):
    """Prepare items to be ranked for users (n_users, k), who affect only the speed: lists are the same bit for bit.

    For many users, the items with the highest mean scores come first, so that few later scores are among the best.
    """
    n_items = len(item_side.bias)
    order = place = np.arange(n_items, dtype=np.int32)
    if not WIDTH or len(user_factors) <= FEW:
        return Catalogue(*item_side, order, place, np.empty((0, 0, 0), np.float32))
    with np.errstate(all="ignore"):  # scores that overflow put items out of place, which costs only time
        scores = item_side.bias + item_side.factors @ user_factors.mean(axis=0)
    order = np.argsort(-scores, kind="stable").astype(np.int32)
    place = np.empty(n_items, np.int32)
    place[order] = np.arange(n_items, dtype=np.int32)
    return Catalogue(*item_side, order, place, packed(*item_side, order))


def topn_numpy(tasks, user_side, items, seen, out_items, out_scores):
    """Write each user's best items, best first, into the rows of ``out_items`` and ``out_scores`` (n_users, n).

    Row u of seen (Compressed; its values are not read) holds the items to leave out, in any order. Rows of ``out_*``
    that run out of items end in -1 and -inf.
    """
    n = out_items.shape[1]
    for user in range(tasks[0], tasks[-1]):
        scores = items.factors @ user_side.factors[user] + (items.bias + user_side.bias[user])
        scores[seen.indices[seen.indptr[user] : seen.indptr[user + 1]]] = -np.inf
        best = np.argsort(-scores, kind="stable")[:n]
        best = best[scores[best] > -np.inf]
        out_items[user], out_scores[user] = -1, -np.inf
        out_items[user, : len(best)] = best
        out_scores[user, : len(best)] = scores[best]


TOPN = {"numpy": topn_numpy, "cpu": rank, "cuda": lazy("topn_cuda", "topn_cuda")}
