"""An epoch of stochastic gradient descent over ratings in a freshly shuffled order (Koren et al. 2009).

A rating r of (u, i) has the error e = r - b - c - x . y. A row's penalty is spread over its n ratings, rho = reg +
reg0 / n, and bias_rho = bias_reg / n. Half the gradient of the squared error gives the update

    x += lr (e y - rho_u x)      y += lr (e x - rho_i y)      b += lr (e - bias_rho_u b)      c += lr (e - bias_rho_i c)

An error beyond CLIP, in standard deviations of the ratings, counts as CLIP: the loss is then Huber's, and one outlier
cannot throw its rows so far that training diverges.

If a row is pulled to z instead of zero, and its bias to a, then x - z and b - a take the places of rho's x and b.

If ratings have weights g, the gradient of a rating is multiplied by its g, and n is the sum of g. A row's penalties
then still add up to reg n + reg0. The absolute error replaces e by sign(e) / 2. The adaptive step divides lr by sqrt(G)
for each row, with G = 1 + the sum of the mean squares of the row's earlier gradients (Chin et al. 2015, section 3). Two
schedules share this update:

* blocks: a task is a block of ratings; the blocks of a stratum, which share no user and no item, run at the same time;
* hogwild (Niu et al. 2011): all ratings form one block, and a task is a stretch of it; threads may race for a row, and
  a lost update counts as noise.

Ratings are dealt to blocks once, in random order. Every epoch visits a block's runs of RUN ratings in a new order. Both
orders are functions of a seed: nothing is drawn in sequence, so any epoch can be repeated alone.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastmf.kernels.compile import inner, jit, lazy
from fastmf.kernels.random import GOLDEN, mix, mix_numpy
from fastmf.kernels.region import done, region, taken, wait_for
from fastmf.kernels.sgd_plain import BIAS, BIAS_PULL, BIAS_RHO, CLIP, RHO, SQUARES
from fastmf.kernels.vectors import LINE, WIDTH, aligned, vectors, whole

if WIDTH:
    from fastmf.kernels.sgd_simd import update
else:
    from fastmf.kernels.sgd_plain import update

ROUNDS = 4
NO_PULLS = None, None
RUN = 256  # consecutive ratings that are visited together, so that the next ones can be prefetched


class Step(NamedTuple):
    """Settings of one epoch. The flags: biases are learned, lr adapts to each row, the loss is absolute.

    ``stratum`` is the number of consecutive blocks that share no user and no item, and so may run at the same time.
    """

    lr: float
    biases: bool
    adaptive: bool
    absolute: bool
    k: int
    seed: int
    epoch: int
    stratum: int = 1


def new_learner(n, k):
    """Allocate a learner, one side as SGD stores it: (n, kp + LINE) float32 zeros, aligned to cache lines.

    A row holds the k factors, padded to whole vectors (kp columns). Its last LINE columns hold five terms: BIAS, RHO,
    BIAS_RHO, SQUARES, which is G, and BIAS_PULL, what the bias is pulled to.
    """
    return aligned(n, whole(k) + LINE)


def block_epoch_numpy(tasks, triples, users, items, step, pulls=NO_PULLS):
    """Update both sides in place with every rating of some blocks; ``tasks`` are the blocks' bounds in ``triples``.

    A stratum starts when all blocks of the strata before it are done. ``pulls`` are what the rows of each side are
    pulled to, (n, kp) aligned to cache lines, or None for zeros, also for its biases.
    """
    for start, stop in pairwise(tasks):
        n_runs = -(-(stop - start) // RUN)
        _visit_numpy(np.arange(positions(n_runs)), start, stop, start, triples, users, items, step, pulls)


def hogwild_epoch_numpy(tasks, triples, users, items, step, pulls=NO_PULLS):
    """Update both sides in place with every rating; ``tasks`` cut ``range(positions(number of runs))`` into stretches.

    Threads race by design. ``pulls`` are those of :func:`block_epoch_numpy`.
    """
    for start, stop in pairwise(tasks):
        _visit_numpy(np.arange(start, stop), 0, len(triples.values), 0, triples, users, items, step, pulls)


def _visit_numpy(places, start, stop, block, triples, users, items, step, pulls):
    """Update with the runs at the given places of a block's shuffle."""
    n_runs = -(-(stop - start) // RUN)
    for run in shuffle_numpy(places, n_runs, step.seed, step.epoch, block):
        if run < n_runs:
            for n in range(start + run * RUN, min(start + (run + 1) * RUN, stop)):
                weight = np.float32(1) if triples.weights is None else triples.weights[n]
                _update_numpy(triples.users[n], triples.items[n], triples.values[n], weight, users, items, step, pulls)


def _update_numpy(u, i, r, weight, users, items, step, pulls):
    x, y, of_user, of_item = users[u, :-LINE], items[i, :-LINE], users[u], items[i]
    e = r - of_user[BIAS] - of_item[BIAS] - x @ y
    g = np.sign(e) * np.float32(0.5) if step.absolute else np.clip(e, -CLIP, CLIP)
    (z, a), (t, c) = _pull_numpy(pulls[0], u, of_user), _pull_numpy(pulls[1], i, of_item)
    toward_user, toward_item = weight * (g * y - of_user[RHO] * (x - z)), weight * (g * x - of_item[RHO] * (y - t))
    for row, terms, toward, pull in ((x, of_user, toward_user, a), (y, of_item, toward_item, c)):
        lr = np.float32(step.lr)
        if step.adaptive:
            lr /= np.sqrt(terms[SQUARES])
            terms[SQUARES] += toward @ toward / np.float32(step.k)
        row += lr * toward
        if step.biases:
            terms[BIAS] += lr * weight * (g - terms[BIAS_RHO] * (terms[BIAS] - pull))


def _pull_numpy(pulls, row, terms):
    """Return what a row's factors and its bias are pulled to."""
    return (np.float32(0), np.float32(0)) if pulls is None else (pulls[row], terms[BIAS_PULL])


def positions(n):
    """Return the number of positions in a shuffle of range(n): the power of two at or above n (at least 2)."""
    return 1 << max(int(n - 1).bit_length(), 1)


def shuffle_numpy(places, n, seed, epoch, block):
    """Return the numbers of range(n) at ``places`` of a shuffle; a result of n or above means an empty place.

    On the integers below a power of two, adding a key, multiplying by an odd number and folding the high half of the
    bits into the low half are bijections, and so is any chain of them. Over all ``range(positions(n))``, the results
    below n are a permutation of range(n).
    """
    mask = np.uint64(positions(n) - 1)
    half = np.uint64((int(mask).bit_length() + 1) // 2)
    z = np.asarray(places).astype(np.uint64)
    for key in round_keys(seed, epoch, [block])[0]:
        z = ((z + key) * (key | np.uint64(1))) & mask
        z ^= z >> half
    return z.astype(np.int64)


def round_keys(seed, epoch, blocks):
    """Return the round keys of each block's shuffle, (n, ROUNDS) uint64; ``blocks`` are the blocks' first ratings."""
    turns = np.asarray(blocks, np.uint64)[:, None] * np.uint64(ROUNDS) + np.arange(ROUNDS, dtype=np.uint64)
    return mix_numpy(np.uint64(epoch_key(seed, epoch)) + turns + GOLDEN)


@jit
def epoch_key(seed, epoch):
    """Return the key of an epoch's shuffles; epoch -1 gives the order in which ratings are dealt."""
    return mix(np.uint64(mix(np.uint64(seed) + GOLDEN)) + np.uint64(np.int64(epoch)) + GOLDEN)


@jit
def new_shuffle(n, key):
    """Return a shuffle of range(n) for :func:`at_place`: mask, half and round keys, uint64."""
    width, shuffle = 1, np.empty(2 + ROUNDS, np.uint64)
    while (1 << width) < n:
        width += 1
    shuffle[0], shuffle[1] = np.uint64((1 << width) - 1), np.uint64((width + 1) // 2)
    for turn in range(ROUNDS):
        shuffle[2 + turn] = mix(key + np.uint64(turn) + GOLDEN)
    return shuffle


@inner
def at_place(place, shuffle):
    """Return the number at a place of a shuffle; see :func:`shuffle_numpy`."""
    z, mask, half = np.uint64(place), shuffle[0], shuffle[1]
    for turn in range(ROUNDS):
        key = shuffle[2 + turn]
        z = ((z + key) * (key | np.uint64(1))) & mask
        z ^= z >> half
    return np.int64(z)


@jit
def _visit(first, last, start, stop, block, triples, users, items, pulls, step, columns):
    """Update with the runs at places first to last of a block's shuffle; its ratings are those from start to stop."""
    n_runs = (stop - start + RUN - 1) // RUN
    shuffle = new_shuffle(n_runs, epoch_key(step.seed, step.epoch) + np.uint64(block * ROUNDS))
    for place in range(first, last):
        run = at_place(place, shuffle)
        if run < n_runs:
            end = min(start + (run + 1) * RUN, stop)
            update(start + run * RUN, end, triples, users, items, pulls, step, columns)


@region(allocates=True)
def _block_epoch(share, triples, users, items, pulls, step, columns):
    for task in taken(share):
        start, stop, places = share.tasks[task], share.tasks[task + 1], 2
        while places * RUN < stop - start:
            places *= 2
        wait_for(share, task // step.stratum * step.stratum)
        _visit(0, places, start, stop, start, triples, users, items, pulls, step, columns)
        done(share)


@region(allocates=True)
def _hogwild_epoch(share, triples, users, items, pulls, step, columns):
    n = triples.values.shape[0]
    for task in taken(share):
        _visit(share.tasks[task], share.tasks[task + 1], 0, n, 0, triples, users, items, pulls, step, columns)


def block_epoch_cpu(tasks, triples, users, items, step, pulls=NO_PULLS):
    """Update with all blocks, stratum by stratum; see :func:`block_epoch_numpy`."""
    return _block_epoch(tasks, triples, users, items, pulls, step, vectors(users.shape[1] - LINE))


def hogwild_epoch_cpu(tasks, triples, users, items, step, pulls=NO_PULLS):
    """Update with stretches of all ratings; see :func:`hogwild_epoch_numpy`."""
    return _hogwild_epoch(tasks, triples, users, items, pulls, step, vectors(users.shape[1] - LINE))


BLOCK_EPOCH = {"numpy": block_epoch_numpy, "cpu": block_epoch_cpu, "cuda": lazy("sgd_cuda", "block_epoch_cuda")}
HOGWILD_EPOCH = {"numpy": hogwild_epoch_numpy, "cpu": hogwild_epoch_cpu, "cuda": lazy("sgd_cuda", "hogwild_epoch_cuda")}
