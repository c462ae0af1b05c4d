"""The command line through a real process: the whole path, and what goes to stdout, to stderr and to a terminal.

What is refused, and how pipes and signals end a command, is in test_cli_errors.py.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastmf
from fastmf.data.write import write_parquet
from fastmf.kernels.compile import ENABLED

COMMANDS = [
    "fit",
    "tune",
    "predict",
    "recommend",
    "similar",
    "evaluate",
    "inspect",
    "synth",
    "bench",
    "doctor",
    "warmup",
]
HEAVY = ["numba", "pandas", "pyarrow", "rich"]
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")


def command(*arguments):
    return [sys.executable, "-m", "fastmf", *map(str, arguments)]


def environment(**changes):
    return {**os.environ, "PYTHONUTF8": "1", **changes}


def run(*arguments, code=0, **changes):
    done = subprocess.run(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        env=environment(**changes),
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def run_json(name, *arguments):
    return json.loads(run(name, "--json", *arguments).stdout)


def cells(table):
    """Take a printed table apart: cells are two blanks or more apart."""
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]


def without_seconds(history):
    return [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in history]


@pytest.fixture(scope="module")
def place(tmp_path_factory, planted):
    """A folder with ratings to train on, some held out, the former again in other files and order, and titles."""
    folder = tmp_path_factory.mktemp("cli")
    users, items, ratings = planted()
    columns = {"userId": users, "movieId": items, "rating": ratings}
    train = {name: values[:240] for name, values in columns.items()}
    write_parquet(train, folder / "train.parquet")
    write_parquet({name: values[240:] for name, values in columns.items()}, folder / "heldout.parquet")
    (folder / "parts").mkdir()
    order = np.random.default_rng(1).permutation(240)
    for name, rows in (("a", order[:100]), ("b", order[100:])):
        write_parquet({name: values[rows] for name, values in train.items()}, folder / f"parts/{name}.parquet")
    titles = ["plain", "red \x1b[31m, bell \a, next\nline", ":cat: [bold]not[/bold] \\", "日本", None]
    write_parquet({"movieId": np.arange(1000, 1005), "title": titles}, folder / "titles.parquet")
    return folder


@pytest.fixture(scope="module")
def fitted(place):
    """What fitting the training file said; the model is train.fastmf."""
    return run("fit", place / "train.parquet", "--k", 3, "--epochs", 4, "--threads", 9999)


@pytest.fixture(scope="module")
def path(place, fitted):
    return place / "train.fastmf"


@pytest.fixture(scope="module")
def model(path):
    return fastmf.load(path)


# fit and inspect


def test_fit_prints_the_path_and_one_line_an_epoch(place, fitted):
    assert fitted.stdout == f"{place / 'train.fastmf'}\n"
    threads, read, *epochs, last = fitted.stderr.splitlines()
    assert re.fullmatch(r"warning: threads is 9999, more than there are: using \d+", threads)
    assert read.endswith("240 ratings of 20 items by 30 users (columns userId, movieId, rating)")
    assert [line.split()[1] for line in epochs] == ["1/4", "2/4", "3/4", "4/4"]
    assert all(re.fullmatch(r"epoch \d/4  train RMSE \d\.\d{4}  \d+\.\d{3} s", line) for line in epochs)
    assert last.startswith("als, k = 3, epochs run: 4")
    assert "\x1b" not in fitted.stderr


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
def test_fit_json_tells_what_the_function_fits(place, monkeypatch, options, settings):
    monkeypatch.chdir(place)
    name = f"{settings.get('solver', 'als')}.fastmf"
    done = run("fit", "train.parquet", *options, "-o", name, "--json")
    told, model = json.loads(done.stdout), fastmf.fit("train.parquet", **settings)
    assert "epoch 1/" not in done.stderr
    assert told["model"] == name
    assert told["content_hash"] == model.content_hash == fastmf.load(name).content_hash
    assert told["solver"] == model.solver
    assert (told["rows"], told["k"], told["best_epoch"]) == (model.rows, 3, model.best_epoch)
    assert (told["mean"], told["scale"], tuple(told["rating_range"])) == (model.mean, model.scale, model.rating_range)
    assert without_seconds(told["history"]) == without_seconds(map(vars, model.history))
    if "patience" in settings:
        assert len(model.history) == model.best_epoch + 2 < 12


def test_inspect_shows_the_same_content_for_the_same_rows_in_any_order(place, path, fitted):
    told = run_json("inspect", path)
    again = run("fit", f"{place / 'parts'}/", "--k", 3, "--epochs", 4)
    assert again.stdout == f"{place / 'parts.fastmf'}\n"
    assert run_json("inspect", place / "parts.fastmf")["content_hash"] == told["content_hash"]
    assert fastmf.load(path).content_hash == told["content_hash"]
    table = run("inspect", path).stdout
    assert ["content_hash", told["content_hash"]] in cells(table)
    assert {("users", "30"), ("items", "20"), ("rows used", "240"), ("solver name", "als")} <= set(
        map(tuple, cells(table))
    )
    assert f"{told['history'][3]['train_rmse']:.4f}" in cells(table)[-1]


def test_fit_names_the_model_of_the_directory_it_is_in_and_overwrites_when_told(place, monkeypatch):
    monkeypatch.chdir(place / "parts")
    first = run_json("fit", ".", "--k", 2, "--epochs", 1, "--overwrite", "--seed", 1)
    second = run_json("fit", ".", "--k", 2, "--epochs", 1, "--overwrite", "--seed", 2)
    assert first["model"] == second["model"] == str((place / "parts.fastmf").resolve())
    assert first["content_hash"] != second["content_hash"] == fastmf.load(second["model"]).content_hash
    assert {file.name for file in (place / "parts").iterdir()} == {"a.parquet", "b.parquet"}


def test_a_uri_is_read_and_its_model_put_here(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("fit", (place / "train.parquet").as_uri(), "--k", 1, "--epochs", 1).stdout == "train.fastmf\n"
    assert (tmp_path / "train.fastmf").exists()


def test_validation_that_was_trained_on_is_warned_of(place, tmp_path):
    train = place / "train.parquet"
    done = run("fit", train, "--validation", train, "--k", 1, "--epochs", 1, "-o", tmp_path / "m.fastmf")
    warned = [line for line in done.stderr.splitlines() if "warning" in line]
    assert warned == ["warning: 240 of 240 validation pairs are in the training ratings too"]
    assert re.search(r"validation RMSE \d\.\d{4} MAE \d\.\d{4}", done.stderr)


@pytest.mark.parametrize(("how", "mean"), [("last", 3.5), ("mean", 3.0), ("sum", 5.0)])
def test_duplicates_are_taken_and_counted_in_columns_found_by_name(tmp_path, how, mean):
    rows = {"who": [7, 7, 7, 7], "what": ["b", "b", "c", "b"], "item": [1, 2, 3, 4], "stars": [1.0, 2.0, 4.0, 3.0]}
    write_parquet(rows, tmp_path / "r.parquet")
    columns = ["--user", "who", "--item", "what", "--rating", "stars", "--k", 1, "--epochs", 1]
    done = run("fit", tmp_path / "r.parquet", *columns, "--duplicates", how, "--json")
    told = json.loads(done.stdout)
    assert told["rows"] == {"read": 4, "used": 2, "duplicates": 2}
    assert told["mean"] == mean
    assert "(columns who, what, stars)" in done.stderr
    assert f"note: 2 rows of repeated pairs were merged (--duplicates {how})" in done.stderr


def test_rows_weigh_what_a_column_says_or_as_often_as_they_come(tmp_path):
    plays = {"user_id": [1, 1, 2, 2, 3], "item_id": [7, 8, 8, 9, 9], "plays": [3, 1, 2, 1, 2]}
    write_parquet(plays, tmp_path / "plays.parquet")
    times = plays.pop("plays")
    write_parquet({name: np.repeat(column, times) for name, column in plays.items()}, tmp_path / "rows.parquet")
    how = ["--solver", "implicit", "--k", 2, "--duplicates", "sum", "--json"]
    weighed = run("fit", tmp_path / "plays.parquet", *how, "--weight", "plays")
    counted = run("fit", tmp_path / "rows.parquet", *how)
    assert "(columns user_id, item_id, plays)" in weighed.stderr
    assert "note: 4 rows of repeated pairs were merged (--duplicates sum)" in counted.stderr
    assert json.loads(weighed.stdout)["content_hash"] == json.loads(counted.stdout)["content_hash"]
    assert [json.loads(done.stdout)["weight"] for done in (weighed, counted)] == ["plays", ""]
    done = run("tune", tmp_path / "plays.parquet", "--solver", "implicit", "--weight", "plays", "--trials", 1,
               "--validation", tmp_path / "plays.parquet")  # fmt: skip
    assert "--weight plays" in done.stdout.splitlines()[-1]
    rows = ["evaluate", tmp_path / "rows.fastmf", tmp_path / "rows.parquet"]
    measured = run(*rows)
    assert "note: 4 rows of repeated pairs were merged" in measured.stderr
    assert "note: 5 of 5 pairs were trained on" in measured.stderr
    folded = run("recommend", tmp_path / "rows.fastmf", "--new-users", tmp_path / "rows.parquet", "-n", 1)
    assert "5 ratings used, 0 of unknown items left out, 4 of repeated pairs merged" in folded.stderr
    assert "number of rows" in run("inspect", tmp_path / "rows.fastmf").stdout
    refused = run("fit", tmp_path / "plays.parquet", "--weight", "plays", code=2)
    assert "weight is for implicit feedback: solver 'als' takes all ratings alike" in refused.stderr


# predict


def test_predict_writes_what_the_function_predicts(place, path, model):
    users, items = [100, 1, 103, 1], [1000, 1001, 7, 7]
    write_parquet({"who": users, "what": items}, place / "pairs.parquet")
    options = [path, place / "pairs.parquet", "--user", "who", "--item", "what"]
    done = run("predict", *options, "-o", place / "p.csv")
    assert done.stdout == f"{place / 'p.csv'}\n"
    assert done.stderr.startswith("4 pairs predicted, 2 with an unknown user, 2 with an unknown item")
    told = run_json("predict", *options, "-o", place / "p.parquet", "--on-unknown", "nan")
    assert told == {"output": str(place / "p.parquet"), "pairs": 4, "unknown_users": 2, "unknown_items": 2}
    with_means, with_nans = read_csv(place / "p.csv"), pq.read_table(place / "p.parquet").to_pandas()
    assert list(with_means) == list(with_nans) == ["user_id", "item_id", "prediction"]
    for written, on_unknown in ((with_means, "mean"), (with_nans, "nan")):
        expected = model.predict(users, items, on_unknown=on_unknown)
        np.testing.assert_array_equal(written.to_numpy(np.float32), expected.to_numpy(np.float32))


def read_csv(path):
    import pandas as pd

    return pd.read_csv(path)


# recommend and similar


def test_lists_have_the_lengths_of_a_column_and_users_without_any_are_counted(place, path, tmp_path):
    columns = {"user_id": [103, 100], "n": [2, 1], "gaps": [1, None], "low": [0, 1], "text": ["1", "2"]}
    write_parquet(columns, tmp_path / "users.parquet")
    how = ["recommend", path, "--users", tmp_path / "users.parquet", "--n-column"]
    users = [line["user_id"] for line in json.loads(run(*how, "n", "--json").stdout)]
    assert users == [103, 103, 100]
    for column, bad in (("gaps", 1), ("low", 1), ("text", 2)):
        refused = run(*how, column, code=3).stderr
        assert f"users.parquet: {bad} of 2 lengths of lists are no integers of at least 1" in refused
    write_parquet({"item_id": [1000]}, tmp_path / "items.parquet")
    done = run("recommend", path, "--all", "--items", tmp_path / "items.parquet", "--json")
    missing = 30 - len(json.loads(done.stdout))
    assert 0 < missing < 30
    assert f"note: for {missing} of 30 users there is no item left to recommend" in done.stderr


def test_recommend_prints_what_the_function_recommends(place, path, model):
    lists = model.recommend([103, 100], 3)
    assert run_json("recommend", path, "--user", 103, "--user", 100, "-n", 3) == lists.to_dict("records")
    write_parquet({"user_id": [103, 100]}, place / "users.parquet")
    header, *rows = cells(run("recommend", path, "--users", place / "users.parquet", "-n", 3).stdout)
    assert header == ["user_id", "item_id", "score", "rank"]
    assert rows == [[str(u), str(i), f"{s:.4f}", str(r)] for u, i, s, r in lists.itertuples(index=False)]


def test_recommend_for_all_leaves_out_what_is_excluded(place, path, model):
    heldout = place / "heldout.parquet"
    out = place / "lists.parquet"
    done = run("recommend", path, "--all", "--exclude", heldout, "-o", out)
    expected = model.recommend(exclude=heldout)
    assert done.stdout == f"{out}\n"
    assert pq.read_table(out).to_pandas().equals(expected)
    left_out = pq.read_table(heldout).to_pandas()
    assert not set(zip(expected["user_id"], expected["item_id"], strict=True)) & set(
        zip(left_out["userId"], left_out["movieId"], strict=True)
    )
    out = place / "lists.csv"
    told = run_json("recommend", path, "--all", "--include-seen", "-n", 20, "-o", out)
    assert told == {"output": str(out), "rows": 600}
    assert len(read_csv(out)) == 600


def test_recommend_folds_new_users_in(place, path, model):
    new = place / "new.parquet"
    write_parquet({"user": ["ann", "ann", "bob"], "item": [1000, 1001, 7], "rating": [5.0, 4.0, 1.0]}, new)
    done = run("recommend", path, "--new-users", new, "-n", 2, "--json")
    assert json.loads(done.stdout) == model.fold_in(new).recommend(n=2).to_dict("records")
    assert done.stderr == "2 ratings used, 1 of unknown items left out\n"


def test_similar_prints_what_the_function_finds(place, path, model):
    lists = model.similar_items([1003], 4)
    assert run_json("similar", path, 1003, "-n", 4) == lists.to_dict("records")
    header, *rows = cells(run("similar", path, 1003, "-n", 4).stdout)
    assert header == ["item_id", "similar_item_id", "score", "rank"]
    assert [row[1] for row in rows] == [str(item) for item in lists["similar_item_id"]]


def test_titles_show_in_tables_and_control_characters_are_escaped(place, path):
    options = ["recommend", path, "--user", 100, "--include-seen", "-n", 20, "--titles", place / "titles.parquet"]
    shown = {row[1]: row[4] if len(row) > 4 else "" for row in cells(run(*options).stdout)[1:]}
    assert len(shown) == 20
    assert shown["1000"] == "plain"
    assert shown["1001"] == r"red \x1b[31m, bell \x07, next\nline"
    assert shown["1002"] == r":cat: [bold]not[/bold] " + "\\"
    assert shown["1003"] == "日本"
    assert shown["1004"] == shown["1005"] == ""
    records = {record["item_id"]: record["title"] for record in run_json(*options)}
    assert records[1001] == "red \x1b[31m, bell \a, next\nline"
    assert records[1004] == records[1005] == ""
    ascii_only = run(*options, PYTHONUTF8="0", PYTHONIOENCODING="ascii", FORCE_COLOR="1").stdout
    assert r"\u65e5\u672c" in ascii_only
    assert "\x1b" not in ascii_only


# evaluate, doctor, synth


def test_evaluate_prints_what_the_function_measures(place, path, model):
    heldout = place / "heldout.parquet"
    expected = fastmf.evaluate(model, heldout, n=5, relevant_from=3.0)
    assert run_json("evaluate", path, heldout, "-n", 5, "--relevant-from", 3) == expected
    rows = cells(run("evaluate", path, heldout, "-n", 5, "--relevant-from", 3).stdout)
    end = next(place for place, row in enumerate(rows) if row[0].startswith("ratings of"))
    table = {row[0]: row[1:] for row in rows[1:end]}
    assert list(table) == [name for name in expected if name not in ("by_activity", "popularity")]
    assert table["ndcg"] == [f"{expected['ndcg']:.4f}", f"{expected['popularity']['ndcg']:.4f}"]
    bands = rows[end + 1 :]
    assert [row[-3:] for row in bands] == [
        [f"{band['pairs']}", f"{band['rmse']:.4f}", f"{band['rmse_of_biases']:.4f}"]
        for band in expected["by_activity"].values()
    ]
    assert (table["pairs"], table["rmse"]) == (["60"], [f"{expected['rmse']:.4f}"])


def test_doctor_tells_of_versions_and_devices():
    told = run_json("doctor")
    assert told["fastmf"] == fastmf.__version__
    assert told["devices"]["cpu"] == f"cpu, {told['threads']} threads"
    assert told["devices"]["cuda"]
    assert told["threads"] >= 1
    assert dict(cells(run("doctor").stdout))["fastmf"] == fastmf.__version__


@pytest.mark.slow
@pytest.mark.skipif(not ENABLED, reason="nothing is compiled without the JIT")
def test_after_a_warmup_nothing_is_compiled(tmp_path):
    def compiled():
        return sorted((tmp_path / "cache").rglob("*.nbc"))

    cached = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = run("warmup", "--k", 5, **cached)
    assert done.stdout.startswith(cached["NUMBA_CACHE_DIR"])
    assert "all kernels are ready" in done.stderr
    before = compiled()
    assert len(before) > 30
    ratings, model = tmp_path / "r.parquet", tmp_path / "r.fastmf"
    run("synth", ratings, "--scale", 0.05, **cached)
    for options in ("als", "als --method cg", "sgd --schedule hogwild", "sgd --adaptive", "sgd"):
        settings = ["--k", 5, "--epochs", 1, "--validation", 0.1, "--overwrite"]
        run("fit", ratings, "--solver", *options.split(), *settings, **cached)
    ways = (("recommend", "--user", 1), ("recommend", "--new-users", ratings), ("similar", 1))
    for name, *rest in (*ways, ("evaluate", ratings), ("predict", ratings, "-o", tmp_path / "p.parquet")):
        run(name, model, *rest, **cached)
    assert compiled() == before


@pytest.mark.big
def test_the_whole_path_from_synthetic_ratings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--like", "ml-latest-small", "--scale", 0.1, "--seed", 5]
    done = run("synth", "r.parquet", *options, "--titles", "t.parquet")
    assert done.stdout == "r.parquet\n"
    assert "10,084 ratings of 972 items by 61 users" in done.stderr
    ratings, heldout = fastmf.Ratings.read("r.parquet").split(0.1)
    for part, name in ((ratings, "train.parquet"), (heldout, "heldout.parquet")):
        ids = {"user": part.user_ids.take(pa.array(part.users)), "item": part.item_ids.take(pa.array(part.items))}
        write_parquet({**ids, "rating": part.values}, name)
    for solver in ("als", "sgd"):
        told = run_json("fit", "train.parquet", "--solver", solver, "--validation", 0.1, "-o", f"{solver}.fastmf")
        measured = run_json("evaluate", f"{solver}.fastmf", "heldout.parquet")
        assert told["rows"]["used"] + told["rows"]["validation"] == len(ratings)
        assert measured["rmse"] < 0.95 * np.std(heldout.values, dtype=np.float64)
    header, *rows = cells(run("recommend", "als.fastmf", "--user", 7, "--titles", "t.parquet").stdout)
    assert header[-1] == "title"
    assert [row[4].split(" (")[0] for row in rows] == [f"Item {row[1]}" for row in rows]
    assert len(rows) == 10


# help


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_shows_an_example(name):
    done = run(*([name] if name else []), "--help")
    assert done.stderr == ""
    assert re.search(rf"Examples?:\n    ?fastmf {name or 'synth'}", done.stdout)
    if name is None:
        assert all(f"\n  {command}  " in done.stdout for command in COMMANDS)
    else:
        assert run(name, "-h").stdout == done.stdout


def test_help_loads_nothing_heavy():
    script = (
        "import sys; from fastmf.cli import cli\n"
        f"for name in {COMMANDS}: cli.main([name, '--help'], standalone_mode=False)\n"
        f"sys.exit(' '.join(set({HEAVY}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=False)
    assert done.stderr.strip() == ""
    assert done.stdout.count("Usage:") == len(COMMANDS)


def test_version_is_printed():
    assert run("--version").stdout == f"fastmf, version {fastmf.__version__}\n"


# ids


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
def test_ids_are_typed_and_printed_as_they_are(tmp_path, monkeypatch, planted, make_users, make_items, user, item):
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
    assert f"\n{user}," in text
    assert f",{printed}," in text


# terminals


def read_all(terminal):
    """Read what a process writes to its terminal, to the end, which Linux tells by an error."""
    shown = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(terminal, 4096):
            shown += chunk
    os.close(terminal)
    return shown.decode()


@posix
def test_a_terminal_gets_a_live_bar_and_stdout_only_the_path(place, tmp_path):
    import pty

    terminal, end = pty.openpty()
    train, out = place / "train.parquet", tmp_path / "m.fastmf"
    process = subprocess.Popen(
        command("fit", train, "--validation", train, "--k", 2, "--epochs", 3, "-o", out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=end,
        encoding="utf-8",
        env=environment(TERM="xterm", COLUMNS="150"),
    )
    os.close(end)
    shown = read_all(terminal)
    assert process.communicate(timeout=60)[0] == f"{out}\n"
    assert process.returncode == 0
    assert "\x1b[" in shown
    assert re.search(r"3/3.*validation RMSE", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown))
    assert "epoch 1/3 " not in shown
    assert "warning: 240 of 240 validation pairs" in shown


@posix
def test_a_table_on_a_terminal_escapes_control_characters(place, path):
    import pty

    terminal, end = pty.openpty()
    process = subprocess.Popen(
        command("recommend", path, "--user", 100, "--include-seen", "-n", 20, "--titles", place / "titles.parquet"),
        stdin=subprocess.DEVNULL,
        stdout=end,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment(TERM="xterm", COLUMNS="150"),
    )
    os.close(end)
    shown = read_all(terminal)
    assert re.fullmatch(r"note: 16 of 20 items have no title in .*\n", process.communicate(timeout=60)[1])
    assert r"red \x1b[31m, bell \x07, next\nline" in shown
    assert ":cat: [bold]not[/bold] \\" in shown
    assert "\x1b[31m" not in shown
    assert "\a" not in shown


def test_bad_rows_are_dropped_when_asked_and_counted_everywhere(tmp_path):
    rows = {"user": [1, 1, 2, None, 3], "item": [1, 2, 1, 2, 3], "rating": [1.0, float("nan"), 3.0, 4.0, 5.0]}
    write_parquet(rows, tmp_path / "r.parquet")
    done = run("fit", tmp_path / "r.parquet", "--bad-rows", "drop", "--k", 2, "--json")
    told = json.loads(done.stdout)
    assert told["rows"] == {"read": 5, "used": 3, "duplicates": 0, "null_users": 1, "nan_ratings": 1}
    assert fastmf.load(tmp_path / "r.fastmf").rows == told["rows"]
    assert "note: 2 bad rows were dropped (--bad-rows drop): null users 1, nan ratings 1" in done.stderr


def test_singular_rows_are_reported(tmp_path):
    write_parquet({"user": [1, 1, 2], "item": [1, 2, 1], "rating": [1.0, 2.0, 3.0]}, tmp_path / "r.parquet")
    settings = ["--k", 4, "--reg", 0, "--reg0", 0, "--bias-reg", 0, "--epochs", 2]
    assert "rows were singular and were solved with a jitter" in run("fit", tmp_path / "r.parquet", *settings).stderr


def test_doctor_says_what_could_be_better(tmp_path):
    told = run_json("doctor")
    assert {"cpu_quota", "memory_available_bytes", "kernel_cache", "threading", "advice"} <= told.keys()
    off = run("doctor", NUMBA_DISABLE_JIT="1").stderr
    assert "unset NUMBA_DISABLE_JIT" in off
    (tmp_path / "file").touch()
    nowhere = run("doctor", NUMBA_CACHE_DIR=str(tmp_path / "file"))
    assert "set NUMBA_CACHE_DIR to a folder of your own" in nowhere.stderr or not ENABLED


def test_a_log_without_room_stops_nothing(place, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("fit", place / "train.parquet", "--k", 2, "-o", tmp_path / "m.fastmf"),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=full, check=False,
        )  # fmt: skip
    assert done.returncode == 0
    assert fastmf.load(tmp_path / "m.fastmf").k == 2


def test_json_is_json_even_where_scores_run_over(tmp_path):
    rng = np.random.default_rng(0)
    users, items = np.divmod(rng.permutation(20 * 15)[:200], 15)
    write_parquet({"user": users, "item": items, "rating": 10 ** rng.uniform(37, 38.5, 200)}, tmp_path / "r.parquet")
    run("fit", tmp_path / "r.parquet", "--k", 3, "--reg0", 0.01)
    lists = run_json("recommend", tmp_path / "r.fastmf", "--all", "-n", 3)
    assert len(lists) > 50
    assert None in [line["score"] for line in lists]
