"""Public data sets and exports as they are shipped: the right rows, or a message that says what to do."""

import gzip
import json
import shutil
import subprocess
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import fastmf
from fastmf import DataError, ParameterError, Ratings
from fastmf.data.read import like_of, read_columns, read_titles

ROWS = [(user, item, (user * item) % 7 % 5 + 1) for user in range(1, 6) for item in (10, 20, 30)]
VALUES = [value for _, _, value in ROWS]
HEADER = "userId,movieId,rating\n"
PLAIN = "".join(f"{user},{item},{value}\n" for user, item, value in ROWS)
LINES = HEADER + PLAIN


def written(path, content, encoding="utf-8"):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def require_rows(source, users=range(1, 6), items=(10, 20, 30), values=VALUES, **how):
    ratings = Ratings.read(source, **how)
    assert ratings.user_ids.to_pylist() == list(users)
    assert ratings.item_ids.to_pylist() == list(items)
    assert ratings.values.tolist() == list(values)
    return ratings


FORMS = {
    "Excel's first line": "sep=;\r\n" + LINES.replace(",", ";").replace("\n", "\r\n"),
    "Excel's first line, quoted": '"sep=|"\n' + LINES.replace(",", "|"),
    "Excel's first line, after a BOM": b"\xef\xbb\xbfsep=;\r\n" + LINES.replace(",", ";").encode(),
    "Unicode text of Excel": ("sep=\t\n" + LINES.replace(",", "\t")).encode("utf-16"),
    "comments": "# exported 2026-01-31\n# by me, for you\n" + LINES,
    "comments and empty lines": "\n% a comment\n\n" + LINES,
    "header of numpy.savetxt": "# user,item,rating\n" + PLAIN,
    "comments with a header of blanks": "# made by a tool\n# user item rating\n" + PLAIN.replace(",", " "),
    "separators at line ends": LINES.replace("\n", ",\n"),
    "separators at line ends, but not of the header": HEADER + PLAIN.replace("\n", ",\n"),
    "index without a name": pd.DataFrame(ROWS, columns=["userId", "movieId", "rating"]).to_csv(),
    "goodbooks": LINES.replace("movieId", "book_id").replace("userId", "user_id"),
}


@pytest.mark.parametrize("name", FORMS)
def test_what_stands_around_the_columns_is_left_out(name, tmp_path):
    require_rows(written(tmp_path / "a.csv", FORMS[name]))


def test_lines_are_counted_from_the_top_of_the_file(tmp_path):
    for name in ("comments", "Excel's first line", "separators at line ends, but not of the header"):
        path = written(tmp_path / "a.csv", FORMS[name] + "1\n")
        line = FORMS[name].count("\n") + 1
        with pytest.raises(DataError, match=rf"1 row cannot be read, the first in line {line} \(1 column"):
            Ratings.read(path)


def test_ids_that_start_like_comments_are_no_comments(tmp_path):
    rows = "#a,1,3\n#b,1,4\nc,1,5\n"
    with pytest.warns(UserWarning, match="no header"):
        require_rows(written(tmp_path / "a.csv", rows), ["#a", "#b", "c"], [1], [3, 4, 5])
    require_rows(written(tmp_path / "b.csv", "user,item,rating\n" + rows), ["#a", "#b", "c"], [1], [3, 4, 5])


def test_lines_of_blanks_alone_are_no_table(tmp_path):
    with pytest.raises(DataError, match="no column for the users"):
        Ratings.read(written(tmp_path / "a.csv", "   \n \n"))


def test_a_header_further_down_is_pointed_out(tmp_path):
    for above in ("Ratings export\n\n", "made by a tool\n\n"):
        with pytest.raises(DataError, match="Line 3 looks like a header: take out the lines above it"):
            Ratings.read(written(tmp_path / "a.csv", above + LINES))


def test_a_folder_of_spark_is_one_table(tmp_path):
    for place in range(3):
        part = HEADER + "".join(line + "\n" for line in PLAIN.splitlines()[place::3])
        written(tmp_path / "out" / f"part-0000{place}-c000.csv.gz", gzip.compress(part.encode()))
    written(tmp_path / "out" / "_SUCCESS", "")
    written(tmp_path / "out" / ".part-00000-c000.csv.gz.crc", "x")
    require_rows(tmp_path / "out")


