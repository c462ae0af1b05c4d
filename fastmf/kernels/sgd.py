"""An epoch of stochastic gradient descent over ratings in an order shuffled anew (Koren et al. 2009).

For a rating r of (u, i) with error e = r - b - c - x . y, and with a row's penalty spread over its n ratings,
rho = reg + reg0 / n (the biases likewise: bias_reg / n), half the gradient of the squared error moves

    x += lr (e y - rho_u x)      y += lr (e x - rho_i y)      b += lr (e - bias_rho_u b)      c += lr (e - bias_rho_i c)

and the absolute error puts sign(e) / 2 in the place of e. The adaptive step divides lr by sqrt(G) for each row, with G
= 1 + the sum of the mean squares of the row's earlier gradients (Chin et al. 2015, section 3). Two schedules, one
update:

* blocks: a task is a block of ratings; the caller hands over blocks that share no user and no item;
* hogwild (Niu et al. 2011): a task is a stretch of one block of all ratings; threads may race for a row, and a lost
  update is noise.

Ratings are dealt to blocks in random order once; every epoch goes through the runs of RUN ratings of a block in an
order of its own. Either order is a function of a seed: nothing is drawn in sequence, and any epoch can be repeated
alone.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastmf.kernels.compile import jit, lazy
from fastmf.kernels.random import GOLDEN, mix
from fastmf.kernels.sgd_plain import BIAS, BIAS_RHO, RHO, SQUARES
from fastmf.kernels.vectors import LINE, WIDTH, aligned, vectors, whole

if WIDTH:
    from fastmf.kernels.sgd_simd import update
else:
    from fastmf.kernels.sgd_plain import update

ROUNDS = 4
RUN = 256  # ratings that are visited in a row: what follows is known to the prefetches


class Step(NamedTuple):
    """How to move: lr; whether biases move, lr adapts to each row, the loss is absolute; k; what keys the shuffle."""

    lr: float
    biases: bool
    adaptive: bool
    absolute: bool
    k: int
    seed: int
    epoch: int


def new_learner(n, k):
    """Make a learner, one side while it learns: (n, kp + LINE) float32, zeros for now, with rows on cache lines.

    In a row come the k factors, filled up to the kp of whole vectors, and in the last LINE columns its four terms.
    """
    return aligned(n, whole(k) + LINE)


def positions(n):
    """Count the positions of a shuffle of range(n): the power of two at or above n (at least 2)."""
    return 1 << max(int(n - 1).bit_length(), 1)


def shuffle_numpy(places, n, seed, epoch, block):
    """Say which of range(n) stands at each of ``places``; results of n and above stand for nothing.

    On the integers below a power of two, adding a key, multiplying by an odd number and folding the high half of the
    bits into the low half are bijections, and so are rounds of them: over all ``range(positions(n))`` the results
    below n are a permutation of range(n).
    """
    mask = np.uint64(positions(n) - 1)
    half = np.uint64((int(mask).bit_length() + 1) // 2)
    z = np.asarray(places).astype(np.uint64)
    with np.errstate(over="ignore"):
        for key in round_keys(seed, epoch, [block])[0]:
            z = ((z + key) * (key | np.uint64(1))) & mask
            z ^= z >> half
    return z.astype(np.int64)


def round_keys(seed, epoch, blocks):
    """Key the rounds of the shuffles of some blocks, which are named by their first ratings: (n, ROUNDS) uint64."""
    with np.errstate(over="ignore"):
        turns = np.asarray(blocks, np.uint64)[:, None] * np.uint64(ROUNDS) + np.arange(ROUNDS, dtype=np.uint64)
        return mix(epoch_key(seed, epoch) + turns + GOLDEN)


def epoch_key(seed, epoch):
    """Key the shuffles of an epoch: the epoch before the first, -1, keys the order that ratings are dealt in."""
    with np.errstate(over="ignore"):
        return mix(mix(np.uint64(seed) + GOLDEN) + np.uint64(epoch % 2**64) + GOLDEN)


def block_epoch_numpy(tasks, triples, users, items, step):
    """Update both sides in place by every rating of some blocks; ``tasks`` bound the blocks inside ``triples``.

    Returns (n_tasks,) int64: the updates of each task.
    """
    for start, stop in pairwise(tasks):
        n_runs = -(-(stop - start) // RUN)
        _visit_numpy(np.arange(positions(n_runs)), start, stop, start, triples, users, items, step)
    return np.diff(tasks)


def hogwild_epoch_numpy(tasks, triples, users, items, step):
    """Update both sides in place by every rating; ``tasks`` bound stretches of ``range(positions(runs of RUN))``.

    Returns (n_tasks,) int64: the updates of each task.
    """
    stretches = [np.arange(start, stop) for start, stop in pairwise(tasks)]
    n = len(triples.values)
    return np.array([_visit_numpy(places, 0, n, 0, triples, users, items, step) for places in stretches], np.int64)


def _visit_numpy(places, start, stop, block, triples, users, items, step):
    """Update by the runs of a block that stand at some places; return how many ratings they hold."""
    n_runs, updates = -(-(stop - start) // RUN), 0
    for run in shuffle_numpy(places, n_runs, step.seed, step.epoch, block):
        if run < n_runs:
            first, last = start + run * RUN, min(start + (run + 1) * RUN, stop)
            for n in range(first, last):
                _update_numpy(triples.users[n], triples.items[n], triples.values[n], users, items, step)
            updates += last - first
    return updates


def _update_numpy(u, i, r, users, items, step):
    x, y, of_user, of_item = users[u, :-LINE], items[i, :-LINE], users[u], items[i]
    e = r - of_user[BIAS] - of_item[BIAS] - x @ y
    g = np.sign(e) * np.float32(0.5) if step.absolute else e
    toward_user, toward_item = g * y - of_user[RHO] * x, g * x - of_item[RHO] * y
    for row, terms, toward in ((x, of_user, toward_user), (y, of_item, toward_item)):
        lr = np.float32(step.lr)
        if step.adaptive:
            lr /= np.sqrt(terms[SQUARES])
            terms[SQUARES] += toward @ toward / np.float32(step.k)
        row += lr * toward
        if step.biases:
            terms[BIAS] += lr * (g - terms[BIAS_RHO] * terms[BIAS])


_mix = jit(mix)


@jit
def prepare_shuffle(n, key, shuffles, line):
    """Write into a line of shuffles (…, 2 + ROUNDS) uint64 what :func:`shuffled` must know of a shuffle of range(n)."""
    width = 1
    while (1 << width) < n:
        width += 1
    shuffles[line, 0], shuffles[line, 1] = np.uint64((1 << width) - 1), np.uint64((width + 1) // 2)
    for turn in range(ROUNDS):
        shuffles[line, 2 + turn] = _mix(key + np.uint64(turn) + GOLDEN)


@jit
def shuffled(place, shuffles, line):
    """Say what stands at a place; see :func:`shuffle_numpy`."""
    z, mask, half = np.uint64(place), shuffles[line, 0], shuffles[line, 1]
    for turn in range(ROUNDS):
        key = shuffles[line, 2 + turn]
        z = ((z + key) * (key | np.uint64(1))) & mask
        z ^= z >> half
    return np.int64(z)


@jit
def _visit(first, last, start, stop, triples, users, items, step, columns, key):
    """Update by the runs that stand at places first to last of the block of ratings from start to stop."""
    n_runs, updates = (stop - start + RUN - 1) // RUN, 0
    shuffles = np.empty((1, 2 + ROUNDS), np.uint64)
    prepare_shuffle(n_runs, key, shuffles, 0)
    for place in range(first, last):
        run = shuffled(place, shuffles, 0)
        if run < n_runs:
            begin, end = start + run * RUN, min(start + (run + 1) * RUN, stop)
            update(begin, end, triples, users, items, step, columns)
            updates += end - begin
    return updates


@jit
def _block_epoch(tasks, triples, users, items, step, columns, key):
    updates = np.empty(tasks.shape[0] - 1, np.int64)
    for task in range(tasks.shape[0] - 1):
        start, stop, places = tasks[task], tasks[task + 1], 2
        while places * RUN < stop - start:
            places *= 2
        of_block = key + np.uint64(start * ROUNDS)
        updates[task] = _visit(0, places, start, stop, triples, users, items, step, columns, of_block)
    return updates


@jit
def _hogwild_epoch(tasks, triples, users, items, step, columns, key):
    updates, n = np.empty(tasks.shape[0] - 1, np.int64), triples.values.shape[0]
    for task in range(tasks.shape[0] - 1):
        updates[task] = _visit(tasks[task], tasks[task + 1], 0, n, triples, users, items, step, columns, key)
    return updates


def block_epoch_cpu(tasks, triples, users, items, step):
    """Update by some blocks; see :func:`block_epoch_numpy`. Blocks in other threads must share no user and no item."""
    with np.errstate(over="ignore"):  # shuffles run over on purpose, which NumPy warns of when the JIT is off
        return _block_epoch(tasks, triples, users, items, step, _vectors(users), epoch_key(step.seed, step.epoch))


def hogwild_epoch_cpu(tasks, triples, users, items, step):
    """Update by stretches of all ratings; see :func:`hogwild_epoch_numpy`. Threads race by design."""
    with np.errstate(over="ignore"):
        return _hogwild_epoch(tasks, triples, users, items, step, _vectors(users), epoch_key(step.seed, step.epoch))


def _vectors(side):
    """Tell the compiler how many vectors a row's factors are."""
    return vectors(side.shape[1] - LINE)


BLOCK_EPOCH = {"numpy": block_epoch_numpy, "cpu": block_epoch_cpu, "cuda": lazy("sgd_cuda", "block_epoch_cuda")}
HOGWILD_EPOCH = {
    "numpy": hogwild_epoch_numpy,
    "cpu": hogwild_epoch_cpu,
    "cuda": lazy("sgd_cuda", "hogwild_epoch_cuda"),
}
