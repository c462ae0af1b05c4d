import numpy as np
import pytest

from fastmf.errors import ParameterError
from fastmf.kernels.types import Compressed, Side
from fastmf.model.topn import best, compress, left_out, nearest

NOTHING = Compressed(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))


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


# compress and left_out


def test_columns_are_grouped_by_row_in_their_order():
    grouped = compress(np.array([2, 0, 2, 0, 2], np.int32), np.array([9, 8, 7, 6, 9], np.int32), 4)
    assert rows(grouped) == [[8, 6], [], [9, 7, 9], []]
    assert (grouped.indptr.dtype, grouped.indices.dtype) == (np.int64, np.int32)
    assert rows(compress(np.empty(0, np.int32), np.empty(0, np.int32), 2)) == [[], []]


def test_lists_of_a_user_are_joined():
    a, b = lists([1, 2], [], [3]), lists([7], [8, 9], [])
    assert rows(left_out(np.array([0, 1, 2]), [a, b])) == [[1, 2, 7], [8, 9], [3]]
    assert rows(left_out(np.array([2, 0, 2]), [a])) == [[3], [1, 2], [3]]


def test_nobody_and_no_lists_leave_nothing_out():
    a = lists([1, 2], [3])
    assert rows(left_out(np.array([-1, 1, -1]), [a])) == [[], [3], []]
    assert rows(left_out(np.array([0, 1]), [])) == [[], []]
    assert rows(left_out(np.empty(0, np.int64), [a])) == []


# best


@pytest.mark.parametrize("n", [1, 5, 12, 40])
def test_best_is_the_order_of_a_full_sort(n):
    rng = np.random.default_rng(0)
    users, items = side(rng, 9), side(rng, 12)
    excluded = lists(*(rng.permutation(12)[: rng.integers(0, 13)].tolist() for _ in range(9)))
    found, scores = best(users, items, excluded, n)
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
    assert best(users, items, lists([]), 5)[0].tolist() == [[1, 3, 0, 2, 4]]
    assert best(users, items, lists([]), 3)[0].tolist() == [[1, 3, 0]]


def test_a_bias_of_minus_infinity_leaves_an_item_out_for_everybody():
    users = side(np.random.default_rng(1), 4)
    items = side(np.random.default_rng(2), 3)
    items.bias[1] = -np.inf
    found, scores = best(users, items, lists([], [0], [0, 2], [1]), 3)
    assert np.all(found != 1)
    assert np.count_nonzero(found >= 0, axis=1).tolist() == [2, 1, 0, 2]
    assert not np.isnan(scores).any()


def test_no_users_get_no_lists():
    found, scores = best(side(np.random.default_rng(0), 0), side(np.random.default_rng(0), 3), NOTHING, 2)
    assert found.shape == scores.shape == (0, 2)


@pytest.mark.parametrize("n", [0, -1, 2.5, True, "3", None, np.nan])
def test_a_length_that_is_no_positive_integer_is_refused(n):
    users = side(np.random.default_rng(0), 2)
    with pytest.raises(ParameterError, match=r"n is .*: give an integer of at least 1"):
        best(users, users, lists([], []), n)
    with pytest.raises(ParameterError):
        nearest(users.factors, np.ones(2, np.int32), np.array([0]), n)


def test_a_length_may_be_of_numpy():
    users = side(np.random.default_rng(0), 2)
    assert best(users, users, lists([], []), np.int64(1))[0].shape == (2, 1)


# nearest


def cosines(factors, row):
    factors = factors.astype(np.float64)
    norms = np.linalg.norm(factors, axis=1)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(factors @ factors[row] / (norms * norms[row])), norms == 0


@pytest.mark.parametrize("n", [1, 4, 30])
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_nearest_is_the_order_of_all_cosines(n, scale):
    rng = np.random.default_rng(0)
    factors = (rng.standard_normal((20, 3)) * scale).astype(np.float32)
    factors[[4, 11]] = 0
    count = np.ones(20, np.int32)
    count[[2, 5]] = 0
    wanted = np.array([0, 19, 0, 4, 2])
    found, scores = nearest(factors, count, wanted, n)
    assert found.shape == scores.shape == (5, min(n, 20))
    assert not np.isnan(scores).any()
    for line, row in enumerate(wanted):
        cosine, without = cosines(factors, row)
        others = [i for i in range(20) if i != row and count[i]]
        taken = found[line][found[line] >= 0]
        assert len(taken) == len(set(taken)) == min(n, len(others))
        assert set(taken) <= set(others)
        np.testing.assert_allclose(scores[line, : len(taken)], cosine[taken], atol=1e-6)
        expected = sorted(others, key=lambda i: (without[i], -cosine[i]))[:n]
        np.testing.assert_allclose(cosine[taken], cosine[expected], atol=1e-6)
        assert without[taken].tolist() == without[expected].tolist()  # rows without direction come last
        assert np.all(scores[line, len(taken) :] == -np.inf)


def test_rows_without_direction_come_last_with_cosine_zero():
    factors = np.array([[1, 0], [0, 0], [-1, 0], [0, 0], [1, 1]], np.float32)
    found, scores = nearest(factors, np.ones(5, np.int32), np.array([0, 1]), 5)
    assert found.tolist() == [[4, 2, 1, 3, -1], [0, 2, 4, 3, -1]]
    np.testing.assert_allclose(scores, [[np.sqrt(0.5), -1, 0, 0, -np.inf], [0, 0, 0, 0, -np.inf]], rtol=1e-6)


def test_cosines_never_leave_their_range():
    factors = np.repeat(np.random.default_rng(0).standard_normal((40, 5)), 3, axis=0).astype(np.float32)
    _, scores = nearest(factors, np.ones(120, np.int32), np.arange(120), 119)
    scores = scores[np.isfinite(scores)]
    assert scores.max() <= 1
    assert scores.min() >= -1
    assert np.count_nonzero(scores > 1 - 1e-6) == 240
