import datetime
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmf.data.encoding import Encoding
from fastmf.data.features import Features
from fastmf.errors import DataError, ParameterError
from fastmf.kernels.types import Compressed


def table(**columns):
    n = max(map(len, columns.values()))
    return pa.table({"item": list(range(100, 100 + n))} | columns)


def read(source, **options):
    return Features.read(source, "item", **options)


def dense(features, rows=None):
    """Return the matrix of the features, (n_ids, n_features) float32."""
    indptr, indices, values, _ = features.rows if rows is None else rows
    found = np.zeros((len(indptr) - 1, features.encoding.n_features), np.float32)
    owners = np.repeat(np.arange(len(found)), np.diff(indptr))
    assert len(set(zip(owners, indices, strict=True))) == len(indices)
    found[owners, indices] = values
    return found


def columns(features):
    """Return the column of each feature by its name, rounded."""
    return dict(zip(features.encoding.names.to_pylist(), dense(features).T.round(3).tolist(), strict=True))


def test_the_movies_of_movielens():
    path = Path(os.environ.get("FASTMF_DATA_DIR", "")) / "ml-latest-small-movies.parquet"
    if not path.exists():
        pytest.skip("needs FASTMF_DATA_DIR with ml-latest-small-movies.parquet")
    found = read(path)
    assert len(found) == 9742
    assert len(found.rows.indices) == 22084
    names = found.encoding.names.to_pylist()
    assert len(names) == 20
    assert {"genres=(no genres listed)", "genres=Film-Noir"} <= set(names)
    (remark,) = found.remarks
    assert "column 'title' differs in nearly every row" in remark


def test_ids_are_sorted_and_their_rows_are_found_in_another_order():
    source = pa.table({"movieId": [30, 10, 20], "x": [1.0, 2.0, 6.0]})
    found = read(source)
    assert found.ids.to_pylist() == [10, 20, 30]
    matrix = dense(found)[:, 0]
    assert matrix.argsort().tolist() == [2, 0, 1]
    rows = found.of(pa.array([20, 99, 10, 20], pa.int32())).rows
    assert isinstance(rows, Compressed)
    assert [array.dtype.name for array in rows[:3]] == ["int64", "int32", "float32"]
    np.testing.assert_array_equal(dense(found, rows)[:, 0], matrix[[1, 0, 0, 1]] * [1, 0, 1, 1])
    with pytest.raises(DataError, match="cast them first"):
        found.of(pa.array(["20"]))


def test_the_id_column_is_named_or_has_a_usual_name():
    source = pa.table({"who": [1, 2], "item": [3, 4], "user": [5, 6]})
    assert read(source).ids.to_pylist() == [3, 4]
    assert Features.read(source, "user").ids.to_pylist() == [5, 6]
    assert read(source, id_column="who").ids.to_pylist() == [1, 2]
    with pytest.raises(DataError, match="no column for the items, none of 'itemid'"):
        read(pa.table({"who": [1, 2], "x": [1, 2]}))
    assert read(source, id_column="what").ids.to_pylist() == [3, 4]
    with pytest.raises(ParameterError, match="side is 'movie'"):
        Features.read(source, "movie")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"item": [1, None, None], "x": [1, 2, 3]}, r"'item' has 2 null ids, the first in row 1"),
        (
            {"item": [1, 2, 1, 2, 1], "x": [1, 2, 3, 4, 5]},
            r"'item' has 3 of 5 rows that repeat an id, the first 1 in row 2",
        ),
        ({"item": ["b", "a", "b"], "x": [1, 2, 3]}, r"has 1 of 3 rows that repeat an id, the first 'b' in row 2"),
        ({"item": [1.5, 2.0], "x": [1, 2]}, r"'item' holds double, which cannot be an id"),
        ({"item": [[1], [2]], "x": [1, 2]}, r"'item' holds list<.*>, which cannot be an id"),
        ({"item": pa.array([], pa.int64()), "x": pa.array([], pa.int64())}, "no item features: the table has 0 rows"),
        ({"item": [1, 2]}, "no column can be used as a feature: there are only ids"),
        (
            {"item": [1, 2, 3, 4], "x": [1.0, float("inf"), 2.0, -float("inf")]},
            r"'x' has 2 rows with infinite.* row 1 ",
        ),
        ({"item": [1, 2], "x": [[1.0, 2.0], [3.0, float("inf")]]}, r"'x' has 1 rows with infinite.* row 1 "),
    ],
)
def test_bad_tables_are_refused(source, message, tmp_path):
    with pytest.raises(DataError, match=f"^the table of item features: .*{message}"):
        read(pa.table(source))
    pq.write_table(pa.table(source), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=rf"a\.parquet: .*{message}"):
        read(tmp_path / "a.parquet")


