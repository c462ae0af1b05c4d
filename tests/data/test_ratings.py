import decimal
from itertools import permutations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmf
from fastmf.data.ratings import Ratings
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
    """Raw (user, item) to rating."""
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
    "large_string": lambda table: cast(table, user=pa.large_string()),
    "string_view": lambda table: cast(table, user=pa.string_view()),
    "float16 ratings": lambda table: cast(table, rating=pa.float16()),
    "decimal ratings": lambda table: cast(table, rating=pa.decimal128(8, 2)),
    "pandas": lambda table: table.to_pandas(),
    "pandas with an index": lambda table: table.to_pandas().set_index(np.arange(60)[::-1] % 7),
    "pandas categorical": lambda table: table.to_pandas().astype({"user": "category", "item": "category"}),
    "pandas categorical ratings": lambda table: table.to_pandas().astype({"rating": "category"}),
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
    "arrays": lambda table: (np.array(USERS), np.array(ITEMS), np.array(VALUES)),
    "big-endian text": lambda table: (np.array(USERS).astype(">U12"), np.array(ITEMS), np.array(VALUES)),
    "strided arrays": strided,
    "read-only arrays": read_only,
    "series": lambda table: tuple(pd.Series(column, index=range(60, 0, -1)) for column in (USERS, ITEMS, VALUES)),
    "Arrow arrays": lambda table: tuple(table.columns),
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
        {},
        {"row_group_size": 7},
        {"compression": "zstd", "use_dictionary": False},
        {"use_dictionary": True, "data_page_version": "2.0"},
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


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<i4", ">i4", "<i8", ">i8", "<u2", ">u2", "<u4", ">u4", "<u8", ">u8"])
def test_ids_of_every_numpy_integer_are_the_same_keys(dtype):
    users = np.array(ROWS // 9).astype(dtype)
    ratings = Ratings.from_arrays(users, np.array(ROWS % 9, ">i4"), VALUES)
    expected = Ratings.from_arrays((ROWS // 9).tolist(), (ROWS % 9).tolist(), VALUES)
    np.testing.assert_array_equal(ratings.users, expected.users)
    np.testing.assert_array_equal(ratings.values, expected.values)
    assert ratings.user_ids.to_pylist() == expected.user_ids.to_pylist()
    assert ratings.user_ids.type == pa.from_numpy_dtype(users.dtype.newbyteorder("="))


@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "i1", "u1", ">i2", "<u8", ">i8"])
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


def test_columns_can_be_named_in_parquet_too(tmp_path, plain):
    pq.write_table(pa.table(COLUMNS).rename_columns(["who", "what", "stars"]), tmp_path / "a.parquet")
    assert_same(Ratings.from_parquet(tmp_path / "a.parquet", user="who", item="what", rating="stars"), plain)


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


def test_ratings_that_float32_rounds_to_next_to_nothing_are_warned_of_and_to_nothing_refused():
    with pytest.warns(UserWarning, match=r"are kept as float32, there in steps of about 1\.4013e-45"):
        fastmf.fit(([1, 1, 2], [1, 2, 1], [1e-44, 2e-44, 3e-44]), k=4, epochs=2)
    with pytest.raises(DataError, match="holds numbers too small for float32"):
        Ratings.from_arrays([1, 1], [1, 2], [1e-60, 2e-60])
    assert Ratings.from_arrays([1, 1], [1, 2], [0.0, 0.0]).values.tolist() == [0, 0]


def test_one_column_for_two_roles_is_refused():
    with pytest.raises(DataError, match=r"is named for two roles \(user 'user', item 'user', rating 'rating'\)"):
        Ratings.read(pa.table({"user": [1], "item": [2], "rating": [3.0]}), item="user")


def test_dates_beyond_the_calendar_are_refused():
    days = pa.array([0, 2**31 - 1], pa.int32()).view(pa.date32())
    with pytest.raises(DataError, match=r"column 'user' has ids out of the range of date32"):
        Ratings.from_arrays(days, [1, 2], [1.0, 2.0])


# what is refused


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
        ([1.0, None, 3.0, 4.0], r"has 1 of 4 .* \(1 null\), the first in row 1 .*: None"),
        (pa.array([1, None, None, 4]), r"has 2 of 4 .* \(2 null\), the first in row 1"),
        (pa.array([None, 1.0, np.nan, np.inf]), r"has 3 of 4 .* \(1 null, 1 NaN, 1 infinite.*\), the first in row 0"),
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


def test_counts_are_written_with_separators():
    with pytest.raises(DataError, match=r"has 1,000 of 1,000 ratings"):
        Ratings.from_arrays(range(1000), range(1000), [np.nan] * 1000)


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [
        ([1, None, 2], [1, 2, 3], "column 'user' has 1 ids that are null, the first in row 1"),
        ([1, 2, 3], [None, None, 3], "column 'item' has 2 ids that are null, the first in row 0"),
        ([1.5, 2.0, 3.0], [1, 2, 3], r"column 'user' holds double.*3 rows, the first 1\.5.*cast it to int64"),
        ([1, 2, 3], [[1], [2], [3]], "column 'item' holds list"),
    ],
)
def test_ids_that_are_none_are_refused(users, items, message):
    with pytest.raises(DataError, match=message):
        Ratings.from_arrays(users, items, [1.0, 2.0, 3.0])


