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
from fastmf.kernels.sgd import BIAS, BIAS_PULL, RHO, ROUNDS, SQUARES, at_place, epoch_key, new_shuffle, shuffle_numpy

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


def deal_rows_numpy(tasks, rows, side, expected, learner, pulls, square):
    """Copy rows, and what they are pulled to, to where a learner has them: row r of a side is its row ``rows[r]``.

    expected is (n, k + 1 or more): what factors and, in column k, biases are pulled to. The former go to ``pulls``
    (n, kp), the latter to the learner. The side's factors first move in place by the share rho / (square + rho) of the
    way that their pulls have moved, or not if rho is 0.
    """
    own, k = slice(tasks[0], tasks[-1]), side.factors.shape[1]
    chosen = rows[own]
    rho = learner[chosen, RHO]
    shares = np.divide(rho, np.float32(square) + rho, out=np.zeros_like(rho), where=rho > 0)
    side.factors[own] += shares[:, None] * (expected[own, :k] - pulls[chosen, :k])
    learner[chosen, :k], learner[chosen, BIAS] = side.factors[own], side.bias[own]
    pulls[chosen, :k], learner[chosen, BIAS_PULL] = expected[own, :k], expected[own, k]


@region
def deal_rows_cpu(share, rows, side, expected, learner, pulls, square):
    """Copy rows and what they are pulled to; see :func:`deal_rows_numpy`."""
    k = side.factors.shape[1]
    for task in taken(share):
        for r in range(share.tasks[task], share.tasks[task + 1]):
            place = rows[r]
            moved = share_of(learner[place, RHO], np.float32(square))
            for f in range(k):
                side.factors[r, f] += moved * (expected[r, f] - pulls[place, f])
                learner[place, f] = side.factors[r, f]
                pulls[place, f] = expected[r, f]
            learner[place, BIAS] = side.bias[r]
            learner[place, BIAS_PULL] = expected[r, k]


@inner
def share_of(rho, square):
    """Return rho / (square + rho), or 0 if rho is 0."""
    return rho / (square + rho) if rho > 0 else np.float32(0)


BLOCKS = {"numpy": blocks_numpy, "cpu": blocks_cpu}
SHUFFLE_BLOCKS = {"numpy": shuffle_blocks_numpy, "cpu": shuffle_blocks_cpu}
COLLECT = {"numpy": collect_numpy, "cpu": collect_cpu, "cuda": lazy("sgd_cuda", "collect_cuda")}
DEAL_ROWS = {"numpy": deal_rows_numpy, "cpu": deal_rows_cpu, "cuda": lazy("sgd_cuda", "deal_rows_cuda")}
