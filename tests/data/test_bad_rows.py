import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmf
from fastmf.data.ratings import Ratings
from fastmf.errors import DataError, ParameterError

SETTINGS = settings(deadline=None, derandomize=True, database=None, max_examples=60)

# ratings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, np.nan, np.nan, 2.0], r"'rating' has 2 of 4 .* \(2 NaN\), the first in row 1 \(from 0\): nan"),
        (
            [1.0, 2.0, np.inf, -np.inf],
            r"'rating' has 2 of 4 .* \(2 infinite or beyond float32\), the first in row 2.*: inf",
        ),
        ([1.0, 2.0, 3.0, 1e39], r"has 1 of 4 .* \(1 infinite or beyond float32\), the first in row 3 .*: 1e\+39"),
        ([10**40, 2, 3, -(10**40)], "rating cannot be read as one column"),
        (pa.array([decimal.Decimal(10) ** 39] * 4), r"has 4 of 4 .* \(4 infinite or beyond float32\)"),
        (pa.array([1, None, None, 4]), r"has 2 of 4 .* \(2 null\), the first in row 1 .*: None"),
        (pa.array([None, 1.0, np.nan, np.inf]), r"has 3 of 4 .* \(1 null, 1 NaN, 1 infinite.*\), the first in row 0"),
        (np.ma.array([1.0, 999.0, 3.0, 4.0], mask=[False, True, False, False]), r"has 1 of 4 .* \(1 null\)"),
        (["5", "4", "3", "2"], r"'rating' holds string, not numbers \(4 rows, the first '5'\): cast it to float"),
        ([True, False, True, True], r"'rating' holds bool, not numbers \(4 rows, the first True\)"),
        ([None] * 4, r"'rating' holds null, not numbers \(4 rows, the first None\)"),
        (np.array(["2020-01-01"] * 4, "M8[s]"), r"'rating' holds timestamp\[s\], not numbers \(4 rows"),
        (pd.Series([1, None, 3, 4], dtype="Int8"), r"has 1 of 4 .* \(1 null\)"),
        (pd.Series(["5", "4", "3", "2"], dtype="category"), "not numbers"),
    ],
    ids=str,
)
def test_bad_ratings_are_counted_and_the_first_is_shown(values, message):
    with pytest.raises(DataError, match=message):
        Ratings.from_arrays([1, 2, 3, 4], [1, 2, 3, 4], values)


def test_the_largest_float32_is_a_rating_and_what_rounds_beyond_is_none():
    largest = float(np.finfo(np.float32).max)
    assert Ratings.from_arrays([1], [1], [-largest]).values.tolist() == [-largest]
    with pytest.raises(DataError, match="beyond float32"):
        Ratings.from_arrays([1], [1], [largest * (1 + 1e-7)])


def test_ratings_that_float32_rounds_to_next_to_nothing_are_warned_of_and_to_nothing_refused():
    with pytest.warns(UserWarning, match=r"are kept as float32, whose steps are about 1\.4013e-45"):
        fastmf.fit(([1, 1, 2], [1, 2, 1], [1e-44, 2e-44, 3e-44]), k=4, epochs=2)
    with pytest.raises(DataError, match="holds numbers too small for float32"):
        Ratings.from_arrays([1, 1], [1, 2], [1e-60, 2e-60])
    assert Ratings.from_arrays([1, 1], [1, 2], [0.0, 0.0]).values.tolist() == [0, 0]


def test_counts_are_written_with_separators():
    with pytest.raises(DataError, match=r"has 1,000 of 1,000 ratings"):
        Ratings.from_arrays(range(1000), range(1000), [np.nan] * 1000)


# weights


def test_weights_are_finite_and_above_zero():
    for bad in [0.0, -1.0, np.nan, np.inf, None, 1e39, 1e-60]:
        rows = [1, 2, 3], [1, 2, 3], [5.0, 4.0, 3.0], pa.array([1.0, bad, 2.0], pa.float64())
        message = (
            r"column 'weight' has 1 of 3 weights that are not finite numbers above 0 in float32,"
            r" the first in row 1 \(from 0\)"
        )
        with pytest.raises(DataError, match=message):
            Ratings.read(rows, weight="weight")
        kept = Ratings.read(rows, weight="weight", bad_rows="drop")
        assert kept.weights.tolist() == [1, 2]
        assert kept.dropped == {"bad_weights": 1}


