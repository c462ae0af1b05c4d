"""Inputs that people really bring: 40 made-up ratings in many forms, each of which must give the same model.

The files are made here, so that the tests need no other files.
"""

import bz2
import datetime
import gzip
import io
import os
import subprocess
import sys
import threading
import time
import uuid
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

import fastmf
from fastmf import DataError, ParameterError, Ratings, ResourceError
from fastmf.data import text as text_files
from fastmf.data import utf8
from fastmf.data.read import read_titles

RNG = np.random.default_rng(5)
ITEMS = [3, 17, 32, 47, 50, 110, 260, 318, 527, 593]
USERS = np.repeat(np.arange(1, 9), 5)
CHOSEN = np.concatenate([RNG.permutation(ITEMS)[:5] for _ in range(8)])
STARS = RNG.integers(1, 11, 40) / 2
TIMES = RNG.integers(965_000_000, 966_000_000, 40)
FRAME = pd.DataFrame({"userId": USERS, "movieId": CHOSEN, "rating": STARS, "timestamp": TIMES})
BY_POSITION = r"has no header: its columns are taken as user, item, rating"


def hash_of(source, **how):
    return fastmf.fit(source, k=2, epochs=2, **how).content_hash


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    path = tmp_path_factory.mktemp("parquet") / "ratings.parquet"
    FRAME.to_parquet(path)
    return hash_of(path)


def lines(sep=",", header=True, frame=FRAME, decimal="."):
    return frame.to_csv(sep=sep, header=header, index=False, decimal=decimal)


def with_header(**how):
    return lines(**how).encode()


TEXT = {
    "ratings.csv": with_header(),
    "ratings.csv.gz": gzip.compress(with_header()),
    "ratings.csv.bz2": bz2.compress(with_header()),
    "ratings.csv.zst": pa.compress(with_header(), "zstd", asbytes=True),
    "packed without an ending": gzip.compress(with_header()),
    "bom and crlf": b"\xef\xbb\xbf" + with_header().replace(b"\n", b"\r\n"),
    "old Macintosh": with_header().replace(b"\n", b"\r"),
    "utf-16": lines().encode("utf-16"),
    "quoted": FRAME.astype(str).to_csv(index=False, quoting=1).encode(),
    "semicolons": with_header(sep=";"),
    "decimal commas": with_header(sep=";", decimal=","),
    "tabs.tsv": with_header(sep="\t"),
    "bars": with_header(sep="|"),
    "blanks": with_header(sep=" "),
    "many blanks": with_header().replace(b",", b"   ").replace(b"\n", b"  \n "),
    "double colons": with_header().replace(b",", b"::"),
    "no end of line": with_header().rstrip(),
    "empty lines": b"\n\n" + with_header().replace(b"\n", b"\n\n"),
    "other columns, with line breaks in them": FRAME.assign(review='a "b",\nc;d').to_csv(index=False).encode(),
    "JSON lines.jsonl": FRAME.to_json(orient="records", lines=True).encode(),
    "JSON lines.gz": gzip.compress(FRAME.to_json(orient="records", lines=True).encode()),
    "JSON lines with text for numbers": FRAME.astype({"rating": str}).to_json(orient="records", lines=True).encode(),
}
HEADLESS = {
    "u.data": with_header(sep="\t", header=False),
    "ratings.dat": lines(header=False).replace(",", "::").encode(),
    "libmf.txt": with_header(sep=" ", header=False, frame=FRAME[["userId", "movieId", "rating"]]),
    "headless.csv": with_header(header=False),
}


@pytest.mark.parametrize("name", TEXT)
def test_text_gives_the_model_of_the_same_rows_in_parquet(name, expected, tmp_path):
    path = tmp_path / name.replace(" ", "_")
    path.write_bytes(TEXT[name])
    ratings = Ratings.read(path)
    assert (ratings.user_ids.type, ratings.item_ids.type) == (pa.int64(), pa.int64())
    assert hash_of(path) == expected
    assert hash_of(path.as_uri()) == expected
    with path.open("rb") as file:
        assert hash_of(file) == expected


@pytest.mark.parametrize("name", HEADLESS)
def test_text_without_a_header_is_read_by_position_with_a_remark_or_by_the_names_given(name, expected, tmp_path):
    (tmp_path / name).write_bytes(HEADLESS[name])
    with pytest.warns(UserWarning, match=BY_POSITION):
        assert hash_of(tmp_path / name) == expected
    names = "user,item,rating,timestamp" if name != "libmf.txt" else ["user", "item", "rating"]
    assert hash_of(tmp_path / name, columns=names) == expected
    assert hash_of(tmp_path / name, columns="who,what,stars", user="who", item="what") == expected
    with pytest.raises(DataError, match="columns, but 9 are named"):
        Ratings.read(tmp_path / name, columns=list("abcdefghi"))


