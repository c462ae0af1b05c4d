import numpy as np
import pytest

from fastmf.errors import ParameterError
from fastmf.kernels.types import Compressed, Side
from fastmf.model.topn import most_rated, rows_of, top_n


def rows(compressed):
    return [
        compressed.indices[a:b].tolist() for a, b in zip(compressed.indptr[:-1], compressed.indptr[1:], strict=True)
    ]


def lists(*content):
    indptr = np.cumsum([0, *map(len, content)], dtype=np.int64)
    indices = np.array([i for row in content for i in row], np.int32)
    return Compressed(indptr, indices, np.empty(0, np.float32))


def side(rng, n, k=3):
    """Draw multiples of a quarter: their products and sums are exact in float32, and ties are frequent."""
    factors = rng.integers(-4, 5, (n, k)).astype(np.float32) / 4
    return Side(factors, rng.integers(-2, 3, n).astype(np.float32) / 4)


def test_the_rows_of_users_are_joined():
    a, b = lists([1, 2], [], [3]), lists([7], [8, 9], [])
    assert rows(rows_of(np.array([0, 1, 2]), [a, b])) == [[1, 2, 7], [8, 9], [3]]
    assert rows(rows_of(np.array([2, 0, 2]), [a])) == [[3], [1, 2], [3]]
    assert rows_of(np.array([0, 1, 2]), [a]) is a


def test_unknown_users_and_no_lists_leave_nothing_out():
    a = lists([1, 2], [3])
    assert rows(rows_of(np.array([-1, 1, -1]), [a])) == [[], [3], []]
    assert rows(rows_of(np.array([0, 1]), [])) == [[], []]
    assert rows(rows_of(np.empty(0, np.int64), [a])) == []


@pytest.mark.parametrize("n", [1, 5, 12, 40])
def test_top_n_is_the_order_of_a_full_sort(n):
    rng = np.random.default_rng(0)
    users, items = side(rng, 9), side(rng, 12)
    excluded = lists(*(rng.permutation(12)[: rng.integers(0, 13)].tolist() for _ in range(9)))
    found, scores = top_n(users, items, excluded, n)
    assert found.shape == scores.shape == (9, min(n, 12))
    ties = 0
    for user, row in enumerate(rows(excluded)):
        every = users.factors[user] @ items.factors.T + items.bias + users.bias[user]
        expected = sorted(set(range(12)) - set(row), key=lambda item: (-every[item], item))[:n]
        ties += len(expected) - len({every[item] for item in expected})
        assert found[user, : len(expected)].tolist() == expected
        assert scores[user, : len(expected)].tolist() == every[expected].tolist()
        assert np.all(found[user, len(expected) :] == -1)
        assert np.all(scores[user, len(expected) :] == -np.inf)
    assert ties or n == 1


def test_equal_scores_go_to_the_lower_item():
    users = Side(np.ones((1, 1), np.float32), np.zeros(1, np.float32))
    items = Side(np.array([[1], [2], [1], [2], [1]], np.float32), np.zeros(5, np.float32))
    assert top_n(users, items, lists([]), 5)[0].tolist() == [[1, 3, 0, 2, 4]]
    assert top_n(users, items, lists([]), 3)[0].tolist() == [[1, 3, 0]]


def test_a_bias_of_minus_infinity_leaves_an_item_out_for_everybody():
    users = side(np.random.default_rng(1), 4)
    items = side(np.random.default_rng(2), 3)
    items.bias[1] = -np.inf
    found, scores = top_n(users, items, lists([], [0], [0, 2], [1]), 3)
    assert np.all(found != 1)
    assert np.count_nonzero(found >= 0, axis=1).tolist() == [2, 1, 0, 2]
    assert not np.isnan(scores).any()


def test_the_most_rated_items_come_first_and_those_without_ratings_never():
    found, scores = most_rated(np.array([2, 0, 9, 2], np.int32), 4, lists([], [2, 3]))
    assert found.tolist() == [[2, 0, 3, -1], [0, -1, -1, -1]]
    np.testing.assert_array_equal(scores, [[3, 2, 2, -np.inf], [2, -np.inf, -np.inf, -np.inf]])


def test_counts_that_float32_cannot_tell_apart_are_ranked():
    counts = np.array([16_777_216, 16_777_218, 16_777_217, 2**31 - 2, 2**31 - 1, 16_777_217])
    found, scores = most_rated(counts, 6, lists([]))
    assert found.tolist() == [[4, 3, 1, 2, 5, 0]]
    assert (np.diff(scores[0]) < 0).tolist() == [True, True, True, False, True]


def test_no_users_get_no_lists():
    found, scores = top_n(side(np.random.default_rng(0), 0), side(np.random.default_rng(0), 3), lists(), 2)
    assert found.shape == scores.shape == (0, 2)


@pytest.mark.parametrize("n", [0, -1, 2.5, True, "3", None, np.nan])
def test_a_length_must_be_a_positive_integer(n):
    users = side(np.random.default_rng(0), 2)
    with pytest.raises(ParameterError, match=r"n is .*: give an integer of at least 1"):
        top_n(users, users, lists([], []), n)


def test_a_length_may_be_a_numpy_integer():
    users = side(np.random.default_rng(0), 2)
    assert top_n(users, users, lists([], []), np.int64(1))[0].shape == (2, 1)
