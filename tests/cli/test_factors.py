"""``fastmf factors``: the ends of the axes side by side."""

import pandas as pd
import pytest


@pytest.fixture(scope="module")
def table(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("factors") / "items.csv"
    ids = list(model.item_ids)
    pd.DataFrame({"item": ids, "title": [f"The {n}" for n in ids], "kind": ["a", "b"] * (len(ids) // 2)}).to_csv(
        path, index=False
    )
    return path


def test_the_table_shows_what_the_function_finds(path, model, run, run_json, table):
    found = model.factors(2, axes=1)
    assert run_json("factors", path, "-n", 2, "--axes", 1)["ends"] == found.to_dict("records")
    lines = run("factors", path, "-n", 2, "--axes", 1, "--titles", table).stdout.splitlines()
    assert lines[0].split() == ["axis", "share", "low", "end", "high", "end"]
    assert lines[1].startswith("biases")
    assert lines[4].startswith("1 ")
    low = found[(found["axis"] == 1) & (found["end"] == "low")].iloc[0]
    assert f"The {low['item_id']}  {low['coordinate']:+.2f}" in lines[4]


def test_users_and_categories(path, model, run_json, run, table):
    assert run_json("factors", path, "--users")["ends"] == model.factors(of="users").to_dict("records")
    assert isinstance(run_json("factors", path, "--item-features", table)["categories"], list)
    assert "--titles is about items" in run("factors", path, "--users", "--titles", table, code=2).stderr
    assert "factors" in run("factors", "--help").stdout
    run("factors", path, "--item-features", "missing.csv", code=4)
