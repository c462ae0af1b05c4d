import datetime
import uuid

import numpy as np
import pyarrow as pa
import pytest

from fastmf.data.packed_ids import pack_ids, require_offsets, unpack_ids

IDS = [
    pa.array([-(2**63), 0, 2**63 - 1]),
    pa.array([0, 2**64 - 1], pa.uint64()),
    pa.array([-128, 127], pa.int8()),
    pa.array(["", "a", "é\0"], pa.large_string()),
    pa.array([b"", b"\xff"], pa.large_binary()),
    pa.array([b"abcd", b"\0\0\0\0"], pa.binary(4)),
    pa.array([uuid.UUID(int=n).bytes for n in (0, 2**128 - 1)], pa.uuid()),
    pa.array([False, True]),
    pa.array([datetime.date(1, 1, 1), datetime.date(9999, 12, 31)], pa.date32()),
    pa.array([datetime.date(2020, 2, 29)], pa.date64()),
    pa.array([0, 86_399], pa.int32()).view(pa.time32("s")),
    pa.array([-1, 2**62]).view(pa.timestamp("ns")),
    pa.array([-1, 5]).view(pa.timestamp("s", "Europe/Berlin")),
    pa.array([-1, 5]).view(pa.duration("ms")),
]


@pytest.mark.parametrize("column", IDS, ids=lambda column: str(column.type))
def test_ids_come_back_from_plain_arrays(column):
    for part in (column, column.slice(1), column.slice(0, 0)):
        arrays = pack_ids("user_ids", part)
        assert arrays.keys() <= {"user_ids", "user_ids.bytes", "user_ids.offsets"}
        assert all(array.dtype.kind in "iu" for array in arrays.values())
        arrays["other"] = np.zeros(1)
        back = unpack_ids("user_ids", arrays, str(column.type))
        assert back.type == column.type
        assert back.to_pylist() == part.to_pylist()
        assert arrays.keys() == {"other"}  # they are taken out


def test_arrays_that_hold_no_ids_are_refused():
    for arrays, kind in [
        ({}, "int64"),
        ({"x": np.zeros(2, np.int32)}, "int64"),
        ({"x": np.zeros((2, 2), np.int64)}, "int64"),
        ({"x": np.zeros(2)}, "double"),
        ({"x": np.zeros(2, np.int64)}, "no type"),
        ({"x": np.zeros(2, np.int64)}, "timestamp[us, tz=Nowhere/Town]"),
        ({"x": np.zeros(2, np.int64)}, "time64[ns]"),
        ({"x.bytes": np.zeros(2, np.uint8)}, "large_string"),
        ({"x.bytes": np.zeros(2, np.int8), "x.offsets": np.array([0, 2])}, "large_string"),
        ({"x.bytes": np.zeros(2, np.uint8), "x.offsets": np.array([0, 2], np.int32)}, "large_string"),
    ]:
        with pytest.raises((ValueError, KeyError, pa.ArrowException)):
            unpack_ids("x", dict(arrays), kind)


def test_bytes_that_hold_no_ids_are_refused():
    for kind, data, offsets in [
        ("large_string", b"ab", []),
        ("large_string", b"ab", [0, 1]),
        ("large_string", b"ab", [0, 3, 2]),
        ("large_string", b"\xff", [0, 1]),
        ("fixed_size_binary[2]", b"abc", [0, 3]),
        ("fixed_size_binary[-1]", b"abc", [0, 3]),
        ("extension<arrow.uuid>", b"abc", [0, 3]),
    ]:
        arrays = {"x.bytes": np.frombuffer(data, np.uint8), "x.offsets": np.array(offsets, np.int64)}
        with pytest.raises((ValueError, KeyError, pa.ArrowException)):
            unpack_ids("x", arrays, kind)


def test_offsets_rise_from_zero_to_the_end():
    require_offsets(np.array([0, 0, 2, 2]), 2, "x")
    require_offsets(np.array([0]), 0, "x")
    for offsets in ([0, 1], [1, 2], [0, 3, 2], [0, 2**63 - 1, -(2**63), 2]):
        with pytest.raises(ValueError, match="x do not rise from 0 to 2"):
            require_offsets(np.array(offsets), 2, "x")
