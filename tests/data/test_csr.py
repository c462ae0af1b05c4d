"""Compressed rows: taking rows in any order. Grouping is tested with the kernels, in tests/kernels/test_csr.py."""

import numpy as np

from fastmf.data import csr
from fastmf.kernels.types import Compressed


def test_ranges_of_integers():
    found = csr.ranges(np.array([5, 0, 9]), np.array([2, 0, 3]))
    assert found.tolist() == [5, 6, 9, 10, 11]
    assert csr.ranges(np.empty(0, np.int64), np.empty(0, np.int64)).tolist() == []


def test_rows_are_taken_in_any_order():
    entries = Compressed(
        np.array([0, 2, 2, 5]), np.array([1, 3, 0, 2, 4], np.int32), np.arange(5, dtype=np.float32), np.ones(5)
    )
    found = csr.take(entries, np.array([2, -1, 0, 2, 1]))
    assert found.indptr.tolist() == [0, 3, 3, 5, 8, 8]
    assert found.indices.tolist() == [0, 2, 4, 1, 3, 0, 2, 4]
    assert found.values.tolist() == [2, 3, 4, 0, 1, 2, 3, 4]
    assert len(found.weights) == 8
    assert csr.take(entries._replace(weights=None), np.array([], int)).indptr.tolist() == [0]
