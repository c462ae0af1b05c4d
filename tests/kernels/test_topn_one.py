import numpy as np
import pytest

from fastmf.kernels.topn import TOPN, catalogue
from fastmf.kernels.topn_one import best, best_numpy, depth_of, plain_of, table_of
from fastmf.kernels.types import Compressed, Side
from fastmf.kernels.vectors import WIDTH
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch


def problem(k, n_items, *, tied, seed=0):
    """A user's bias and factors, items, of which one in seven may not be recommended, and what the user has seen."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        numbers = rng.integers(-1, 2, shape) if tied else rng.standard_normal(shape)
        return numbers.astype(np.float32)

    items = Side(draw(n_items, k), draw(n_items))
    items.bias[3::7] = -np.inf
    return draw(1 + k), items, rng.permutation(n_items)[: rng.integers(0, n_items)].astype(np.int32)


def ranked(user, items, seen, n, rank=best):
    """Rank the items for the user."""
    table = table_of(items)
    whole = np.zeros(depth_of(table), np.float32)
    whole[: len(user)] = user
    found, scores = np.full((1, n), 99, np.int32), np.full((1, n), np.nan, np.float32)
    rank(table, whole, seen, found, scores)
    return found, scores


SIZES = [(1, 1, 1), (2, 25, 4), (5, 64, 70), (16, 130, 130), (33, 200, 10), (64, 450, 7)]


@pytest.mark.parametrize(("k", "n_items", "n"), SIZES)
@pytest.mark.parametrize("tied", [True, False])
def test_lists_equal_the_definition(k, n_items, n, tied):
    for seed in range(5):
        user, items, seen = problem(k, n_items, tied=tied, seed=seed)
        for left_out in (seen, seen[:0], np.arange(n_items, dtype=np.int32)):
            found, scores = ranked(user, items, left_out, n)
            expected_items, expected_scores = ranked(user, items, left_out, n, best_numpy)
            np.testing.assert_array_equal(found, expected_items)
            np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("k", "n_items", "n"), SIZES)
def test_lists_are_those_of_a_launch_bit_for_bit_in_vectors(k, n_items, n):
    user, items, seen = problem(k, n_items, tied=False)
    found, scores = ranked(user, items, seen, n)
    side = Side(user[None, 1:].copy(), user[:1])
    excluded = Compressed(np.array([0, len(seen)]), seen, np.empty(0, np.float32))
    expected_items, expected_scores = np.empty((1, n), np.int32), np.empty((1, n), np.float32)
    device, tasks = Device(name="cpu", threads=1), np.array([0, 1])
    launch(TOPN, device, tasks, side, catalogue(items, side.factors), excluded, expected_items, expected_scores)
    np.testing.assert_array_equal(found, expected_items)
    np.testing.assert_allclose(scores, expected_scores, rtol=0 if WIDTH else 1e-5)


def test_a_table_holds_the_items_in_their_order():
    _, items, _ = problem(5, 40, tied=False)
    rows = plain_of(table_of(items), 5)
    np.testing.assert_array_equal(rows[:40], np.column_stack([items.bias, items.factors]))
    assert (rows[40:, 0] == -np.inf).all()
