"""Ids of a model: Python values that equal what was given, and keys in pandas."""

import copy
import datetime
import pickle
import uuid

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import fastmf
from fastmf.data.ratings import Ratings
from fastmf.model.raw_ids import RawIds

ZONE = datetime.timezone(datetime.timedelta(hours=1))
IDS = {
    "integers": [-3, 0, 2**53 + 1],
    "large unsigned": [1, 2**63, 2**64 - 1],
    "text": ["", "007", "\U0001f600"],
    "bytes": [b"", b"\0a", b"\xff"],
    "uuid": [uuid.UUID(int=n) for n in (0, 5, 2**127)],
    "booleans": [False, True],
    "dates": [datetime.date(1999, 12, 31), datetime.date(2000, 2, 29), datetime.date(2024, 1, 1)],
    "times of day": [datetime.time(0), datetime.time(12, 30, 0, 5), datetime.time(23)],
    "moments": [datetime.datetime(2000, 1, 1, 3), datetime.datetime(2020, 1, 1, 0, 0, 0, 7)],
    "moments with a zone": [datetime.datetime(2000, 1, 1, tzinfo=ZONE), datetime.datetime(2020, 1, 1, tzinfo=ZONE)],
    "nanoseconds": [pd.Timestamp("2000-01-01 00:00:00.000000001"), pd.Timestamp("2020-01-01")],
    "durations": [datetime.timedelta(0), datetime.timedelta(days=2, microseconds=5)],
}


def ids_of(values):
    """The ids that ratings with these users have, as those of a model."""
    others = list(range(len(values)))
    return RawIds(Ratings.read((values, others, [1.0] * len(values))).user_ids)


@pytest.mark.parametrize("kind", IDS)
def test_ids_are_the_values_that_were_given(kind):
    given = IDS[kind]
    found = ids_of(given[::-1])
    assert list(found) == [found[n] for n in range(len(found))] == given
    assert [type(value) for value in found] == [type(value) for value in given]
    assert found[-1] == found[np.int64(len(given) - 1)] == given[-1]
    assert len(found) == len(given)
    assert list(reversed(found)) == given[::-1]
    assert list(found[1:]) == given[1:]
    assert list(found[::-1]) == given[::-1]
    assert list(found[[1, 0, 1]]) == [given[1], given[0], given[1]]
    assert list(found[np.arange(len(given)) == 1]) == [given[1]]
    assert all(value in found for value in given)
    for other in ("nobody", 77, None, 1.5, [given[0]], datetime.date(1800, 1, 1), object()):
        assert other not in found
    with pytest.raises(IndexError):
        found[len(given)]


@pytest.mark.parametrize("kind", IDS)
def test_ids_are_keys_in_pandas(kind):
    given = IDS[kind]
    found, numbers = ids_of(given), np.arange(len(given)) * 10
    frame = pd.DataFrame({"user_id": pd.Series(given), "number": numbers})
    series = pd.Series(numbers, index=pd.Index(given))
    for place, value in enumerate(found):
        assert frame[frame["user_id"] == value]["number"].tolist() == [place * 10]
    assert frame["user_id"].isin(found[1:]).tolist() == [False] + [True] * (len(given) - 1)
    assert frame.set_index("user_id").loc[found[::-1], "number"].tolist() == numbers[::-1].tolist()
    assert series.loc[found].tolist() == numbers.tolist()
    if kind != "booleans":  # pandas takes them for a mask
        assert series[found].tolist() == numbers.tolist()
        assert series[found[0]] == 0
    index = pd.Index(found)
    assert index.tolist() == given
    assert index.get_indexer(pd.Index(given)).tolist() == list(range(len(given)))
    array = np.asarray(found)
    assert array.shape == (len(given),)
    assert array.tolist() == given or kind in ("nanoseconds", "moments", "durations")
    assert (pd.Series(found) == pd.Series(given)).all()


def test_numpy_gets_the_natural_type():
    kinds = {"integers": "i8", "large unsigned": "u8", "booleans": "?", "moments": "M8[us]", "nanoseconds": "M8[ns]"}
    for kind in IDS:
        assert np.asarray(ids_of(IDS[kind])).dtype == kinds.get(kind, "m8[us]" if kind == "durations" else "O")
    assert np.asarray(ids_of([1, 2]), np.float32).dtype == np.float32
    assert np.array(ids_of([1, 2])).flags.writeable
    assert not np.isin([2**53], ids_of(IDS["integers"])).any()


def test_arrow_and_polars_take_ids_and_arrow_methods_work():
    found = ids_of(["b", "a"])
    assert pa.array(found).equals(found.arrow)
    assert pl.Series(found).to_list() == ["a", "b"]
    assert found.to_pylist() == ["a", "b"]
    assert found.type == pa.large_string()
    assert found.take(pa.array([1])).to_pylist() == ["b"]
    for name in ("nonsense", "_private"):
        with pytest.raises(AttributeError, match=name):
            getattr(found, name)


def test_ids_are_compared_copied_and_shown():
    found = ids_of([3, 1, 2])
    assert found == ids_of([1, 2, 3]) == found.arrow
    assert found != ids_of([1, 2])
    assert found != [1, 2, 3]
    for other in (pickle.loads(pickle.dumps(found)), copy.copy(found), copy.deepcopy(found)):
        assert other == found
    assert repr(found) == "RawIds([1, 2, 3], int64)"
    assert repr(ids_of(list(range(1000)))) == "RawIds([0, 1, 2, 3, 4, … 1,000 in all], int64)"


def test_ids_of_a_model_go_back_into_it(model, tmp_path):
    lists = model.recommend(model.user_ids[1:3], n=2)
    pd.testing.assert_frame_equal(lists, model.recommend(["ann", "bob"], n=2))
    assert model.predict(model.user_ids[1], model.item_ids[:2])["item_id"].tolist() == [-5, 0]
    assert model.similar_items(model.item_ids[2])["item_id"].tolist() == [3] * 6
    model.save(tmp_path / "m")
    for other in (
        fastmf.load(tmp_path / "m"),
        fastmf.load(tmp_path / "m", mmap=True),
        model.fold_in((["x"], [0], [1])),
    ):
        assert isinstance(other.user_ids, RawIds)
        assert other.item_ids == model.item_ids
