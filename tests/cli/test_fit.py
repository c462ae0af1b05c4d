"""``fastmf fit`` and ``inspect``: what they print, and that they fit what the function fits."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

import fastmf
from fastmf.data.read import read_table
from fastmf.data.write import write_parquet


def without_seconds(history):
    return [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in history]


def test_fit_prints_the_path_and_one_line_an_epoch(place, fitted):
    assert fitted.stdout == f"{place / 'train.fastmf'}\n"
    threads, read, *epochs, last = fitted.stderr.splitlines()
    assert re.fullmatch(r"warning: threads is 9999, more than are available: using \d+", threads)
    assert read.endswith("240 ratings of 20 items by 30 users (columns userId, movieId, rating)")
    assert [line.split()[1] for line in epochs] == ["1/4", "2/4", "3/4", "4/4"]
    assert all(re.fullmatch(r"epoch \d/4  train RMSE \d\.\d{4}  \d+\.\d{3} s", line) for line in epochs)
    assert last.startswith("als-links, k = 3, epochs run: 4")
    assert "\x1b" not in fitted.stderr


def test_neither_a_fit_nor_an_evaluation_imports_pandas(place, path):
    # pandas takes a quarter of a second, pyarrow.compute and rich a twentieth each.
    texts = {"userId": list("aabb"), "movieId": ["é", "b", "b", "c"], "rating": [1, 2, 3, 4]}
    write_parquet(texts, place / "texts.parquet")
    for arguments, without in [
        (["fit", "train.parquet", "--k", 2, "-o", "plain.fastmf"], {"pandas", "pyarrow.compute", "rich"}),
        (["fit", "texts.parquet", "--k", 2, "-o", "texts.fastmf", "--validation", "0.3"], {"pandas", "rich"}),
        (["evaluate", path, "heldout.parquet", "--json"], {"pandas", "rich"}),
    ]:
        script = f"""if True:
            import sys
            from fastmf.cli import cli
            cli.main({list(map(str, arguments))}, standalone_mode=False)
            sys.exit(len({without} & set(sys.modules)))
        """
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, cwd=place, capture_output=True, encoding="utf-8", timeout=500, check=False)
        assert done.returncode == 0, done.stderr


ALS = ["--k", 3, "--epochs", 5, "--seed", 3, "--no-biases", "--reg", 0.1, "--reg0", 0, "--momentum", 0]
SGD = ["--solver", "sgd", "--k", 3, "--epochs", 12, "--lr", 1, "--bias-reg", 0, "--reg0", 0, "--loss", "absolute"]


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (
            [*ALS, "--validation", 0.25],
            dict(k=3, epochs=5, seed=3, biases=False, reg=0.1, reg0=0.0, momentum=0.0, validation=0.25),
        ),
        (
            [*SGD, "--validation", "heldout.parquet", "--patience", 2, "--decay", 1, "--schedule", "blocked"],
            dict(solver="sgd", k=3, epochs=12, lr=1.0, bias_reg=0.0, reg0=0.0, loss="absolute", decay=1.0)
            | dict(validation="heldout.parquet", patience=2, schedule="blocked"),
        ),
    ],
    ids=["als", "sgd"],
)
def test_fit_json_reports_what_the_function_fits(place, run, monkeypatch, options, settings):
    monkeypatch.chdir(place)
    name = f"{settings.get('solver', 'als')}.fastmf"
    done = run("fit", "train.parquet", *options, "-o", name, "--json")
    found, model = json.loads(done.stdout), fastmf.fit("train.parquet", **settings)
    assert "epoch 1/" not in done.stderr
    assert found["model"] == name
    assert found["content_hash"] == model.content_hash == fastmf.load(name).content_hash
    assert found["solver"] == model.solver
    assert (found["rows"], found["k"], found["best_epoch"]) == (model.rows, 3, model.best_epoch)
    assert (found["mean"], found["scale"]) == (model.mean, model.scale)
    assert tuple(found["rating_range"]) == model.rating_range
    assert without_seconds(found["history"]) == without_seconds(map(vars, model.history))
    if "patience" in settings:
        assert len(model.history) == model.best_epoch + 2 < 12


def test_flags_and_bins_reach_the_solver(place, run_json, tmp_path):
    ratings, out = place / "train.parquet", ["-o", tmp_path / "m.fastmf", "--overwrite"]
    found = run_json("fit", ratings, "--solver", "sgd", "--adaptive", "--bins", 3, "--epochs", 1, "--k", 2, *out)
    assert (found["solver"]["adaptive"], found["solver"]["bins"]) == (True, 3)
    found = run_json("fit", ratings, "--solver", "gibbs", "--links", "--samples", 2, "--burn", 0, "--k", 2, *out)
    assert (found["solver"]["links"], found["samples"]) == (True, 2)


def test_users_and_items_with_few_ratings_are_left_out_and_counted(place, run_json, tmp_path):
    few = ["--min-user-ratings", 7, "--min-item-ratings", 7]
    found = run_json("fit", place / "train.parquet", *few, "--k", 2, "--epochs", 1, "-o", tmp_path / "m.fastmf")
    core = fastmf.Ratings.read(place / "train.parquet").core(7, 7)
    assert (found["users"], found["items"]) == (core.n_users, core.n_items)
    assert core.n_users < 30
    assert found["rows"]["read"] == 240
    assert {name: found["rows"][name] for name in core.dropped} == core.dropped


def test_inspect_shows_the_same_content_for_the_same_rows_in_any_order(place, path, run, run_json, cells):
    found = run_json("inspect", path)
    again = run("fit", f"{place / 'parts'}/", "--k", 3, "--epochs", 4)
    assert again.stdout == f"{place / 'parts.fastmf'}\n"
    assert run_json("inspect", place / "parts.fastmf")["content_hash"] == found["content_hash"]
    assert fastmf.load(path).content_hash == found["content_hash"]
    table = cells(run("inspect", path).stdout)
    assert ["content_hash", found["content_hash"]] in table
    expected = {("users", "30"), ("items", "20"), ("rows used", "240"), ("solver name", "als-links")}
    assert expected <= set(map(tuple, table))
    assert f"{found['history'][3]['train_rmse']:.4f}" in table[-1]


def test_fit_names_the_model_of_the_directory_it_is_in_and_overwrites_when_told(place, run_json, monkeypatch):
    monkeypatch.chdir(place / "parts")
    first = run_json("fit", ".", "--k", 2, "--epochs", 1, "--overwrite", "--seed", 1)
    second = run_json("fit", ".", "--k", 2, "--epochs", 1, "--overwrite", "--seed", 2)
    assert first["model"] == second["model"] == str((place / "parts.fastmf").resolve())
    assert first["content_hash"] != second["content_hash"] == fastmf.load(second["model"]).content_hash
    assert {file.name for file in (place / "parts").iterdir()} == {"a.parquet", "b.parquet"}


def test_a_uri_is_read_and_its_model_put_here(place, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("fit", (place / "train.parquet").as_uri(), "--k", 1, "--epochs", 1).stdout == "train.fastmf\n"
    assert (tmp_path / "train.fastmf").exists()


def test_validation_that_was_trained_on_is_warned_of(place, run, tmp_path):
    train = place / "train.parquet"
    done = run("fit", train, "--validation", train, "--k", 1, "--epochs", 1, "-o", tmp_path / "m.fastmf")
    warned = [line for line in done.stderr.splitlines() if "warning" in line]
    assert warned == ["warning: 240 of 240 validation pairs are in the training ratings too"]
    assert re.search(r"validation RMSE \d\.\d{4} MAE \d\.\d{4}", done.stderr)


def test_duplicates_are_taken_and_counted_in_columns_found_by_name(tmp_path, run):
    rows = {"who": [7, 7, 7, 7], "what": ["b", "b", "c", "b"], "item": [1, 2, 3, 4], "stars": [1.0, 2.0, 4.0, 3.0]}
    write_parquet(rows, tmp_path / "r.parquet")
    columns = ["--user", "who", "--item", "what", "--rating", "stars", "--k", 1, "--epochs", 1]
    for how, mean in (("last", 3.5), ("mean", 3.0), ("sum", 5.0)):
        done = run("fit", tmp_path / "r.parquet", *columns, "--duplicates", how, "--json", "--overwrite")
        found = json.loads(done.stdout)
        assert found["rows"] == {"read": 4, "used": 2, "duplicates": 2}
        assert found["mean"] == mean
        assert "(columns who, what, stars)" in done.stderr
        assert f"note: 2 rows of repeated pairs were merged (--duplicates {how})" in done.stderr


def test_bad_rows_are_dropped_when_asked_and_counted_everywhere(tmp_path, run):
    rows = {"user": [1, 1, 2, None, 3], "item": [1, 2, 1, 2, 3], "rating": [1.0, float("nan"), 3.0, 4.0, 5.0]}
    write_parquet(rows, tmp_path / "r.parquet")
    done = run("fit", tmp_path / "r.parquet", "--bad-rows", "drop", "--k", 2, "--json")
    found = json.loads(done.stdout)
    assert found["rows"] == {"read": 5, "used": 3, "duplicates": 0, "null_users": 1, "nan_ratings": 1}
    assert fastmf.load(tmp_path / "r.fastmf").rows == found["rows"]
    assert "note: 2 bad rows were dropped (--bad-rows drop): null users 1, nan ratings 1" in done.stderr


def test_singular_rows_are_reported(tmp_path, run):
    write_parquet({"user": [1, 1, 2], "item": [1, 2, 1], "rating": [1.0, 2.0, 3.0]}, tmp_path / "r.parquet")
    settings = ["--k", 4, "--reg", 0, "--reg0", 0, "--bias-reg", 0, "--epochs", 2]
    assert "rows were singular and were solved with a jitter" in run("fit", tmp_path / "r.parquet", *settings).stderr


@pytest.fixture(scope="module")
def plays(tmp_path_factory):
    """A folder with plays counted in a column, and as one row a play."""
    folder = tmp_path_factory.mktemp("plays")
    columns = {"user_id": [1, 1, 2, 2, 3], "item_id": [7, 8, 8, 9, 9], "plays": [3, 1, 2, 1, 2]}
    write_parquet(columns, folder / "plays.parquet")
    times = columns.pop("plays")
    write_parquet({name: np.repeat(column, times) for name, column in columns.items()}, folder / "rows.parquet")
    return folder


def test_rows_weigh_what_a_column_says_or_as_often_as_they_come(plays, run):
    how = ["--solver", "implicit", "--k", 2, "--duplicates", "sum", "--json"]
    weighed = run("fit", plays / "plays.parquet", *how, "--weight", "plays")
    counted = run("fit", plays / "rows.parquet", *how)
    assert "(columns user_id, item_id, plays)" in weighed.stderr
    assert "note: 4 rows of repeated pairs were merged (--duplicates sum)" in counted.stderr
    assert json.loads(weighed.stdout)["content_hash"] == json.loads(counted.stdout)["content_hash"]
    assert [json.loads(done.stdout)["weight"] for done in (weighed, counted)] == ["plays", ""]
    model, rows = plays / "rows.fastmf", plays / "rows.parquet"
    measured = run("evaluate", model, rows)
    assert "note: 4 rows of repeated pairs were merged" in measured.stderr
    assert "note: 5 of 5 pairs were trained on" in measured.stderr
    folded = run("recommend", model, "--new-users", rows, "-n", 1)
    assert "5 ratings used, 0 of unknown items left out, 4 of repeated pairs merged" in folded.stderr
    assert "number of rows" in run("inspect", model).stdout


@pytest.mark.parametrize("solver", ["als", "als-links", "sgd", "gibbs"])
def test_ratings_may_have_weights(place, run, run_json, tmp_path, solver):
    table = read_table(place / "train.parquet")
    trust = np.random.default_rng(0).uniform(0.1, 3, len(table))
    write_parquet({**table.to_pydict(), "trust": trust}, tmp_path / "w.parquet")
    how = ["--solver", solver, "--k", 2, "--overwrite"]
    plain, found = (run_json("fit", tmp_path / "w.parquet", *how, *more) for more in ([], ["--weight", "trust"]))
    assert (plain["weight"], found["weight"]) == (None, "trust")
    assert (found["mean"], found["scale"]) == (plain["mean"], plain["scale"])
    assert found["content_hash"] != plain["content_hash"]
    folded = run("recommend", tmp_path / "w.fastmf", "--new-users", tmp_path / "w.parquet", "-n", 1)
    assert f"{len(table)} ratings used" in folded.stderr
    refused = run("recommend", tmp_path / "w.fastmf", "--new-users", place / "train.parquet", code=3)
    assert "no column 'trust' for the weights" in refused.stderr


def test_ratings_may_lose_weight_with_age(place, run, run_json, tmp_path):
    rows, rng = read_table(place / "train.parquet").to_pydict(), np.random.default_rng(0)
    times = 1_500_000_000 + rng.integers(0, 10**8, 240)
    write_parquet({**rows, "timestamp": times, "rated_at": times * 1000}, tmp_path / "r.parquet")
    fit = ["fit", tmp_path / "r.parquet", "--k", 2, "--overwrite", "--half-life", 365]
    done = run(*fit)
    day = np.datetime64(int(times.max()), "s").astype("datetime64[D]")
    total = (0.5 ** ((times.max() - times) / 86_400 / 365)).sum()
    assert "(columns userId, movieId, rating, timestamp)" in done.stderr
    assert f"weights halve every 365 days before {day} and add up to {total:,.1f} ratings" in done.stderr
    found = run_json(*fit, "--timestamp", "rated_at", "--time-unit", "ms", "--bad-rows", "drop", "--duplicates", "last")
    newest = times.max() / 86_400
    assert found["half_life"] == {"days": 365, "timestamp": "rated_at", "time_unit": "ms", "newest": newest}
    assert f"365 days before {day}" in run("inspect", tmp_path / "r.fastmf").stdout
    folded = run("recommend", tmp_path / "r.fastmf", "--new-users", tmp_path / "r.parquet", "-n", 1)
    assert "240 ratings used" in folded.stderr
    assert "look like ms, not s" in run(*fit, "--timestamp", "rated_at").stderr
    assert (
        "no column for the timestamps, none of 'timestamp'"
        in run("fit", place / "train.parquet", "--half-life", 9, "--overwrite", code=3).stderr
    )
    assert (
        "there is no half_life"
        in run("fit", place / "train.parquet", "--timestamp", "at", "--overwrite", code=2).stderr
    )


def test_what_counts_as_observed_is_reported(place, run, tmp_path):
    how = ["--solver", "implicit", "--positive-from", 3, "--k", 2, "--epochs", 1, "-o", tmp_path / "m.fastmf"]
    done = run("fit", place / "train.parquet", *how, "--validation", 0.2)
    assert re.search(r"\n\d+ of 192 ratings are at least 3 and count as observed\n", done.stderr)
    assert re.search(r"epoch 1/1  observed pairs off by \d\.\d{4}  validation .*nDCG@10 \d\.\d{4}  ", done.stderr)
    done = run("fit", place / "train.parquet", *how, "--negative-to", 2, "--overwrite")
    values = np.array(read_table(place / "train.parquet")["rating"])
    assert f"\n{(values <= 2).sum()} of 240 ratings are at most 2 and count as disliked\n" in done.stderr
    assert f"\n{(values >= 3).sum()} of 240 ratings are at least 3 and count as observed\n" in done.stderr
    refused = run("fit", place / "train.parquet", *how, "--negative-to", 3, "--overwrite", code=2)
    assert "negative_to is 3, but not below positive_from (3): give a higher positive_from" in refused.stderr


@pytest.mark.big
def test_the_whole_path_from_synthetic_ratings(tmp_path, run, run_json, cells, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("synth", "r.parquet", "--scale", 0.1, "--seed", 5, "--titles", "t.parquet")
    assert done.stdout == "r.parquet\n"
    assert "10,084 ratings of 972 items by 61 users" in done.stderr
    done = run("split", "r.parquet", "train.parquet", "heldout.parquet", "--fraction", 0.1)
    assert done.stdout == "train.parquet\nheldout.parquet\n"
    assert done.stderr == "9,076 rows to train on and 1,008 to test on are in:\n"
    for solver in ("als", "sgd"):
        found = run_json("fit", "train.parquet", "--solver", solver, "--validation", 0.1, "-o", f"{solver}.fastmf")
        measured = run_json("evaluate", f"{solver}.fastmf", "heldout.parquet")
        assert found["rows"]["used"] + found["rows"]["validation"] == 9076
        assert measured["rmse"] < 0.95 * np.std(fastmf.Ratings.read("heldout.parquet").values, dtype=np.float64)
    header, *rows = cells(run("recommend", "als.fastmf", "--user", 7, "--titles", "t.parquet").stdout)
    assert header[-1] == "title"
    assert [row[5].split(" (")[0] for row in rows] == [f"Item {row[1]}" for row in rows]
    assert len(rows) == 10


def test_a_fit_starts_from_a_model(place, path, run, run_json, tmp_path):
    more = "--k", 3, "--epochs", 1, "--overwrite", "-o", tmp_path / "b.fastmf"
    done = run("fit", place / "train.parquet", "--init", path, *more)
    assert "started from 30 users and 20 items of the model, 0 and 0 folded in" in done.stderr
    again, cold = (run_json("fit", place / "train.parquet", *init, *more) for init in (("--init", path), ()))
    assert again["history"][0]["train_rmse"] < cold["history"][0]["train_rmse"]
    assert again["rows"]["init_users"] == 30
    refused = run("fit", place / "train.parquet", "--init", path, "--k", 4, code=2)
    assert "k is 4, but the model to start from has 3 factors: give --k 3" in refused.stderr
    kinds = run("fit", place / "train.parquet", "--init", path, "--k", 3, "--solver", "implicit", code=2)
    assert "solver 'implicit' is for implicit feedback" in kinds.stderr
    assert "no.fastmf does not exist" in run("fit", place / "train.parquet", "--init", "no.fastmf", code=4).stderr
    ratings = run("fit", place / "train.parquet", "--init", place / "train.parquet", code=3)
    assert "is not an intact fastmf model file" in ratings.stderr


def test_the_figure_of_implicit_feedback_is_no_rmse_of_ratings(place, run, tmp_path):
    fit = ["fit", place / "train.parquet", "-o", tmp_path / "m.fastmf", "--epochs", 2, "--overwrite"]
    for solver, name, other in (
        ("als", "train RMSE", "observed pairs off by"),
        ("implicit", "observed pairs off by", "train RMSE"),
    ):
        done = run(*fit, "--solver", solver)
        table = run("inspect", tmp_path / "m.fastmf")
        figure = f"{fastmf.load(tmp_path / 'm.fastmf').history[-1].train_rmse:.4f}"
        assert f"epoch 2/2  {name} {figure}  " in done.stderr
        assert (name if solver == "implicit" else "train_rmse") in table.stdout
        assert other not in done.stderr + table.stdout
        assert ("train_rmse" in table.stdout) == (solver == "als")
