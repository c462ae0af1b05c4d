"""An epoch of stochastic gradient descent over ratings in an order shuffled anew (Koren et al. 2009).

For a rating r of (u, i) with error e = r - b - c - x . y, and with a row's penalty spread over its n ratings,
rho = reg + reg0 / n (the biases likewise: bias_reg / n), half the gradient of the squared error moves

    x += lr (e y - rho_u x)      y += lr (e x - rho_i y)      b += lr (e - bias_rho_u b)      c += lr (e - bias_rho_i c)

and the absolute error puts sign(e) / 2 in the place of e. Two schedules, one update:

* blocks: a task is a block of ratings, shuffled within; the caller hands over blocks that share no user and no item;
* hogwild (Niu et al. 2011): a task is a stretch of one shuffle of all ratings; threads may race for a row, and a lost
  update is noise.

A shuffle is a function of (seed, epoch, block) that says where each position goes: nothing is stored, nothing is
drawn in sequence, and any epoch can be repeated alone.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastmf.kernels.jit import jit

ROUNDS = 4


class Triples(NamedTuple):
    """Ratings in the order of their blocks: users (n,) int32, items (n,) int32, values (n,) float32."""

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray


class Learner(NamedTuple):
    """One side and the weights of its penalty: factors (n, k), bias (n,), rho (n,) and bias_rho (n,), all float32."""

    factors: np.ndarray
    bias: np.ndarray
    rho: np.ndarray
    bias_rho: np.ndarray


class Step(NamedTuple):
    """How to move: lr, the lr of the biases (0 keeps them), whether the loss is absolute, and what keys the shuffle."""

    lr: float
    bias_lr: float
    absolute: bool
    seed: int
    epoch: int


def positions(n):
    """Count the positions of a shuffle of range(n): the power of two at or above n (at least 2)."""
    return 1 << max(int(n - 1).bit_length(), 1)


def shuffle_numpy(places, n, step, block):
    """Say which of range(n) stands at each of ``places``, leaving out the places that hold none.

    On the integers below a power of two, adding a key, multiplying by an odd number and folding the high half of the
    bits into the low half are bijections, and so are rounds of them; results of n and above are left out. Over
    all ``range(positions(n))`` the result is a permutation of range(n).
    """
    mask = np.uint64(positions(n) - 1)
    half = np.uint64((int(mask).bit_length() + 1) // 2)
    z = places.astype(np.uint64)
    with np.errstate(over="ignore"):
        for turn in range(ROUNDS):
            key = _mix_numpy(_epoch_key(step) + np.uint64(block * ROUNDS + turn))
            z = ((z + key) * (key | np.uint64(1))) & mask
            z ^= z >> half
    return z[z < np.uint64(n)].astype(np.int64)


def _epoch_key(step):
    return _mix_numpy(_mix_numpy(np.uint64(step.seed)) + np.uint64(step.epoch))


def _mix_numpy(z):
    """Scramble 64 bits (SplitMix64: Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def block_epoch_numpy(tasks, triples, users, items, step):
    """Update both sides in place by every rating of some blocks; ``tasks`` bound the blocks inside ``triples``.

    Returns (n_tasks,) int64: the updates of each task.
    """
    for start, stop in pairwise(tasks):
        order = shuffle_numpy(np.arange(positions(stop - start)), stop - start, step, start)
        _update_numpy(start + order, triples, users, items, step)
    return np.diff(tasks)


def hogwild_epoch_numpy(tasks, triples, users, items, step):
    """Update both sides in place by every rating; ``tasks`` bound stretches of ``range(positions(n))``.

    Returns (n_tasks,) int64: the updates of each task.
    """
    updates = []
    for start, stop in pairwise(tasks):
        order = shuffle_numpy(np.arange(start, stop), len(triples.values), step, 0)
        _update_numpy(order, triples, users, items, step)
        updates.append(len(order))
    return np.array(updates, np.int64)


def _update_numpy(order, triples, users, items, step):
    lr, bias_lr = np.float32(step.lr), np.float32(step.bias_lr)
    for n in order:
        u, i = triples.users[n], triples.items[n]
        x, y = users.factors[u], items.factors[i]
        e = triples.values[n] - users.bias[u] - items.bias[i] - x @ y
        g = np.sign(e) * np.float32(0.5) if step.absolute else e
        users.bias[u] += bias_lr * (g - users.bias_rho[u] * users.bias[u])
        items.bias[i] += bias_lr * (g - items.bias_rho[i] * items.bias[i])
        dx = lr * (g * y - users.rho[u] * x)
        y += lr * (g * x - items.rho[i] * y)
        x += dx


@jit
def _mix(z):
    z += np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@jit
def _shuffle(z, mask, half, key):
    for turn in range(ROUNDS):
        turn_key = _mix(key + np.uint64(turn))
        z = ((z + turn_key) * (turn_key | np.uint64(1))) & mask
        z ^= z >> half
    return z


@jit
def _update(u, i, r, x, b, x_rho, b_rho, y, c, y_rho, c_rho, lr, bias_lr, absolute):
    e = r - b[u] - c[i]
    for f in range(x.shape[1]):
        e -= x[u, f] * y[i, f]
    g = e
    if absolute and e > 0:
        g = np.float32(0.5)
    elif absolute and e < 0:
        g = np.float32(-0.5)
    b[u] += bias_lr * (g - b_rho[u] * b[u])
    c[i] += bias_lr * (g - c_rho[i] * c[i])
    rho_u, rho_i = x_rho[u], y_rho[i]
    for f in range(x.shape[1]):
        x_f, y_f = x[u, f], y[i, f]
        x[u, f] = x_f + lr * (g * y_f - rho_u * x_f)
        y[i, f] = y_f + lr * (g * x_f - rho_i * y_f)


@jit
def _run(first, last, base, n, triples, users, items, step, key):
    """Update by the ratings that stand at places first to last of the shuffle of the n ratings from ``base`` on."""
    all_users, all_items, values = triples
    x, b, x_rho, b_rho = users
    y, c, y_rho, c_rho = items
    lr, bias_lr, absolute = np.float32(step.lr), np.float32(step.bias_lr), step.absolute
    width = 1
    while (1 << width) < n:
        width += 1
    mask, half = np.uint64((1 << width) - 1), np.uint64((width + 1) // 2)
    updates = 0
    for place in range(first, min(last, 1 << width)):
        j = np.int64(_shuffle(np.uint64(place), mask, half, key + np.uint64(base * ROUNDS)))
        if j < n:
            u, i, r = all_users[base + j], all_items[base + j], values[base + j]
            _update(u, i, r, x, b, x_rho, b_rho, y, c, y_rho, c_rho, lr, bias_lr, absolute)
            updates += 1
    return updates


@jit
def _block_epoch(tasks, triples, users, items, step, key):
    updates = np.empty(tasks.shape[0] - 1, np.int64)
    for task in range(tasks.shape[0] - 1):
        n = tasks[task + 1] - tasks[task]
        updates[task] = _run(0, 2 * n + 2, tasks[task], n, triples, users, items, step, key)
    return updates


@jit
def _hogwild_epoch(tasks, triples, users, items, step, key):
    updates = np.empty(tasks.shape[0] - 1, np.int64)
    n = triples.values.shape[0]
    for task in range(tasks.shape[0] - 1):
        updates[task] = _run(tasks[task], tasks[task + 1], 0, n, triples, users, items, step, key)
    return updates


def block_epoch_cpu(tasks, triples, users, items, step):
    """Update by some blocks in parallel; see :func:`block_epoch_numpy`."""
    with np.errstate(over="ignore"):  # shuffles run over on purpose, which NumPy warns of when the JIT is off
        return _block_epoch(tasks, triples, users, items, step, _epoch_key(step))


def hogwild_epoch_cpu(tasks, triples, users, items, step):
    """Update by all ratings in parallel, unsynchronised; see :func:`hogwild_epoch_numpy`."""
    with np.errstate(over="ignore"):
        return _hogwild_epoch(tasks, triples, users, items, step, _epoch_key(step))


BLOCK_EPOCH = {"numpy": block_epoch_numpy, "cpu": block_epoch_cpu}
HOGWILD_EPOCH = {"numpy": hogwild_epoch_numpy, "cpu": hogwild_epoch_cpu}
