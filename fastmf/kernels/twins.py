"""Draw the items of users, and their ratings, for a synthetic rating matrix whose true model is known.

A user's items are a successive sample without replacement: each next item has a probability proportional to its weight
among the items left. Tries from an alias table (Walker 1977; Vose 1991) come first, and repeats are thrown away. A user
who lacks items after n_items tries gets the unseen items with the smallest exponential keys -log(U) / weight
(Efraimidis and Spirakis 2006): this gives the same distribution in bounded time.

Random numbers are drawn by counter (:mod:`fastmf.kernels.random`), so results depend neither on the order of the rows
nor on the number of threads.
"""

import math
from typing import NamedTuple

import numpy as np

from fastmf.kernels.compile import inner, jit
from fastmf.kernels.random import LOW_32, U1, U2, U32, bits_numpy, bits_of, key_of, unit_of, units_numpy
from fastmf.kernels.region import region, taken

TRIES, KEYS, NOISE, COVER = (np.uint64(n) for n in range(4))


class Popularity(NamedTuple):
    """Item weights (n_items,) float64 > 0 and their alias table: threshold (n_items,) uint64, alias (n_items,) int32.

    A try picks a slot, all equally likely. It takes the item of that number with probability threshold / 2^32, else
    the slot's alias. :func:`popularity` builds the table.
    """

    weights: np.ndarray
    threshold: np.ndarray
    alias: np.ndarray


class Truth(NamedTuple):
    """The model that ratings are drawn from: mean, standard deviation of the noise, biases and factors."""

    mean: float
    noise: float
    user_bias: np.ndarray
    item_bias: np.ndarray
    user_factors: np.ndarray
    item_factors: np.ndarray


def popularity(weights: np.ndarray) -> Popularity:
    """Build the alias table of positive weights (n_items,): a :class:`Popularity`."""
    n = len(weights)
    weights = np.ascontiguousarray(weights, np.float64)
    threshold, alias = np.full(n, 2**32, np.uint64), np.arange(n, dtype=np.int32)
    _alias_table(weights * (n / weights.sum()), threshold, alias)
    return Popularity(weights, threshold, alias)


@jit
def _alias_table(share, threshold, alias):
    n = share.shape[0]
    stacks = np.empty(n, np.int32)  # the small shares grow from the left, the large ones from the right
    small, large = 0, n
    for item in range(n):
        if share[item] < 1.0:
            stacks[small] = item
            small += 1
        else:
            large -= 1
            stacks[large] = item
    while small > 0 and large < n:
        small -= 1
        less, more = stacks[small], stacks[large]
        threshold[less] = np.uint64(share[less] * 2.0**32)
        alias[less] = more
        share[more] -= 1.0 - share[less]
        if share[more] < 1.0:
            stacks[small] = more
            small += 1
            large += 1


def draw_items_numpy(tasks, indptr, popularity, seed, items):
    """Draw the items of users ``tasks[0]`` to ``tasks[-1]``, distinct and ascending for each user, by popularity.

    indptr (n_users + 1,) int64 with at most n_items items per user; seed a uint64; items (n,) int32 is written: user
    u's at ``indptr[u]`` to ``indptr[u + 1]``.
    """
    n_items = len(popularity.weights)
    counters = np.arange(n_items, dtype=np.uint64)
    for user in range(tasks[0], tasks[-1]):
        wanted = indptr[user + 1] - indptr[user]
        bits = bits_numpy(seed, TRIES, user, counters)
        slots = ((bits >> U32) * np.uint64(n_items)) >> U32
        tries = np.where((bits & LOW_32) < popularity.threshold[slots], slots, popularity.alias[slots])
        _, first_seen = np.unique(tries, return_index=True)
        chosen = tries[np.sort(first_seen)[:wanted]].astype(np.int64)
        keys = -np.log(units_numpy(bits_numpy(seed, KEYS, user, counters))) / popularity.weights
        keys[chosen] = np.inf
        rest = np.argsort(keys)[: wanted - len(chosen)]
        items[indptr[user] : indptr[user + 1]] = np.sort(np.concatenate([chosen, rest]))


@region(allocates=True)
def draw_items_cpu(share, indptr, popularity, seed, items):
    """Draw the items; see :func:`draw_items_numpy`."""
    n_items = popularity.weights.shape[0]
    seen = np.full(n_items, -1, np.int64)  # the last user each item was drawn for
    keys = np.empty(n_items, np.float64)
    for task in taken(share):
        for user in range(share.tasks[task], share.tasks[task + 1]):
            place, last = _draw_by_tries(user, indptr, popularity, seed, items, seen), indptr[user + 1]
            if place < last:
                _finish_by_keys(place, last, user, popularity, seed, items, seen, keys)
            items[indptr[user] : last].sort()