def test_an_integer_column_with_a_null_is_refused_not_turned_into_floats(tmp_path):
    users = pa.array([2**53, 2**53 + 1, None])
    pq.write_table(pa.table({"user": users, "item": [1, 2, 3], "rating": [1, 2, 3]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="1 ids that are null, the first in row 2"):
        Ratings.from_parquet(tmp_path / "a.parquet")
    pq.write_table(pa.table({"user": users[:2], "item": [1, 1], "rating": [1, 2]}), tmp_path / "a.parquet")
    assert Ratings.from_parquet(tmp_path / "a.parquet").user_ids.to_pylist() == [2**53, 2**53 + 1]


def test_no_rows_are_refused(tmp_path):
    pq.write_table(pa.table(COLUMNS).slice(0, 0), tmp_path / "a.parquet")
    for source in (tmp_path / "a.parquet", pa.table(COLUMNS).slice(0, 0), ([], [], []), pd.DataFrame(COLUMNS)[:0]):
        with pytest.raises(DataError, match="there are no ratings: columns 'user', 'item', 'rating' have 0 rows"):
            Ratings.read(source)


# pairs that come more than once

TWICE = [1, 1, 2, 1, 2], ["x", "y", "x", "x", "x"], [0.1, 2.0, 3.0, 0.2, 5.0]


def test_duplicates_are_refused_with_their_number_and_an_example():
    with pytest.raises(DataError, match=r"2 of 5 rows repeat a \(user, item\) pair, the first user 1 and item 'x':"):
        Ratings.from_arrays(*TWICE)
    with pytest.raises(ParameterError, match="duplicates is 'first': choose one of error, last, mean, sum"):
        Ratings.from_arrays(*TWICE, duplicates="first")


def test_the_last_of_duplicates_is_that_of_the_last_row():
    ratings = Ratings.from_arrays(*TWICE, duplicates="last")
    assert pairs(ratings) == {(1, "x"): np.float32(0.2), (1, "y"): 2.0, (2, "x"): 5.0}
    assert ratings.rows == {"read": 5, "used": 3, "duplicates": 2}
    reverse = Ratings.from_arrays(*(column[::-1] for column in TWICE), duplicates="last")
    assert pairs(reverse) == {(1, "x"): np.float32(0.1), (1, "y"): 2.0, (2, "x"): 3.0}


def test_the_last_row_of_a_directory_is_in_its_last_file(tmp_path):
    for name, value in {"b": 2.0, "a": 1.0, "c": 3.0}.items():
        pq.write_table(pa.table({"user": [1], "item": [1], "rating": [value]}), tmp_path / f"{name}.parquet")
    assert Ratings.from_parquet(tmp_path, duplicates="last").values.tolist() == [3.0]


@SETTINGS
@given(st.permutations(range(40)))
def test_the_mean_of_duplicates_is_exact_and_ignores_the_order_of_rows(order):
    rng = np.random.default_rng(3)
    users, items = rng.integers(0, 3, 40), rng.integers(0, 3, 40)
    values = rng.standard_normal(40).astype(np.float32) * np.float32(10.0) ** rng.integers(-6, 7, 40)
    expected = {}
    for pair in {*zip(users.tolist(), items.tolist(), strict=True)}:
        own = np.sort(values[(users == pair[0]) & (items == pair[1])]).astype(np.float64)
        expected[pair] = np.float32(np.add.reduce(own) / len(own))
    order = np.array(order)
    ratings = Ratings.from_arrays(users[order], items[order], values[order], duplicates="mean")
    found = pairs(ratings)
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[pair] for pair in expected], list(expected.values()), rtol=1e-6)
    straight = Ratings.from_arrays(users, items, values, duplicates="mean")
    assert_same(ratings, straight)  # to the bit
    assert ratings.rows == {"read": 40, "used": len(expected), "duplicates": 40 - len(expected)}


