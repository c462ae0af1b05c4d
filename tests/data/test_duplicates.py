from itertools import permutations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmf.data.duplicates import WAYS, merged, repeated
from fastmf.data.ratings import Ratings
from fastmf.errors import DataError, ParameterError

SETTINGS = settings(deadline=None, derandomize=True, database=None, max_examples=40)

TWICE = [1, 1, 2, 1, 2], ["x", "y", "x", "x", "x"], [0.1, 2.0, 3.0, 0.2, 5.0]


def pairs(ratings):
    """Return a dict of raw (user, item) to rating."""
    users, items = ratings.user_ids.to_pylist(), ratings.item_ids.to_pylist()
    rows = zip(ratings.users, ratings.items, ratings.values.tolist(), strict=True)
    return {(users[u], items[i]): value for u, i, value in rows}


def test_duplicates_are_refused_with_their_number_and_an_example():
    with pytest.raises(DataError, match=r"2 of 5 rows repeat a \(user, item\) pair, first for user 1 and item 'x':"):
        Ratings.from_arrays(*TWICE)
    with pytest.raises(ParameterError, match="duplicates is 'first': choose error or last or mean or sum"):
        Ratings.from_arrays(*TWICE, duplicates="first")


def test_the_last_of_duplicates_is_that_of_the_last_row():
    ratings = Ratings.from_arrays(*TWICE, duplicates="last")
    assert pairs(ratings) == {(1, "x"): np.float32(0.2), (1, "y"): 2.0, (2, "x"): 5.0}
    assert ratings.rows == {"read": 5, "used": 3, "duplicates": 2}
    reverse = Ratings.from_arrays(*(column[::-1] for column in TWICE), duplicates="last")
    assert pairs(reverse) == {(1, "x"): np.float32(0.1), (1, "y"): 2.0, (2, "x"): 3.0}


def test_the_last_row_of_a_directory_is_in_its_last_file(tmp_path):
    for name, value in {"b": 2.0, "a": 1.0, "c": 3.0}.items():
        pq.write_table(pa.table({"user": [1], "item": [1], "rating": [value]}), tmp_path / f"{name}.parquet")
    assert Ratings.from_parquet(tmp_path, duplicates="last").values.tolist() == [3.0]


@SETTINGS
@given(st.permutations(range(40)))
def test_the_mean_of_duplicates_is_exact_and_ignores_the_order_of_rows(order):
    rng = np.random.default_rng(3)
    users, items = rng.integers(0, 3, 40), rng.integers(0, 3, 40)
    values = rng.standard_normal(40).astype(np.float32) * np.float32(10.0) ** rng.integers(-6, 7, 40)
    expected = {}
    for pair in {*zip(users.tolist(), items.tolist(), strict=True)}:
        own = np.sort(values[(users == pair[0]) & (items == pair[1])]).astype(np.float64)
        expected[pair] = np.float32(np.add.reduce(own) / len(own))
    order = np.array(order)
    ratings = Ratings.from_arrays(users[order], items[order], values[order], duplicates="mean")
    found = pairs(ratings)
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[pair] for pair in expected], list(expected.values()), rtol=1e-6)
    straight = Ratings.from_arrays(users, items, values, duplicates="mean")
    for name in ("users", "items", "values"):
        assert getattr(ratings, name).tobytes() == getattr(straight, name).tobytes()
    assert ratings.rows == {"read": 40, "used": len(expected), "duplicates": 40 - len(expected)}


@pytest.mark.parametrize(("values", "mean"), [([1e8, 3, -1e8], 1.0), ([1e20, 1, -1e20, 3], 0.0), ([0.1] * 3, 0.1)])
def test_the_mean_of_duplicates_is_added_up_in_float64_by_size(values, mean):
    for order in permutations(values):
        ratings = Ratings.from_arrays([1] * len(values), [1] * len(values), order, duplicates="mean")
        assert ratings.values.tolist() == [np.float32(mean)]


@pytest.mark.parametrize(
    ("way", "ratings", "weights"),
    [("last", [3.0, 4.0, 5.0], [1.0, 8.0, 2.0]), ("mean", [2.0, 4.0, 5.0], [2.5, 8.0, 2.0]),
     ("sum", [4.0, 4.0, 5.0], [5.0, 8.0, 2.0])],
)  # fmt: skip
def test_each_way_merges_ratings_and_weights(way, ratings, weights):
    users, items = np.array([0, 0, 0, 2], np.int32), np.array([1, 1, 4, 4], np.int32)
    numbers = np.array([1, 3, 4, 5], np.float32), np.array([4, 1, 8, 2], np.float32)
    again = repeated(users, items)
    assert again.tolist() == [True, False, False]
    users, items, found = merged(users, items, numbers, again, way)
    assert (users.tolist(), items.tolist()) == ([0, 0, 2], [1, 4, 4])
    assert [column.tolist() for column in found] == [ratings, weights]


def test_a_sum_beyond_float32_is_refused():
    with pytest.raises(DataError, match="the sums of repeated pairs' ratings or weights are beyond float32: rescale"):
        Ratings.from_arrays([1, 1], [1, 1], [3e38, 3e38], duplicates="sum")
    assert Ratings.from_arrays([1, 1], [1, 1], [3e38, 3e38], duplicates="mean").values.tolist() == [np.float32(3e38)]


def test_duplicates_are_counted_once_not_again_in_every_part():
    ratings = Ratings.from_arrays(*TWICE, duplicates="last")
    assert [part.rows["duplicates"] for part in (ratings, *ratings.split(0.5))] == [2, 0, 0]


def test_without_duplicates_the_choice_changes_nothing():
    for way in WAYS:
        ratings = Ratings.from_arrays([1, 1, 2], [1, 2, 1], [5.0, 4.0, 3.0], duplicates=way)
        assert pairs(ratings) == {(1, 1): 5.0, (1, 2): 4.0, (2, 1): 3.0}
        assert ratings.rows == {"read": 3, "used": 3, "duplicates": 0}
