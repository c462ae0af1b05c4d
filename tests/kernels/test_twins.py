import numpy as np
import pytest

from fastmf.kernels import twins
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch

SEED = np.uint64(7)
BOUNDS = np.array([0, 12], np.int64)


def weights(n_items):
    return (np.arange(n_items) + 3.0) ** -1.55


def truth(n_users, n_items, noise=0.75):
    rng = np.random.default_rng(3)

    def draw(*shape):
        return rng.normal(0, 0.4, shape).astype(np.float32)

    return twins.Truth(3.5, noise, draw(n_users), draw(n_items), draw(n_users, 8), draw(n_items, 8))


def drawn(device, counts, popularity, seed=SEED, cuts=None):
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    items = np.full(indptr[-1], -1, np.int32)
    cuts = [0, len(counts)] if cuts is None else cuts
    where = Device(name=device, threads=2)
    launch(twins.DRAW_ITEMS, where, np.asarray(cuts), indptr, popularity, seed, items)
    return indptr, items


@pytest.mark.parametrize("counts", [[1] * 12, [5] * 12, [39, 40, 1, 38] * 3], ids=["one", "few", "nearly all"])
def test_draws_equal_the_definition(counts):
    popularity = twins.popularity(weights(40))
    _, expected = drawn("numpy", counts, popularity)
    _, items = drawn("cpu", counts, popularity)
    np.testing.assert_array_equal(items, expected)


def test_ratings_equal_the_definition():
    indptr, items = drawn("cpu", [10] * 12, twins.popularity(weights(40)))
    results = []
    for device in ("numpy", "cpu"):
        results.append(np.zeros(len(items), np.float32))
        launch(
            twins.RATE_ITEMS, Device(name=device, threads=2), BOUNDS, indptr, items, truth(12, 40), SEED, results[-1]
        )
    np.testing.assert_array_equal(results[1], results[0])
    assert set(np.unique(results[1] * 2)) <= set(range(1, 11))


def test_alias_table_gives_every_item_its_share():
    for n_items in (1, 2, 7, 50):
        popularity = twins.popularity(weights(n_items))
        share = popularity.threshold / 2.0**32
        np.add.at(share, popularity.alias, 1 - popularity.threshold / 2.0**32)
        np.testing.assert_allclose(share / n_items, weights(n_items) / weights(n_items).sum(), atol=1e-8)


def test_items_are_distinct_ascending_and_in_range():
    indptr, items = drawn("cpu", [1, 40, 20, 0, 39] * 2, twins.popularity(weights(40)))
    for user in range(10):
        mine = items[indptr[user] : indptr[user + 1]]
        assert np.all(np.diff(mine) > 0)
        assert np.all((mine >= 0) & (mine < 40))


def test_cutting_the_users_changes_nothing_and_the_seed_everything():
    popularity = twins.popularity(weights(200))
    _, whole = drawn("cpu", [20] * 12, popularity)
    _, parts = drawn("cpu", [20] * 12, popularity, cuts=[0, 1, 5, 12])
    _, other = drawn("cpu", [20] * 12, popularity, seed=np.uint64(8))
    np.testing.assert_array_equal(whole, parts)
    assert np.mean(whole == other) < 0.5


def test_both_ways_to_draw_have_the_distribution_of_successive_sampling():
    # two of three items with weights 4, 2, 1: the chance that each is left out, summed over the orders of the other two
    share = np.array([4, 2, 1]) / 7
    left_out = [
        sum(share[a] * share[b] / (1 - share[a]) for a, b in ((i, j), (j, i)))
        for i, j in ((1, 2), (0, 2), (0, 1))
    ]  # fmt: skip
    counts = [2] * 400  # three tries are often not enough: a good part is finished by keys
    _, items = drawn("numpy", counts, twins.popularity(np.array([4.0, 2.0, 1.0])))
    seen = np.bincount(items, minlength=3) / 400
    np.testing.assert_allclose(1 - seen, left_out, atol=4 * np.sqrt(0.25 / 400))


def test_normals_have_the_moments_of_a_normal():
    normals = twins.normals_numpy(SEED, np.uint64(99), 100_000)
    moments = [np.mean(normals**power) for power in (1, 2, 3, 4)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.06)


def test_cover_gives_every_item_a_rating_and_keeps_the_rows():
    popularity = twins.popularity(weights(100))
    indptr, items = drawn("cpu", [10] * 12, popularity)
    before = items.copy()
    missing = 100 - len(np.unique(items))
    assert twins.cover_items(indptr, items, 100, SEED) == missing > 0
    assert np.bincount(items, minlength=100).min() == 1
    for user in range(12):
        mine = slice(indptr[user], indptr[user + 1])
        assert np.all(np.diff(items[mine]) > 0)
    replaced = [set(before[10 * u : 10 * u + 10]) - set(items[10 * u : 10 * u + 10]) for u in range(12)]
    assert sum(map(len, replaced)) == missing


def test_cover_reaches_a_matrix_with_as_many_ratings_as_items():
    indptr, items = np.array([0, 4, 8], np.int64), np.array([0, 1, 2, 3] * 2, np.int32)
    assert twins.cover_items(indptr, items, 8, SEED) == 4
    assert sorted(items.tolist()) == list(range(8))


def test_without_noise_the_ratings_are_the_rounded_truth():
    indptr, items = drawn("cpu", [10] * 12, twins.popularity(weights(40)))
    known = truth(12, 40, noise=0.0)
    ratings = np.zeros(len(items), np.float32)
    launch(twins.RATE_ITEMS, Device(name="cpu", threads=2), BOUNDS, indptr, items, known, SEED, ratings)
    users = np.repeat(np.arange(12), 10)
    exact = known.mean + known.user_bias[users] + known.item_bias[items]
    exact += np.sum(known.user_factors[users] * known.item_factors[items], axis=1)
    assert np.max(np.abs(ratings - np.clip(exact, 0.5, 5.0))) <= 0.2501
