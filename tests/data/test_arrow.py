import datetime
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fastmf.data.arrow import (
    as_array,
    decoded,
    filled,
    from_numpy,
    is_of_pandas,
    is_text,
    large,
    to_arrow,
    to_numpy,
)
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
    assert not as_array(column, np.int32).flags.writeable


@pytest.mark.parametrize("chunks", [[], [[]], [[7]], [[], [2**63]], [[1], [2**64 - 1, 3]]], ids=str)
def test_chunks_are_joined_and_large_integers_wrap_around(chunks):
    column = pa.chunked_array(chunks, pa.uint64())
    joined = np.array(column.to_pylist(), np.uint64)
    np.testing.assert_array_equal(as_array(column), joined)
    np.testing.assert_array_equal(as_array(column, np.int64), joined.astype(np.int64))


def test_nulls_become_nan():
    column = pa.chunked_array([[1, None], [2**53]])
    np.testing.assert_array_equal(as_array(column, np.float64), [1, np.nan, 2.0**53])


@pytest.mark.parametrize("kind", ["int8", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"])
def test_numbers_are_shared_with_numpy_in_both_directions(kind):
    values = np.arange(5).astype(kind)
    array = from_numpy(values)
    assert array.type == pa.array(values).type
    assert to_numpy(array.slice(1)).tolist() == [1, 2, 3, 4]
    assert to_numpy(array).dtype == values.dtype
    assert to_numpy(array).ctypes.data == values.ctypes.data
    assert to_numpy(from_numpy(values[::-2])).tolist() == [4, 2, 0]


def test_nulls_are_filled():
    valid = np.array([True, False, True, True] * 5)
    array = from_numpy(np.arange(20, dtype=np.int32), valid=valid)
    expected = np.where(valid, np.arange(20), -1)
    assert array.null_count == 5
    for start in range(4):
        assert filled(array.slice(start), -1).tolist() == expected[start:].tolist()
    assert filled(array.filter(pa.array(valid)), -1).tolist() == np.flatnonzero(valid).tolist()


def test_values_of_pandas_are_known_without_importing_it(monkeypatch):
    assert is_of_pandas(pd.Timestamp(0), "Timestamp", "Timedelta")
    assert not is_of_pandas(pd.Series([1]), "DataFrame")
    for missing in (None, datetime):  # not imported, or not yet imported as a whole
        monkeypatch.setitem(sys.modules, "pandas", missing)
        assert not is_of_pandas([1], "DataFrame")


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
