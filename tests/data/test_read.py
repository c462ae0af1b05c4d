import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastmf.data.read import read_columns, read_table, read_titles
from fastmf.errors import DataError, ResourceError

ROLES = {"user": None, "item": None, "rating": None}
RATINGS = {"user": [3, 1, 1], "item": ["x", "y", "x"], "rating": [1.5, 2.5, 4.0]}


@pytest.fixture
def table():
    return pa.table(RATINGS)


def read(source, **asked):
    return read_columns(source, ROLES | asked)


def test_the_columns_come_in_the_order_of_the_roles(table):
    turned = table.select(["rating", "item", "user"]).append_column("stars", pa.array([7.0, 8.0, 9.0]))
    assert read(turned).equals(table)
    assert read(turned, rating="stars").column_names == ["user", "item", "stars"]


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


def test_extra_columns_of_unusable_types_do_no_harm(table, tmp_path):
    polars, duckdb = pytest.importorskip("polars"), pytest.importorskip("duckdb")
    frame = pd.DataFrame(RATINGS)
    frame["objects"] = [object(), 1, "x"]
    assert read(frame).num_columns == 3
    plain = polars.DataFrame(RATINGS)
    assert read(plain.with_columns(polars.Series("o", [object()] * 3, polars.Object))).equals(read(plain))
    with duckdb.connect() as connection:
        connection.register("ratings", table)
        assert read(connection.sql("select map {'a': [1]} as odd, * from ratings")).equals(table)
    nested = table.append_column("nested", pa.array([[{"a": 1}], [], None]))
    pq.write_table(nested, tmp_path / "a.parquet")
    assert read(nested).equals(table)
    assert read(tmp_path / "a.parquet").equals(table)


def test_other_sources_are_refused():
    for source in [None, [1, 2, 3], {"user": 1}, {1, 2}, b"a.parquet", 3, np.zeros(3), object(), [], ()]:
        with pytest.raises(DataError, match=r"cannot read a table from .*: give a path"):
            read(source)
        with pytest.raises(DataError, match=r"cannot read a table from .*: give a path"):
            read_table(source)


def test_arrays_that_are_no_columns_are_refused():
    for arrays, message in [
        (([1], [2]), "2 arrays given where 3 are needed: user, item, rating"),
        (([1], [2], [3], [4]), "4 arrays given where 3 are needed"),
        (([1], [2, 3], [4]), "differ in length: user has 1, item has 2, rating has 1"),
        (([1, 2], b"ab", [1, 2]), "item is one value, b'ab'"),
    ]:
        with pytest.raises(DataError, match=message):
            read(arrays)


def test_ratings_and_weights_may_be_among_the_arrays():
    for n_arrays, weight, optional, names in [
        (2, None, ("rating",), ["user", "item"]),
        (3, None, ("rating",), ["user", "item", "rating"]),
        (3, "rating", (), ["user", "item", "rating", "rating"]),
        (3, "weight", ("rating",), ["user", "item", "weight"]),
        (4, "weight", ("rating",), ["user", "item", "rating", "weight"]),
    ]:
        arrays = ([1, 2], [3, 4], [5, 6], [7, 8])[:n_arrays]
        roles = ROLES if weight is None else ROLES | {"weight": weight}
        found = read_columns(arrays, roles, optional=optional)
        assert found.column_names == names
        assert found.column(len(names) - 1).to_pylist() == arrays[-1]


def test_more_rows_than_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
    pq.write_table(pa.table(RATINGS), tmp_path / "a.parquet")
    need = 3 * (8 + 12 + 8 + 16)
    assert len(read_columns(tmp_path / "a.parquet", ROLES, memory_limit=need)) == 3
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: pytest.fail("nothing must be read"))
    with pytest.raises(ResourceError, match=r"a\.parquet: reading 3 rows takes at least 132 bytes of memory, but 131 "):
        read_columns(tmp_path / "a.parquet", ROLES, memory_limit=need - 1)
    monkeypatch.setattr("fastmf.runtime.memory.available_memory", lambda: 100)
    with pytest.raises(ResourceError, match=r"reading 3 rows takes at least 132 bytes .*, but 100 bytes are avail"):
        read_table(tmp_path / "a.parquet")


def test_a_whole_table_is_read_from_every_source(tmp_path, table):
    pq.write_table(table, tmp_path / "a.parquet")
    for source in (tmp_path / "a.parquet", (tmp_path / "a.parquet").as_uri(), table, table.to_pandas()):
        assert read_table(source).to_pydict() == RATINGS


def test_titles_are_read_by_id(tmp_path):
    pq.write_table(pa.table({"movieId": [7, 2**53 + 1], "title": ["Alien", "Ran"]}), tmp_path / "titles.parquet")
    assert read_titles(str(tmp_path / "titles.parquet")) == {7: "Alien", 2**53 + 1: "Ran"}
    pq.write_table(pa.table({"movieId": [[7]], "title": ["Alien"]}), tmp_path / "lists.parquet")
    with pytest.raises(DataError, match=r"lists\.parquet: column 'movieId' holds list<.*>, which cannot be an id"):
        read_titles(str(tmp_path / "lists.parquet"))
