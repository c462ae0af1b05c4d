import numpy as np
import pytest

from fastmf.device import Device
from fastmf.kernels.als import Side
from fastmf.kernels.compress import Compressed
from fastmf.kernels.topn import TOPN, topn_numpy
from fastmf.runtime import launch

KS = [1, 2, 5, 16, 33]
N_USERS, N_ITEMS = 12, 25
CUTS = [np.array([0, N_USERS]), np.arange(N_USERS + 1), np.array([0, 5, 6, N_USERS])]


def problem(k, *, tied=False, seed=0):
    """Users and items, and what is seen: nothing by user 0, everything by user 1, in no order; item 3 is out for all.

    Tied factors are small whole numbers, so that many scores are equal and all are exact.
    """
    rng = np.random.default_rng(seed)

    def draw(*shape):
        numbers = rng.integers(-1, 2, shape) if tied else rng.standard_normal(shape)
        return numbers.astype(np.float32)

    users, items = Side(draw(N_USERS, k), draw(N_USERS)), Side(draw(N_ITEMS, k), draw(N_ITEMS))
    items.bias[3] = -np.inf
    rows = [rng.permutation(N_ITEMS)[: rng.integers(1, N_ITEMS)] for _ in range(N_USERS)]
    rows[0], rows[1] = rows[0][:0], rng.permutation(N_ITEMS)
    indptr = np.append(0, np.cumsum([len(row) for row in rows])).astype(np.int64)
    return users, items, Compressed(indptr, np.concatenate(rows).astype(np.int32), np.empty(0, np.float32))


def best(device, users, items, seen, n, tasks=CUTS[2], threads=2):
    found, scores = np.full((N_USERS, n), 99, np.int32), np.full((N_USERS, n), np.nan, np.float32)
    written = launch(TOPN, Device(name=device, threads=threads), tasks, users, items, seen, found, scores)
    return found, scores, written


@pytest.mark.parametrize("n", [1, 4, N_ITEMS, N_ITEMS + 5])
@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("device", TOPN)
def test_lists_equal_the_definition(device, k, n):
    for tied in (True, False):
        users, items, seen = problem(k, tied=tied)
        expected_items, expected_scores = np.empty((N_USERS, n), np.int32), np.empty((N_USERS, n), np.float32)
        expected = topn_numpy(CUTS[0], users, items, seen, expected_items, expected_scores)
        found, scores, written = best(device, users, items, seen, n)
        np.testing.assert_array_equal(found, expected_items)
        np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=1e-5)
        assert written == expected.sum() == np.count_nonzero(found >= 0)


@pytest.mark.parametrize("device", TOPN)
def test_lists_are_the_best_unseen_items_in_order(device):
    users, items, seen = problem(5)
    found, scores, _ = best(device, users, items, seen, 4)
    for u in range(N_USERS):
        left = set(range(N_ITEMS)) - set(seen.indices[seen.indptr[u] : seen.indptr[u + 1]].tolist()) - {3}
        exact = {i: items.factors[i] @ users.factors[u] + items.bias[i] + users.bias[u] for i in left}
        wanted = sorted(left, key=lambda i: -exact[i])[:4]
        n = len(wanted)
        assert found[u, :n].tolist() == wanted
        np.testing.assert_allclose(scores[u, :n], [exact[i] for i in wanted], rtol=1e-5, atol=1e-5)
        assert np.all(found[u, n:] == -1)
        assert np.all(scores[u, n:] == -np.inf)


@pytest.mark.parametrize("device", TOPN)
def test_who_has_seen_everything_gets_nothing(device):
    found, scores, _ = best(device, *problem(2), 4)
    assert found[1].tolist() == [-1] * 4
    assert scores[1].tolist() == [-np.inf] * 4
    assert np.all(found[0] >= 0)


@pytest.mark.parametrize("device", TOPN)
def test_equal_scores_go_to_the_lower_index(device):
    users, items, seen = problem(2)
    items.factors[:], items.bias[:] = 0, 1
    items.bias[[7, 20]] = 2
    found, _, _ = best(device, users, items, seen, 5)
    assert found[0].tolist() == [7, 20, 0, 1, 2]


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("device", TOPN)
def test_tasks_and_threads_do_not_change_a_bit(device, k):
    users, items, seen = problem(k)
    whole = best(device, users, items, seen, 6, CUTS[0], threads=1)
    for tasks in CUTS:
        for threads in (1, 2):
            cut = best(device, users, items, seen, 6, tasks, threads)
            assert [array.tobytes() for array in cut[:2]] == [array.tobytes() for array in whole[:2]]
            assert cut[2] == whole[2]
