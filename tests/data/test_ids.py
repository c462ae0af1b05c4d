import datetime
import decimal
import uuid

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmf
from fastmf.data import ids
from fastmf.data.ratings import Ratings
from fastmf.errors import DataError, UnknownIdError

SETTINGS = settings(deadline=None, derandomize=True, database=None, max_examples=40)

DATES = [datetime.date(1, 1, 1), datetime.date(1969, 12, 31), datetime.date(2020, 2, 29), datetime.date(9999, 12, 31)]
UUIDS = [uuid.UUID(int=n) for n in (0, 1, 2**127, 2**128 - 1)]


def counts(*numbers, as_type):
    """Make keys of a type that is stored as an integer."""
    return pa.array(numbers, pa.int32() if as_type.bit_width == 32 else pa.int64()).view(as_type)


# Keys of every type, in the order they sort in.
KEYS = {
    **{f"int{bits}": pa.array([-(2 ** (bits - 1)), -1, 0, 2 ** (bits - 1) - 1], f"int{bits}") for bits in (8, 32, 64)},
    **{f"uint{bits}": pa.array([0, 1, 2 ** (bits - 1), 2**bits - 1], f"uint{bits}") for bits in (16, 64)},
    "beyond 2^53": pa.array([2**53, 2**53 + 1, 2**53 + 2, 2**53 + 3]),
    "string": pa.array(["", "a", "a ", "é\u0301", "\U0001f600", "\0"], pa.string()).take(pa.array([0, 5, 1, 2, 3, 4])),
    "large_string": pa.array(["", "a" * 300, "b"], pa.large_string()),
    "string_view": pa.array(["", "longer than twelve bytes", "z"], pa.string_view()),
    "binary": pa.array([b"", b"\0", b"\0\0", b"\xff\xfe"], pa.binary()),
    "binary_view": pa.array([b"", b"longer than twelve bytes", b"\xff"], pa.binary_view()),
    "fixed-size binary": pa.array([b"\0\0\0\0", b"abcd", b"\xff\xff\xff\xff"], pa.binary(4)),
    "uuid": pa.array([key.bytes for key in UUIDS], pa.uuid()),
    "bool": pa.array([False, True]),
    "date32": pa.array(DATES, pa.date32()),
    "date64": pa.array(DATES, pa.date64()),
    "time32[ms]": counts(0, 1, 86_399_999, as_type=pa.time32("ms")),
    "time64[us]": counts(0, 1, 86_399_999_999, as_type=pa.time64("us")),
    **{
        f"timestamp[{unit}, {zone}]": counts(-(10**9) - 1, 0, 1, 1_234_567_891, as_type=pa.timestamp(unit, zone))
        for unit, zone in (("s", None), ("ms", "Europe/Berlin"), ("us", "UTC"), ("ns", None), ("ns", "+05:30"))
    },
    **{
        f"duration[{unit}]": counts(-(10**9) - 1, 0, 1, 1_234_567_891, as_type=pa.duration(unit))
        for unit in ("s", "ns")
    },
}
STORED_AS = {
    **dict.fromkeys(["string", "large_string", "string_view"], pa.large_string()),
    **dict.fromkeys(["binary", "binary_view"], pa.large_binary()),
}


INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


def column(*chunks, kind=None):
    return pa.chunked_array(list(chunks), kind)


def taken(keys, order):
    """Pick keys by place, in their own type; Arrow itself cannot take from views and UUIDs."""
    picked = plain(keys).take(pa.array(order, pa.int64()))
    return pa.ExtensionArray.from_storage(keys.type, picked) if ids.is_uuid(keys.type) else picked.cast(keys.type)