def test_damaged_text_and_columns_of_one_name_are_refused():
    not_utf8 = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.int32([0, 1, 2])), pa.py_buffer(b"\xff\xfe")]
    )
    with pytest.raises(DataError, match=r"column 'x' is damaged: .*Invalid UTF8"):
        read(table(x=not_utf8))
    codes = pa.DictionaryArray.from_arrays(pa.array([0, 7]), pa.array(["a", "b"]), safe=False)
    with pytest.raises(DataError, match="column 'x' is damaged"):
        read(table(x=codes))
    doubled = pa.Table.from_arrays([pa.array([1, 2])] * 3, names=["item", "x", "x"])
    with pytest.raises(DataError, match="several columns 'x'"):
        read(doubled)
    clash = {"a": ["b=c", "b=c", "b=c", "d", "d", "d"], "a=b": ["c", "c", "c", "e", "e", "e"]}
    with pytest.raises(DataError, match="columns 'a' and 'a=b' both have a feature 'a=b=c': rename one"):
        read(table(**clash))
    with pytest.raises(DataError, match="cannot read a table from a list of int"):
        read([1, 2])


def test_ids_must_be_of_the_kind_of_the_ratings_and_get_their_type():
    source = table(x=[1.0, 2.0, 4.0])
    found = read(source, like=pa.array([101, 7], pa.int32()))
    assert found.ids.type == pa.int32()
    assert found.digest() == read(source).digest()
    with pytest.raises(
        DataError, match="ids of the features are int64, but those of the ratings are large_string: cast"
    ):
        read(source, like=pa.array(["101"], pa.large_string()))
    big = pa.table({"item": [1, 2**40, 3], "x": [1.0, 2.0, 4.0]})
    with pytest.raises(
        DataError, match=r"int64 and do not all fit into int32.*1099511627776.*cast the ratings' to int64"
    ):
        read(big, like=pa.array([1], pa.int32()))
    days = pa.table({"item": pa.array([1, 2, 3], pa.date32()), "x": [1.0, 2.0, 4.0]})
    assert read(days, like=pa.array([1], pa.timestamp("us"))).ids.type == pa.timestamp("us")


def test_features_are_returned_as_they_are_but_for_the_type_of_ids():
    found = read(table(x=[1.0, 2.0, 4.0]))
    assert read(found) is found
    assert read(found, encode_as=found.encoding) is found
    assert read(found, like=pa.array([1], pa.int16())).ids.type == pa.int16()
    with pytest.raises(DataError, match="cast them to one type"):
        read(found, like=pa.array(["a"]))
    with pytest.raises(DataError, match="have another encoding than the model"):
        read(found, encode_as=read(table(x=[1.0, 2.0, 5.0])).encoding)


def known():
    out = [datetime.date(2000 + n, 1 + n % 2, 1) for n in range(6)]
    x, c, few = [1.0, 2.0, None, 4.0, 5.0, 6.0], ["a", "b"] * 3, ["p", "p", "p", "p", "p", "q"]
    return table(x=x, c=c, out=out, few=few, emb=[[1.0 * n, 2.0 + n % 3] for n in range(6)], y=[1, 2, 3, 4, 5, 6])


def test_a_table_is_encoded_as_another_was():
    first = read(known())
    again = Encoding.from_plain(first.encoding.plain(), first.encoding.names)
    same = read(known().select(["few", "out", "y", "emb", "item", "x", "c"]), encode_as=again)
    assert same.digest() == first.digest()
    part = read(known().slice(2, 3).append_column("title", pa.array(["r", "s", "t"])), encode_as=again)
    np.testing.assert_array_equal(dense(part), dense(first)[2:5])
    assert part.remarks == ("item features: columns that are not features of the model are ignored: 'title'",)


