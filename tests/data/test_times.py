"""Times and half-lives: weights by age, units, bad times, and how new ratings are weighed like old ones."""

from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import fastmf
from fastmf import DataError, ParameterError, Ratings
from fastmf.data.times import LEAST, HalfLife, to_days
from fastmf.solvers import SOLVERS

DAYS = np.array([17_000.0, 17_030.0, 17_060.0, 17_061.0])  # in 2016
NEWEST = DAYS.max()
AGED = 0.5 ** ((NEWEST - DAYS) / 30)
USERS, ITEMS, VALUES = [1, 1, 2, 2], [5, 6, 5, 6], [1.0, 2, 3, 4]
SECONDS = (DAYS * 86_400).astype(np.int64)


def read(times=SECONDS, days=30, **how):
    table = {"user": USERS, "item": ITEMS, "rating": VALUES, "timestamp": times}
    return Ratings.read(pa.table(table), half_life=days, **how)


INSTANTS = [datetime(1970, 1, 1) + timedelta(days=day) for day in DAYS]
CONTAINERS = {
    "seconds": (SECONDS, None),
    "floats": (DAYS * 86_400, "s"),
    "ms": (SECONDS * 1000, "ms"),
    "us": (SECONDS * 10**6, "us"),
    "ns": (SECONDS * 10**9, "ns"),
    "decimals": (pa.array(SECONDS).cast(pa.decimal128(25, 3)), None),
    "dictionary": (pa.array(SECONDS).dictionary_encode(), None),
    "dates": (pa.array([day.date() for day in INSTANTS]), None),
    "date64": (pa.array([day.date() for day in INSTANTS], pa.date64()), None),
    **{unit: (pa.array(INSTANTS, pa.timestamp(unit)), None) for unit in ("s", "ms", "us", "ns")},
    "zone": (pa.array(INSTANTS, pa.timestamp("us", "UTC")), None),
}


@pytest.mark.parametrize(("times", "unit"), CONTAINERS.values(), ids=CONTAINERS)
def test_a_row_weighs_half_a_half_life_later_whatever_holds_its_time(times, unit):
    ratings = read(times, time_unit=unit)
    np.testing.assert_allclose(ratings.weights, AGED, rtol=1e-6)
    assert ratings.weights.dtype == np.float32
    assert (ratings.weight, ratings.columns) == (None, ("user", "item", "rating"))
    assert ratings.half_life == HalfLife(days=30, timestamp="timestamp", time_unit=unit or "s", newest=NEWEST)
    assert ratings.half_life.describe() == "30 days before 2016-09-17"


def test_times_are_chosen_by_name_and_come_last_among_arrays():
    own = [0.5, 1, 2, 4]
    table = pa.table({"user": USERS, "item": ITEMS, "rating": VALUES, "at": SECONDS, "w": own})
    found = Ratings.read(table, half_life=30, timestamp="at", weight="w")
    np.testing.assert_allclose(found.weights, AGED * own, rtol=1e-6)
    assert (found.weight, found.half_life.timestamp) == ("w", "at")
    for arrays, how in (
        ((USERS, ITEMS, VALUES, own, SECONDS), {"weight": "weight"}),
        ((USERS, ITEMS, own, SECONDS), {"weight": "weight", "unrated": True}),
        ((USERS, ITEMS, own, SECONDS), {"weight": "rating"}),
    ):
        np.testing.assert_array_equal(Ratings.read(arrays, half_life=30, **how).weights, found.weights)
    for arrays, how in (((USERS, ITEMS, VALUES, SECONDS), {}), ((USERS, ITEMS, SECONDS), {"unrated": True})):
        np.testing.assert_allclose(Ratings.read(arrays, half_life=30, **how).weights, AGED, rtol=1e-6)
    with pytest.raises(DataError, match="3 arrays given where 4 are needed: user, item, rating, timestamp"):
        Ratings.read((USERS, ITEMS, VALUES), half_life=30)
    with pytest.raises(DataError, match=r"no column for the timestamps, none of 'timestamp'.*there are"):
        Ratings.read(table, half_life=30)


