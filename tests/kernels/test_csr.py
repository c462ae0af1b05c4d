import numpy as np
import pytest

from fastmf.data import csr as grouping
from fastmf.data.csr import compress, count, group, masses
from fastmf.kernels.csr import COUNT, ROW_BOUNDS
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Compressed
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch, results

DEVICES = [Device(name=name, threads=threads) for name, threads in (("numpy", 1), ("cpu", 1), ("cpu", 2))]

# (entries, rows): none at all, fewer entries than rows, one row, and enough entries for several chunks
SIZES = [(0, 3), (4, 50), (30, 1), (500, 7), (999, 40)]


def drawn_rows(n, n_rows, seed=0):
    return np.random.default_rng(seed).integers(0, n_rows, n).astype(np.int32)


@pytest.mark.parametrize(("by_column", "weighed"), [(False, True), (True, False), (True, True)])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_compress_is_a_stable_sort_by_row(monkeypatch, device, size, by_column, weighed):
    monkeypatch.setattr(grouping, "FEWEST", 40)  # small chunks, so that there are many
    (n, n_rows), n_columns = size, 30
    rows, columns = drawn_rows(n, n_rows), drawn_rows(n, n_columns, seed=1)
    columns[n // 2 :] = columns[: n - n // 2]  # pairs that come twice keep their order
    values = np.arange(n, dtype=np.float32)
    args = rows, columns, values, (n_rows, n_columns), device
    found = compress(*args, weights=-values if weighed else None, by_column=by_column)
    order = np.lexsort((columns, rows) if by_column else (rows,))
    np.testing.assert_array_equal(found.indptr, np.searchsorted(rows[order], np.arange(n_rows + 1)))
    np.testing.assert_array_equal(found.indices, columns[order])
    np.testing.assert_array_equal(found.values, values[order])
    assert [array.dtype for array in found[:3]] == [np.int64, np.int32, np.float32]
    if weighed:
        np.testing.assert_array_equal(found.weights, -values[order])
    else:
        assert found.weights is None


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_compress_groups_by_row(device):
    rows, columns = np.array([2, 0, 2, 4, 0, 2], np.int32), np.array([3, 1, 0, 2, 0, 3], np.int32)
    args = rows, columns, np.arange(6, dtype=np.float32), (5, 4), device
    indptr, indices, moved, _ = compress(*args)
    assert indptr.tolist() == [0, 2, 2, 5, 5, 6]
    assert (indices.tolist(), moved.tolist()) == ([1, 0, 3, 0, 3, 2], [1, 4, 0, 2, 5, 3])
    _, indices, moved, _ = compress(*args, by_column=True)
    assert (indices.tolist(), moved.tolist()) == ([0, 1, 0, 3, 3, 2], [4, 1, 2, 0, 5, 3])


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("n_arrays", [2, 3, 4])
def test_two_to_four_arrays_are_moved_together(monkeypatch, device, n_arrays):
    monkeypatch.setattr(grouping, "FEWEST", 40)
    keys = drawn_rows(500, 7)
    arrays = tuple((np.arange(500) * 10**place).astype(np.float32) for place in range(n_arrays))
    bounds, moved = group(keys, 7, arrays, device)
    order = np.argsort(keys, kind="stable")
    np.testing.assert_array_equal(bounds, np.searchsorted(keys[order], np.arange(8)))
    for array, found in zip(arrays, moved, strict=True):
        np.testing.assert_array_equal(found, array[order])


def test_masses_are_sums_of_weights_or_counts():
    entries = compress(
        *(np.array(a, np.int32) for a in ([0, 0, 2], [1, 2, 0])), np.ones(3, np.float32), (4, 3), DEVICES[0]
    )
    assert masses(entries).tolist() == [2, 0, 1, 0]
    assert masses(entries._replace(weights=np.array([0.5, 2, 0.25], np.float32))).tolist() == [2.5, 0, 0.25, 0]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_count_equals_numpys(monkeypatch, device, size):
    monkeypatch.setattr(grouping, "FEWEST", 40)
    rows = drawn_rows(*size)
    counts = count(rows, size[1], device)
    np.testing.assert_array_equal(counts, np.bincount(rows, minlength=size[1]))
    assert counts.dtype == np.int64


@pytest.mark.parametrize("device", COUNT)
def test_each_task_counts_into_its_own_line(device):
    rows, counts = np.array([2, 0, 2, 2, 0, 1, 1], np.int32), np.full((3, 3), -1)
    launch(COUNT, Device(name=device, threads=2), np.array([3, 6, 7]), 3, rows, counts)
    assert counts.tolist() == [[-1, -1, -1], [1, 1, 1], [0, 1, 0]]


@pytest.mark.parametrize(
    ("size", "task"),
    [((1, 1), 7), ((4, 50), 1), ((30, 1), 7), ((500, 7), 1000), ((500, 7), 7), ((300, 999), 7)],
    ids=str,
)
@pytest.mark.parametrize("device", ROW_BOUNDS)
def test_bounds_of_rows_in_order(device, task, size):
    rows, columns = drawn_rows(*size), drawn_rows(size[0], 40, seed=1)
    order = np.lexsort((columns, rows))
    rows, columns = rows[order], columns[order]
    indptr = np.full(size[1] + 1, -1)
    found = launch(ROW_BOUNDS, Device(name=device, threads=2), even(size[0], task), rows, columns, indptr)
    repeats = np.count_nonzero((np.diff(rows) == 0) & (np.diff(columns) == 0))
    assert found.tolist() == [0, repeats]
    np.testing.assert_array_equal(indptr, np.searchsorted(rows, np.arange(size[1] + 1)))


@pytest.mark.parametrize("device", ROW_BOUNDS)
@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        ([0, 0, 1, 4, 4, 4], [1, 1, 1, 1, 1, 1], [(0, 1), (0, 0), (0, 2)]),
        ([0, 0, 1, 4, 3, 5], [1, 1, 0, 1, 1, 1], [(0, 1), (0, 0), (1, 0)]),  # a row too early, in a task's first place
        ([0, 0, 1, 1, 1, 1], [1, 1, 5, 4, 4, 4], [(0, 1), (1, 0), (0, 2)]),  # a column
        ([5, 4, 3, 2, 1, 0], [1, 1, 1, 1, 1, 1], [(1, 0), (1, 0), (1, 0)]),
    ],
)
def test_what_is_out_of_order_and_what_comes_again_is_counted_task_by_task(device, rows, columns, expected):
    tasks, indptr = np.array([0, 2, 4, 6]), np.zeros(7, np.int64)
    given = np.array(rows, np.int32), np.array(columns, np.int32), indptr
    found = results(ROW_BOUNDS, Device(name=device, threads=2), tasks, *given)
    assert list(map(tuple, found.tolist())) == expected


