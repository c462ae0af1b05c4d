"""Options that say how inputs are read and how columns of results are named, through all commands that have them."""

import gzip
import io
import sys

import numpy as np
import pandas as pd
import pytest

import fastmf


@pytest.fixture
def frame(planted):
    users, items, ratings = planted()
    return pd.DataFrame({"person": users, "film": items, "stars": ratings + 10})


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


NAMED = ("--user", "person", "--item", "film", "--rating", "stars")
FEW = ("--k", "2", "--epochs", "2", "--json")


def test_fit_reads_text_of_any_layout_and_from_several_files(frame, there, run_json):
    expected = fastmf.fit(frame, k=2, epochs=2, user="person", item="film", rating="stars").content_hash
    frame.to_csv("a.csv.gz", index=False)
    frame[:100].to_csv("b1.txt", sep="|", index=False, header=False)
    frame[100:].to_csv("b2.txt", sep="|", index=False, header=False)
    frame.to_csv("c.csv", sep=";", decimal=",", index=False, encoding="utf-16")
    by_name = ("--columns", "user,item,rating")
    for words in (
        ["a.csv.gz", *NAMED],
        ["b1.txt", "b2.txt", *by_name],
        ["b*.txt", "-o", "b.fastmf", *by_name],
        ["c.csv", "--sep", ";", "--decimal", ",", "--encoding", "utf-16", *NAMED],
    ):
        found = run_json("fit", *words, *FEW, "--overwrite")
        assert found["content_hash"] == expected, words
    assert {path.name for path in there.glob("*.fastmf")} == {"a.fastmf", "b1.fastmf", "b.fastmf", "c.fastmf"}
    frame.pivot_table(index="person", columns="film", values="stars").to_csv("wide.csv")
    assert run_json("fit", "wide.csv", "--wide", "--user", "person", *FEW)["content_hash"] == expected