@pytest.mark.parametrize(("values", "mean"), [([1e8, 3, -1e8], 1.0), ([1e20, 1, -1e20, 3], 0.0), ([0.1] * 3, 0.1)])
def test_the_mean_of_duplicates_is_added_up_in_float64_by_size(values, mean):
    for order in permutations(values):
        ratings = Ratings.from_arrays([1] * len(values), [1] * len(values), order, duplicates="mean")
        assert ratings.values.tolist() == [np.float32(mean)]


def test_duplicates_are_counted_once_not_again_in_every_part():
    ratings = Ratings.from_arrays(*TWICE, duplicates="last")
    assert [part.rows["duplicates"] for part in (ratings, *ratings.split(0.5))] == [2, 0, 0]


@pytest.mark.parametrize("duplicates", ["error", "last", "mean", "sum"])
def test_without_duplicates_the_choice_changes_nothing(plain, duplicates):
    assert_same(Ratings.from_arrays(USERS, ITEMS, VALUES, duplicates=duplicates), plain)


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


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.99])
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


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, np.nan, 1e-9, 1 - 1e-9, 5, -3])
def test_a_fraction_that_leaves_a_side_empty_is_refused(plain, fraction):
    with pytest.raises(ParameterError, match=r"splits 60 ratings into nothing and all: give one in \(0, 1\)"):
        plain.split(fraction)


@pytest.mark.parametrize("n", [2, 7, 60])
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


@pytest.mark.parametrize("n", [-1, 0, 1, 61])
def test_a_number_of_folds_that_cannot_be_is_refused(plain, n):
    with pytest.raises(ParameterError, match="folds of 60 ratings: give 2 to 60"):
        plain.folds(n)


def test_masked_values_are_missing_ones():
    masked = np.ma.array([1.0, 999.0, 3.0], mask=[False, True, False])
    with pytest.raises(DataError, match="1 null"):
        Ratings.from_arrays([1, 2, 3], [1, 2, 3], masked)
    with pytest.raises(DataError, match="1 ids that are null"):
        Ratings.from_arrays(np.ma.array([1, 777, 3], mask=[0, 1, 0]), [1, 2, 3], [1.0, 2.0, 3.0])


def test_files_of_a_directory_may_differ_in_whether_they_could_hold_nulls(tmp_path):
    for name, nullable in (("a", True), ("b", False)):
        fields = [
            pa.field("user", pa.int64(), nullable),
            pa.field("item", pa.int64()),
            pa.field("rating", pa.float64()),
        ]
        rows = [pa.array([ord(name)]), pa.array([1]), pa.array([2.0])]
        pq.write_table(pa.table(rows, schema=pa.schema(fields)), tmp_path / f"{name}.parquet")
    assert len(Ratings.from_parquet(tmp_path)) == 2


