"""Deal ratings to a grid of blocks, in random order within each, and rows of factors to bins.

A grid cuts users and items into bins. Block (b, c) holds the ratings that users of bin b gave items of bin c. The
blocks of a stratum, which have the same c - b mod bins, share no user and no item: a Latin square (Gemulla et al.
2011). Ratings are first moved to their blocks in the order they come in (:func:`fastmf.data.csr.group`), then shuffled
there: scattering them at random in one step takes twice as long.
"""

from itertools import pairwise

import numpy as np

from fastmf.kernels.compile import inner, lazy
from fastmf.kernels.region import region, taken
from fastmf.kernels.sgd import BIAS, ROUNDS, SQUARES, at_place, epoch_key, new_shuffle, shuffle_numpy

BEFORE_ALL = -1  # the epoch whose shuffles give the order of dealing


def blocks_numpy(tasks, triples, grid, blocks):
    """Write the block of each rating into ``blocks`` (n,) int32."""
    chunk = slice(tasks[0], tasks[-1])
    user_bin = grid.user_bins[triples.users[chunk]]
    blocks[chunk] = (grid.item_bins[triples.items[chunk]] - user_bin) % grid.bins * grid.bins + user_bin


@region
def blocks_cpu(share, triples, grid, blocks):
    """Write the block of each rating; see :func:`blocks_numpy`."""
    for task in taken(share):
        for n in range(np.uint64(share.tasks[task]), np.uint64(share.tasks[task + 1])):
            user_bin = grid.user_bins[np.uint32(triples.users[n])]
            stratum = grid.item_bins[np.uint32(triples.items[n])] - user_bin
            blocks[n] = (stratum + grid.bins if stratum < 0 else stratum) * grid.bins + user_bin


def shuffle_blocks_numpy(tasks, bounds, triples, grid, seed, shuffled):
    """Copy each block to ``shuffled`` (Triples) in an order of its own, with learner rows in place of ids.

    bounds (n_blocks + 1,) int64: the starts of the blocks; tasks may be runs of blocks or parts of one. A rank
    that the shuffle sends to n or above is shuffled again, along its cycle, until it is below n.
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
            if triples.weights is not None:
                shuffled.weights[start + place] = triples.weights[start + ranks]


@region(allocates=True)
def shuffle_blocks_cpu(share, bounds, triples, grid, seed, shuffled):
    """Shuffle each block; see :func:`shuffle_blocks_numpy`."""
    for task in taken(share):
        first, last = share.tasks[task], share.tasks[task + 1]
        for block in range(np.searchsorted(bounds, first, side="right") - 1, np.searchsorted(bounds, last)):
            start, n = bounds[block], bounds[block + 1] - bounds[block]
            shuffle = new_shuffle(n, epoch_key(seed, BEFORE_ALL) + np.uint64(start * ROUNDS))
            _shuffle_part(max(first - start, 0), min(last - start, n), start, n, shuffle, triples, grid, shuffled)


@inner
def _shuffle_part(first, last, start, n, shuffle, triples, grid, shuffled):
    """Shuffle the ratings of rank first to last of a block of n ratings."""
    for rank in range(first, last):
        place = at_place(rank, shuffle)
        while place >= n:
            place = at_place(place, shuffle)
        to, origin = np.uint64(start + place), np.uint64(start + rank)
        shuffled.users[to] = grid.user_rows[np.uint32(triples.users[origin])]
        shuffled.items[to] = grid.item_rows[np.uint32(triples.items[origin])]
        shuffled.values[to] = triples.values[origin]
        _copy(triples.weights, origin, shuffled.weights, to)


@inner
def _copy(values, origin, copied, to):
    """Copy a value, if there are any."""
    if values is not None:
        copied[to] = values[origin]


def collect_numpy(tasks, rows, learner, factors, bias, squares):
    """Copy learned rows back: row r of factors (n, k), and of bias and squares (n,), is row ``rows[r]`` of the learner.

    Empty ``squares`` are not written.
    """
    own = slice(tasks[0], tasks[-1])
    chosen = rows[own]
    factors[own] = learner[chosen, : factors.shape[1]]
    bias[own] = learner[chosen, BIAS]
    if len(squares):
        squares[own] = learner[chosen, SQUARES]


@region
def collect_cpu(share, rows, learner, factors, bias, squares):
    """Copy learned rows back; see :func:`collect_numpy`."""
    for task in taken(share):
        for r in range(share.tasks[task], share.tasks[task + 1]):
            for f in range(factors.shape[1]):
                factors[r, f] = learner[rows[r], f]
            bias[r] = learner[rows[r], BIAS]
            if squares.shape[0]:
                squares[r] = learner[rows[r], SQUARES]


BLOCKS = {"numpy": blocks_numpy, "cpu": blocks_cpu}
SHUFFLE_BLOCKS = {"numpy": shuffle_blocks_numpy, "cpu": shuffle_blocks_cpu}
COLLECT = {"numpy": collect_numpy, "cpu": collect_cpu, "cuda": lazy("sgd_cuda", "collect_cuda")}