def test_fit_reads_the_standard_input_and_asks_for_the_name_of_the_model(frame, there, run, run_json, monkeypatch):
    text = frame.to_csv(index=False).encode()
    for content in (text, gzip.compress(text)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        found = run_json("fit", "-", "-o", "a.fastmf", *NAMED, *FEW, "--overwrite")
        assert found["users"] == frame["person"].nunique()
    for source in ("-", "*.csv"):
        done = run("fit", source, code=2)
        assert f"how should the model of {source} be called? Give its file with -o" in done.stderr


def test_warnings_of_guesses_are_shown(frame, there, run):
    frame.to_csv("u.data", sep="\t", index=False, header=False)
    done = run("fit", "u.data", "--epochs", "1")
    assert "warning: u.data has no header: its columns are taken as user, item, rating; name them with" in done.stderr


def test_columns_are_found_again_and_named_as_given(frame, there, run, run_json):
    frame.to_csv("a.csv", index=False)
    run("fit", "a.csv", *NAMED, "--epochs", "2", "--k", "2")
    pairs, person = frame[["person", "film"]][:5], str(frame["person"][0])
    pairs.to_csv("pairs.csv", index=False)
    run("predict", "a.fastmf", "pairs.csv", "-o", "p.csv")
    run("predict", "a.fastmf", "pairs.csv", "-o", "q.csv", "--columns-out", "given")
    ours, given = pd.read_csv("p.csv"), pd.read_csv("q.csv")
    assert list(ours) == ["user_id", "item_id", "prediction"]
    assert list(given) == ["person", "film", "prediction"]
    np.testing.assert_array_equal(ours.to_numpy(), given.to_numpy())
    for words, first in (
        (["recommend", "a.fastmf", "--user", person], ["person", "film", "score", "rank", "prediction"]),
        (["similar", "a.fastmf", str(frame["film"][0])], ["film", "similar_film", "score", "rank", "count"]),
    ):
        assert list(run_json(*words, "--columns-out", "given", "--json")[0]) == first
    words = "explain", "a.fastmf", person, str(frame["film"][0]), "--ratings", "a.csv", "--columns-out", "given"
    assert list(run_json(*words, "--json")["contributions"][0]) == ["film", "contribution"]
    assert run_json("evaluate", "a.fastmf", "a.csv", "--json")["pairs"] == len(frame)
    assert run_json("update", "a.fastmf", "a.csv", "-o", "b.fastmf", "--json")["added"]["read"] == len(frame)


def test_files_of_recommend_and_explain_may_name_columns_otherwise(frame, there, run, run_json):
    frame.to_csv("a.csv", index=False)
    run("fit", "a.csv", *NAMED, "--epochs", "2", "--k", "2")
    other = frame.rename(columns={"person": "who", "film": "what", "stars": "points"})
    other.to_csv("other.csv", sep=";", index=False)
    named = ("--user-column", "who", "--item-column", "what")
    users = run_json("recommend", "a.fastmf", "--users", "other.csv", "--user-column", "who", "-n", "1", "--json")
    assert len(users) == len(frame)
    pairs = run_json("recommend", "a.fastmf", "--all", "--exclude", "other.csv", *named, "--include-seen", "--json")
    rated = set(zip(frame["person"], frame["film"], strict=True))
    assert not rated & {(line["user_id"], line["item_id"]) for line in pairs}
    few = run_json("recommend", "a.fastmf", "--all", "--items", "other.csv", *named, "--include-seen", "--json")
    assert len(few) > 0
    new = run_json("recommend", "a.fastmf", "--new-users", "other.csv", *named, "--rating-column", "points", "--json")
    assert {line["user_id"] for line in new} <= set(frame["person"])
    words = "explain", "a.fastmf", str(frame["person"][0]), str(frame["film"][0]), "--ratings", "other.csv", *named
    assert run_json(*words, "--rating-column", "points", "--json")["items"] > 0
    done = run(*words, "--json", code=3)
    assert "no column for the ratings" in done.stderr
    assert "--rating-column" in done.stderr


def test_titles_and_splits_are_text_too(frame, there, run, run_json):
    frame.to_csv("a.csv", index=False)
    run("split", "a.csv", "train.csv", "test.parquet", "--user", "person", "--item", "film")
    train, test = pd.read_csv("train.csv"), pd.read_parquet("test.parquet")
    assert len(train) + len(test) == len(frame)
    both = pd.concat([train, test]).sort_values(["person", "film"])
    np.testing.assert_array_equal(both.to_numpy(), frame.sort_values(["person", "film"]).to_numpy())
    run("fit", "train.csv", *NAMED, "--epochs", "2", "--k", "2")
    titles = pd.DataFrame({"film": frame["film"].unique()})
    titles["name"] = "Amélie " + titles["film"].astype(str)
    titles.to_csv("titles.csv", index=False, encoding="latin-1")
    person = str(frame["person"][0])
    found = run_json(
        "recommend", "train.fastmf", "--user", person, "--titles", "titles.csv", "--encoding", "latin-1", "--json"
    )
    assert all(line["title"] == f"Amélie {line['item_id']}" for line in found)
    words = ("--like", "amelie " + str(frame["film"][0]), "--titles", "titles.csv", "--encoding", "latin-1")
    assert run_json("similar", "train.fastmf", *words, "--json")
    done = run("recommend", "train.fastmf", "--user", person, "--titles", "titles.csv", code=3)
    assert "titles.csv is not text in utf-8" in done.stderr


def test_tune_repeats_the_options_of_reading(frame, there, run):
    frame.to_csv("a.csv", sep=";", index=False)
    done = run("tune", "a.csv", *NAMED, "--sep", ";", "--trials", "1", "--k", "2", "--epochs", "2")
    last = done.stdout.splitlines()[-1]
    assert "--user person --item film --rating stars" in last
    assert "--sep ';'" in last


def test_bad_rows_are_dropped_by_request_wherever_ratings_are_read(frame, there, run, run_json):
    frame.to_csv("a.csv", index=False)
    run("fit", "a.csv", *NAMED, "--epochs", "2", "--k", "2")
    (there / "bad.csv").write_text(frame[:9].to_csv(index=False) + f"{frame['person'][9]},{frame['film'][9]}\n")
    commands = (
        ["evaluate", "a.fastmf", "bad.csv"],
        ["update", "a.fastmf", "bad.csv", "-o", "b.fastmf", "--overwrite"],
        ["recommend", "a.fastmf", "--new-users", "bad.csv"],
    )
    for words in commands:
        assert "1 row cannot be read, the first in line 11 (2 columns instead of 3)" in run(*words, code=3).stderr
        run(*words, "--bad-rows", "drop")
    assert run_json("evaluate", "a.fastmf", "bad.csv", "--bad-rows", "drop")["pairs"] == 9
