"""Deal ratings to a grid of blocks, in random order within each, and rows of factors to bins.

A grid cuts users and items into bins; block (b, c) holds the ratings of the users of bin b by the items of bin c, and
the blocks of a stratum, c - b mod bins the same, share no user and no item: a Latin square (Gemulla et al. 2011).
Ratings are moved to their blocks in the order they come in (:func:`fastmf.data.csr.group`), and shuffled there: to
scatter them at once takes twice as long.
"""

from itertools import pairwise

import numpy as np

from fastmf.kernels.compile import jit, lazy
from fastmf.kernels.sgd import BIAS, ROUNDS, SQUARES, epoch_key, prepare_shuffle, shuffle_numpy, shuffled

BEFORE_ALL = -1  # the epoch whose shuffles the order of dealing is


def blocks_numpy(tasks, triples, grid, blocks):
    """Write the block of each rating into ``blocks`` (n,) int32. Returns (n_tasks,) int64: the ratings of each task."""
    chunk = slice(tasks[0], tasks[-1])
    user_bin = grid.user_bins[triples.users[chunk]]
    blocks[chunk] = (grid.item_bins[triples.items[chunk]] - user_bin) % grid.bins * grid.bins + user_bin
    return np.diff(tasks)


def shuffle_blocks_numpy(tasks, bounds, triples, grid, seed, shuffled):
    """Copy each block to ``shuffled`` (Triples) in an order of its own, with the rows of the learners for its ids.

    bounds (n_blocks + 1,) int64: where blocks start; tasks may be runs of blocks or parts of one. Where the shuffle
    says that there is nothing, it is asked again for what it has said, along its cycle, until there is. Returns
    (n_tasks,) int64, the ratings of each task.
    """
    for first, last in pairwise(tasks):
        for start, stop in pairwise(bounds):
            n, ranks = stop - start, np.arange(max(first, start), min(last, stop)) - start
            place = shuffle_numpy(ranks, n, seed, BEFORE_ALL, start)
            while np.any(place >= n):
                place = np.where(place >= n, shuffle_numpy(place, n, seed, BEFORE_ALL, start), place)
            shuffled.users[start + place] = grid.user_rows[triples.users[start + ranks]]
            shuffled.items[start + place] = grid.item_rows[triples.items[start + ranks]]
            shuffled.values[start + place] = triples.values[start + ranks]
    return np.diff(tasks)


@jit  # each block is written once
def _blocks(tasks, triples, grid, blocks):
    for n in range(np.uint64(tasks[0]), np.uint64(tasks[-1])):
        user_bin = grid.user_bins[np.uint32(triples.users[n])]
        stratum = grid.item_bins[np.uint32(triples.items[n])] - user_bin
        blocks[n] = (stratum + grid.bins if stratum < 0 else stratum) * grid.bins + user_bin


@jit
def _shuffle_blocks(tasks, bounds, triples, grid, key, moved):
    shuffles = np.empty((1, 2 + ROUNDS), np.uint64)
    for block in range(np.searchsorted(bounds, tasks[0], side="right") - 1, np.searchsorted(bounds, tasks[-1])):
        start, n = bounds[block], bounds[block + 1] - bounds[block]
        prepare_shuffle(n, key + np.uint64(start * ROUNDS), shuffles, 0)
        for rank in range(max(tasks[0] - start, 0), min(tasks[-1] - start, n)):
            place = shuffled(rank, shuffles, 0)
            while place >= n:
                place = shuffled(place, shuffles, 0)
            to, origin = np.uint64(start + place), np.uint64(start + rank)
            moved.users[to] = grid.user_rows[np.uint32(triples.users[origin])]
            moved.items[to] = grid.item_rows[np.uint32(triples.items[origin])]
            moved.values[to] = triples.values[origin]


def blocks_cpu(tasks, triples, grid, blocks):
    """Write the block of each rating; see :func:`blocks_numpy`."""
    _blocks(tasks, triples, grid, blocks)
    return np.diff(tasks)


def shuffle_blocks_cpu(tasks, bounds, triples, grid, seed, shuffled):
    """Shuffle each block; see :func:`shuffle_blocks_numpy`."""
    with np.errstate(over="ignore"):  # shuffles run over on purpose, which NumPy warns of when the JIT is off
        _shuffle_blocks(tasks, bounds, triples, grid, epoch_key(seed, BEFORE_ALL), shuffled)
    return np.diff(tasks)


def collect_numpy(tasks, rows, learner, factors, bias, squares):
    """Copy learned rows back: row r of factors (n, k), and of bias and squares (n,), is row ``rows[r]`` of the learner.

    squares may be empty, and is left out then. Returns (n_tasks,) int64, the rows copied.
    """
    for start, stop in pairwise(tasks):
        chosen = rows[start:stop]
        factors[start:stop] = learner[chosen, : factors.shape[1]]
        bias[start:stop] = learner[chosen, BIAS]
        if len(squares):
            squares[start:stop] = learner[chosen, SQUARES]
    return np.diff(tasks)


@jit
def _collect(tasks, rows, learner, factors, bias, squares):
    for task in range(tasks.shape[0] - 1):
        for r in range(tasks[task], tasks[task + 1]):
            for f in range(factors.shape[1]):
                factors[r, f] = learner[rows[r], f]
            bias[r] = learner[rows[r], BIAS]
            if squares.shape[0]:
                squares[r] = learner[rows[r], SQUARES]


def collect_cpu(tasks, rows, learner, factors, bias, squares):
    """Copy learned rows back; see :func:`collect_numpy`."""
    _collect(tasks, rows, learner, factors, bias, squares)
    return np.diff(tasks)


BLOCKS = {"numpy": blocks_numpy, "cpu": blocks_cpu}
SHUFFLE_BLOCKS = {"numpy": shuffle_blocks_numpy, "cpu": shuffle_blocks_cpu}
COLLECT = {"numpy": collect_numpy, "cpu": collect_cpu, "cuda": lazy("sgd_cuda", "collect_cuda")}
