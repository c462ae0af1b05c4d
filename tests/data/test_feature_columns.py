"""The features of each type of column, through Features.read."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fastmf.data.features import Features
from fastmf.errors import DataError, ResourceError

GENRES = ["Drama|War", "War", "Drama| War ", None, "", "Drama|Drama|", "War|Comedy", "Drama"]
PRICES = [1.0, 2.0, None, 4.0, float("nan"), 2.0, 2.0, 1.0]


def table(**columns):
    n = max(map(len, columns.values()))
    return pa.table({"item": list(range(100, 100 + n))} | columns)


def read(source, **options):
    return Features.read(source, "item", **options)


def dense(features):
    """Return the matrix of the features, (n_ids, n_features) float32."""
    indptr, indices, values, _ = features.rows
    found = np.zeros((len(indptr) - 1, features.encoding.n_features), np.float32)
    owners = np.repeat(np.arange(len(found)), np.diff(indptr))
    assert len(set(zip(owners, indices, strict=True))) == len(indices)
    found[owners, indices] = values
    return found


def columns(features):
    """Return the column of each feature by its name, rounded."""
    return dict(zip(features.encoding.names.to_pylist(), dense(features).T.round(3).tolist(), strict=True))


def test_numbers_are_standardised_and_the_missing_are_marked():
    found = columns(read(table(price=PRICES)))
    present = np.array([1, 2, 4, 2, 2, 1])
    z = ((present - present.mean()) / present.std()).round(3)
    expected = np.array([z[0], z[1], 0, z[2], 0, z[3], z[4], z[5]], np.float32)
    assert list(found) == ["price", "price (missing)"]
    np.testing.assert_allclose(found["price"], expected, atol=1e-3)
    assert found["price (missing)"] == [0, 0, 1, 0, 1, 0, 0, 0]


@pytest.mark.parametrize(
    "kind",
    [pa.int8(), pa.uint64(), pa.int32(), pa.float16(), pa.float32(), pa.decimal128(7, 2), pa.decimal256(50, 3)],
    ids=str,
)
def test_every_type_of_number_gives_the_same_rows(kind):
    plain = read(table(x=[1.0, 2.0, 3.0, 5.0]))
    numbers = [1, 2, 3, 5] if pa.types.is_integer(kind) else [1.0, 2.0, 3.0, 5.0]
    numbers = [decimal.Decimal(x) for x in numbers] if pa.types.is_decimal(kind) else numbers
    found = read(table(x=pa.array(numbers).cast(kind)))
    assert found.encoding.names.to_pylist() == ["x"]
    assert found.digest() == plain.digest()


@pytest.mark.parametrize(
    "numbers",
    [
        [1.7e308, -1.7e308, 1.0],
        [5e-324, 0.0, 1e-323],
        [1e15, 1e15 + 0.125, 1e15],
        [2**63 - 1, -(2**63), 0],
        [1e300, 1e300 * (1 + 2**-52), 1e300],
    ],
    ids=str,
)
def test_numbers_of_any_size_stay_finite(numbers):
    found = dense(read(table(x=numbers)))[:, 0]
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= np.sqrt(len(numbers)) * 1.5
    assert found.any()


def test_a_number_that_is_the_same_wherever_it_is_there_only_marks_where():
    assert columns(read(table(x=[3.0, None, 3.0]))) == {"x (missing)": [0, 1, 0]}


def test_zero_has_no_sign_and_is_stored():
    minus, plus = [-0.0, 0.0, None, 0.0], [0.0, -0.0, None, 0.0]
    first = read(table(x=minus))
    assert first.digest() == read(table(x=plus)).digest()
    assert np.signbit(first.encoding.columns[0].means).tolist() == [False]
    centred = read(table(x=[-1.0, 0.0, 1.0]))
    assert np.diff(centred.rows.indptr).tolist() == [1, 1, 1]


def test_what_a_row_says_twice_counts_once():
    found = read(table(c=["a", "a", "a", "b|b|b", "b|a", "d|e|f"]))
    assert columns(found) == {"c=a": [1, 1, 1, 0, 1, 0], "c (rare)": [0, 0, 0, 1, 1, 1]}


def test_text_with_bars_becomes_a_feature_for_each_part():
    found = read(table(genres=GENRES))
    assert columns(found) == {
        "genres=Drama": [1, 0, 1, 0, 0, 1, 0, 1],
        "genres=War": [1, 1, 1, 0, 0, 0, 1, 0],
        "genres (rare)": [0, 0, 0, 0, 0, 0, 1, 0],
    }
    assert found.remarks == ("item features: 1 categories of 'genres', the first 'Comedy', count as 'genres (rare)'",)


def lists(texts):
    return [None if text is None else text.replace(" ", "").split("|") for text in texts]


@pytest.mark.parametrize(
    "genres",
    [
        pa.array(GENRES, pa.large_string()),
        pa.array(GENRES, pa.string_view()),
        pa.array(GENRES).dictionary_encode(),
        pa.array(GENRES).dictionary_encode().cast(pa.dictionary(pa.uint8(), pa.string_view())),
        pa.chunked_array([pa.array(GENRES[:3]).dictionary_encode(), pa.array(GENRES[3:]).dictionary_encode()]),
        pa.array(["x", *GENRES]).slice(1),
        pa.array(lists(GENRES)),
        pa.array(lists(GENRES), pa.large_list(pa.large_string())),
        pa.array(lists(GENRES), pa.list_view(pa.string_view())),
        pa.array([None, *lists(GENRES)]).slice(1),
        pa.array(lists(GENRES), pa.list_(pa.dictionary(pa.int8(), pa.string()))),
        pa.chunked_array([pa.array(lists(GENRES[:3])), pa.array(lists(GENRES[3:]))]),
    ],
    ids=lambda array: str(array.type),
)
def test_categories_are_the_same_in_every_layout(genres):
    assert read(table(genres=genres)).digest() == read(table(genres=GENRES)).digest()


def test_lists_of_integers_and_booleans_and_fixed_ones_are_categories():
    tags = pa.array([[1, 2], [2, 2], [1, None], None, [10, 2], [10, 1], [10, 10]], pa.list_(pa.int16(), 2))
    found = read(table(tags=tags, flags=[[True], [], [True, True], None, [True], [False], None]))
    assert columns(found) == {
        "tags=1": [1, 0, 1, 0, 0, 1, 0],
        "tags=10": [0, 0, 0, 0, 1, 1, 1],
        "tags=2": [1, 1, 0, 0, 1, 0, 0],
        "flags=true": [1, 0, 1, 0, 1, 0, 0],
        "flags (rare)": [0, 0, 0, 0, 0, 1, 0],
    }


def test_a_bar_inside_a_list_is_not_a_separator():
    found = read(table(bands=[["AC|DC"], ["AC|DC", "U2"], ["AC|DC"], ["U2"], ["U2"]]))
    assert found.encoding.names.to_pylist() == ["bands=AC|DC", "bands=U2"]


def test_booleans_and_dictionaries_of_any_value_are_categories():
    sizes = pd.Categorical([1.5, None, 1.5, 1.5, 2, 2, 2])
    found = read(table(new=[True, None, True, True, False, False, False], size=pa.array(sizes)))
    assert columns(found) == {
        "new=false": [0, 0, 0, 0, 1, 1, 1],
        "new=true": [1, 0, 1, 1, 0, 0, 0],
        "size=1.5": [1, 0, 1, 1, 0, 0, 0],
        "size=2": [0, 0, 0, 0, 1, 1, 1],
    }


def test_values_that_a_dictionary_holds_and_no_row_has_are_no_categories():
    codes = pa.DictionaryArray.from_arrays(pa.array([0, 2, 2, 0, 2, 0]), pa.array(["a", "unused", "b", None]))
    found = read(table(c=codes))
    assert found.encoding.names.to_pylist() == ["c=a", "c=b"]
    assert found.remarks == ()


def dates(kind):
    days = [datetime.date(1999, 3, 1), None, datetime.date(2001, 3, 31), datetime.date(1969, 12, 31)]
    days += [datetime.date(2001, 3, 2), datetime.date(1999, 12, 5), datetime.date(1995, 12, 5)]
    return pa.array(days, pa.date32()).cast(kind)


@pytest.mark.parametrize(
    "kind", [pa.date32(), pa.date64(), *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns"))], ids=str
)
def test_dates_become_the_year_and_the_month(kind):
    found = read(table(out=dates(kind)))
    assert found.digest() == read(table(out=dates(pa.date32()))).digest()
    got = columns(found)
    assert list(got) == ["out: year", "out: year (missing)", "out: month=12", "out: month=3"]
    assert got["out: month=12"] == [0, 0, 0, 1, 0, 1, 1]
    assert got["out: month=3"] == [1, 0, 1, 0, 1, 0, 0]
    years = np.array([1999, 2001, 1969, 2001, 1999, 1995])
    z = (years - years.mean()) / years.std()
    np.testing.assert_allclose(np.delete(got["out: year"], 1), z, atol=1e-3)


def test_dates_with_a_time_zone_are_taken_in_utc():
    late = [datetime.datetime(2000 + n % 2, 12, 31, 23, 30) for n in range(6)]
    naive = pa.array(late, pa.timestamp("us"))
    here = naive.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us", "Asia/Tokyo"))
    assert read(table(out=here)).encoding.names.to_pylist() == ["out: year"]
    assert read(table(out=here)).digest() == read(table(out=naive)).digest()


def test_lists_of_floats_become_a_feature_for_each_place():
    embeddings = [[1.0, 5.0, 2.0], None, [2.0, 5.0, 3.0], [None, 5.0, 4.0]]
    found = read(table(emb=embeddings))
    fixed = read(table(emb=pa.array(embeddings, pa.list_(pa.float32(), 3))))
    assert found.digest() == fixed.digest()
    got = columns(found)
    assert list(got) == ["emb[0]", "emb[2]", "emb (missing)"]
    assert got["emb[0]"] == [-1, 0, 1, 0]
    assert got["emb (missing)"] == [0, 1, 0, 1]
    assert found.remarks == ("item features: 1 of 3 numbers of column 'emb' never change: left out",)
    for place in (0, 2):
        alone = columns(read(table(x=[None if row is None else row[place] for row in embeddings])))
        assert alone["x"] == got[f"emb[{place}]"]


def test_columns_that_cannot_be_features_are_left_out_with_a_remark():
    n = 40
    odd = {
        "title": [f"title {row}" for row in range(n)],
        "same": [3] * n,
        "text": ["x"] * n,
        "tags": [["b", "a"]] * n,
        "nothing": pa.nulls(n),
        "nan": [float("nan")] * n,
        "blank": ["", None] * (n // 2),
        "empty": [[], None] * (n // 2),
        "holes": [[None, None]] * n,
        "ragged": [[1.0], [1.0, 2.0]] * (n // 2),
        "struct": [{"a": [{"b": row}]} for row in range(n)],
        "map": pa.array([[("k", 1)]] * n, pa.map_(pa.string(), pa.int64())),
        "bytes": [b"x", b"y"] * (n // 2),
        "clock": [datetime.time(row % 24) for row in range(n)],
        "lasts": pa.array(range(n), pa.duration("s")),
        "nested": [[[1, 2]]] * n,
        "parts": [[{"a": 1}]] * n,
        "days": [[datetime.date(2020, 1, 1)]] * n,
        "key": pa.array([bytes([row] * 16) for row in range(n)], pa.uuid()),
        "once": [datetime.date(2020, 1, 1)] * n,
    }
    found = read(table(good=list(range(n)), **odd))
    assert found.encoding.names.to_pylist() == ["good"]
    for name, why in {
        "title": "differs in nearly every row, as ids and titles do: 0 of 40 rows have a category that 3 rows share",
        "same": "holds the same number in every row",
        "text": "holds the same categories in every row",
        "tags": "holds the same categories in every row",
        "ragged": "holds lists of 1 to 2 numbers",
        "struct": "holds struct<a: list<",
        "map": "holds map<string, int64>, which cannot be a feature",
        "bytes": "holds binary, which cannot be a feature",
        "clock": "holds time64[us], which cannot be a feature",
        "lasts": "holds duration[s], which cannot be a feature",
        "nested": "holds list<",
        "parts": "holds list<",
        "days": "holds list<",
        "key": "holds extension<arrow.uuid>, which cannot be a feature",
        "once": "holds the same year in every row",
        **dict.fromkeys(("nothing", "nan", "blank", "empty", "holes"), "holds no values"),
    }.items():
        (remark, *_) = [line for line in found.remarks if f"column {name!r}" in line]
        assert why in remark
        assert remark.startswith("item features: ")
        assert remark.endswith(": left out")
    assert len(found.remarks) == len(odd) + 1  # the month of "once", too
    with pytest.raises(DataError, match=r"no column can be used as a feature: column 'title' differs.*; column 'key'"):
        read(table(**odd))


def test_the_threshold_of_rare_categories_needs_no_case_for_small_tables():
    for n in (10, 100, 1000):
        mixed = read(table(title=[f"{row}" for row in range(n)], genre=["a", "b", "b", "a", "c"] * (n // 5)))
        names = ["genre=a", "genre=b"]
        assert mixed.encoding.names.to_pylist() == [*names, "genre (rare)" if n == 10 else "genre=c"]


def test_long_text_in_many_rows_is_refused_before_memory_runs_out(monkeypatch):
    text = "|".join(map(str, range(1000)))
    codes = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1000, np.int32)), pa.array([text]))
    monkeypatch.setattr("fastmf.runtime.memory.available_memory", lambda: 10**6)
    with pytest.raises(ResourceError, match="column 'c': 1,000,000 categories in 1,000 rows takes at least"):
        read(table(c=codes))
    with pytest.raises(ResourceError, match=r"encoding 60,000 values of features takes at least"):
        read(table(x=np.arange(60_000)))


@pytest.mark.big
def test_a_million_categories_are_one_column_among_others():
    numbers = np.random.default_rng(0).permutation(10**6)
    found = read(table(c=pa.array(np.append(numbers, [1, 1, 2, 2, 2])).cast(pa.string()), x=np.arange(10**6 + 5)))
    assert found.encoding.names.to_pylist() == ["x"]
    assert "column 'c' differs in nearly every row" in found.remarks[0]
    thrice = read(table(c=pa.array(np.tile(numbers[:100_000], 3)).cast(pa.string())))
    assert thrice.encoding.n_features == 100_000
    assert (np.diff(thrice.rows.indptr) == 1).all()
