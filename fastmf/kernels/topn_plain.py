"""Top-n in plain Numba, one user at a time; see :mod:`fastmf.kernels.topn`.

A user's best items so far are a heap with the worst on top (Knuth, The Art of Computer Programming, volume 3,
section 5.2.3), kept in the user's row of the output: an insertion costs log n, and sorting the heap n log n.
"""

import numpy as np

from fastmf.kernels.compile import inner
from fastmf.kernels.region import region, taken


@inner
def sift(items, scores, u, size, item, score):
    """Put an item into the heap of the first ``size`` places, whose top is free."""
    place, child = 0, 1
    while child < size:
        if child + 1 < size and (
            scores[u, child + 1] < scores[u, child]
            or (scores[u, child + 1] == scores[u, child] and items[u, child + 1] > items[u, child])
        ):
            child += 1
        if scores[u, child] > score or (scores[u, child] == score and items[u, child] <= item):
            break
        scores[u, place], items[u, place] = scores[u, child], items[u, child]
        place, child = child, 2 * child + 1
    scores[u, place], items[u, place] = score, item


@inner
def offer(items, scores, u, item, score):
    """Replace a user's worst item with the given one, of finite score, if that is better."""
    if score > scores[u, 0] or (score == scores[u, 0] and item < items[u, 0]):
        sift(items, scores, u, scores.shape[1], item, score)


@inner
def put_in_order(start, stop, items, scores):
    """Sort the heaps of the users from start to stop, best first: move the top to the end, again and again."""
    for u in range(start, stop):
        for last in range(scores.shape[1] - 1, 0, -1):
            item, score = items[u, last], scores[u, last]
            items[u, last], scores[u, last] = items[u, 0], scores[u, 0]
            sift(items, scores, u, last, item, score)


@inner
def clear(start, stop, items, scores):
    """Fill the heaps of the users from start to stop with item -1 and score -inf, which any item beats."""
    items[start:stop] = -1
    scores[start:stop] = -np.inf


@region(allocates=True)
def rank(share, user_side, items, seen, out_items, out_scores):
    """Write each user's best items."""
    scores = np.empty(items.bias.shape[0], np.float32)
    for task in taken(share):
        start, stop = share.tasks[task], share.tasks[task + 1]
        clear(start, stop, out_items, out_scores)
        _rank_users(start, stop, user_side, items, seen, scores, out_items, out_scores)
        put_in_order(start, stop, out_items, out_scores)


@inner
def _rank_users(start, stop, user_side, items, seen, scores, out_items, out_scores):
    for u in range(start, stop):
        score_all(user_side.factors, u, user_side.bias[u], items.factors, items.bias, scores)
        for j in range(seen.indptr[u], seen.indptr[u + 1]):
            scores[seen.indices[j]] = -np.inf
        offer_all(scores, u, out_items, out_scores)


@inner
def offer_all(scores, u, items, best):
    """Offer the scores (n_items,) of a user to the user's heap."""
    for i in range(scores.shape[0]):
        if scores[i] > best[u, 0]:
            offer(items, best, u, i, scores[i])


@inner
def score_all(x, u, bias, y, c, scores):
    """Write a user's scores of all items."""
    for i in range(y.shape[0]):
        dot = np.float32(0)
        for f in range(y.shape[1]):
            dot += x[u, f] * y[i, f]
        scores[i] = dot + (c[i] + bias)
