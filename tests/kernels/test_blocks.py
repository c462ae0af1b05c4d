from itertools import pairwise

import numpy as np
import pytest

from fastmf.kernels.blocks import COLLECT, COUNT_BLOCKS, DEAL, SHUFFLE_BLOCKS, Grid, count_blocks_numpy, deal_numpy
from fastmf.kernels.sgd import new_learner
from fastmf.kernels.sgd_plain import BIAS, SQUARES
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Triples
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch

N, SIZE, BINS, N_USERS, N_ITEMS = 700, 90, 3, 20, 13
TASKS = even(N, SIZE)


def ratings():
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, N_USERS, N).astype(np.int32), rng.integers(0, N_ITEMS, N).astype(np.int32)
    return Triples(users, items, np.arange(N, dtype=np.float32))  # the ratings are their own numbers


def grid():
    rng = np.random.default_rng(1)
    bins = [np.sort(rng.integers(0, BINS, n)).astype(np.int32) for n in (N_USERS, N_ITEMS)]
    return Grid(*bins, *(rng.permutation(n).astype(np.int32) for n in (N_USERS, N_ITEMS)), BINS)


def empty():
    return Triples(np.empty(N, np.int32), np.empty(N, np.int32), np.empty(N, np.float32))


def counted():
    counts = np.full((len(TASKS) - 1, BINS**2), -1)
    count_blocks_numpy(TASKS, SIZE, ratings(), grid(), counts)
    bounds = np.append(0, np.cumsum(counts.sum(axis=0)))
    return counts, bounds, bounds[:-1] + np.cumsum(counts, axis=0) - counts


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_ratings_are_counted_by_task_and_block(device):
    counts = np.full((len(TASKS) - 1, BINS**2), -1)
    where = Device(name=device, threads=2)
    assert launch(COUNT_BLOCKS, where, TASKS, SIZE, ratings(), grid(), counts) == N
    all_ratings, cut = ratings(), grid()
    expected = np.zeros_like(counts)
    for n in range(N):
        user_bin, item_bin = cut.user_bins[all_ratings.users[n]], cut.item_bins[all_ratings.items[n]]
        expected[n // SIZE, (item_bin - user_bin) % BINS * BINS + user_bin] += 1
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_ratings_are_dealt_to_their_blocks_in_order(device):
    _, bounds, places = counted()
    dealt, source, cut = empty(), ratings(), grid()
    where = Device(name=device, threads=2)
    assert launch(DEAL, where, TASKS, SIZE, source, cut, places.copy(), dealt) == N
    order = dealt.values.astype(int)
    np.testing.assert_array_equal(dealt.users, cut.user_rows[source.users[order]])
    np.testing.assert_array_equal(dealt.items, cut.item_rows[source.items[order]])
    for block, (first, last) in enumerate(pairwise(bounds)):
        own = order[first:last]
        assert np.all(np.diff(own) > 0)
        assert set(cut.user_bins[source.users[own]]) <= {block % BINS}
        assert set(cut.item_bins[source.items[own]]) <= {(block // BINS + block % BINS) % BINS}


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_blocks_are_shuffled_within(device):
    _, bounds, places = counted()
    dealt, found = empty(), {}
    deal_numpy(TASKS, SIZE, ratings(), grid(), places, dealt)
    for seed in (0, 1):
        for name in ("numpy", device):
            moved = empty()
            assert launch(SHUFFLE_BLOCKS, Device(name=name, threads=2), TASKS, bounds, dealt, seed, moved) == N
            found[seed, name] = moved
        for expected, array in zip(found[seed, "numpy"], found[seed, device], strict=True):
            np.testing.assert_array_equal(array, expected)
    order = found[0, device].values.astype(int)
    for first, last in pairwise(bounds):
        assert sorted(order[first:last]) == dealt.values[first:last].astype(int).tolist()
        assert np.any(np.diff(order[first:last]) < 0)
    assert np.any(order != found[1, device].values)
    np.testing.assert_array_equal(found[0, device].users, dealt.users[np.argsort(dealt.values)][order])


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("k", [1, 5, 16])
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_what_was_learned_comes_back(device, k, adaptive):
    rng, n = np.random.default_rng(2), 30
    learner, rows = new_learner(n, k), rng.permutation(n).astype(np.int32)
    learner[:] = rng.standard_normal(learner.shape)
    factors, bias = np.empty((n, k), np.float32), np.empty(n, np.float32)
    squares = np.empty(n if adaptive else 0, np.float32)
    assert launch(COLLECT, Device(name=device, threads=2), even(n, 7), rows, learner, factors, bias, squares) == n
    np.testing.assert_array_equal(factors, learner[rows, :k])
    np.testing.assert_array_equal(bias, learner[rows, BIAS])
    np.testing.assert_array_equal(squares, learner[rows, SQUARES] if adaptive else [])
