"""Deal ratings to a grid of blocks, in random order within each, and rows of factors to bins.

A grid cuts users and items into bins; block (b, c) holds the ratings of the users of bin b by the items of bin c, and
the blocks of a stratum, c - b mod bins the same, share no user and no item: a Latin square (Gemulla et al. 2011).
Ratings are moved to their blocks in the order they come in, and shuffled there: to scatter them at once takes twice as
long.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastmf.kernels.compile import jit, lazy
from fastmf.kernels.sgd import BIAS, ROUNDS, SQUARES, epoch_key, prepare_shuffle, shuffle_numpy, shuffled

BEFORE_ALL = -1  # the epoch whose shuffles the order of dealing is


class Grid(NamedTuple):
    """The bin of every user and item, (n_users,) and (n_items,) int32, and its row of the learners, likewise.

    Rows of a bin lie together. ``bins`` counts the bins a side.
    """

    user_bins: np.ndarray
    item_bins: np.ndarray
    user_rows: np.ndarray
    item_rows: np.ndarray
    bins: int


def count_blocks_numpy(tasks, size, triples, grid, counts):
    """Count the ratings of each block in each task, into ``counts`` (all tasks, bins * bins) int64.

    Tasks are of ``size`` ratings, so that a task knows its line of counts. Returns (n_tasks,) int64, their ratings.
    """
    for start, stop in pairwise(tasks):
        block = _blocks_numpy(slice(start, stop), triples, grid)
        counts[start // size] = np.bincount(block, minlength=grid.bins**2)
    return np.diff(tasks)


def deal_numpy(tasks, size, triples, grid, places, dealt):
    """Move each rating to its block in ``dealt`` (Triples), with the rows of the learners for users and items.

    places (all tasks, bins * bins) int64: where the task's first rating of each block goes; the others follow in their
    order. Returns (n_tasks,) int64, the ratings moved.
    """
    for start, stop in pairwise(tasks):
        chunk = slice(start, stop)
        own = _blocks_numpy(chunk, triples, grid)
        order = np.argsort(own, kind="stable")
        rank = np.arange(stop - start) - np.searchsorted(own[order], own[order])
        place = places[start // size][own[order]] + rank
        dealt.users[place] = grid.user_rows[triples.users[chunk][order]]
        dealt.items[place] = grid.item_rows[triples.items[chunk][order]]
        dealt.values[place] = triples.values[chunk][order]
    return np.diff(tasks)


def shuffle_blocks_numpy(tasks, bounds, triples, seed, shuffled):
    """Copy each block to ``shuffled`` (Triples) in an order of its own.

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
            for moved, array in zip(shuffled, triples, strict=True):
                moved[start + place] = array[start + ranks]
    return np.diff(tasks)


def _blocks_numpy(chunk, triples, grid):
    user_bin = grid.user_bins[triples.users[chunk]]
    return (grid.item_bins[triples.items[chunk]] - user_bin) % grid.bins * grid.bins + user_bin


@jit
def _block(n, triples, grid):
    user_bin = np.int64(grid.user_bins[triples.users[n]])
    stratum = np.int64(grid.item_bins[triples.items[n]]) - user_bin
    return (stratum + grid.bins if stratum < 0 else stratum) * grid.bins + user_bin


@jit
def _count_blocks(tasks, size, triples, grid, counts):
    for task in range(tasks.shape[0] - 1):
        own = counts[tasks[task] // size]
        own[:] = 0
        for n in range(np.uint64(tasks[task]), np.uint64(tasks[task + 1])):
            own[_block(n, triples, grid)] += 1


@jit
def _deal(tasks, size, triples, grid, places, dealt):
    for task in range(tasks.shape[0] - 1):
        own = places[tasks[task] // size].copy()
        for n in range(np.uint64(tasks[task]), np.uint64(tasks[task + 1])):
            block = _block(n, triples, grid)
            place = np.uint64(own[block])
            own[block] += 1
            dealt.users[place] = grid.user_rows[triples.users[n]]
            dealt.items[place] = grid.item_rows[triples.items[n]]
            dealt.values[place] = triples.values[n]


@jit
def _shuffle_blocks(tasks, bounds, triples, key, moved):
    shuffles = np.empty((1, 2 + ROUNDS), np.uint64)
    for block in range(np.searchsorted(bounds, tasks[0], side="right") - 1, np.searchsorted(bounds, tasks[-1])):
        start, n = bounds[block], bounds[block + 1] - bounds[block]
        prepare_shuffle(n, key + np.uint64(start * ROUNDS), shuffles, 0)
        for rank in range(max(tasks[0] - start, 0), min(tasks[-1] - start, n)):
            place = shuffled(rank, shuffles, 0)
            while place >= n:
                place = shuffled(place, shuffles, 0)
            to, origin = np.uint64(start + place), np.uint64(start + rank)
            moved.users[to] = triples.users[origin]
            moved.items[to] = triples.items[origin]
            moved.values[to] = triples.values[origin]


def count_blocks_cpu(tasks, size, triples, grid, counts):
    """Count the ratings of each block; see :func:`count_blocks_numpy`."""
    _count_blocks(tasks, size, triples, grid, counts)
    return np.diff(tasks)


def deal_cpu(tasks, size, triples, grid, places, dealt):
    """Move each rating to its block; see :func:`deal_numpy`."""
    _deal(tasks, size, triples, grid, places, dealt)
    return np.diff(tasks)


def shuffle_blocks_cpu(tasks, bounds, triples, seed, shuffled):
    """Shuffle each block; see :func:`shuffle_blocks_numpy`."""
    with np.errstate(over="ignore"):  # shuffles run over on purpose, which NumPy warns of when the JIT is off
        _shuffle_blocks(tasks, bounds, triples, epoch_key(seed, BEFORE_ALL), shuffled)
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


COUNT_BLOCKS = {"numpy": count_blocks_numpy, "cpu": count_blocks_cpu}
SHUFFLE_BLOCKS = {"numpy": shuffle_blocks_numpy, "cpu": shuffle_blocks_cpu}
DEAL = {"numpy": deal_numpy, "cpu": deal_cpu}
COLLECT = {"numpy": collect_numpy, "cpu": collect_cpu, "cuda": lazy("sgd_cuda", "collect_cuda")}
