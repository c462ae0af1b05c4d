from itertools import pairwise

import numpy as np
import pytest

from fastmf.data.csr import group
from fastmf.kernels.blocks import BLOCKS, COLLECT, DEAL_ROWS, SHUFFLE_BLOCKS
from fastmf.kernels.sgd import new_learner
from fastmf.kernels.sgd_plain import BIAS, BIAS_PULL, RHO, SQUARES
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Grid, Side, Triples
from fastmf.kernels.vectors import whole
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


def blocks(device):
    found = np.full(N, -1, np.int32)
    launch(BLOCKS, Device(name=device, threads=2), TASKS, ratings(), grid(), found)
    return found


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_ratings_are_told_their_blocks(device):
    all_ratings, cut, found = ratings(), grid(), blocks(device)
    for n in range(N):
        user_bin, item_bin = cut.user_bins[all_ratings.users[n]], cut.item_bins[all_ratings.items[n]]
        assert found[n] == (item_bin - user_bin) % BINS * BINS + user_bin


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_blocks_are_shuffled_within(device, weighed):
    cut, found, weights = grid(), {}, np.arange(N, dtype=np.float32) + 0.5
    source = ratings()._replace(weights=weights if weighed else None)
    columns = source[: 4 if weighed else 3]
    bounds, moved = group(blocks("numpy"), BINS**2, columns, Device(name="numpy", threads=1))
    dealt = Triples(*moved)
    for seed in (0, 1):
        for name in {"numpy", device}:
            moved = empty()._replace(weights=np.empty(N, np.float32) if weighed else None)
            launch(SHUFFLE_BLOCKS, Device(name=name, threads=2), TASKS, bounds, dealt, cut, seed, moved)
            found[seed, name] = moved
        for expected, array in zip(found[seed, "numpy"], found[seed, device], strict=True):
            np.testing.assert_array_equal(array, expected)
    order = found[0, device].values.astype(int)
    for first, last in pairwise(bounds):
        assert sorted(order[first:last]) == dealt.values[first:last].astype(int).tolist()
        assert np.any(np.diff(order[first:last]) < 0)
    assert np.any(order != found[1, device].values)
    np.testing.assert_array_equal(found[0, device].users, cut.user_rows[source.users[order]])
    np.testing.assert_array_equal(found[0, device].items, cut.item_rows[source.items[order]])
    if weighed:
        np.testing.assert_array_equal(found[0, device].weights, weights[order])


@pytest.mark.parametrize(("k", "adaptive"), [(1, True), (5, False), (16, True)])
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_what_was_learned_comes_back(device, k, adaptive):
    rng, n = np.random.default_rng(2), 30
    learner, rows = new_learner(n, k), rng.permutation(n).astype(np.int32)
    learner[:] = rng.standard_normal(learner.shape)
    factors, bias = np.empty((n, k), np.float32), np.empty(n, np.float32)
    squares = np.empty(n if adaptive else 0, np.float32)
    launch(COLLECT, Device(name=device, threads=2), even(n, 7), rows, learner, factors, bias, squares)
    np.testing.assert_array_equal(factors, learner[rows, :k])
    np.testing.assert_array_equal(bias, learner[rows, BIAS])
    np.testing.assert_array_equal(squares, learner[rows, SQUARES] if adaptive else [])


@pytest.mark.parametrize("k", [1, 5, 16])
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_rows_follow_their_pulls_into_the_learner(device, k):
    rng, n = np.random.default_rng(3), 30
    learner, rows = new_learner(n, k), rng.permutation(n).astype(np.int32)
    rho = rng.uniform(0, 3, n).astype(np.float32)
    rho[:5] = 0  # rows without ratings are where they are pulled to already
    learner[rows, RHO] = rho
    side = Side(rng.standard_normal((n, k)).astype(np.float32), rng.standard_normal(n).astype(np.float32))
    before, bias, pulls = side.factors.copy(), side.bias.copy(), np.zeros((n, whole(k)), np.float32)
    shifts = np.zeros((n, k))
    for square in (np.inf, 0.5, 0.0):  # infinite: the first pulls move nothing
        expected = rng.standard_normal((n, whole(k + 1))).astype(np.float32)
        shares = np.divide(rho, square + rho, out=np.zeros(n), where=rho > 0)
        shifts += shares[:, None] * (expected[:, :k] - pulls[rows, :k])
        launch(DEAL_ROWS, Device(name=device, threads=2), even(n, 7), rows, side, expected, learner, pulls, square)
        np.testing.assert_allclose(side.factors, before + shifts, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(learner[rows, :k], side.factors)
        np.testing.assert_array_equal(learner[rows, BIAS], bias)
        np.testing.assert_array_equal(pulls[rows, :k], expected[:, :k])
        np.testing.assert_array_equal(learner[rows, BIAS_PULL], expected[:, k])
    assert not pulls[:, k:].any()
    assert not learner[:, k : whole(k)].any()
    np.testing.assert_array_equal(learner[rows, RHO], rho)