TEXT = pa.array([b"ann", b"\xff", b"bob"] * 40).view(pa.string())
BAD_TEXT = {
    "null": (pa.array(["ann", None, "bob"] * 40), "column 'user' has 40 ids that are null, the first in row 1"),
    "not UTF-8": (TEXT, "column 'user' holds text that is not UTF-8"),
}


@pytest.mark.parametrize("coded", [True, False])
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


# bad rows, and the account of all rows

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
@pytest.mark.parametrize("kind", KEYS)
@SETTINGS
@given(data=st.data())
def test_all_rows_are_accounted_for(tmp_path_factory, kind, container, data):
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
    elif container == "views" and kind == "text":
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
    assert pairs(ratings).keys() == good
    n_good = faults.count(None)
    expected = {fault: faults.count(fault) for fault in faults if fault}
    assert ratings.rows == {"read": len(rows), "used": len(good), "duplicates": n_good - len(good), **expected}
    assert ratings.rows["read"] == sum(n for name, n in ratings.rows.items() if name != "read")
    if expected:
        with pytest.raises(DataError):
            Ratings.read(source, duplicates=how)


def test_nothing_is_dropped_where_nothing_is_bad(plain):
    again = Ratings.from_arrays(USERS, ITEMS, VALUES, bad_rows="drop")
    assert_same(again, plain)
    assert again.rows == {"read": 60, "used": 60, "duplicates": 0}


def test_what_is_no_number_at_all_is_refused_even_when_bad_rows_are_dropped():
    with pytest.raises(DataError, match="holds string, not numbers"):
        Ratings.from_arrays([1], [1], ["a"], bad_rows="drop")
    with pytest.raises(ParameterError, match="bad_rows is 'skip': choose one of error, drop"):
        Ratings.from_arrays([1], [1], [1.0], bad_rows="skip")


def test_a_refusal_names_the_file(tmp_path):
    pq.write_table(pa.table({"user": [1, None], "item": [1, 2], "rating": [1.0, 2.0]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=rf"^{tmp_path / 'a.parquet'}: column 'user' has 1 ids that are null"):
        Ratings.read(tmp_path / "a.parquet")


def test_more_rows_than_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
    table = pa.table({"user": np.arange(1000), "item": np.arange(1000), "rating": np.ones(1000)})
    (tmp_path / "parts").mkdir()
    for name in "ab":
        pq.write_table(table, tmp_path / "parts" / f"{name}.parquet")
    need = 2000 * (3 * 8 + 16)
    assert len(Ratings.read(tmp_path / "parts", memory_limit=need, duplicates="last")) == 1000
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: pytest.fail("nothing must be read"))
    with pytest.raises(
        ResourceError, match="parts: reading 2,000 rows takes at least 80,000 bytes of memory, 79,999 bytes are"
    ):
        Ratings.read(tmp_path / "parts", memory_limit=need - 1)


def test_the_rows_counted_are_those_of_the_groups(tmp_path, monkeypatch):
    columns = {"user": np.arange(3000), "item": np.arange(3000), "rating": np.ones(3000)}
    pq.write_table(pa.table(columns), tmp_path / "r.parquet", row_group_size=1500)
    lied = (tmp_path / "r.parquet").read_bytes()
    number = bytes([0x16]) + bytes([0xF0, 0x2E])  # a Thrift i64 field: 3000, zigzag
    assert lied.count(number) == 1
    (tmp_path / "r.parquet").write_bytes(lied.replace(number, bytes([0x16]) + bytes([0x82, 0x00])))  # 1, as long
    assert pq.ParquetFile(tmp_path / "r.parquet").metadata.num_rows == 1
    with pytest.raises(ResourceError, match="reading 3,000 rows"):
        Ratings.read(tmp_path / "r.parquet", memory_limit=1000)
