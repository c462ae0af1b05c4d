import datetime
import decimal
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastmf.data.read import USUAL, choose, read_columns, read_csv, read_titles, to_arrow
from fastmf.data.write import write_frame, write_parquet
from fastmf.errors import DataError

ROLES = {"user": None, "item": None, "rating": None}
RATINGS = {"user": [3, 1, 1], "item": ["x", "y", "x"], "rating": [1.5, 2.5, 4.0]}


@pytest.fixture
def table():
    return pa.table(RATINGS)


@pytest.fixture
def folder(tmp_path, table):
    (tmp_path / "parts" / "deeper").mkdir(parents=True)
    pq.write_table(table.slice(0, 1), tmp_path / "parts" / "a.parquet")
    pq.write_table(table.slice(1, 1), tmp_path / "parts" / "b.pq")
    pq.write_table(table.slice(2, 1), tmp_path / "parts" / "deeper" / "c.parq")
    return tmp_path / "parts"


def read(source, **asked):
    return read_columns(source, ROLES | asked)


# which column plays which role


@pytest.mark.parametrize("user", USUAL["user"])
@pytest.mark.parametrize("item", USUAL["item"])
@pytest.mark.parametrize("rating", USUAL["rating"])
def test_the_usual_names_are_found_in_any_place(user, item, rating):
    assert choose(["other", rating, item, user], ROLES, "it") == [user, item, rating]


def test_a_name_asked_for_wins_over_a_usual_one(table):
    table = table.append_column("stars", pa.array([7.0, 8.0, 9.0])).append_column("user_id", pa.array([0, 0, 0]))
    taken = read(table, rating="stars", user="user")
    assert taken.column_names == ["user", "item", "stars"]
    assert taken.column(2).to_pylist() == [7.0, 8.0, 9.0]


@pytest.mark.parametrize(
    ("names", "asked", "message"),
    [
        (
            ["a", "item", "rating"],
            None,
            r"the frame has no column for the users.*'userid'.*there are 'a', 'item', 'rating'",
        ),
        (["user", "item", "rating"], "who", r"no column 'who' for the users.*--user COLUMN.*there are 'user', 'item'"),
        ([], None, r"there are none"),
        (["user", "userId", "item", "rating"], None, r"more than one column .* the users, 'user' and 'userId'"),
        (["user", "item", "user", "rating"], None, r"more than one column .* the users, 'user' and 'user'"),
        (["user", "item", "user", "rating"], "user", r"more than one column .* the users, 'user' and 'user'"),
    ],
)
def test_a_missing_or_ambiguous_column_is_named(names, asked, message):
    with pytest.raises(DataError, match=message):
        choose(names, ROLES | {"user": asked}, "the frame")


