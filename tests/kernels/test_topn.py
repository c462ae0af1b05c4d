from itertools import product

import numpy as np
import pytest

from fastmf.kernels.topn import FEW, TOPN, catalogue, topn_numpy
from fastmf.kernels.types import Compressed, Side
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch

N_USERS, N_ITEMS = 12, 25
CUTS = [np.array([0, N_USERS]), np.arange(N_USERS + 1), np.array([0, 5, 6, N_USERS])]


def problem(k, *, tied=False, n_users=N_USERS, n_items=N_ITEMS, most_seen=N_ITEMS):
    """Users and items, and what is seen: nothing by user 0, everything by user 1, in no order; item 3 is out for all.

    Tied factors are small whole numbers, so that many scores are equal and all are exact.
    """
    rng = np.random.default_rng(0)

    def draw(*shape):
        numbers = rng.integers(-1, 2, shape) if tied else rng.standard_normal(shape)
        return numbers.astype(np.float32)

    users, items = Side(draw(n_users, k), draw(n_users)), Side(draw(n_items, k), draw(n_items))
    items.bias[3] = -np.inf
    rows = [rng.permutation(n_items)[: rng.integers(1, most_seen)] for _ in range(n_users)]
    rows[0], rows[1] = rows[0][:0], rng.permutation(n_items)
    indptr = np.append(0, np.cumsum([len(row) for row in rows])).astype(np.int64)
    return users, items, Compressed(indptr, np.concatenate(rows).astype(np.int32), np.empty(0, np.float32))


def best(device, users, items, seen, n, tasks=CUTS[2], threads=2, many=False):
    """Rank with the items got ready for many or for few users, whoever there are."""
    n_users, k = users.factors.shape
    items = catalogue(items, np.resize(users.factors, (FEW + 1 if many else 1, k)))
    found, scores = np.full((n_users, n), 99, np.int32), np.full((n_users, n), np.nan, np.float32)
    launch(TOPN, Device(name=device, threads=threads), tasks, users, items, seen, found, scores)
    return found, scores


@pytest.mark.parametrize(("k", "n"), [(1, 4), (2, N_ITEMS), (5, 1), (16, N_ITEMS + 5), (33, 4)])
@pytest.mark.parametrize("many", [True, False])
def test_lists_equal_the_definition(many, k, n):
    for tied in (True, False):
        users, items, seen = problem(k, tied=tied)
        expected_items, expected_scores = np.empty((N_USERS, n), np.int32), np.empty((N_USERS, n), np.float32)
        topn_numpy(CUTS[0], users, items, seen, expected_items, expected_scores)
        found, scores = best("cpu", users, items, seen, n, many=many)
        np.testing.assert_array_equal(found, expected_items)
        np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("many", "n"), [(True, 1), (True, 100), (False, 7), (False, 150)])
def test_lists_of_more_users_and_items_than_fit_side_by_side_equal_the_definition(many, n):
    users, items, seen = problem(5, tied=True, n_users=FEW + 30, n_items=150, most_seen=7)
    tasks = np.array([0, 3, FEW + 30])
    expected, _ = best("numpy", users, items, seen, n, tasks)
    found, scores = best("cpu", users, items, seen, n, tasks, many=many)
    np.testing.assert_array_equal(found, expected)
    ties = (scores[:, 1:] == scores[:, :-1]) & (found[:, 1:] >= 0)
    assert n == 1 or ties.mean() > 0.3  # most lists end in the middle of one
    assert np.all((np.diff(found) > 0) | ~ties)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_lists_are_the_best_unseen_items_in_order(device):
    users, items, seen = problem(5)
    found, scores = best(device, users, items, seen, 4)
    for u in range(N_USERS):
        left = set(range(N_ITEMS)) - set(seen.indices[seen.indptr[u] : seen.indptr[u + 1]].tolist()) - {3}
        exact = {i: items.factors[i] @ users.factors[u] + items.bias[i] + users.bias[u] for i in left}
        wanted = sorted(left, key=lambda i: -exact[i])[:4]
        n = len(wanted)
        assert found[u, :n].tolist() == wanted
        np.testing.assert_allclose(scores[u, :n], [exact[i] for i in wanted], rtol=1e-5, atol=1e-5)
        assert np.all(found[u, n:] == -1)
        assert np.all(scores[u, n:] == -np.inf)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_who_has_seen_everything_gets_nothing(device):
    found, scores = best(device, *problem(2), 4)
    assert found[1].tolist() == [-1] * 4
    assert scores[1].tolist() == [-np.inf] * 4
    assert np.all(found[0] >= 0)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_equal_scores_go_to_the_lower_index(device):
    users, items, seen = problem(2)
    items.factors[:], items.bias[:] = 0, 1
    items.bias[[7, 20]] = 2
    for many in (True, False):
        found, _ = best(device, users, items, seen, 5, many=many)
        assert found[0].tolist() == [7, 20, 0, 1, 2]


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_the_lower_index_wins_however_late_its_item_is_visited(device):
    users, items, seen = problem(1)
    users.factors[:], users.bias[:] = 1, 0
    items.bias[:] = np.arange(N_ITEMS)  # the highest bias is visited first, and every score is 0
    items.factors[:, 0] = -items.bias
    found, scores = best(device, users, items, seen, 4, many=True)
    assert found[0].tolist() == [0, 1, 2, 3]
    assert not scores[0].any()


@pytest.mark.parametrize(("device", "k"), [("numpy", 5), ("cpu", 5), ("cpu", 16), ("cpu", 33)])
def test_tasks_threads_and_the_number_of_users_do_not_change_a_bit(device, k):
    users, items, seen = problem(k)
    whole = best(device, users, items, seen, 6, CUTS[0], threads=1)
    for tasks, threads, many in product(CUTS, (1, 2), (True, False)):
        cut = best(device, users, items, seen, 6, tasks, threads, many)
        assert [array.tobytes() for array in cut] == [array.tobytes() for array in whole]
