"""Top-n in plain Numba: what :mod:`fastmf.kernels.topn` defines, one user at a time.

The best items so far are a heap with the worst of them on top (Knuth, The Art of Computer Programming, volume 3,
section 5.2.3), kept in the user's rows of the output: a place in it costs log n, and a whole ranking n log n.
"""

import numpy as np

from fastmf.kernels.compile import jit


@jit
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


@jit
def offer(items, scores, u, item, score):
    """Let an item of finite score take the place of a user's worst one, if it is better."""
    if score > scores[u, 0] or (score == scores[u, 0] and item < items[u, 0]):
        sift(items, scores, u, scores.shape[1], item, score)


@jit
def put_in_order(start, stop, items, scores):
    """Sort the heaps of the users from start to stop, best first: the top goes last, again and again."""
    for u in range(start, stop):
        for last in range(scores.shape[1] - 1, 0, -1):
            item, score = items[u, last], scores[u, last]
            items[u, last], scores[u, last] = items[u, 0], scores[u, 0]
            sift(items, scores, u, last, item, score)


def clear(start, stop, items, scores):
    """Fill the heaps of the users from start to stop with nothing, which is worse than anything."""
    items[start:stop] = -1
    scores[start:stop] = -np.inf


@jit
def _score_all(x, u, bias, y, c, scores):
    for i in range(y.shape[0]):
        dot = np.float32(0)
        for f in range(y.shape[1]):
            dot += x[u, f] * y[i, f]
        scores[i] = dot + (c[i] + bias)


@jit
def _rank(start, stop, x, b, y, c, seen_indptr, seen_indices, out_items, out_scores):
    scores = np.empty(y.shape[0], np.float32)
    for u in range(start, stop):
        _score_all(x, u, b[u], y, c, scores)
        for j in range(seen_indptr[u], seen_indptr[u + 1]):
            scores[seen_indices[j]] = -np.inf
        for i in range(scores.shape[0]):
            if scores[i] > out_scores[u, 0]:
                offer(out_items, out_scores, u, i, scores[i])


def rank(start, stop, user_side, items, seen, out_items, out_scores):
    """Write the lists of the users from start to stop."""
    side = *user_side, items.factors, items.bias
    clear(start, stop, out_items, out_scores)
    _rank(start, stop, *side, seen.indptr, seen.indices, out_items, out_scores)
    put_in_order(start, stop, out_items, out_scores)
