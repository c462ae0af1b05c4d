"""``fastmf recommend`` and ``similar``: lists and titles, as tables, as JSON and in files."""

import csv
import json
import uuid

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastmf
from fastmf.data.write import write_parquet


def test_recommend_prints_what_the_function_recommends(path, model, run, run_json, cells, tmp_path):
    lists = model.recommend([103, 100], 3)
    assert run_json("recommend", path, "--user", 103, "--user", 100, "-n", 3) == lists.to_dict("records")
    write_parquet({"user_id": [103, 100]}, tmp_path / "users.parquet")
    header, *rows = cells(run("recommend", path, "--users", tmp_path / "users.parquet", "-n", 3).stdout)
    assert header == ["user_id", "item_id", "score", "rank", "prediction"]
    assert rows == [[str(u), str(i), f"{s:.4f}", str(r), f"{p:.4f}"] for u, i, s, r, p in lists.itertuples(index=False)]


def test_the_command_says_what_scores_mean(place, path, model, run):
    for words, expected in (
        ((), "score: how likely the user is to choose the item"),
        (("--rank-by", "rating"), "score: the predicted rating, not clipped\n"),
    ):
        done = run("recommend", path, "--user", 103, *words)
        assert done.stderr.startswith(expected)
        assert ("prediction" in done.stdout) == (not words)
    out = place / "without.fastmf"
    run("fit", place / "train.parquet", "--k", 3, "--epochs", 4, "--no-choice", "--threads", 1, "-o", out)
    done = run("recommend", out, "--user", 103)
    assert done.stdout == run("recommend", path, "--user", 103, "--rank-by", "rating").stdout
    assert "the model has not learned what users choose (fit it without --no-choice)" in done.stderr
    refused = run("recommend", out, "--user", 103, "--rank-by", "choice", code=2).stderr
    assert "the model has not learned what users choose: fit it again, without --no-choice" in refused


def test_evaluate_measures_lists_in_the_order_asked_for(place, path, model, run):
    heldout = place / "heldout.parquet"
    shown = {way: run("evaluate", path, heldout, "--json", *words) for way, words in
             {"choice": (), "rating": ("--rank-by", "rating")}.items()}  # fmt: skip
    for way, done in shown.items():
        expected = fastmf.evaluate(model, heldout, rank_by=way)
        assert json.loads(done.stdout)["ndcg"] == pytest.approx(expected["ndcg"])
    assert "score of lists: how likely the user is to choose the item" in shown["choice"].stderr


def test_recommend_for_all_leaves_out_what_is_excluded(place, path, model, run, run_json, tmp_path):
    heldout, out = place / "heldout.parquet", tmp_path / "lists.parquet"
    done = run("recommend", path, "--all", "--exclude", heldout, "-o", out)
    expected = model.recommend(exclude=heldout)
    assert done.stdout == f"{out}\n"
    assert done.stderr.splitlines()[1:] == [f"{len(expected)} rows are in:"]
    assert pq.read_table(out).to_pandas().equals(expected)
    left_out = pq.read_table(heldout).to_pandas()
    pairs = set(zip(expected["user_id"], expected["item_id"], strict=True))
    assert not pairs & set(zip(left_out["userId"], left_out["movieId"], strict=True))
    out = tmp_path / "lists.csv"
    found = run_json("recommend", path, "--all", "--include-seen", "-n", 20, "-o", out)
    assert found == {"output": str(out), "rows": 600}
    assert len(pd.read_csv(out)) == 600


def test_recommend_folds_new_users_in(path, model, run, tmp_path):
    new = tmp_path / "new.parquet"
    write_parquet({"user": ["ann", "ann", "bob"], "item": [1000, 1001, 7], "rating": [5.0, 4.0, 1.0]}, new)
    done = run("recommend", path, "--new-users", new, "-n", 2, "--json")
    assert json.loads(done.stdout) == model.fold_in(new).recommend(n=2).to_dict("records")
    assert done.stderr.splitlines()[:-1] == ["2 ratings used, 1 of unknown items left out"]


def test_new_users_whom_the_model_knows_get_no_item_they_rated_before(path, model, run, tmp_path):
    new = tmp_path / "new.parquet"
    write_parquet({"user": [103], "item": [1000], "rating": [5.0]}, new)
    done = run("recommend", path, "--new-users", new, "-n", 100, "--json")
    rated = model.seen[1][model.seen[0][1] : model.seen[0][2]]
    assert model.user_ids[1] == 103
    assert not {line["item_id"] for line in json.loads(done.stdout)} & {1000, *model.item_ids[rated]}
    assert "more ratings by 1 of 1 users, the first 103: lists leave these items out, but" in done.stderr