@inner
def _draw_by_tries(user, indptr, popularity, seed, items, seen):
    """Draw a user's items until there are enough, or n_items tries are over; return where the next one goes."""
    n_items, key, place = seen.shape[0], key_of(seed, TRIES, np.uint64(user)), indptr[user]
    for attempt in range(n_items):
        if place == indptr[user + 1]:
            break
        bits = bits_of(key, np.uint64(attempt))
        item = np.int64(((bits >> U32) * np.uint64(n_items)) >> U32)
        if (bits & LOW_32) >= popularity.threshold[item]:
            item = np.int64(popularity.alias[item])
        if seen[item] != user:
            seen[item] = user
            items[place] = item
            place += 1
    return place


@jit
def _finish_by_keys(place, last, user, popularity, seed, items, seen, keys):
    """Fill ``items[place:last]`` with the unseen items of smallest key; keys (n_items,) float64 is scratch."""
    key = key_of(seed, KEYS, np.uint64(user))
    for item in range(keys.shape[0]):
        keys[item] = np.inf
        if seen[item] != user:
            keys[item] = -math.log(unit_of(bits_of(key, np.uint64(item)))) / popularity.weights[item]
    order = np.argsort(keys)  # allocates, but few users in a thousand get here
    for j in range(last - place):
        items[place + j] = order[j]


@jit
def cover_items(indptr, items, n_items, seed):
    """Give every item without ratings one rating of a random item that has two or more; return how many had none.

    items (n,) int32 with n >= n_items is changed in place; each user's items keep their number, distinct and
    ascending. Serial: it changes few ratings, and each change depends on the ones before.
    """
    n, n_covered, n_ratings_of = np.uint64(items.shape[0]), 0, np.bincount(items, minlength=n_items)
    key = key_of(seed, COVER, np.uint64(0))
    for item in range(n_items):
        if n_ratings_of[item] > 0:
            continue
        place = np.int64(bits_of(key, np.uint64(item)) % n)
        while n_ratings_of[items[place]] < 2:
            place = (place + 1) % items.shape[0]
        n_ratings_of[items[place]] -= 1
        n_ratings_of[item] = 1
        n_covered += 1
        user = np.searchsorted(indptr, place, side="right") - 1
        while place > indptr[user] and items[place - 1] > item:
            items[place] = items[place - 1]
            place -= 1
        while place + 1 < indptr[user + 1] and items[place + 1] < item:
            items[place] = items[place + 1]
            place += 1
        items[place] = item
    return n_covered


def normals_numpy(seed: np.uint64, stream: np.uint64, n: int, row: int = 0) -> np.ndarray:
    """Draw n standard normal numbers, float64, from a row of a stream (Box and Muller 1958): two uniforms for each."""
    pairs = units_numpy(bits_numpy(seed, stream, row, np.arange(2 * n, dtype=np.uint64)))
    return np.sqrt(-2.0 * np.log(pairs[0::2])) * np.cos(2.0 * np.pi * pairs[1::2])


@inner
def _normal(key, counter):
    """Draw number ``counter`` of :func:`normals_numpy`."""
    radius = math.sqrt(-2.0 * math.log(unit_of(bits_of(key, U2 * counter))))
    return radius * math.cos(2.0 * math.pi * unit_of(bits_of(key, U2 * counter + U1)))


def rate_items_numpy(tasks, indptr, items, truth, seed, ratings):
    """Draw the ratings of users ``tasks[0]`` to ``tasks[-1]``: truth plus normal noise, rounded to half stars, .5 to 5.

    items (n,) int32, truth a :class:`Truth`, seed a uint64; ratings (n,) float32 is written.
    """
    for user in range(tasks[0], tasks[-1]):
        mine = slice(indptr[user], indptr[user + 1])
        noise = truth.noise * normals_numpy(seed, NOISE, mine.stop - mine.start, user)
        exact = truth.mean + truth.user_bias[user] + truth.item_bias[items[mine]] + noise
        exact += truth.item_factors[items[mine]] @ truth.user_factors[user]
        ratings[mine] = np.clip(np.floor(2.0 * exact + 0.5) / 2.0, 0.5, 5.0)


@region
def rate_items_cpu(share, indptr, items, truth, seed, ratings):
    """Draw the ratings; see :func:`rate_items_numpy`."""
    rank = truth.user_factors.shape[1]
    for task in taken(share):
        for user in range(share.tasks[task], share.tasks[task + 1]):
            key = key_of(seed, NOISE, np.uint64(user))
            for n in range(indptr[user], indptr[user + 1]):
                item = items[n]
                exact = truth.mean + truth.user_bias[user] + truth.item_bias[item]
                for f in range(rank):
                    exact += truth.user_factors[user, f] * truth.item_factors[item, f]
                exact += truth.noise * _normal(key, np.uint64(n - indptr[user]))
                ratings[n] = min(max(math.floor(2.0 * exact + 0.5) / 2.0, 0.5), 5.0)


DRAW_ITEMS = {"numpy": draw_items_numpy, "cpu": draw_items_cpu}
RATE_ITEMS = {"numpy": rate_items_numpy, "cpu": rate_items_cpu}