@pytest.mark.parametrize(
    ("way", "expected"), [("last", 0.5**3), ("mean", (1 + 0.5 + 0.5**3) / 3), ("sum", 1 + 0.5 + 0.5**3)]
)
def test_repeated_rows_are_weighed_by_their_own_ages(way, expected):
    times = (np.array([17_000, 17_010, 16_980, 17_010]) * 86_400).tolist()
    table = pa.table({"user": [1, 1, 1, 2], "item": [5] * 4, "rating": [1.0, 2, 3, 4], "timestamp": times})
    found = Ratings.read(table, half_life=10, duplicates=way)
    np.testing.assert_allclose(found.weights, [expected, 1], rtol=1e-6)
    without = Ratings.read(table.drop(["rating"]), half_life=10, duplicates=way, unrated=True)
    np.testing.assert_allclose(without.weights, [expected, 1], rtol=1e-6)
    assert without.weight == ("" if way == "sum" else None)


def test_ages_are_those_of_the_rows_that_are_used():
    times = pa.array([*SECONDS[:3].tolist(), None])
    with pytest.raises(DataError, match=r"'timestamp' has 1 of 4 timestamps that are null or not finite, the first in"):
        read(times)
    found = read(times, bad_rows="drop")
    assert found.rows == {"read": 4, "used": 3, "duplicates": 0, "bad_timestamps": 1}
    assert found.half_life.newest == DAYS[2]
    nans = read(DAYS * 86_400 * [1, 1, 1, np.nan], bad_rows="drop")
    np.testing.assert_array_equal(nans.weights, found.weights)
    newest_is_bad = pa.table({"user": USERS, "item": ITEMS, "rating": [1.0, 2, 3, None], "timestamp": SECONDS})
    assert Ratings.read(newest_is_bad, half_life=30, bad_rows="drop").half_life.newest == DAYS[2]


def test_weights_below_float32_become_the_smallest_and_are_counted():
    with pytest.warns(UserWarning, match=r"3 of 4 rows are so old .* below float32 \(up to 61 days, at a half-life of"):
        found = read(days=0.001)
    np.testing.assert_array_equal(found.weights, np.float32([LEAST, LEAST, LEAST, 1]))
    model = fastmf.fit(found, k=2, reg0=0.0, bias_reg=0.0, epochs=2)
    assert np.isfinite(model.predict([1, 2], [5, 6])["prediction"]).all()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.filterwarnings("ignore:.*so old", "ignore:the half-life leaves 1.0 of 150")
def test_any_solver_takes_the_smallest_weights(solver, planted):
    users, items, values = planted(20, 12, 150)
    rows = users, items, values + 10, np.linspace(1.5e9, 1.5e9 + 1e7, len(users))
    model = fastmf.fit(rows, 3, solver, half_life=0.1, **({"kept": 0} if solver == "gibbs" else {}))
    assert all(np.isfinite(array).all() for array in (*model.user_side, *model.item_side))
    assert np.isfinite(model.fold_in(rows).user_factors).all()


@pytest.mark.parametrize(
    ("times", "unit", "looks"),
    [
        (SECONDS * 1000, None, r"look like ms, not s: the newest would be of 2016-09-17 instead of the year 48,\d+"),
        (SECONDS, "ms", "look like s, not ms: the newest would be of 2016-09-17 instead of 1970-01-18"),
        (SECONDS * 10**9, "us", "look like ns, not us"),
    ],
)
def test_integers_of_another_unit_are_noticed(times, unit, looks):
    with pytest.warns(UserWarning, match=looks):
        read(times, days=1e6, time_unit=unit)


def test_new_ratings_in_another_unit_are_noticed():
    model = fastmf.fit((USERS, ITEMS, VALUES, SECONDS), k=1, epochs=1, half_life=30)
    with pytest.warns(UserWarning, match="the times in column 'timestamp' look like ms, not s"):
        model.fold_in((USERS, ITEMS, VALUES, SECONDS * 1000))


