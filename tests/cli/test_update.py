"""fastmf update: the model, what it says, and what it refuses."""

import numpy as np
import pyarrow as pa
import pytest

import fastmf
from fastmf.data.write import write_parquet


@pytest.fixture(scope="module")
def new(place):
    """Ratings by known users of a known and a new item, and by a new user; other names of the columns."""
    rows = {"u": [100, 103, 999], "m": [1000, 5000, 1001], "r": [3.0, 4.0, 2.0]}
    write_parquet({name: np.array(values) for name, values in rows.items()}, place / "new.parquet")
    return place / "new.parquet"


NAMES = "--user", "u", "--item", "m", "--rating", "r"


def test_new_ratings_are_added(path, model, new, run, run_json, tmp_path):
    output = tmp_path / "b.fastmf"
    done = run("update", path, new, *NAMES, "-o", output)
    assert done.stdout.strip() == str(output)
    assert "3 of 3 new ratings used" in done.stderr
    kept = (
        "warning: the factors of 2 users (the first 100) and 2 items (the first 1000) with new ratings stay as they are"
    )
    assert f"{kept}: give the old ratings, too (--ratings, ratings=), to solve for them again" in done.stderr
    assert done.stderr.count("give the old ratings") == 1
    assert "1 new user and 1 new item, 0 users and 0 items solved again; the model is in:" in done.stderr
    found = fastmf.load(output)
    assert len(found.user_ids) == len(model.user_ids) + 1
    assert found.known_items([5000])[0] >= 0
    again = run_json("update", path, new, *NAMES, "-o", output, "--overwrite")
    assert again["content_hash"] == found.content_hash
    assert again["added"]["new_users"] == 1
    assert again["added"]["touched_items_left"] == 2


def test_with_the_old_ratings_touched_rows_are_solved_again(place, path, model, run, tmp_path):
    rows = {"userId": [100, 103, 999], "movieId": [1000, 5000, 1001], "rating": [3.0, 4.0, 2.0]}
    write_parquet({name: np.array(values) for name, values in rows.items()}, tmp_path / "new.parquet")
    given = path, tmp_path / "new.parquet", "--ratings", place / "train.parquet", "-o", tmp_path / "b.fastmf"
    done = run("update", *given)
    assert "2 users and 2 items solved again" in done.stderr
    assert "stay as they are" not in done.stderr
    found = fastmf.load(tmp_path / "b.fastmf")
    row = model.user_ids.to_pylist().index(100)
    assert (found.user_factors[row] != model.user_factors[row]).any()


def test_what_cannot_be_updated_is_refused(place, path, new, run, tmp_path):
    output = "-o", tmp_path / "b.fastmf"
    assert "Missing option '-o'" in run("update", path, new, code=2).stderr
    assert "does not exist" in run("update", path, tmp_path / "no.parquet", *output, code=4).stderr
    assert "does not exist" in run("update", tmp_path / "no.fastmf", new, *output, code=4).stderr
    assert "is not an intact fastmf model" in run("update", new, new, *output, code=3).stderr
    assert "exists: give another name" in run("update", path, new, "-o", path, code=4).stderr
    assert "is an input" in run("update", path, new, "-o", new, "--overwrite", code=4).stderr
    assert "has no column" in run("update", path, new, "--user", "x", *output, code=3).stderr
    texts = {"userId": np.array(["a"]), "movieId": np.array([1000]), "rating": np.array([3.0])}
    write_parquet(texts, tmp_path / "texts.parquet")
    rows = {"userId": np.array([100]), "movieId": np.array([1000]), "rating": np.array([3.0])}
    write_parquet(rows, tmp_path / "rows.parquet")
    part = run(
        "update", path, tmp_path / "rows.parquet", "--ratings", place / "heldout.parquet", *output, code=3
    ).stderr
    assert "have fewer ratings in the old ones than the model was fitted to" in part
    refused = run("update", path, tmp_path / "texts.parquet", *output, code=3).stderr
    assert "user ids of type large_string cannot be found among ids of type int64" in refused
    assert not (tmp_path / "b.fastmf").exists()


