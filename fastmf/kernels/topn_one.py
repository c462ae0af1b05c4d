"""The n best items of one user, for whom a launch would take longer than the work: called without one, on one thread.

Scores and order are those of :mod:`fastmf.kernels.topn`, with the same bits if there are vectors. :func:`table_of`
prepares the items once; :func:`best` ranks them and leaves the interpreter's lock free, so that Python's threads can
rank for a user each.

On ml-latest-small (9,724 items, k = 32; two cores of an AMD EPYC), a list of 10 takes 0.024 ms, a launch 0.1 ms and
NumPy 0.11 ms; on the ml-20m twin (26,744 items, k = 64) 0.10, 0.43 and 0.3 ms.
"""

import numpy as np

from fastmf.kernels import topn_plain
from fastmf.kernels.compile import inner, jit
from fastmf.kernels.topn_plain import clear, offer, put_in_order
from fastmf.kernels.vectors import WIDTH

if WIDTH:
    from fastmf.kernels import simd
    from fastmf.kernels.topn_simd import LOWEST, PANEL, packed


def best_numpy(table, user, seen, out_items, out_scores):
    """Write the best items, best first, into ``out_items`` and ``out_scores`` (1, n); -1 and -inf if they run out.

    ``table`` is that of :func:`table_of`. ``user`` (1 + k or longer,) holds the user's bias and factors; seen (n_seen,)
    int32, the items to leave out. Items whose bias is -inf are left out for everybody.
    """
    items, n = plain_of(table, len(user) - 1), out_items.shape[1]
    scores = items[:, 1:] @ user[1 : items.shape[1]] + (items[:, 0] + user[0])
    scores[seen] = -np.inf
    order = np.argsort(-scores, kind="stable")[:n]
    order = order[scores[order] > -np.inf]
    out_items[0], out_scores[0] = -1, -np.inf
    out_items[0, : len(order)], out_scores[0, : len(order)] = order, scores[order]


def table_of(items):
    """Prepare a side of items: panels (n_panels, 2 + k4, PANEL) of all items in their order; or rows of bias, factors.

    A user needs as many floats as :func:`depth_of` says.
    """
    if WIDTH:
        return packed(items.factors, items.bias, np.arange(len(items.bias), dtype=np.int32))
    return np.column_stack([items.bias, items.factors])


def depth_of(table):
    """Return the length of a user's bias and factors, filled up with zeros."""
    return table.shape[1] - 1 if WIDTH else table.shape[1]


def plain_of(table, k):
    """Return the biases and factors (n_items or more, 1 + k) in a table; items that fill it up have a bias of -inf."""
    if not WIDTH:
        return table
    rows = table.transpose(0, 2, 1).reshape(-1, table.shape[1])
    return np.column_stack([rows[:, 0], rows[:, 2 : 2 + k]])


@inner
def _offer(panel, marks, sums, at, out_items, out_scores):
    """Offer the marked scores of a panel to the user's heap."""
    while marks:
        lane = simd.lowest(marks)
        marks &= marks - 1
        offer(out_items, out_scores, 0, panel * PANEL + lane, sums[at + lane])


@inner
def _limit(out_scores):
    return max(out_scores[0, 0], LOWEST)


@inner
def _rank_panels(table, user, seen, sums, out_items, out_scores):
    """Rank four panels at a time, so that their sums need not wait for each other; then those that are left."""
    depth, n_panels = table.shape[1], table.shape[0]
    size, x = depth * PANEL, simd.pointer(user, 0)
    room = simd.pointer(sums, 0)
    for first in range(0, n_panels - 3, 4):
        y = simd.pointer(table, first * size)
        a, b = simd.load(1, 2, y, 0), simd.load(1, 2, simd.at(y, size), 0)
        c, d = simd.load(1, 2, simd.at(y, 2 * size), 0), simd.load(1, 2, simd.at(y, 3 * size), 0)
        for f in range(depth - 1):
            row, of = simd.at(y, (1 + f) * PANEL), simd.at(x, f)
            a = simd.add_outer(a, of, row)
            b = simd.add_outer(b, of, simd.at(row, size))
            c = simd.add_outer(c, of, simd.at(row, 2 * size))
            d = simd.add_outer(d, of, simd.at(row, 3 * size))
        simd.store(a, room, 0)
        simd.store(b, simd.at(room, PANEL), 0)
        simd.store(c, simd.at(room, 2 * PANEL), 0)
        simd.store(d, simd.at(room, 3 * PANEL), 0)
        for n in range(4):
            scores = simd.load(1, 2, simd.pointer(sums, n * PANEL), 0)
            marks = simd.lanes_from(scores, _limit(out_scores)) & ~np.int64(seen[first + n])
            _offer(first + n, marks, sums, n * PANEL, out_items, out_scores)
    for number in range(n_panels // 4 * 4, n_panels):
        y = simd.pointer(table, number * size)
        a = simd.load(1, 2, y, 0)
        for f in range(depth - 1):
            a = simd.add_outer(a, simd.at(x, f), simd.at(y, (1 + f) * PANEL))
        simd.store(a, room, 0)
        marks = simd.lanes_from(a, _limit(out_scores)) & ~np.int64(seen[number])
        _offer(number, marks, sums, 0, out_items, out_scores)


def _best_simd(table, user, seen, out_items, out_scores):
    marks, sums = np.zeros(table.shape[0], np.uint32), np.empty(4 * PANEL, np.float32)
    for item in seen:
        marks[item // PANEL] |= np.uint32(1) << np.uint32(item % PANEL)
    clear(0, 1, out_items, out_scores)
    _rank_panels(table, user, marks, sums, out_items, out_scores)
    put_in_order(0, 1, out_items, out_scores)


def _best_plain(table, user, seen, out_items, out_scores):
    scores = np.empty(table.shape[0], np.float32)
    users = user[1:].reshape(1, -1)
    clear(0, 1, out_items, out_scores)
    topn_plain.score_all(users, 0, user[0], table[:, 1:], table[:, 0], scores)
    for item in seen:
        scores[item] = -np.inf
    topn_plain.offer_all(scores, 0, out_items, out_scores)
    put_in_order(0, 1, out_items, out_scores)


best = jit(_best_simd if WIDTH else _best_plain)
