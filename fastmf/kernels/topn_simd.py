"""Top-n in vectors, for a block of users and a panel of items at a time; see :mod:`fastmf.kernels.topn`.

A panel is two vectors of items, transposed: their biases, ones, then each factor of all of them. A block's users are
transposed into tiles of TOP users: their biases, then each factor of all of them. A tile of users times a panel is one
tile of sums in registers, TOP x 2 vectors that start at the items' biases. Few sums reach a user's n-th best score so
far, so most tiles end with one test. The sums that do, for items the user has not seen, are offered to the user's heap.

A score is summed in the same order for any block and panel, and a heap holds the same items in any order of offers:
any cut into tasks and any order of the items give the same bits.
"""

from typing import NamedTuple

import numpy as np
from numba.extending import register_jitable

from fastmf.kernels import lanes, simd
from fastmf.kernels.compile import inner, jit
from fastmf.kernels.lanes import BLOCK
from fastmf.kernels.region import region, taken
from fastmf.kernels.topn_plain import clear, offer, put_in_order
from fastmf.kernels.vectors import LINE, WIDTH, aligned

PANEL = 2 * WIDTH
TOP = 3 * WIDTH // 4  # users of a tile: 24 sums of 16 lanes, 12 of 8; the other registers hold the factors
USERS = 192  # of a block, a multiple of TOP: their factors and seen items stay in the L2 cache
LOWEST = np.finfo(np.float32).min  # -inf is no score
AT_A_TIME = 32  # panels that are packed and read again from the cache


class Block(NamedTuple):
    """A block's users: their factors, n-th best scores so far, and seen items.

    users (n_tiles, 1 + k4, WIDTH), k4 being k rounded up to a multiple of BLOCK; limits (n_users,), the least score
    worth an offer; seen (n_panels, n_users) uint32, one bit per item; sums (TOP, PANEL), scratch for a tile.
    """

    users: np.ndarray
    limits: np.ndarray
    seen: np.ndarray
    sums: np.ndarray


@region(allocates=True)
def rank(share, user_side, items, seen, out_items, out_scores):
    """Write each user's best items."""
    factors, bias, packed_before = user_side.factors, user_side.bias, items.panels.shape[0] > 0
    k4, n_panels = _rounded(factors.shape[1]), (items.order.shape[0] + PANEL - 1) // PANEL
    n_tiles = (min(USERS, _largest(share.tasks)) + TOP - 1) // TOP
    marks = np.zeros((n_panels, n_tiles * TOP), np.uint32)
    block = Block(aligned(n_tiles, 1 + k4, WIDTH), aligned(n_tiles * TOP), marks, aligned(TOP, PANEL))
    rows, room = _new_rows(k4), aligned(0 if packed_before else min(n_panels, AT_A_TIME), 2 + k4, PANEL)
    for task in taken(share):
        start, stop = share.tasks[task], share.tasks[task + 1]
        clear(start, stop, out_items, out_scores)
        for first in range(start, stop, USERS):
            last = min(first + USERS, stop)
            _enter(first, last, factors, bias, items.place, seen.indptr, seen.indices, rows, block)
            _rank_users(first, last, items, rows, room, block, out_items, out_scores)
        put_in_order(start, stop, out_items, out_scores)


@inner
def _rank_users(first, last, items, rows, room, block, out_items, out_scores):
    """Offer all items to the users of a block."""
    if items.panels.shape[0] > 0:
        _rank_block(first, last, 0, items.panels, items.order, block, out_items, out_scores)
        return
    n_panels = (items.order.shape[0] + PANEL - 1) // PANEL
    for number in range(0, n_panels, AT_A_TIME):  # few users: quicker than packing all items first
        panels = room[: min(n_panels - number, AT_A_TIME)]
        _pack(number * PANEL, items.factors, items.bias, items.order, rows, panels)
        _rank_block(first, last, number, panels, items.order, block, out_items, out_scores)


@inner
def _largest(tasks):
    """Return the number of users of the largest task."""
    most = np.int64(0)
    for task in range(tasks.shape[0] - 1):
        most = max(most, tasks[task + 1] - tasks[task])
    return most


@register_jitable
def _rounded(k):
    """Round k up to a multiple of BLOCK."""
    return (k + BLOCK - 1) // BLOCK * BLOCK


