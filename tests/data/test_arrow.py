import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fastmf.data.arrow import as_array, decoded, is_text, large, to_arrow
from fastmf.errors import DataError


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param((n for n in (1, 2)), pa.array([1, 2]), id="generator"),
        ([0, 2**64 - 1], pa.array([0, 2**64 - 1], pa.uint64())),
        (np.array([0, 2**64 - 1], object), pa.array([0, 2**64 - 1], pa.uint64())),
        (np.array([1, 2], ">i2"), pa.array([1, 2], pa.int16())),
        (np.array([1, 2, 3, 4], np.uint8)[::-2], pa.array([4, 2], pa.uint8())),
        (np.array(["a", "é"]).astype(">U3"), pa.array(["a", "é"])),
        (np.array(["2020-01-02"], ">M8[D]"), pa.array([datetime.date(2020, 1, 2)])),
        (np.ma.array([1, 999], mask=[False, True]), pa.array([1, None])),
        (pd.Series([3, 4], index=[1, 0]), pa.array([3, 4])),
        (pd.Series([2**53 + 1, None], dtype="Int64"), pa.array([2**53 + 1, None])),
        (pd.array(["a", None], dtype="string"), pa.array(["a", None], pa.large_string())),
        ([pd.Timedelta(nanoseconds=1)], pa.array([1], pa.int64()).view(pa.duration("ns"))),
        (pa.chunked_array([[1], [2]]), pa.array([1, 2])),
    ],
    ids=str,
)
def test_any_container_becomes_a_column(values, expected):
    column = to_arrow(values, "it")
    assert isinstance(column, pa.ChunkedArray)
    assert column.to_pylist() == expected.to_pylist()
    assert column.type in (expected.type, pa.string(), pa.large_string())


def test_a_column_of_numbers_is_read_only():
    column = pa.chunked_array([[1, 2], [3]])
    assert as_array(column).tolist() == [1, 2, 3]
    assert not as_array(column).flags.writeable


@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        (pa.string(), pa.large_string()),
        (pa.string_view(), pa.large_string()),
        (pa.binary(), pa.large_binary()),
        (pa.binary_view(), pa.large_binary()),
        (pa.binary(1), pa.binary(1)),
    ],
    ids=str,
)
def test_text_and_bytes_have_one_layout_each(kind, layout):
    column = pa.chunked_array([pa.array([b"a", b"b"], kind)])
    assert large(column).type == layout
    assert is_text(layout) == (layout != kind)
    if layout != kind:
        codes = pa.DictionaryArray.from_arrays(pa.array([1, 0, 1], pa.uint8()), column.chunk(0))
        assert large(decoded(pa.chunked_array([codes]))).equals(large(column).take(pa.array([1, 0, 1])))


def test_values_without_one_type_are_refused():
    for values in ([1, "a"], [-1, 2**64 - 1], [2**64, 1], np.array([1j, 2j]), ["\ud800", "a"], 5):
        with pytest.raises(DataError, match="user cannot be read as one column of one type"):
            to_arrow(values, "user")


def test_values_that_are_no_column_are_refused():
    for values, message in [
        (np.zeros((2, 2)), "user has 2 dimensions: give one value for each row"),
        (np.array(5), "user has 0 dimensions"),
        ("ab", "user is one value, 'ab'"),
        (b"ab", "user is one value, b'ab'"),
    ]:
        with pytest.raises(DataError, match=message):
            to_arrow(values, "user")