def test_small_numbers_are_taken_as_they_are():
    np.testing.assert_allclose(read((DAYS - 17_000) * 86_400).weights, AGED, rtol=1e-6)


def test_what_is_no_time_is_refused():
    for times, kind in (([True] * 4, "bool"), ([timedelta(1)] * 4, "duration")):
        with pytest.raises(DataError, match=f"column 'timestamp' holds {kind}.*, not times"):
            read(pa.array(times))
    for how, message in (
        ({"days": 0}, "half_life is 0: give a number above 0"),
        ({"days": float("nan")}, "half_life is nan"),
        ({"days": None, "timestamp": "t"}, "timestamp is 't', but there is no half_life"),
        ({"days": None, "time_unit": "s"}, "time_unit is 's', but there is no half_life"),
        ({"time_unit": "h"}, "time_unit is 'h': choose s or ms or us or ns"),
    ):
        with pytest.raises(ParameterError, match=message):
            read(**how)
    assert np.isnan(to_days(pa.chunked_array([pa.array([None, date(1970, 1, 3)])]), "t", "s")[0])


@pytest.fixture(scope="module")
def frame(planted):
    users, items, values = planted(30, 20, 300)
    rng = np.random.default_rng(7)
    times = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 700, len(users)), "D")
    return pd.DataFrame({"user": users, "item": items, "rating": values + 10, "timestamp": times})


@pytest.mark.filterwarnings("ignore:the model holds .* more ratings by")  # those that are not folded in again
@pytest.mark.parametrize("solver", ["als", "als-links", "implicit"])
def test_new_ratings_are_weighed_like_the_old_ones(solver, frame, tmp_path):
    how = {"weight_scale": "none", "method": "exact"} if solver == "implicit" else {}
    fastmf.fit(frame, 3, solver, half_life=100, **how).save(tmp_path / "a.fastmf")
    model = fastmf.load(tmp_path / "a.fastmf")
    newest = (frame["timestamp"].max() - pd.Timestamp("1970-01-01")).days
    assert model.half_life == HalfLife(days=100, timestamp="timestamp", time_unit="s", newest=newest)
    assert model.weight is None
    weights = 0.5 ** ((frame["timestamp"].max() - frame["timestamp"]).dt.days / 100)
    same = fastmf.fit(frame.assign(w=weights.astype(np.float32)), 3, solver, weight="w", **how)
    np.testing.assert_allclose(model.user_factors, same.user_factors, rtol=1e-4, atol=1e-5)
    assert (model.mean, model.scale) == (same.mean, same.scale)

    old = frame[frame["timestamp"] < frame["timestamp"].max() - pd.Timedelta(days=50)]
    folded, expected = model.fold_in(old), same.fold_in(old.assign(w=weights[old.index].astype(np.float32)))
    np.testing.assert_allclose(folded.user_factors, expected.user_factors, rtol=1e-3, atol=1e-4)
    later = old.assign(timestamp=frame["timestamp"].max() + pd.Timedelta(days=1000))
    ones = same.fold_in(old.assign(w=np.float32(1)))  # rows newer than the training rows weigh 1
    np.testing.assert_allclose(model.fold_in(later).user_factors, ones.user_factors, rtol=1e-3, atol=1e-4)
    found = model.explain(100, 1003, old)
    u, i = folded.user_ids.to_pylist().index(100), folded.item_ids.to_pylist().index(1003)
    score = folded.mean + folded.user_bias[u] + folded.item_bias[i] + folded.user_factors[u] @ folded.item_factors[i]
    assert found.attrs["score"] == pytest.approx(float(score), abs=1e-4)
    with pytest.raises(DataError, match="no column 'timestamp' for the timestamps"):
        model.fold_in(frame.drop(columns="timestamp"))