def test_every_source_says_where_a_column_is_missing(tmp_path, table):
    without = table.drop_columns("rating")
    pq.write_table(without, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet has no column for the ratings.*there are 'user', 'item'"):
        read(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="the frame has no column for the ratings"):
        read(without.to_pandas())
    with pytest.raises(DataError, match="the table has no column for the ratings"):
        read(without)
    doubled = pd.DataFrame([[1, 2, 3, 4]], columns=["user", "item", "rating", "user"])
    with pytest.raises(DataError, match="more than one column"):
        read(doubled)


# Parquet


def test_a_file_gives_the_columns_of_the_roles_alone_and_in_their_order(tmp_path, table):
    pq.write_table(table.select(["rating", "item", "user"]).append_column("x", pa.array([1, 2, 3])), tmp_path / "a")
    for source in (tmp_path / "a", str(tmp_path / "a"), (tmp_path / "a").as_uri()):
        assert read(source).equals(table)


def test_a_directory_is_read_file_by_file_in_the_order_of_the_names(folder, table):
    assert read(folder).equals(table)
    assert read(str(folder) + "/").equals(table)
    assert read(folder.as_uri()).equals(table)
    assert read(folder / "deeper" / "..").equals(table)


def test_a_relative_path_is_read(folder, table, monkeypatch):
    monkeypatch.chdir(folder.parent)
    for source in ("parts", "./parts", "parts/../parts"):
        assert read(source).equals(table)


def test_a_path_may_hold_spaces_and_percent_signs(tmp_path, table):
    path = tmp_path / "a folder" / "b%41.parquet"
    path.parent.mkdir()
    pq.write_table(table, path)
    assert read(path).equals(table)
    assert read(path.as_uri()).equals(table)


def test_hidden_files_and_those_of_other_programs_are_left_out(folder, table):
    for name in ("_SUCCESS", ".a.parquet.crc", "_delta_log/0.json", ".git/config", "deeper/_metadata"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    assert read(folder).equals(table)


def test_a_directory_may_itself_lie_in_a_hidden_one(tmp_path, table):
    (tmp_path / "_a" / ".b").mkdir(parents=True)
    pq.write_table(table, tmp_path / "_a" / ".b" / "c.parquet")
    assert read(tmp_path / "_a" / ".b").equals(table)


def test_other_files_in_a_directory_are_refused_with_their_number(folder):
    (folder / "deeper" / "notes.txt").write_text("hello")
    (folder / "table.csv").write_text("user,item,rating")
    with pytest.raises(DataError, match=r"parts holds 2 files that are not Parquet, the first .*notes\.txt"):
        read(folder)


def test_files_of_different_schemas_are_refused_naming_both(folder, table):
    different = table.set_column(0, "user", table.column("user").cast(pa.int32()))
    pq.write_table(different, folder / "z.parquet")
    with pytest.raises(DataError, match=r"a\.parquet has user int64, .*z\.parquet has user int32"):
        read(folder)
    pq.write_table(table.rename_columns(["userId", "item", "rating"]), folder / "z.parquet")
    with pytest.raises(DataError, match=r"a\.parquet has user int64, .*z\.parquet has userId int64"):
        read(folder)


def test_a_file_without_the_column_is_refused_by_name(folder, table):
    pq.write_table(table.drop_columns("item"), folder / "deeper" / "z.parquet")
    with pytest.raises(DataError, match=r"deeper.z\.parquet has no column for the items.*there are 'user', 'rating'"):
        read(folder)


def test_columns_beside_the_three_may_differ_between_files(folder, table):
    extra = table.slice(0, 0).append_column("x", pa.array([], pa.list_(pa.int8())))
    pq.write_table(extra.select(["x", "rating", "user", "item"]), folder / "z.parquet")
    assert read(folder).equals(table)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty, damaged, or another format"),
        (b"user,item,rating\n1,2,3\n" * 20, "empty, damaged, or another format"),
        (b"PAR1" + b"\0" * 100 + b"PAR1", "empty, damaged, or another format"),
        (b"PAR1", "empty, damaged, or another format"),
    ],
)
def test_what_is_not_parquet_is_an_os_error(tmp_path, folder, content, message):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(OSError, match=rf"a\.parquet cannot be read as Parquet \({message}"):
        read(tmp_path / "a.parquet")
    (folder / "z.parquet").write_bytes(content)
    with pytest.raises(OSError, match=r"z\.parquet cannot be read as Parquet"):
        read(folder)


def test_a_truncated_file_is_an_os_error_at_every_length(tmp_path, table):
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    content = path.read_bytes()
    for length in [*range(0, len(content), 37), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(OSError, match="cannot be read as Parquet"):
            read(path)


def test_what_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.parquet does not exist"):
        read(tmp_path / "missing.parquet")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read((tmp_path / "missing.parquet").as_uri())
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    (tmp_path / "empty" / "_SUCCESS").write_text("")
    with pytest.raises(FileNotFoundError, match="empty is a directory without Parquet files"):
        read(tmp_path / "empty")


@pytest.mark.parametrize("uri", ["nowhere://host/a.parquet", "file://host/a.parquet", "://", "file://["])
def test_a_uri_that_cannot_be_opened_is_an_os_error(uri):
    with pytest.raises(OSError, match="is not a URI that can be opened"):
        read(uri)


def flipped(content, value):
    """Flip one bit in the page that holds a float64."""
    place = content.index(np.float64(value).tobytes())
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_flipped_bit_in_a_page_is_found_by_the_checksum(tmp_path, version):
    table = pa.table(
        {"user": range(50), "item": range(50), "rating": np.arange(50) + 0.123, "other": np.arange(50) / 7}
    )
    plain = dict(compression="none", use_dictionary=False, write_statistics=False, data_page_version=version)
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, **plain)
    content = path.read_bytes()
    path.write_bytes(flipped(content, 20.123))
    assert read(path).column(2).to_pylist() != table.column("rating").to_pylist()  # nothing protects such a file

    pq.write_table(table, path, write_page_checksum=True, **plain)
    content = path.read_bytes()
    path.write_bytes(flipped(content, 20.123))
    with pytest.raises(OSError, match=r"a\.parquet cannot be read .*damaged"):
        read(path)
    path.write_bytes(flipped(content, 20 / 7))  # a column nobody asked for is not even read
    assert read(path).equals(table.select(["user", "item", "rating"]))


