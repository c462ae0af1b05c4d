"""The k-core: what remains is the largest set in which all have enough, and every rating that falls is counted."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmf import DataError, Features, ParameterError, Ratings


def oracle(pairs, least):
    """Drop all users, then all items, with too few, again and again. Count the pairs that fall with either."""
    pairs, fallen = list(pairs), [0, 0]
    while True:
        before = len(pairs)
        for side in (0, 1):
            counts = {}
            for pair in pairs:
                counts[pair[side]] = counts.get(pair[side], 0) + 1
            left = [pair for pair in pairs if counts[pair[side]] >= least[side]]
            fallen[side] += len(pairs) - len(left)
            pairs = left
        if len(pairs) == before:
            return pairs, fallen


def pairs_of(ratings):
    users, items = ratings.user_ids.to_numpy()[ratings.users], ratings.item_ids.to_numpy()[ratings.items]
    return list(zip(users.tolist(), items.tolist(), strict=True))


def of_pairs(pairs):
    users, items = map(np.array, zip(*pairs, strict=True))
    return Ratings.from_arrays(users, items, 1.0 + np.arange(len(pairs)))


@settings(deadline=None, max_examples=60)
@given(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 7)), min_size=1), st.integers(1, 5), st.integers(1, 5))
def test_the_core_is_that_of_brute_force(pairs, least_user, least_item):
    ratings = of_pairs(sorted(pairs))
    expected, fallen = oracle(pairs_of(ratings), (least_user, least_item))
    if not expected:
        with pytest.raises(DataError, match=f"none of {len(ratings)} ratings remain .*--min-user-ratings"):
            ratings.core(least_user, least_item)
        return
    core = ratings.core(least_user, least_item)
    assert pairs_of(core) == expected
    values = dict(zip(pairs_of(ratings), ratings.values.tolist(), strict=True))
    assert core.values.tolist() == [values[pair] for pair in expected]
    assert core.user_ids.to_pylist() == sorted({user for user, _ in expected})
    assert core.item_ids.to_pylist() == sorted({item for _, item in expected})
    names = "below_min_user_ratings", "below_min_item_ratings"
    assert [core.dropped[name] for name in names] == fallen
    assert core.rows["read"] == len(ratings)
    assert core.user_counts.min() >= least_user
    assert core.item_counts.min() >= least_item


def test_a_chain_falls_link_by_link():
    # user n rates items n and n + 1: taking one end away takes all of it away, and leaves the square beside it
    chain = [(n, n + step) for n in range(300) for step in (0, 1)]
    square = [(900 + user, 900 + item) for user in range(2) for item in range(2)]
    core = of_pairs(chain + square).core(2, 2)
    assert pairs_of(core) == square
    assert core.rows["below_min_user_ratings"] + core.rows["below_min_item_ratings"] == len(chain)


def test_weights_and_earlier_drops_stay():
    pairs = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 9)]
    users, items = map(np.array, zip(*pairs, strict=True))
    table = {"user": [*users, 1], "item": [*items, 2], "rating": [1.0, 2, 3, 4, 5, 6], "w": [1.0, 2, 3, 4, 5, 2]}
    core = Ratings.read(pa.table(table), weight="w", duplicates="last").core(2)
    assert core.weights.tolist() == [1, 2, 3, 4]
    assert core.rows == {
        "read": 6,
        "used": 4,
        "duplicates": 1,
        "below_min_user_ratings": 1,
        "below_min_item_ratings": 0,
    }


def test_ids_without_ratings_are_dropped_unless_features_are_known_of_them():
    ratings = of_pairs([(1, 1), (1, 2), (2, 1), (2, 2), (3, 9)])
    known = Features.read(pa.table({"item_id": [9, 10], "size": [1.0, 2.0]}), "item")
    core = ratings.with_features(items=known).core(min_user_ratings=2)
    assert core.user_ids.to_pylist() == [1, 2]
    assert core.item_ids.to_pylist() == [1, 2, 9, 10]
    assert core.item_counts.tolist() == [2, 2, 0, 0]
    assert np.diff(core.item_features.rows.indptr).tolist() == [0, 0, 1, 1]
    rest, _ = ratings.split(0.2, seed=1)
    assert rest.core().n_users + rest.core().n_items < ratings.n_users + ratings.n_items


@pytest.mark.parametrize("bad", [0, -1, 2.0, True, None])
def test_numbers_that_are_no_counts_are_refused(bad):
    ratings = of_pairs([(1, 1)])
    with pytest.raises(ParameterError, match="min_user_ratings is"):
        ratings.core(bad)
    with pytest.raises(ParameterError, match="min_item_ratings is"):
        ratings.core(1, bad)
