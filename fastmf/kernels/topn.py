"""The n best items of each user by score = b_u + c_i + x_u . y_i, leaving out what the user has already seen.

An item bias of -inf leaves an item out for everybody. Equal scores go to the lower item index first, so the lists are
the same whatever the order of the work.
"""

from itertools import pairwise

import numpy as np

from fastmf.kernels.jit import jit


def topn_numpy(tasks, user_side, item_side, seen, out_items, out_scores):
    """Write each user's best items, best first, into the rows of ``out_items`` and ``out_scores`` (n_users, n).

    Row u of seen (Compressed; its values are not read) holds the items to leave out, in any order; rows of ``out_*``
    that run out of items end in -1 and -inf. Returns (n_tasks,) int64: the items written by each task.
    """
    n = out_items.shape[1]
    written = []
    for start, stop in pairwise(tasks):
        for user in range(start, stop):
            scores = item_side.factors @ user_side.factors[user] + (item_side.bias + user_side.bias[user])
            scores[seen.indices[seen.indptr[user] : seen.indptr[user + 1]]] = -np.inf
            best = np.argsort(-scores, kind="stable")[:n]
            best = best[scores[best] > -np.inf]
            out_items[user], out_scores[user] = -1, -np.inf
            out_items[user, : len(best)] = best
            out_scores[user, : len(best)] = scores[best]
        written.append(np.count_nonzero(out_items[start:stop] >= 0))
    return np.array(written, np.int64)


@jit
def _score_all(x, u, bias, y, c, scores):
    for i in range(y.shape[0]):
        dot = np.float32(0)
        for f in range(y.shape[1]):
            dot += x[u, f] * y[i, f]
        scores[i] = dot + (c[i] + bias)


@jit
def _insert(items, scores, u, found, item, score):
    """Put one item into a list kept in order, of which ``found`` places are taken; return how many are now."""
    n = scores.shape[1]
    place = min(found, n - 1)
    while place > 0 and scores[u, place - 1] < score:
        scores[u, place] = scores[u, place - 1]
        items[u, place] = items[u, place - 1]
        place -= 1
    scores[u, place] = score
    items[u, place] = item
    return min(found + 1, n)


@jit
def _topn(tasks, x, b, y, c, seen_indptr, seen_indices, out_items, out_scores):
    n_tasks, n_items, n = tasks.shape[0] - 1, y.shape[0], out_items.shape[1]
    lowest = np.float32(-np.inf)
    written = np.zeros(n_tasks, np.int64)
    for task in range(n_tasks):
        scores = np.empty(n_items, np.float32)
        for u in range(tasks[task], tasks[task + 1]):
            _score_all(x, u, b[u], y, c, scores)
            for j in range(seen_indptr[u], seen_indptr[u + 1]):
                scores[seen_indices[j]] = lowest
            out_items[u, :] = -1
            out_scores[u, :] = lowest
            found = 0
            worst = lowest
            for i in range(n_items):
                if scores[i] > worst:
                    found = _insert(out_items, out_scores, u, found, i, scores[i])
                    if found == n:
                        worst = out_scores[u, n - 1]
            written[task] += found
    return written


def topn_cpu(tasks, user_side, item_side, seen, out_items, out_scores):
    """Write each user's best items in parallel; see :func:`topn_numpy`."""
    return _topn(tasks, *user_side, *item_side, seen.indptr, seen.indices, out_items, out_scores)


TOPN = {"numpy": topn_numpy, "cpu": topn_cpu}