def test_empty_files_in_a_folder_are_left_out_with_a_remark(tmp_path):
    written(tmp_path / "out" / "part-00000.csv", "")
    written(tmp_path / "out" / "part-00001.csv", LINES)
    written(tmp_path / "out" / "part-00002.csv", HEADER)
    with pytest.warns(UserWarning, match=r"out: 1 file of 3 without a byte left out, the first .*part-00000\.csv"):
        require_rows(tmp_path / "out")
    for name in ("part-00001.csv", "part-00002.csv"):
        written(tmp_path / "out" / name, "")
    with pytest.raises(OSError, match=r"part-00000\.csv is empty"):
        Ratings.read(tmp_path / "out")


def test_a_folder_of_movielens_says_which_file_to_give(tmp_path):
    folder = tmp_path / "ml-latest-small"
    for name in ("README.txt", "links.csv", "movies.csv", "ratings.csv", "tags.csv"):
        written(folder / name, LINES if name == "ratings.csv" else "movieId,title\n1,Film\n")
    with pytest.raises(DataError, match=r"several formats, .*: give one, such as .*/ratings\.csv, or a pattern"):
        Ratings.read(folder)
    for name in ("README", "u.data", "u.item", "u.genre"):
        written(tmp_path / "ml-100k" / name, "1\t2\t3\n")
    with pytest.raises(DataError, match=r"3 files of other kinds, .*or give one file, such as .*/u\.data"):
        Ratings.read(tmp_path / "ml-100k")


def test_items_of_ml_100k_and_ml_1m_are_titles(tmp_path):
    rest = "|01-Jan-1995||http://us.imdb.com/M/title-exact|" + "|".join("0" * 19)
    text = f"1|Toy Story (1995){rest}\n2|Misérables, Les (1995){rest}\n"
    path = written(tmp_path / "u.item", text, "latin-1")
    with pytest.raises(DataError, match=r"not text in utf-8 .*--encoding, such as latin-1 \(encoding=\)"):
        read_titles(path)
    path = written(tmp_path / "u.item", text)
    with pytest.warns(UserWarning, match="its columns are taken as item, title$"):
        assert read_titles(path) == {1: "Toy Story (1995)", 2: "Misérables, Les (1995)"}
    path = written(tmp_path / "movies.dat", "1::Toy Story (1995)::Animation|Comedy\n2::Heat: A Film (1995)::Action\n")
    with pytest.warns(UserWarning, match="its columns are taken as item, title$"):
        assert read_titles(path) == {1: "Toy Story (1995)", 2: "Heat: A Film (1995)"}


@pytest.mark.skipif(not shutil.which("awk"), reason="the command that the message gives needs awk")
def test_blocks_of_the_netflix_prize_are_refused_with_a_command_that_reads_them(tmp_path):
    text = "1:\n1488844,3,2005-09-06\n822109,5,2005-05-13\n2:\n822109,4,2005-09-05\n"
    path = written(tmp_path / "combined_data_1.txt", text)
    with pytest.raises(DataError, match=r"Netflix prize: write the item into each line, such as by awk") as error:
        Ratings.read(path)
    command, _, rest = str(error.value).partition("such as by ")[2].partition(" | ")
    assert rest.startswith("fastmf fit - --columns item,user,rating,date ")
    done = subprocess.run(command, shell=True, capture_output=True, check=True)
    require_rows(
        written(tmp_path / "a.csv", done.stdout), [822109, 1488844], [1, 2], [5, 4, 3], columns="item,user,rating,date"
    )


def test_libsvm_is_refused_with_the_line_that_reads_it(tmp_path):
    path = written(tmp_path / "a.txt", "1 10:3 20:4.5\n2 10:1\n")
    with pytest.raises(DataError, match=r"LIBSVM.*load_svmlight_file\('.*a\.txt'\)"):
        Ratings.read(path)


def test_reviews_of_amazon_are_read(tmp_path):
    old = [
        {"overall": value, "reviewTime": "09 1, 2016", "reviewerID": f"A{user}", "asin": f"00{item}", "style": {"x": 1}}
        for user, item, value in ROWS
    ]
    users, items = [f"A{user}" for user in range(1, 6)], ["0010", "0020", "0030"]
    text = "\n".join(map(json.dumps, old))
    require_rows(written(tmp_path / "a.json", text), users, items)
    require_rows(written(tmp_path / "a.json.gz", gzip.compress(text.encode())), users, items)
    with pytest.raises(OSError, match=r"Python's dicts.*fastmf\.fit\(\[ast\.literal_eval\(line\) for"):
        Ratings.read(written(tmp_path / "loose.json", "\n".join(map(str, old))))
    new = [{"user_id": f"A{u}", "parent_asin": f"00{i}", "asin": "x", "rating": float(r)} for u, i, r in ROWS]
    path = written(tmp_path / "new.jsonl", "\n".join(map(json.dumps, new)))
    require_rows(path, users, items, item="parent_asin")
    new = [each | {"title": "", "text": ""} for each in new]
    with pytest.raises(DataError, match=r"could hold the items, 'parent_asin' and 'asin'.*name it with") as error:
        Ratings.read(written(path, "\n".join(map(json.dumps, new))))
    assert "--wide" not in str(error.value)


