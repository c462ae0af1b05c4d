"""The n best items of each user by score = b_u + c_i + x_u . y_i, leaving out what the user has already seen.

An item bias of -inf leaves an item out for everybody. Equal scores go to the lower item index first, so the lists are
the same whatever the order of the work.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastmf.kernels.compile import lazy
from fastmf.kernels.vectors import WIDTH

if WIDTH:
    from fastmf.kernels.topn_simd import packed, rank
else:
    from fastmf.kernels.topn_plain import rank

FEW = 192  # users for whom it takes longer to get the items ready than to take them as they come


class Catalogue(NamedTuple):
    """Items to be ranked, got ready once for all tasks by :func:`catalogue`.

    factors (n_items, k) and bias (n_items,) are those of Side, and all that the definition reads. order (n_items,)
    int32 holds the items as they are visited, place (n_items,) int32 where in it each item is, panels all items in that
    order as :mod:`fastmf.kernels.topn_simd` reads them; it makes them as it goes where there are none.
    """

    factors: np.ndarray
    bias: np.ndarray
    order: np.ndarray
    place: np.ndarray
    panels: np.ndarray


def catalogue(item_side, user_factors):
    """Get items ready to be ranked for users (n_users, k), on whom only the speed depends: lists keep their bits.

    For many, the items of the highest mean score come first, so that what is best so far is soon hard to beat.
    """
    n_items = len(item_side.bias)
    order = place = np.arange(n_items, dtype=np.int32)
    if not WIDTH or len(user_factors) <= FEW:
        return Catalogue(*item_side, order, place, np.empty((0, 0, 0), np.float32))
    with np.errstate(all="ignore"):  # what runs over is out of place, and no worse
        scores = item_side.bias + item_side.factors @ user_factors.mean(axis=0)
    order = np.argsort(-scores, kind="stable").astype(np.int32)
    place = np.empty(n_items, np.int32)
    place[order] = np.arange(n_items, dtype=np.int32)
    return Catalogue(*item_side, order, place, packed(*item_side, order))


def topn_numpy(tasks, user_side, items, seen, out_items, out_scores):
    """Write each user's best items, best first, into the rows of ``out_items`` and ``out_scores`` (n_users, n).

    Row u of seen (Compressed; its values are not read) holds the items to leave out, in any order; rows of ``out_*``
    that run out of items end in -1 and -inf. Returns (n_tasks,) int64: the items written by each task.
    """
    n = out_items.shape[1]
    written = []
    for start, stop in pairwise(tasks):
        for user in range(start, stop):
            scores = items.factors @ user_side.factors[user] + (items.bias + user_side.bias[user])
            scores[seen.indices[seen.indptr[user] : seen.indptr[user + 1]]] = -np.inf
            best = np.argsort(-scores, kind="stable")[:n]
            best = best[scores[best] > -np.inf]
            out_items[user], out_scores[user] = -1, -np.inf
            out_items[user, : len(best)] = best
            out_scores[user, : len(best)] = scores[best]
        written.append(np.count_nonzero(out_items[start:stop] >= 0))
    return np.array(written, np.int64)


def topn_cpu(tasks, user_side, items, seen, out_items, out_scores):
    """Write each user's best items in parallel; see :func:`topn_numpy`."""
    rank(tasks[0], tasks[-1], user_side, items, seen, out_items, out_scores)
    return np.array([np.count_nonzero(out_items[start:stop] >= 0) for start, stop in pairwise(tasks)], np.int64)


TOPN = {"numpy": topn_numpy, "cpu": topn_cpu, "cuda": lazy("topn_cuda", "topn_cuda")}
