"""Parquet files, directories and URIs, as read_columns gives them."""

import os
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastmf.data.files import find, opened
from fastmf.data.parquet import ParquetFiles
from fastmf.data.read import read_columns
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


def read(source):
    return read_columns(source, ROLES)


def test_a_file_gives_the_columns_of_the_roles_alone_and_in_their_order(tmp_path, table):
    pq.write_table(table.select(["rating", "item", "user"]).append_column("x", pa.array([1, 2, 3])), tmp_path / "a")
    for source in (tmp_path / "a", str(tmp_path / "a"), (tmp_path / "a").as_uri()):
        assert read(source).equals(table)


def test_a_directory_is_read_file_by_file_in_the_order_of_the_names(folder, table):
    for source in (folder, str(folder) + "/", folder.as_uri(), folder / "deeper" / ".."):
        assert read(source).equals(table)


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
    (folder / "deeper" / "notes.md").write_text("hello")
    (folder / "table.xlsx").write_text("user,item,rating")
    with pytest.raises(DataError, match=r"parts holds 2 files of other kinds, the first .*notes\.md"):
        read(folder)


def test_files_of_different_schemas_are_refused_naming_both(folder, table):
    different = table.set_column(0, "user", table.column("user").cast(pa.int32()))
    pq.write_table(different, folder / "z.parquet")
    with pytest.raises(DataError, match=r"a\.parquet has user int64, .*z\.parquet has user int32"):
        read(folder)
    pq.write_table(table.rename_columns(["userId", "item", "rating"]), folder / "z.parquet")
    with pytest.raises(DataError, match=r"z\.parquet has no column 'user', but .*a\.parquet has"):
        read(folder)


def test_a_file_without_the_column_is_refused_by_name(folder, table):
    pq.write_table(table.drop_columns("item"), folder / "deeper" / "z.parquet")
    with pytest.raises(DataError, match=r"deeper.z\.parquet has no column 'item', but .*: there are 'user', 'rating'"):
        read(folder)


@pytest.mark.parametrize("nullable", [("item",), ("user", "rating")], ids=str)
def test_files_may_differ_in_whether_a_column_may_hold_nulls(folder, table, nullable):
    fields = [field.with_nullable(field.name in nullable) for field in table.schema]
    pq.write_table(table.cast(pa.schema(fields)), folder / "z.parquet")
    found = read(folder)
    assert found.to_pydict() == pa.concat_tables([table, table]).to_pydict()
    assert found.schema == table.schema  # all may


def test_columns_beside_the_three_may_differ_between_files(folder, table):
    extra = table.slice(0, 0).append_column("x", pa.array([], pa.list_(pa.int8())))
    pq.write_table(extra.select(["x", "rating", "user", "item"]), folder / "z.parquet")
    assert read(folder).equals(table)


@pytest.mark.parametrize("content", [b"", b"PAR1" + b"\0" * 100 + b"PAR1"], ids=["empty", "zeros"])
def test_an_empty_or_damaged_file_is_an_os_error(tmp_path, folder, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(OSError, match=r"a\.parquet (is empty|cannot be read as Parquet \(is it damaged)"):
        read(tmp_path / "a.parquet")
    (folder / "z.parquet").write_bytes(content)
    with pytest.raises(OSError, match=r"z\.parquet cannot be read as Parquet"):
        read(folder)


def test_a_truncated_file_is_an_os_error_at_every_length(tmp_path, table):
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    content = path.read_bytes()
    for length in [*range(4, len(content), 37), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(OSError, match="cannot be read as Parquet"):
            read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have paths on POSIX systems")
def test_a_pipe_is_read_into_memory(tmp_path, table):
    os.mkfifo(tmp_path / "pipe")
    pq.write_table(table, tmp_path / "a.parquet")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes((tmp_path / "a.parquet").read_bytes()))
    writer.start()
    assert read(tmp_path / "pipe").equals(table)
    writer.join()


def test_a_file_that_may_not_be_read_says_so(tmp_path, table, monkeypatch):
    def denied(*_, **__):
        raise PermissionError("Permission denied")

    pq.write_table(table, tmp_path / "a.parquet")
    monkeypatch.setattr(pq, "ParquetFile", denied)
    with pytest.raises(PermissionError, match=r"^Permission denied$"):
        read(tmp_path / "a.parquet")


def test_a_file_of_no_rows_has_no_codes(tmp_path, texts):
    with pq.ParquetWriter(tmp_path / "a.parquet", texts.schema):
        pass
    assert read_columns(tmp_path / "a.parquet", ROLES, codes=True).equals(texts.slice(0, 0))


def test_what_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.parquet does not exist"):
        read(tmp_path / "missing.parquet")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read((tmp_path / "missing.parquet").as_uri())
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    (tmp_path / "empty" / "_SUCCESS").write_text("")
    with pytest.raises(FileNotFoundError, match="empty is a directory without data files"):
        read(tmp_path / "empty")


def test_a_uri_that_cannot_be_opened_is_an_os_error():
    for uri in ["nowhere://host/a.parquet", "file://host/a.parquet", "://", "file://["]:
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


@pytest.mark.parametrize("kind", [pa.string(), pa.large_binary()], ids=str)
def test_text_is_read_as_codes_if_the_caller_wants_them(tmp_path, texts, kind):
    texts = texts.cast(pa.schema([("user", kind), ("item", pa.string()), ("rating", pa.int64())]))
    pq.write_table(texts, tmp_path / "a.parquet", row_group_size=60)
    taken = read_columns(tmp_path / "a.parquet", ROLES, codes=True)
    assert [pa.types.is_dictionary(column.type) for column in taken.columns] == [True, True, False]
    assert taken.column(0).to_pylist() == texts.column(0).to_pylist()
    assert read(tmp_path / "a.parquet").equals(texts)


def test_text_that_is_not_in_codes_is_read_as_it_is_and_the_first_file_decides_for_all(tmp_path, texts):
    for dictionary in (True, False):
        for name, use_dictionary in (("a", dictionary), ("b", not dictionary)):
            pq.write_table(texts, tmp_path / f"{name}.parquet", use_dictionary=use_dictionary)
        taken = read_columns(tmp_path, ROLES, codes=True)
        assert [pa.types.is_dictionary(column.type) for column in taken.columns] == [dictionary, dictionary, False]
        for column in ("user", "item"):
            assert taken.column(column).to_pylist() == 2 * texts.column(column).to_pylist()


def test_damaged_codes_never_point_outside_their_dictionary(tmp_path, texts):
    path = tmp_path / "a.parquet"
    pq.write_table(texts.select(["user", "rating"]), path, compression="none", write_statistics=False)
    content = path.read_bytes()
    failed = 0
    for place in range(content.index(b"c") + 1, 150):  # after the dictionary
        for flip in (1, 16, 255):
            path.write_bytes(content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :])
            try:
                taken = read_columns(path, {"user": None, "rating": None}, codes=True)
                taken.column(0).validate(full=True)
            except OSError as error:
                failed += "has codes outside its dictionary" in str(error)
    assert failed > 10


def test_what_is_read_is_known_before(folder):
    found = find(folder)
    files = ParquetFiles(found, opened(found[0])).plan(["rating", "user"])
    assert (files.n_rows, files.row_bytes) == (3, 16)
    assert files.read().to_pydict() == {"rating": RATINGS["rating"], "user": RATINGS["user"]}
