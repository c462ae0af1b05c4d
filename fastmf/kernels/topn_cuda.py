"""Top-n lists on a GPU: what :mod:`fastmf.kernels.topn` defines, TILE users per block.

A block multiplies the factors of its users by those of TILE items at a time, 8 x 8 scores per thread, and
puts the scores into shared memory. Then each thread goes through the scores of its own user. Every unseen item that
beats the worst one in the user's heap (:mod:`fastmf.kernels.topn_plain`) is offered to that heap, kept in the output.

The floor is the product: 2 n_users n_items k operations, 474 GFLOP for all users of the ml-20m twin at k = 64. That is
8 ms at an H200's 60 TFLOP/s, or 17 M users a second.
"""

import numpy as np
from numba import cuda

from fastmf.kernels.groups_cuda import inlined, is_out_of_memory, kernel, shared
from fastmf.kernels.topn_plain import sift

TILE, EDGE, DEPTH = 64, 8, 16  # users and items of a tile; of a thread; factors at a time
WIDE, SUMS = TILE + 1, EDGE * EDGE  # shared rows are one longer than a tile, to begin in different banks
MOST_USERS = 1 << 16  # users on the GPU at a time

_sift = shared(sift)


@inlined
def _is_seen(item, indices, first, last):
    """Search for an item in ``indices[first:last]``, which are sorted."""
    end = last
    while first < last:
        middle = (first + last) // 2
        if indices[middle] < item:
            first = middle + 1
        else:
            last = middle
    return first < end and indices[first] == item


@inlined
def _multiply(scores, sums, left, right, x, y, order, first_user, first_item, thread):
    """Write the products of TILE users and TILE items into ``scores``."""
    for e in range(EDGE * EDGE):
        sums[e] = np.float32(0)
    for depth in range(0, x.shape[1], DEPTH):
        cuda.syncthreads()
        for e in range(thread, TILE * DEPTH, TILE):
            row, f = e // DEPTH, e % DEPTH
            u, i, inside = first_user + row, first_item + row, depth + f < x.shape[1]
            left[f, row] = x[u, depth + f] if inside and u < x.shape[0] else np.float32(0)
            right[f, row] = y[order[i], depth + f] if inside and i < order.shape[0] else np.float32(0)
        cuda.syncthreads()
        for f in range(DEPTH):
            for p in range(EDGE):
                value = left[f, thread // EDGE + EDGE * p]
                for q in range(EDGE):
                    sums[p * EDGE + q] += value * right[f, thread % EDGE + EDGE * q]
    for p in range(EDGE):
        for q in range(EDGE):
            scores[thread // EDGE + EDGE * p, thread % EDGE + EDGE * q] = sums[p * EDGE + q]
    cuda.syncthreads()


@kernel(TILE)
def _rank(x, b, y, c, order, indptr, indices, out_items, out_scores):
    left = cuda.shared.array((DEPTH, WIDE), np.float32)
    right = cuda.shared.array((DEPTH, WIDE), np.float32)
    scores = cuda.shared.array((TILE, WIDE), np.float32)
    sums, thread, n = cuda.local.array(SUMS, np.float32), cuda.threadIdx.x, out_items.shape[1]
    first_user = cuda.blockIdx.x * TILE
    u, infinity = first_user + thread, np.float32(np.inf)
    if u < x.shape[0]:
        for place in range(n):
            out_items[u, place], out_scores[u, place] = -1, -infinity
    worst, worst_item = -infinity, np.int32(-1)
    for first_item in range(0, order.shape[0], TILE):
        _multiply(scores, sums, left, right, x, y, order, first_user, first_item, thread)
        if u < x.shape[0]:
            for e in range(min(TILE, order.shape[0] - first_item)):
                item = order[first_item + e]
                score = scores[thread, e] + (c[item] + b[u])
                better = score > worst or (score == worst and item < worst_item)
                if better and not _is_seen(item, indices, indptr[u], indptr[u + 1]):
                    _sift(out_items, out_scores, u, n, item, score)
                    worst, worst_item = out_scores[u, 0], out_items[u, 0]
    if u < x.shape[0]:
        for last in range(n - 1, 0, -1):
            item, score = out_items[u, last], out_scores[u, last]
            out_items[u, last], out_scores[u, last] = out_items[u, 0], out_scores[u, 0]
            _sift(out_items, out_scores, u, last, item, score)


def topn_cuda(tasks, user_side, items, seen, out_items, out_scores):
    """Write each user's best items; see :func:`fastmf.kernels.topn.topn_numpy`.

    All arrays are on the host. Users come to the GPU in batches of at most MOST_USERS, halved if memory is short.
    """
    catalogue = [cuda.to_device(array) for array in (items.factors, items.bias, items.order)]
    start, most = int(tasks[0]), MOST_USERS
    while start < tasks[-1]:
        stop = min(start + most, int(tasks[-1]))
        try:
            _rank_batch(start, stop, user_side, catalogue, seen, out_items, out_scores)
        except Exception as error:
            if not is_out_of_memory(error) or stop - start == 1:
                raise
            most = (stop - start) // 2
            continue
        start = stop


def _rank_batch(start, stop, user_side, catalogue, seen, out_items, out_scores):
    indptr = seen.indptr[start : stop + 1] - seen.indptr[start]
    indices = seen.indices[seen.indptr[start] : seen.indptr[stop]]
    given = user_side.factors[start:stop], user_side.bias[start:stop], indptr, in_order(indptr, indices)
    x, b, *lists = [cuda.to_device(np.ascontiguousarray(array)) for array in given]
    shape = stop - start, out_items.shape[1]
    found = cuda.device_array(shape, np.int32), cuda.device_array(shape, np.float32)
    _rank[-(-(stop - start) // TILE), TILE](x, b, *catalogue, *lists, *found)
    out_items[start:stop], out_scores[start:stop] = (array.copy_to_host() for array in found)


def in_order(indptr, indices):
    """Return the indices with every row sorted."""
    falls = np.flatnonzero(indices[1:] < indices[:-1]) + 1
    if np.isin(falls, indptr).all():
        return indices
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    return indices[np.lexsort((indices, rows))]