def test_pairs_are_found_or_the_place_to_insert_them():
    rng = np.random.default_rng(0)
    there = rng.random((9, 12)) < 0.4
    there[3] = False
    rows = np.append(0, np.cumsum(there.sum(axis=1))), np.nonzero(there)[1].astype(np.int32)
    wanted, columns = (array.ravel() for array in np.indices(there.shape))
    places, found = grouping.locate(rows, wanted, columns)
    np.testing.assert_array_equal(found, there.ravel())
    np.testing.assert_array_equal(places, np.cumsum(there.ravel()) - there.ravel())
    nothing = np.zeros(10, np.int64), np.empty(0, np.int32)
    places, found = grouping.locate(nothing, wanted, columns)
    assert not places.any()
    assert not found.any()


@pytest.mark.parametrize("weighted", [False, True])
def test_rows_and_columns_are_selected_and_entries_inserted(weighted):
    rng = np.random.default_rng(1)
    dense = np.where(rng.random((9, 12)) < 0.4, rng.random((9, 12)), 0).astype(np.float32)

    def compressed(matrix):
        there, values = matrix != 0, matrix[matrix != 0]
        indptr = np.append(0, np.cumsum(there.sum(axis=1)))
        return Compressed(indptr, np.nonzero(there)[1].astype(np.int32), values, 2 * values if weighted else None)

    def same(found, matrix):
        for one, other in zip(found, compressed(matrix), strict=True):
            assert (one is None and other is None) or one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)

    rows, columns = rng.random(9) < 0.5, rng.random(12) < 0.5
    same(grouping.select(compressed(dense), rows), dense[rows])
    same(grouping.filtered(compressed(dense), columns), dense * columns)
    everything = np.full(9, True)
    same(grouping.select(compressed(dense), everything), dense)
    more = np.where(rng.random((9, 12)) < 0.2, 1 + rng.random((9, 12)), 0).astype(np.float32)
    found, replaced = grouping.insert(compressed(dense), compressed(more))
    same(found, np.where(more != 0, more, dense))
    np.testing.assert_array_equal(replaced, (dense != 0)[more != 0])
    assert 0 < np.count_nonzero(replaced) < len(replaced)
