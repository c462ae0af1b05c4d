import numpy as np
import pytest

from fastmf.device import Device
from fastmf.kernels.compress import SORT_ROWS, balanced, even, sort_rows_numpy
from fastmf.runtime import call

# (entries, rows): none at all, fewer entries than rows, one row, and enough entries for several chunks
SIZES = [(0, 3), (4, 50), (30, 1), (500, 7), (999, 40)]


def drawn_rows(n, n_rows, seed=0):
    return np.random.default_rng(seed).integers(0, n_rows, n).astype(np.int32)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("device", SORT_ROWS)
def test_sort_equals_the_definition(device, size):
    rows = drawn_rows(*size)
    indptr, order = call(SORT_ROWS, Device(name=device, threads=2), rows, size[1])
    expected_indptr, expected_order = sort_rows_numpy(rows, size[1])
    np.testing.assert_array_equal(indptr, expected_indptr)
    np.testing.assert_array_equal(order, expected_order)
    assert indptr.dtype == np.int64


@pytest.mark.parametrize("device", SORT_ROWS)
def test_sort_groups_rows_and_keeps_the_order_within_a_row(device):
    rows = np.array([2, 0, 2, 4, 0, 2], np.int32)
    indptr, order = SORT_ROWS[device](rows, 5)
    assert indptr.tolist() == [0, 2, 2, 5, 5, 6]
    assert order.tolist() == [1, 4, 0, 2, 5, 3]


@pytest.mark.parametrize("n_tasks", [1, 4, 256])
def test_balanced_covers_all_rows_in_order(n_tasks):
    for counts in ([0, 0, 0], [5], [3, 0, 0, 7, 1], np.random.default_rng(0).integers(0, 9, 300)):
        indptr = np.append(0, np.cumsum(counts)).astype(np.int64)
        bounds = balanced(indptr, 2, 1, n_tasks)
        assert bounds.dtype == np.int64
        assert (bounds[0], bounds[-1]) == (0, len(counts))
        assert np.all(np.diff(bounds) > 0)
        assert len(bounds) - 1 <= n_tasks


def test_balanced_tasks_cost_about_the_same():
    counts = np.sort(np.random.default_rng(0).pareto(1.2, 400).astype(np.int64))[::-1]  # the longest rows lie together
    indptr = np.append(0, np.cumsum(counts))
    bounds = balanced(indptr, 3, 2, 8)
    cost = np.add.reduceat(counts * 3 + 2, bounds[:-1])
    assert np.all(np.abs(cost - cost.mean()) <= counts.max() * 3 + 2)  # no cut can do better than one row
    rows = np.diff(bounds)
    assert rows.max() > 4 * rows.min()  # equal numbers of rows would have been wrong


@pytest.mark.parametrize(("n", "bounds"), [(0, [0]), (3, [0, 3]), (8, [0, 4, 8]), (9, [0, 4, 8, 9])])
def test_even_cuts_into_runs(n, bounds):
    assert even(n, 4).tolist() == bounds
    assert even(n, 4).dtype == np.int64
