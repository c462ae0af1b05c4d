import numpy as np
import pytest

from fastmf.kernels.tasks import LEAST, ROW, SECTIONS, balanced, even, packed, sections


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


def test_balanced_makes_more_tasks_where_they_would_cost_too_much():
    indptr = np.append(0, np.cumsum([10] * 50 + [1000] + [10] * 50))
    bounds = balanced(indptr, 1, 0, 4, most=40)
    cost = np.diff(indptr[bounds])
    assert 1000 <= sorted(cost)[-1] <= 1000 + 40  # one row is never cut
    assert sorted(cost)[-2] <= 40 + 10


def test_balanced_makes_fewer_tasks_where_they_would_cost_too_little():
    indptr = np.arange(0, 1010, 10)
    assert len(balanced(indptr, 1, 0, 50, least=100)) - 1 == 10
    assert balanced(indptr, 1, 0, 50, least=1e9).tolist() == [0, 100]


@pytest.mark.parametrize(("n", "bounds"), [(0, [0]), (3, [0, 3]), (8, [0, 4, 8]), (9, [0, 4, 8, 9])])
def test_even_cuts_into_runs(n, bounds):
    assert even(n, 4).tolist() == bounds
    assert even(n, 4).dtype == np.int64


def test_packed_places_the_entries_of_a_bucket_task_by_task():
    bounds, starts = packed(np.array([[2, 0, 1], [1, 3, 0]]))
    assert bounds.tolist() == [0, 3, 6, 7]
    assert starts.tolist() == [[0, 3, 6], [2, 3, 7]]


def test_sections_depend_on_the_rows_alone():
    indptr = np.append(0, np.cumsum(np.random.default_rng(0).integers(0, 900, 5_000)))
    bounds = sections(indptr)
    cost = indptr + ROW * np.arange(len(indptr))
    assert bounds[0] == 0
    assert bounds[-1] == 5_000
    assert np.diff(cost[bounds]).min() > 0
    assert len(bounds) - 1 <= SECTIONS
    assert np.diff(cost[bounds])[:-1].max() <= 2 * LEAST + 900 + ROW
    assert np.array_equal(sections(indptr + 77), bounds)  # a part of a larger table


def test_sections_of_few_and_of_many_rows():
    assert sections(np.array([0])).tolist() == [0]
    assert sections(np.array([0, 0])).tolist() == [0, 1]
    assert sections(np.array([0, 10**9])).tolist() == [0, 1]
    many = sections(np.zeros(10**6 + 1, np.int64))
    assert SECTIONS / 2 < len(many) - 1 <= SECTIONS