def test_what_an_encoding_has_no_place_for_is_told():
    encoding = read(known()).encoding
    new = pa.table(
        {
            "item": ["n1", "n2"],
            "x": [None, 1e300],
            "c": ["z", "a|y"],
            "out": pa.array([None, datetime.date(3000, 12, 1)]),
            "few": ["new", None],
            "emb": pa.nulls(2),
            "y": [None, 1],
        }
    )
    found = read(new, encode_as=encoding)
    got = columns(found)
    assert got["x"] == [0, 1e6]
    assert got["x (missing)"] == [1, 0]
    assert got["c=a"] == [0, 1]
    assert got["few (rare)"] == [1, 0]
    assert got["emb[0]"] == [0, 0]
    assert [line.removeprefix("item features: ") for line in found.remarks] == [
        "1 values of 'x' are more than 1e+06 deviations from the mean of the model's table: taken as 1e+06",
        "2 categories of 'c', the first 'y', are not among the model's: ignored",
        "1 rows without a value of 'out: year': taken as the mean of the model's table",
        "1 categories of 'out: month', the first '12', are not among the model's: ignored",
        "1 categories of 'few', the first 'new', count as 'few (rare)'",
        "2 rows without a value of 'emb': taken as the mean of the model's table",
        "1 rows without a value of 'y': taken as the mean of the model's table",
    ]


def test_a_column_without_values_fits_any_encoding():
    encoding = read(known()).encoding
    frame = known().slice(0, 2).to_pandas()
    for name in ("x", "c", "out", "few", "emb", "y"):
        for nothing in (None, np.nan, pd.NaT):
            empty = dense(read(frame.assign(**{name: nothing}), encode_as=encoding))
            at = [name == (label.split("=")[0].split(":")[0].split("[")[0]) for label in encoding.names.to_pylist()]
            assert not empty[:, at].any()
            assert empty.any()


def test_an_encoding_from_anywhere_gives_finite_values():
    plain = read(table(x=[1.0, 2.0, 4.0])).encoding
    for mean, deviation in ((1.7e308, 5e-324), (-1.7e308, 1.7e308), (0.0, 1e-300)):
        data = [plain.plain()[0] | {"means": [mean], "deviations": [deviation]}]
        found = read(table(x=[-1.7e308, 1.7e308, 0.0]), encode_as=Encoding.from_plain(data, plain.names))
        assert np.abs(dense(found)).max() <= 1e6


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("x", ["a", "b"], "column 'x' holds string, not numbers: cast it"),
        ("c", [b"a", b"b"], "column 'c' holds binary, not categories"),
        ("out", [2000, 2001], "column 'out' holds int64, not dates: cast it"),
        ("emb", [1.0, 2.0], "column 'emb' holds double, not lists of numbers"),
        ("emb", [[1.0], [2.0]], "column 'emb' holds lists of 1 numbers, in the model's table of 2"),
        ("emb", [[1.0], [2.0, 3.0]], "column 'emb' holds lists of 1 to 2 numbers"),
        ("x", [1.0, float("inf")], "column 'x' has 1 rows with infinite values"),
    ],
)
def test_columns_that_do_not_fit_an_encoding_are_refused(name, values, message):
    new = known().slice(0, 2)
    new = new.set_column(new.column_names.index(name), name, pa.array(values))
    with pytest.raises(DataError, match=message):
        read(new, encode_as=read(known()).encoding)


def test_columns_missing_from_a_table_are_listed():
    with pytest.raises(DataError, match=r"features are missing: 'x', 'out'; there are 'c', 'few', 'emb', 'y': add"):
        read(known().drop_columns(["x", "out"]), encode_as=read(known()).encoding)
    wide = read(table(**{f"x{n}": [1, 2, 3] for n in range(9)})).encoding
    with pytest.raises(DataError, match="missing: 'x0', 'x1', 'x2', 'x3', 'x4' and 4 more; there are 'y'"):
        read(table(y=[1, 2]), encode_as=wide)


def test_categories_may_come_in_another_type_than_in_the_encoding():
    first = read(table(c=pa.array([1, 1, 1, 2, 2, 2]).dictionary_encode(), d=[True, False] * 3))
    new = table(c=[2.0, 1.0, None], d=["true", "false", None])
    assert columns(read(new, encode_as=first.encoding)) == {
        "c=1": [0, 1, 0],
        "c=2": [1, 0, 0],
        "d=false": [0, 1, 0],
        "d=true": [1, 0, 0],
    }