def test_frames_that_were_written_as_one_object_say_so(tmp_path):
    text = pd.DataFrame(ROWS, columns=["user", "item", "rating"]).to_json()
    with pytest.raises(DataError, match=r"one object of columns, not one a line: .*pandas\.read_json\('.*a\.json'\)"):
        Ratings.read(written(tmp_path / "a.json", text))


def test_reviews_of_yelp_are_read(tmp_path):
    rows = [
        {"review_id": "a", "user_id": f"u{u}", "business_id": f"b{i}", "stars": r, "date": "2018-07-07 22:09:11"}
        for u, i, r in ROWS
    ]
    path = written(tmp_path / "yelp.json", "\n".join(map(json.dumps, rows)))
    ratings = require_rows(path, [f"u{u}" for u in range(1, 6)], ["b10", "b20", "b30"], half_life=100)
    assert (ratings.columns[2], ratings.half_life.timestamp) == ("stars", "date")


def test_books_with_text_ids_are_read(tmp_path):
    rows = "".join(f'"{user}";"0{item}X";"{value}"\n' for user, item, value in ROWS)
    path = written(tmp_path / "BX-Book-Ratings.csv", '"User-ID";"ISBN";"Book-Rating"\n' + rows, "latin-1")
    require_rows(path, items=["010X", "020X", "030X"])


def test_logs_of_events_and_plays_are_read_for_implicit_feedback(tmp_path):
    rows = "".join(f"14332213{u}{i}7,{u},view,{i},\n" for u, i, _ in ROWS * 2)
    path = written(tmp_path / "events.csv", "timestamp,visitorid,event,itemid,transactionid\n" + rows)
    assert set(require_rows(path, values=[1] * 15, unrated=True, duplicates="sum").weights) == {2}
    rows = "".join(f"{u:040x}\tmbid-{i}\tAn artist\t{r}\n" for u, i, r in ROWS)
    path = written(tmp_path / "usersha1-artmbid-artname-plays.tsv", rows)
    how = {"users": [f"{u:040x}" for u in range(1, 6)], "items": ["mbid-10", "mbid-20", "mbid-30"]}
    ratings = require_rows(path, **how, values=[1] * 15, unrated=True, columns="user,item,-,plays", weight="plays")
    assert ratings.weights.tolist() == VALUES
    with pytest.raises(
        DataError, match=r"its fourth column holds no times, such as '.*': name the columns with --columns"
    ):
        Ratings.read(path)
    rows = "".join(f'{u},"Game, {i}",{what},{r}.5,0\n' for u, i, r in ROWS for what in ("purchase", "play"))
    path = written(tmp_path / "steam-200k.csv", rows)
    with pytest.raises(DataError, match=r"no header and 5 columns, .*--columns user,item,-,rating"):
        Ratings.read(path)
    named = {"columns": "user,item,-,hours,-", "weight": "hours", "duplicates": "sum", "unrated": True}
    ratings = require_rows(path, items=["Game, 10", "Game, 20", "Game, 30"], values=[1] * 15, **named)
    assert ratings.weights.tolist() == [2 * value + 1 for value in VALUES]


def test_weights_that_are_called_weight_are_taken_with_a_remark(tmp_path):
    rows = "".join(f"{user}\t{item}\t{value}\n" for user, item, value in ROWS)
    path = written(tmp_path / "user_artists.dat", "userID\tartistID\tweight\n" + rows)
    with pytest.warns(UserWarning, match="column 'weight' is taken as the weights of rows"):
        assert fastmf.fit(path, solver="implicit", k=2, epochs=1).weight == "weight"
    both = pd.read_csv(path, sep="\t").assign(plays=1.0)
    with pytest.warns(UserWarning, match="column 'plays' is taken"):
        fastmf.fit(both, solver="implicit", k=2, epochs=1)


def test_numbers_with_thousands_apart_are_never_a_wrong_number(tmp_path):
    for number, message in [
        ("1,234", r"is that 1\.234 or 1234"),
        ("1,234,567", "which is no number"),
        ("1 234", "which is no number"),
    ]:
        path = written(tmp_path / "a.csv", f'user,item,rating\n1,2,"{number}"\n1,3,"{number}"\n')
        with pytest.raises(DataError, match=message):
            Ratings.read(path)