def test_lists_have_the_lengths_of_a_column_of_integers(path, run, run_json, tmp_path):
    columns = {"user_id": [103, 100], "n": [2, 1], "gaps": [1, None], "low": [0, 1], "text": ["1", "2"]}
    write_parquet(columns, tmp_path / "users.parquet")
    how = [path, "--users", tmp_path / "users.parquet", "--n-column"]
    assert [line["user_id"] for line in run_json("recommend", *how, "n")] == [103, 103, 100]
    for column, bad in (("gaps", 1), ("low", 1), ("text", 2)):
        refused = run("recommend", *how, column, code=3).stderr
        assert f"users.parquet: {bad} of 2 lengths of lists are not integers of at least 1" in refused


def test_lengths_need_the_file_they_are_in(path, run):
    refused = run("recommend", path, "--all", "--n-column", "n", code=2).stderr
    assert "--n-column is a column of the --users file" in refused


def test_unknown_items_and_users_without_a_list_are_counted(path, run, tmp_path):
    write_parquet({"item_id": [1000, 7]}, tmp_path / "items.parquet")
    done = run("recommend", path, "--all", "--items", tmp_path / "items.parquet", "--json")
    missing = 30 - len(json.loads(done.stdout))
    assert 0 < missing < 30
    assert done.stderr.splitlines()[1:] == [
        f"note: 1 of 2 items in {tmp_path / 'items.parquet'} are unknown: they have no training ratings",
        f"note: for {missing} of 30 users there is no item left to recommend",
    ]


def test_similar_prints_what_the_function_finds(path, model, run, run_json, cells):
    lists = model.similar_items([1003], 4)
    assert run_json("similar", path, 1003, "-n", 4) == lists.to_dict("records")
    header, *rows = cells(run("similar", path, 1003, "-n", 4).stdout)
    assert header == ["item_id", "similar_item_id", "score", "rank", "count"]
    assert [row[1] for row in rows] == [str(item) for item in lists["similar_item_id"]]
    assert [row[4] for row in rows] == [str(count) for count in lists["count"]]


def test_similar_takes_candidates_and_a_least_count(place, path, model, run, run_json, tmp_path):
    write_parquet({"other": [0, 1], "movieId": [1001, 77]}, tmp_path / "some.parquet")
    done = run("similar", path, 1003, "--items", tmp_path / "some.parquet", "--json")
    assert json.loads(done.stdout) == model.similar_items(1003, items=[1001]).to_dict("records")
    assert f"note: 1 of 2 items in {tmp_path / 'some.parquet'} are unknown" in done.stderr
    write_parquet({"film": [1001, 1002]}, tmp_path / "films.parquet")
    found = run_json("similar", path, 1003, "--items", tmp_path / "films.parquet", "--item-column", "film")
    assert {line["similar_item_id"] for line in found} == {1001, 1002}
    least = int(np.median(model.item_counts))
    lists = model.similar_items(1003, 30, min_count=least)
    assert 0 < len(lists) < len(model.item_ids) - 1
    assert run_json("similar", path, 1003, "-n", 30, "--min-count", least) == lists.to_dict("records")
    assert run("similar", path, 1003, "--min-count", 999).stderr == (
        "note: there is no other item with at least 999 training ratings to list\n"
    )


def test_similar_lists_users_for_a_user(place, path, model, run, run_json):
    lists = model.similar_users(103, 4, min_count=5)
    assert run_json("similar", path, "--user", 103, "-n", 4, "--min-count", 5) == lists.to_dict("records")
    given = run_json("similar", path, "--user", 103, "-n", 1, "--columns-out", "given")
    assert list(given[0]) == ["userId", "similar_userId", "score", "rank", "count"]
    assert "1 of 1 user ids are not in the model" in run("similar", path, "--user", 5, code=3).stderr
    for more in ([1003], ["--like", "heat"], ["--titles", place / "titles.parquet"], ["--items", "i.parquet"]):
        assert "is about items: leave one of them out" in run("similar", path, "--user", 103, *more, code=2).stderr


def test_explain_splits_the_score_and_takes_a_length_of_1_at_least(place, path, model, run, run_json):
    asked = ["explain", path, 103, 1003, "--ratings", place / "train.parquet"]
    expected = model.explain(103, 1003, place / "train.parquet")
    found = run_json(*asked, "-n", 2)
    assert (found["score"], found["items"]) == (expected.attrs["score"], len(expected))
    assert [row["item_id"] for row in found["contributions"]] == expected["item_id"].head(2).tolist()
    assert f"from {len(expected)} items" in run(*asked).stderr
    assert "n is 0" in run(*asked, "-n", 0, code=2).stderr