def test_a_directory_a_pattern_and_a_list_of_files_are_one_table(expected, tmp_path):
    for place in range(3):
        FRAME[place::3].to_csv(tmp_path / f"part-{place}.csv", index=False)
    (tmp_path / "_SUCCESS").touch()
    several = [tmp_path / "part-0.csv", str(tmp_path / "part-1.csv"), (tmp_path / "part-2.csv").as_uri()]
    for source in (tmp_path, tmp_path / "*.csv", str(tmp_path / "p*-[0-2].cs?"), tmp_path.as_uri() + "/*.csv", several):
        assert hash_of(source) == expected
    (tmp_path / "part-1.csv").write_text(FRAME[1::3][["rating", "movieId", "userId"]].to_csv(index=False))
    assert hash_of(tmp_path) == expected  # columns are found by name in each
    FRAME.rename(columns={"movieId": "film"}).to_csv(tmp_path / "part-3.csv", index=False)
    with pytest.raises(DataError, match=r"part-0\.csv has the columns .*part-3\.csv has 'userId', 'film'"):
        Ratings.read(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file matches .*\*\.parquet"):
        Ratings.read(tmp_path / "*.parquet")


def containers():
    polars, datasets = pytest.importorskip("polars"), sys.modules.get("datasets")
    table = pa.Table.from_pandas(FRAME, preserve_index=False)
    yield "pyarrow dataset", pyarrow.dataset.dataset(table)
    yield "pyarrow scanner", pyarrow.dataset.dataset(table).scanner()
    yield "Polars, lazy", polars.from_pandas(FRAME).lazy()
    yield "record batches", table.to_reader()
    yield "dict of columns", FRAME.to_dict("list")
    yield "dict of arrays", {name: column.to_numpy() for name, column in FRAME.items()}
    yield "list of dicts", FRAME.to_dict("records")
    yield "list of tuples", list(FRAME[["userId", "movieId", "rating"]].itertuples(index=False, name=None))
    yield "list of named tuples", list(FRAME.itertuples(index=False))
    yield "array of rows", FRAME[["userId", "movieId", "rating"]].to_numpy()
    yield "structured array", FRAME.to_records(index=False)
    yield "index levels", FRAME.set_index(["userId", "movieId"])
    yield "series with levels", FRAME.set_index(["userId", "movieId"])["rating"]
    yield "capital letters", FRAME.rename(columns={"userId": "User ID", "movieId": "MOVIE_ID", "rating": "Rating"})
    yield "Surprise's names", FRAME.rename(columns={"userId": "uid", "movieId": "iid"})
    if datasets:
        yield "Hugging Face", datasets.Dataset.from_pandas(FRAME)


@pytest.mark.parametrize("name", [name for name, _ in containers()])
def test_what_holds_the_rows_in_memory_does_not_matter(name, expected):
    assert hash_of(dict(containers())[name]) == expected


def test_arrow_and_orc_files_are_read(expected, tmp_path):
    table = pa.Table.from_pandas(FRAME, preserve_index=False)
    pyarrow.feather.write_feather(table, tmp_path / "a.feather")
    pyarrow.orc.write_table(table, tmp_path / "a.orc")
    with pa.ipc.new_stream(tmp_path / "a.ipc", table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    for path in tmp_path.iterdir():
        assert hash_of(path) == expected, path
        path.write_bytes(path.read_bytes()[:-20])
        try:
            Ratings.read(path)
        except OSError as error:
            assert "cannot be read (is it damaged?)" in str(error)  # noqa: PT017  a stream may end early


def test_hugging_face_data_sets_are_read(expected):
    class Dataset:
        def __init__(self, names=None):
            self.names, self.column_names = names, list(FRAME)

        def select_columns(self, names):
            return Dataset(names)

        def with_format(self, kind):
            assert kind == "arrow"
            return self

        def __getitem__(self, rows):
            return pa.Table.from_pandas(FRAME[self.names], preserve_index=False).slice(*rows.indices(99)[:2])

    assert hash_of(Dataset()) == expected
    with pytest.raises(DataError, match="this holds several tables, 'train', 'test': give one of them"):
        hash_of({"train": Dataset(), "test": Dataset()})


@pytest.mark.parametrize("kind", ["coo_matrix", "csr_matrix", "csc_matrix", "coo_array", "csr_array", "lil_matrix"])
def test_sparse_matrices_have_users_in_rows(kind, expected):
    sparse = pytest.importorskip("scipy.sparse")
    matrix = getattr(sparse, kind)(sparse.coo_matrix((STARS, (USERS, CHOSEN))))
    assert hash_of(matrix) == expected
    names = np.array([f"u{place}" for place in range(9)]), np.array([f"i{place}" for place in range(594)])
    ratings = Ratings.from_sparse(matrix, *names)
    assert ratings.user_ids.to_pylist() == [f"u{place}" for place in range(1, 9)]
    assert sorted(ratings.item_ids.to_pylist()) == sorted(f"i{place}" for place in set(CHOSEN))
    with pytest.raises(DataError, match=r"9 rows but 2 user ids: give one for each"):
        Ratings.from_sparse(matrix, ["a", "b"])


def test_pivots_are_read_by_an_option(expected, tmp_path):
    wide = FRAME.pivot_table(index="userId", columns="movieId", values="rating")
    wide.to_csv(tmp_path / "wide.csv")
    wide.reset_index().rename(columns=str).to_parquet(tmp_path / "wide.parquet")
    for source in (tmp_path / "wide.csv", tmp_path / "wide.parquet", wide):
        assert hash_of(source, wide=True) == expected
    with pytest.raises(DataError, match=r"no column for the items.*if every column but one is an item, give --wide"):
        Ratings.read(tmp_path / "wide.csv")
    array = wide.to_numpy()
    by_place = Ratings.read(array, wide=True)
    assert (len(by_place), by_place.user_ids.to_pylist()) == (40, list(range(8)))
    np.testing.assert_array_equal(by_place.values, Ratings.read(FRAME).values)
    assert hash_of(array) == hash_of(array, wide=True)  # NaN says that it is a pivot
    with pytest.raises(DataError, match=r"shape \(8, 10\): for rows of .* give wide=True"):
        Ratings.read(np.nan_to_num(array))
    with pytest.raises(DataError, match="column of item 'b' holds string, not ratings: is this a pivot"):
        Ratings.read(pa.table({"user": [1], "b": ["x"]}), wide=True)


def test_a_pivot_has_a_column_of_users_and_items_alone(tmp_path):
    for source, message in [
        (FRAME, "'movieId', which looks like no item"),
        (pa.table({"ts": [5], "user": ["a"], "1": [3.0]}), "'ts', which looks like no item"),
        (pa.table({"user": ["a"], "1": [3.0], "": [4.0]}), "'', which looks like no item"),
        (pa.table({"user": ["a"]}), "no column of an item"),
        (pd.DataFrame([[1.0, 2.0]], columns=["x", "x"], index=["u"]), "several columns 'x'"),
        (pd.DataFrame([[5, 4]], index=[10], columns=[1, "1"]), "the columns cannot be read as one column of one type"),
        ((USERS, CHOSEN, STARS), "wide is for a pivot, but a tuple of arrays holds a row for each rating"),
    ]:
        with pytest.raises(DataError, match=message):
            Ratings.read(source, wide=True)
    with pytest.raises(DataError, match=r"NaN among the ids, its first two columns: .* give wide=True"):
        Ratings.read(np.array([[5, np.nan, 3], [np.nan, 2, np.nan]]))


def test_small_numbers_are_no_times(tmp_path):
    (tmp_path / "a.csv").write_text("1,1,3,5\n2,2,2,5\n3,1,4,0\n")
    with pytest.raises(DataError, match="has no header, and its fourth column holds no times, such as '5': name"):
        Ratings.read(tmp_path / "a.csv")
    assert Ratings.read(tmp_path / "a.csv", columns="user,item,rating,-").values.tolist() == [3, 2, 4]


def test_ids_come_back_as_they_were_written(tmp_path):
    def ids(*texts):
        (tmp_path / "a.csv").write_text(
            "user,item,rating\n" + "".join(f"{text},1,{n % 5}\n" for n, text in enumerate(texts))
        )
        return Ratings.read(tmp_path / "a.csv", duplicates="last").user_ids.to_pylist()

    assert ids("00001", "00002", "10") == ["00001", "00002", "10"]
    assert ids(2**53 + 1, 2**53 + 2) == [2**53 + 1, 2**53 + 2]
    assert ids(2**64 - 1, 2**63) == [2**63, 2**64 - 1]
    assert ids(-1, 2**63) == ["-1", str(2**63)]
    assert ids(2**64) == [str(2**64)]
    with pytest.warns(UserWarning, match="holds ids with blanks around them, the first ' 1': they are kept"):
        assert ids(" 1", "1") == [" 1", "1"]
    for odd in ("+1", "1.0e3", "0x10", "1_0", "-0", "1.5", "true", "2024-01-01", "NA", "nan", "NULL", '"a,b"'):
        assert ids(odd, "2") == sorted([odd.strip('"'), "2"])
    texts = ["zoë", "a,b", 'say "hi"', "", "NA", "null", "x\ty", "日本"]
    pd.DataFrame({"user": texts, "item": 1, "rating": 2.5}).to_csv(tmp_path / "t.csv", index=False, quoting=2)
    assert Ratings.read(tmp_path / "t.csv").user_ids.to_pylist() == sorted(texts)


def test_ids_of_many_pieces_have_one_type(tmp_path, monkeypatch):
    monkeypatch.setattr("fastmf.data.text.PIECE", 64)
    frame = pd.DataFrame({"user": [*range(100), "x7"], "item": [2**63 + 5, *range(100)], "rating": 1.0})
    frame.to_csv(tmp_path / "a.csv", index=False)
    ratings = Ratings.read(tmp_path / "a.csv")
    assert ratings.user_ids.to_pylist() == sorted([*map(str, range(100)), "x7"])
    assert ratings.item_ids.to_pylist() == [*range(100), 2**63 + 5]


def test_lines_of_another_length_are_errors_or_dropped_and_counted(tmp_path, monkeypatch):
    whole = lines()
    for name, text, n, first in [
        ("ragged", whole + "9,3\n10,3,4.0,964980000,extra\n", 2, r"line 42 \(2 columns instead of 4\): '9,3'"),
        ("cut", whole + "8,260,", 1, r"line 42 \(3 columns instead of 4\): '8,260,'"),
        ("no number", whole + "9,3,five,1\n9,4,,1\n", 1, r"row 40 \(from 0\): column 'rating' holds 'five'"),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=rf"{n} rows? cannot be read, the first in {first}.*--bad-rows drop"):
            Ratings.read(tmp_path / name)
        ratings = Ratings.read(tmp_path / name, bad_rows="drop")
        assert len(ratings) == 40
        assert ratings.rows["read"] == 40 + n + (name == "no number")
    assert ratings.dropped == {"unreadable_numbers": 1, "null_ratings": 1}
    text = FRAME.to_json(orient="records", lines=True)
    (tmp_path / "b.jsonl").write_text(
        FRAME.assign(rating=["x", *STARS.astype(str)[1:]]).to_json(orient="records", lines=True)
    )
    with pytest.raises(DataError, match=r"1 row cannot be read, the first in row 0 \(from 0\): 'rating' holds 'x'"):
        Ratings.read(tmp_path / "b.jsonl")
    assert Ratings.read(tmp_path / "b.jsonl", bad_rows="drop").dropped == {"unreadable_numbers": 1}
    (tmp_path / "a.jsonl").write_text(text + '{"userId": 9, "mov')
    with pytest.raises(DataError, match=r"1 rows? cannot be read, the first in line 41 \(no JSON object\)"):
        Ratings.read(tmp_path / "a.jsonl")
    assert Ratings.read(tmp_path / "a.jsonl", bad_rows="drop").rows["ragged_rows"] == 1


def test_quotes_that_are_not_closed_lose_no_row_in_silence(tmp_path):
    start = "user,item,rating\n" + "".join(f'"{n}",1,"4.5"\n' for n in range(9_000))
    for end in ('"x",1,"4.', '"x",1,"4\n', '"x",1,"4\n\n', '"x","1'):
        (tmp_path / "a.csv").write_text(start + end)
        with pytest.raises(
            DataError, match=r"1 row cannot be read, the first in the last line \(a quote is not closed\)"
        ):
            Ratings.read(tmp_path / "a.csv")
        assert Ratings.read(tmp_path / "a.csv", bad_rows="drop").rows == {
            "read": 9_001, "used": 9_000, "duplicates": 0, "ragged_rows": 1
        }  # fmt: skip
    (tmp_path / "a.csv").write_text(start + '"x"y,1,4\n' + start[17:])
    with pytest.raises(DataError, match=r"""the line '"x"y,1,4' has text after a closing quote"""):
        Ratings.read(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text(
        'user,item,rating,review\na"b,1,3,"x ""y"" z\nfoo"\n5" x,1,4,"end\nmore, ""q"" text"'
    )
    assert Ratings.read(tmp_path / "a.csv").user_ids.to_pylist() == ['5" x', 'a"b']


def test_reading_that_fails_midway_leaves_no_thread_behind(tmp_path):
    code = "import fastmf, sys\ntry: fastmf.Ratings.read(sys.argv[1])\nexcept fastmf.DataError: print('refused')"
    good = b"user,item,rating\n" + b"".join(b"u%d,1,3\n" % n for n in range(300_000))
    for bad in (b"zo\xeb,1,3\n" + good[17:], b"x" * (40 << 20)):
        (tmp_path / "a.csv.gz").write_bytes(gzip.compress(good + bad, 1))
        done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.csv.gz"], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "refused\n", "")


def test_a_thread_that_reads_ahead_of_a_failure_gets_no_more(tmp_path, monkeypatch):
    ended, read, whole_lines = [], utf8.Utf8.read, utf8.Utf8._whole_lines

    def watched(self, n=-1):
        data = read(self, n)
        ended.append(len(data))
        return data

    def slow(self, data, last):
        time.sleep(0.05)
        return whole_lines(self, data, last)

    monkeypatch.setattr(utf8.Utf8, "read", watched)
    monkeypatch.setattr(utf8.Utf8, "_whole_lines", slow)
    monkeypatch.setattr(text_files, "PIECE", 1 << 17)
    lines = b"".join(b"u%d,1,3\n" % n for n in range(100_000))
    (tmp_path / "a.csv").write_bytes(b"user,item,rating\n" + lines[:-500_000] + b"zo\xeb,1,3\n" + lines[-500_000:])
    with pytest.raises(DataError, match="not text in utf-8"):
        Ratings.read(tmp_path / "a.csv")
    before = len(ended)
    time.sleep(0.2)
    assert before >= 4
    assert not any(ended[before:])


def test_other_encodings_are_named_or_refused(tmp_path):
    text = "user,item,rating\n" + "".join(f"zoë{n},é,{n}\n" for n in range(1, 6))
    (tmp_path / "a.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.csv is not text in utf-8 .*--encoding, such as latin-1"):
        Ratings.read(tmp_path / "a.csv")
    late = "user,item,rating\n" + "".join(f"u{n},i,{n % 5}\n" for n in range(9_000)) + "zoë,i,1\n"
    (tmp_path / "late.csv").write_bytes(late.encode("latin-1"))
    with pytest.raises(DataError, match=r"late\.csv is not text in utf-8"):
        Ratings.read(tmp_path / "late.csv")
    ratings = Ratings.read(tmp_path / "a.csv", encoding="latin-1")
    assert ratings.user_ids.to_pylist() == [f"zoë{n}" for n in range(1, 6)]
    with pytest.raises(ParameterError, match="encoding is 'klingon'"):
        Ratings.read(tmp_path / "a.csv", encoding="klingon")


def test_decimal_commas_are_never_a_wrong_number(tmp_path):
    def values(*texts, **how):
        (tmp_path / "a.csv").write_text("user;item;rating\n" + "".join(f"{n};1;{x}\n" for n, x in enumerate(texts)))
        return Ratings.read(tmp_path / "a.csv", **how).values.tolist()

    assert values("4,5", "3", "2,25") == [4.5, 3, 2.25]
    assert values("1,234", "2,5") == [np.float32(1.234), 2.5]
    with pytest.raises(DataError, match=r"holds '1,234': is that 1\.234 or 1234\? Name the decimal mark"):
        values("1,234", "2,345")
    assert values("1,234", "2,345", decimal=",") == [np.float32(1.234), np.float32(2.345)]
    with pytest.raises(DataError, match=r"holds '4,5' and '3\.5'"):
        values("4,5", "3.5")
    with pytest.raises(DataError, match="holds '4,5', which is no number"):
        values("4,5", decimal=".")
    with pytest.raises(DataError, match=r"holds '1\.000,5', which is no number"):
        values("1.000,5", "2")


def test_separators_that_are_not_certain_are_asked_for(tmp_path):
    (tmp_path / "a.csv").write_text("a;b,1;2,3\n" * 5)
    with pytest.raises(DataError, match=r"may have columns between ',' or ';': say which with --sep \(sep=\)"):
        Ratings.read(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("user^item^rating\n1^2^3\n")
    assert Ratings.read(tmp_path / "b.csv", sep="^").item_ids.to_pylist() == [2]
    (tmp_path / "c.csv").write_text("1;110;4,5\n2;110;3,0\n")
    with pytest.warns(UserWarning, match=BY_POSITION):
        assert Ratings.read(tmp_path / "c.csv").values.tolist() == [4.5, 3.0]


def test_an_event_log_counts_rows(tmp_path):
    frame = pd.DataFrame({"user": USERS, "item": CHOSEN}).loc[np.repeat(np.arange(40), 1 + np.arange(40) % 3)]
    frame["ts"] = "2024-03-01T10:00:00+01:00"
    frame.to_csv(tmp_path / "events.csv", index=False)
    model = fastmf.fit(tmp_path / "events.csv", solver="implicit", k=2, duplicates="sum", half_life=10)
    assert (model.rows["used"], model.rows["duplicates"]) == (40, len(frame) - 40)
    ratings = Ratings.read(tmp_path / "events.csv", unrated=True, duplicates="sum")
    assert set(ratings.weights) == {1, 2, 3}


def test_titles_and_features_come_from_text(tmp_path):
    films = pd.DataFrame({"movieId": ITEMS, "title": [f"Film, The {n} (1960)" for n in ITEMS]})
    films["genres"] = ["Action|Comedy", "Drama"] * 5
    films.to_csv(tmp_path / "titles.csv", index=False)
    assert read_titles(str(tmp_path / "titles.csv")) == dict(zip(films["movieId"], films.pop("title"), strict=True))
    films["postcode"], films["price"] = [f"0{n % 3}123" for n in range(10)], np.arange(10) / 4
    films.to_csv(tmp_path / "movies.csv", index=False)
    features = fastmf.Features.read(tmp_path / "movies.csv", "item")
    names = features.encoding.names.to_pylist()
    assert names[:4] == ["genres=Action", "genres=Comedy", "genres=Drama", "postcode=00123"]
    assert names[-1] == "price"
    same = fastmf.Features.read(films, "item")
    assert names == same.encoding.names.to_pylist()
    model = fastmf.fit(FRAME, k=2, epochs=2, item_features=tmp_path / "movies.csv")
    assert model.content_hash == hash_of(FRAME, item_features=films)


def test_pairs_of_text_are_of_the_types_of_the_model(tmp_path):
    texts = FRAME.assign(userId="0" + FRAME["userId"].astype(str), movieId=[*CHOSEN.astype(str)])
    model = fastmf.fit(texts.assign(movieId=["x" + item for item in texts["movieId"]]), k=2, epochs=2)
    digits = fastmf.fit(texts, k=2, epochs=2)  # text ids that look like numbers
    (tmp_path / "new.csv").write_text("userId,movieId,rating\n77,110,4\n77,50,2\n")
    folded = digits.fold_in(tmp_path / "new.csv")
    assert folded.rows["unknown_items"] == 0
    assert fastmf.evaluate(model, tmp_path / "new.csv")["unknown_users"] == 2


@pytest.mark.parametrize("kind", ["dates", "moments", "UUIDs", "bytes", "booleans"])
def test_ids_of_any_type_are_found_in_text(kind, tmp_path):
    make = {
        "dates": lambda n: datetime.date(2024, 1, n),
        "moments": lambda n: datetime.datetime(2024, 1, n, 12, tzinfo=datetime.UTC),
        "UUIDs": lambda n: uuid.UUID(int=n),
        "bytes": lambda n: bytes([64 + n]),
        "booleans": lambda n: n % 2 == 0,
    }[kind]
    own = [make(n) for n in range(1, 9)]
    own = pa.array([each.bytes for each in own], pa.uuid()) if kind == "UUIDs" else pa.array(own)
    table = pa.table({"user": own.take(pa.array(USERS - 1)), "item": CHOSEN, "rating": STARS})
    model = fastmf.fit(table, k=2, epochs=2, duplicates="last")
    first = table["user"][0].as_py()
    text = first.decode() if kind == "bytes" else str(first).lower() if kind == "booleans" else str(first)
    (tmp_path / "new.csv").write_text(f"user,item,rating\n{text},110,4\n{text},50,2\n")
    assert fastmf.evaluate(model, tmp_path / "new.csv")["unknown_users"] == 0
    (tmp_path / "odd.csv").write_text("user,item,rating\nnobody,110,4\n")
    if kind != "bytes":
        with pytest.raises(DataError, match=r"of type .* cannot be found among ids of type"):
            fastmf.evaluate(model, tmp_path / "odd.csv")


def test_ratings_named_otherwise_are_found_again_by_the_model(tmp_path):
    named = FRAME.rename(columns={"userId": "person", "movieId": "film", "rating": "stars"})
    model = fastmf.fit(named, k=2, epochs=2, user="person", item="film")
    assert model.columns == ("person", "film", "stars")
    model.save(tmp_path / "a.fastmf")
    model = fastmf.load(tmp_path / "a.fastmf")
    assert model.fold_in(named).rows["used"] == 40
    assert fastmf.evaluate(model, named)["pairs"] == 40


def test_what_cannot_be_counted_ahead_is_stopped_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("fastmf.data.text.PIECE", 1 << 12)
    monkeypatch.setattr("fastmf.data.json_lines.PIECE", 1 << 12)
    monkeypatch.setattr("fastmf.data.source.PIECE", 1 << 12)
    rows = pd.DataFrame({"user": np.arange(20_000), "item": 1, "rating": 3})
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(rows.to_csv(index=False).encode()))
    (tmp_path / "a.jsonl").write_text(rows.to_json(orient="records", lines=True))
    for name in ("a.csv.gz", "a.jsonl"):
        with pytest.raises(ResourceError, match=r"reading its first [1-9],\d{3} rows takes at least .*memory limit"):
            Ratings.read(tmp_path / name, memory_limit="100KiB")
        assert len(Ratings.read(tmp_path / name, memory_limit="2MiB")) == 20_000


@pytest.mark.parametrize("start", ["user,item,rating\n", "1::2::3\n", '{"user": 1, "item": 2, "rating": 3}\n'])
def test_a_line_without_end_is_given_up(start, tmp_path, monkeypatch):
    monkeypatch.setattr("fastmf.data.text.PIECE", 1 << 12)
    monkeypatch.setattr("fastmf.data.json_lines.PIECE", 1 << 12)
    monkeypatch.setattr("fastmf.data.source.PIECE", 1 << 12)
    (tmp_path / "a").write_bytes(gzip.compress(start.encode() * 5_000 + b'"' + b"x" * 100_000))
    with pytest.raises(DataError, match=r"a (line|row) is longer than 4,096 bytes"):
        Ratings.read(tmp_path / "a", duplicates="last")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have paths on POSIX systems")
@pytest.mark.parametrize("name", ["ratings.csv", "ratings.csv.gz", "JSON lines.jsonl"])
def test_pipes_are_read_as_they_come(name, expected, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(TEXT[name]))
    writer.start()
    assert hash_of(tmp_path / "pipe") == expected
    writer.join()


@pytest.mark.parametrize("name", ["ratings.csv", "ratings.csv.zst", "parquet"])
def test_the_standard_input_is_a_source(name, expected, monkeypatch):
    if name == "parquet":
        pq.write_table(pa.Table.from_pandas(FRAME), buffer := io.BytesIO())
        content = buffer.getvalue()
    else:
        content = TEXT[name]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert hash_of("-") == expected


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"SQLite format 3\0", r"a SQLite database, .*sqlite3\.connect\('.*odd'\)"),
        (b"PK\x03\x04", r"a zip archive or an Excel workbook.*read_excel\('.*odd'\)"),
        (b"\x93NUMPY\x01", r"a NumPy array.*numpy\.load\('.*odd'\)"),
        (b"\x89HDF\r\n", "an HDF5 file.*read_hdf"),
        (b"Obj\x01", "an Avro file.*duckdb"),
        (b"\xfd7zXZ\0", "an xz archive.*xz -dc .*fit -"),
        (b"\x80\x04\x95", "a Python pickle"),
        (b"%PDF-1.7", "a PDF document"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS.*git lfs pull"),
        (b"%%MatrixMarket matrix", r"a Matrix Market file.*scipy\.io\.mmread"),
        (b"<!DOCTYPE html>", "HTML or XML.*login"),
        (b' [{"user": 1}]', r"a JSON array.*read_json\("),
        (b"\x01\x02\0\0\x7f" * 9, "a binary file, neither Parquet nor text: is it damaged"),
    ],
    ids=str,
)
def test_a_file_of_another_format_says_what_it_is_and_how_to_read_it(start, message, tmp_path):
    (tmp_path / "odd").write_bytes(start + b" " * 60)
    with pytest.raises(OSError, match=message):
        Ratings.read(tmp_path / "odd")
    with pytest.raises(OSError, match=message.replace("odd", "the stream")):
        Ratings.read(gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(start + b" " * 60))))