@pytest.mark.parametrize("role", ["weight", "timestamp"])
@pytest.mark.parametrize("kind", [np.float64, np.float32])
@pytest.mark.parametrize(("bad", "shown"), [(np.nan, "nan"), (-np.inf, "-inf")])
def test_weights_and_times_of_pandas_are_shown_as_they_are(role, kind, bad, shown):
    how = {"weight": "weight"} if role == "weight" else {"half_life": 30}
    frame = pd.DataFrame({"user": [1, 2, 3], "item": [1, 2, 3], "rating": [5.0, 4.0, 3.0]})
    frame[role] = np.array([1e9, bad, 1e9], kind)
    for source in (frame, tuple(column for _, column in frame.items())):
        with pytest.raises(DataError, match=rf"column '{role}' has 1 of 3 .* first in row 1 \(from 0\): {shown};"):
            Ratings.read(source, **how)
        assert Ratings.read(source, **how, bad_rows="drop").dropped == {f"bad_{role}s": 1}


def test_weights_of_pandas_that_are_null_are_shown_as_null():
    frame = pd.DataFrame({"user": [1, 2], "item": [1, 2], "rating": [5.0, 4.0]})
    frame["weight"] = pd.array([1.0, None], "Float64")
    with pytest.raises(DataError, match=r"the first in row 1 \(from 0\): None;"):
        Ratings.read(frame, weight="weight")


# ids


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [
        ([1, None, 2], [1, 2, 3], "column 'user' has 1 null id, the first in row 1"),
        ([1, 2, 3], [None, None, 3], "column 'item' has 2 null ids, the first in row 0"),
        (np.ma.array([1, 777, 3], mask=[0, 1, 0]), [1, 2, 3], "1 null id"),
        ([1.5, 2.0, 3.0], [1, 2, 3], r"column 'user' holds double.*\d rows, the first 1\.5.*cast it to int64"),
        ([1, 2, 3], [[1], [2], [3]], "column 'item' holds list"),
        (pa.array([(1, 2, 3)] * 3, pa.month_day_nano_interval()), [1, 2, 3], "holds month_day_nano_interval"),
    ],
)
def test_ids_that_are_none_are_refused(users, items, message):
    with pytest.raises(DataError, match=message):
        Ratings.from_arrays(users, items, [1.0, 2.0, 3.0])
    if "null" not in message:
        with pytest.raises(DataError, match=message):
            Ratings.from_arrays(users, items, [1.0, 2.0, np.nan], bad_rows="drop")


def test_ids_that_arrow_cannot_drop_are_refused():
    ids = pa.RunEndEncodedArray.from_arrays([2, 3], [1, 2])
    with pytest.raises(DataError, match=r"run_end_encoded.*, which cannot be an id"):
        Ratings.from_arrays(ids, [1, 2, 3], [1.0, 2.0, 3.0], bad_rows="drop")
    with pytest.raises(DataError, match=r"bad rows of these columns cannot be dropped \(.*run_end_encoded"):
        Ratings.from_arrays(ids, [1, 2, 3], [1.0, np.nan, 3.0], bad_rows="drop")