def test_titles_show_in_tables_and_control_characters_are_escaped(place, path, run, run_json, cells):
    options = ["recommend", path, "--user", 100, "--include-seen", "-n", 20, "--titles", place / "titles.parquet"]
    done = run(*options)
    shown = {row[1]: row[5] if len(row) > 5 else "" for row in cells(done.stdout)[1:]}
    assert (
        done.stderr.splitlines(keepends=True)[1]
        == f"note: 16 of 20 items have no title in {place / 'titles.parquet'}\n"
    )
    assert len(shown) == 20
    assert shown["1000"] == "plain"
    assert shown["1001"] == r"red \x1b[31m, bell \x07, next\nline"
    assert shown["1002"] == r":cat: [bold]not[/bold] " + "\\"
    assert shown["1003"] == "日本"
    assert shown["1004"] == shown["1005"] == ""
    records = {record["item_id"]: record["title"] for record in run_json(*options)}
    assert records[1001] == "red \x1b[31m, bell \a, next\nline"
    assert records[1004] == records[1005] == ""


def test_a_stream_that_lacks_a_character_gets_an_escape(place, path, run, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    options = ["recommend", path, "--user", 100, "--include-seen", "-n", 20, "--titles", place / "titles.parquet"]
    shown = run(*options, encoding="ascii").stdout
    assert r"\u65e5\u672c" in shown
    assert "\x1b" not in shown


def negative(values):
    return pa.array(values - 10)


def strings(values):
    return pa.array([f"n° {value}\x1b" for value in values], pa.large_string())


def uuids(values):
    storage = pa.array([uuid.UUID(int=int(value)).bytes for value in values], pa.binary(16))
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


@pytest.mark.parametrize(
    ("make_users", "make_items", "user", "item"),
    [(negative, uuids, "-5", str(uuid.UUID(int=7))), (uuids, strings, str(uuid.UUID(int=5)), "n° 7\x1b")],
    ids=["negative and uuids", "uuids and strings"],
)
def test_ids_are_typed_and_printed_as_they_are(
    tmp_path, monkeypatch, planted, run, run_json, cells, make_users, make_items, user, item
):
    monkeypatch.chdir(tmp_path)
    users, items, ratings = planted()
    rows = pa.table({"user": make_users((users - 100) // 3), "item": make_items(items - 1000), "rating": ratings})
    write_parquet(rows, "r.parquet")
    run("fit", "r.parquet", "--k", 2, "--epochs", 1)
    records = run_json("recommend", "r.fastmf", f"--user={user}", "-n", 2)
    assert [(str(record["user_id"]), record["rank"]) for record in records] == [(user, 1), (user, 2)]
    printed = item.replace("\x1b", r"\x1b")
    first = cells(run("recommend", "r.fastmf", "--user", user, "-n", 1).stdout)[1]
    assert first[:2] == [user, str(records[0]["item_id"]).replace("\x1b", r"\x1b")]
    assert cells(run("similar", "r.fastmf", "--", item).stdout)[1][0] == printed
    for name in ("p.parquet", "p.csv"):
        run("predict", "r.fastmf", "r.parquet", "-o", name)
    written = pq.read_table("p.parquet")
    assert written["user_id"].to_pylist() == rows["user"].to_pylist()
    assert written["item_id"].to_pylist() == rows["item"].to_pylist()
    text = (tmp_path / "p.csv").read_text(encoding="utf-8")
    assert "\x1b" not in text
    lines = list(csv.reader(text.splitlines()))
    assert user in [line[0] for line in lines]
    assert printed in [line[1] for line in lines]


def test_json_is_json_even_where_scores_run_over(tmp_path, run, run_json):
    rng = np.random.default_rng(0)
    users, items = np.divmod(rng.permutation(20 * 15)[:200], 15)
    write_parquet({"user": users, "item": items, "rating": 10 ** rng.uniform(37, 38.5, 200)}, tmp_path / "r.parquet")
    run("fit", tmp_path / "r.parquet", "--k", 3, "--reg0", 0.01)
    lists = run_json("recommend", tmp_path / "r.fastmf", "--all", "-n", 3, "--rank-by", "rating")
    assert len(lists) > 50
    assert None in [line["score"] for line in lists]