def test_json_values_of_other_types_are_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"user":1,"item":"a","rating":5}\n' * 9000 + '{"user":"x","item":"a","rating":5}\n'
    )
    with pytest.raises(DataError, match=r"a\.jsonl cannot be read as JSON lines, past line .*user.*one type"):
        Ratings.read(tmp_path / "a.jsonl", duplicates="last")
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write("no object\n")
    with pytest.raises(DataError, match=r"a\.jsonl cannot be read as JSON lines, past line .*user.*one type"):
        Ratings.read(tmp_path / "a.jsonl", duplicates="last", bad_rows="drop")
    with pytest.raises(DataError, match="Series holds no table"):
        Ratings.read(pd.Series([1, 2]))


def test_odd_names_and_used_streams_are_refused(tmp_path):
    FRAME.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet is no delimited text: leave out --sep"):
        Ratings.read(tmp_path / "a.parquet", sep=";")
    (tmp_path / "a.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    with pytest.raises(OSError, match=r"a\.gz holds parquet inside gzip: unpack it first"):
        Ratings.read(tmp_path / "a.gz")
    with pytest.raises(ParameterError, match="callback is 5: give a function"):
        fastmf.fit(FRAME, k=1, callback=5)
    for source in (FRAME, FRAME.to_dict("list"), tmp_path / "a.parquet"):
        with pytest.raises(DataError, match=r"has names of its own: leave out --columns \(columns=\)"):
            Ratings.read(source, columns="user,item,rating")
    for odd in (np.array(["user"]), pd.NA, 1.5, ["user"]):
        with pytest.raises(ParameterError, match=r"user is .*: give the name of a column"):
            Ratings.read(FRAME, user=odd)
    stream = io.BytesIO(TEXT["ratings.csv"])
    stream.close()
    with pytest.raises(OSError, match="the stream is closed: open it again"):
        Ratings.read(stream)
    stream = io.BytesIO(TEXT["ratings.csv"])
    stream.read()
    with pytest.raises(OSError, match="the stream is empty"):
        Ratings.read(stream)


def test_a_model_given_as_ratings_says_so(tmp_path):
    fastmf.fit(FRAME, k=1, epochs=1).save(tmp_path / "a.fastmf")
    with pytest.raises(OSError, match="a safetensors file, such as a model of fastmf"):
        Ratings.read(tmp_path / "a.fastmf")


def test_what_is_not_text_with_columns_is_refused(tmp_path, monkeypatch):
    for text, message in [
        ("\n\n", "holds only empty lines"),
        ("hello", r"first line is taken as the header; without one, name the columns.* has no column for the users"),
        ("ann,film1\nbob,film2\n", r"without one, name the columns .*there are 'ann', 'film1'"),
        ("user,item,rating\n", "there are no ratings"),
        ('user,item,rating\n1,"a,3\n2,b",4\n', "is a quote in it not closed"),
        ("1,2,3,4,5\n" * 3, "has no header and 5 columns"),
        ("user,item,rating\n1,2,3\n", "has a header, 'user', 'item', 'rating': leave out --columns"),
    ]:
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(DataError, match=message):
            Ratings.read(tmp_path / "a.csv", columns="a,b,c" if "header, '" in message else None)
    for bad in (
        {"encoding": "rot13"},
        {"encoding": "base64"},
        {"columns": 5},
        {"user": ""},
        {"sep": ""},
        {"sep": "\n"},
        {"decimal": "x"},
        {"columns": ["a", "a"]},
        {"columns": "-"},
        {"wide": 1},
    ):
        with pytest.raises(ParameterError, match=next(iter(bad))):
            Ratings.read(tmp_path / "a.csv", **bad)


def test_implicit_feedback_checks_the_ratings_that_it_does_not_keep():
    for bad, reason in [(np.nan, "null"), (np.inf, "infinite"), (None, "null")]:
        frame = FRAME.assign(rating=[bad, *STARS[1:]])
        for how in ({}, {"positive_from": 1.0}):
            with pytest.raises(DataError, match=rf"column 'rating' has 1 of 40 ratings that are not finite .*{reason}"):
                fastmf.fit(frame, solver="implicit", k=2, **how)
            model = fastmf.fit(frame, solver="implicit", k=2, epochs=1, bad_rows="drop", **how)
            assert model.rows["used"] == 39
            with pytest.raises(DataError, match="not finite"):
                fastmf.evaluate(model, frame)
            with pytest.raises(DataError, match="not finite"):
                model.fold_in(frame)
    for other in (["x"] * 40, [None] * 40, [0.5] * 40):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert fastmf.fit(FRAME.assign(rating=other), solver="implicit", k=2, epochs=1).rows["used"] == 40


def test_dislikes_that_count_as_likes_are_told():
    frame = FRAME.assign(rating=np.resize([-1, 0, 1], 40))
    with pytest.warns(UserWarning, match=r"'rating' has 27 of 40 ratings of 0 or below, which count as observed"):
        fastmf.fit(frame, solver="implicit", k=2, epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fastmf.fit(frame, solver="implicit", k=2, epochs=1, positive_from=1)
        fastmf.fit(frame, solver="implicit", k=2, epochs=1, rating="")


def test_only_rows_that_count_as_observed_are_summed():
    rows = pd.DataFrame(
        {"user": [1, 1, 1, 2, 2, 3, 3, 3], "item": [5, 5, 6, 5, 5, 6, 6, 6], "rating": [2.0, 2, 5, 4, 1, 5, 5, 3]}
    )
    ratings = Ratings.read(rows, unrated=True, duplicates="sum", positive_from=4)
    assert ratings.values.tolist() == [2, 5, 4, 5]
    assert ratings.weights.tolist() == [2, 1, 1, 2]
    model = fastmf.fit(rows, solver="implicit", k=1, epochs=1, positive_from=4, duplicates="sum")
    assert model.rows["observed"] == 3


def test_counts_and_plays_are_weights_of_implicit_feedback_alone():
    frame = FRAME.rename(columns={"rating": "Play_Count"})
    with pytest.warns(UserWarning, match="column 'Play_Count' is taken as the weights of rows; --weight ''"):
        model = fastmf.fit(frame, solver="implicit", k=2, epochs=1)
    assert model.content_hash == fastmf.fit(frame, solver="implicit", k=2, epochs=1, weight="Play_Count").content_hash
    plain = fastmf.fit(frame, solver="implicit", k=2, epochs=1, weight="")
    assert plain.weight is None
    with pytest.raises(DataError, match="no column for the ratings"):
        fastmf.fit(frame, k=2)


# The same cases as files made elsewhere, if they lie beside the data sets.
FOLDER = Path(os.environ.get("FASTMF_DATA_DIR", "nowhere")).parent / "cases"
SAME = {
    "ratings.csv": {},
    "ratings.csv.gz": {},
    "ratings-bom-crlf.csv": {},
    "ratings-quoted.csv": {},
    "ratings-decimal-comma.csv": {},
    "ratings.jsonl": {},
    "u.data": {"columns": "user,item,rating,timestamp"},
    "ratings.dat": {"columns": "user,item,rating,timestamp"},
    "libmf.txt": {"columns": ["user", "item", "rating"]},
    "wide.csv": {"wide": True},
}
elsewhere = pytest.mark.skipif(not FOLDER.is_dir(), reason="no folder cases/ beside FASTMF_DATA_DIR")


@elsewhere
@pytest.mark.parametrize("name", SAME)
def test_the_same_ratings_in_other_files_are_the_same_model(name, tmp_path):
    read = {"userId": "int64", "movieId": "int64", "rating": "float64"}
    pd.read_csv(FOLDER / "ratings.csv", dtype=read).to_parquet(tmp_path / "ratings.parquet")
    expected = hash_of(tmp_path / "ratings.parquet")
    ratings = Ratings.read(FOLDER / name, **SAME[name])
    assert (len(ratings), ratings.user_ids.type, ratings.item_ids.type) == (40, pa.int64(), pa.int64())
    assert hash_of(FOLDER / name, **SAME[name]) == expected


@elsewhere
def test_other_files_give_what_they_must():
    zeros = Ratings.read(FOLDER / "leading-zeros.csv")
    assert zeros.user_ids.to_pylist() == [f"{n:05}" for n in range(1, 9)]
    assert Ratings.read(FOLDER / "big-ids.csv").user_ids.to_pylist() == list(range(2**53 + 1, 2**53 + 9))
    texts = Ratings.read(FOLDER / "text-ids.csv").user_ids
    assert (len(texts), texts.null_count) == (8, 0)
    assert {"", "NA", "null", "x\ty", "a,b"} <= set(texts.to_pylist())
    with pytest.raises(DataError, match="give --wide"):
        Ratings.read(FOLDER / "wide.csv")
    with pytest.raises(DataError, match="name its encoding with --encoding"):
        Ratings.read(FOLDER / "latin1.csv")
    assert Ratings.read(FOLDER / "latin1.csv", encoding="latin-1").user_ids.to_pylist()[0] == "zoë1"
    for name, line, n in (("ragged.csv", 42, 2), ("half-written.csv", 41, 1)):
        with pytest.raises(DataError, match=rf"the first in line {line} "):
            Ratings.read(FOLDER / name)
        assert Ratings.read(FOLDER / name, bad_rows="drop").dropped == {"ragged_rows": n}
    events = Ratings.read(FOLDER / "events.csv", unrated=True, duplicates="sum")
    assert (len(events), set(events.weights)) == (40, {1, 2, 3})
    assert len(read_titles(FOLDER / "movies.csv")) == 10
    assert fastmf.Features.read(FOLDER / "movies.csv", "item").encoding.n_features > 1