def plain(keys):
    if ids.is_uuid(keys.type):
        return keys.storage
    return keys.cast({pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(keys.type, keys.type))


# encode


@pytest.mark.parametrize("name", KEYS)
def test_keys_are_sorted_and_come_back_by_their_index(name, monkeypatch):
    keys = KEYS[name]
    order = np.random.default_rng(0).permutation(np.tile(np.arange(len(keys)), 3))
    rows = taken(keys, order)

    def check(rows):
        indices, found = ids.encode(rows, "user")
        assert found.type == STORED_AS.get(name, keys.type)
        assert found.to_pylist() == keys.to_pylist()
        assert indices.dtype == np.int32
        assert indices.tolist() == order.tolist()

    check(column(rows.slice(0, 2), rows.slice(2, 0), rows.slice(2)))
    for constant, value in {"CLOSE": 0, "CLOSE_AT_LEAST": 0, "ROWS_PER_TASK": 2}.items():
        monkeypatch.setattr(ids, constant, value)  # integers are hashed, too, and on several cores
    check(column(rows))
    check(column(rows.slice(0, 1), rows.slice(1)))


def check_encode(values, kind):
    indices, found = ids.encode(column(pa.array(values, kind)), "user")
    assert found.to_pylist() == sorted(set(values))
    assert found.take(pa.array(indices)).to_pylist() == values


@SETTINGS
@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_any_integers_come_back(values):
    check_encode(values, pa.int64())


@SETTINGS
@given(st.lists(st.text()))
def test_any_text_comes_back(values):
    indices, found = ids.encode(column(pa.array(values, pa.string())), "user")
    assert found.to_pylist() == sorted(set(values), key=str.encode)  # by bytes, as Arrow sorts
    assert found.take(pa.array(indices)).to_pylist() == values


@SETTINGS
@given(st.lists(st.binary()))
def test_any_bytes_come_back(values):
    check_encode(values, pa.binary())


@SETTINGS
@given(st.lists(st.lists(st.sampled_from("abcde")), min_size=1))
def test_dictionaries_that_differ_between_chunks_are_made_one(chunks):
    encoded = [pa.array(chunk, pa.string()).dictionary_encode() for chunk in chunks]
    indices, found = ids.encode(column(*encoded, kind=pa.dictionary(pa.int32(), pa.string())), "user")
    values = [value for chunk in chunks for value in chunk]
    assert found.to_pylist() == sorted(set(values))
    assert found.take(pa.array(indices, pa.int32())).to_pylist() == values


@pytest.mark.parametrize(("view", "keys"), [(pa.string_view(), ["a", "b"]), (pa.binary_view(), [b"a", b"b"])])
def test_dictionaries_of_views_are_read(view, keys):
    of_views = pa.DictionaryArray.from_arrays(pa.array([1, 0, 1], pa.uint8()), pa.array(keys[::-1], view))
    indices, found = ids.encode(column(of_views), "user")
    assert indices.tolist() == [0, 1, 0]
    assert found.to_pylist() == keys


def test_entries_of_a_dictionary_that_no_row_has_are_no_keys_and_an_entry_twice_is_one():
    of_text = pa.DictionaryArray.from_arrays(pa.array([3, 0, 1, 3], pa.int8()), pa.array(["b", "a", "unused", "b"]))
    for chunks in ([of_text], [of_text, of_text.slice(0, 0)], [of_text.slice(0, 2), of_text.slice(2)]):
        indices, found = ids.encode(column(*chunks), "user")
        assert found.to_pylist() == ["a", "b"]
        assert indices.tolist() == [1, 1, 0, 1]
    indices, found = ids.encode(column(of_text.slice(2, 1)), "user")
    assert (found.to_pylist(), indices.tolist()) == (["a"], [0])


def test_bad_text_in_an_entry_that_no_row_has_does_no_harm():
    dictionary = pa.array([b"a", b"\xff"]).view(pa.string())
    _, found = ids.encode(column(pa.DictionaryArray.from_arrays(pa.array([0, 0]), dictionary)), "user")
    assert found.to_pylist() == ["a"]
    with pytest.raises(DataError, match="column 'who' holds text that is not UTF-8"):
        ids.encode(column(pa.DictionaryArray.from_arrays(pa.array([0, 1]), dictionary)), "who")


def test_integers_close_together_and_far_apart_are_encoded_alike(monkeypatch):
    for kind in ["int8", "uint8", "int64", "uint64"]:
        limits = np.iinfo(kind)
        for low in {int(limits.min), 0, int(limits.max) - 100}:
            values = [low + place for place in np.random.default_rng(0).integers(0, 101, 60).tolist()]
            expected, place = sorted(set(values)), {}
            for close in (True, False):
                monkeypatch.setattr(ids, "CLOSE_AT_LEAST", 1000 if close else 0)
                monkeypatch.setattr(ids, "CLOSE", 0)
                indices, found = ids.encode(column(pa.array(values[:7], kind), pa.array(values[7:], kind)), "user")
                assert found.type == pa.from_numpy_dtype(kind)
                assert found.to_pylist() == expected
                place[close] = indices.tolist()
            assert place[True] == place[False] == [expected.index(value) for value in values]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (pa.array([1.5, 2.0]), r"column 'who' holds double.* \(2 rows, the first 1\.5\): cast it to int64 or string"),
        (
            pa.array([decimal.Decimal("1.5")]),
            r"holds decimal128\(2, 1\).* \(1 rows, the first 1\.5\): cast it to int64",
        ),
        (pa.array([[1, 2]]), r"holds list<.*\(1 rows, the first \[1, 2\]\): cast it to string"),
        (pa.array([{"a": 1}]), r"holds struct<a: int64>.* \(1 rows, the first .*\): cast it to string"),
        (pa.array([(1, 2, 3)], pa.month_day_nano_interval()), "holds month_day_nano_interval, which cannot be an id"),
        (pa.array([1], pa.time64("ns")), r"holds time64\[ns\], which cannot be an id"),
        (pa.array([1.5, 2.0]).dictionary_encode(), "holds double"),
        (pa.array([], pa.float64()), "holds double"),
        (pa.array([5, None, 6, None]), r"column 'who' has 2 null ids, the first in row 1 \(from 0\)"),
        (pa.array(["a", None]).dictionary_encode(), "has 1 null id, the first in row 1"),
        (pa.DictionaryArray.from_arrays([0, 1], pa.array(["a", None])), "has 1 null id, the first in row 1"),
        (pa.array([b"a", b"\xff"]).view(pa.string()), "column 'who' holds text that is not UTF-8"),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_what_cannot_be_an_id_is_refused(keys, message):
    with pytest.raises(DataError, match=message):
        ids.encode(column(keys), "who")


def test_the_row_of_a_null_counts_over_chunks():
    with pytest.raises(DataError, match=r"1 null id, the first in row 3 "):
        ids.encode(column(pa.array([1, 2]), pa.array([3, None])), "user")


# the whole way: ratings, fit, results, file

ONE_OF_EACH = ["int64", "uint64", "beyond 2^53", "string_view", "binary", "fixed-size binary", "uuid", "bool", "date32"]
ONE_OF_EACH += ["time64[us]", "timestamp[s, None]", "timestamp[ns, +05:30]", "duration[ns]"]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_keys_come_back_exactly_from_results_and_files(name, tmp_path):
    keys = KEYS[name]
    n = len(keys)
    users, items = np.divmod(np.random.default_rng(0).permutation(n * n), n)
    ratings = Ratings.from_arrays(taken(keys, users), taken(keys, items), (users + 2 * items) % 5)
    model = fastmf.fit(ratings.take(ratings.users != ratings.items), k=1, epochs=1)
    given_keys = keys.to_pylist()
    for side in (model.user_ids, model.item_ids):
        assert side.type == STORED_AS.get(name, keys.type)
        assert side.to_pylist() == given_keys

    predicted = model.predict(keys, keys)
    assert predicted["user_id"].tolist() == predicted["item_id"].tolist() == given_keys
    assert predicted.attrs == {"unknown_users": 0, "unknown_items": 0}
    best = model.recommend()
    assert best["user_id"].tolist() == best["item_id"].tolist() == given_keys  # all but one's own have been seen

    model.save(tmp_path / "model")
    loaded = fastmf.load(tmp_path / "model")
    assert loaded.user_ids.equals(model.user_ids)
    assert loaded.item_ids.equals(model.item_ids)
    assert loaded.content_hash == model.content_hash
    pd.testing.assert_frame_equal(loaded.recommend(), best)

    # what a result holds can be asked for again, in any form
    for wanted in (best["user_id"], best["user_id"].tolist(), tuple(given_keys)):
        pd.testing.assert_frame_equal(loaded.recommend(wanted), best)
    for row, key in enumerate(best["user_id"]):
        pd.testing.assert_frame_equal(loaded.recommend(key), best[row : row + 1].reset_index(drop=True))


# lookup


SEARCHED, HASHED = 0, ids.FEW  # values of FEW


@pytest.mark.parametrize("name", KEYS)
def test_a_key_is_found_at_its_index_in_any_form_and_no_other_is(name, monkeypatch):
    _, found = ids.encode(column(KEYS[name]), "user")
    n = len(found)
    for few in SEARCHED, HASHED:
        monkeypatch.setattr(ids, "FEW", few)
        assert ids.lookup(found, KEYS[name], "user").tolist() == list(range(n))
        assert ids.lookup(found, KEYS[name].to_pylist()[::-1], "user").tolist() == list(range(n))[::-1]
        assert ids.lookup(found.slice(1), KEYS[name], "user").tolist() == [-1, *range(n - 1)]
    assert ids.lookup(found, [], "user").tolist() == []
    assert ids.lookup(found, KEYS[name].slice(0, 0), "user").dtype == np.int32

    # as text
    if "binary" in name:
        found = pa.array([b"abcd"], found.type)
        texts = ["abcd"]
    else:
        texts = [str(key) for key in ids.to_pandas(found)]
    parsed = ids.parse(found, texts, "user")
    assert parsed.type == found.type
    assert parsed.to_pylist() == found.to_pylist()
    assert ids.lookup(found, parsed, "user").tolist() == list(range(len(found)))


def fitting(values, kind):
    limits = np.iinfo(kind)
    return [value for value in values if limits.min <= value <= limits.max]


def test_integers_match_by_value_whatever_their_width_and_sign(monkeypatch):
    values = [-(2**63), -129, -128, -1, 0, 1, 127, 255, 2**31, 2**32 - 1, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1]
    some = zip(INTEGERS, [*INTEGERS[3:], *INTEGERS[:3]], strict=True)
    for known, wanted in [*some, ("int64", "uint64"), ("uint64", "int64")]:
        of, what = fitting(values, known), fitting(values, wanted)
        expected = [of.index(value) if value in of else -1 for value in what]
        big_endian = np.array(what, wanted).astype(f">{np.dtype(wanted).str[1:]}")
        for few in SEARCHED, HASHED:
            monkeypatch.setattr(ids, "FEW", few)
            for keys in (pa.array(what, wanted), big_endian):
                assert ids.lookup(pa.array(of, known), keys, "user").tolist() == expected


def test_the_largest_unsigned_and_minus_one_differ():
    assert ids.lookup(pa.array([-1]), np.array([2**64 - 1], np.uint64), "user").tolist() == [-1]
    assert ids.lookup(pa.array([2**64 - 1], pa.uint64()), [-1], "user").tolist() == [-1]
    assert ids.lookup(pa.array([-1]), [2**64 - 1, -1][:1], "user").tolist() == [-1]


def test_containers_and_layouts_match_alike():
    found = pa.array(["", "a", "é"], pa.large_string())
    wanted = ["é", "b", "", "a"]
    polars = pytest.importorskip("polars")
    for given_keys in (
        wanted,
        tuple(wanted),
        np.array(wanted),
        np.array(wanted, object),
        pd.Series(wanted),
        pd.Series(wanted).astype("category"),
        pa.array(wanted, pa.string_view()),
        pa.chunked_array([wanted[:1], wanted[1:]]),
        polars.Series(wanted),
        polars.Series(wanted, dtype=polars.Categorical),
    ):
        assert ids.lookup(found, given_keys, "user").tolist() == [2, -1, 0, 1]


@pytest.mark.parametrize("few", [SEARCHED, HASHED], ids=["searched", "hashed"])
def test_times_match_by_value_whatever_their_unit(few, monkeypatch):
    monkeypatch.setattr(ids, "FEW", few)
    seconds = pa.array([0, 5], pa.timestamp("s"))
    for unit in ("s", "ms", "us", "ns"):
        finer = pa.array([5, 0, 7], pa.timestamp("s")).cast(pa.timestamp(unit))
        assert ids.lookup(seconds, finer, "user").tolist() == [1, 0, -1]
    assert ids.lookup(seconds, [datetime.datetime(1970, 1, 1, 0, 0, 5)], "user").tolist() == [1]
    berlin = pa.array([5], pa.timestamp("s", "Europe/Berlin"))
    assert ids.lookup(pa.array([0, 5_000_000], pa.timestamp("us", "UTC")), berlin, "user").tolist() == [1]
    days = pa.array(DATES, pa.date32())
    assert ids.lookup(days, np.array(["2020-02-29"], "M8[D]"), "user").tolist() == [2]
    assert ids.lookup(days, [datetime.datetime(2020, 2, 29)], "user").tolist() == [2]
    assert ids.lookup(pa.array([5], pa.duration("s")), [pd.Timedelta("5s")], "user").tolist() == [0]


KINDS = {
    "integer": pa.array([0, 5]),
    "string": pa.array(["0", "5"]),
    "binary": pa.array([b"0", b"5"]),
    "uuid": pa.array([key.bytes for key in UUIDS], pa.uuid()),
    "bool": pa.array([False, True]),
    "date": pa.array([0, 5], pa.timestamp("s")),
    "instant": pa.array([0, 5], pa.timestamp("s", "UTC")),
    "time": pa.array([0, 5], pa.time32("s")),
    "duration": pa.array([0, 5], pa.duration("s")),
}


def test_keys_of_another_kind_are_refused_not_converted():
    for known in KINDS:
        _, found = ids.encode(column(KINDS[known]), "user")
        assert ids.lookup(found, KINDS[known], "user").tolist() == list(range(len(found)))
        for wanted in KINDS.keys() - {known}:
            with pytest.raises(
                DataError, match=r"^item ids of type .* cannot be found among ids of type .*: cast them first$"
            ):
                ids.lookup(found, KINDS[wanted], "item")
            with pytest.raises(DataError):
                ids.lookup(found, KINDS[wanted].to_pylist(), "item")


def test_what_is_no_column_of_keys_is_refused():
    for wanted, message in [
        ([1, None], "column 'user' has 1 null id, the first in row 1"),
        ([1.0, 2.5], "column 'user' holds double"),
        (np.array([1.5]), "column 'user' holds double"),
        ([1, "a"], "user cannot be read as one column of one type"),
        ("12", "user is one value, '12'"),
        (12, "user cannot be read as one column"),
    ]:
        with pytest.raises(DataError, match=message):
            ids.lookup(pa.array([1, 2]), wanted, "user")


def test_fixed_size_binaries_of_other_sizes_are_unknown():
    found = pa.array([b"aa", b"bb"], pa.binary(2))
    assert ids.lookup(found, [b"a", b"bb", b"aaa"], "user").tolist() == [-1, 1, -1]
    assert ids.lookup(found, pa.array([b"bbb"], pa.binary(3)), "user").tolist() == [-1]


def test_integers_are_parsed_only_as_they_are_written():
    assert ids.parse(pa.array([1, 20]), ["20", "-3"], "user").to_pylist() == [20, -3]
    for text in ("01", "+1", " 1", "1.0", "1_0", "0x1", "-0", ""):
        with pytest.raises(UnknownIdError, match="is not valid: the model's user ids are of type int64"):
            ids.parse(pa.array([1, 20]), [text], "user")


# require


def test_require_finds_or_names_how_many_are_unknown_and_the_first():
    found = pa.array([2, 3, 5])
    assert ids.require(found, [5, 2], "user").tolist() == [2, 0]
    with pytest.raises(UnknownIdError, match=r"^2 of 3 user ids are not in the model, the first 7:"):
        ids.require(found, [2, 7, 8], "user")
    with pytest.raises(UnknownIdError, match=r"1 of 1 item ids .* the first 'x'"):
        ids.require(pa.array(["a"], pa.large_string()), ["x"], "item")


# parse


def test_text_that_is_no_key_of_the_type_is_an_unknown_id():
    for kind, texts in [
        (pa.int64(), ["", "a", "1.0", "1e3", " 1", str(2**63)]),
        (pa.int8(), ["128"]),
        (pa.uint64(), ["-1"]),
        (pa.bool_(), ["maybe"]),
        (pa.uuid(), ["1234"]),
        (pa.date32(), ["2020-02-30"]),
        (pa.time32("s"), ["25:00:00", "01:02:03.5"]),
        (pa.timestamp("s"), ["2020-01-01T00:00:00.5"]),
        (pa.timestamp("s", "UTC"), ["2020-01-01"]),
        (pa.duration("s"), ["soon", "1.5s", "NaT"]),
        (pa.binary(4), ["abc"]),
    ]:
        storage = pa.array([], kind.storage_type if kind == pa.uuid() else kind)
        known = pa.ExtensionArray.from_storage(kind, storage) if kind == pa.uuid() else storage
        for text in texts:
            with pytest.raises(UnknownIdError, match="is not valid: the model's user ids are of type"):
                ids.parse(known, [text], "user")


def test_content_is_of_the_kind_and_the_values_whatever_the_width():
    assert ids.content(pa.array([1, 2], pa.int8())) == ids.content(pa.array([1, 2], pa.uint64()))
    others = [pa.array(["1", "2"], pa.large_string()), pa.array([b"1", b"2"], pa.large_binary()), pa.array([1, 3])]
    others += [KEYS["uuid"], KEYS["fixed-size binary"], KEYS["date32"], KEYS["duration[s]"]]
    assert len({ids.content(column) for column in [pa.array([1, 2]), *others]}) == 8


def test_one_id_becomes_a_list_and_several_stay():
    for one in ("ab", b"ab", 7, UUIDS[0], DATES[0]):
        assert ids.many(one) == [one]
    assert ids.many(np.datetime64("2020-02-29")).tolist() == [DATES[2]]
    several = [7, 8]
    assert ids.many(several) is several


def test_a_dictionary_with_a_key_twice_becomes_a_pandas_column():
    codes = pa.DictionaryArray.from_arrays(pa.array([1, 0, 2]), pa.array(["a", "b", "a"]))
    assert ids.to_pandas(codes).tolist() == ["b", "a", "a"]


def test_times_that_do_not_fit_the_ids_unit_are_refused():
    with pytest.raises(
        DataError, match=r"^user ids of type timestamp\[us\] cannot be found among ids of type timestamp\[ns\]: cast"
    ):
        ids.lookup(pa.array([0], pa.timestamp("ns")), pa.array([2**62], pa.timestamp("us")), "user")


def test_no_ids_at_all_are_integers():
    indices, found = ids.encode(pa.chunked_array([pa.array([], pa.null())]), "user")
    assert (len(indices), found.type) == (0, pa.int64())


@pytest.mark.parametrize("key", ["integers", "text", "uuid", "dates"])
def test_a_union_holds_both_and_says_where(key):
    make = {
        "integers": lambda values: pa.array(values, pa.int64()),
        "text": lambda values: pa.array([f"k{value}" for value in values], pa.large_string()),
        "uuid": lambda values: pa.array([bytes(15) + bytes([value]) for value in values], pa.uuid()),
        "dates": lambda values: pa.array(values, pa.int32()).view(pa.date32()),
    }[key]
    one, other = make([2, 5, 7]), make([1, 5, 9])
    merged, old, places = ids.union(one, other, "user")
    assert merged.equals(make([1, 2, 5, 7, 9]))
    assert (old.tolist(), places.tolist()) == ([1, 2, 3], [0, 2, 4])
    same, old, places = ids.union(one, make([5, 7]), "user")
    assert same is one
    assert (old.tolist(), places.tolist()) == ([0, 1, 2], [1, 2])


def test_a_union_keeps_the_type_of_the_first_and_refuses_what_does_not_fit():
    merged, _, places = ids.union(pa.array([1, 3], pa.int16()), pa.array([2, 3], pa.int64()), "user")
    assert merged.type == pa.int16()
    assert places.tolist() == [1, 2]
    with pytest.raises(DataError, match="user ids of type int64 do not all fit into int16: cast them first"):
        ids.union(pa.array([1, 3], pa.int16()), pa.array([2, 2**40], pa.int64()), "user")
    with pytest.raises(DataError, match="cannot be found among"):
        ids.union(pa.array([1, 3]), pa.array(["2"], pa.large_string()), "user")