def test_a_damaged_file_never_fails_in_another_way(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(RATINGS | {"nested": [[1], [2], []]}), path)
    content = path.read_bytes()
    failed = 0
    for place in range(0, len(content), 5):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x80]) + content[place + 1 :])
        try:
            read(path)
        except (DataError, OSError):
            failed += 1
    assert failed > 50


@pytest.fixture
def texts():
    return pa.table({"user": ["b", "a", "b", "c"] * 50, "item": ["x", "y", "z", "x"] * 50, "rating": range(200)})


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_text_of_the_roles_asked_for_is_read_as_codes(tmp_path, texts, kind):
    texts = texts.cast(pa.schema([("user", kind), ("item", pa.string()), ("rating", pa.int64())]))
    pq.write_table(texts, tmp_path / "a.parquet", row_group_size=60)
    taken = read_columns(tmp_path / "a.parquet", ROLES, coded=("user",))
    assert [pa.types.is_dictionary(column.type) for column in taken.columns] == [True, False, False]
    assert taken.column(0).to_pylist() == texts.column(0).to_pylist()
    assert read(tmp_path / "a.parquet").equals(texts)


def test_text_that_is_not_in_codes_is_read_as_it_is_and_the_first_file_decides_for_all(tmp_path, texts):
    for dictionary in (True, False):
        for name, use_dictionary in (("a", dictionary), ("b", not dictionary)):
            pq.write_table(texts, tmp_path / f"{name}.parquet", use_dictionary=use_dictionary)
        taken = read_columns(tmp_path, ROLES, coded=("user", "item", "rating"))
        assert [pa.types.is_dictionary(column.type) for column in taken.columns] == [dictionary, dictionary, False]
        for column in ("user", "item"):
            assert taken.column(column).to_pylist() == 2 * texts.column(column).to_pylist()


def test_damaged_codes_never_point_outside_their_dictionary(tmp_path, texts):
    path = tmp_path / "a.parquet"
    pq.write_table(texts.select(["user", "rating"]), path, compression="none", write_statistics=False)
    content = path.read_bytes()
    failed = 0
    for place in range(content.index(b"c") + 1, 150):  # after the dictionary
        for bit in range(8):
            path.write_bytes(content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :])
            try:
                taken = read_columns(path, {"user": None, "rating": None}, coded=("user",))
                taken.column(0).validate(full=True)
            except OSError as error:
                failed += "point outside its dictionary" in str(error)
    assert failed > 10


# frames and arrays


def test_extra_columns_of_unusable_types_do_no_harm(table, tmp_path):
    polars, duckdb = pytest.importorskip("polars"), pytest.importorskip("duckdb")
    frame = pd.DataFrame(RATINGS)
    frame["objects"] = [object(), 1, "x"]
    assert read(frame).num_columns == 3
    assert read(polars.DataFrame(RATINGS).with_columns(polars.Series("o", [object()] * 3, polars.Object))).equals(
        read_columns(polars.DataFrame(RATINGS), ROLES)
    )
    with duckdb.connect() as connection:
        connection.register("ratings", table)
        assert read(connection.sql("select map {'a': [1]} as odd, * from ratings")).equals(table)
    nested = table.append_column("nested", pa.array([[{"a": 1}], [], None]))
    pq.write_table(nested, tmp_path / "a.parquet")
    assert read(nested).equals(table)
    assert read(tmp_path / "a.parquet").equals(table)