def test_an_integer_column_with_a_null_is_refused_not_turned_into_floats(tmp_path):
    users = pa.array([2**53, 2**53 + 1, None])
    pq.write_table(pa.table({"user": users, "item": [1, 1, 1], "rating": [1, 2, 3]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="1 null id, the first in row 2"):
        Ratings.from_parquet(tmp_path / "a.parquet")
    kept = Ratings.from_parquet(tmp_path / "a.parquet", bad_rows="drop")
    assert kept.user_ids.to_pylist() == [2**53, 2**53 + 1]


BAD_TEXT = {
    "null": (pa.array(["ann", None, "bob"] * 40), "column 'user' has 40 null ids, the first in row 1"),
    "not UTF-8": (pa.array([b"ann", b"\xff", b"bob"] * 40).view(pa.string()), "'user' holds text that is not UTF-8"),
}


@pytest.mark.parametrize("coded", [True, False], ids=["in codes", "plain"])
@pytest.mark.parametrize("bad", BAD_TEXT)
def test_bad_text_in_parquet_is_refused_whether_it_is_in_codes_or_not(tmp_path, bad, coded):
    users, message = BAD_TEXT[bad]
    pq.write_table(
        pa.table({"user": users, "item": range(120), "rating": [1.0] * 120}),
        tmp_path / "a.parquet",
        use_dictionary=coded,
        row_group_size=50,
    )
    with pytest.raises(DataError, match=message):
        Ratings.from_parquet(tmp_path / "a.parquet")


# dropping, and the account of all rows

RATING = st.sampled_from([1.0, 2.5, None, float("nan"), float("inf"), -float("inf"), 1e39, 3.0])


def fault_of(user, item, rating):
    """Name the first thing that is wrong with a row."""
    if user is None or item is None:
        return "null_users" if user is None else "null_items"
    if rating is None or np.isnan(rating):
        return "null_ratings" if rating is None else "nan_ratings"
    return "infinite_ratings" if abs(rating) > 1e38 else None


KEYS = {"text": ["ann", "", "bob", None], "integers": [3, -(2**40), 7, None]}


@pytest.mark.parametrize("container", ["arrays", "views", "dictionary", "parquet"])
@SETTINGS
@given(data=st.data())
def test_all_rows_are_accounted_for(tmp_path_factory, container, data):
    kind = "text" if container == "views" else data.draw(st.sampled_from(list(KEYS)))
    row = st.tuples(st.sampled_from(KEYS[kind]), st.sampled_from([1, 2, 3, 4, None]), RATING)
    rows = data.draw(st.lists(row, min_size=1, max_size=30))
    how = data.draw(st.sampled_from(["last", "mean"]))
    users, items, values = zip(*rows, strict=True)
    user_type = pa.string() if kind == "text" else pa.int64()
    columns = {
        "user": pa.array(users, user_type),
        "item": pa.array(items, pa.int32()),
        "rating": pa.array(values, pa.float64()),
    }
    source = tuple(columns.values())
    if container == "dictionary":
        source = (columns["user"].dictionary_encode(null_encoding="encode"), *source[1:])
    elif container == "views":
        source = (columns["user"].cast(pa.string_view()), *source[1:])
    elif container == "parquet":
        source = tmp_path_factory.mktemp("rows") / "r.parquet"
        pq.write_table(pa.table(columns), source, row_group_size=7)
    faults = [fault_of(*one) for one in rows]
    good = {(user, item) for (user, item, _), fault in zip(rows, faults, strict=True) if fault is None}
    if not good:
        with pytest.raises(DataError, match=f"there are no ratings left: all {len(rows)} rows are bad"):
            Ratings.read(source, bad_rows="drop", duplicates=how)
        return
    ratings = Ratings.read(source, bad_rows="drop", duplicates=how)
    user_ids, item_ids = ratings.user_ids.to_pylist(), ratings.item_ids.to_pylist()
    assert {(user_ids[u], item_ids[i]) for u, i in zip(ratings.users, ratings.items, strict=True)} == good
    expected = {fault: faults.count(fault) for fault in faults if fault}
    n_duplicates = faults.count(None) - len(good)
    assert ratings.rows == {"read": len(rows), "used": len(good), "duplicates": n_duplicates, **expected}
    assert ratings.rows["read"] == sum(n for name, n in ratings.rows.items() if name != "read")
    if expected:
        with pytest.raises(DataError):
            Ratings.read(source, duplicates=how)


def test_nothing_is_dropped_where_nothing_is_bad():
    ratings = Ratings.from_arrays([1, 2], ["a", "b"], [3.0, 4.0], bad_rows="drop")
    assert ratings.values.tolist() == [3, 4]
    assert ratings.rows == {"read": 2, "used": 2, "duplicates": 0}


def test_what_is_no_number_at_all_is_refused_even_when_bad_rows_are_dropped():
    with pytest.raises(DataError, match="holds string, not numbers"):
        Ratings.from_arrays([1], [1], ["a"], bad_rows="drop")
    with pytest.raises(ParameterError, match="bad_rows is 'skip': choose error or drop"):
        Ratings.from_arrays([1], [1], [1.0], bad_rows="skip")


def test_integers_that_nulls_made_floats_are_ids_again_once_the_nulls_are_dropped(tmp_path):
    frame = pd.DataFrame({"user": [3, None, 1], "item": [7, 8, 9], "rating": [1.0, 2.0, 3.0]})
    frame.to_parquet(tmp_path / "r.parquet")
    frame.to_csv(tmp_path / "r.csv", index=False)
    arrays = frame["user"].to_numpy(), frame["item"], frame["rating"]
    for source in (frame, frame.astype({"user": "f4"}), tmp_path / "r.parquet", tmp_path / "r.csv", arrays):
        with pytest.warns(
            UserWarning, match=r"column 'user' holds integers as (double|float): its ids are taken as int64"
        ):
            ratings = Ratings.read(source, bad_rows="drop")
        assert ratings.user_ids.equals(pa.array([1, 3]))
        assert ratings.rows == {"read": 3, "used": 2, "duplicates": 0, "null_users": 1}
        with pytest.raises(DataError, match="column 'user' has 1 null id, the first in row 1"):
            Ratings.read(source)
    with pytest.warns(UserWarning, match="taken as int64"):
        assert Ratings.read(frame.dropna()).user_ids.equals(pa.array([1, 3]))


@pytest.mark.parametrize("users", [[1.5, None], [2.0**53, None], [np.inf, None], [1.0, 2.5]], ids=str)
def test_other_floats_are_no_ids(users):
    with pytest.raises(DataError, match="holds double, which cannot be an id"):
        Ratings.from_arrays(pd.Series(users), [1, 2], [1.0, 2.0], bad_rows="drop")