def test_quotes_in_ids_come_back(tmp_path):
    rows = "".join(f'"say ""{user}""",it\'s {item},{value}\n' for user, item, value in ROWS)
    path = written(tmp_path / "a.csv", "user,item,rating\n" + rows)
    require_rows(path, [f'say "{user}"' for user in range(1, 6)], [f"it's {item}" for item in (10, 20, 30)])


def test_zip_archives_and_workbooks_say_how_to_read_them(tmp_path):
    path = written(tmp_path / "ml.zip", b"PK\x03\x04\x14\0\0\0" + b" " * 60)
    with pytest.raises(OSError, match=r"unzip -p .*ml\.zip ratings\.csv \| fastmf fit - -o ratings\.fastmf"):
        Ratings.read(path)
    path = written(tmp_path / "a.xlsx", b"PK\x03\x04\x14\0\x06\0" + b" " * 60)
    with pytest.raises(OSError, match=r"an Excel workbook, .*read_excel\("):
        Ratings.read(path)


def test_frames_with_numbered_columns_are_read_by_position_with_a_remark(tmp_path):
    frame = pd.read_csv(written(tmp_path / "u.data", PLAIN.replace(",", "\t")), sep="\t", header=None)
    with pytest.warns(UserWarning, match="the frame has no header: its columns are taken as user, item, rating"):
        require_rows(frame)
    require_rows(frame, columns="user,item,rating")
    require_rows(pd.DataFrame(np.array(ROWS)[:, ::-1]), columns=["rating", "item", "user"])
    with pytest.raises(DataError, match="the frame has 3 columns, but 2 are named"):
        Ratings.read(frame, columns="user,item")
    pivot = frame.pivot(index=0, columns=1, values=2)
    require_rows(pivot, wide=True)


def test_ids_of_an_array_that_share_a_float_are_refused():
    array = np.array([[1, 2**24 + 1, 5], [2, 2**24, 4]], dtype=np.float32)  # both become 2^24
    with pytest.raises(DataError, match="column 'item' holds float, which cannot be an id"):
        Ratings.read(array)
    assert Ratings.read(array.astype(np.float64)).item_ids.to_pylist() == [2**24]
    assert Ratings.read(array - np.float32([0, 2, 0])).item_ids.to_pylist() == [2**24 - 2]


def test_ratings_are_no_table_to_split():
    ratings = Ratings.read(pa.table({"user": [1, 2], "item": [1, 1], "rating": [3, 4]}))
    with pytest.raises(DataError, match=r"cannot read a table from Ratings: .*Ratings themselves have \.split\(\)"):
        fastmf.split(ratings)


def test_lists_of_ids_need_no_header(tmp_path):
    model = fastmf.fit([("ann", "x", 2.5), ("ann", "y", 3.5), ("bob", "x", 1.0)], k=1, epochs=1)
    for text in ("ann\nbob\n", "user\nann\nbob\n", "\nann\n\nbob"):
        path = written(tmp_path / "users.txt", text)
        with warnings.catch_warnings(record=True) as remarks:
            warnings.simplefilter("always")
            found = read_columns(path, {"user": None}, like=like_of(model))
        assert found.column(0).to_pylist() == ["ann", "bob"]
        said = [] if text.startswith("user") else [f"{path} has no header: its columns are taken as user"]
        assert [str(remark.message) for remark in remarks] == said


def test_generators_and_dicts_of_dicts_say_what_to_give():
    with pytest.raises(DataError, match=r"from generator, which can be read once: make a list of it, list\("):
        Ratings.read(row for row in ROWS)
    ratings = {"ann": {"x": 2.5, "y": 3.5}, "bob": {"x": 1.0}}
    with pytest.raises(DataError, match=r"from a dict of dicts: .*give") as error:
        Ratings.read(ratings)
    rows = eval(str(error.value).partition(", give ")[2], {"ratings": ratings})
    require_rows(rows, ["ann", "bob"], ["x", "y"], [2.5, 3.5, 1.0])


def test_settings_of_other_libraries_are_translated():
    for given, hint in [
        ({"factors": 8, "iterations": 3}, "factors is k here; iterations is epochs here"),
        ({"n_factors": 8, "n_epochs": 3, "reg_all": 0.1}, "k here; n_epochs is epochs here; reg_all is reg here"),
        ({"random_state": 0}, "random_state is seed here"),
    ]:
        with pytest.raises(ParameterError, match=hint):
            fastmf.fit(ROWS, **given)
    with pytest.raises(ParameterError, match=r"Settings go with their solver, such as \{'als': \{'k': 8\}\}"):
        fastmf.cross_validate(ROWS, k=8)