def test_what_is_left_out_and_replaced_is_counted_in_good_english(place, path, run, run_json, tmp_path):
    old = fastmf.Ratings.read(place / "train.parquet")
    pair = [int(ids[index[0]].as_py()) for ids, index in ((old.user_ids, old.users), (old.item_ids, old.items))]
    rows = {"userId": [pair[0], 998], "movieId": [pair[1], 4999], "rating": [3.0, 4.0]}
    write_parquet({name: np.array(values) for name, values in rows.items()}, tmp_path / "new.parquet")
    given = "update", path, tmp_path / "new.parquet", "--ratings", place / "train.parquet", "-o", tmp_path / "b.fastmf"
    said = run(*given).stderr
    assert "1 of 2 new ratings used, 1 of pairs rated before" in said
    assert "note: left out: 1 new rating without a known user or item" in said
    assert "0 new users and 0 new items, 1 user and 1 item solved again; the model is in:" in said
    added = run_json(*given, "--overwrite")["added"]
    assert (added["read"], added["used"], added["replaced"], added["unsolved"]) == (2, 0, 1, 1)


def test_rows_of_tables_of_features_are_added(place, run, run_json, tmp_path):
    names = {"item_features": "movieId", "user_features": "userId"}
    more = {"item_features": [1000, 5000, 5001], "user_features": [100, 999]}
    rng, old, tables = np.random.default_rng(3), fastmf.Ratings.read(place / "train.parquet"), {}
    for name, column in names.items():
        known = np.array(old.item_ids if column == "movieId" else old.user_ids)
        tables[name] = pa.table({column: known, "size": rng.random(len(known))})
        new = {column: np.array(more[name]), "size": rng.random(len(more[name]))}
        write_parquet(new, tmp_path / f"{name}.parquet")
    fastmf.fit(old, 3, **tables).save(tmp_path / "a.fastmf")
    rows = {"userId": [100, 103], "movieId": [5000, 5000], "rating": [3.0, 4.0]}
    write_parquet({name: np.array(values) for name, values in rows.items()}, tmp_path / "new.parquet")
    given = "update", tmp_path / "a.fastmf", tmp_path / "new.parquet", "--ratings", place / "train.parquet"
    files = [f"--{name.replace('_', '-')}={tmp_path / name}.parquet" for name in names]
    said = run(*given, *files, "-o", tmp_path / "b.fastmf").stderr
    assert "item_features.parquet: 2 items added by their features, 1 are in the model already" in said
    assert "0 new users and 1 new item, 2 users and 0 items solved again" in said
    found = fastmf.load(tmp_path / "b.fastmf")
    assert found.present_rows("item", [5001])[0] >= 0
    assert found.present_rows("user", [999])[0] >= 0
    direct = fastmf.load(tmp_path / "a.fastmf").update(
        tmp_path / "new.parquet",
        place / "train.parquet",
        **{name: tmp_path / f"{name}.parquet" for name in names},
    )
    assert direct.content_hash == found.content_hash
    kept = tmp_path / "item_features.parquet"
    assert "is an input" in run(*given, *files, "-o", kept, "--overwrite", code=4).stderr
    write_parquet({"m": np.array([5000, 5002]), "size": np.array([0.1, 0.9])}, tmp_path / "m.parquet")
    write_parquet({"u": np.array([100]), "m": np.array([5000]), "r": np.array([3.0])}, tmp_path / "r.parquet")
    given = tmp_path / "a.fastmf", tmp_path / "r.parquet", "--item-features", tmp_path / "m.parquet"
    assert "m.parquet: 2 items added" in run("update", *given, *NAMES, "-o", tmp_path / "c.fastmf").stderr
