"""Side features through the command line: fit, predict, recommend, evaluate, explain, and what is refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastmf


@pytest.fixture(scope="module")
def tables(place):
    """Tables of the items 1000 to 1019 and one more, of users, and of items that no model knows."""
    rng = np.random.default_rng(3)

    def item_table(row_ids):
        kinds = pa.array(["a|b", "b", "a", "c|b", "c"] * 10).slice(0, len(row_ids))
        return pa.table(
            {"movieId": row_ids, "kind": kinds, "price": rng.random(len(row_ids)), "title": map_ids(row_ids)}
        )

    def map_ids(row_ids):
        return pa.array([f"title {n}" for n in row_ids])

    pq.write_table(item_table(list(range(1000, 1021))), place / "items.parquet")
    pq.write_table(item_table([5000, 5001, 1000]), place / "more.parquet")
    users = np.arange(30) * 3 + 100
    pq.write_table(pa.table({"userId": users, "age": rng.random(30)}), place / "users.parquet")
    return place


@pytest.fixture(scope="module")
def featured(tables, run):
    output = tables / "featured.fastmf"
    given = "--item-features", tables / "items.parquet", "--user-features", tables / "users.parquet"
    done = run("fit", tables / "train.parquet", "--k", 3, *given, "-o", output)
    return output, done.stderr


def test_fit_says_what_it_made_of_the_tables(featured):
    _, told = featured
    assert "item features: 4 features of 21 items" in told
    assert "note: item features: column 'title' differs in nearly every row" in told
    assert "user features: 1 feature of 30 users" in told


def test_inspect_shows_the_features(featured, path, run, run_json, cells):
    model, _ = featured
    found = run_json("inspect", model)
    assert found["item_features"] == {"features": 4, "columns": ["kind", "price"], "known_alone": 1}
    assert found["user_features"] == {"features": 1, "columns": ["age"], "known_alone": 0}
    expected = {("item features", "4"), ("item feature columns", "kind, price"), ("items known by features alone", "1")}
    expected |= {("user features", "1"), ("user feature columns", "age"), ("users known by features alone", "0")}
    assert expected <= set(map(tuple, cells(run("inspect", model).stdout)))
    without = run_json("inspect", path)
    assert (without["item_features"], without["user_features"]) == (None, None)
    assert " feature" not in run("inspect", path).stdout.replace("solver feature_reg", "")


def test_items_without_ratings_are_predicted_and_listed(featured, tables, run, run_json, tmp_path):
    model, _ = featured
    pairs = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({"user": [100, 100, 100], "item": [1020, 5000, 9]}), pairs)
    assert run_json("predict", model, pairs, "-o", tmp_path / "a.csv")["unknown_items"] == 2
    more = "--item-features", tables / "more.parquet"
    done = run("predict", model, pairs, *more, "-o", tmp_path / "b.csv")
    assert "more.parquet: 2 items added by their features, 1 are in the model already" in done.stderr
    assert "1 with an unknown item" in done.stderr
    listed = {line["item_id"] for line in run_json("recommend", model, "--user", 100, "-n", 50, *more)}
    assert {1020, 5000, 5001} <= listed
    warm = {line["item_id"] for line in run_json("recommend", model, "--user", 100, "-n", 50, *more, "--no-cold")}
    assert not warm & {1020, 5000, 5001}
    assert len(run_json("similar", model, 1020)) == 10
    for more, listed in ([], False), (["--cold"], True):
        similar = {line["similar_item_id"] for line in run_json("similar", model, 1000, "-n", 50, *more)}
        assert (1020 in similar) == listed


def test_evaluate_shows_what_is_known_apart(featured, tables, run, run_json, tmp_path):
    model, _ = featured
    held_out = tmp_path / "heldout.parquet"
    pq.write_table(
        pa.table({"user": [100] * 4, "item": [1000, 1020, 5000, 9], "rating": [3.0, 4.0, 2.0, 1.0]}), held_out
    )
    found = run_json("evaluate", model, held_out, "--item-features", tables / "more.parquet")
    pairs = {name: group["pairs"] for name, group in found["by_item"].items()}
    assert pairs == {"with ratings": 1, "with features alone": 2, "unknown": 1}
    assert "with features alone" in run("evaluate", model, held_out).stdout


def test_new_users_may_bring_features(featured, tables, run, run_json, tmp_path):
    model, _ = featured
    ratings, features = tmp_path / "new.parquet", tmp_path / "new-users.parquet"
    pq.write_table(pa.table({"user": [7, 7], "item": [1000, 1001], "rating": [5.0, 1.0]}), ratings)
    pq.write_table(pa.table({"user": [7], "age": [0.5]}), features)
    lines = run_json("recommend", model, "--new-users", ratings, "--user-features", features)
    assert {line["user_id"] for line in lines} == {7}
    alone = run_json("recommend", model, "--user", 7, "--user-features", features)
    assert len(alone) == 10


def test_explain_shows_the_features(featured, tables, run, run_json):
    model, _ = featured
    given = "explain", model, 100, 1001, "--ratings", tables / "train.parquet"
    assert "feature of the item" in run(*given).stdout
    found = run_json(*given)
    assert set(found["item_features"]) == {"kind=b", "price"}
    assert set(found["user_features"]) == {"age"}


BAD = {
    "double ids": ({"item": [1, 1], "x": [1.0, 2.0]}, 3, "repeat an id"),
    "null ids": ({"item": [1, None], "x": [1.0, 2.0]}, 3, "null"),
    "ids of another type": ({"item": ["a", "b"], "x": [1.0, 2.0]}, 3, "cast them to one type"),
    "no ids": ({"x": [1.0, 2.0]}, 3, "no column for the items"),
    "no usable column": ({"item": [1, 2], "x": [{"a": 1}, {"a": 2}]}, 3, "no column can be used as a feature"),
    "infinite numbers": ({"item": [1, 2], "x": [1.0, float("inf")]}, 3, "infinite"),
    "no rows": ({"item": pa.array([], pa.int64()), "x": pa.array([], pa.float64())}, 3, "0 rows"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tables_are_refused(tables, run, tmp_path, name):
    columns, code, message = BAD[name]
    pq.write_table(pa.table(columns), tmp_path / "bad.parquet")
    done = run(
        "fit", tables / "train.parquet", "--item-features", tmp_path / "bad.parquet", "-o", tmp_path / "m", code=code
    )
    assert message in done.stderr
    assert "bad.parquet" in done.stderr
    assert not (tmp_path / "m").exists()


def test_missing_files_and_models_without_features_are_refused(tables, path, run, tmp_path):
    given = "fit", tables / "train.parquet", "--item-features", tmp_path / "none.parquet", "-o", tmp_path / "m"
    assert "does not exist" in run(*given, code=4).stderr
    pq.write_table(pa.table({"user": [100], "item": [1000]}), tmp_path / "pairs.parquet")
    given = "predict", path, tmp_path / "pairs.parquet", "--item-features", tables / "items.parquet"
    assert "fitted without item features" in run(*given, "-o", tmp_path / "p.csv", code=2).stderr


def test_a_warning_if_no_id_has_ratings(tables, run, tmp_path):
    pq.write_table(pa.table({"item": [1, 2, 3], "x": [1.0, 2.0, 4.0]}), tmp_path / "other.parquet")
    done = run("fit", tables / "train.parquet", "--item-features", tmp_path / "other.parquet", "-o", tmp_path / "m")
    assert "none of 3 items in the table of item features has ratings" in done.stderr
    assert len(fastmf.load(tmp_path / "m").item_ids) == len(fastmf.load(tables / "featured.fastmf").item_ids) - 1 + 3