@pytest.mark.filterwarnings("ignore:the model holds .* more ratings by")  # those that are not folded in again
def test_ratings_that_were_read_keep_their_ages(frame):
    ratings = Ratings.read(frame, half_life=100)
    assert Ratings.read(ratings, half_life=100) is ratings
    assert all(part.half_life == ratings.half_life for part in ratings.split(0.5))
    model = fastmf.fit(ratings, k=2)
    assert fastmf.fit(frame, k=2, half_life=100).content_hash == model.content_hash
    assert model.fold_in(ratings).rows["unknown_items"] == 0
    plain = Ratings.read(frame)
    for data, half_life, have in ((plain, 100, "none"), (ratings, 50.0, "100 days before 2021-")):
        with pytest.raises(ParameterError, match=f"half_life is {half_life:g} days, but these Ratings have {have}"):
            fastmf.fit(data, half_life=half_life)
    other = Ratings.read(frame[frame["timestamp"] < "2021-01-01"], half_life=100)
    with pytest.raises(ParameterError, match=r"half_life is 100 days before 2021-\d\d-\d\d, but .* before 2020-"):
        model.fold_in(other)
    assert model.fold_in(Ratings.read(frame[:50], half_life=model.half_life)).rows["used"] == 50
    weighed = fastmf.fit(frame.assign(w=1.5), k=2, weight="w")
    with pytest.raises(DataError, match="fitted without a half-life, but these ratings have one"):
        weighed.fold_in(Ratings.read(frame.assign(w=1.5), weight="w", half_life=100))


def test_validation_ratings_are_read_without_ages(frame):
    validation = frame[:60].drop(columns="timestamp")
    model = fastmf.fit(frame[60:], k=2, half_life=100, validation=validation)
    assert model.history[-1].validation_rmse == pytest.approx(
        np.sqrt(fastmf.fit(frame[60:], k=2, half_life=100).predict(validation["user"], validation["item"])
                ["prediction"].sub(validation["rating"].to_numpy()).pow(2).mean()),
        rel=1e-4,
    )  # fmt: skip


TEXTS = {
    "numbers": (["999999999", " 1000000001", None, "-5"], [999_999_999, 1_000_000_001, None, -5]),
    "fractions": (["1.5", "2", "+0.25"], [1.5, 2, 0.25]),
    "dates": (["1970-01-03", "1970-01-02T12:00:00"], [172_800, 129_600]),
    "dates with zones": (["1970-01-02T00:00:00Z", "1970-01-02T02:00:00+02:00"], [86_400, 86_400]),
    "nanoseconds": (["1970-01-01 00:00:01.000000000", "1970-01-01 00:00:02.000000000"], [1, 2]),
}


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
@pytest.mark.parametrize("name", TEXTS)
def test_text_is_parsed(name, kind):
    texts, seconds = TEXTS[name]
    found = to_days(pa.chunked_array([pa.array(texts, pa.string()).cast(kind)]), "t", "s")
    np.testing.assert_allclose(found, [np.nan if each is None else each / 86_400 for each in seconds])


@pytest.mark.parametrize(
    ("texts", "which"),
    [
        (["5", "6", "2020-01-01"], "2 of 3 rows, the first '5' in row 0"),
        (["a", "b", None, "c"], "3 of 4 rows, the first 'a' in row 0"),
        (["5", "", "7"], "1 of 3 rows, the first '' in row 1"),
        (["2020-01-01", "01/02/2020"], "1 of 2 rows, the first '01/02/2020' in row 1"),
        (["2020-01-01", "2020-02-31"], "dates that do not exist"),
        (["2020-01-01 10:00:00", "2020-01-01 10:00:00Z"], "some have a time zone and others have none"),
    ],
)
def test_text_that_is_not_all_times_is_refused(texts, which):
    with pytest.raises(DataError, match=rf"^column 't' holds text that is not all numbers, nor .*{which}.*: cast it"):
        to_days(pa.chunked_array([texts]), "t", "s")
