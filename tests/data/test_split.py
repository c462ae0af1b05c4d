"""split: which rows are held out, and that nothing else happens to them."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastmf
from fastmf import DataError, ParameterError


@pytest.fixture
def table():
    """Ten rows of user "a", four of "b", one of "c", in mixed order, with more columns than are needed."""
    rng = np.random.default_rng(0)
    users = rng.permutation(["a"] * 10 + ["b"] * 4 + ["c"])
    return pa.table({"user_id": users, "time": rng.permutation(15) // 2, "row": np.arange(15), "text": ["x"] * 15})


def rows_of(part, user):
    frame = part.to_pandas()
    return frame.loc[frame["user_id"] == user, "row"].tolist()


def test_a_random_fraction_of_the_rows(table):
    train, test = fastmf.split(table, fraction=0.4, seed=3)
    assert len(test) == 6
    assert sorted(train["row"].to_pylist() + test["row"].to_pylist()) == list(range(15))
    assert train["row"].to_pylist() == sorted(train["row"].to_pylist())
    assert train.schema == test.schema == table.schema
    assert fastmf.split(table, fraction=0.4, seed=3)[1].equals(test)
    assert not fastmf.split(table, fraction=0.4, seed=4)[1].equals(test)
    assert len(fastmf.split(table)[1]) == 3


@pytest.mark.parametrize("timestamp", [None, "time"])
def test_one_row_of_each_user_who_has_two(table, timestamp):
    train, test = fastmf.split(table, "leave-one-out", timestamp=timestamp)
    assert {user: len(rows_of(test, user)) for user in "abc"} == {"a": 1, "b": 1, "c": 0}
    assert len(train) == 13
    if timestamp:
        frame = table.to_pandas().sort_values(["time", "row"])
        for user in "ab":
            assert rows_of(test, user) == [frame.loc[frame["user_id"] == user, "row"].iloc[-1]]


def test_the_latest_of_each_user(table):
    train, test = fastmf.split(table, "temporal", fraction=0.3, timestamp="time")
    frame = table.to_pandas().sort_values(["time", "row"])
    for user, n in (("a", 3), ("b", 1), ("c", 0)):
        own = frame.loc[frame["user_id"] == user, "row"].tolist()
        assert sorted(rows_of(test, user)) == sorted(own[len(own) - n :])
        assert sorted(rows_of(train, user)) == sorted(own[: len(own) - n])
    almost_all = fastmf.split(table, "temporal", fraction=0.99, timestamp="time")[0]
    assert [len(rows_of(almost_all, user)) for user in "abc"] == [1, 1, 1]


@pytest.mark.parametrize(
    ("how", "options", "error", "message"),
    [
        ("first", {}, ParameterError, "how is 'first': choose random or leave-one-out or temporal"),
        ("random", {"fraction": 1.0}, ParameterError, "fraction is 1.0: give one above 0 and below 1"),
        ("random", {"fraction": 0.01}, ParameterError, "0 of 15 rows would be held out"),
        ("leave-one-out", {"fraction": 0.1}, ParameterError, "takes one row of each user: leave it out"),
        ("temporal", {"timestamp": "when"}, DataError, "no column .when. for the timestamps.*--timestamp COLUMN"),
        ("random", {"user": "who"}, DataError, "no column 'who' for the users"),
    ],
)
def test_what_cannot_be_is_refused(table, how, options, error, message):
    with pytest.raises(error, match=message):
        fastmf.split(table, how, **options)


def test_times_that_are_null_are_refused(table):
    gaps = table.append_column("when", pa.array([None, float("nan"), *range(13)], pa.float64()))
    with pytest.raises(DataError, match="2 of 15 timestamps are null"):
        fastmf.split(gaps, "temporal", timestamp="when")


def test_tables_that_cannot_be_split_are_refused(table, tmp_path):
    with pytest.raises(ParameterError, match="seed is -1: give an integer of at least 0"):
        fastmf.split(table, seed=-1)
    with pytest.raises(ParameterError, match="fraction is 'a'"):
        fastmf.split(table, fraction="a")
    lists = table.append_column("when", pa.array([[n] for n in range(15)]))
    with pytest.raises(DataError, match=r"timestamps of type list<.*> have no order"):
        fastmf.split(lists, "temporal", timestamp="when")
    pq.write_table(table.append_column("text", table["text"]), tmp_path / "twice.parquet")
    pq.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(DataError, match=r"twice\.parquet has several columns 'text': rename them"):
        fastmf.split(tmp_path / "twice.parquet")
    with pytest.raises(DataError, match=r"empty\.parquet has no rows to split"):
        fastmf.split(tmp_path / "empty.parquet")
    with pytest.raises(DataError, match="mixed cannot be read as one column"):
        fastmf.split(table.to_pandas().assign(mixed=["a", 1] + [None] * 13))


def test_times_may_be_text_in_a_dictionary(table):
    text = pa.array([f"{n:02}" for n in table["time"].to_pylist()])
    plain, coded = (table.append_column("when", column) for column in (text, text.dictionary_encode()))
    expected, found = (fastmf.split(each, "temporal", timestamp="when")[1]["row"] for each in (plain, coded))
    assert found.equals(expected)


def test_files_and_frames_are_split_alike(table, tmp_path):
    expected = fastmf.split(table)[1].to_pandas()
    pq.write_table(table.slice(0, 7), tmp_path / "a.parquet")
    pq.write_table(table.slice(7), tmp_path / "b.parquet")
    for source in (tmp_path, table.to_pandas()):
        pd.testing.assert_frame_equal(fastmf.split(source)[1].to_pandas(), expected, check_dtype=False)


def test_a_column_may_be_non_null_in_one_file_and_nullable_in_another(table, tmp_path):
    non_null = pa.schema([field.with_nullable(False) for field in table.schema])
    for name, schema in (("a", table.schema), ("b", non_null)):
        rows = table.slice(0, 7) if name == "a" else table.slice(7)
        pq.write_table(rows.cast(schema), tmp_path / f"{name}.parquet")
    expected, found = fastmf.split(table), fastmf.split(tmp_path)
    for part in (0, 1):
        assert found[part].to_pydict() == expected[part].to_pydict()


@pytest.mark.parametrize(
    "times",
    [
        ["1000000001", "999999999", "1000000000", "5", "999999998"],
        ["2020-10-01", "2020-09-01", "2020-09-30T23:59:59", "1999-01-01", "2020-01-01"],
        [1_000_000_001, 999_999_999, 1_000_000_000, 5, 999_999_998],
    ],
)
def test_leave_one_out_takes_the_latest_row_by_the_usual_column(times):
    rows = pa.table({"user_id": ["a"] * 5, "timestamp": times, "row": range(5)})
    for seed in range(5):
        assert fastmf.split(rows, "leave-one-out", seed=seed)[1]["row"].to_pylist() == [0]
    assert fastmf.split(rows, "temporal", fraction=0.4)[1]["row"].to_pylist() == [0, 2]
    random = {
        fastmf.split(rows.drop_columns("timestamp"), "leave-one-out", seed=s)[1]["row"][0].as_py() for s in range(9)
    }
    assert len(random) > 1


def test_times_of_mixed_text_are_refused(table):
    mixed = table.append_column("timestamp", pa.array(["5"] * 14 + ["2020-01-01"]))
    for how in ("temporal", "leave-one-out"):
        with pytest.raises(DataError, match="column 'timestamp' holds text that is not all numbers"):
            fastmf.split(mixed, how)


def test_the_synthetic_file_is_split_by_time(tmp_path):
    from fastmf.datasets.twins import write_twin

    train, test = fastmf.split(write_twin(tmp_path / "r.parquet", "ml-latest-small", scale=0.02).path, "temporal")
    last = (
        train.group_by("userId")
        .aggregate([("timestamp", "max")])
        .join(test.group_by("userId").aggregate([("timestamp", "min")]), "userId")
    )
    assert last.num_rows == 12
    assert all(last["timestamp_max"].to_numpy() <= last["timestamp_min"].to_numpy())


def test_the_command_writes_both(table, tmp_path):
    from click.testing import CliRunner

    from fastmf.cli import cli

    pq.write_table(table, tmp_path / "all.parquet")
    paths = [str(tmp_path / name) for name in ("all.parquet", "train.parquet", "test.parquet")]
    done = CliRunner().invoke(cli, ["split", *paths, "--how", "leave-one-out", "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)["test_rows"] == 2
    assert pq.read_table(paths[2]).equals(fastmf.split(table, "leave-one-out")[1])
    assert pq.read_table(paths[1]).schema == table.schema