@pytest.mark.parametrize("source", [None, 5, [1, 2, 3], {"user": [1]}, b"a.parquet", np.zeros((3, 3))])
def test_other_sources_are_refused(source):
    with pytest.raises(DataError, match=f"cannot read ratings from {type(source).__name__}: give a path"):
        read(source)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (([1], [2]), "2 arrays given where 3 are needed: user, item, rating"),
        (([1], [2, 3], [4]), "differ in length: user has 1, item has 2, rating has 1"),
        ((np.zeros((2, 2)), [1, 2], [1, 2]), "user has 2 dimensions"),
        ((np.array(5), [1], [1]), "user has 0 dimensions"),
        ((5, [1], [1]), "user cannot be read as one column"),
        (("ab", [1, 2], [1, 2]), "user is one value, 'ab'"),
        (([1, 2], b"ab", [1, 2]), "item is one value, b'ab'"),
        (([1, "a"], [1, 2], [1, 2]), "user cannot be read as one column of one type"),
        (([-1, 2**64 - 1], [1, 2], [1, 2]), "user cannot be read as one column of one type"),
        (([2**64, 1], [1, 2], [1, 2]), "user cannot be read as one column of one type"),
        ((np.array([1j, 2j]), [1, 2], [1, 2]), "user cannot be read as one column of one type"),
        ((["\ud800", "a"], [1, 2], [1, 2]), "user cannot be read as one column of one type"),
    ],
)
def test_arrays_that_are_no_columns_are_refused(arrays, message):
    with pytest.raises(DataError, match=message):
        read(arrays)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], pa.array([1, 2])),
        (range(2), pa.array([0, 1])),
        ((n for n in (1, 2)), pa.array([1, 2])),
        ([0, 2**64 - 1], pa.array([0, 2**64 - 1], pa.uint64())),
        (np.array([0, 2**64 - 1], object), pa.array([0, 2**64 - 1], pa.uint64())),
        (np.array([1, 2], ">i2"), pa.array([1, 2], pa.int16())),
        (np.array([1, 2, 3, 4], np.uint8)[::-2], pa.array([4, 2], pa.uint8())),
        (np.array(["a", "é"]), pa.array(["a", "é"])),
        (np.array(["a", "é"]).astype(">U3"), pa.array(["a", "é"])),
        (np.array([b"a", b"bc"]), pa.array([b"a", b"bc"])),
        (np.array([True, False]), pa.array([True, False])),
        (np.array(["2020-01-02"], ">M8[D]"), pa.array([datetime.date(2020, 1, 2)])),
        (pd.Series([3, 4], index=[1, 0]), pa.array([3, 4])),
        (pd.Series([2**53 + 1, None], dtype="Int64"), pa.array([2**53 + 1, None])),
        (pd.array(["a", None], dtype="string"), pa.array(["a", None], pa.large_string())),
        (pa.chunked_array([[1], [2]]), pa.array([1, 2])),
        ([decimal.Decimal("1.5")], pa.array([decimal.Decimal("1.5")])),
    ],
    ids=str,
)
def test_any_container_becomes_a_column(values, expected):
    column = to_arrow(values, "it")
    assert isinstance(column, pa.ChunkedArray)
    assert column.to_pylist() == expected.to_pylist()
    assert column.type in (expected.type, pa.string(), pa.large_string())


# writing


def test_parquet_is_written_whole_and_with_checksums(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet({"user": range(500), "item": range(500), "rating": np.arange(500) / 7}, path)
    assert read(path).column(2).to_pylist() == (np.arange(500) / 7).tolist()
    content = path.read_bytes()
    path.write_bytes(content[:600] + bytes([content[600] ^ 1]) + content[601:])
    with pytest.raises(OSError, match="damaged"):
        read(path)
    with pytest.raises(FileExistsError):
        write_parquet({"user": [1]}, path)
    write_parquet({"user": [1]}, path, overwrite=True)
    assert pq.read_table(path).column("user").to_pylist() == [1]
    assert [file.name for file in tmp_path.iterdir()] == ["a.parquet"]


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_a_frame_is_written_as_what_its_name_ends_in(tmp_path, name):
    frame = pd.DataFrame({"user_id": ["é", 'a,"b'], "score": [0.5, -1.0]}, index=[5, 6])
    write_frame(frame, tmp_path / name)
    back = pd.read_csv(tmp_path / name) if name.endswith("csv") else pd.read_parquet(tmp_path / name)
    pd.testing.assert_frame_equal(back, frame.reset_index(drop=True))
    with pytest.raises(FileExistsError):
        write_frame(frame, tmp_path / name)


def test_titles_are_read_by_id(tmp_path):
    pq.write_table(pa.table({"movieId": [7, 2**53 + 1], "title": ["Alien", "Ran"]}), tmp_path / "titles.parquet")
    assert read_titles(str(tmp_path / "titles.parquet")) == {7: "Alien", 2**53 + 1: "Ran"}


def test_delimited_text_is_read_by_column():
    text = io.BytesIO("user\tx\n1\té\n2\tö\n".encode())
    columns = read_csv(text, names=None, delimiter="\t", columns={"x": "string", "user": "int32"})
    assert columns["x"] == ["é", "ö"]
    assert columns["user"].tolist() == [1, 2]
    assert columns["user"].dtype == np.int32
    columns = read_csv(io.BytesIO(b"1,2\n"), names=["a", "b"], delimiter=",", columns={"b": "float32"})
    assert {name: column.tolist() for name, column in columns.items()} == {"b": [2.0]}


@pytest.mark.parametrize(
    ("text", "message"), [(b"a\nx\n", "does not hold"), (b"b\n1\n", "does not hold"), (b"a,c\n,1\n", "1 of 1")]
)
def test_delimited_text_that_does_not_hold_the_columns_is_refused(text, message):
    with pytest.raises(DataError, match=message):
        read_csv(io.BytesIO(text), names=None, delimiter=",", columns={"a": "int32"})