VALUES = {
    "x": st.none() | st.floats(allow_infinity=False, width=32),
    "n": st.none() | st.integers(-(2**63), 2**63 - 1),
    "c": st.none() | st.sampled_from(["a", "b", "a|b", " ", "c|", "|"]) | st.text("ab|", max_size=4),
    "l": st.none() | st.lists(st.none() | st.integers(0, 3), max_size=3),
    "b": st.none() | st.booleans(),
    "d": st.none() | st.dates(),
    "e": st.none() | st.lists(st.none() | st.floats(-9, 9), min_size=2, max_size=2),
}
TYPES = {"x": pa.float64(), "n": pa.int64(), "c": pa.string(), "l": pa.list_(pa.int64()), "b": pa.bool_()}
TYPES |= {"d": pa.date32(), "e": pa.list_(pa.float64())}


def mixed(rows):
    drawn = {name: pa.array([row[name] for row in rows], kind) for name, kind in TYPES.items()}
    return table(safe=np.arange(len(rows)), **drawn)


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(st.fixed_dictionaries(VALUES), min_size=2, max_size=25), seed=st.integers(0, 99))
def test_the_rows_depend_on_neither_the_order_nor_the_container(rows, seed):
    plain = mixed(rows)
    found = read(plain)
    indptr, indices, values, _ = found.rows
    assert np.isfinite(values).all()
    assert all(np.all(np.diff(indices[a:b]) > 0) for a, b in pairwise(indptr))
    order = np.random.default_rng(seed).permutation(len(rows))
    for other in (
        plain.take(order),
        pa.concat_tables([plain.take(order[:1]), plain.take(order[1:])]),
        plain.set_column(plain.column_names.index("c"), "c", plain.column("c").dictionary_encode()),
    ):
        assert read(other).digest() == found.digest()
    again = read(plain.take(order), encode_as=Encoding.from_plain(found.encoding.plain(), found.encoding.names))
    assert again.digest() == found.digest()


def test_every_container_gives_the_same_features(tmp_path):
    source = known()
    pq.write_table(source, tmp_path / "a.parquet")
    (tmp_path / "many").mkdir()
    pq.write_table(source.slice(3), tmp_path / "many" / "1.parquet")
    pq.write_table(source.slice(0, 3), tmp_path / "many" / "2.parquet", row_group_size=2)
    polars = pytest.importorskip("polars")
    frame = source.to_pandas()
    sources = [tmp_path / "a.parquet", str(tmp_path / "many"), frame, polars.from_arrow(source), source.to_reader()]
    assert {read(each).digest() for each in sources} == {read(source).digest()}
    categorical = frame.assign(c=frame["c"].astype("category"))
    assert read(categorical).digest() == read(source).digest()


def test_the_digest_tells_ids_values_and_names_apart():
    digests = [
        read(table(x=[1.0, 2.0, 4.0])),
        read(table(x=[1.0, 2.0, 5.0])),
        read(table(y=[1.0, 2.0, 4.0])),
        read(table(x=[2.0, 1.0, 4.0])),
        read(pa.table({"item": [100, 101, 103], "x": [1.0, 2.0, 4.0]})),
        read(table(x=[10.0, 20.0, 40.0])),
    ]
    assert len({each.digest() for each in digests}) == len(digests)


def test_rows_that_kernels_could_not_read_are_refused():
    good = read(known())
    rows = good.rows
    for wrong in (
        rows._replace(indptr=rows.indptr.astype(np.int32)),
        rows._replace(indptr=rows.indptr[:-1]),
        rows._replace(indptr=np.append(0, rows.indptr[:0:-1])),
        rows._replace(indices=rows.indices + np.int32(10**6)),
        rows._replace(indices=rows.indices - np.int32(1)),
        rows._replace(indices=rows.indices[:-1]),
        rows._replace(values=np.full_like(rows.values, np.nan)),
        rows._replace(values=rows.values.astype(np.float64)),
        rows._replace(weights=rows.values),
    ):
        with pytest.raises(DataError, match="features"):
            Features(ids=good.ids, rows=wrong, encoding=good.encoding)
    assert repr(good) == "<Features: 6 ids, 12 features>"