@jit
def packed(factors, bias, order):
    """Make the panels of all items, (n_panels, 2 + k4, PANEL)."""
    k4 = _rounded(factors.shape[1])
    panels = aligned((order.shape[0] + PANEL - 1) // PANEL, 2 + k4, PANEL)
    _pack(0, factors, bias, order, _new_rows(k4), panels)
    return panels


@register_jitable
def _new_rows(k4):
    """Make room for rows to be transposed, at a stride that keeps them out of each other's cache sets."""
    return aligned(PANEL, k4 + LINE)


@inner
def _transpose(rows, first, target, target_at, step):
    """Write WIDTH rows, from ``first`` on, as columns: factor f goes to ``step * f`` after target_at."""
    line = rows.shape[1]
    for f in range(0, line - LINE, BLOCK):
        tile = lanes.load_lanes(1, simd.pointer(rows, first * line + f), line, 0)
        simd.store(lanes.column(tile), simd.pointer(target, target_at + f * step), step)


@inner
def _pack(first, factors, bias, order, rows, panels):
    """Write panels of the items from ``first`` on in ``order``, padded with items of bias -inf."""
    depth, n_items = panels.shape[1], order.shape[0]
    for number in range(panels.shape[0]):
        for lane in range(PANEL):
            panels[number, 0, lane], panels[number, 1, lane] = -np.inf, 1
            j = first + number * PANEL + lane
            if j < n_items:
                i = order[j]
                panels[number, 0, lane] = bias[i]
                for f in range(factors.shape[1]):
                    rows[lane, f] = factors[i, f]
        for column in range(0, PANEL, WIDTH):
            _transpose(rows, column, panels, (number * depth + 2) * PANEL + column, PANEL)


@inner
def _enter(start, stop, factors, bias, place, indptr, indices, rows, block):
    """Fill the block with the users from start to stop."""
    users, limits, seen = block.users, block.limits, block.seen
    seen[:] = 0
    limits[:] = np.inf  # lanes without a user are never offered anything
    for n in range(stop - start):
        u, tile, lane = start + n, n // TOP, n % TOP
        limits[n] = LOWEST
        users[tile, 0, lane] = bias[u]
        for f in range(factors.shape[1]):
            rows[lane, f] = factors[u, f]
        if lane == TOP - 1 or u == stop - 1:
            _transpose(rows, 0, users, (tile * users.shape[1] + 1) * WIDTH, WIDTH)
        for j in range(indptr[u], indptr[u + 1]):
            at = place[indices[j]]
            seen[at // PANEL, n] |= np.uint32(1) << np.uint32(at % PANEL)


@inner
def _offer_tile(number, first, start, stop, order, block, out_items, out_scores):
    """Offer a tile's scores that reach the limits to its users' heaps; ``first`` is its first user in the block."""
    limits, sums = block.limits, block.sums
    for row in range(TOP):
        n = first + row
        if start + n >= stop:
            break
        scores = simd.load(1, 2, simd.pointer(sums, row * PANEL), 0)
        reached = simd.lanes_from(scores, limits[n]) & ~np.int64(block.seen[number, n])
        while reached:
            lane = simd.lowest(reached)
            reached &= reached - 1
            offer(out_items, out_scores, start + n, order[number * PANEL + lane], sums[row, lane])
            if out_scores[start + n, 0] > LOWEST:
                limits[n] = out_scores[start + n, 0]


@inner
def _rank_block(start, stop, first, panels, order, block, out_items, out_scores):
    """Offer the items of some panels, numbered from ``first``, to the users from start to stop, at most USERS."""
    depth, n_tiles = block.users.shape[1], (stop - start - 1) // TOP + 1
    size = (1 + depth) * PANEL
    ahead = -(-size // (LINE * n_tiles)) * LINE  # floats of the next panel prefetched with each tile: gains 5 to 19 %
    panels_at = simd.pointer(panels, 0)
    for number in range(panels.shape[0]):
        panel = simd.pointer(panels, number * size)
        for tile in range(n_tiles):
            following = (number + 1) * size + tile * ahead
            for line in range(following, following + ahead, LINE):
                simd.prefetch(1, panels_at, line)
            x, y = simd.pointer(block.users, tile * depth * WIDTH), simd.at(panel, PANEL)
            sums = simd.add_outer(simd.load(TOP, 2, panel, 0), x, y)
            for f in range(1, depth, BLOCK):
                sums = simd.add_outer(sums, simd.at(x, f * WIDTH), simd.at(y, f * PANEL))
                sums = simd.add_outer(sums, simd.at(x, (f + 1) * WIDTH), simd.at(y, (f + 1) * PANEL))
                sums = simd.add_outer(sums, simd.at(x, (f + 2) * WIDTH), simd.at(y, (f + 2) * PANEL))
                sums = simd.add_outer(sums, simd.at(x, (f + 3) * WIDTH), simd.at(y, (f + 3) * PANEL))
            if simd.reaches(sums, simd.pointer(block.limits, tile * TOP)):
                simd.store(sums, simd.pointer(block.sums, 0), PANEL)
                _offer_tile(first + number, tile * TOP, start, stop, order, block, out_items, out_scores)
