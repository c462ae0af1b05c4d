from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmf
from fastmf.data.ratings import Ratings, reading
from fastmf.errors import DataError, ParameterError, ResourceError

SETTINGS = settings(deadline=None, derandomize=True, database=None, max_examples=40)

# Unique pairs in random order; ratings are halves, which every type of number holds.
ROWS = np.random.default_rng(0).permutation(12 * 9)[:60]
USERS, ITEMS = [f"user {row // 9}" for row in ROWS], (ROWS % 9 * 1000 - 4000).tolist()
VALUES = (np.random.default_rng(1).integers(1, 11, 60) / 2).tolist()
COLUMNS = {"user": USERS, "item": ITEMS, "rating": VALUES}


@pytest.fixture
def plain():
    return Ratings.from_arrays(USERS, ITEMS, VALUES)


def assert_same(a, b):
    for name in ("users", "items", "values"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        assert getattr(a, name).dtype == getattr(b, name).dtype
    assert a.user_ids.equals(b.user_ids)
    assert a.item_ids.equals(b.item_ids)


def pairs(ratings):
    """Return a dict of raw (user, item) to rating."""
    users, items = ratings.user_ids.to_pylist(), ratings.item_ids.to_pylist()
    rows = zip(ratings.users, ratings.items, ratings.values.tolist(), strict=True)
    return {(users[u], items[i]): value for u, i, value in rows}


def dense(compressed, shape):
    matrix = np.full(shape, np.nan)
    for row in range(shape[0]):
        own = slice(compressed.indptr[row], compressed.indptr[row + 1])
        assert np.all(np.diff(compressed.indices[own]) > 0)  # sorted within a row, each once
        matrix[row, compressed.indices[own]] = compressed.values[own]
    return matrix


# what is read


def test_rows_are_sorted_by_user_then_item_and_hold_what_was_given(plain):
    assert len(plain) == 60
    assert (plain.users.dtype, plain.items.dtype, plain.values.dtype) == (np.int32, np.int32, np.float32)
    assert np.all(np.diff(plain.users.astype(np.int64) * 1000 + plain.items) > 0)
    assert plain.user_ids.to_pylist() == sorted(set(USERS))
    assert plain.item_ids.to_pylist() == sorted(set(ITEMS))
    assert (plain.n_users, plain.n_items) == (len(set(USERS)), len(set(ITEMS)))
    assert pairs(plain) == dict(zip(zip(USERS, ITEMS, strict=True), VALUES, strict=True))
    assert plain.rows == {"read": 60, "used": 60, "duplicates": 0}
    assert repr(plain) == f"<Ratings: 60 of {plain.n_items} items by {plain.n_users} users>"


@SETTINGS
@given(st.permutations(range(60)))
def test_the_order_of_the_rows_changes_nothing(order):
    shuffled = Ratings.from_arrays(*([column[row] for row in order] for column in (USERS, ITEMS, VALUES)))
    assert_same(shuffled, Ratings.from_arrays(USERS, ITEMS, VALUES))


def chunks(table):
    return pa.concat_tables([table.slice(0, 7), table.slice(7, 0), table.slice(7)])


def dictionaries(table):
    return pa.table({name: chunks(table).column(name).dictionary_encode() for name in table.column_names})


def cast(table, **types):
    return pa.table({name: table.column(name).cast(types.get(name, table.column(name).type)) for name in COLUMNS})


def sliced(table):
    doubled = pa.concat_tables([table, table, table]).combine_chunks()
    return doubled.slice(60, 60)


def duckdb(table):
    return pytest.importorskip("duckdb").connect().from_arrow(table)


def polars(table, **types):
    module = pytest.importorskip("polars")
    return module.from_arrow(table).cast({name: getattr(module, kind) for name, kind in types.items()})


def strided(table):
    wide = np.repeat(np.array(VALUES), 3).reshape(60, 3)
    assert not wide[:, 1].flags.contiguous
    return np.array(USERS, object), np.array(ITEMS[::-1])[::-1], wide[:, 1]


def read_only(table):
    arrays = np.array(USERS), np.array(ITEMS), np.array(VALUES)
    for array in arrays:
        array.flags.writeable = False
    return arrays


NULLABLE = {"user": "string", "item": "Int64", "rating": "Float32"}

CONTAINERS = {
    "table": lambda table: table,
    "record batch": lambda table: table.combine_chunks().to_batches()[0],
    "stream": lambda table: chunks(table).to_reader(),
    "chunked": chunks,
    "sliced": sliced,
    "dictionary-encoded": dictionaries,
    "string_view": lambda table: cast(table, user=pa.string_view()),
    "float16 ratings": lambda table: cast(table, rating=pa.float16()),
    "decimal ratings": lambda table: cast(table, rating=pa.decimal128(8, 2)),
    "pandas": lambda table: table.to_pandas(),
    "pandas with an index": lambda table: table.to_pandas().set_index(np.arange(60)[::-1] % 7),
    "pandas categorical": lambda table: table.to_pandas().astype("category"),
    "pandas nullable": lambda table: table.to_pandas().astype(NULLABLE),
    "pandas on Arrow": lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
    "pandas objects": lambda table: table.to_pandas().astype(object),
    "polars": polars,
    "polars categorical": lambda table: polars(table, user="Categorical"),
    "polars enumeration": lambda table: polars(table).with_columns(
        polars(table)["user"].cast(pytest.importorskip("polars").Enum(sorted(set(USERS), reverse=True)))
    ),
    "duckdb": duckdb,
    "lists": lambda table: (USERS, ITEMS, VALUES),
    "big-endian text": lambda table: (np.array(USERS).astype(">U12"), np.array(ITEMS), np.array(VALUES)),
    "strided arrays": strided,
    "read-only arrays": read_only,
    "series": lambda table: tuple(pd.Series(column, index=range(60, 0, -1)) for column in (USERS, ITEMS, VALUES)),
    "mixed": lambda table: (pd.Series(USERS, dtype="category"), np.array(ITEMS), (value for value in VALUES)),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same_ratings(container, plain):
    source = CONTAINERS[container](pa.table(COLUMNS))
    read = Ratings.read(source) if isinstance(source, tuple) else Ratings.from_frame(source)
    assert_same(read, plain)


def test_every_container_gives_the_same_model(plain):
    expected = fastmf.fit(plain, k=2, epochs=2).content_hash
    for container in ("stream", "dictionary-encoded", "string_view", "pandas nullable", "strided arrays"):
        assert fastmf.fit(CONTAINERS[container](pa.table(COLUMNS)), k=2, epochs=2).content_hash == expected, container


@pytest.mark.parametrize(
    "options",
    [
        {"row_group_size": 7},
        {"compression": "zstd", "use_dictionary": False, "data_page_version": "2.0"},
        {"data_page_size": 16, "write_batch_size": 3, "write_page_checksum": True},
    ],
    ids=str,
)
def test_every_layout_of_parquet_gives_the_same_ratings(tmp_path, plain, options):
    table = pa.table(COLUMNS)
    pq.write_table(table, tmp_path / "a.parquet", **options)
    assert_same(Ratings.from_parquet(tmp_path / "a.parquet"), plain)
    assert_same(Ratings.read((tmp_path / "a.parquet").as_uri()), plain)
    (tmp_path / "parts").mkdir()
    for part in range(4):
        pq.write_table(table.slice(part * 17, 17), tmp_path / "parts" / f"{3 - part}.parquet", **options)
    assert_same(Ratings.from_parquet(str(tmp_path / "parts")), plain)


def test_files_of_a_directory_may_differ_in_whether_a_column_may_hold_nulls(tmp_path, plain):
    table = pa.table(COLUMNS)
    for part, nullable in enumerate([(), ("user", "item", "rating"), ("item",)]):
        schema = pa.schema([field.with_nullable(field.name in nullable) for field in table.schema])
        pq.write_table(table.slice(part * 20, 20).cast(schema), tmp_path / f"{part}.parquet")
    assert_same(Ratings.read(tmp_path), plain)


@pytest.mark.parametrize("dtype", ["<i2", ">i4", "<u4", ">u8"])
def test_ids_of_every_numpy_integer_are_the_same_keys(dtype):
    users = np.array(ROWS // 9).astype(dtype)
    ratings = Ratings.from_arrays(users, np.array(ROWS % 9, ">i4"), VALUES)
    expected = Ratings.from_arrays((ROWS // 9).tolist(), (ROWS % 9).tolist(), VALUES)
    np.testing.assert_array_equal(ratings.users, expected.users)
    np.testing.assert_array_equal(ratings.values, expected.values)
    assert ratings.user_ids.to_pylist() == expected.user_ids.to_pylist()
    assert ratings.user_ids.type == pa.from_numpy_dtype(users.dtype.newbyteorder("="))


@pytest.mark.parametrize("dtype", ["<f2", ">f8", "u1", ">i8"])
def test_ratings_of_every_numpy_number_are_the_same_values(dtype, plain):
    doubled = plain.with_values(plain.values * 2)
    assert_same(Ratings.from_arrays(USERS, ITEMS, (np.array(VALUES) * 2).astype(dtype)), doubled)


def test_ratings_are_returned_as_they_are(plain):
    assert Ratings.read(plain) is plain


def test_the_names_of_the_columns_taken_are_kept():
    frame = pd.DataFrame(COLUMNS).rename(columns={"user": "who", "item": "movieId", "rating": "stars"})
    ratings = Ratings.from_frame(frame, user="who", rating="stars")
    assert ratings.columns == ("who", "movieId", "stars")
    with pytest.raises(DataError, match="no column for the users"):
        Ratings.from_frame(frame)
    with pytest.raises(DataError, match="no column 'movie' for the items"):
        Ratings.from_frame(frame, user="who", item="movie", rating="stars")


def test_inputs_are_never_modified():
    users, items, values = np.array(USERS), np.array(ITEMS), np.array(VALUES, np.float32)
    frame = pd.DataFrame({"user": users, "item": items, "rating": values})
    table = pa.Table.from_pandas(frame)
    copies = [array.copy() for array in (users, items, values)], frame.copy(deep=True), table.to_pydict()
    for source in ((users, items, values), frame, table):
        model = fastmf.fit(source, k=2, epochs=2, validation=0.2)
        model.predict(users, items)
        model.recommend(frame["user"][:2], exclude=frame)
        model.fold_in(source)
        fastmf.evaluate(model, source)
    for array, copy in zip((users, items, values), copies[0], strict=True):
        np.testing.assert_array_equal(array, copy)
    pd.testing.assert_frame_equal(frame, copies[1])
    assert table.to_pydict() == copies[2]


@pytest.mark.parametrize(
    "columns",
    [
        ([7], ["x"], [3.0]),
        ([7, 7, 7], ["x", "y", "z"], [3.0, 4.0, 5.0]),
        ([1, 2, 3], ["x", "x", "x"], [3.0, 4.0, 5.0]),
        ([1, 1, 2], ["x", "y", "x"], [3.0, 3.0, 3.0]),
        ([1, 1, 2], ["x", "y", "x"], [1e-42, 2e-42, 3e-42]),
        ([1, 1, 2], ["x", "y", "x"], [1e30, 2e30, 3e30]),
    ],
)
def test_the_smallest_ratings_can_be_read_and_fitted(columns):
    ratings = Ratings.from_arrays(*columns)
    assert pairs(ratings) == {(u, i): np.float32(r) for u, i, r in zip(*columns, strict=True)}
    model = fastmf.fit(ratings, k=4, epochs=2)
    predicted = model.predict(columns[0], columns[1])["prediction"]
    assert np.isfinite(predicted).all()


def test_dates_beyond_the_calendar_are_refused():
    days = pa.array([0, 2**31 - 1], pa.int32()).view(pa.date32())
    with pytest.raises(DataError, match=r"column 'user' has ids out of the range of date32"):
        Ratings.from_arrays(days, [1, 2], [1.0, 2.0])


# what is refused


def test_no_rows_are_refused(tmp_path):
    pq.write_table(pa.table(COLUMNS).slice(0, 0), tmp_path / "a.parquet")
    for source in (tmp_path / "a.parquet", pa.table(COLUMNS).slice(0, 0), ([], [], []), pd.DataFrame(COLUMNS)[:0]):
        with pytest.raises(DataError, match="there are no ratings: columns 'user', 'item', 'rating' have 0 rows"):
            Ratings.read(source)


# the compressed views


def test_both_views_hold_the_matrix(plain):
    matrix = np.full((plain.n_users, plain.n_items), np.nan)
    users, items = plain.user_ids.to_pylist(), plain.item_ids.to_pylist()
    for user, item, value in zip(USERS, ITEMS, VALUES, strict=True):
        matrix[users.index(user), items.index(item)] = value
    np.testing.assert_array_equal(dense(plain.by_user, matrix.shape), matrix)
    np.testing.assert_array_equal(dense(plain.by_item, matrix.T.shape), matrix.T)
    for view in (plain.by_user, plain.by_item):
        assert (view.indptr.dtype, view.indices.dtype, view.values.dtype) == (np.int64, np.int32, np.float32)
        assert view.indptr[-1] == len(view.indices) == len(view.values) == 60


def test_views_follow_their_own_values_and_have_empty_rows_for_cold_ids(plain):
    assert plain.by_user is plain.by_user  # built once
    doubled = plain.with_values(plain.values * 2)
    np.testing.assert_array_equal(doubled.by_item.values, plain.by_item.values * 2)
    part = plain.take((plain.users == 1) & (plain.items != 0))
    for view, ids, n in ((part.by_user, part.users, plain.n_users), (part.by_item, part.items, plain.n_items)):
        np.testing.assert_array_equal(np.diff(view.indptr), np.bincount(ids, minlength=n))


# split and folds


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_a_split_gives_every_row_to_one_side_and_all_ids_to_both(plain, fraction):
    rest, held_out = plain.split(fraction, seed=4)
    assert len(held_out) == round(60 * fraction)
    assert pairs(rest) | pairs(held_out) == pairs(plain)
    assert len(rest) + len(held_out) == 60
    for side in (rest, held_out):
        assert side.user_ids is plain.user_ids
        assert side.item_ids is plain.item_ids
        assert np.all(np.diff(side.users.astype(np.int64) * 1000 + side.items) > 0)  # still sorted
        assert side.rows == {"read": len(side), "used": len(side), "duplicates": 0}


def test_a_split_depends_on_the_seed_and_not_on_the_order_of_rows(plain):
    backwards = Ratings.from_arrays(USERS[::-1], ITEMS[::-1], VALUES[::-1])
    for side, again, other in zip(
        plain.split(0.5), backwards.split(0.5, seed=0), plain.split(0.5, seed=1), strict=True
    ):
        assert_same(side, again)
        assert pairs(side) != pairs(other)


def test_a_fraction_that_leaves_a_side_empty_is_refused(plain):
    for fraction in (0, 1, -0.1, np.nan, 1e-9, 1 - 1e-9, 5):
        with pytest.raises(ParameterError, match=r"of 60 ratings leaves one side empty: give one in \(0, 1\)"):
            plain.split(fraction)


@pytest.mark.parametrize("n", [2, 7])
def test_folds_hold_every_row_out_once(plain, n):
    folds = list(plain.folds(n, seed=2))
    assert len(folds) == n
    assert {len(held_out) for _, held_out in folds} <= {60 // n, -(-60 // n)}
    joined = {}
    for rest, held_out in folds:
        assert pairs(rest) | pairs(held_out) == pairs(plain)
        assert len(rest) + len(held_out) == 60
        assert rest.user_ids is held_out.user_ids is plain.user_ids
        assert not joined.keys() & pairs(held_out).keys()
        joined |= pairs(held_out)
    assert joined == pairs(plain)


def test_folds_depend_on_the_seed_and_not_on_the_order_of_rows(plain):
    backwards = Ratings.from_arrays(USERS[::-1], ITEMS[::-1], VALUES[::-1])
    other = list(plain.folds(seed=1))
    assert len(other) == 5
    for fold, again, differing in zip(plain.folds(), backwards.folds(5, seed=0), other, strict=True):
        assert_same(fold[0], again[0])
        assert_same(fold[1], again[1])
        assert pairs(fold[1]) != pairs(differing[1])


def test_a_number_of_folds_that_cannot_be_is_refused(plain):
    for n in (-1, 0, 1, 61):
        with pytest.raises(ParameterError, match=f"cannot make {n} folds of 60 ratings: give 2 to 60 folds"):
            plain.folds(n)


def test_views_and_counts_of_no_rows_at_all(plain):
    nothing = plain.take(np.zeros(60, bool))
    for view, n in ((nothing.by_user, plain.n_users), (nothing.by_item, plain.n_items)):
        assert view.indptr.tolist() == [0] * (n + 1)
        assert len(view.indices) == len(view.values) == 0
    assert nothing.user_counts.tolist() == [0] * plain.n_users
    assert nothing.item_counts.tolist() == [0] * plain.n_items


def test_counts_are_those_of_the_rows(plain):
    part = plain.take(plain.items != 2)
    np.testing.assert_array_equal(part.user_counts, np.bincount(part.users, minlength=plain.n_users))
    np.testing.assert_array_equal(part.item_counts, np.bincount(part.items, minlength=plain.n_items))


def test_the_file_is_named_in_an_error(tmp_path):
    pq.write_table(pa.table({"user": [1, None], "item": [1, 2], "rating": [1.0, 2.0]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=rf"^{tmp_path / 'a.parquet'}: column 'user' has 1 null id"):
        Ratings.read(tmp_path / "a.parquet")


# implicit feedback: no ratings, weights, and ratings that count


def test_without_ratings_every_row_is_a_one(tmp_path):
    table = pa.table({"user": [1, 1, 2], "item": ["x", "y", "x"]})
    pq.write_table(table, tmp_path / "a.parquet")
    for source in (tmp_path / "a.parquet", table, ([1, 1, 2], ["x", "y", "x"])):
        ratings = Ratings.read(source, unrated=True)
        assert ratings.values.tolist() == [1, 1, 1]
        assert not ratings.rated
        assert ratings.columns == ("user", "item", "")
        with pytest.raises(DataError, match=r"no column for the ratings|2 arrays given where 3 are needed"):
            Ratings.read(source)
    with pytest.raises(DataError, match="no column 'stars' for the ratings"):
        Ratings.read(table, rating="stars", unrated=True)
    unread = Ratings.read(table.append_column("rating", pa.array(["a", "b", "c"])), rating="", unrated=True)
    assert unread.values.tolist() == [1, 1, 1]


def test_weights_follow_their_rows(plain):
    weights = [value + 100 for value in VALUES]
    ratings = Ratings.read((USERS, ITEMS, VALUES, weights), weight="weight")
    np.testing.assert_array_equal(ratings.weights, plain.values + 100)
    for view in (ratings.by_user, ratings.by_item):
        np.testing.assert_array_equal(view.weights, view.values + 100)
    for part in (ratings.take(ratings.users > 3), *ratings.split(0.3)):
        np.testing.assert_array_equal(part.weights, part.values + 100)
    own = Ratings.read(pa.table(COLUMNS), weight="rating")
    np.testing.assert_array_equal(own.weights, own.values)
    assert own.columns == ("user", "item", "rating", "rating")


def test_repeated_rows_without_ratings_weigh_as_often_as_they_come():
    ratings = Ratings.read(([1, 2, 1, 1], [5, 5, 5, 6]), unrated=True, duplicates="sum")
    assert (ratings.values.tolist(), ratings.weights.tolist()) == ([1, 1, 1], [2, 1, 1])
    assert ratings.columns == ("user", "item", "", "")
    assert ratings.rows == {"read": 4, "used": 3, "duplicates": 1}


def test_ratings_are_not_weighed_anew(plain):
    with pytest.raises(ParameterError, match="weight is 'plays', but these Ratings have no weights: read them with"):
        Ratings.read(plain, weight="plays")
    weighed = Ratings.read((USERS, ITEMS, VALUES, VALUES), weight="weight")
    assert Ratings.read(weighed, weight="weight") is weighed
    with pytest.raises(ParameterError, match="these Ratings have weights of column 'weight'"):
        Ratings.read(weighed, weight="plays")


def test_observed_rows_are_those_rated_high_enough(plain):
    found = plain.observed(3.5)
    expected = {pair for pair, value in pairs(plain).items() if value >= 3.5}
    assert 0 < len(expected) < 60
    assert pairs(found) == dict.fromkeys(expected, 1.0)
    assert found.user_ids is plain.user_ids
    unrated = Ratings.read((USERS, ITEMS), unrated=True)
    for everything in (plain.observed(None), plain.observed(0.5), unrated.observed(3.5)):
        assert pairs(everything) == dict.fromkeys(pairs(plain), 1.0)
    with pytest.raises(
        DataError, match=r"none of 60 ratings is at least 9 \(the highest is 5\), so none counts as positive"
    ):
        plain.observed(9)


def test_how_feedback_is_read():
    assert reading(implicit=False, positive_from=4) == reading(implicit=False, positive_from=None) == {}
    assert reading(implicit=True, positive_from=4) == {"unrated": True, "positive_from": 4}
    assert reading(implicit=True, positive_from=None) == {"unrated": True, "keep_values": False}


# memory


def test_more_rows_than_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
    table = pa.table({"user": np.arange(1000), "item": np.arange(1000), "rating": np.ones(1000)})
    (tmp_path / "parts").mkdir()
    for name in "ab":
        pq.write_table(table, tmp_path / "parts" / f"{name}.parquet")
    need = 2000 * (3 * 8 + 16)
    assert len(Ratings.read(tmp_path / "parts", memory_limit=need, duplicates="last")) == 1000
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: pytest.fail("nothing must be read"))
    with pytest.raises(
        ResourceError, match=r"a\.parquet and 1 more: reading 2,000 rows takes at least 80,000 bytes .*, but 79,999 "
    ):
        Ratings.read(tmp_path / "parts", memory_limit=need - 1)
    with pytest.raises(ResourceError, match=r"2,000 rows takes .*, but 1,024 bytes are allowed \(memory limit\)"):
        Ratings.read(tmp_path / "parts", memory_limit="1KiB")


def test_the_rows_counted_are_those_of_the_groups(tmp_path):
    columns = {"user": np.arange(3000), "item": np.arange(3000), "rating": np.ones(3000)}
    pq.write_table(pa.table(columns), tmp_path / "r.parquet", row_group_size=1500)
    lied = (tmp_path / "r.parquet").read_bytes()
    number = bytes([0x16]) + bytes([0xF0, 0x2E])  # a Thrift i64 field: 3000, zigzag
    assert lied.count(number) == 1
    (tmp_path / "r.parquet").write_bytes(lied.replace(number, bytes([0x16]) + bytes([0x82, 0x00])))  # 1, as long
    assert pq.ParquetFile(tmp_path / "r.parquet").metadata.num_rows == 1
    with pytest.raises(ResourceError, match="reading 3,000 rows"):
        Ratings.read(tmp_path / "r.parquet", memory_limit=1000)


def test_a_mask_that_is_none_is_refused(plain):
    for mask in (np.ones(61, bool), np.ones(3, bool), np.zeros(60, int), np.array([5, 2]), [True] * 60):
        with pytest.raises(ParameterError, match=r"chosen must be a boolean array \(60,\)"):
            plain.take(mask)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(users=np.full(60, 99, np.int32)), "users must be indices from 0"),
        (dict(items=np.full(60, -1, np.int32)), "items must be indices from 0"),
        (dict(users=np.zeros(60, np.int64)), r"users must be a NumPy array \(60,\) of int32"),
        (dict(values=np.ones(3, np.float32)), r"values must be a NumPy array \(60,\) of float32"),
        (dict(weights=np.ones(60)), r"weights must be a NumPy array \(60,\) of float32"),
        (dict(values=np.full(60, np.nan, np.float32)), "values must be finite"),
    ],
    ids=str,
)
def test_arrays_that_kernels_cannot_read_are_refused(plain, changed, message):
    with pytest.raises(DataError, match=message):
        replace(plain, **changed)


def test_rows_out_of_order_or_repeated_are_refused(plain):
    for order in (np.arange(60)[::-1], np.repeat(np.arange(30), 2)):
        rows = {name: np.ascontiguousarray(getattr(plain, name)[order]) for name in ("users", "items", "values")}
        with pytest.raises(DataError, match="rows must be sorted"):
            replace(plain, **rows).by_user  # noqa: B018
